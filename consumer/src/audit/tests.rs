//! An audit from end to end, on a bucket in memory and a log that is written down.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use clap::Parser;
use coinduit_common::{
    config::Env,
    kafka::{error::KafkaError, group::Committed},
    object_key::Prefix,
};
use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::{
    batch::{Limits, OpenBatch, Taken},
    budget::Reservation,
    config::{Cli, Command},
    identity::IdentityError,
    layout::Layout,
    ledger::{
        bucket::NewObject,
        commit::CommitMetadata,
        manifest::Manifest,
        metadata::{Closed, Skip, SkipReason},
    },
    partition::progress::Setting,
    quarantine::Quarantined,
    reader::{Ask, Bounds, Fetched, PartitionReader, ReadError, Record},
    testing::MemoryBucket,
};

const LIMITS: Limits = Limits { records: 10, bytes: 1 << 20, age: Duration::from_secs(60) };

/// A topic of one partition, whose log begins at `start`.
struct Scripted {
    log: Vec<Record>,
    start: i64,
    end: i64,
    commits: Vec<Committed>,
    reachable: bool,
    topic_id: u128,
    /// Nothing can be read from here on.
    undecodable: i64,
    /// Nothing comes from here on.
    silent: i64,
}

impl Scripted {
    fn topic(&self) -> Topic {
        Topic { cluster_id: "c".to_owned(), topic_id: Uuid::from_u128(self.topic_id), partitions: vec![0] }
    }
}

#[async_trait]
impl Cluster for Scripted {
    async fn describe(&self) -> Result<Topic, IdentityError> {
        if self.reachable { Ok(self.topic()) } else { Err(IdentityError::Missing { topic: "t".to_owned() }) }
    }

    async fn committed(&self, _: &[i32]) -> Result<Vec<Committed>, KafkaError> {
        Ok(self.commits.clone())
    }

    fn reader(&self, _: i32) -> Box<dyn PartitionReader> {
        let log = self.log.iter().filter(|record| record.offset >= self.start).cloned().collect();
        let bounds = Bounds { start: self.start, end: self.end };
        Box::new(Reader { log, bounds, undecodable: self.undecodable, silent: self.silent })
    }
}

struct Reader {
    log: Vec<Record>,
    bounds: Bounds,
    undecodable: i64,
    silent: i64,
}

#[async_trait]
impl PartitionReader for Reader {
    /// A few at a time, and never what was not asked for.
    async fn fetch(&mut self, ask: Ask, _: &Reservation) -> Result<Fetched, ReadError> {
        let offset = ask.offset;
        if offset >= self.undecodable {
            return Err(ReadError::Undecodable { offset, source: "zstd".into() });
        }
        if offset >= self.silent {
            return Ok(Fetched { next: offset, high_watermark: self.bounds.end, ..Fetched::default() });
        }
        if offset < self.bounds.start || offset > self.bounds.end {
            return Err(ReadError::OutOfRange { offset });
        }
        let records: Vec<Record> =
            self.log.iter().filter(|record| record.offset >= offset).take(7).cloned().collect();
        let next = records.last().map_or(self.bounds.end, |last| last.offset + 1);
        Ok(Fetched { records, next, high_watermark: self.bounds.end, ..Fetched::default() })
    }

    async fn bounds(&mut self) -> Result<Bounds, ReadError> {
        Ok(self.bounds)
    }
}

/// Every ninth record can't be a line; offset 20 is a control record's.
fn log() -> Vec<Record> {
    let value =
        |offset: i64| if offset % 9 == 4 { "nonsense".to_owned() } else { format!("{{\"n\":{offset}}}") };
    (0..35)
        .filter(|offset| *offset != 20)
        .map(|offset| Record {
            offset,
            timestamp_ms: offset,
            key: None,
            value: Some(Bytes::from(value(offset))),
            headers: Vec::new(),
        })
        .collect()
}

fn key(name: i64) -> String {
    object_key::object(&Prefix::default(), "t", 0, name, "jsonl")
}

fn setting(enrich: bool, layout: Layout) -> Setting {
    let (prefix, limits) = (Arc::default(), LIMITS);
    Setting { topic: "t".into(), partition: 0, prefix, layout, limits, enrich, writer: "w".into() }
}

/// What a consumer makes of the log.
async fn consumed(enrich: bool) -> (Arc<MemoryBucket>, Scripted) {
    consumed_as(enrich, Layout::default()).await
}

