//! The brokers as one process reaches them: its group's coordinator, the topic's logs, the topic's id.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use coinduit_common::kafka::{
    error::KafkaError,
    group::{
        Committed, Identity, Join, JoinAnswer, Offset, Sync, commit, committed, find_coordinator, heartbeat,
        join, leave, sync,
    },
    metadata::{Topic, printed_id},
};
use coinduit_local::broker::core::{
    Batch,
    wire::{Request, Response},
};
use kafka_protocol::{
    ResponseError,
    messages::{
        FetchRequest, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
    },
    protocol::StrBytes,
    records::RecordBatchDecoder,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{broker::TOPIC, process::Origin, world::World};
use crate::{
    budget::Reservation,
    group::coordinator::Coordinator,
    identity::{Confirm, IdentityError},
    reader::{Ask, Bounds, Fetched, Header, OpenReader, PartitionReader, ReadError, Record},
};

/// So long one call may take.
const LIMIT: Duration = Duration::from_secs(15);

/// One process's way to the brokers.
struct Line {
    world: Arc<World>,
    origin: Arc<Origin>,
}

impl Line {
    fn new(world: &Arc<World>, origin: &Arc<Origin>) -> Self {
        Self { world: Arc::clone(world), origin: Arc::clone(origin) }
    }

    /// Asks, over a network that loses questions and answers. `done` sees the answer where it is given.
    async fn ask(
        &self,
        name: &'static str,
        limit: Duration,
        version: i16,
        request: Request,
        done: impl Fn(&Response),
    ) -> Result<Response, KafkaError> {
        let World { dice, broker, .. } = &*self.world;
        let lost = |limit| KafkaError::TimedOut { address: "broker:9092".to_owned(), request: name, limit };
        self.origin.gate.pass().await;
        let fails = dice.happens(self.world.network_faults());
        if fails && dice.happens(500) {
            sleep(dice.millis(1..=2_000)).await;
            self.origin.gate.pass().await;
            return Err(lost(limit));
        }
        sleep(dice.millis(1..=if self.world.is_healed() { 5 } else { 80 })).await;
        let answer = timeout(limit, broker.call(version, request, done)).await;
        self.origin.gate.pass().await;
        match answer {
            Ok(Some(answer)) if !fails => Ok(answer),
            _ => Err(lost(limit)),
        }
    }
}

/// The coordinator of the process's group.
pub(super) struct Cluster(Line);

impl Cluster {
    pub(super) fn new(world: &Arc<World>, origin: &Arc<Origin>) -> Self {
        Self(Line::new(world, origin))
    }
}

/// The answer of the kind that was asked for.
macro_rules! expect {
    ($kind:ident, $answer:expr) => {
        match $answer {
            Response::$kind(answer) => answer,
            other => panic!("the broker answers {:?}", other.api()),
        }
    };
}

#[async_trait]
impl Coordinator for Cluster {
    async fn find(&self) -> Result<(), KafkaError> {
        let group = &self.0.origin.group;
        let request = Request::FindCoordinator(find_coordinator::request(group, 4));
        let answer = self.0.ask("FindCoordinator", LIMIT, 4, request, |_| {}).await?;
        find_coordinator::answer(expect!(FindCoordinator, answer), group).map(drop)
    }

    async fn join(&self, ask: &Join) -> Result<JoinAnswer, KafkaError> {
        let limit = ask.rebalance_timeout + LIMIT;
        let answer =
            self.0.ask("JoinGroup", limit, 9, Request::JoinGroup(join::request(ask, 9)), |_| {}).await?;
        join::answer(expect!(JoinGroup, answer), &ask.identity.group)
    }

    async fn sync(&self, ask: &Sync) -> Result<Bytes, KafkaError> {
        let sent_at = self.0.world.now();
        let request = Request::SyncGroup(sync::request(ask, 5));
        let answer = self.0.ask("SyncGroup", LIMIT, 5, request, |_| {}).await?;
        let answer = sync::answer(expect!(SyncGroup, answer), &ask.identity.group);
        if answer.is_ok() {
            self.0.origin.is_alive(sent_at);
        }
        answer
    }

    async fn heartbeat(&self, member: &Identity) -> Result<(), KafkaError> {
        let sent_at = self.0.world.now();
        let request = Request::Heartbeat(heartbeat::request(member, 4));
        let answer = self.0.ask("Heartbeat", LIMIT, 4, request, |_| {}).await?;
        let answer = heartbeat::answer(expect!(Heartbeat, answer), &member.group);
        let rebalancing = |error: &KafkaError| error.code() == Some(ResponseError::RebalanceInProgress);
        if answer.as_ref().map_or_else(rebalancing, |()| true) {
            self.0.origin.is_alive(sent_at);
        }
        answer
    }

    async fn leave(&self, member: &Identity) -> Result<(), KafkaError> {
        let request = Request::LeaveGroup(leave::request(member, 5));
        let answer = self.0.ask("LeaveGroup", LIMIT, 5, request, |_| {}).await?;
        leave::answer(expect!(LeaveGroup, answer), &member.group)
    }

    async fn commit(
        &self,
        member: &Identity,
        offsets: &[Offset],
    ) -> Result<Vec<(i32, KafkaError)>, KafkaError> {
        let request = Request::OffsetCommit(commit::request(member, TOPIC, offsets, 9));
        let Line { world, origin } = &self.0;
        let taken = |answer: &Response| {
            let Response::OffsetCommit(answer) = answer else { return };
            let accepted = answer.topics.iter().flat_map(|topic| &topic.partitions);
            for taken in accepted.filter(|partition| partition.error_code == 0) {
                let it = offsets.iter().find(|offset| offset.partition == taken.partition_index);
                if let Some(Offset { partition, offset, metadata, .. }) = it {
                    world.tell(&origin.name, format_args!("commits {partition} {offset} {metadata}"));
                    world.judge.committed(&origin.group, *partition, *offset, metadata);
                }
            }
        };
        let answer = self.0.ask("OffsetCommit", LIMIT, 9, request, taken).await?;
        commit::answer(expect!(OffsetCommit, answer), &member.group, TOPIC, offsets)
    }

    async fn committed(&self, partitions: &[i32]) -> Result<Vec<Committed>, KafkaError> {
        let group = &self.0.origin.group;
        let request = Request::OffsetFetch(committed::request(group, TOPIC, partitions, 8));
        let answer = self.0.ask("OffsetFetch", LIMIT, 8, request, |_| {}).await?;
        committed::answer(expect!(OffsetFetch, answer), group, TOPIC, partitions)
    }

    async fn partitions(&self, topics: &[String]) -> Result<BTreeMap<String, i32>, KafkaError> {
        self.0.origin.gate.pass().await;
        sleep(self.0.world.dice.millis(1..=80)).await;
        self.0.origin.gate.pass().await;
        let count = self.0.world.partitions();
        Ok(topics.iter().filter(|topic| *topic == TOPIC).map(|topic| (topic.clone(), count)).collect())
    }
}

/// The topic's logs.
pub(super) struct Log(Arc<Line>);

impl Log {
    pub(super) fn new(world: &Arc<World>, origin: &Arc<Origin>) -> Self {
        Self(Arc::new(Line::new(world, origin)))
    }
}

impl OpenReader for Log {
    fn open(&self, partition: i32) -> Box<dyn PartitionReader> {
        Box::new(Reader { line: Arc::clone(&self.0), partition })
    }
}

struct Reader {
    line: Arc<Line>,
    partition: i32,
}

fn unavailable(attempted: &str) -> ReadError {
    ReadError::Unavailable { attempted: attempted.to_owned(), source: "no leader".into() }
}

impl Reader {
    fn request(&self, offset: i64) -> Request {
        let bytes = self.line.world.dice.between(1..=300);
        let partition = FetchPartition::default()
            .with_partition(self.partition)
            .with_fetch_offset(offset)
            .with_current_leader_epoch(-1)
            .with_partition_max_bytes(i32::try_from(bytes).unwrap_or(1));
        let topic = FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_static_str(TOPIC)))
            .with_partitions(vec![partition]);
        Request::Fetch(
            FetchRequest::default()
                .with_max_wait_ms(30_000)
                .with_min_bytes(1)
                .with_max_bytes(i32::MAX)
                .with_session_epoch(-1)
                .with_topics(vec![topic]),
        )
    }
}

