//! DescribeGroups: a group with its members, for tools.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::{
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId};

use super::super::Core;
use super::super::groups::{GroupState, GroupView};
use super::text;

/// The first version that says that there is no such group; before, it is "Dead". Source: KIP-1043.
const WITH_NOT_FOUND: i16 = 6;

pub(crate) fn handle(core: &Core, request: &DescribeGroupsRequest, version: i16) -> DescribeGroupsResponse {
    answer(request, |id| {
        if core.groups.is_lost() {
            return failed(id, ResponseError::NotCoordinator);
        }
        match core.group(id) {
            Some(view) => describe(id, view),
            None if version >= WITH_NOT_FOUND => failed(id, ResponseError::GroupIdNotFound),
            None => named(id),
        }
    })
}

pub(crate) fn refuse(request: &DescribeGroupsRequest, error: ResponseError) -> DescribeGroupsResponse {
    answer(request, |id| failed(id, error))
}

fn answer(
    request: &DescribeGroupsRequest,
    group: impl FnMut(&GroupId) -> DescribedGroup,
) -> DescribeGroupsResponse {
    DescribeGroupsResponse::default().with_groups(request.groups.iter().map(group).collect())
}

/// A group of which there is nothing to say.
fn named(id: &GroupId) -> DescribedGroup {
    DescribedGroup::default().with_group_id(id.clone()).with_group_state(text("Dead".to_owned()))
}

fn failed(id: &GroupId, error: ResponseError) -> DescribedGroup {
    named(id).with_error_code(error.code())
}

fn describe(id: &GroupId, view: GroupView) -> DescribedGroup {
    let stable = view.state == GroupState::Stable;
    let members = view.members.into_iter().map(|member| {
        let described = DescribedGroupMember::default()
            .with_member_id(text(member.id))
            .with_group_instance_id(member.instance_id.map(text))
            .with_client_id(text(member.client_id));
        // As in Kafka: what is about to change is not shown.
        if !stable {
            return described;
        }
        described.with_member_metadata(member.metadata).with_member_assignment(member.assignment)
    });
    named(id)
        .with_group_state(text(view.state.to_string()))
        .with_protocol_type(text(view.protocol_type.unwrap_or_default()))
        .with_protocol_data(text(view.protocol.filter(|_| stable).unwrap_or_default()))
        .with_members(members.collect())
}
