//! SyncGroup: the leader brings the assignment, everybody takes a share.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::super::Core;
use super::super::groups::{Sender, SyncGroup, Synced, Ticket};
use super::{optional, text};

pub(crate) fn handle(core: &mut Core, request: &SyncGroupRequest) -> Ticket {
    let assignments = request.assignments.iter();
    let sync = SyncGroup {
        sender: Sender {
            member_id: request.member_id.to_string(),
            instance_id: optional(request.group_instance_id.as_ref()),
            generation: request.generation_id,
        },
        protocol_type: optional(request.protocol_type.as_ref()),
        protocol: optional(request.protocol_name.as_ref()),
        assignments: assignments
            .map(|share| (share.member_id.to_string(), share.assignment.clone()))
            .collect(),
    };
    core.groups.sync(&core.settings, &request.group_id, &sync)
}

/// The response to a member that has waited.
pub(crate) fn answer(outcome: Result<Synced, ResponseError>) -> SyncGroupResponse {
    let response = SyncGroupResponse::default().with_error_code(super::code(&outcome));
    match outcome {
        Ok(synced) => response
            .with_protocol_type(synced.protocol_type.map(text))
            .with_protocol_name(synced.protocol.map(text))
            .with_assignment(synced.assignment),
        Err(_) => response,
    }
}
