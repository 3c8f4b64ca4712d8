//! The Lambda host with processes that stand in for `bootstrap`: shell scripts, and the tests themselves, which
//! speak the Runtime API where the function's answers matter.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coinduit_local::event_queue::EventQueue;
use coinduit_local::lambda_host::{InvokeError, LambdaConfig, LambdaHost, MAX_ATTEMPTS};
use coinduit_local::s3_event::{CreatedBy, ObjectCreated};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// A process that does nothing but be there.
const IDLE: &str = "exec sleep 1000000";
/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

fn config(bootstrap: PathBuf, events: &Arc<EventQueue>) -> LambdaConfig {
    LambdaConfig {
        address: support::any_port(),
        bootstrap,
        environment: vec![("PRICES_TABLE".into(), "prices".into())],
        events: Arc::clone(events),
        timeout: LONG,
        retry_delay: Duration::from_millis(1),
    }
}

fn push(events: &EventQueue, key: &str) {
    let at = "2026-11-23T10:05:00Z".parse().unwrap();
    let (bucket, etag) = ("coinduit".to_owned(), "e".to_owned());
    let event =
        ObjectCreated { bucket, key: key.into(), size: 1, etag, sequencer: 1, at, by: CreatedBy::Put };
    events.push(event, events.reserve_beyond_capacity());
}

/// The function, played by the test.
struct Function {
    url: String,
}

/// An event that the function has picked up.
struct Picked {
    id: String,
    deadline_ms: i64,
    event: Value,
}

impl Function {
    fn of(host: &LambdaHost) -> Self {
        Self { url: format!("{}/2018-06-01/runtime/invocation", host.url()) }
    }

    /// Asks for an event, again when the host says that it has started another process meanwhile.
    async fn next(&self) -> Picked {
        loop {
            let response = support::http().get(format!("{}/next", self.url)).send().await.unwrap();
            if response.status() == StatusCode::GONE {
                continue;
            }
            let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            let id = header("lambda-runtime-aws-request-id");
            let deadline_ms = header("lambda-runtime-deadline-ms").parse().unwrap();
            let event = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            return Picked { id, deadline_ms, event };
        }
    }

    async fn answer(&self, id: &str, how: &str, body: &'static str) -> StatusCode {
        support::http().post(format!("{}/{id}/{how}", self.url)).body(body).send().await.unwrap().status()
    }
}

#[tokio::test]
async fn an_event_is_handed_over_and_its_answer_counted() {
    let folder = tempfile::tempdir().unwrap();
    let events = Arc::new(EventQueue::new(10));
    let host = LambdaHost::start(config(support::script(folder.path(), IDLE), &events)).unwrap();
    let function = Function::of(&host);
    push(&events, "a b.jsonl");
    let picked = function.next().await;
    assert_eq!(picked.event["Records"][0]["s3"]["object"]["key"], "a+b.jsonl");
    assert!(picked.deadline_ms > 0);
    assert_eq!(function.answer(&picked.id, "response", "{}").await, StatusCode::ACCEPTED);
    assert_eq!(function.answer(&picked.id, "response", "{}").await, StatusCode::FORBIDDEN);
    support::until("the event is counted", async || host.counters().succeeded == 1).await;
    let counters = host.counters();
    assert_eq!((counters.invocations, counters.failed, counters.dead), (1, 0, 0));
    let status = support::get_json(format!("{}/_local/status", host.url())).await;
    assert_eq!(status["counters"]["succeeded"], 1);
    assert!(host.stop(LONG).await.is_empty());
}

#[tokio::test]
async fn a_failing_event_is_tried_three_times_while_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let events = Arc::new(EventQueue::new(10));
    let host = LambdaHost::start(config(support::script(folder.path(), IDLE), &events)).unwrap();
    let function = Function::of(&host);
    push(&events, "bad");
    push(&events, "good");
    let mut seen = Vec::new();
    for _ in 0..=MAX_ATTEMPTS {
        let picked = function.next().await;
        let key = picked.event["Records"][0]["s3"]["object"]["key"].as_str().unwrap().to_owned();
        let how = if key == "bad" { "error" } else { "response" };
        let body = r#"{"errorType":"Poison","errorMessage":"can't eat that"}"#;
        function.answer(&picked.id, how, body).await;
        seen.push(key);
    }
    seen.sort();
    assert_eq!(seen, ["bad", "bad", "bad", "good"]);
    support::until("the event is a dead letter", async || host.counters().dead == 1).await;
    let letters = support::get_json(format!("{}/_local/dead-letters", host.url())).await;
    assert_eq!(letters[0]["event"]["Records"][0]["s3"]["object"]["key"], "bad");
    assert!(letters[0]["reason"].as_str().unwrap().contains("can't eat that"));
    let counters = host.counters();
    assert_eq!((counters.invocations, counters.succeeded, counters.failed), (4, 1, 3));
    host.stop(LONG).await;
}