#[async_trait]
impl PartitionReader for Reader {
    async fn fetch(&mut self, ask: Ask, _: &Reservation) -> Result<Fetched, ReadError> {
        let offset = ask.offset;
        let Line { world, origin } = &*self.line;
        if !world.has_leader(self.partition) {
            sleep(world.dice.millis(50..=1_000)).await;
            return Err(unavailable("fetch"));
        }
        let request = self.request(offset);
        world.judge.fetches(&origin.group, self.partition, offset);
        let waits = Duration::from_secs(40);
        let answer = self.line.ask("Fetch", waits, 12, request, |_| {}).await;
        let answer = expect!(Fetch, answer.map_err(|_| unavailable("fetch"))?);
        let found = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let found = found.ok_or_else(|| unavailable("fetch"))?;
        match ResponseError::try_from_code(found.error_code) {
            None => {}
            Some(ResponseError::OffsetOutOfRange) => return Err(ReadError::OutOfRange { offset }),
            Some(_) => return Err(unavailable("fetch")),
        }
        let mut bytes = found.records.unwrap_or_default();
        let (mut rest, mut next) = (bytes.clone(), offset);
        while rest.has_remaining() {
            next = Batch::split_first(&mut rest).unwrap().last_offset() + 1;
        }
        let sets = RecordBatchDecoder::decode_all(&mut bytes).unwrap();
        let records = sets.into_iter().flat_map(|set| set.records);
        let records: Vec<Record> = records.filter(|record| record.offset >= offset).map(record).collect();
        Ok(Fetched { records, next, high_watermark: found.high_watermark, ..Fetched::default() })
    }

