//! The whole stack, as tests and `coinduit-local` start it.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use coinduit_local::credentials::{API_KEY, USER};
use coinduit_local::price_api::Prices;
use coinduit_local::stack::{PriceSource, Stack, StackConfig, StackError};
use object_store::ObjectStoreExt;

#[tokio::test]
async fn the_environment_names_everything_in_a_stable_order() {
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = Some(support::script(folder.path(), "exec sleep 1000000"));
    let config = StackConfig { bootstrap, drain: Duration::ZERO, ..StackConfig::default() };
    let stack = Stack::start(config).await.unwrap();
    let env = stack.env();
    let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "KAFKA_BOOTSTRAP_SERVERS",
            "KAFKA_TOPIC",
            "API_URL",
            "API_KEY",
            "S3_BUCKET",
            "SNS_TOPIC_ARN",
            "PRICES_TABLE",
            "COINS_TABLE",
            "AWS_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ENDPOINT_URL_S3",
            "AWS_ENDPOINT_URL_DYNAMODB",
            "AWS_ENDPOINT_URL_SNS",
            "COINDUIT_LOCAL_LAMBDA",
        ]
    );
    let env: HashMap<_, _> = env.into_iter().collect();
    assert_eq!(env["API_KEY"], API_KEY);
    support::store(&env["AWS_ENDPOINT_URL_S3"], USER).put(&"k".into(), "x".into()).await.unwrap();
    support::sns(&env["AWS_ENDPOINT_URL_SNS"])
        .publish()
        .topic_arn(&env["SNS_TOPIC_ARN"])
        .message("m")
        .send()
        .await
        .unwrap();
    let tables = support::dynamodb(&env["AWS_ENDPOINT_URL_DYNAMODB"]).list_tables().send().await.unwrap();
    assert_eq!(tables.table_names(), [env["COINS_TABLE"].as_str(), env["PRICES_TABLE"].as_str()]);
    support::get_json(format!("{}/_local/status", env["COINDUIT_LOCAL_LAMBDA"])).await;
    let data = stack.folder().to_owned();
    stack.stop().await;
    assert!(!data.exists(), "the temporary folder is still there");
}

#[tokio::test]
async fn a_live_price_source_is_handed_on() {
    let prices = PriceSource::Live { url: "https://prices.example".into(), key: "mine".into() };
    let stack = Stack::start(StackConfig { prices, ..StackConfig::default() }).await.unwrap();
    let env: HashMap<_, _> = stack.env().into_iter().collect();
    assert_eq!((env["API_URL"].as_str(), env["API_KEY"].as_str()), ("https://prices.example", "mine"));
    assert!(stack.price_api.is_none());
    stack.stop().await;
}

#[tokio::test]
async fn events_that_were_not_delivered_are_delivered_by_the_next_stack() {
    let folder = tempfile::tempdir().unwrap();
    let config = || StackConfig {
        data_dir: Some(folder.path().join("data")),
        bootstrap: Some(support::script(folder.path(), "exec sleep 1000000")),
        drain: Duration::ZERO,
        ..StackConfig::default()
    };
    // The function never takes an event.
    let first = Stack::start(config()).await.unwrap();
    let store = support::store(&first.s3.url(), USER);
    store.put(&"crypto_prices/partition=0/0.jsonl".into(), "{}".into()).await.unwrap();
    first.stop().await;

    let second = Stack::start(config()).await.unwrap();
    let host = second.lambda.as_ref().unwrap();
    let next = format!("{}/2018-06-01/runtime/invocation/next", host.url());
    let event = support::get_json(next).await;
    assert_eq!(event["Records"][0]["s3"]["object"]["key"], "crypto_prices/partition%3D0/0.jsonl");
    second.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind(support::any_port()).unwrap();
    let mut config = StackConfig { prices: PriceSource::Recorded(Prices::Fixed), ..StackConfig::default() };
    config.ports.api = taken.local_addr().unwrap().port();
    match Stack::start(config).await {
        Err(StackError::Service { service: "the price API", port, .. }) => {
            assert_eq!(port, taken.local_addr().unwrap().port());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_program_exports_its_stack_and_stops_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let env_file = folder.path().join("stack.env");
    let mut program = Command::new(env!("CARGO_BIN_EXE_coinduit-local"))
        .args(["--no-lambda", "--fixed-prices", "--env-file"])
        .arg(&env_file)
        .env("RUST_LOG", "info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(program.stdout.take().unwrap());
    let mut exports = String::new();
    // The last line, without a Lambda.
    while !exports.contains("AWS_ENDPOINT_URL_SNS") {
        assert_ne!(stdout.read_line(&mut exports).unwrap(), 0, "the program has ended");
    }
    assert!(exports.lines().all(|line| line.starts_with("export ") && line.ends_with('\'')), "{exports}");
    assert_eq!(std::fs::read_to_string(&env_file).unwrap(), exports);

    let killed = Command::new("kill").arg(program.id().to_string()).status().unwrap();
    assert!(killed.success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let mut log = String::new();
    program.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(program.wait().unwrap().code(), Some(0), "{log}");
    assert!(!env_file.exists());
    assert_eq!(rest, "");
    assert!(log.contains("stack started") && log.contains("stopped"), "{log}");
}

#[test]
fn the_program_refuses_nonsense_with_every_fault_and_exit_code_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_coinduit-local"))
        .args(["--bootstrap", "/nowhere/bootstrap", "--topic", "a topic"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/nowhere/bootstrap") && said.contains("a topic"), "{said}");
    assert!(output.stdout.is_empty());
}