#[tokio::test]
async fn a_function_that_takes_too_long_is_ended_and_the_event_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = support::script(folder.path(), &format!("echo $$ >> {}\n{IDLE}", pids.display()));
    let events = Arc::new(EventQueue::new(10));
    let mut config = config(script, &events);
    config.timeout = Duration::from_millis(200);
    let host = LambdaHost::start(config).unwrap();
    let function = Function::of(&host);
    push(&events, "slow");
    let late = function.next().await;
    let again = function.next().await;
    assert_eq!(again.event, late.event);
    assert_eq!(function.answer(&late.id, "response", "{}").await, StatusCode::FORBIDDEN);
    let started = std::fs::read_to_string(&pids).unwrap();
    assert!(started.lines().count() >= 2, "another process: {started:?}");
    host.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_process_that_exits_is_started_again_and_its_events_end_as_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let events = Arc::new(EventQueue::new(10));
    let host = LambdaHost::start(config(support::script(folder.path(), "exit 1"), &events)).unwrap();
    push(&events, "k");
    support::until("the event is a dead letter", async || host.counters().dead == 1).await;
    let letter = &host.dead_letters()[0];
    assert_eq!(letter.attempts, MAX_ATTEMPTS);
    assert!(letter.reason.contains("exited"), "{}", letter.reason);
    host.stop(LONG).await;
}

#[tokio::test]
async fn the_function_gets_its_environment_and_not_the_operators() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("environment");
    let script =
        support::script(folder.path(), &format!("env > {0}.part\nmv {0}.part {0}\n{IDLE}", out.display()));
    let host = LambdaHost::start(config(script, &Arc::new(EventQueue::new(1)))).unwrap();
    support::until("the script has written", async || out.exists()).await;
    let environment = std::fs::read_to_string(&out).unwrap();
    let value = |name: &str| {
        environment.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    assert_eq!(value("PRICES_TABLE").as_deref(), Some("prices"));
    assert_eq!(value("AWS_LAMBDA_RUNTIME_API"), host.url().strip_prefix("http://").map(str::to_owned));
    assert_eq!(value("AWS_LAMBDA_FUNCTION_NAME").as_deref(), Some("coinduit"));
    // cargo sets this for every test.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert_eq!(value("CARGO_MANIFEST_DIR"), None);
    host.stop(LONG).await;
}

#[tokio::test]
async fn a_direct_invocation_returns_the_functions_answer() {
    let folder = tempfile::tempdir().unwrap();
    let events = Arc::new(EventQueue::new(1));
    let host = LambdaHost::start(config(support::script(folder.path(), IDLE), &events)).unwrap();
    let function = Function::of(&host);
    let url = format!("{}/2015-03-31/functions/coinduit/invocations", host.url());
    let call = tokio::spawn(support::http().post(&url).body(r#"{"Records":[]}"#).send());
    let picked = function.next().await;
    assert_eq!(picked.event, json!({ "Records": [] }));
    function.answer(&picked.id, "response", r#"{"rows":0}"#).await;
    assert_eq!(call.await.unwrap().unwrap().bytes().await.unwrap(), r#"{"rows":0}"#);

    let (outcome, ()) = tokio::join!(host.invoke("{}".into()), async {
        let picked = function.next().await;
        function.answer(&picked.id, "error", "no").await;
    });
    assert_eq!(outcome, Err(InvokeError::Function("no".into())));
    assert_eq!(host.counters().dead, 0);
    host.stop(LONG).await;
}

#[tokio::test]
async fn stopping_ends_the_process_and_returns_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = support::script(
        folder.path(),
        &format!("echo $$ > {0}.part\nmv {0}.part {0}\n{IDLE}", pid.display()),
    );
    let events = Arc::new(EventQueue::new(10));
    let host = LambdaHost::start(config(script, &events)).unwrap();
    let function = Function::of(&host);
    push(&events, "in the works");
    push(&events, "queued");
    support::until("the process is there", async || pid.exists()).await;
    function.next().await;
    let left: Vec<String> = host.stop(Duration::ZERO).await.into_iter().map(|event| event.key).collect();
    assert_eq!(left, ["in the works", "queued"]);
    let pid = std::fs::read_to_string(&pid).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "process {pid} is still there");
}
