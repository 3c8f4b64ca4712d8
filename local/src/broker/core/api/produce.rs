//! Produce: append one record batch to each partition named.
//!
//! Producer ids and sequences are kept and not looked at: without InitProducerId no client can be
//! idempotent here, and a resent batch is appended again. Source: KIP-98 for one batch a partition.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::super::wire::Response;
use super::super::{Change, Core, Step};

/// A refusal with what the log says about it.
type Refusal = (ResponseError, Option<String>);

pub(crate) fn handle(core: &mut Core, request: &ProduceRequest) -> Step {
    let response = answer(request, |topic, partition| {
        if !matches!(request.acks, -1..=1) {
            return Err((ResponseError::InvalidRequiredAcks, None));
        }
        append(core, topic, partition.index, partition.records.clone().unwrap_or_default())
    });
    acknowledge(request, response)
}

pub(crate) fn refuse(request: &ProduceRequest, error: ResponseError) -> Step {
    acknowledge(request, answer(request, |_, _| Err((error, None))))
}

/// Sends the response, unless the client wants none: then only an error matters, and closing the
/// connection is the one way to tell it.
fn acknowledge(request: &ProduceRequest, response: ProduceResponse) -> Step {
    if request.acks != 0 {
        return Step::Answer(Response::Produce(response));
    }
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.find(|partition| partition.error_code != 0) {
        None => Step::Silence,
        Some(failed) => Step::Close {
            reason: format!(
                "produce with acks=0 to partition {} failed with error {}",
                failed.index, failed.error_code
            ),
        },
    }
}

/// Appends; returns the first offset and the log start.
fn append(core: &mut Core, topic: &str, partition: i32, records: Bytes) -> Result<(i64, i64), Refusal> {
    let limit = core.settings.max_batch_bytes;
    let (id, log) =
        core.topics.partition_mut(topic, partition).ok_or((ResponseError::UnknownTopicOrPartition, None))?;
    let start = log.start();
    let batch = log.produce(records, limit).map_err(|error| (error.code(), Some(error.to_string())))?;
    let base = batch.base_offset();
    let batch = batch.bytes().clone();
    core.changes.push(Change::Appended { topic: id, partition, batch });
    Ok((base, start))
}

/// The response with the outcome of each partition.
fn answer(
    request: &ProduceRequest,
    mut outcome: impl FnMut(&str, &PartitionProduceData) -> Result<(i64, i64), Refusal>,
) -> ProduceResponse {
    let topics = request.topic_data.iter().map(|topic| {
        let partitions = topic.partition_data.iter().map(|partition| {
            let response = PartitionProduceResponse::default().with_index(partition.index);
            match outcome(&topic.name, partition) {
                Ok((base, start)) => response.with_base_offset(base).with_log_start_offset(start),
                Err((error, message)) => response
                    .with_error_code(error.code())
                    .with_base_offset(-1)
                    .with_error_message(message.map(StrBytes::from_string)),
            }
        });
        TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_partition_responses(partitions.collect())
    });
    ProduceResponse::default().with_responses(topics.collect())
}
