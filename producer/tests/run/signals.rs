//! Somebody ends the run.

use coinduit_local::broker::{ApiKey, Fault};
use tokio::time::{Duration, sleep};

use crate::{
    scripted::{Answer, Scripted},
    world::{World, price_api},
};

#[tokio::test]
async fn a_signal_ends_a_run_that_waits_for_the_api() {
    for (signal, name) in [("TERM", "SIGTERM"), ("INT", "SIGINT")] {
        let world = World::new(1).await;
        let api = Scripted::start([Answer::raw("").hang()]).await;
        let run = world.run(&api.url).with("RUN_DEADLINE", "1h").with("REQUEST_TIMEOUT", "1h").start();
        api.is_asked().await;
        run.signal(signal).await;
        run.finish().await.failed(1, "interrupted", &[name]).retryable(true);
        assert!(world.records().await.is_empty());
        // Who stops a run knows that it stops.
        assert!(world.alerts().is_empty());
    }
}

#[tokio::test]
async fn a_signal_ends_a_run_that_waits_for_kafka() {
    let (world, api) = (World::new(1).await, price_api());
    world.broker.faults().freeze();
    let run = world.run(&api.url()).with("RUN_DEADLINE", "1h").start();
    // Both are under way: the page is served, the broker was asked.
    while api.served().is_empty() || world.broker.faults().seen(ApiKey::ApiVersions) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    run.signal("TERM").await;
    run.finish().await.failed(1, "interrupted", &["SIGTERM"]).retryable(true);
}

#[tokio::test]
async fn a_signal_in_the_middle_of_publishing_counts_what_may_be_on_the_topic() {
    let (world, api) = (World::new(1).await, price_api());
    world.broker.faults().inject(ApiKey::Produce, Fault::Delay(Duration::from_secs(600)), 1);
    let run = world.run(&api.url()).with("RUN_DEADLINE", "1h").start();
    while world.broker.faults().seen(ApiKey::Produce) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    run.signal("TERM").await;
    let outcome = run.finish().await;
    outcome.failed(1, "interrupted", &["SIGTERM"]).retryable(true);
    assert_eq!(outcome.summary["possible_duplicates"], 50, "{outcome:?}");
}
