//! Fetch: whole batches of several partitions, or wait until there are some.
//!
//! A fetch is answered when `min_bytes` are there, when any partition has an error, or when `max_wait_ms`
//! are over, whichever is first. The first partition that has data gives at least one batch, however large
//! (KIP-74). Fetch sessions (KIP-227) are not kept: a client that asks for one is told "no session", as a
//! broker with a full session cache does, and goes on with full requests.

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchResponse, FetchableTopicResponse, PartitionData,
};

use super::super::batch::Batch;
use super::super::log::{Isolation, PartitionLog};
use super::super::wire::Response;
use super::super::{Core, Moment, Step};
use super::check_epoch;

/// The most that one answer carries besides its first batch: `fetch.max.bytes` of a broker.
const MAX_ANSWER_BYTES: usize = 55 * 1024 * 1024;

/// The session epoch of a request that is complete in itself; 0 asks for a session as well.
const NO_SESSION_EPOCHS: std::ops::RangeInclusive<i32> = -1..=0;

/// What one partition has to give.
struct Slice<'a> {
    log: &'a PartitionLog,
    batches: &'a [Batch],
    /// The offset asked for.
    from: i64,
    isolation: Isolation,
}

pub(crate) fn handle(core: &Core, request: &FetchRequest, moment: &Moment) -> Step {
    if let Err(error) = check_session(request) {
        let response = FetchResponse::default().with_error_code(error.code());
        return Step::Answer(Response::Fetch(response));
    }
    let mut left = byte_count(request.max_bytes).min(MAX_ANSWER_BYTES);
    let mut total = 0;
    let mut failed = request.topics.is_empty();
    let mut found = Vec::new();
    for (topic, partition) in partitions(request) {
        let slice = look(core, request, topic, partition, left, total == 0);
        match &slice {
            Ok(slice) => {
                let bytes: usize = slice.batches.iter().map(|batch| batch.bytes().len()).sum();
                total += bytes;
                left = left.saturating_sub(bytes);
            }
            Err(_) => failed = true,
        }
        found.push(slice);
    }
    let until_ms = moment.received_ms.saturating_add(u64::try_from(request.max_wait_ms).unwrap_or(0));
    if failed || total >= byte_count(request.min_bytes) || moment.now_ms >= until_ms {
        let mut found = found.into_iter();
        let response = answer(request, |_| found.next().expect("one for each partition, in order"));
        Step::Answer(Response::Fetch(response))
    } else {
        Step::Wait { until_ms }
    }
}

pub(crate) fn refuse(request: &FetchRequest, error: ResponseError) -> FetchResponse {
    answer(request, |_| Err(error))
}

fn check_session(request: &FetchRequest) -> Result<(), ResponseError> {
    if request.session_id != 0 {
        Err(ResponseError::FetchSessionIdNotFound)
    } else if NO_SESSION_EPOCHS.contains(&request.session_epoch) {
        Ok(())
    } else {
        Err(ResponseError::InvalidFetchSessionEpoch)
    }
}

/// What `partition` can give within `left` bytes.
fn look<'a>(
    core: &'a Core,
    request: &FetchRequest,
    topic: &FetchTopic,
    partition: &FetchPartition,
    left: usize,
    at_least_one: bool,
) -> Result<Slice<'a>, ResponseError> {
    let log = core
        .topics
        .partition(&topic.topic, partition.partition)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_epoch(partition.current_leader_epoch)?;
    let from = partition.fetch_offset;
    if !(log.start()..=log.next()).contains(&from) {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let isolation = isolation(request.isolation_level);
    let max_bytes = byte_count(partition.partition_max_bytes).min(left);
    let batches = log.read(from, log.end(isolation), max_bytes, at_least_one);
    Ok(Slice { log, batches, from, isolation })
}

/// The response with the outcome of each partition, in the order of the request.
fn answer<'a>(
    request: &FetchRequest,
    mut outcome: impl FnMut(&FetchPartition) -> Result<Slice<'a>, ResponseError>,
) -> FetchResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let data = PartitionData::default().with_partition_index(partition.partition);
            match outcome(partition) {
                Ok(slice) => slice.fill(data),
                Err(error) => data.with_error_code(error.code()).with_high_watermark(-1),
            }
        });
        FetchableTopicResponse::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions.collect())
    });
    FetchResponse::default().with_responses(topics.collect())
}

impl Slice<'_> {
    fn fill(&self, data: PartitionData) -> PartitionData {
        let end = self.batches.last().map_or(self.from, |last| last.last_offset() + 1);
        let aborted = match self.isolation {
            Isolation::ReadUncommitted => None,
            Isolation::ReadCommitted => Some(
                self.log
                    .aborted_in(self.from..end)
                    .map(|aborted| {
                        AbortedTransaction::default()
                            .with_producer_id(aborted.producer_id.into())
                            .with_first_offset(aborted.first_offset)
                    })
                    .collect(),
            ),
        };
        data.with_high_watermark(self.log.next())
            .with_last_stable_offset(self.log.stable_end())
            .with_log_start_offset(self.log.start())
            .with_aborted_transactions(aborted)
            .with_records(Some(joined(self.batches)))
    }
}

/// The batches as one piece of memory; a single one is not copied.
fn joined(batches: &[Batch]) -> Bytes {
    match batches {
        [one] => one.bytes().clone(),
        _ => {
            let mut all = BytesMut::with_capacity(batches.iter().map(|batch| batch.bytes().len()).sum());
            batches.iter().for_each(|batch| all.extend_from_slice(batch.bytes()));
            all.freeze()
        }
    }
}

fn partitions(request: &FetchRequest) -> impl Iterator<Item = (&FetchTopic, &FetchPartition)> {
    request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)))
}

/// The isolation level of a request: 1 is read_committed. Source: KIP-98.
pub(super) fn isolation(level: i8) -> Isolation {
    if level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
}

/// A limit on the wire, where a negative one is none at all.
fn byte_count(limit: i32) -> usize {
    usize::try_from(limit).unwrap_or(0)
}
