//! ListOffsets: where a log starts, where it ends, or its first record of a time.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};

use super::super::Core;
use super::super::batch::{BatchError, LEADER_EPOCH};
use super::check_epoch;
use super::fetch::isolation;

/// Asks for the offset of the next record. Source: Kafka's `ListOffsetsRequest`.
const LATEST: i64 = -1;
/// Asks for the log start.
const EARLIEST: i64 = -2;

/// The first version whose answer has the epoch of the record found. Source: KIP-320.
const WITH_EPOCH: i16 = 4;

/// Offset and timestamp of the answer; -1 is "there is none".
type Found = (i64, i64);

pub(crate) fn handle(core: &Core, request: &ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let epoch = if version >= WITH_EPOCH { LEADER_EPOCH } else { -1 };
    answer(request, epoch, |topic, partition| find(core, request, topic, partition))
}

pub(crate) fn refuse(request: &ListOffsetsRequest, error: ResponseError) -> ListOffsetsResponse {
    answer(request, -1, |_, _| Err(error))
}

fn find(
    core: &Core,
    request: &ListOffsetsRequest,
    topic: &str,
    partition: &ListOffsetsPartition,
) -> Result<Found, ResponseError> {
    let log = core
        .topics
        .partition(topic, partition.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_epoch(partition.current_leader_epoch)?;
    let end = log.end(isolation(request.isolation_level));
    match partition.timestamp {
        LATEST => Ok((end, -1)),
        EARLIEST => Ok((log.start(), -1)),
        // -3 (greatest timestamp) and below belong to versions this broker does not speak.
        special if special < 0 => Err(ResponseError::UnsupportedVersion),
        timestamp => match log.find_time(timestamp, end) {
            Ok(found) => Ok(found.unwrap_or((-1, -1))),
            Err(BatchError::Codec { .. }) => Err(ResponseError::UnsupportedCompressionType),
            Err(_) => Err(ResponseError::CorruptMessage),
        },
    }
}

/// The response with the outcome of each partition.
fn answer(
    request: &ListOffsetsRequest,
    epoch: i32,
    mut outcome: impl FnMut(&str, &ListOffsetsPartition) -> Result<Found, ResponseError>,
) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let outcome = outcome(&topic.name, partition);
            let response = ListOffsetsPartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(super::code(&outcome));
            match outcome {
                Ok((offset, timestamp)) => response
                    .with_offset(offset)
                    .with_timestamp(timestamp)
                    .with_leader_epoch(if offset < 0 { -1 } else { epoch }),
                Err(_) => response,
            }
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}
