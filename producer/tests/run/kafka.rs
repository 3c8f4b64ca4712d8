//! The cluster in bad weather: every call ends, the error names what it is about, and the summary says what is on the
//! topic.

use std::{collections::BTreeSet, time::Duration};

use coinduit_local::broker::{ApiKey, Fault, ResponseError, core::Settings};
use futures::future::join;
use tokio::net::TcpListener;

use crate::world::{Outcome, TOPIC, World, any_port, price_api};

const KAFKA_FAILED: &str = "[coinduit producer] kafka-failed: crypto_prices";

/// Runs with 50 coins and a deadline that comes soon.
async fn run_briefly(world: &World) -> Outcome {
    let api = price_api();
    world.run(&api.url()).with("RUN_DEADLINE", "2s").with("REQUEST_TIMEOUT", "2s").finish().await
}

#[tokio::test]
async fn a_missing_topic_is_an_error_and_stays_missing() {
    let creating = Settings { auto_create_topics: true, ..Settings::default() };
    let (world, api) = (World::without_topic(creating).await, price_api());
    let outcome = world.run(&api.url()).finish().await;
    outcome.failed(2, "connect", &[TOPIC, &world.broker.bootstrap(), "--create-topic"]).retryable(false);
    assert_eq!(world.broker.topic_id(TOPIC), None);
    assert_eq!(world.broker.faults().seen(ApiKey::Produce), 0);
    assert_eq!(world.alert().0, "[coinduit producer] topic-changed: crypto_prices");
}

#[tokio::test]
async fn a_missing_topic_is_created_when_asked_for() {
    let three = Settings { default_partitions: 3, ..Settings::default() };
    let (world, api) = (World::without_topic(three).await, price_api());
    world.run(&api.url()).argument("--create-topic").finish().await.published(50);
    assert_eq!(world.records().await.len(), 50);
    assert!(world.broker.offsets(TOPIC, 2).is_some() && world.broker.offsets(TOPIC, 3).is_none());
}

#[tokio::test]
async fn a_topic_that_is_there_is_not_created_again() {
    let (world, api) = (World::new(2).await, price_api());
    let id = world.broker.topic_id(TOPIC);
    world.run(&api.url()).argument("--create-topic").finish().await.published(50);
    assert_eq!((world.broker.topic_id(TOPIC), world.records().await.len()), (id, 50));
}

#[tokio::test]
async fn two_producers_at_once_do_no_harm() {
    let (world, api) = (World::without_topic(Settings::default()).await, price_api());
    let run = || world.run(&api.url()).argument("--create-topic").finish();
    let (one, other) = join(run(), run()).await;
    one.published(50);
    other.published(50);
    assert_eq!(world.records().await.len(), 100);
}

#[tokio::test]
async fn a_port_that_refuses_is_named() {
    let (world, api) = (World::new(1).await, price_api());
    let refusing = TcpListener::bind(any_port()).await.unwrap().local_addr().unwrap().to_string();
    let run = world.run(&api.url()).with("KAFKA_BOOTSTRAP_SERVERS", &refusing).with("RUN_DEADLINE", "2s");
    run.with("REQUEST_TIMEOUT", "2s")
        .finish()
        .await
        .failed(1, "connect", &[&refusing, TOPIC])
        .retryable(true);
    assert_eq!(world.alert().0, KAFKA_FAILED);
}

#[tokio::test]
async fn the_second_address_is_tried_when_the_first_refuses() {
    let (world, api) = (World::new(1).await, price_api());
    let refusing = TcpListener::bind(any_port()).await.unwrap().local_addr().unwrap();
    let both = format!("{refusing},{}", world.broker.bootstrap());
    world.run(&api.url()).with("KAFKA_BOOTSTRAP_SERVERS", &both).finish().await.published(50);
}

#[tokio::test]
async fn a_broker_that_accepts_and_never_answers_is_given_up_at_the_deadline() {
    let world = World::new(1).await;
    world.broker.faults().freeze();
    let outcome = run_briefly(&world).await;
    outcome.failed(1, "connect", &[TOPIC, &world.broker.bootstrap()]).retryable(true);
    world.broker.faults().unfreeze();
    assert!(world.records().await.is_empty());
    assert_eq!(world.alert().0, KAFKA_FAILED);
}

