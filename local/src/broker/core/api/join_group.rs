//! JoinGroup: a place in the group's next generation, for which a member waits.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::JoinGroupRequest;
use kafka_protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use kafka_protocol::protocol::StrBytes;

use super::super::Core;
use super::super::groups::{JoinGroup, Joined, Refusal, Ticket};
use super::super::wire::Call;
use super::{milliseconds, optional, text};

/// The first version with a rebalance time-out of its own. Source: KIP-62.
const WITH_REBALANCE_TIMEOUT: i16 = 1;
/// The first version whose clients join again with the id they are given. Source: KIP-394.
const WITH_ID_FIRST: i16 = 4;
/// The first version that can say "no protocol".
const WITH_NO_PROTOCOL: i16 = 7;
/// The first version with `skip_assignment`. Source: KIP-814.
const WITH_SKIPPING: i16 = 9;

pub(crate) fn handle(core: &mut Core, request: &JoinGroupRequest, call: &Call) -> Ticket {
    let session_ms = milliseconds(request.session_timeout_ms);
    let has_rebalance = call.version >= WITH_REBALANCE_TIMEOUT;
    let protocols = request.protocols.iter();
    let join = JoinGroup {
        member_id: request.member_id.to_string(),
        instance_id: optional(request.group_instance_id.as_ref()),
        client_id: call.client_id.clone(),
        session_ms,
        rebalance_ms: if has_rebalance { milliseconds(request.rebalance_timeout_ms) } else { session_ms },
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.map(|protocol| (protocol.name.to_string(), protocol.metadata.clone())).collect(),
        id_first: call.version >= WITH_ID_FIRST,
        may_skip: call.version >= WITH_SKIPPING,
    };
    core.groups.join(&core.settings, &request.group_id, &join)
}

pub(crate) fn refuse(request: &JoinGroupRequest, version: i16, error: ResponseError) -> JoinGroupResponse {
    answer(Err(Refusal { error, member_id: request.member_id.to_string() }), version)
}

/// The response to a member that has waited.
pub(crate) fn answer(outcome: Result<Joined, Refusal>, version: i16) -> JoinGroupResponse {
    let none = || (version < WITH_NO_PROTOCOL).then(StrBytes::default);
    match outcome {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|member| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(member.id))
                    .with_group_instance_id(member.instance_id.map(text))
                    .with_metadata(member.metadata)
            });
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_type(joined.protocol_type.map(text))
                .with_protocol_name(joined.protocol.map(text).or_else(none))
                .with_leader(text(joined.leader))
                .with_skip_assignment(joined.skip_assignment)
                .with_member_id(text(joined.member_id))
                .with_members(members.collect())
        }
        Err(Refusal { error, member_id }) => JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name(none())
            .with_member_id(text(member_id)),
    }
}
