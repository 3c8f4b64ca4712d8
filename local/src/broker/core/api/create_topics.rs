//! CreateTopics: one replica, no settings, no manual placement; what is not kept is refused by name.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicResult, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::Core;

/// Stands for "as the broker is configured". Source: KIP-464.
const BROKER_DEFAULT: i32 = -1;

pub(crate) fn handle(core: &mut Core, request: &CreateTopicsRequest) -> CreateTopicsResponse {
    answer(request, |topic| create(core, topic, request.validate_only))
}

pub(crate) fn refuse(request: &CreateTopicsRequest, error: ResponseError) -> CreateTopicsResponse {
    answer(request, |_| Err((error, error.to_string())))
}

/// Creates, or only checks; returns the id and the number of partitions.
fn create(
    core: &mut Core,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<(Uuid, i32), (ResponseError, String)> {
    if let Some(config) = topic.configs.first() {
        let message = format!("the embedded broker has no topic settings: leave out {}", config.name);
        return Err((ResponseError::InvalidConfig, message));
    }
    if !topic.assignments.is_empty() {
        let message = "the embedded broker places partitions itself: leave out assignments";
        return Err((ResponseError::InvalidReplicaAssignment, message.to_owned()));
    }
    if !matches!(i32::from(topic.replication_factor), BROKER_DEFAULT | 1) {
        let message = format!("replication factor {}, but there is 1 broker", topic.replication_factor);
        return Err((ResponseError::InvalidReplicationFactor, message));
    }
    let partitions = match topic.num_partitions {
        BROKER_DEFAULT => core.settings.default_partitions,
        number => number,
    };
    let id = if validate_only {
        core.topics.check(&topic.name, partitions).map(|_| Uuid::nil())
    } else {
        core.create_topic(&topic.name, partitions)
    };
    id.map(|id| (id, partitions)).map_err(|error| (error.code(), error.to_string()))
}

/// The response with the outcome of each topic.
fn answer(
    request: &CreateTopicsRequest,
    mut outcome: impl FnMut(&CreatableTopic) -> Result<(Uuid, i32), (ResponseError, String)>,
) -> CreateTopicsResponse {
    let topics = request.topics.iter().map(|topic| {
        let result = CreatableTopicResult::default().with_name(topic.name.clone());
        match outcome(topic) {
            Ok((id, partitions)) => result
                .with_topic_id(id)
                .with_num_partitions(partitions)
                .with_replication_factor(1)
                .with_error_message(None),
            Err((error, message)) => result
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(message)))
                .with_configs(None),
        }
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}
