//! A producer whose records are committed or given up together.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, BrokerId, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListOffsetsRequest, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use crate::kafka::{Kafka, ask};
use crate::raw::{Compression, Record, append_for, batch};
use crate::wait::until;

/// What FindCoordinator calls a transaction's.
const TRANSACTIONS: i8 = 1;
/// The broker gives an open transaction up after so long: longer than a test.
const OPEN_MS: i32 = 600_000;
/// What passes: the coordinator is on its way, or still writes the end of the transaction before.
const PASSING: [ResponseError; 5] = [
    ResponseError::CoordinatorLoadInProgress,
    ResponseError::CoordinatorNotAvailable,
    ResponseError::NotCoordinator,
    ResponseError::ConcurrentTransactions,
    ResponseError::UnknownTopicOrPartition,
];

/// The producer, for one topic of a cluster of one broker.
#[derive(Debug)]
pub struct Producer<'a> {
    kafka: &'a Kafka,
    topic: &'a str,
    id: String,
    producer_id: i64,
    epoch: i16,
    /// The next sequence number of each partition.
    sequences: BTreeMap<i32, i32>,
    /// The partitions of the open transaction.
    open: BTreeSet<i32>,
}

impl<'a> Producer<'a> {
    /// Makes itself known. `name` is no other's of this topic.
    ///
    /// # Panics
    /// When that fails.
    pub async fn start(kafka: &'a Kafka, topic: &'a str, name: &str) -> Self {
        let id = format!("{topic}-{name}");
        let find = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_string(id.clone()))
            .with_key_type(TRANSACTIONS);
        passes("there is a coordinator", async || {
            ask(kafka.bootstrap(), &find, 3).await.expect("find a coordinator").error_code
        })
        .await;
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional(&id)))
            .with_transaction_timeout_ms(OPEN_MS)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let mut known = (-1, -1);
        passes("the producer is known", async || {
            let answer = ask(kafka.bootstrap(), &init, 4).await.expect("ask for a producer's id");
            known = (answer.producer_id.0, answer.producer_epoch);
            answer.error_code
        })
        .await;
        let (producer_id, epoch) = known;
        Self { kafka, topic, id, producer_id, epoch, sequences: BTreeMap::new(), open: BTreeSet::new() }
    }

    /// Appends `records` as one batch of the open transaction, which begins if there is none; the offset of the first.
    ///
    /// # Panics
    /// When that fails.
    pub async fn append(&mut self, partition: i32, mut records: Vec<Record>) -> i64 {
        if self.open.insert(partition) {
            let topic = AddPartitionsToTxnTopic::default()
                .with_name(TopicName(StrBytes::from_string(self.topic.to_owned())))
                .with_partitions(vec![partition]);
            let request = AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(transactional(&self.id))
                .with_v3_and_below_producer_id(ProducerId(self.producer_id))
                .with_v3_and_below_producer_epoch(self.epoch)
                .with_v3_and_below_topics(vec![topic]);
            passes("the transaction has the partition", async || {
                let answer = ask(self.kafka.bootstrap(), &request, 3).await.expect("add a partition");
                let results = answer.results_by_topic_v3_and_below.iter();
                let mut codes =
                    results.flat_map(|topic| &topic.results_by_partition).map(|one| one.partition_error_code);
                codes.next().expect("one partition was asked for")
            })
            .await;
        }
        let next = self.sequences.entry(partition).or_default();
        for record in &mut records {
            record.transactional = true;
            record.producer_id = self.producer_id;
            record.producer_epoch = self.epoch;
            record.sequence = *next;
            *next += 1;
        }
        let batch = batch(records, Compression::None);
        append_for(self.kafka, Some(&self.id), self.topic, partition, batch).await
    }

    /// Commits the open transaction, or gives it up, and waits until its partitions say so: each has one more record,
    /// the marker. Nobody else appends meanwhile.
    ///
    /// # Panics
    /// When that fails.
    pub async fn end(&mut self, commit: bool) {
        let mut ends = Vec::new();
        for partition in std::mem::take(&mut self.open) {
            ends.push((partition, self.end_of(partition).await));
        }
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional(&self.id))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        passes("the transaction ends", async || {
            ask(self.kafka.bootstrap(), &request, 3).await.expect("end a transaction").error_code
        })
        .await;
        for (partition, end) in ends {
            let what = format!("the marker is in partition {partition}");
            until(&what, async || self.end_of(partition).await == end + 1).await;
        }
    }

    /// The high watermark: what open transactions have written is below it.
    async fn end_of(&self, partition: i32) -> i64 {
        let name = TopicName(StrBytes::from_string(self.topic.to_owned()));
        let end = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(name).with_partitions(vec![end]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let answer = ask(self.kafka.bootstrap(), &request, 6).await.expect("ask for a log's end");
        let mut ends = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let end = ends.next().expect("one partition was asked for");
        assert_eq!(end.error_code, 0, "{answer:?}");
        end.offset
    }
}

fn transactional(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

/// Asks until the broker takes it.
async fn passes(what: &str, mut ask: impl AsyncFnMut() -> i16) {
    until(what, async || {
        let code = ask().await;
        let passing = PASSING.iter().any(|error| error.code() == code);
        assert!(code == 0 || passing, "{what}: {:?}", ResponseError::try_from_code(code));
        code == 0
    })
    .await;
}
