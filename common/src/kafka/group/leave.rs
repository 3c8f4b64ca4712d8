//! Leaving the group, so that the others need not wait for a session to end.
//!
//! A member with an instance id that comes back soon does better to stay silent: its partitions wait for it
//! until its session ends (KIP-345).

use std::ops::RangeInclusive;

use kafka_protocol::messages::{
    GroupId, LeaveGroupRequest, LeaveGroupResponse, leave_group_request::MemberIdentity,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Identity, accepted, optional, text};
use crate::kafka::{
    api::Api,
    connection::Connection,
    error::KafkaError,
    shape::{
        Field,
        Kind::{Fixed, Structs, Text},
        field, since,
    },
};

/// From this version on the members are an array, and have instance ids.
const SEVERAL: i16 = 3;
/// The first version with a reason.
const REASON: i16 = 5;

impl Api for LeaveGroupRequest {
    const NAME: &'static str = "LeaveGroup";
    const TRIED: RangeInclusive<i16> = 1..=5;
    const ANSWER: &'static [Field] = &[
        field(Fixed(6)), // throttle time, error
        since(
            SEVERAL,
            Structs(&[
                field(Text),     // member id
                field(Text),     // instance id
                field(Fixed(2)), // error
            ]),
        ),
    ];
}

/// Says that the member leaves.
#[must_use]
pub fn request(member: &Identity, version: i16) -> LeaveGroupRequest {
    let group = LeaveGroupRequest::default().with_group_id(GroupId(text(&member.group)));
    if version < SEVERAL {
        return group.with_member_id(text(&member.member_id));
    }
    let leaver = MemberIdentity::default()
        .with_member_id(text(&member.member_id))
        .with_group_instance_id(optional(member.instance_id.as_ref()))
        .with_reason((version >= REASON).then(|| text("the consumer is told to stop")));
    group.with_members(vec![leaver])
}

/// Whether the one member of `group` that asked has left.
///
/// # Errors
/// [`KafkaError::Refused`]: UNKNOWN_MEMBER_ID (was out already), FENCED_INSTANCE_ID, NOT_COORDINATOR and its
/// kin, …
pub fn answer(response: LeaveGroupResponse, group: &str) -> Result<(), KafkaError> {
    accepted(response.error_code, LeaveGroupRequest::NAME, group)?;
    response
        .members
        .into_iter()
        .try_for_each(|member| accepted(member.error_code, LeaveGroupRequest::NAME, group))
}

/// Leaves.
///
/// # Errors
/// What [`Connection::call`] gives, with [`KafkaError::Unsupported`] also where the broker is too old for an
/// instance id, and [`answer`].
pub async fn leave<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    member: &Identity,
) -> Result<(), KafkaError> {
    let oldest = member.oldest::<LeaveGroupRequest>(SEVERAL);
    let version = connection.version_from::<LeaveGroupRequest>(oldest)?;
    answer(connection.call(&request(member, version)).await?, &member.group)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::leave_group_response::MemberResponse;

    use super::{super::testing::*, *};

    fn response(version: i16, error: i16) -> LeaveGroupResponse {
        if version < SEVERAL {
            return LeaveGroupResponse::default().with_error_code(error);
        }
        let member = MemberResponse::default().with_member_id(text("m")).with_error_code(error);
        LeaveGroupResponse::default().with_members(vec![member])
    }

    #[test]
    fn the_leaver_is_named_in_every_version() {
        for version in LeaveGroupRequest::TRIED {
            let asked = comes_back(&request(&member(), version), version);
            if version < SEVERAL {
                assert_eq!((asked.member_id, asked.members.len()), (text("m"), 0));
            } else {
                assert_eq!(asked.members[0].member_id, text("m"));
                assert_eq!(asked.members[0].reason.is_some(), version >= REASON);
            }
            assert!(answer(response(version, 0), "g").is_ok());
        }
    }

    #[test]
    fn refusals_keep_their_codes() {
        for version in LeaveGroupRequest::TRIED {
            for code in [14, 15, 16, 25, 30, 82, 999] {
                let error = answer(response(version, code), "g").unwrap_err();
                assert_eq!(error.code().map(|error| error.code()), Some(code));
            }
        }
        let whole = LeaveGroupResponse::default().with_error_code(16);
        assert!(answer(whole, "g").unwrap_err().is_retryable());
    }

    #[test]
    fn the_shape_of_an_answer_is_described_rightly() {
        shape_is_right::<LeaveGroupRequest>(|version| response(version, 0));
    }

    #[test]
    fn arbitrary_answers_never_panic() {
        never_panics::<LeaveGroupRequest>(
            |version| response(version, 0),
            |answered| {
                drop(answer(answered, "g"));
            },
        );
    }
}
