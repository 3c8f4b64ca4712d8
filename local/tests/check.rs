//! `consumer check`, the real binary, on the embedded stack: a set-up that is whole, and each thing that can be missing.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use coinduit_local::broker::{ApiKey, Fault, ResponseError};
use coinduit_local::stack::{Stack, StackConfig};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, UnknownTopicHandling};
use rskafka::record::Record;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOPIC: &str = "crypto_prices";

/// What `consumer check` printed.
struct Said {
    code: Option<i32>,
    out: String,
}

impl Said {
    fn document(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// The names of the steps that ended as `outcome`.
    fn steps(&self, outcome: &str) -> Vec<String> {
        let document = self.document();
        let steps = document["steps"].as_array().unwrap().iter();
        let ended = steps.filter(|step| step["outcome"] == outcome);
        ended.map(|step| step["step"].as_str().unwrap().to_owned()).collect()
    }

    /// What was found in the first failed step, and the advice.
    fn failure(&self) -> (String, String) {
        let document = self.document();
        let mut steps = document["steps"].as_array().unwrap().iter();
        let failed = steps.find(|step| step["outcome"] == "failed").expect("a failed step");
        (failed["found"].as_str().unwrap().to_owned(), failed["advice"].to_string())
    }
}

async fn check(stack: &Stack, arguments: &[&str], changes: &[(&str, &str)]) -> Said {
    let built = Path::new(env!("CARGO_BIN_EXE_coinduit-local")).with_file_name("consumer");
    assert!(built.is_file(), "there is no {}: run `cargo build` (make test does)", built.display());
    let mut command = Command::new(built);
    command.arg("check").args(arguments).env_clear().envs(stack.env()).env("HTTP_ADDR", "off");
    command.envs(changes.iter().copied()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    Said { code: output.status.code(), out }
}

async fn json(stack: &Stack, changes: &[(&str, &str)]) -> Said {
    check(stack, &["--json"], changes).await
}

async fn stack() -> Stack {
    Stack::start(StackConfig::default()).await.unwrap()
}

async fn publish(stack: &Stack, compression: Compression) {
    let client = ClientBuilder::new(vec![stack.kafka.bootstrap()]).build().await.unwrap();
    let partition = client.partition_client(TOPIC, 0, UnknownTopicHandling::Error).await.unwrap();
    let record = Record {
        key: None,
        value: Some(b"{}".to_vec()),
        headers: std::collections::BTreeMap::new(),
        timestamp: chrono::DateTime::UNIX_EPOCH,
    };
    partition.produce(vec![record], compression).await.unwrap();
}

/// Passes connections on to `upstream`, and answers back as `change` makes them.
async fn proxy(upstream: String, change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let change = Arc::new(change);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&upstream).await else { continue };
            let (mut from_client, to_client) = client.into_split();
            let (from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(changed(from_server, to_client, Arc::clone(&change)));
        }
    });
    address
}