async fn consumed_as(enrich: bool, layout: Layout) -> (Arc<MemoryBucket>, Scripted) {
    let bucket = Arc::new(MemoryBucket::default());
    let cluster = Scripted {
        log: log(),
        start: 0,
        end: 35,
        commits: Vec::new(),
        reachable: true,
        topic_id: 7,
        undecodable: i64::MAX,
        silent: i64::MAX,
    };
    let manifest = Manifest::for_topic(&cluster.topic()).laid_out(layout).to_bytes();
    put(&bucket, "t/_coinduit.json", manifest, BTreeMap::new()).await;
    let setting = setting(enrich, layout);
    let mut open = OpenBatch::new(layout, 0, 0, 0);
    for record in &cluster.log {
        if open.take(&setting, record, Duration::ZERO) == Taken::Full {
            let to = store(&bucket, layout, open).await;
            open = OpenBatch::new(layout, to, to, 0);
            open.take(&setting, record, Duration::ZERO);
        }
    }
    store(&bucket, layout, open).await;
    for record in &cluster.log {
        let mut line = Vec::new();
        if let Err(reason) = coinduit_common::line::append(&mut line, record.value.as_deref(), None) {
            bucket.put(&Quarantined::new(&Prefix::default(), "t", 0, record, reason).object).await.unwrap();
        }
    }
    (bucket, cluster)
}

/// Stores the batch as a consumer does; where it ends.
async fn store(bucket: &MemoryBucket, layout: Layout, open: OpenBatch) -> i64 {
    let mut sealed = open.seal(String::new(), Closed::Records, Duration::ZERO);
    let from = sealed.metadata.from_offset;
    sealed.metadata.writer = format!("process/{from}");
    let key = object_key::object(&Prefix::default(), "t", 0, from, layout.compression().extension());
    put(bucket, &key, sealed.body.to_vec(), sealed.metadata.to_user_metadata()).await;
    sealed.metadata.to_offset
}

async fn put(bucket: &MemoryBucket, key: &str, body: Vec<u8>, metadata: BTreeMap<String, String>) {
    let object = NewObject { key: key.to_owned(), body: body.into(), content_type: "text/plain", metadata };
    bucket.put(&object).await.unwrap();
}

fn config() -> AuditConfig {
    let line = ["consumer", "audit", "--s3-bucket", "b", "--kafka-topic", "t", "--json"];
    let Command::Audit(args) = Cli::try_parse_from(line).unwrap().into_command() else {
        panic!("it is audit")
    };
    AuditConfig::new(&args, &Env::default()).unwrap()
}

async fn audited(bucket: &MemoryBucket, cluster: Option<&Scripted>) -> Report {
    let config = config();
    let cluster = cluster.map(|cluster| cluster as &dyn Cluster);
    Audit { config: &config, bucket, cluster, tell: &|_| () }.run().await.unwrap()
}

/// Kinds and keys of all findings.
fn found(report: &Report) -> Vec<(&'static str, String)> {
    let all =
        report.findings.iter().chain(report.partitions.iter().flat_map(|partition| &partition.findings));
    all.map(|finding| (finding.kind.name(), finding.keys.join(" "))).collect()
}

async fn audit(bucket: &MemoryBucket, cluster: &Scripted) -> Vec<(&'static str, String)> {
    found(&audited(bucket, Some(cluster)).await)
}

fn ours(cluster: &Scripted, offset: i64, tail: i64, skipped: Vec<Skip>) -> Vec<Committed> {
    let ledger = LedgerId::new("b", &Prefix::default(), &cluster.topic().printed_id());
    let metadata = CommitMetadata { ledger, tail, skipped, quarantined: 0 }.to_string();
    vec![Committed { partition: 0, offset, leader_epoch: -1, metadata }]
}

#[tokio::test]
async fn what_a_consumer_wrote_is_sound() {
    for enrich in [false, true] {
        let (bucket, mut cluster) = consumed(enrich).await;
        cluster.commits = ours(&cluster, 35, 35, Vec::new());
        let report = audited(&bucket, Some(&cluster)).await;
        assert_eq!(
            (found(&report), report.kafka.as_str(), &report.notes[..]),
            (Vec::new(), "reached", &[][..])
        );
        let partition = &report.partitions[0];
        assert_eq!(
            (
                partition.tail,
                partition.handled,
                partition.compared,
                partition.objects,
                partition.records,
                partition.quarantined
            ),
            (Some(35), Some(35), Some((0, 35)), 3, 30, 4)
        );
        assert!(partition.bytes > 0 && partition.notes.is_empty(), "{partition:?}");
    }
}

