//! A run that prints, a run of recorded pages, and run after run.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use serde_json::Value;
use tokio::time::sleep;

use crate::{
    scripted::{Answer, Scripted},
    world::{Outcome, Run, World, faulty_api, price_api},
};

const AT: &str = "2026-11-23T10:05:00.000Z";

#[tokio::test]
async fn a_dry_run_prints_key_id_and_value_of_each_record_and_needs_no_kafka() {
    let (world, api) = (World::new(1).await, price_api());
    let run = world.run(&api.url()).with("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1").argument("--dry-run");
    let outcome = run.finish().await;
    assert_eq!((outcome.code, &outcome.summary["status"]), (0, &"dry-run".into()), "{outcome:?}");
    assert_eq!((outcome.lines.len(), &outcome.summary["records"]), (50, &50.into()));
    let first: Value = serde_json::from_str(&outcome.lines[0]).unwrap();
    assert_eq!((&first["key"], &first["value"]["code"]), (&"BTC".into(), &"BTC".into()));
    assert!(outcome.lines[0].contains(r#""rate":120361.96212658589,"#), "{}", outcome.lines[0]);
    let ids: BTreeSet<String> = outcome
        .lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 50);
}

/// Two pages in files.
fn recorded(folder: &tempfile::TempDir) -> [PathBuf; 2] {
    let pages =
        [r#"[ {"code":"BTC","rate":1.50e-9}, {"code":"ETH"} ]"#, r#"[{"code":"ETH"},{"code":"_IMX"},7]"#];
    let paths = ["1.json", "2.json"].map(|name| folder.path().join(name));
    for (path, page) in paths.iter().zip(pages) {
        std::fs::write(path, page).unwrap();
    }
    paths
}

#[tokio::test]
async fn recorded_pages_are_published_as_of_their_instant_without_key_and_api() {
    let (world, folder) = (World::new(1).await, tempfile::tempdir().unwrap());
    let run = recorded(&folder)
        .iter()
        .fold(world.run("http://127.0.0.1:1").without("API_KEY").argument("--from-file"), |run, path| {
            run.argument(path.to_str().unwrap())
        });
    let outcome = run.argument("--fetched-at").argument(AT).finish().await;
    let summary = &outcome.published(3).summary;
    assert_eq!(
        (&summary["fetched_at"], &summary["rejected"], &summary["repeated"]),
        (&AT.into(), &1.into(), &1.into())
    );
    assert_eq!(world.codes().await, ["BTC", "ETH", "_IMX"]);
    let (_, btc) = world.records().await.remove(0);
    assert_eq!(btc.value.unwrap(), br#"{"code":"BTC","rate":1.50e-9}"#);
    // The contract's own example.
    assert_eq!(btc.headers["id"], b"99e88ed2-bdb0-5697-9bdc-950a549b86ed");
    assert!(world.alert().1.contains("at position 4"), "{:?}", world.alert());
}

#[tokio::test]
async fn a_file_that_holds_no_coins_is_named_and_nothing_is_published() {
    let (world, folder) = (World::new(1).await, tempfile::tempdir().unwrap());
    let [good, bad] = recorded(&folder);
    for content in
        ["<html>", "", "[]", r#"{"error":{"code":401,"status":"s","description":"d"}}"#, r#"[{"code":"A""#]
    {
        std::fs::write(&bad, content).unwrap();
        let run = world.run("http://127.0.0.1:1").argument("--from-file").argument(good.to_str().unwrap());
        run.argument(bad.to_str().unwrap()).finish().await.failed(2, "fetch", &["2.json"]).retryable(false);
    }
    let missing = world.run("http://127.0.0.1:1").argument("--from-file").argument("/nowhere/page.json");
    missing.finish().await.failed(2, "fetch", &["/nowhere/page.json"]);
    assert!(world.records().await.is_empty());
}

/// Waits until there are `records`, then ends the run.
async fn stopped_after(world: &World, run: Run, records: i64) -> Outcome {
    let run = run.start();
    while world.broker.offsets("crypto_prices", 0).unwrap().end < records {
        sleep(Duration::from_millis(20)).await;
    }
    // A summary comes a moment after the last acknowledgement.
    sleep(Duration::from_millis(500)).await;
    run.signal("TERM").await;
    run.finish().await
}

#[tokio::test]
async fn runs_follow_each_other_on_the_clocks_grid_with_a_summary_each() {
    let (world, api) = (World::new(1).await, price_api());
    let run = world.run(&api.url()).argument("--interval").argument("2s");
    let outcome = stopped_after(&world, run, 150).await;
    assert!(outcome.lines.len() >= 2, "{outcome:?}");
    let summaries: Vec<Value> =
        outcome.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(summaries.iter().all(|summary| summary["status"] == "published"), "{outcome:?}");
    let slot = |summary: &Value| {
        let at = chrono::DateTime::parse_from_rfc3339(summary["fetched_at"].as_str().unwrap()).unwrap();
        at.timestamp_millis() / 2_000
    };
    // One run in each interval of the clock, however long they take.
    assert_eq!(summaries.iter().map(slot).collect::<BTreeSet<_>>().len(), summaries.len(), "{outcome:?}");
}

#[tokio::test]
async fn a_run_that_fails_does_not_end_the_process_and_the_last_one_decides_the_exit_code() {
    let (world, api) = (World::new(1).await, faulty_api(&["status:404x1"]));
    let run = world.run(&api.url()).argument("--interval").argument("1s");
    let outcome = stopped_after(&world, run, 50).await;
    let first: Value = serde_json::from_str(outcome.lines.first().unwrap()).unwrap();
    assert_eq!((&first["status"], &first["stage"]), (&"failed".into(), &"fetch".into()), "{outcome:?}");
    assert_eq!(outcome.summary["status"], if outcome.code == 0 { "published" } else { "failed" });
}

#[tokio::test]
async fn a_run_that_takes_longer_than_the_interval_leaves_ticks_out_and_says_so() {
    let world = World::new(1).await;
    let slow = Answer::http("429 Too Many Requests", "Retry-After: 3\r\n", "");
    let api = Scripted::start([slow, Answer::ok(r#"[{"code":"A"}]"#)]).await;
    let run = world.run(&api.url).argument("--interval").argument("1s");
    let outcome = stopped_after(&world, run, 1).await;
    assert!(outcome.log.contains("these runs are left out"), "{}", outcome.log);
}
