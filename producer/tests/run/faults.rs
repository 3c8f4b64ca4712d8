//! Every row of the contract's failure table that is about the API, played by the embedded one: exit code, last
//! line, what is on the topic, what people are told.

use futures::{StreamExt, future::join_all, stream};

use crate::world::{World, faulty_api};

/// A fault that stays, the exit code, and words of the error.
const NEVER_DATA: [(&str, i32, &str); 27] = [
    ("status:401", 2, "the API's own words"),
    ("status:403", 2, "the API's own words"),
    ("status:400", 1, "HTTP 400"),
    ("status:404", 1, "HTTP 404"),
    ("status:429", 1, "HTTP 429"),
    ("status:500", 1, "HTTP 500"),
    ("status:503", 1, "HTTP 503"),
    ("retry-after:3600", 1, "it asks to be left alone for 3600s"),
    ("retry-after-date:3600", 1, "it asks to be left alone for 3"),
    ("error:401", 2, "error 401"),
    ("error:500", 1, "error 500"),
    ("html", 1, "web page"),
    ("html-502", 1, "web page"),
    ("empty", 1, "empty"),
    ("object", 1, "not a list"),
    ("no-body", 1, "not JSON"),
    ("cut", 1, "not JSON"),
    ("truncated", 1, "ask 127.0.0.1"),
    ("chunked-cut", 1, "ask 127.0.0.1"),
    ("drip:2", 1, "did not answer"),
    ("hang", 1, "did not answer"),
    ("hang-after-headers", 1, "did not answer"),
    ("hang-in-body", 1, "did not answer"),
    ("half-closed", 1, "ask 127.0.0.1"),
    ("reset", 1, "ask 127.0.0.1"),
    ("redirect:http://127.0.0.1:1/x", 1, "redirects are not followed"),
    ("all-malformed", 1, "none of the 6 entries"),
];

/// The same, for faults that are large.
const NEVER_ENDING: [(&str, i32, &str); 5] = [
    ("endless", 1, "is larger than 16777216 bytes"),
    ("gzip-bomb", 1, "is larger than 16777216 bytes"),
    ("header-flood", 1, "ask 127.0.0.1"),
    ("gzip-cut", 1, "ask 127.0.0.1"),
    ("not-utf8", 1, "not UTF-8"),
];

/// Runs `cases`, a few at a time, so that no run lacks the time that it measures.
async fn a_few_at_a_time<C, F: Future<Output = ()>>(
    at_once: usize,
    cases: impl IntoIterator<Item = C>,
    case: impl Fn(C) -> F,
) {
    stream::iter(cases.into_iter().map(case)).buffer_unordered(at_once).collect::<()>().await;
}

async fn publishes_nothing(
    (fault, code, words): (&str, i32, &str),
    run_deadline: &str,
    request_timeout: &str,
) {
    let (world, api) = (World::new(1).await, faulty_api(&[fault]));
    let run =
        world.run(&api.url()).with("RUN_DEADLINE", run_deadline).with("REQUEST_TIMEOUT", request_timeout);
    let outcome = run.finish().await;
    outcome.failed(code, "fetch", &[words]);
    assert!(world.records().await.is_empty(), "{fault}");
    let (subject, body) = world.alert();
    assert_eq!(subject, "[coinduit producer] api-failed: price API", "{fault}");
    assert!(body.contains(words), "{fault}: {body}");
}

#[tokio::test]
async fn what_is_no_answer_is_never_data_and_is_told() {
    a_few_at_a_time(7, NEVER_DATA, |case| publishes_nothing(case, "10s", "3s")).await;
}

#[tokio::test]
async fn what_has_no_end_is_given_up() {
    a_few_at_a_time(2, NEVER_ENDING, |case| publishes_nothing(case, "40s", "25s")).await;
}

#[tokio::test]
async fn what_passes_costs_a_run_nothing() {
    let cases = ["status:500x2", "htmlx1", "truncatedx1", "hangx1", "resetx1", "retry-after:1x1", "emptyx1"];
    let runs = cases.map(async |fault| {
        let (world, api) = (World::new(1).await, faulty_api(&[fault]));
        world.run(&api.url()).with("REQUEST_TIMEOUT", "2s").finish().await.published(50);
        assert_eq!(world.records().await.len(), 50, "{fault}");
        assert!(world.alerts().is_empty(), "{fault}: {:?}", world.alerts());
    });
    join_all(runs).await;
}

#[tokio::test]
async fn what_is_odd_but_a_page_is_published() {
    let cases = [("gzip", 50), ("content-type", 50), ("bom", 50), ("duplicates", 50), ("fewer:12", 12)];
    let runs = cases.map(async |(fault, records)| {
        let (world, api) = (World::new(1).await, faulty_api(&[fault]));
        let outcome = world.run(&api.url()).finish().await;
        outcome.published(records);
        let mut codes = world.codes().await;
        codes.dedup();
        assert_eq!((codes.len(), world.records().await.len()), (records, records), "{fault}");
        assert!(world.alerts().is_empty(), "{fault}");
        match fault {
            "duplicates" => assert_eq!(outcome.summary["repeated"], 50),
            "fewer:12" => assert_eq!(outcome.summary["requested"], 50),
            _ => {}
        }
    });
    join_all(runs).await;
}

#[tokio::test]
async fn ranks_that_shift_between_pages_repeat_no_coin() {
    let (world, api) = (World::new(2).await, faulty_api(&["shifting-ranks"]));
    let outcome = world.run(&api.url()).with("COINS", "150").finish().await;
    // The second page begins with the last three of the first; behind them there are no more coins.
    assert_eq!(outcome.published(100).summary["repeated"], 3);
    assert_eq!(world.records().await.len(), 100);
}

#[tokio::test]
async fn one_malformed_coin_is_told_with_its_position_and_the_others_are_published() {
    let (world, api) = (World::new(1).await, faulty_api(&["malformed:7"]));
    let outcome = world.run(&api.url()).finish().await;
    assert_eq!(outcome.published(49).summary["rejected"], 1);
    assert_eq!(world.records().await.len(), 49);
    let (subject, body) = world.alert();
    assert_eq!(subject, "[coinduit producer] coin-rejected: price API");
    assert!(body.contains("at position 7: it has no code"), "{body}");
}
