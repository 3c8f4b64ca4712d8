//! Heartbeat: a sign of life; the answer says whether there is a rebalance.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::super::Core;
use super::super::groups::Sender;
use super::optional;

pub(crate) fn handle(core: &mut Core, request: &HeartbeatRequest) -> HeartbeatResponse {
    let sender = Sender {
        member_id: request.member_id.to_string(),
        instance_id: optional(request.group_instance_id.as_ref()),
        generation: request.generation_id,
    };
    answer(&core.groups.heartbeat(&core.settings, &request.group_id, &sender))
}

pub(crate) fn refuse(error: ResponseError) -> HeartbeatResponse {
    answer(&Err(error))
}

fn answer(outcome: &Result<(), ResponseError>) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(super::code(outcome))
}
