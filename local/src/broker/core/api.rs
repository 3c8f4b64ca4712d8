//! One file per request: what it does to the state, and how it is refused.
//!
//! Every file has `handle`, the real thing, and `refuse`, an answer of the same shape in which each topic
//! or partition has the same error; faults that tests ask for are made of it.

pub(super) mod api_versions;
pub(super) mod create_topics;
pub(super) mod delete_records;
pub(super) mod delete_topics;
pub(super) mod describe_groups;
pub(super) mod fetch;
pub(super) mod find_coordinator;
pub(super) mod heartbeat;
pub(super) mod join_group;
pub(super) mod leave_group;
pub(super) mod list_groups;
pub(super) mod list_offsets;
pub(super) mod metadata;
pub(super) mod offset_commit;
pub(super) mod offset_fetch;
pub(super) mod produce;
pub(super) mod sync_group;

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::batch::LEADER_EPOCH;

/// Does the client know of a later leader than there is? Source: KIP-320.
fn check_epoch(claimed: i32) -> Result<(), ResponseError> {
    if claimed > LEADER_EPOCH { Err(ResponseError::UnknownLeaderEpoch) } else { Ok(()) }
}

/// The error code of an outcome on the wire; 0 is success.
fn code<T>(outcome: &Result<T, ResponseError>) -> i16 {
    outcome.as_ref().err().map_or(0, ResponseError::code)
}

fn text(text: String) -> StrBytes {
    StrBytes::from_string(text)
}

fn optional(text: Option<&StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}

/// A time on the wire, where a negative one is none at all.
fn milliseconds(ms: i32) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}
