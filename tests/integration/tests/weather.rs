//! Bad weather on the side of Kafka: topics that go, come back or grow, records that are gone, brokers that
//! are not there.

use coinduit_integration::chain::holds_exactly_once;
use coinduit_integration::kafka::{Record, record};
use coinduit_integration::program::Program;
use coinduit_integration::rig::Rig;
use coinduit_integration::wait::until;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Objects of a moment.
const QUICK: [(&str, &str); 2] = [("MAX_OBJECT_AGE", "100ms"), ("ENRICH", "off")];

fn records(numbers: std::ops::Range<i64>) -> Vec<Record> {
    numbers.map(|n| record(&format!(r#"{{"n":{n}}}"#))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_and_created_again_continues_no_chain() {
    let rig = Rig::start("recreated", 1).await;
    rig.kafka.publish(&rig.topic, 0, records(0..10)).await;
    let consumer = rig.consumer(&QUICK);
    rig.stored_up_to(0, 10).await;
    let chain = rig.chain(0).await;

    rig.kafka.delete(&rig.topic).await;
    until("the consumer misses the topic several times", async || {
        assert!(!rig.kafka.has(&rig.topic).await, "the consumer has brought the topic back");
        consumer.log().matches("failed, trying again").count() >= 4
    })
    .await;

    // More records than before: the old position is in the new log too.
    rig.kafka.create(&rig.topic, 1).await;
    rig.kafka.publish(&rig.topic, 0, records(100..150)).await;
    let ended = consumer.ended().await.expect_code(2);
    assert!(ended.log.contains("was deleted and created again"), "{}", ended.log);
    assert!(ended.log.contains("S3_PREFIX"), "it says no way out: {}", ended.log);
    assert_eq!(rig.chain(0).await, chain, "the new topic's records are in the old chain");
    let alerts = rig.alerts("topic-changed");
    assert!(alerts.iter().any(|alert| alert.contains("deleted and created again")), "{alerts:?}");

    // Neither does a new process, which knows the old topic from the bucket alone.
    let ended = rig.consumer(&QUICK).ended().await.expect_code(2);
    assert!(ended.log.contains("topic_id") && ended.log.contains("S3_PREFIX"), "{}", ended.log);
    assert_eq!(rig.chain(0).await, chain, "the new topic's records are in the old chain");

    // With another prefix and another group it goes on.
    let group = format!("{}-second", rig.topic);
    let second = [("S3_PREFIX", "second"), ("KAFKA_GROUP_ID", group.as_str())];
    rig.consume_all(&[&QUICK[..], &second].concat()).await;
    let second = rig.bucket.chain(&format!("second/{}", rig.topic), 0).await;
    let log = rig.kafka.read(&rig.topic, 0).await;
    holds_exactly_once(&second, &log, 50, |_| true);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_a_broker_waits_for_one() {
    let rig = Rig::start("no-broker", 1).await;
    rig.kafka.publish(&rig.topic, 0, records(0..10)).await;
    // A port where nobody listens, for now.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dead = port.to_string();
    let env = [&QUICK[..], &[("KAFKA_BOOTSTRAP_SERVERS", &dead)]].concat();

    let mut stopped = rig.consumer(&env);
    stopped.logs(&dead, 3).await;
    stopped.signal(Signal::TERM);
    stopped.ended().await.expect_code(0);
    assert!(rig.bucket.keys("").await.is_empty(), "something was stored");

    let mut patient = rig.consumer(&env);
    patient.logs(&dead, 2).await;
    let broker = rig.kafka.bootstrap().split(',').next().unwrap().to_owned();
    let listener = TcpListener::bind(port).await.unwrap();
    let forwarder = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(&broker).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    rig.stored_up_to(0, 10).await;
    patient.signal(Signal::TERM);
    patient.ended().await.expect_code(0);
    forwarder.abort();
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_added_is_read_from_its_start() {
    let mut rig = Rig::start("grows", 1).await;
    rig.kafka.publish(&rig.topic, 0, records(0..10)).await;
    let consumer = rig.consumer(&QUICK);
    rig.stored_up_to(0, 10).await;
    rig.kafka.add_partitions(&rig.topic, 3).await;
    for partition in [1, 2] {
        rig.kafka.publish(&rig.topic, partition, records(0..5)).await;
    }
    for partition in [1, 2] {
        rig.stored_up_to(partition, 5).await;
        let log = rig.kafka.read(&rig.topic, partition).await;
        let chain = rig.chain(partition).await;
        holds_exactly_once(&chain, &log, 5, |_| true);
        assert!(chain.iter().all(|object| !object.metadata.contains_key("skipped")), "{chain:?}");
    }
    // The old one is read as before.
    rig.kafka.publish(&rig.topic, 0, records(10..20)).await;
    rig.stored_up_to(0, 20).await;
    consumer.signal(Signal::TERM);
    consumer.ended().await.expect_code(0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_took_are_recorded_as_lost() {
    let rig = Rig::start("retention", 1).await;
    rig.kafka.publish(&rig.topic, 0, records(0..50)).await;
    rig.consume_all(&QUICK).await;
    rig.kafka.publish(&rig.topic, 0, records(50..100)).await;
    rig.kafka.delete_records(&rig.topic, 0, 80).await;
    rig.consume_all(&QUICK).await;

    let chain = rig.chain(0).await;
    let [before, after] = &chain[..] else { panic!("{chain:?}") };
    assert!(!before.metadata.contains_key("skipped"), "{before:?}");
    let expected = [
        ("fromoffset", "50"),
        ("skipped", "50-80:retention"),
        ("firstoffset", "80"),
        ("tooffset", "100"),
        ("records", "20"),
    ];
    for (name, value) in expected {
        assert_eq!(after.meta(name), value, "{name}");
    }
    assert_eq!(after.lines().first(), Some(&r#"{"n":80}"#));

    let alerts = rig.alerts("records-lost");
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    let (words, machine) = alert.split_once("\n\n").unwrap();
    assert!(words.contains("50 to 79") && words.contains("How many: 30\n"), "{words}");
    let machine: Value = serde_json::from_str(machine).unwrap();
    assert_eq!(
        (machine["details"]["from"].as_i64(), machine["details"]["to"].as_i64()),
        (Some(50), Some(80))
    );
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_can_overtake_a_consumer_that_runs() {
    let rig = Rig::start("overtaken", 1).await;
    rig.kafka.publish(&rig.topic, 0, records(0..10)).await;
    let consumer = rig.consumer(&QUICK);
    rig.stored_up_to(0, 10).await;
    consumer.signal(Signal::STOP);
    // The first of them answers the question that the broker may still hold.
    rig.kafka.publish(&rig.topic, 0, records(10..11)).await;
    rig.kafka.publish(&rig.topic, 0, records(11..30)).await;
    rig.kafka.delete_records(&rig.topic, 0, 25).await;
    consumer.signal(Signal::CONT);
    rig.stored_up_to(0, 30).await;
    stop(consumer).await;

    // What was fetched before is stored, what was gone by then is skipped on record, and nothing is both.
    let chain = rig.chain(0).await;
    let skips: Vec<&str> =
        chain.iter().filter_map(|object| Some(object.metadata.get("skipped")?.as_str())).collect();
    let [skip] = skips[..] else { panic!("{skips:?}") };
    let from = skip.strip_suffix("-25:retention").unwrap_or_else(|| panic!("{skip}")).parse().unwrap();
    let stored: Vec<&str> = chain.iter().flat_map(|object| object.lines()).collect();
    let expected: Vec<String> = (0..from).chain(25..30).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    assert_eq!(stored, expected, "{skip}");
    assert_eq!(rig.alerts("records-lost").len(), 1);
    rig.finish().await;
}

async fn stop(consumer: Program) {
    consumer.signal(Signal::TERM);
    consumer.ended().await.expect_code(0);
}
