//! Which broker keeps a group?
//!
//! Any broker can be asked. The first group of a new cluster has no coordinator for a moment, and a
//! coordinator moves when its broker stops: refusals with COORDINATOR_NOT_AVAILABLE are worth asking again.
//!
//! Source: KIP-699 for version 4, which asks for several groups at once.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Coordinator, accepted, text};
use crate::kafka::{
    api::Api,
    bootstrap::Address,
    connection::Connection,
    error::KafkaError,
    shape::{
        Field,
        Kind::{Fixed, Structs, Text},
        between, field, since,
    },
};

/// From this version on the groups are an array.
const SEVERAL: i16 = 4;

impl Api for FindCoordinatorRequest {
    const NAME: &'static str = "FindCoordinator";
    const TRIED: RangeInclusive<i16> = 0..=6;
    const ANSWER: &'static [Field] = &[
        since(1, Fixed(4)),      // throttle time
        between(0, 3, Fixed(2)), // error
        between(1, 3, Text),     // error message
        between(0, 3, Fixed(4)), // node
        between(0, 3, Text),     // host
        between(0, 3, Fixed(4)), // port
        since(
            SEVERAL,
            Structs(&[
                field(Text),     // group
                field(Fixed(4)), // node
                field(Text),     // host
                field(Fixed(6)), // port, error
                field(Text),     // error message
            ]),
        ),
    ];
}

/// Asks for the coordinator of `group`.
#[must_use]
pub fn request(group: &str, version: i16) -> FindCoordinatorRequest {
    // The key type, 0, is that of groups.
    if version < SEVERAL {
        FindCoordinatorRequest::default().with_key(text(group))
    } else {
        FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)])
    }
}

/// The coordinator of `group`.
///
/// # Errors
/// [`KafkaError::Refused`], and [`KafkaError::Useless`] where the group or a possible address is missing.
pub fn answer(response: FindCoordinatorResponse, group: &str) -> Result<Coordinator, KafkaError> {
    let useless = |problem| KafkaError::useless(FindCoordinatorRequest::NAME, group, problem);
    let found = response.coordinators.into_iter().find(|found| found.key.as_str() == group);
    // Before version 4 the one group's answer stands in the response itself.
    let (code, node, host, port) = found.map_or_else(
        || (response.error_code, response.node_id.0, response.host, response.port),
        |found| (found.error_code, found.node_id.0, found.host, found.port),
    );
    accepted(code, FindCoordinatorRequest::NAME, group)?;
    let address = Address::new(&host, port)
        .ok_or_else(|| useless(format!("{:?}, port {port}, is no address", host.as_str())))?;
    Ok(Coordinator { node, address })
}

/// Asks any broker for the coordinator of `group`.
///
/// # Errors
/// What [`Connection::call`] gives, and [`answer`].
pub async fn find<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    group: &str,
) -> Result<Coordinator, KafkaError> {
    let version = connection.version_of::<FindCoordinatorRequest>()?;
    answer(connection.call(&request(group, version)).await?, group)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{
        ResponseError,
        messages::{BrokerId, find_coordinator_response::Coordinator as Found},
    };

    use super::{super::testing::*, *};

    fn response(version: i16, error: i16) -> FindCoordinatorResponse {
        if version < SEVERAL {
            return FindCoordinatorResponse::default()
                .with_error_code(error)
                .with_node_id(BrokerId(3))
                .with_host(text("kafka"))
                .with_port(9093);
        }
        let found = |group, error| {
            Found::default()
                .with_key(text(group))
                .with_error_code(error)
                .with_node_id(BrokerId(3))
                .with_host(text("kafka"))
                .with_port(9093)
        };
        FindCoordinatorResponse::default().with_coordinators(vec![found("other", 99), found("g", error)])
    }

    #[test]
    fn the_coordinator_of_the_group_is_found_in_every_version() {
        for version in FindCoordinatorRequest::TRIED {
            let asked = comes_back(&request("g", version), version);
            let keys = if version < SEVERAL { vec![asked.key] } else { asked.coordinator_keys };
            assert_eq!((keys, asked.key_type), (vec![text("g")], 0));
            let found = answer(response(version, 0), "g").unwrap();
            assert_eq!((found.node, found.address.to_string().as_str()), (3, "kafka:9093"), "{version}");
        }
    }

    #[test]
    fn refusals_and_nonsense_are_told_apart() {
        for version in FindCoordinatorRequest::TRIED {
            let error = answer(response(version, 15), "g").unwrap_err();
            assert!(error.code() == Some(ResponseError::CoordinatorNotAvailable) && error.is_retryable());
        }
        for (host, port) in [("", 9092), ("kafka", 0), ("kafka", -1), ("kafka", 65536), ("a b", 1)] {
            let response = FindCoordinatorResponse::default().with_host(text(host)).with_port(port);
            let error = answer(response, "g").unwrap_err();
            assert!(matches!(error, KafkaError::Useless { .. }), "{error}");
        }
        let missing = FindCoordinatorResponse::default().with_coordinators(response(4, 0).coordinators);
        assert!(answer(missing, "nobody's").is_err());
    }

    #[test]
    fn the_shape_of_an_answer_is_described_rightly() {
        shape_is_right::<FindCoordinatorRequest>(|version| response(version, 0));
    }

    #[test]
    fn arbitrary_answers_never_panic() {
        never_panics::<FindCoordinatorRequest>(
            |version| response(version, 0),
            |answered| {
                drop(answer(answered, "g"));
            },
        );
    }
}