#[tokio::test]
async fn the_bucket_alone_can_be_looked_at() {
    let (bucket, mut cluster) = consumed(true).await;
    let report = audited(&bucket, None).await;
    assert_eq!((found(&report), report.kafka.as_str()), (Vec::new(), "not asked: --bucket-only"));
    cluster.reachable = false;
    let report = audited(&bucket, Some(&cluster)).await;
    assert_eq!((found(&report), report.partitions[0].compared), (Vec::new(), None));
    assert_eq!(report.kafka, "not reached: the cluster has no topic t");
    let document: Value = serde_json::from_str(&report.print(true)).unwrap();
    assert_eq!(document["kafka"], "not reached: the cluster has no topic t");
}

#[tokio::test]
async fn a_body_that_was_changed_or_deleted_is_found() {
    let (bucket, cluster) = consumed(true).await;
    let name = 11;
    let (_, body, metadata) = bucket.below(&key(name)).remove(0);
    put(&bucket, &key(name), body[..body.len() - 30].to_vec(), metadata).await;
    assert_eq!(audit(&bucket, &cluster).await, [("line", key(name))]);
    bucket.remove(&key(name));
    let next = bucket.below("t/partition=0/")[1].0.clone();
    let between = format!("{} {next}", key(0));
    assert_eq!(audit(&bucket, &cluster).await, [("gap", between), ("not-stored", String::new())]);
}

#[tokio::test]
async fn a_quarantine_object_that_is_missing_is_found_by_both_sides() {
    let (bucket, cluster) = consumed(true).await;
    let lost = object_key::quarantine(&Prefix::default(), "t", 0, 13);
    bucket.remove(&lost);
    assert_eq!(audit(&bucket, &cluster).await, [("quarantine", key(11)), ("not-quarantined", lost)]);
    put(&bucket, "quarantine/t/partition=0/notes", Vec::new(), BTreeMap::new()).await;
    assert!(
        audit(&bucket, &cluster).await.contains(&("stranger", "quarantine/t/partition=0/notes".to_owned()))
    );
}

#[tokio::test]
async fn records_that_were_handled_behind_the_tail_need_no_object_but_a_reason() {
    let (bucket, mut cluster) = consumed(true).await;
    cluster.log.push(Record { offset: 35, ..cluster.log[0].clone() });
    cluster.end = 36;
    assert_eq!(audit(&bucket, &cluster).await, [], "behind the handled offset nothing is looked at");
    cluster.commits = ours(&cluster, 36, 35, Vec::new());
    assert_eq!(audit(&bucket, &cluster).await, [("not-stored", String::new())]);
    let skip = Skip { from: 35, to: 36, reason: SkipReason::ForeignCommit };
    cluster.commits = ours(&cluster, 36, 35, vec![skip]);
    let report = audited(&bucket, Some(&cluster)).await;
    assert_eq!((found(&report), &report.partitions[0].skipped[..]), (Vec::new(), &[skip][..]));
    cluster.commits[0].metadata = "reset by hand".to_owned();
    let report = audited(&bucket, Some(&cluster)).await;
    assert_eq!((found(&report), report.partitions[0].notes.len()), (Vec::new(), 1));
}

#[tokio::test]
async fn what_retention_has_deleted_is_a_note() {
    let (bucket, mut cluster) = consumed(true).await;
    cluster.start = 15;
    let report = audited(&bucket, Some(&cluster)).await;
    assert_eq!((found(&report), report.partitions[0].compared), (Vec::new(), Some((15, 35))));
    assert_eq!(report.partitions[0].notes[0], "offsets 0 to 14 can't be compared: the log begins at 15");
}

#[tokio::test]
async fn objects_that_are_gone_before_their_records_are_found() {
    let (bucket, mut cluster) = consumed(true).await;
    bucket.remove(&key(0));
    assert_eq!(audit(&bucket, &cluster).await, [("not-stored", String::new())]);
    cluster.start = 11;
    assert_eq!(audit(&bucket, &cluster).await, []);
}

