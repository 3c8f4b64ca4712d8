//! The cluster in bad weather: every call ends, the error names what it is about, and the summary says what is on the
//! topic.

use std::time::Duration;

use coinduit_local::broker::{ApiKey, Fault, ResponseError, core::Settings};
use futures::future::join;
use tokio::net::TcpListener;

use crate::{
    scripted::{Answer, Scripted},
    world::{Outcome, TOPIC, World, any_port, price_api},
};

const KAFKA_FAILED: &str = "[coinduit producer] kafka-failed: crypto_prices";

/// Runs with 50 coins and a deadline that comes soon.
async fn run_briefly(world: &World) -> Outcome {
    let api = price_api();
    world.run(&api.url()).with("RUN_DEADLINE", "5s").with("REQUEST_TIMEOUT", "2s").finish().await
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
    let run = world.run(&api.url()).with("KAFKA_BOOTSTRAP_SERVERS", &refusing).with("RUN_DEADLINE", "5s");
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
    for request in [ApiKey::ApiVersions, ApiKey::Metadata] {
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

/// The embedded broker knows no idempotent producers: what is sent again is appended again.
#[tokio::test]
async fn a_batch_that_may_be_in_the_log_is_not_sent_again_and_is_counted() {
    for (fault, in_the_log) in [(Fault::LoseReply, 50), (Fault::Drop, 0)] {
        let (world, api) = (World::new(1).await, price_api());
        world.broker.faults().inject(ApiKey::Produce, fault, 1);
        let outcome = world.run(&api.url()).finish().await;
        outcome.failed(1, "publish", &["crypto_prices/0", "50 records may be in the log"]).retryable(true);
        assert_eq!(outcome.summary["possible_duplicates"], 50, "{outcome:?}");
        assert_eq!(world.records().await.len(), in_the_log);
        assert_eq!(world.broker.faults().seen(ApiKey::Produce), 1);
        assert_eq!(world.alert().0, KAFKA_FAILED);
    }
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

/// Text that gzip can't shrink to less than three quarters.
fn incompressible(length: usize) -> String {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                [usize::try_from(state >> 58).unwrap()],
        )
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn a_coin_that_is_too_large_is_named_with_the_setting_to_raise_and_the_others_are_published() {
    let small = Settings { max_batch_bytes: 2_000, ..Settings::default() };
    let world = World::without_topic(small).await;
    world.broker.create_topic(TOPIC, 1).unwrap();
    let page =
        format!(r#"[{{"code":"A"}},{{"code":"HUGE","x":"{}"}},{{"code":"B"}}]"#, incompressible(5_000));
    let outcome = world.run(&Scripted::start([Answer::ok(&page)]).await.url).finish().await;
    outcome
        .failed(2, "publish", &["crypto_prices/0", "coin HUGE", "too large", "max.message.bytes"])
        .retryable(false);
    assert_eq!(outcome.summary["records"], 2, "{outcome:?}");
    // A broker that answers with an error has not appended.
    assert_eq!(outcome.summary.get("possible_duplicates"), None, "{outcome:?}");
    assert_eq!(world.codes().await, ["A", "B"]);
    assert_eq!(world.alert().0, KAFKA_FAILED);
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_sent_in_parts() {
    let small = Settings { max_batch_bytes: 3_000, ..Settings::default() };
    let (world, api) = (World::without_topic(small).await, price_api());
    world.broker.create_topic(TOPIC, 2).unwrap();
    world.run(&api.url()).finish().await.published(50);
    let mut codes = world.codes().await;
    codes.dedup();
    assert_eq!((codes.len(), world.records().await.len()), (50, 50));
}

#[tokio::test]
async fn all_coins_are_one_request_to_a_broker() {
    let (world, api) = (World::new(6).await, price_api());
    world.run(&api.url()).with("COINS", "100").finish().await.published(100);
    assert_eq!(world.broker.faults().seen(ApiKey::Produce), 1);
}

#[tokio::test]
async fn what_may_pass_is_tried_until_the_deadline_and_then_named() {
    for (error, words) in [
        (ResponseError::NotEnoughReplicas, "min.insync.replicas"),
        (ResponseError::LeaderNotAvailable, "LeaderNotAvailable"),
    ] {
        let world = World::new(1).await;
        world.broker.faults().inject(ApiKey::Produce, Fault::Error(error), 1_000);
        let outcome = run_briefly(&world).await;
        outcome.failed(1, "publish", &["crypto_prices/0", "RUN_DEADLINE", words]).retryable(true);
        assert!(world.broker.faults().seen(ApiKey::Produce) > 1);
        assert_eq!(outcome.summary.get("possible_duplicates"), None, "{outcome:?}");
    }
}

#[tokio::test]
async fn partitions_of_a_new_topic_are_as_many_as_asked_for() {
    let (world, api) = (World::without_topic(Settings::default()).await, price_api());
    let run = world.run(&api.url()).argument("--create-topic").argument("--partitions").argument("5");
    run.argument("--replication-factor").argument("1").finish().await.published(50);
    assert!(world.broker.offsets(TOPIC, 4).is_some() && world.broker.offsets(TOPIC, 5).is_none());
}

#[tokio::test]
async fn a_topic_that_this_client_may_not_write_to_is_named() {
    let world = World::new(1).await;
    world.broker.faults().inject(ApiKey::Produce, Fault::Error(ResponseError::TopicAuthorizationFailed), 1);
    let outcome = run_briefly(&world).await;
    outcome.failed(2, "publish", &["crypto_prices/0", "may not write", "operation Write"]).retryable(false);
}