async fn changed(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    change: Arc<impl Fn(&mut Vec<u8>)>,
) {
    while let Ok(length) = from.read_u32().await {
        let mut frame = vec![0; length as usize];
        if from.read_exact(&mut frame).await.is_err() {
            return;
        }
        change(&mut frame);
        if to.write_all(&[&length.to_be_bytes()[..], &frame].concat()).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_set_up_passes_again_and_again_and_changes_nothing() {
    let stack = stack().await;
    publish(&stack, Compression::Gzip).await;
    for _ in 0..2 {
        let said = json(&stack, &[]).await;
        assert_eq!((said.code, said.steps("failed")), (Some(0), Vec::new()), "{}", said.out);
        assert_eq!(said.steps("skipped"), ["alerts"]);
        assert!(said.out.contains("1 records, compressed with gzip"), "{}", said.out);
    }
    assert_eq!(stack.kafka.group("coinduit").map_or(0, |group| group.members.len()), 0);
    assert_eq!(stack.sns.published().len(), 0);

    let table = check(&stack, &["--notify"], &[]).await;
    assert_eq!(table.code, Some(0), "{}", table.out);
    assert!(
        table.out.contains("SNS has taken a test message") && table.out.contains(" 0 failed"),
        "{}",
        table.out
    );
    assert_eq!(stack.sns.published().len(), 1);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_check_leaves_disturbs_neither_run_nor_audit() {
    let stack = stack().await;
    publish(&stack, Compression::NoCompression).await;
    assert_eq!(json(&stack, &[]).await.code, Some(0));
    let consumer = Path::new(env!("CARGO_BIN_EXE_coinduit-local")).with_file_name("consumer");
    for arguments in [["run", "--exit-at-end"], ["audit", "--json"]] {
        let mut command = Command::new(&consumer);
        command.args(arguments).env_clear().envs(stack.env());
        if arguments[0] == "run" {
            command.env("HTTP_ADDR", "off");
        }
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
    let said = json(&stack, &[]).await;
    assert_eq!(said.code, Some(0), "{}", said.out);
    assert!(said.out.contains("the objects are this topic's"), "{}", said.out);

    let said = json(&stack, &[("COMPRESSION", "gzip")]).await;
    assert_eq!((said.code, said.steps("failed")), (Some(3), vec!["manifest".to_owned()]), "{}", said.out);
    let (found, advice) = said.failure();
    assert!(found.contains("compression is") && advice.contains("another S3_PREFIX"), "{}", said.out);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_named_and_not_created() {
    let stack = stack().await;
    let said = json(&stack, &[("KAFKA_TOPIC", "nobody_made_it")]).await;
    assert_eq!((said.code, said.steps("failed")), (Some(3), vec!["topic".to_owned()]), "{}", said.out);
    let (found, advice) = said.failure();
    assert!(found.contains("no topic nobody_made_it") && advice.contains("kafka-topics.sh"), "{}", said.out);
    assert_eq!(said.steps("skipped"), ["read", "commits", "alerts"]);
    assert!(stack.kafka.topic_id("nobody_made_it").is_none());
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_named_once() {
    let stack = stack().await;
    let said = json(&stack, &[("S3_BUCKET", "nobody-made-it")]).await;
    assert_eq!((said.code, said.steps("failed")), (Some(3), vec!["list".to_owned()]), "{}", said.out);
    assert!(said.failure().1.contains("create the bucket nobody-made-it"), "{}", said.out);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_told() {
    let stack = stack().await;
    let said = json(&stack, &[("AWS_SECRET_ACCESS_KEY", "wrong")]).await;
    assert_eq!((said.code, said.steps("failed")), (Some(3), vec!["list".to_owned()]), "{}", said.out);
    assert!(said.failure().1.contains("AWS_SECRET_ACCESS_KEY"), "{}", said.out);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_is_tried_by_itself() {
    let stack = stack().await;
    let both = format!("127.0.0.1:1,no-such-name.invalid:9092,{}", stack.kafka.bootstrap());
    let said = json(&stack, &[("KAFKA_BOOTSTRAP_SERVERS", &both)]).await;
    assert_eq!((said.code, said.steps("failed")), (Some(3), vec!["address".to_owned(); 2]), "{}", said.out);
    assert!(said.failure().0.contains("127.0.0.1:1"), "{}", said.out);
    assert!(said.out.contains("the name no-such-name.invalid can't be looked up"), "{}", said.out);

    // All that needs no broker is tried all the same.
    let said = json(&stack, &[("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")]).await;
    assert_eq!((said.code, said.steps("failed")), (Some(3), vec!["address".to_owned()]), "{}", said.out);
    let skipped = ["topic", "read", "coordinator", "commits", "membership", "alerts"];
    assert_eq!(said.steps("skipped"), skipped, "{}", said.out);
    assert!(said.steps("ok").contains(&"create".to_owned()), "{}", said.out);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_sends_clients_elsewhere_is_named_with_where() {
    let stack = stack().await;
    // The broker says 127.0.0.1; nobody listens at 127.0.0.9.
    let address = proxy(stack.kafka.bootstrap(), |frame| {
        let (from, to) = (b"127.0.0.1", b"127.0.0.9");
        while let Some(at) = frame.windows(from.len()).position(|window| window == from) {
            frame[at..at + from.len()].copy_from_slice(to);
        }
    })
    .await;
    let said = json(&stack, &[("KAFKA_BOOTSTRAP_SERVERS", &address)]).await;
    assert_eq!((said.code, &said.steps("failed")[0]), (Some(3), &"broker".to_owned()), "{}", said.out);
    let (found, advice) = said.failure();
    let port = stack.kafka.bootstrap().rsplit_once(':').unwrap().1.to_owned();
    assert!(found.contains(&format!("sends clients to 127.0.0.9:{port}")), "{found}");
    assert!(advice.contains("advertised.listeners"), "{advice}");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_comes_with_the_way_to_grant_it() {
    let stack = stack().await;
    for (api, error, step, words) in [
        (ApiKey::Fetch, ResponseError::TopicAuthorizationFailed, "read", "--operation Read --topic"),
        (ApiKey::OffsetFetch, ResponseError::GroupAuthorizationFailed, "commits", "--operation Read --group"),
        (
            ApiKey::Heartbeat,
            ResponseError::GroupAuthorizationFailed,
            "membership",
            "--operation Read --group",
        ),
    ] {
        stack.kafka.faults().inject(api, Fault::Error(error), 1);
        let said = json(&stack, &[]).await;
        assert_eq!((said.code, said.steps("failed")), (Some(3), vec![step.to_owned()]), "{}", said.out);
        assert!(said.failure().1.contains(words), "{}", said.out);
        assert!(said.failure().1.contains("User:ANONYMOUS"), "{}", said.out);
    }
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_found_out() {
    let stack = stack().await;
    let store = careless().await;
    for _ in 0..2 {
        let said = json(&stack, &[("AWS_ENDPOINT_URL_S3", &store)]).await;
        assert_eq!(said.code, Some(3), "{}", said.out);
        let failed = ["condition", "metadata", "condition", "metadata"];
        assert_eq!(said.steps("failed"), failed, "{}", said.out);
        let (found, advice) = said.failure();
        assert!(found.contains("ignores conditions") && advice.contains("If-None-Match"), "{}", said.out);
    }
    stack.stop().await;
}

/// A store that keeps what is put, whatever If-None-Match says, and forgets metadata.
async fn careless() -> String {
    use axum::http::{Method, StatusCode};
    use axum::response::IntoResponse;
    let objects = Arc::new(Mutex::new(std::collections::BTreeMap::<String, bytes::Bytes>::new()));
    let answer = move |method: Method, uri: axum::http::Uri, body: bytes::Bytes| {
        let mut objects = objects.lock().unwrap();
        let listing = uri.query().is_some_and(|query| query.contains("list-type"));
        let (status, body) = match objects.get(uri.path()) {
            _ if method == Method::PUT => {
                objects.insert(uri.path().to_owned(), body);
                (StatusCode::OK, bytes::Bytes::new())
            }
            _ if listing => {
                (StatusCode::OK, bytes::Bytes::from_static(b"<ListBucketResult></ListBucketResult>"))
            }
            Some(object) => (StatusCode::OK, object.clone()),
            None => {
                (StatusCode::NOT_FOUND, bytes::Bytes::from_static(b"<Error><Code>NoSuchKey</Code></Error>"))
            }
        };
        let headers = [("etag", "\"1\""), ("last-modified", "Mon, 23 Nov 2026 10:05:00 GMT")];
        std::future::ready((status, headers, body).into_response())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_can_not_be_read_are_no_finding() {
    let stack = stack().await;
    let said = json(&stack, &[("S3_BUCKET", "")]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    stack.stop().await;
}
