//! What the price API may answer, and what becomes of it: coins, one more try, or an error, but never an error as
//! data.

use futures::{StreamExt, future::join_all, stream};

use crate::{
    scripted::{Answer, Scripted},
    world::{KEY, World, price_api},
};

/// A good page of two coins.
const PAGE: &str = r#"[{"code":"BTC","rate":30328.19874964158},{"code":"_IMX","rate":1.50e+3}]"#;

fn good() -> Answer {
    Answer::ok(PAGE)
}

fn error_body(code: u16) -> String {
    format!(r#"{{"error":{{"code":{code},"status":"Status","description":"the API's own words"}}}}"#)
}

/// Answers that may be better the next time, with what the error says about each.
fn bad_weather() -> Vec<(&'static str, Answer, &'static str)> {
    let html = "<!DOCTYPE html><html><body>Bad gateway</body></html>";
    let json = "Content-Type: application/json\r\n";
    vec![
        ("500", Answer::http("500 Internal Server Error", "", ""), "HTTP 500"),
        ("503 of a proxy", Answer::http("503 Service Unavailable", "", html), "web page"),
        ("429", Answer::http("429 Too Many Requests", json, error_body(429)), "the API's own words"),
        ("200 with an error", Answer::ok(&error_body(500)), "the API's own words"),
        ("web page", Answer::http("200 OK", "Content-Type: text/html\r\n", html), "web page"),
        ("web page that claims to be JSON", Answer::ok(html), "web page"),
        ("empty list", Answer::ok("[]"), "empty"),
        ("empty object", Answer::ok("{}"), "not a list"),
        ("null", Answer::ok("null"), "not a list"),
        ("no body", Answer::ok(""), "not JSON"),
        ("list of other things", Answer::ok(r#"["error",7]"#), "none of the 2 entries"),
        ("cut off inside, with the right length", Answer::ok(&PAGE[..40]), "not JSON"),
        ("cut off before its length", Answer::promising(5_000, "200 OK", json, PAGE), "ask 127.0.0.1"),
        (
            "cut off before its last chunk",
            Answer::raw(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{}\r\n",
                &PAGE[..16]
            )),
            "ask 127.0.0.1",
        ),
        (
            "cut off gzip",
            Answer::http("200 OK", "Content-Encoding: gzip\r\n", &GZIPPED[..30]),
            "ask 127.0.0.1",
        ),
        ("closed before the first byte", Answer::raw(""), "ask 127.0.0.1"),
        ("not HTTP", Answer::raw("220 mail.example ESMTP\r\n"), "ask 127.0.0.1"),
        ("silence", Answer::raw("").hang(), "did not answer"),
        ("silence after the headers", Answer::promising(100, "200 OK", json, "").hang(), "did not answer"),
        ("silence in the body", Answer::promising(5_000, "200 OK", json, PAGE).hang(), "did not answer"),
        ("drops", Answer::promising(5_000, "200 OK", json, "[").drip(), "did not answer"),
    ]
}

/// `[{"code":"ZIP","rate":2.4980008270697834e-9}]`, as gzip -9n makes it.
const GZIPPED: [u8; 63] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x8b, 0xae, 0x56, 0x4a, 0xce, 0x4f, 0x49,
    0x55, 0xb2, 0x52, 0x8a, 0xf2, 0x0c, 0x50, 0xd2, 0x51, 0x2a, 0x4a, 0x2c, 0x01, 0x72, 0x8c, 0xf4, 0x4c,
    0x2c, 0x2d, 0x0c, 0x0c, 0x0c, 0x2c, 0x8c, 0xcc, 0x0d, 0xcc, 0x2c, 0xcd, 0x2d, 0x8c, 0x4d, 0x52, 0x75,
    0x2d, 0x6b, 0x63, 0x01, 0x8b, 0xb1, 0xb1, 0xd7, 0x2d, 0x00, 0x00, 0x00,
];

#[tokio::test]
async fn bad_weather_that_stays_publishes_nothing_and_says_what_it_is() {
    let cases = bad_weather().into_iter().map(async |(name, answer, says)| {
        let world = World::new(1).await;
        let api = Scripted::start([answer]).await;
        let outcome =
            world.run(&api.url).with("RUN_DEADLINE", "8s").with("REQUEST_TIMEOUT", "2s").finish().await;
        println!("{name}: {}", outcome.summary);
        outcome.failed(1, "fetch", &[says]).retryable(true);
        assert!(!api.asked().is_empty(), "{name}");
        assert!(world.records().await.is_empty(), "{name}");
        let (subject, body) = world.alert();
        assert_eq!(subject, "[coinduit producer] api-failed: price API", "{name}");
        assert!(body.contains(says), "{name}: {body}");
    });
    // A few at a time, so that no run lacks the time that it measures.
    stream::iter(cases).buffer_unordered(7).collect::<()>().await;
}

#[tokio::test]
async fn bad_weather_that_passes_is_tried_again_and_every_coin_is_there_once() {
    let cases = bad_weather().into_iter().map(async |(name, answer, _)| {
        let world = World::new(1).await;
        let api = Scripted::start([answer, good()]).await;
        world.run(&api.url).with("REQUEST_TIMEOUT", "2s").finish().await.published(2);
        assert_eq!(api.asked().len(), 2, "{name}");
        assert_eq!(world.codes().await, ["BTC", "_IMX"], "{name}");
        assert!(world.alerts().is_empty(), "{name}: {:?}", world.alerts());
    });
    join_all(cases).await;
}

#[tokio::test]
async fn an_answer_without_an_end_is_given_up() {
    let world = World::new(1).await;
    let endless = Answer::raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[").flood();
    let api = Scripted::start([endless, good()]).await;
    let outcome = world.run(&api.url).finish().await;
    outcome.published(2);
    assert!(outcome.log.contains("is larger than 16777216 bytes"), "{}", outcome.log);
    assert_eq!(world.codes().await, ["BTC", "_IMX"]);
}

#[tokio::test]
async fn a_refused_key_is_never_tried_twice() {
    let json = "Content-Type: application/json\r\n";
    let refusals = [
        Answer::http("401 Unauthorized", json, error_body(401)),
        Answer::http("403 Forbidden", json, error_body(403)),
        Answer::ok(&error_body(401)),
    ];
    let cases = refusals.into_iter().map(async |refusal| {
        let world = World::new(1).await;
        let api = Scripted::start([refusal, good()]).await;
        world.run(&api.url).finish().await.failed(2, "fetch", &["the API's own words"]).retryable(false);
        assert_eq!(api.asked().len(), 1);
        assert!(world.records().await.is_empty());
        let (subject, body) = world.alert();
        assert_eq!(subject, "[coinduit producer] api-failed: price API");
        assert!(body.contains("check API_KEY"), "{body}");
    });
    join_all(cases).await;
}

#[tokio::test]
async fn an_answer_that_stays_the_same_is_asked_for_once() {
    for status in ["400 Bad Request", "404 Not Found", "405 Method Not Allowed"] {
        let world = World::new(1).await;
        let api = Scripted::start([Answer::http(status, "", "no"), good()]).await;
        world.run(&api.url).finish().await.failed(1, "fetch", &[status, "no"]).retryable(false);
        assert_eq!(api.asked().len(), 1);
        assert!(world.records().await.is_empty());
    }
}

#[tokio::test]
async fn a_redirect_is_an_error_and_takes_the_key_nowhere() {
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let world = World::new(1).await;
        let elsewhere = Scripted::start([good()]).await;
        let location = format!("Location: {}/coins/list\r\n", elsewhere.url);
        let api = Scripted::start([Answer::http(status, &location, "")]).await;
        world.run(&api.url).finish().await.failed(1, "fetch", &[status]).retryable(false);
        assert!(elsewhere.asked().is_empty(), "{status}");
        assert!(world.records().await.is_empty());
    }
}

#[tokio::test]
async fn retry_after_is_obeyed_when_there_is_time_for_it() {
    let world = World::new(1).await;
    let api =
        Scripted::start([Answer::http("429 Too Many Requests", "Retry-After: 1\r\n", ""), good()]).await;
    let outcome = world.run(&api.url).finish().await;
    outcome.published(2);
    // The wait is part of the run, so the run is at least as long.
    assert!(outcome.summary["elapsed_ms"].as_u64() >= Some(1_000), "{outcome:?}");
    assert_eq!((api.asked().len(), world.codes().await.len()), (2, 2));
}

#[tokio::test]
async fn retry_after_beyond_the_deadline_ends_the_run_at_once() {
    let world = World::new(1).await;
    let api = Scripted::start([
        Answer::http("429 Too Many Requests", "Retry-After: 3600\r\n", error_body(429)),
        good(),
    ])
    .await;
    // An API that is out of credits is a failure like others (1), not a run that chose to do nothing (99).
    world.run(&api.url).finish().await.failed(1, "fetch", &["HTTP 429"]).retryable(true);
    assert_eq!((api.asked().len(), world.records().await.len()), (1, 0));
}

#[tokio::test]
async fn the_embedded_api_without_credits_fails_the_run() {
    let (world, api) = (World::new(1).await, price_api());
    api.set_credits(0);
    let run = world.run(&api.url()).with("RUN_DEADLINE", "6s").with("REQUEST_TIMEOUT", "2s");
    // With the guard it would be skipped.
    let outcome = run.with("MIN_CREDITS", "0").finish().await;
    outcome.failed(1, "fetch", &["HTTP 429", "credits"]).retryable(true);
    assert!(world.records().await.is_empty());
}

#[tokio::test]
async fn what_is_no_coin_is_reported_with_its_position_and_the_others_are_published() {
    let world = World::new(1).await;
    let page = r#"[{"code":"BTC"},{"name":"no code"},7,{"code":"_IMX"},{"code":null},{"code":""}]"#;
    let outcome = world.run(&Scripted::start([Answer::ok(page)]).await.url).finish().await;
    outcome.published(2);
    assert_eq!(outcome.summary["rejected"], 4, "{outcome:?}");
    assert_eq!(world.codes().await, ["BTC", "_IMX"]);
    let (subject, body) = world.alert();
    assert_eq!(subject, "[coinduit producer] coin-rejected: price API");
    assert!(body.contains("How many: 4") && body.contains("at position 1: it has no code"), "{body}");
}

#[tokio::test]
async fn the_body_is_believed_and_not_the_content_type() {
    for content_type in ["", "Content-Type: text/plain\r\n", "Content-Type: text/html; charset=latin1\r\n"] {
        let world = World::new(1).await;
        let api = Scripted::start([Answer::http("200 OK", content_type, PAGE)]).await;
        world.run(&api.url).finish().await.published(2);
        assert_eq!(world.codes().await, ["BTC", "_IMX"]);
    }
}

#[tokio::test]
async fn a_gzipped_page_is_read() {
    let world = World::new(1).await;
    let headers = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let api = Scripted::start([Answer::http("200 OK", headers, GZIPPED)]).await;
    world.run(&api.url).finish().await.published(1);
    assert!(api.asked()[0].head.to_lowercase().contains("accept-encoding: gzip"), "{:?}", api.asked());
    let value = world.records().await.remove(0).1.value.unwrap();
    assert_eq!(String::from_utf8(value).unwrap(), r#"{"code":"ZIP","rate":2.4980008270697834e-9}"#);
}

#[tokio::test]
async fn proxies_are_those_of_the_environment() {
    let world = World::new(1).await;
    // A proxy is asked with the whole address, and answers for a host that does not exist.
    let proxy = Scripted::start([good()]).await;
    let run = world.run("http://prices.example.invalid").with("HTTP_PROXY", &proxy.url);
    run.with("NO_PROXY", "127.0.0.1,localhost").finish().await.published(2);
    let head = &proxy.asked()[0].head;
    assert!(head.starts_with("POST http://prices.example.invalid/coins/list HTTP/1.1\r\n"), "{head}");

    let api = Scripted::start([good()]).await;
    let run = world.run(&api.url).with("HTTP_PROXY", "http://127.0.0.1:1").with("NO_PROXY", "127.0.0.1");
    run.finish().await.published(2);
    assert_eq!(api.asked().len(), 1);
}

#[tokio::test]
async fn a_hostile_retry_after_ends_the_run_and_not_the_process() {
    let world = World::new(1).await;
    let for_ever = Answer::http("429 Too Many Requests", "Retry-After: 18446744073709551615\r\n", "");
    let api = Scripted::start([for_ever]).await;
    world.run(&api.url).finish().await.failed(1, "fetch", &["HTTP 429"]).retryable(true);
}

#[tokio::test]
async fn the_question_is_what_the_apis_documentation_asks_for() {
    let world = World::new(1).await;
    let api = Scripted::start([good()]).await;
    let run = world.run(&format!("{}/v1/", api.url)).with("COINS", "7").with("CURRENCY", "EUR");
    run.finish().await.published(2);
    let question = api.asked().remove(0);
    assert!(question.head.starts_with("POST /v1/coins/list HTTP/1.1\r\n"), "{}", question.head);
    let head = question.head.to_lowercase();
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    assert!(head.contains(&format!("x-api-key: {KEY}\r\n")), "{head}");
    let expected = serde_json::json!({
        "currency": "EUR", "sort": "rank", "order": "ascending", "offset": 0, "limit": 7, "meta": true
    });
    assert_eq!(question.body, expected);
}

#[tokio::test]
async fn an_sns_that_is_down_or_silent_keeps_no_coin_back() {
    let silent = Scripted::start([Answer::raw("").hang()]).await;
    for sns in ["http://127.0.0.1:1", &silent.url] {
        let world = World::new(1).await;
        let api = Scripted::start([Answer::ok(r#"[{"code":"BTC"},7]"#)]).await;
        let outcome = world.run(&api.url).with("AWS_ENDPOINT_URL_SNS", sns).finish().await;
        outcome.published(1);
        assert_eq!(world.codes().await, ["BTC"]);
        assert!(outcome.log.contains("coin-rejected"), "{}", outcome.log);
    }
}
