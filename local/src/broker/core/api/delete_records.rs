//! DeleteRecords: move the start of a log, as retention does. Source: KIP-107.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

use super::super::{Core, PartitionLog};

/// Stands for the high watermark: delete everything.
const EVERYTHING: i64 = -1;

pub(crate) fn handle(core: &mut Core, request: &DeleteRecordsRequest) -> DeleteRecordsResponse {
    answer(request, |topic, partition, offset| delete(core, topic, partition, offset))
}

pub(crate) fn refuse(request: &DeleteRecordsRequest, error: ResponseError) -> DeleteRecordsResponse {
    answer(request, |_, _, _| Err(error))
}

fn delete(core: &mut Core, topic: &str, partition: i32, offset: i64) -> Result<i64, ResponseError> {
    let end = core.topics.partition(topic, partition).map_or(0, PartitionLog::next);
    core.delete_records(topic, partition, if offset == EVERYTHING { end } else { offset })
}

/// The response with the outcome of each partition.
fn answer(
    request: &DeleteRecordsRequest,
    mut outcome: impl FnMut(&str, i32, i64) -> Result<i64, ResponseError>,
) -> DeleteRecordsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let outcome = outcome(&topic.name, partition.partition_index, partition.offset);
            DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(super::code(&outcome))
                .with_low_watermark(outcome.unwrap_or(-1))
        });
        DeleteRecordsTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}