#[tokio::test]
async fn a_log_that_ends_early_or_stops_being_readable_is_told_apart() {
    let (bucket, mut cluster) = consumed(true).await;
    cluster.undecodable = 14;
    let report = audited(&bucket, Some(&cluster)).await;
    assert_eq!((found(&report), report.partitions[0].compared), (Vec::new(), Some((0, 11))));
    assert!(report.partitions[0].notes[0].contains("offsets 11 to 34 were not compared"), "{report}");
    cluster.undecodable = i64::MAX;
    cluster.silent = 14;
    let report = audited(&bucket, Some(&cluster)).await;
    assert!(
        found(&report).is_empty() && report.to_string().contains("offset 14 brings no record"),
        "{report}"
    );
    cluster.silent = i64::MAX;
    cluster.end = 30;
    cluster.log.retain(|record| record.offset < 30);
    let last = bucket.below("t/partition=0/").pop().unwrap().0;
    assert_eq!(audit(&bucket, &cluster).await, [("log-end", last)]);
}

#[tokio::test]
async fn another_topics_objects_are_not_compared() {
    let (bucket, mut cluster) = consumed(true).await;
    cluster.topic_id = 8;
    let report = audited(&bucket, Some(&cluster)).await;
    assert_eq!(found(&report), [("owner", "t/_coinduit.json".to_owned())]);
    assert_eq!(report.kafka, "not compared: the objects belong to another topic");
    assert_eq!(report.partitions[0].compared, None);
}

#[tokio::test]
async fn strangers_and_partitions_that_are_none_are_found() {
    let (bucket, cluster) = consumed(true).await;
    for key in ["t/partition=0/notes.txt", "t/readme", "t/partition=5/00000000000000000000.jsonl"] {
        put(&bucket, key, Vec::new(), BTreeMap::new()).await;
    }
    assert_eq!(
        audit(&bucket, &cluster).await,
        [
            ("stranger", "t/readme".to_owned()),
            ("stranger", "t/partition=0/notes.txt".to_owned()),
            ("metadata", "t/partition=5/00000000000000000000.jsonl".to_owned()),
            ("partition", "t/partition=5/".to_owned()),
        ]
    );
}

#[tokio::test]
async fn an_empty_bucket_is_worth_a_note() {
    let (_, cluster) = consumed(true).await;
    let report = audited(&MemoryBucket::default(), Some(&cluster)).await;
    assert_eq!(
        (found(&report), &report.notes[..]),
        (Vec::new(), &["there are no objects in t/".to_owned()][..])
    );
}

#[tokio::test]
async fn thousands_of_objects_are_read_in_pages() {
    let (bucket, _) = consumed(true).await;
    let mut from = 35;
    for batch in 0..2_500 {
        let mut open = OpenBatch::new(Layout::default(), from, from, 0);
        open.advance(from + 3);
        let sealed = open.seal(format!("w/{batch}"), Closed::Age, Duration::ZERO).metadata;
        put(&bucket, &key(from), Vec::new(), sealed.to_user_metadata()).await;
        from += 3;
    }
    let report = audited(&bucket, None).await;
    assert_eq!(
        (found(&report), report.partitions[0].objects, report.partitions[0].tail),
        (Vec::new(), 2_503, Some(7_535))
    );
    bucket.remove(&key(35 + 3 * 1_800));
    assert_eq!(found(&audited(&bucket, None).await).len(), 1);
}

#[tokio::test]
async fn compressed_objects_are_held_against_the_log_line_by_line() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let (bucket, cluster) = consumed_as(true, Layout::Log(compression)).await;
        let report = audited(&bucket, Some(&cluster)).await;
        assert_eq!((found(&report), report.partitions[0].compared), (Vec::new(), Some((0, 35))));
        let objects = bucket.below("t/partition=0/");
        let (key, body, metadata) = objects[1].clone();
        put(&bucket, &key, body[..body.len() - 5].to_vec(), metadata.clone()).await;
        assert_eq!(audit(&bucket, &cluster).await, [("gone", key.clone())], "cut off");
        put(&bucket, &key, objects[0].1.to_vec(), metadata.clone()).await;
        let kinds: Vec<_> = audit(&bucket, &cluster).await.into_iter().map(|(kind, _)| kind).collect();
        assert!(kinds.contains(&"line"), "another object's lines: {kinds:?}");
        bucket.remove(&key);
        let plain = key.replace(compression.extension(), "jsonl");
        let lines = compression.unpack(body, 1 << 20).unwrap();
        put(&bucket, &plain, lines.to_vec(), metadata).await;
        assert_eq!(audit(&bucket, &cluster).await, [("stranger", plain)], "named and packed otherwise");
    }
}
