//! More coins than one answer holds.

use crate::{
    scripted::{Answer, Scripted},
    world::{World, price_api},
};

fn page(codes: std::ops::Range<usize>) -> Answer {
    let coins: Vec<String> = codes.map(|code| format!(r#"{{"code":"C{code}"}}"#)).collect();
    Answer::ok(&format!("[{}]", coins.join(",")))
}

/// Offset and limit of each question.
fn windows(api: &Scripted) -> Vec<(u64, u64)> {
    let window =
        |body: &serde_json::Value| (body["offset"].as_u64().unwrap(), body["limit"].as_u64().unwrap());
    api.asked().iter().map(|question| window(&question.body)).collect()
}

#[tokio::test]
async fn a_hundred_coins_are_one_question() {
    let (world, api) = (World::new(2).await, price_api());
    world.run(&api.url()).with("COINS", "100").finish().await.published(100);
    assert_eq!((api.served().len(), world.records().await.len()), (1, 100));
}

#[tokio::test]
async fn pages_end_where_the_apis_list_ends() {
    let (world, api) = (World::new(2).await, price_api());
    world.run(&api.url()).with("COINS", "150").finish().await.published(100);
    // The empty page after the last coin is the end and no bad weather, so it is asked for once.
    assert_eq!((api.served().len(), world.records().await.len()), (2, 100));
    assert!(world.alerts().is_empty());
}

#[tokio::test]
async fn a_short_page_is_the_last_one() {
    let world = World::new(1).await;
    let api = Scripted::start([page(0..100), page(100..130)]).await;
    let outcome = world.run(&api.url).with("COINS", "400").finish().await;
    assert_eq!(outcome.published(130).summary["requested"], 400);
    assert_eq!(windows(&api), [(0, 100), (100, 100)]);
}

#[tokio::test]
async fn the_last_page_asks_for_the_rest() {
    let world = World::new(1).await;
    let api = Scripted::start([page(0..100), page(100..120)]).await;
    world.run(&api.url).with("COINS", "120").finish().await.published(120);
    assert_eq!(windows(&api), [(0, 100), (100, 20)]);
}

#[tokio::test]
async fn a_coin_that_moved_between_two_questions_is_published_once() {
    let world = World::new(1).await;
    let api = Scripted::start([page(0..100), page(97..197)]).await;
    let outcome = world.run(&api.url).with("COINS", "200").finish().await;
    assert_eq!(outcome.published(197).summary["repeated"], 3);
    let mut codes = world.codes().await;
    codes.dedup();
    assert_eq!((codes.len(), world.records().await.len()), (197, 197));
}

#[tokio::test]
async fn nothing_is_published_when_a_later_page_fails() {
    let world = World::new(1).await;
    let api = Scripted::start([page(0..100), Answer::http("400 Bad Request", "", "no")]).await;
    world.run(&api.url).with("COINS", "200").finish().await.failed(1, "fetch", &["HTTP 400"]);
    assert!(world.records().await.is_empty());
}

#[tokio::test]
async fn a_watch_list_is_one_question_for_its_coins_alone() {
    let world = World::new(2).await;
    let api = Scripted::start([Answer::ok(r#"[{"code":"BTC"},{"code":"_IMX"},{"code":"OTHER"}]"#)]).await;
    let run = world.run(&api.url).with("CODES", "_IMX, BTC,_IMX").with("CURRENCY", "EUR");
    run.finish().await.published(2);
    let question = api.asked().remove(0);
    assert!(question.head.starts_with("POST /coins/map HTTP/1.1\r\n"), "{}", question.head);
    assert_eq!(question.body["codes"], serde_json::json!(["_IMX", "BTC"]));
    assert_eq!((&question.body["limit"], &question.body["currency"]), (&2.into(), &"EUR".into()));
    assert_eq!(world.codes().await, ["BTC", "_IMX"]);
    assert!(world.alerts().is_empty());
}

#[tokio::test]
async fn codes_that_the_api_does_not_have_are_told_and_the_others_published() {
    let (world, api) = (World::new(2).await, price_api());
    let outcome = world.run(&api.url()).with("CODES", "BTC,NOPE,_IMX,NEVER").finish().await;
    assert_eq!(outcome.published(2).summary["missing"], serde_json::json!(["NOPE", "NEVER"]));
    let (subject, body) = world.alert();
    assert_eq!(subject, "[coinduit producer] coin-rejected: CODES");
    assert!(body.contains("NOPE, NEVER"), "{body}");
}

#[tokio::test]
async fn a_watch_list_of_which_the_api_has_nothing_is_a_failure() {
    let (world, api) = (World::new(1).await, price_api());
    let outcome = world.run(&api.url()).with("CODES", "NOPE,NEVER").finish().await;
    outcome.failed(1, "fetch", &["none of the 2 codes of CODES", "NOPE, NEVER"]).retryable(true);
    assert!(world.records().await.is_empty());
    assert!(world.alert().1.contains("check CODES"));
}
