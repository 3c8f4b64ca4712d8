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
    world.run(&api.url).with("COINS", "400").finish().await.published(130);
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
    world.run(&api.url).with("COINS", "200").finish().await.published(197);
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
