//! A sign of life, answered with news: whether the group is about to have another generation.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{GroupId, HeartbeatRequest, HeartbeatResponse};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Identity, accepted, optional, text};
use crate::kafka::{
    api::Api,
    connection::Connection,
    error::KafkaError,
    shape::{Field, Kind::Fixed, field},
};

/// The first version with instance ids.
const INSTANCE_ID: i16 = 3;

impl Api for HeartbeatRequest {
    const NAME: &'static str = "Heartbeat";
    const TRIED: RangeInclusive<i16> = 1..=4;
    const ANSWER: &'static [Field] = &[field(Fixed(6))]; // throttle time, error
}

/// Says that the member lives; the same in every version.
#[must_use]
pub fn request(member: &Identity, _version: i16) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(GroupId(text(&member.group)))
        .with_generation_id(member.generation)
        .with_member_id(text(&member.member_id))
        .with_group_instance_id(optional(member.instance_id.as_ref()))
}

/// Whether the member of `group` is in its current generation.
///
/// # Errors
/// [`KafkaError::Refused`]: REBALANCE_IN_PROGRESS (still a member, join again), ILLEGAL_GENERATION,
/// UNKNOWN_MEMBER_ID and FENCED_INSTANCE_ID (no member any more), NOT_COORDINATOR and its kin, …
#[expect(clippy::needless_pass_by_value, reason = "an answer is used up, as those of its neighbours are")]
pub fn answer(response: HeartbeatResponse, group: &str) -> Result<(), KafkaError> {
    accepted(response.error_code, HeartbeatRequest::NAME, group)
}

/// Says that the member lives.
///
/// # Errors
/// What [`Connection::call`] gives, with [`KafkaError::Unsupported`] also where the broker is too old for an
/// instance id, and [`answer`].
pub async fn heartbeat<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    member: &Identity,
) -> Result<(), KafkaError> {
    let oldest = member.oldest::<HeartbeatRequest>(INSTANCE_ID);
    let version = connection.version_from::<HeartbeatRequest>(oldest)?;
    answer(connection.call(&request(member, version)).await?, &member.group)
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn a_sign_of_life_names_the_generation_in_every_version() {
        for version in HeartbeatRequest::TRIED {
            let mut who = member();
            who.instance_id = (version >= INSTANCE_ID).then(|| "i".to_owned());
            let asked = comes_back(&request(&who, version), version);
            assert_eq!((asked.generation_id, asked.member_id), (7, text("m")));
            assert_eq!(asked.group_instance_id, optional(who.instance_id.as_ref()));
        }
        assert!(answer(HeartbeatResponse::default(), "g").is_ok());
    }

    #[test]
    fn refusals_keep_their_codes() {
        for code in [14, 15, 16, 22, 25, 27, 30, 82, 999] {
            let error = answer(HeartbeatResponse::default().with_error_code(code), "g").unwrap_err();
            assert_eq!(error.code().map(|error| error.code()), Some(code));
        }
    }

    #[test]
    fn the_shape_of_an_answer_is_described_rightly() {
        shape_is_right::<HeartbeatRequest>(|_| HeartbeatResponse::default());
    }

    #[test]
    fn arbitrary_answers_never_panic() {
        never_panics::<HeartbeatRequest>(
            |_| HeartbeatResponse::default(),
            |answered| drop(answer(answered, "g")),
        );
    }
}