#[tokio::test]
async fn a_port_where_something_else_listens_is_named() {
    let (world, api) = (World::new(1).await, price_api());
    let address = api.url().replace("http://", "");
    let outcome = world.run(&api.url()).with("KAFKA_BOOTSTRAP_SERVERS", &address).finish().await;
    outcome.failed(2, "connect", &[&address, "not Kafka's protocol"]).retryable(false);
}

#[tokio::test]
async fn a_dropped_connection_is_made_again() {
    let (world, api) = (World::new(3).await, price_api());
    for request in [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::Produce] {
        world.broker.faults().inject(request, Fault::Drop, 1);
    }
    world.run(&api.url()).finish().await.published(50);
    assert_eq!((world.broker.faults().pending(), world.records().await.len()), (0, 50));
}

#[tokio::test]
async fn a_leader_that_moved_is_found_again() {
    let (world, api) = (World::new(3).await, price_api());
    world.broker.faults().inject(ApiKey::Produce, Fault::Error(ResponseError::NotLeaderOrFollower), 1);
    world.run(&api.url()).finish().await.published(50);
    assert_eq!((world.broker.faults().pending(), world.records().await.len()), (0, 50));
}

#[tokio::test]
async fn a_reply_lost_after_the_append_may_repeat_records_but_no_id() {
    let (world, api) = (World::new(1).await, price_api());
    world.broker.faults().inject(ApiKey::Produce, Fault::LoseReply, 1);
    world.run(&api.url()).finish().await.published(50);
    let records = world.records().await;
    let ids: BTreeSet<Vec<u8>> = records.iter().map(|(_, record)| record.headers["id"].clone()).collect();
    assert_eq!((ids.len(), records.len()), (50, 100));
}

#[tokio::test]
async fn an_acknowledgement_that_never_comes_is_counted_as_possible_duplicates() {
    let world = World::new(1).await;
    world.broker.faults().inject(ApiKey::Produce, Fault::Delay(Duration::from_secs(600)), 1);
    let outcome = run_briefly(&world).await;
    outcome.failed(1, "publish", &["crypto_prices/0", &world.broker.bootstrap()]).retryable(true);
    assert_eq!(outcome.summary["possible_duplicates"], 50, "{outcome:?}");
    assert_eq!(outcome.summary.get("records"), None, "{outcome:?}");
    assert_eq!(world.records().await.len(), 50);
    assert_eq!(world.alert().0, KAFKA_FAILED);
}

#[tokio::test]
async fn what_was_acknowledged_beside_a_failure_is_counted() {
    let world = World::new(2).await;
    world.broker.faults().inject(ApiKey::Produce, Fault::Error(ResponseError::InvalidRequiredAcks), 1);
    let outcome = run_briefly(&world).await;
    outcome.failed(1, "publish", &["crypto_prices/"]);
    let stored = world.records().await.len();
    assert!((1..50).contains(&stored), "{stored}");
    assert_eq!(outcome.summary["records"], stored, "{outcome:?}");
    // A broker that answers with an error has not appended.
    assert_eq!(outcome.summary.get("possible_duplicates"), None, "{outcome:?}");
}

#[tokio::test]
async fn a_batch_that_is_too_large_names_the_setting_to_raise() {
    let small = Settings { max_batch_bytes: 2_000, ..Settings::default() };
    let world = World::without_topic(small).await;
    world.broker.create_topic(TOPIC, 1).unwrap();
    let outcome = run_briefly(&world).await;
    outcome.failed(2, "publish", &["crypto_prices/0", "too large", "max.message.bytes"]).retryable(false);
    assert!(world.records().await.is_empty());
    assert_eq!(world.alert().0, KAFKA_FAILED);
}

#[tokio::test]
async fn a_topic_that_this_client_may_not_write_to_is_named() {
    let world = World::new(1).await;
    world.broker.faults().inject(ApiKey::Produce, Fault::Error(ResponseError::TopicAuthorizationFailed), 1);
    let outcome = run_briefly(&world).await;
    outcome.failed(2, "publish", &["crypto_prices/0", "may not be written"]).retryable(false);
}
