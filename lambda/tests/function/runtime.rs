//! The real binary under Lambda's Runtime API: how it starts, answers and fails to start.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::http::{Answer, Request, serve};

/// What a bootstrap posted: path and body.
type Posted = Arc<Mutex<Vec<(String, Value)>>>;

/// A Runtime API that hands out `event` once, and tells by the channel when something was posted.
async fn runtime_api(event: &'static str) -> (String, Posted, tokio::sync::mpsc::Receiver<()>) {
    let posted = Posted::default();
    let seen = Arc::clone(&posted);
    let (done, waiting) = tokio::sync::mpsc::channel(8);
    let given = AtomicBool::new(false);
    let answer = move |request: Request| -> Answer {
        if request.line == "GET /2018-06-01/runtime/invocation/next" {
            let headers = "lambda-runtime-aws-request-id: r-1\r\nlambda-runtime-deadline-ms: 4102444800000\r\n\
                           lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:000000000000:function:f\r\n";
            return (!given.swap(true, Ordering::Relaxed))
                .then(|| (200, headers.to_owned(), event.to_owned()));
        }
        seen.lock().unwrap().push((request.line, serde_json::from_slice(&request.body).unwrap()));
        done.try_send(()).unwrap();
        Some((202, String::new(), "{}".to_owned()))
    };
    (serve(answer).await.to_string(), posted, waiting)
}

fn bootstrap(api: &str, variables: &[(&str, &str)]) -> Child {
    command(api, variables).spawn().unwrap()
}

fn command(api: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootstrap"));
    command
        .env_clear()
        .envs([
            ("AWS_LAMBDA_RUNTIME_API", api),
            ("AWS_LAMBDA_FUNCTION_NAME", "f"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ])
        .envs([("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"), ("AWS_REGION", "us-east-1")])
        .envs([
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ])
        .envs(variables.iter().copied())
        .kill_on_drop(true);
    command
}

async fn answer_to(event: &'static str, variables: &[(&str, &str)]) -> (String, Value) {
    let (api, posted, mut waiting) = runtime_api(event).await;
    let _child = bootstrap(&api, variables);
    waiting.recv().await.unwrap();
    posted.lock().unwrap().remove(0)
}

#[tokio::test]
async fn an_event_is_answered_with_the_summary() {
    let (path, answer) = answer_to(r#"{"Service":"Amazon S3","Event":"s3:TestEvent"}"#, &[]).await;
    assert_eq!(path, "POST /2018-06-01/runtime/invocation/r-1/response");
    assert_eq!(answer["ignored"], 1, "{answer}");
    assert_eq!(answer["rows"], 0, "{answer}");
}

#[tokio::test]
async fn an_event_of_no_known_shape_fails_the_invocation() {
    let (path, answer) = answer_to(r#"{"detail":{}}"#, &[]).await;
    assert_eq!(path, "POST /2018-06-01/runtime/invocation/r-1/error");
    assert_eq!(answer["errorType"], "UnknownEvent");
    assert!(answer["errorMessage"].as_str().unwrap().contains("no known shape"), "{answer}");
}

/// S3 and DynamoDB as the binary's own clients see them: signed requests over HTTP.
#[tokio::test]
async fn an_object_of_an_event_is_fetched_and_its_line_is_put() {
    const LINE: &str =
        r#"{"code":"BTC","id":"1","timestamp":"2026-11-23T10:05:00.000Z","rate":70835.60280789908}"#;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let aws = serve(move |request| {
        let is_signed = request.headers.contains("authorization: aws4-hmac-sha256 credential=test/");
        let headers = "etag: \"e\"\r\nlast-modified: Mon, 23 Nov 2026 10:05:00 GMT\r\n".to_owned();
        seen.lock().unwrap().push((request.line.clone(), is_signed));
        Some((200, headers, if request.line.starts_with("GET") { LINE } else { "{}" }.to_owned()))
    });
    let event = r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"p/a+b.jsonl"}}}]}"#;
    let (path, answer) = answer_to(event, &[("AWS_ENDPOINT_URL", &format!("http://{}", aws.await))]).await;
    assert_eq!(path, "POST /2018-06-01/runtime/invocation/r-1/response", "{answer}");
    assert_eq!((&answer["objects"], &answer["rows"], &answer["coins"]), (&1.into(), &1.into(), &1.into()));
    let asked = asked.lock().unwrap();
    let post = ("POST /".to_owned(), true);
    assert_eq!(*asked, [("GET /b/p/a%20b.jsonl".to_owned(), true), post.clone(), post]);
}

