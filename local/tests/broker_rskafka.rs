//! The embedded broker against rskafka, the client of the pipeline, call by call.
//!
//! Each test has a broker of its own. What rskafka cannot say (other versions, raw frames) is tested beside
//! the broker's code.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests leaves out their helpers")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use coinduit_local::broker::core::Settings;
use coinduit_local::broker::{ApiKey, Broker, BrokerConfig, Fault, ResponseError};
use futures::StreamExt;
use rskafka::BackoffConfig;
use rskafka::client::consumer::{StartOffset, StreamConsumerBuilder};
use rskafka::client::controller::ControllerClient;
use rskafka::client::error::{Error, ProtocolError, ServerErrorResponse};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record, RecordAndOffset};
use tempfile::TempDir;

/// Long enough for a loaded machine; a test that needs it has failed.
const GIVE_UP: Duration = Duration::from_secs(60);

/// More bytes than any test has records for.
const ALL: std::ops::Range<i32> = 1..50_000_000;

const NO_WAIT_MS: i32 = 0;
const LONG_WAIT_MS: i32 = 50_000;

async fn start() -> Broker {
    Broker::start(BrokerConfig::default()).await.unwrap()
}

async fn connect(broker: &Broker) -> Client {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(20),
        ..BackoffConfig::default()
    };
    let client = ClientBuilder::new(vec![broker.bootstrap()]).backoff_config(backoff).build();
    in_time(client).await.unwrap()
}

async fn controller(broker: &Broker) -> ControllerClient {
    connect(broker).await.controller_client().unwrap()
}

async fn partition(broker: &Broker, topic: &str, partition: i32) -> PartitionClient {
    let client = connect(broker).await;
    let partition = client.partition_client(topic, partition, UnknownTopicHandling::Error);
    in_time(partition).await.unwrap()
}

/// A broker with topic `t` of one partition, and a client of it.
async fn one_partition() -> (Broker, PartitionClient) {
    let broker = start().await;
    broker.create_topic("t", 1).unwrap();
    let partition = partition(&broker, "t", 0).await;
    (broker, partition)
}

/// rskafka has no time limits of its own.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(GIVE_UP, call).await.expect("the call should have ended long ago")
}

fn time(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap()
}

fn record(value: &str) -> Record {
    timed(value, 1_000)
}