    /// As little as fits many times into the smallest of budgets.
    fn memory_for(&self, _: usize) -> usize {
        100
    }

    async fn bounds(&mut self) -> Result<Bounds, ReadError> {
        let Line { world, origin } = &*self.line;
        origin.gate.pass().await;
        sleep(world.dice.millis(1..=80)).await;
        let bounds = world.broker.bounds(self.partition).filter(|_| world.has_leader(self.partition));
        origin.gate.pass().await;
        bounds.map(|(start, end)| Bounds { start, end }).ok_or_else(|| unavailable("list offsets"))
    }
}

fn record(record: kafka_protocol::records::Record) -> Record {
    let header = |(name, value): (StrBytes, Option<Bytes>)| Header { name: name.into_bytes(), value };
    Record {
        offset: record.offset,
        timestamp_ms: record.timestamp,
        key: record.key,
        value: record.value,
        headers: record.headers.into_iter().map(header).collect(),
    }
}

/// What the cluster says about the topic.
pub(super) struct TopicId {
    line: Line,
    known: Mutex<Option<Uuid>>,
    /// When the question was asked that the last good answer is about.
    confirmed: Mutex<Option<Duration>>,
}

impl TopicId {
    pub(super) fn new(world: &Arc<World>, origin: &Arc<Origin>) -> Self {
        Self { line: Line::new(world, origin), known: Mutex::default(), confirmed: Mutex::default() }
    }
}

#[async_trait]
impl Confirm for TopicId {
    async fn describe(&self) -> Result<Topic, IdentityError> {
        let Line { world, origin } = &self.line;
        let asked = world.now();
        origin.gate.pass().await;
        sleep(world.dice.millis(1..=80)).await;
        let (cluster, found) = {
            let core = world.broker.core();
            (core.topics().cluster(), core.topics().get(TOPIC).map(|topic| topic.id()))
        };
        let fails = world.dice.happens(world.network_faults());
        origin.gate.pass().await;
        let topic = || TOPIC.to_owned();
        if fails {
            let source = KafkaError::TimedOut { address: topic(), request: "Metadata", limit: LIMIT };
            return Err(IdentityError::Unknown { topic: topic(), source });
        }
        let topic_id = found.ok_or_else(|| IdentityError::Missing { topic: topic() })?;
        let known = *self.known.lock().unwrap().get_or_insert(topic_id);
        if known != topic_id {
            let (was, is) = (printed_id(known), printed_id(topic_id));
            return Err(IdentityError::Recreated { topic: topic(), was, is });
        }
        *self.confirmed.lock().unwrap() = Some(asked);
        let partitions = (0..world.partitions()).collect();
        Ok(Topic { cluster_id: printed_id(cluster), topic_id, partitions })
    }

    async fn confirm(&self, after: Duration) -> Result<(), IdentityError> {
        if self.confirmed.lock().unwrap().is_some_and(|confirmed| confirmed > after) {
            return Ok(());
        }
        self.describe().await.map(drop)
    }
}
