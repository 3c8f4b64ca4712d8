//! FindCoordinator: the one broker coordinates every group. There are no transactions to coordinate.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest};
use kafka_protocol::protocol::StrBytes;

use super::super::{Core, Endpoint, NODE_ID};

/// The type of a key that is a group's id.
const GROUP: i8 = 0;

/// The first version with several keys. Source: KIP-699.
const WITH_KEYS: i16 = 4;

pub(crate) fn handle(
    core: &Core,
    request: &FindCoordinatorRequest,
    version: i16,
    endpoint: &Endpoint,
) -> FindCoordinatorResponse {
    let found = if request.key_type != GROUP {
        Err(ResponseError::InvalidRequest)
    } else if core.groups.is_lost() {
        Err(ResponseError::CoordinatorNotAvailable)
    } else {
        Ok(endpoint)
    };
    answer(request, version, found)
}

pub(crate) fn refuse(
    request: &FindCoordinatorRequest,
    version: i16,
    error: ResponseError,
) -> FindCoordinatorResponse {
    answer(request, version, Err(error))
}

/// The response with the same outcome for each key.
fn answer(
    request: &FindCoordinatorRequest,
    version: i16,
    found: Result<&Endpoint, ResponseError>,
) -> FindCoordinatorResponse {
    let code = super::code(&found);
    let message = found.err().map(|error| StrBytes::from_string(error.to_string()));
    let (node, host, port) = match found {
        Ok(endpoint) => (NODE_ID, StrBytes::from_string(endpoint.host.clone()), i32::from(endpoint.port)),
        Err(_) => (BrokerId(-1), StrBytes::default(), -1),
    };
    if version < WITH_KEYS {
        let response = FindCoordinatorResponse::default().with_error_code(code);
        return response.with_error_message(message).with_node_id(node).with_host(host).with_port(port);
    }
    let coordinators = request.coordinator_keys.iter().map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_error_code(code)
            .with_error_message(message.clone())
            .with_node_id(node)
            .with_host(host.clone())
            .with_port(port)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}
