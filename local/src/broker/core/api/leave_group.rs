//! LeaveGroup: one member, or from version 3 on several, by id or by instance id (KIP-345).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::LeaveGroupRequest;
use kafka_protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};

use super::super::Core;
use super::optional;

/// The first version with several members.
const WITH_MEMBERS: i16 = 3;

pub(crate) fn handle(core: &mut Core, request: &LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    let leaving: Vec<_> = if version < WITH_MEMBERS {
        vec![(request.member_id.to_string(), None)]
    } else {
        let members = request.members.iter();
        members
            .map(|member| (member.member_id.to_string(), optional(member.group_instance_id.as_ref())))
            .collect()
    };
    let outcomes = match core.groups.leave(&core.settings, &request.group_id, &leaving) {
        Ok(outcomes) => outcomes,
        Err(error) => return refuse(error),
    };
    if version < WITH_MEMBERS {
        let code = outcomes.first().map_or(0, super::code);
        return LeaveGroupResponse::default().with_error_code(code);
    }
    let members = request.members.iter().zip(&outcomes).map(|(member, outcome)| {
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(super::code(outcome))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

pub(crate) fn refuse(error: ResponseError) -> LeaveGroupResponse {
    LeaveGroupResponse::default().with_error_code(error.code())
}
