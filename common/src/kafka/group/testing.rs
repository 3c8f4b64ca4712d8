//! What the tests of every request ask.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use rand::Rng;

use crate::kafka::{api::Api, group::Identity, shape};

/// A member of group `g` in its seventh generation.
pub(super) fn member() -> Identity {
    Identity { group: "g".to_owned(), member_id: "m".to_owned(), instance_id: None, generation: 7 }
}

fn encoded(message: &impl Encodable, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

/// The request as a broker reads it.
pub(in crate::kafka) fn comes_back<R: Api>(request: &R, version: i16) -> R {
    let mut bytes = encoded(request, version);
    let back = R::decode(&mut bytes, version).unwrap();
    assert!(bytes.is_empty());
    back
}

fn is_sound<R: Api>(version: i16, body: &[u8]) -> bool {
    shape::is_sound(R::ANSWER, version, R::header_version(version) >= 2, body)
}

/// The description fits an answer of each version that was tried, and nothing shorter or longer.
pub(in crate::kafka) fn shape_is_right<R: Api>(response: impl Fn(i16) -> R::Response) {
    for version in R::TRIED {
        assert_eq!(
            R::header_version(version) >= 2,
            R::Response::header_version(version) >= 1,
            "version {version} is flexible for one side only"
        );
        let body = encoded(&response(version), version);
        assert!(is_sound::<R>(version, &body), "{version}");
        for length in 0..body.len() {
            assert!(!is_sound::<R>(version, &body[..length]), "{version}, {length} bytes of {}", body.len());
        }
        assert!(!is_sound::<R>(version, &[&body[..], &[0]].concat()), "{version}");
    }
}

/// Answers with some bytes changed are refused by shape or decoder, or can be handed to `use_it`.
pub(in crate::kafka) fn never_panics<R: Api>(
    response: impl Fn(i16) -> R::Response,
    use_it: impl Fn(R::Response),
) {
    let mut random = rand::rng();
    for version in R::TRIED {
        let body = encoded(&response(version), version);
        for _ in 0..500 {
            let mut changed = body.to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..changed.len());
                changed[at] = random.random();
            }
            if is_sound::<R>(version, &changed)
                && let Ok(answer) = R::Response::decode(&mut Bytes::from(changed), version)
            {
                use_it(answer);
            }
        }
    }
}
