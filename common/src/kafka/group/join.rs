//! Being in the group's next generation.
//!
//! The coordinator answers when all members have joined, or after the rebalance time-out, and so may take
//! longer than any other request. Before version 4 a new member gets its id with that answer; from it on,
//! with a refusal that says to join again with the id (KIP-394), so that a member which never comes back
//! does not hold up the group.

use std::{ops::RangeInclusive, time::Duration};

use kafka_protocol::{
    ResponseError,
    messages::{GroupId, JoinGroupRequest, JoinGroupResponse, join_group_request::JoinGroupRequestProtocol},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{CONSUMER, Join, JoinAnswer, Joined, JoinedMember, accepted, millis, optional, text};
use crate::kafka::{
    api::Api,
    connection::Connection,
    error::KafkaError,
    shape::{
        Field,
        Kind::{Blob, Fixed, Structs, Text},
        field, since,
    },
};

/// The first version with instance ids.
const INSTANCE_ID: i16 = 5;
/// The first version with a reason.
const REASON: i16 = 8;
/// What a broker's log is told of a reason, at most.
///
/// Source: `JoinGroupRequest.maybeTruncateReason` of Kafka's clients.
const MOST_REASON_CHARS: usize = 255;

impl Api for JoinGroupRequest {
    const NAME: &'static str = "JoinGroup";
    const TRIED: RangeInclusive<i16> = 2..=9;
    const ANSWER: &'static [Field] = &[
        field(Fixed(10)),   // throttle time, error, generation
        since(7, Text),     // protocol type
        field(Text),        // protocol
        field(Text),        // leader
        since(9, Fixed(1)), // skip assignment
        field(Text),        // member id
        field(Structs(&[
            field(Text),              // member id
            since(INSTANCE_ID, Text), // instance id
            field(Blob),              // metadata
        ])),
    ];
}

/// Asks to be in the next generation.
#[must_use]
pub fn request(join: &Join, version: i16) -> JoinGroupRequest {
    let protocols = join.protocols.iter().map(|(name, metadata)| {
        JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata.clone())
    });
    let reason: String = join.reason.chars().take(MOST_REASON_CHARS).collect();
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(&join.identity.group)))
        .with_session_timeout_ms(millis(join.session_timeout))
        .with_rebalance_timeout_ms(millis(join.rebalance_timeout))
        .with_member_id(text(&join.identity.member_id))
        .with_group_instance_id(optional(join.identity.instance_id.as_ref()))
        .with_protocol_type(text(CONSUMER))
        .with_protocols(protocols.collect())
        .with_reason((version >= REASON).then(|| text(&reason)))
}

/// What the join of a member of `group` led to.
///
/// # Errors
/// [`KafkaError::Refused`]: NOT_COORDINATOR and its kin, UNKNOWN_MEMBER_ID (join again without an id),
/// FENCED_INSTANCE_ID, INCONSISTENT_GROUP_PROTOCOL, GROUP_MAX_SIZE_REACHED, INVALID_SESSION_TIMEOUT, …
pub fn answer(response: JoinGroupResponse, group: &str) -> Result<JoinAnswer, KafkaError> {
    if response.error_code == ResponseError::MemberIdRequired.code() && !response.member_id.is_empty() {
        return Ok(JoinAnswer::MemberIdRequired(response.member_id.to_string()));
    }
    accepted(response.error_code, JoinGroupRequest::NAME, group)?;
    let members = response.members.into_iter().map(|member| JoinedMember {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.map(|id| id.to_string()),
        metadata: member.metadata,
    });
    Ok(JoinAnswer::Joined(Joined {
        member_id: response.member_id.to_string(),
        generation: response.generation_id,
        protocol: response.protocol_name.map(|name| name.to_string()).unwrap_or_default(),
        leader: response.leader.to_string(),
        members: members.collect(),
        skip_assignment: response.skip_assignment,
    }))
}

