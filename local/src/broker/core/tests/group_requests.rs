//! Requests about groups with every field that their version has.

use kafka_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
    join_group_request, leave_group_request, offset_commit_request, offset_fetch_request, sync_group_request,
};

use super::*;

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

/// A string in the versions that have it.
fn since(version: i16, first: i16) -> Option<StrBytes> {
    (version >= first).then(|| text("given"))
}

pub(super) fn find(version: i16) -> FindCoordinatorRequest {
    if version < 4 {
        return FindCoordinatorRequest::default().with_key(text("g"));
    }
    FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"), text("h")])
}

pub(super) fn join(version: i16) -> JoinGroupRequest {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"topics"));
    JoinGroupRequest::default()
        .with_group_id(group("g"))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(if version >= 1 { 20_000 } else { -1 })
        .with_group_instance_id(since(version, 5))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
        .with_reason(since(version, 8))
}

pub(super) fn sync(version: i16) -> SyncGroupRequest {
    let share = sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(text("m"))
        .with_assignment(Bytes::from_static(b"partitions"));
    SyncGroupRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(1)
        .with_member_id(text("m"))
        .with_group_instance_id(since(version, 3))
        .with_protocol_type(since(version, 5))
        .with_protocol_name(since(version, 5))
        .with_assignments(vec![share])
}

pub(super) fn heartbeat(version: i16) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(1)
        .with_member_id(text("m"))
        .with_group_instance_id(since(version, 3))
}

pub(super) fn leave(version: i16) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group("g"));
    if version < 3 {
        return request.with_member_id(text("m"));
    }
    let member = leave_group_request::MemberIdentity::default()
        .with_member_id(text("m"))
        .with_group_instance_id(since(version, 3))
        .with_reason(since(version, 5));
    request.with_members(vec![member.clone(), member])
}

pub(super) fn commit(version: i16) -> OffsetCommitRequest {
    let partition = offset_commit_request::OffsetCommitRequestPartition::default()
        .with_committed_offset(5)
        .with_committed_metadata(Some(text("beside")));
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group("g"))
        .with_generation_id_or_member_epoch(-1)
        .with_group_instance_id(since(version, 7))
        .with_topics(vec![topic])
}

pub(super) fn fetch(version: i16) -> OffsetFetchRequest {
    let request = OffsetFetchRequest::default().with_require_stable(version >= 7);
    if version < 8 {
        let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
            .with_name(name("t"))
            .with_partition_indexes(vec![0, 1]);
        return request.with_group_id(group("g")).with_topics(Some(vec![topic]));
    }
    let topic = offset_fetch_request::OffsetFetchRequestTopics::default()
        .with_name(name("t"))
        .with_partition_indexes(vec![0, 1]);
    let one = offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(group("g"))
        .with_member_id(since(version, 9))
        .with_topics(Some(vec![topic]));
    request.with_groups(vec![one])
}

pub(super) fn describe() -> DescribeGroupsRequest {
    DescribeGroupsRequest::default().with_groups(vec![group("g"), group("h")])
}

pub(super) fn list(version: i16) -> ListGroupsRequest {
    let filter = |first| if version >= first { vec![text("Empty"), text("classic")] } else { Vec::new() };
    ListGroupsRequest::default().with_states_filter(filter(4)).with_types_filter(filter(5))
}
