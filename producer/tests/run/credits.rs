//! Is there anything left to spend? Asked before it is spent.

use futures::future::join_all;

use crate::{
    scripted::{Answer, Scripted},
    world::{World, faulty_api, price_api},
};

#[tokio::test]
async fn too_few_credits_skip_the_run_before_anything_is_spent() {
    let (world, api) = (World::new(1).await, price_api());
    api.set_credits(99);
    let outcome = world.run(&api.url()).finish().await;
    assert_eq!((outcome.code, &outcome.summary["status"]), (99, &"skipped".into()), "{outcome:?}");
    assert_eq!(outcome.summary["credits_remaining"], 99);
    assert!(outcome.summary["reason"].as_str().unwrap().contains("MIN_CREDITS (100)"), "{outcome:?}");
    assert!(api.served().is_empty() && world.records().await.is_empty());
    let (subject, body) = world.alert();
    assert_eq!(subject, "[coinduit producer] credits-low: price API");
    assert!(body.contains("midnight UTC"), "{body}");
}

#[tokio::test]
async fn enough_credits_are_counted_down_by_what_the_run_spends() {
    let (world, api) = (World::new(1).await, price_api());
    api.set_credits(100);
    let outcome = world.run(&api.url()).with("COINS", "150").finish().await;
    // Two pages: the second one is empty, and costs as much.
    assert_eq!(outcome.published(100).summary["credits_remaining"], 98);
}

#[tokio::test]
async fn without_the_guard_nobody_asks() {
    let (world, api) = (World::new(1).await, price_api());
    api.set_credits(1);
    let outcome = world.run(&api.url()).with("MIN_CREDITS", "0").finish().await;
    assert_eq!(outcome.published(50).summary["credits_remaining"], serde_json::Value::Null);
}

#[tokio::test]
async fn an_api_that_does_not_say_is_asked_for_prices_all_the_same() {
    let html = "<!DOCTYPE html><html></html>";
    let answers = [
        Answer::http("500 Internal Server Error", "", ""),
        Answer::http("404 Not Found", "", "no such thing"),
        Answer::http("429 Too Many Requests", "Retry-After: 3600\r\n", ""),
        Answer::ok(html),
        Answer::ok("{}"),
        Answer::ok(r#"{"error":{"code":503,"status":"s","description":"d"}}"#),
        Answer::raw(""),
        Answer::raw("").hang(),
    ];
    let cases = answers.into_iter().map(async |credits| {
        let world = World::new(1).await;
        let api = Scripted::with_credits(credits, [Answer::ok(r#"[{"code":"BTC"}]"#)]).await;
        let outcome = world.run(&api.url).finish().await;
        assert_eq!(outcome.published(1).summary["credits_remaining"], serde_json::Value::Null);
        assert!(outcome.log.contains("does not say how many credits"), "{}", outcome.log);
        assert!(world.alerts().is_empty());
    });
    join_all(cases).await;
}

#[tokio::test]
async fn the_embedded_api_can_be_short_of_credits() {
    let (world, api) = (World::new(1).await, faulty_api(&["credits:7x1", "credits-down"]));
    let skipped = world.run(&api.url()).finish().await;
    assert_eq!((skipped.code, &skipped.summary["credits_remaining"]), (99, &7.into()));
    world.run(&api.url()).finish().await.published(50);
}