/// Joins, and waits for the other members: up to the rebalance time-out and the time that the connection
/// gives to any request.
///
/// # Errors
/// What [`Connection::call`] gives, with [`KafkaError::Unsupported`] also where the broker is too old for an
/// instance id (Kafka 2.3 has them), and [`answer`].
pub async fn join<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    join: &Join,
) -> Result<JoinAnswer, KafkaError> {
    let oldest = join.identity.oldest::<JoinGroupRequest>(INSTANCE_ID);
    let version = connection.version_from::<JoinGroupRequest>(oldest)?;
    let limit: Duration = join.rebalance_timeout.saturating_add(connection.request_limit());
    let response = connection.call_within(limit, &request(join, version)).await?;
    answer(response, &join.identity.group)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;

    use super::{super::testing::*, *};

    fn wish(instance_id: Option<&str>) -> Join {
        let mut identity = member();
        identity.instance_id = instance_id.map(ToOwned::to_owned);
        Join {
            identity,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            protocols: vec![("range".to_owned(), Bytes::from_static(b"abc"))],
            reason: "é".repeat(300),
        }
    }

    fn response(version: i16) -> JoinGroupResponse {
        let member = JoinGroupResponseMember::default()
            .with_member_id(text("m"))
            .with_group_instance_id((version >= INSTANCE_ID).then(|| text("i")))
            .with_metadata(Bytes::from_static(b"abc"));
        JoinGroupResponse::default()
            .with_generation_id(8)
            .with_protocol_name(Some(text("range")))
            .with_leader(text("m"))
            .with_member_id(text("m"))
            .with_members(vec![member])
            .with_skip_assignment(version >= 9)
    }

    #[test]
    fn a_wish_reaches_the_coordinator_in_every_version() {
        for version in JoinGroupRequest::TRIED {
            let instance = (version >= INSTANCE_ID).then_some("i");
            let asked = comes_back(&request(&wish(instance), version), version);
            assert_eq!((asked.session_timeout_ms, asked.rebalance_timeout_ms), (45_000, 60_000));
            assert_eq!(asked.group_instance_id, instance.map(text));
            assert_eq!((asked.protocol_type, asked.protocols.len()), (text("consumer"), 1));
            assert_eq!(asked.reason, (version >= REASON).then(|| text(&"é".repeat(255))));
        }
    }

    #[test]
    fn a_generation_is_told_in_every_version() {
        for version in JoinGroupRequest::TRIED {
            let member = JoinedMember {
                member_id: "m".to_owned(),
                instance_id: (version >= INSTANCE_ID).then(|| "i".to_owned()),
                metadata: Bytes::from_static(b"abc"),
            };
            let joined = Joined {
                member_id: "m".to_owned(),
                generation: 8,
                protocol: "range".to_owned(),
                leader: "m".to_owned(),
                members: vec![member],
                skip_assignment: version >= 9,
            };
            assert_eq!(answer(response(version), "g").unwrap(), JoinAnswer::Joined(joined));
        }
    }

    #[test]
    fn a_new_member_is_told_its_id() {
        let required = response(9).with_error_code(79);
        assert_eq!(answer(required, "g").unwrap(), JoinAnswer::MemberIdRequired("m".to_owned()));
        let without_id = JoinGroupResponse::default().with_error_code(79);
        assert_eq!(answer(without_id, "g").unwrap_err().code(), Some(ResponseError::MemberIdRequired));
    }

    #[test]
    fn refusals_keep_their_codes() {
        for code in [14, 15, 16, 23, 24, 25, 26, 27, 30, 60, 81, 82, 999, -1] {
            let error = answer(response(9).with_error_code(code), "g").unwrap_err();
            assert_eq!(error.code().map(|error| error.code()), Some(code));
        }
    }

    #[test]
    fn the_shape_of_an_answer_is_described_rightly() {
        shape_is_right::<JoinGroupRequest>(response);
    }

    #[test]
    fn arbitrary_answers_never_panic() {
        never_panics::<JoinGroupRequest>(response, |answered| drop(answer(answered, "g")));
    }
}
