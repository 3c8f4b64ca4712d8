//! The leader's assignment, and each member's part of it.
//!
//! The coordinator answers when the leader has asked. A leader that dies in between is out after its session
//! time-out, and the others are told to join again.

use std::{ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use kafka_protocol::messages::{
    GroupId, SyncGroupRequest, SyncGroupResponse, sync_group_request::SyncGroupRequestAssignment,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{CONSUMER, Sync, accepted, optional, text};
use crate::kafka::{
    api::Api,
    connection::Connection,
    error::KafkaError,
    shape::{
        Field,
        Kind::{Blob, Fixed, Text},
        field, since,
    },
};

/// The first version with instance ids.
const INSTANCE_ID: i16 = 3;
/// The first version in which the member says which protocol it understood.
const PROTOCOL: i16 = 5;
/// How long members wait for their leader.
///
/// Source: `request.timeout.ms` of Kafka's consumers.
const LEADER_LIMIT: Duration = Duration::from_secs(30);

impl Api for SyncGroupRequest {
    const NAME: &'static str = "SyncGroup";
    const TRIED: RangeInclusive<i16> = 1..=5;
    const ANSWER: &'static [Field] = &[
        field(Fixed(6)),       // throttle time, error
        since(PROTOCOL, Text), // protocol type
        since(PROTOCOL, Text), // protocol
        field(Blob),           // assignment
    ];
}

/// Asks for the member's assignment, and brings everybody's if it leads.
#[must_use]
pub fn request(sync: &Sync, version: i16) -> SyncGroupRequest {
    let assignments = sync.assignments.iter().map(|(member_id, assignment)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member_id))
            .with_assignment(assignment.clone())
    });
    let says_protocol = version >= PROTOCOL;
    SyncGroupRequest::default()
        .with_group_id(GroupId(text(&sync.identity.group)))
        .with_generation_id(sync.identity.generation)
        .with_member_id(text(&sync.identity.member_id))
        .with_group_instance_id(optional(sync.identity.instance_id.as_ref()))
        .with_protocol_type(says_protocol.then(|| text(CONSUMER)))
        .with_protocol_name(says_protocol.then(|| text(&sync.protocol)))
        .with_assignments(assignments.collect())
}

/// The assignment of a member of `group`, in the form that the leader gave it; empty where it gave none.
///
/// # Errors
/// [`KafkaError::Refused`]: REBALANCE_IN_PROGRESS and ILLEGAL_GENERATION (join again), UNKNOWN_MEMBER_ID,
/// FENCED_INSTANCE_ID, NOT_COORDINATOR and its kin, …
pub fn answer(response: SyncGroupResponse, group: &str) -> Result<Bytes, KafkaError> {
    accepted(response.error_code, SyncGroupRequest::NAME, group)?;
    Ok(response.assignment)
}

/// Asks, and waits for the leader for 30 s at most, or for as long as the connection gives to any request.
///
/// # Errors
/// What [`Connection::call`] gives, with [`KafkaError::Unsupported`] also where the broker is too old for an
/// instance id, and [`answer`].
pub async fn sync<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    sync: &Sync,
) -> Result<Bytes, KafkaError> {
    let oldest = sync.identity.oldest::<SyncGroupRequest>(INSTANCE_ID);
    let version = connection.version_from::<SyncGroupRequest>(oldest)?;
    let limit = connection.request_limit().max(LEADER_LIMIT);
    let response = connection.call_within(limit, &request(sync, version)).await?;
    answer(response, &sync.identity.group)
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn response(version: i16) -> SyncGroupResponse {
        SyncGroupResponse::default()
            .with_protocol_type((version >= PROTOCOL).then(|| text(CONSUMER)))
            .with_protocol_name((version >= PROTOCOL).then(|| text("range")))
            .with_assignment(Bytes::from_static(b"yours"))
    }

    #[test]
    fn an_assignment_goes_there_and_back_in_every_version() {
        for version in SyncGroupRequest::TRIED {
            let sync = Sync {
                identity: member(),
                protocol: "range".to_owned(),
                assignments: vec![("m".to_owned(), Bytes::from_static(b"yours"))],
            };
            let asked = comes_back(&request(&sync, version), version);
            assert_eq!((asked.generation_id, asked.member_id), (7, text("m")));
            assert_eq!(asked.protocol_name, (version >= PROTOCOL).then(|| text("range")));
            assert_eq!(asked.assignments[0].assignment, b"yours"[..]);
            assert_eq!(answer(response(version), "g").unwrap(), b"yours"[..]);
        }
    }

    #[test]
    fn refusals_keep_their_codes() {
        for code in [14, 15, 16, 22, 23, 25, 27, 30, 82, 999] {
            let error = answer(response(5).with_error_code(code), "g").unwrap_err();
            assert_eq!(error.code().map(|error| error.code()), Some(code));
        }
    }

    #[test]
    fn the_shape_of_an_answer_is_described_rightly() {
        shape_is_right::<SyncGroupRequest>(response);
    }

    #[test]
    fn arbitrary_answers_never_panic() {
        never_panics::<SyncGroupRequest>(response, |answered| drop(answer(answered, "g")));
    }
}