#[tokio::test]
async fn the_version_that_was_created_is_fetched() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let aws = serve(move |request| {
        seen.lock().unwrap().push(request.line);
        let headers = "etag: \"e\"\r\nlast-modified: Mon, 23 Nov 2026 10:05:00 GMT\r\n".to_owned();
        Some((200, headers, "\n".to_owned()))
    });
    let event = r#"{"Records":[{"messageId":"m","eventSource":"aws:sqs","body":"{\"Records\":[{\"eventName\":\"ObjectCreated:Put\",\"s3\":{\"bucket\":{\"name\":\"b\"},\"object\":{\"key\":\"a.jsonl\",\"versionId\":\"v/7\"}}}]}"}]}"#;
    let (_, answer) = answer_to(event, &[("AWS_ENDPOINT_URL", &format!("http://{}", aws.await))]).await;
    assert_eq!(answer, serde_json::json!({"batchItemFailures": []}));
    assert_eq!(*asked.lock().unwrap(), ["GET /b/a.jsonl?versionId=v%2F7"]);
}

#[tokio::test]
async fn an_invocation_leaves_one_line_of_metrics_on_stdout() {
    let (api, posted, mut waiting) = runtime_api(r#"{"Records":[]}"#).await;
    let mut command = command(&api, &[]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    waiting.recv().await.unwrap();
    child.kill().await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    let line: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!((&line["FunctionName"], &line["Rows"]), (&"f".into(), &0.into()));
    assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Coinduit");
    drop(posted);
}

/// What `bootstrap replay` prints and exits with.
async fn replayed(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = command("", variables);
    let output =
        command.env_remove("AWS_LAMBDA_RUNTIME_API").arg("replay").args(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn replay_without_a_usable_place_is_a_wrong_setting() {
    for (arguments, problem) in [
        (&["bucket/prefix"][..], "write s3://bucket"),
        (&["s3://b/a/", "--from", "b/1.jsonl"][..], "does not begin with \"a/\""),
        (&["s3://b/a/", "--at-once", "0"][..], "--at-once"),
        (&[][..], "s3://BUCKET/PREFIX"),
    ] {
        let (code, _, log) = replayed(arguments, &[]).await;
        assert_eq!(code, 2, "{arguments:?}: {log}");
        assert!(log.contains(problem), "{arguments:?}: {log}");
    }
}

#[tokio::test]
async fn a_replay_of_a_bucket_that_is_not_there_is_misconfigured() {
    let aws = serve(|_| Some((404, String::new(), "<Error><Code>NoSuchBucket</Code></Error>".to_owned())));
    let url = format!("http://{}", aws.await);
    let (code, out, log) = replayed(&["s3://nowhere/a"], &[("AWS_ENDPOINT_URL", &url)]).await;
    assert_eq!(code, 2, "{log}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["status"], "failed");
    assert!(summary["error"].as_str().unwrap().starts_with("list bucket nowhere: "), "{summary}");
}

#[tokio::test]
async fn a_wrong_setting_is_reported_before_the_first_invocation() {
    let (api, posted, _waiting) = runtime_api("{}").await;
    let status =
        bootstrap(&api, &[("PRICES_TABLE", "a b"), ("SNS_TOPIC_ARN", "alerts")]).wait().await.unwrap();
    assert_eq!(status.code(), Some(2));
    let posted = posted.lock().unwrap();
    assert_eq!(posted[0].0, "POST /2018-06-01/runtime/init/error");
    assert_eq!(posted[0].1["errorType"], "Runtime.ConfigInvalid");
    let message = posted[0].1["errorMessage"].as_str().unwrap();
    assert!(message.contains("PRICES_TABLE") && message.contains("SNS_TOPIC_ARN"), "{message}");
}

#[tokio::test]
async fn outside_of_lambda_it_says_who_starts_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_bootstrap")).env_clear().output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("AWS_LAMBDA_RUNTIME_API") && text.contains("coinduit-local"), "{text}");
}
