//! Signals: what is held is stored, nothing is done twice, and nobody waits for ever.

use std::time::Duration;

use coinduit_integration::chain::holds_exactly_once;
use coinduit_integration::kafka::{Record, record};
use coinduit_integration::program::Program;
use coinduit_integration::rig::Rig;
use coinduit_integration::wait::until;
use coinduit_local::s3::PutFault;
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpListener;

/// Objects are full at 20 records, and never old.
const BY_COUNT: [(&str, &str); 3] =
    [("MAX_OBJECT_RECORDS", "20"), ("MAX_OBJECT_AGE", "1h"), ("ENRICH", "off")];

/// Seventy records in one batch: three objects of twenty, and ten more that came with them.
fn seventy() -> Vec<Record> {
    (0..70).map(|n| record(&format!(r#"{{"n":{n}}}"#))).collect()
}

/// Waits until sixty of the seventy records are stored, so that the consumer holds the other ten.
async fn sixty_are_stored(rig: &Rig) {
    until("sixty records are stored", async || rig.bucket.tail(&rig.topic, 0).await == 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_told_to_stop_stores_what_it_holds() {
    for signal in [Signal::TERM, Signal::INT] {
        let rig = Rig::start("drain", 2).await;
        rig.kafka.publish(&rig.topic, 0, seventy()).await;
        let consumer = rig.consumer(&BY_COUNT);
        sixty_are_stored(&rig).await;
        consumer.signal(signal);
        consumer.ended().await.expect_code(0);

        let log = rig.kafka.read(&rig.topic, 0).await;
        let chain = rig.chain(0).await;
        holds_exactly_once(&chain, &log, 70, |_| true);
        let closed: Vec<&str> = chain.iter().map(|object| object.meta("closed")).collect();
        assert_eq!(closed, ["records", "records", "records", "shutdown"]);

        rig.consume_all(&BY_COUNT).await;
        assert_eq!(rig.chain(0).await, chain, "the next consumer has stored something again");
        assert!(rig.chain(1).await.is_empty(), "an empty partition has an object");
        rig.finish().await;
    }
}

/// The signal comes at one moment with what every partition has been waiting for.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_consumer_stops_too() {
    const PARTITIONS: i32 = 32;
    let quick = [("MAX_OBJECT_AGE", "20ms"), ("ENRICH", "off")];
    let rig = Rig::start("busy", PARTITIONS).await;
    let publish_everywhere = async |n: usize| {
        for partition in 0..PARTITIONS {
            rig.kafka.publish(&rig.topic, partition, vec![record(&format!(r#"{{"n":{n}}}"#))]).await;
        }
    };
    for round in 0..3 {
        publish_everywhere(2 * round).await;
        let consumer = rig.consumer(&quick);
        for partition in 0..PARTITIONS {
            let end = rig.kafka.end(&rig.topic, partition).await;
            until("all is stored", async || rig.bucket.tail(&rig.topic, partition).await == end).await;
        }
        consumer.signal(Signal::STOP);
        publish_everywhere(2 * round + 1).await;
        consumer.signal(Signal::TERM);
        consumer.signal(Signal::CONT);
        consumer.ended().await.expect_code(0);
    }
    rig.consume_all(&quick).await;
    for partition in 0..PARTITIONS {
        let log = rig.kafka.read(&rig.topic, partition).await;
        holds_exactly_once(&rig.chain(partition).await, &log, 6, |_| true);
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_does_not_finish_says_so_and_loses_nothing() {
    let rig = Rig::start("late", 1).await;
    rig.kafka.publish(&rig.topic, 0, seventy()).await;
    let consumer = rig.consumer(&[&BY_COUNT[..], &[("DRAIN_TIMEOUT", "1s")]].concat());
    sixty_are_stored(&rig).await;
    rig.stack.s3.order_fault(PutFault::DelayBeforeWrite(Duration::from_secs(3600)));
    consumer.signal(Signal::TERM);
    let ended = consumer.ended().await.expect_code(1);
    assert!(ended.log.contains("DRAIN_TIMEOUT"), "{}", ended.log);

    rig.consume_all(&BY_COUNT).await;
    let log = rig.kafka.read(&rig.topic, 0).await;
    holds_exactly_once(&rig.chain(0).await, &log, 70, |_| true);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_waits_for_its_topic_can_be_stopped() {
    let rig = Rig::without_topic("waits").await;
    for signal in [Signal::TERM, Signal::INT] {
        let mut consumer = rig.consumer(&[]);
        consumer.logs("has no topic", 2).await;
        consumer.signal(signal);
        consumer.ended().await.expect_code(0);
    }
    assert!(!rig.kafka.has(&rig.topic).await, "the consumer has created the topic");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_gone_soon_after_the_signal_while_the_api_hangs() {
    let rig = Rig::start("hangs", 1).await;
    // Accepts and never answers.
    let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", api.local_addr().unwrap());
    for signal in [Signal::TERM, Signal::INT] {
        let producer =
            Program::start("producer", &[], &rig.env(&[("API_URL", &url), ("REQUEST_TIMEOUT", "80s")]));
        let _asked = tokio::time::timeout(Duration::from_secs(60), api.accept()).await.unwrap().unwrap();
        producer.signal(signal);
        // The contract says 3 s; a busy machine is no reason to fail, waiting for the API would be.
        let ended = tokio::time::timeout(Duration::from_secs(10), producer.ended()).await;
        let summary = ended.expect("it is gone soon").expect_code(1).summary();
        let members = (&summary["status"], &summary["stage"], &summary["retryable"]);
        assert_eq!(members, (&json!("failed"), &json!("interrupted"), &json!(true)));
    }
    assert!(rig.kafka.read(&rig.topic, 0).await.is_empty());
    assert!(rig.stack.sns.published().is_empty(), "stopping it is no reason to wake people");
    rig.finish().await;
}