fn timed(value: &str, millis: i64) -> Record {
    Record {
        key: Some(b"BTC".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: BTreeMap::from([("id".to_owned(), b"1".to_vec()), ("source".to_owned(), vec![0xff, 0])]),
        timestamp: time(millis),
    }
}

async fn produce(partition: &PartitionClient, records: Vec<Record>) -> Vec<i64> {
    in_time(partition.produce(records, Compression::NoCompression)).await.unwrap()
}

async fn fetch(partition: &PartitionClient, offset: i64) -> (Vec<RecordAndOffset>, i64) {
    in_time(partition.fetch_records(offset, ALL, LONG_WAIT_MS)).await.unwrap()
}

fn offsets(records: &[RecordAndOffset]) -> Vec<i64> {
    records.iter().map(|record| record.offset).collect()
}

/// What the broker said, where it refused.
fn protocol_error<T: std::fmt::Debug>(result: Result<T, Error>) -> ProtocolError {
    match result.unwrap_err() {
        Error::ServerError { protocol_error, is_virtual: false, .. } => protocol_error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn new_broker_has_no_topics() {
    let broker = start().await;
    assert!(in_time(connect(&broker).await.list_topics()).await.unwrap().is_empty());
}

#[tokio::test]
async fn topics_are_listed_with_their_partitions() {
    let broker = start().await;
    broker.create_topic("one", 1).unwrap();
    in_time(controller(&broker).await.create_topic("three", 3, 1, 5_000)).await.unwrap();
    let topics = in_time(connect(&broker).await.list_topics()).await.unwrap();
    let listed: Vec<(&str, Vec<i32>)> = topics
        .iter()
        .map(|topic| (topic.name.as_str(), topic.partitions.iter().copied().collect()))
        .collect();
    assert_eq!(listed, [("one", vec![0]), ("three", vec![0, 1, 2])]);
}

#[tokio::test]
async fn topics_that_cannot_be_are_refused() {
    let broker = start().await;
    broker.create_topic("there", 1).unwrap();
    let controller = controller(&broker).await;
    let create = async |name: &str, partitions, replicas| {
        protocol_error(in_time(controller.create_topic(name, partitions, replicas, 5_000)).await)
    };
    assert_eq!(create("there", 1, 1).await, ProtocolError::TopicAlreadyExists);
    assert_eq!(create("none", 0, 1).await, ProtocolError::InvalidPartitions);
    assert_eq!(create("two", 1, 2).await, ProtocolError::InvalidReplicationFactor);
    assert_eq!(create("a b", 1, 1).await, ProtocolError::InvalidTopicException);
}

#[tokio::test]
async fn deleted_topic_is_gone_and_deleting_it_again_is_refused() {
    let (broker, partition) = one_partition().await;
    let controller = controller(&broker).await;
    in_time(controller.delete_topic("t", 5_000)).await.unwrap();
    assert_eq!(
        protocol_error(in_time(controller.delete_topic("t", 5_000)).await),
        ProtocolError::UnknownTopicOrPartition
    );
    assert_eq!(
        protocol_error(in_time(partition.produce(vec![record("x")], Compression::NoCompression)).await),
        ProtocolError::UnknownTopicOrPartition
    );
    assert_eq!(
        protocol_error(in_time(partition.fetch_records(0, ALL, LONG_WAIT_MS)).await),
        ProtocolError::UnknownTopicOrPartition
    );
}

#[tokio::test]
async fn unknown_topic_stays_unknown() {
    let broker = start().await;
    let client = connect(&broker).await;
    let partition = client.partition_client("nowhere", 0, UnknownTopicHandling::Error);
    assert_eq!(protocol_error(in_time(partition).await), ProtocolError::UnknownTopicOrPartition);
    assert!(in_time(client.list_topics()).await.unwrap().is_empty());
}

#[tokio::test]
async fn asking_creates_the_topic_where_that_is_switched_on() {
    let settings = Settings { auto_create_topics: true, default_partitions: 2, ..Settings::default() };
    let broker = Broker::start(BrokerConfig { settings, ..BrokerConfig::default() }).await.unwrap();
    let partition = partition(&broker, "new", 1).await;
    assert_eq!(produce(&partition, vec![record("x")]).await, [0]);
    assert_eq!(broker.offsets("new", 1), Some(0..1));
    assert_eq!(broker.offsets("new", 2), None);
}

#[tokio::test]
async fn records_come_back_as_they_were_in_every_codec_of_the_build() {
    for codec in [Compression::NoCompression, Compression::Gzip, Compression::Snappy] {
        let (_broker, partition) = one_partition().await;
        let sent = vec![
            timed("first", 1_000),
            Record { key: None, value: None, headers: BTreeMap::new(), timestamp: time(999) },
            timed(&"long ".repeat(20_000), 5_000),
        ];
        let acknowledged = in_time(partition.produce(sent.clone(), codec)).await.unwrap();
        assert_eq!(acknowledged, [0, 1, 2], "{codec:?}");
        let (records, high_watermark) = fetch(&partition, 0).await;
        assert_eq!((offsets(&records), high_watermark), (vec![0, 1, 2], 3));
        let received: Vec<_> = records.into_iter().map(|record| record.record).collect();
        assert_eq!(received, sent, "{codec:?}");
    }
}

#[tokio::test]
async fn reading_starts_in_the_middle_of_a_batch() {
    let (_broker, partition) = one_partition().await;
    produce(&partition, (0..10).map(|number| record(&number.to_string())).collect()).await;
    produce(&partition, vec![record("10")]).await;
    let (records, high_watermark) = fetch(&partition, 7).await;
    assert_eq!((offsets(&records), high_watermark), (vec![7, 8, 9, 10], 11));
    assert_eq!(records[0].record.value.as_deref(), Some(&b"7"[..]));
}

#[tokio::test]
async fn partitions_have_offsets_of_their_own() {
    let broker = start().await;
    broker.create_topic("t", 3).unwrap();
    for (number, count) in [(0, 1), (1, 2), (2, 3)] {
        let partition = partition(&broker, "t", number).await;
        let acknowledged = produce(&partition, vec![record("x"); count]).await;
        assert_eq!(acknowledged.len(), count);
        let (read, high_watermark) = fetch(&partition, 0).await;
        assert_eq!((offsets(&read), high_watermark), (acknowledged, i64::from(number) + 1));
    }
}

#[tokio::test]
async fn fetch_stops_at_the_byte_limit_but_not_before_one_batch() {
    let (_broker, partition) = one_partition().await;
    for _ in 0..5 {
        produce(&partition, vec![record(&"x".repeat(1_000)); 2]).await;
    }
    let limited = async |bytes: i32| {
        let fetched = partition.fetch_records(0, 1..bytes, LONG_WAIT_MS);
        let (records, high_watermark) = in_time(fetched).await.unwrap();
        assert_eq!(high_watermark, 10);
        offsets(&records)
    };
    assert_eq!(limited(10).await, [0, 1]);
    assert_eq!(limited(5_000).await, [0, 1, 2, 3]);
    assert_eq!(limited(50_000).await.len(), 10);
}

#[tokio::test]
async fn fetch_at_the_end_is_empty_when_its_time_is_over() {
    let (_broker, partition) = one_partition().await;
    produce(&partition, vec![record("x")]).await;
    for wait_ms in [NO_WAIT_MS, 1] {
        let (records, high_watermark) = in_time(partition.fetch_records(1, ALL, wait_ms)).await.unwrap();
        assert_eq!((offsets(&records), high_watermark), (vec![], 1));
    }
}

#[tokio::test]
async fn waiting_fetch_gets_the_record_that_comes() {
    let (broker, reader) = one_partition().await;
    let reading = tokio::spawn(async move { fetch(&reader, 0).await });
    while broker.faults().seen(ApiKey::Fetch) == 0 {
        tokio::task::yield_now().await;
    }
    produce(&partition(&broker, "t", 0).await, vec![record("x")]).await;
    let (records, high_watermark) = reading.await.unwrap();
    assert_eq!((offsets(&records), high_watermark), (vec![0], 1));
}

#[tokio::test]
async fn record_that_is_too_large_is_refused_and_the_client_goes_on() {
    let (_broker, partition) = one_partition().await;
    let large = partition.produce(vec![record(&"x".repeat(1_100_000))], Compression::NoCompression);
    assert_eq!(protocol_error(in_time(large).await), ProtocolError::MessageTooLarge);
    let compressed = partition.produce(vec![record(&"x".repeat(1_100_000))], Compression::Gzip);
    assert_eq!(in_time(compressed).await.unwrap(), [0]);
    assert_eq!(produce(&partition, vec![record(&"x".repeat(1_000_000))]).await, [1]);
}

#[tokio::test]
async fn offsets_outside_the_log_are_out_of_range() {
    let (broker, partition) = one_partition().await;
    produce(&partition, vec![record("x"); 4]).await;
    broker.delete_records("t", 0, 2).unwrap();
    for offset in [1, 5, -1] {
        let refused = in_time(partition.fetch_records(offset, ALL, LONG_WAIT_MS)).await.unwrap_err();
        let Error::ServerError { protocol_error, response, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(protocol_error, ProtocolError::OffsetOutOfRange, "{offset}");
        let Some(ServerErrorResponse::PartitionFetchState { high_watermark, .. }) = response else {
            panic!("{response:?}")
        };
        assert_eq!(high_watermark, -1);
    }
}

#[tokio::test]
async fn offsets_are_found_by_place_and_time() {
    let (_broker, partition) = one_partition().await;
    let find = async |at| in_time(partition.get_offset(at)).await.unwrap();
    assert_eq!((find(OffsetAt::Earliest).await, find(OffsetAt::Latest).await), (0, 0));
    // Offset n has the time of n seconds.
    for codec in [Compression::NoCompression, Compression::Gzip, Compression::Snappy] {
        let base = find(OffsetAt::Latest).await * 1_000;
        let records = vec![timed("a", base), timed("b", base + 1_000)];
        in_time(partition.produce(records, codec)).await.unwrap();
    }
    assert_eq!((find(OffsetAt::Earliest).await, find(OffsetAt::Latest).await), (0, 6));
    for (millis, offset) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2), (2_999, 3), (4_500, 5), (5_001, -1)] {
        assert_eq!(find(OffsetAt::Timestamp(time(millis))).await, offset, "{millis} ms");
    }
}

#[tokio::test]
async fn deleted_records_move_the_start_of_the_log() {
    let (broker, partition) = one_partition().await;
    produce(&partition, vec![record("x"); 5]).await;
    in_time(partition.delete_records(3, 5_000)).await.unwrap();
    assert_eq!(in_time(partition.get_offset(OffsetAt::Earliest)).await.unwrap(), 3);
    assert_eq!(offsets(&fetch(&partition, 3).await.0), [3, 4]);
    assert_eq!(
        protocol_error(in_time(partition.delete_records(6, 5_000)).await),
        ProtocolError::OffsetOutOfRange
    );
    in_time(partition.delete_records(-1, 5_000)).await.unwrap();
    assert_eq!(broker.offsets("t", 0), Some(5..5));
    assert_eq!(produce(&partition, vec![record("x")]).await, [5]);
}

#[tokio::test]
async fn client_connects_again_after_its_connections_were_dropped() {
    let (broker, partition) = one_partition().await;
    produce(&partition, vec![record("before")]).await;
    broker.faults().drop_connections();
    assert_eq!(produce(&partition, vec![record("after")]).await, [1]);
    assert_eq!(offsets(&fetch(&partition, 0).await.0), [0, 1]);
}

#[tokio::test]
async fn dropped_request_is_sent_again_and_appended_once() {
    let (broker, partition) = one_partition().await;
    broker.faults().inject(ApiKey::Produce, Fault::Drop, 2);
    assert_eq!(produce(&partition, vec![record("x")]).await, [0]);
    assert_eq!((broker.offsets("t", 0), broker.faults().seen(ApiKey::Produce)), (Some(0..1), 3));
}

/// rskafka has no idempotent producer: this is how a record comes to be in a topic twice.
#[tokio::test]
async fn lost_reply_leads_to_a_second_append() {
    let (broker, partition) = one_partition().await;
    broker.faults().inject(ApiKey::Produce, Fault::LoseReply, 1);
    assert_eq!(produce(&partition, vec![record("x")]).await, [1]);
    let (records, _) = fetch(&partition, 0).await;
    assert_eq!(offsets(&records), [0, 1]);
    assert_eq!(records[0].record, records[1].record);
}

#[tokio::test]
async fn not_leader_is_asked_again() {
    let (broker, partition) = one_partition().await;
    let not_leader = Fault::Error(ResponseError::NotLeaderOrFollower);
    broker.faults().inject(ApiKey::Produce, not_leader, 2);
    broker.faults().inject(ApiKey::Fetch, not_leader, 1);
    broker.faults().inject(ApiKey::ListOffsets, not_leader, 1);
    assert_eq!(produce(&partition, vec![record("x")]).await, [0]);
    assert_eq!(offsets(&fetch(&partition, 0).await.0), [0]);
    assert_eq!(in_time(partition.get_offset(OffsetAt::Latest)).await.unwrap(), 1);
    assert_eq!((broker.faults().pending(), broker.offsets("t", 0)), (0, Some(0..1)));
}

#[tokio::test]
async fn errors_that_are_not_worth_a_retry_reach_the_caller() {
    let (broker, partition) = one_partition().await;
    broker.faults().inject(ApiKey::Produce, Fault::Error(ResponseError::TopicAuthorizationFailed), 1);
    let refused = partition.produce(vec![record("x")], Compression::NoCompression);
    assert_eq!(protocol_error(in_time(refused).await), ProtocolError::TopicAuthorizationFailed);
    broker.faults().inject(ApiKey::CreateTopics, Fault::Error(ResponseError::PolicyViolation), 1);
    let controller = controller(&broker).await;
    let refused = in_time(controller.create_topic("u", 1, 1, 5_000)).await;
    assert_eq!(protocol_error(refused), ProtocolError::PolicyViolation);
}

/// As with a real broker under SIGSTOP: the caller gives up, and its record is appended all the same.
#[tokio::test]
async fn abandoned_produce_to_a_frozen_broker_is_appended_later() {
    let (broker, partition) = one_partition().await;
    produce(&partition, vec![record("first")]).await;
    broker.faults().freeze();
    let partition = Arc::new(partition);
    let client = Arc::clone(&partition);
    let abandoned =
        tokio::spawn(async move { client.produce(vec![record("x")], Compression::NoCompression).await });
    while broker.faults().seen(ApiKey::Produce) < 2 {
        tokio::task::yield_now().await;
    }
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    assert_eq!(broker.offsets("t", 0), Some(0..1));
    broker.faults().unfreeze();
    assert_eq!(produce(&partition, vec![record("again")]).await, [2]);
}

#[tokio::test]
async fn topics_and_records_survive_a_restart() {
    let dir = TempDir::new().unwrap();
    let config = BrokerConfig { data_dir: Some(dir.path().to_owned()), ..BrokerConfig::default() };
    let broker = Broker::start(config.clone()).await.unwrap();
    let id = broker.create_topic("t", 2).unwrap();
    let client = partition(&broker, "t", 1).await;
    produce(&client, vec![record("a"), record("b")]).await;
    in_time(client.produce(vec![record("c"); 3], Compression::Gzip)).await.unwrap();
    in_time(client.delete_records(1, 5_000)).await.unwrap();
    let (before, _) = fetch(&client, 1).await;
    let addr = broker.addr();
    broker.stop().await;

    let broker = Broker::start(BrokerConfig { listen: addr, ..config }).await.unwrap();
    assert_eq!(broker.topic_id("t"), Some(id));
    assert_eq!(broker.offsets("t", 1), Some(1..5));
    // The client of before finds its way back, as the address is the same.
    assert_eq!(fetch(&client, 1).await.0, before);
    assert_eq!(produce(&client, vec![record("d")]).await, [5]);
}

#[tokio::test]
async fn stream_reads_on_through_faults_without_a_gap() {
    let (broker, producer) = one_partition().await;
    produce(&producer, vec![record("0"), record("1")]).await;
    let reader = Arc::new(partition(&broker, "t", 0).await);
    let mut stream =
        StreamConsumerBuilder::new(reader, StartOffset::Earliest).with_max_wait_ms(LONG_WAIT_MS).build();
    let mut next = async || {
        let (record, _high_watermark) = in_time(stream.next()).await.unwrap().unwrap();
        (record.offset, String::from_utf8(record.record.value.unwrap()).unwrap())
    };
    assert_eq!(next().await, (0, "0".to_owned()));
    assert_eq!(next().await, (1, "1".to_owned()));
    broker.faults().inject(ApiKey::Fetch, Fault::Drop, 1);
    broker.faults().inject(ApiKey::Fetch, Fault::Error(ResponseError::NotLeaderOrFollower), 1);
    produce(&producer, vec![record("2")]).await;
    assert_eq!(next().await, (2, "2".to_owned()));
    assert_eq!(broker.faults().pending(), 0);
    broker.faults().drop_connections();
    produce(&producer, vec![record("3")]).await;
    assert_eq!(next().await, (3, "3".to_owned()));
}

#[tokio::test]
async fn stream_from_latest_sees_only_what_comes() {
    let (broker, producer) = one_partition().await;
    produce(&producer, vec![record("old"); 3]).await;
    let reader = Arc::new(partition(&broker, "t", 0).await);
    let mut stream =
        StreamConsumerBuilder::new(reader, StartOffset::Latest).with_max_wait_ms(LONG_WAIT_MS).build();
    let reading = tokio::spawn(async move { in_time(stream.next()).await.unwrap().unwrap() });
    while broker.faults().seen(ApiKey::Fetch) == 0 {
        tokio::task::yield_now().await;
    }
    produce(&producer, vec![record("new")]).await;
    let (first, _) = reading.await.unwrap();
    assert_eq!((first.offset, first.record.value.unwrap()), (3, b"new".to_vec()));
}
