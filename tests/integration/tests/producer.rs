//! The producer on a real Kafka: what it says is on the topic is there, once, and what is not is named.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use coinduit_common::kafka::bootstrap::Bootstrap;
use coinduit_common::kafka::dialer::Dialer;
use coinduit_common::kafka::metadata;
use coinduit_common::kafka::produce;
use coinduit_common::kafka::record_batch::{NewRecord, Packing, Sequence, write};
use coinduit_common::kafka::security::Security;
use coinduit_integration::kafka::Kafka;
use coinduit_integration::program::{Ended, Program};
use coinduit_integration::wait::until;
use coinduit_local::price_api::{PriceApi, Prices};
use rand::Rng;
use serde_json::Value;

/// One run for `topic`, of the embedded API's prices.
async fn run(kafka: &Kafka, topic: &str, arguments: &[&str]) -> Ended {
    let api = PriceApi::start(SocketAddr::from(([127, 0, 0, 1], 0)), Prices::Fixed).expect("a free port");
    let env = [
        ("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap()),
        ("KAFKA_TOPIC", topic),
        ("API_URL", &api.url()),
        ("API_KEY", "a-key"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let ended = Program::start("producer", arguments, &env).ended().await;
    api.stop().await;
    ended
}

/// The keys on the topic, sorted.
async fn keys(kafka: &Kafka, topic: &str, partitions: i32) -> Vec<String> {
    let mut keys = Vec::new();
    for partition in 0..partitions {
        let key = |key: Option<Vec<u8>>| String::from_utf8(key.expect("a key")).expect("UTF-8");
        keys.extend(kafka.read(topic, partition).await.into_iter().map(|read| key(read.record.key)));
    }
    keys.sort();
    keys
}

#[tokio::test]
async fn what_was_acknowledged_is_on_the_topic_once() {
    let kafka = Kafka::find().await;
    let topic = Kafka::unused_name("producer");
    kafka.create(&topic, 6).await;
    let ended = run(&kafka, &topic, &[]).await.expect_code(0);
    assert_eq!(ended.summary()["records"], 50);
    assert!(ended.log.contains(r#""idempotent":true"#), "{}", ended.log);
    let mut keys = keys(&kafka, &topic, 6).await;
    assert_eq!(keys.len(), 50);
    keys.dedup();
    assert_eq!(keys.len(), 50);
    kafka.delete(&topic).await;
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_named_and_stays_away_until_it_is_asked_for() {
    let kafka = Kafka::find().await;
    let topic = Kafka::unused_name("producer");
    let ended = run(&kafka, &topic, &[]).await.expect_code(2);
    let error = ended.summary()["error"].to_string();
    assert!(error.contains(&topic) && error.contains("--create-topic"), "{error}");
    assert!(!kafka.has(&topic).await);

    let create = ["--create-topic", "--partitions", "5", "--replication-factor", "1"];
    run(&kafka, &topic, &create).await.expect_code(0);
    assert_eq!(kafka.describe(&topic).await.partitions.len(), 5);
    assert_eq!(keys(&kafka, &topic, 5).await.len(), 50);
    kafka.delete(&topic).await;
}

#[tokio::test]
async fn more_replicas_than_brokers_are_refused_in_the_brokers_words() {
    let kafka = Kafka::find().await;
    let topic = Kafka::unused_name("producer");
    let ended = run(&kafka, &topic, &["--create-topic", "--replication-factor", "900"]).await.expect_code(2);
    let error = ended.summary()["error"].to_string();
    assert!(error.contains(&topic) && error.contains("InvalidReplicationFactor"), "{error}");
    assert!(!kafka.has(&topic).await);
}

/// A page of coins in a file.
fn page(coins: impl Iterator<Item = (String, String)>) -> tempfile::NamedTempFile {
    let mut text = String::from("[");
    for (code, filling) in coins {
        let comma = if text.len() == 1 { "" } else { "," };
        write!(text, r#"{comma}{{"code":"{code}","x":"{filling}"}}"#).expect("a string takes everything");
    }
    text.push(']');
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("it can be written");
    file
}

/// Text that can't be compressed to less than three quarters.
fn noise(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length)
        .map(|_| char::from(b'0' + rng.random_range(0..=74u8)))
        .map(|c| if c == '\\' { '-' } else { c })
        .collect()
}

#[tokio::test]
async fn a_coin_that_is_too_large_is_named_and_the_others_are_published() {
    let kafka = Kafka::find().await;
    let topic = Kafka::unused_name("producer");
    kafka.create(&topic, 1).await;
    let coins = [("A", 10), ("HUGE", 2_000_000), ("B", 10)];
    let file = page(coins.into_iter().map(|(code, length)| (code.to_owned(), noise(length))));
    let path = file.path().to_str().expect("UTF-8");
    let ended = run(&kafka, &topic, &["--from-file", path]).await.expect_code(2);
    let summary = ended.summary();
    let error = summary["error"].to_string();
    assert!(error.contains("coin HUGE") && error.contains("max.message.bytes"), "{error}");
    assert_eq!((&summary["records"], summary.get("possible_duplicates")), (&2.into(), None));
    assert_eq!(keys(&kafka, &topic, 1).await, ["A", "B"]);
    kafka.delete(&topic).await;
}

#[tokio::test]
async fn more_than_a_broker_takes_at_once_is_published_in_parts() {
    let kafka = Kafka::find().await;
    let topic = Kafka::unused_name("producer");
    kafka.create(&topic, 2).await;
    // About 6 MB, which stay more than 4 MB when they are compressed.
    let file = page((0..6_000).map(|number| (format!("C{number}"), noise(1_000))));
    let path = file.path().to_str().expect("UTF-8");
    let ended = run(&kafka, &topic, &["--from-file", path]).await.expect_code(0);
    assert_eq!(ended.summary()["records"], Value::from(6_000));
    let mut keys = keys(&kafka, &topic, 2).await;
    keys.dedup();
    assert_eq!(keys.len(), 6_000);
    assert_eq!(kafka.end(&topic, 0).await + kafka.end(&topic, 1).await, 6_000);
    kafka.delete(&topic).await;
}

/// What makes it safe to send a batch again whose answer was lost.
#[tokio::test]
async fn a_batch_that_comes_again_is_appended_once_and_acknowledged_every_time() {
    let kafka = Kafka::find().await;
    let topic = Kafka::unused_name("producer");
    kafka.create(&topic, 1).await;
    let bootstrap = Bootstrap::parse(kafka.bootstrap()).expect("addresses");
    let dialer = Dialer::new("coinduit-test", Security::default());
    let mut connection = dialer.to_any(&bootstrap).await.expect("a broker");
    let leaders = metadata::leaders(&mut connection, &topic).await.expect("an answer").expect("the topic");
    let leader = leaders[&0].clone().expect("a leader");
    let mut id = None;
    // A new cluster has none to give for a while.
    until("the cluster gives a producer's id", async || {
        id = produce::producer_id(&mut connection).await.ok();
        id.is_some()
    })
    .await;
    let id = id.expect("it has been given");
    let record = NewRecord { timestamp_ms: 1_795_428_300_000, key: b"BTC", value: b"{}", headers: &[] };
    let numbered = |first| {
        write(&[record; 3], Packing::Gzip, Some(Sequence { producer_id: id.id, epoch: id.epoch, first }))
    };

    // Each attempt over a connection of its own, as after a lost one.
    let send = async |batch| {
        let mut connection = dialer.to(&leader.address).await.expect("its leader");
        let request = produce::request(&topic, &[(0, batch)], Duration::from_secs(10));
        let answer = connection.call(&request).await.expect("an answer");
        produce::answer(answer, &topic, [0]).expect("about the partition").remove(0)
    };
    assert_eq!(send(numbered(0)).await, Ok(0));
    assert_eq!(send(numbered(0)).await, Ok(0));
    assert_eq!(send(numbered(3)).await, Ok(3));
    assert_eq!(send(numbered(0)).await, Ok(0));
    assert!(send(numbered(9)).await.is_err());
    assert_eq!(kafka.end(&topic, 0).await, 6);
    kafka.delete(&topic).await;
}
