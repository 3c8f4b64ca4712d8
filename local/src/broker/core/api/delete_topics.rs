//! DeleteTopics: by name, or from version 6 on by id too (KIP-516).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use kafka_protocol::messages::{DeleteTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::Core;

/// A topic that the request names, in either way.
#[derive(Debug, Clone)]
struct Asked {
    name: Option<TopicName>,
    id: Uuid,
}

pub(crate) fn handle(core: &mut Core, request: &DeleteTopicsRequest) -> DeleteTopicsResponse {
    answer(request, |asked| delete(core, asked))
}

pub(crate) fn refuse(request: &DeleteTopicsRequest, error: ResponseError) -> DeleteTopicsResponse {
    answer(request, |_| Err(error))
}

/// Deletes; returns name and id of what was deleted.
fn delete(core: &mut Core, asked: &Asked) -> Result<Asked, ResponseError> {
    let name = match &asked.name {
        Some(name) => name.clone(),
        None => {
            let name = core.topics.name_of(asked.id).ok_or(ResponseError::UnknownTopicId)?;
            TopicName(StrBytes::from_string(name.to_owned()))
        }
    };
    let id = core.delete_topic(&name)?;
    Ok(Asked { name: Some(name), id })
}

/// The response with the outcome of each topic.
fn answer(
    request: &DeleteTopicsRequest,
    mut outcome: impl FnMut(&Asked) -> Result<Asked, ResponseError>,
) -> DeleteTopicsResponse {
    let by_name = request.topic_names.iter().map(|name| Asked { name: Some(name.clone()), id: Uuid::nil() });
    let by_either = request.topics.iter().map(|topic| Asked { name: topic.name.clone(), id: topic.topic_id });
    let results = by_name.chain(by_either).map(|asked| {
        let outcome = outcome(&asked);
        let result = DeletableTopicResult::default().with_error_code(super::code(&outcome));
        let Asked { name, id } = outcome.unwrap_or(asked);
        result.with_name(name).with_topic_id(id)
    });
    DeleteTopicsResponse::default().with_responses(results.collect())
}
