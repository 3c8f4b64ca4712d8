//! ListGroups: all groups, or those of certain states and types, for tools.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_groups_response::{ListGroupsResponse, ListedGroup};
use kafka_protocol::messages::{GroupId, ListGroupsRequest};
use kafka_protocol::protocol::StrBytes;

use super::super::Core;
use super::text;

/// The type of all groups here. Source: KIP-848.
const CLASSIC: &str = "classic";

pub(crate) fn handle(core: &Core, request: &ListGroupsRequest) -> ListGroupsResponse {
    let listed = match core.groups.list() {
        Ok(listed) => listed,
        Err(error) => return refuse(error),
    };
    let groups = listed.map(|(id, group)| (id, group.view())).filter(|(_, view)| {
        is_wanted(&request.states_filter, &view.state.to_string())
            && is_wanted(&request.types_filter, CLASSIC)
    });
    let groups = groups.map(|(id, view)| {
        ListedGroup::default()
            .with_group_id(GroupId(text(id.to_owned())))
            .with_protocol_type(text(view.protocol_type.unwrap_or_default()))
            .with_group_state(text(view.state.to_string()))
            .with_group_type(StrBytes::from_static_str(CLASSIC))
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub(crate) fn refuse(error: ResponseError) -> ListGroupsResponse {
    ListGroupsResponse::default().with_error_code(error.code())
}

/// Whether a filter, which is none when it is empty, lets a value through.
fn is_wanted(filter: &[StrBytes], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
}
