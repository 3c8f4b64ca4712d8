//! The price API over HTTP, as the producer meets it.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

mod support;

use coinduit_local::price_api::{DAILY_CREDITS, PriceApi, Prices};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn call(
    api: &PriceApi,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: Value,
) -> (StatusCode, Value) {
    let mut request = support::http().request(method, format!("{}{path}", api.url())).body(body.to_string());
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn a_fetch_costs_a_credit_and_brings_coins() {
    let api = PriceApi::start(support::any_port(), Prices::Moving { seed: 1 }).unwrap();
    let wanted = json!({ "currency": "USD", "sort": "rank", "order": "ascending", "offset": 0, "limit": 50, "meta": true });
    let (status, coins) = call(&api, Method::POST, "/coins/list", Some("k"), wanted).await;
    assert_eq!((status, coins.as_array().unwrap().len()), (StatusCode::OK, 50));
    assert_eq!((&coins[0]["code"], &coins[0]["symbol"]), (&json!("BTC"), &json!("₿")));

    let (_, credits) = call(&api, Method::POST, "/credits", Some("k"), json!({})).await;
    let expected = json!({ "dailyCreditsRemaining": DAILY_CREDITS - 1, "dailyCreditsLimit": DAILY_CREDITS });
    assert_eq!(credits, expected);

    let pages = support::get_json(format!("{}/_local/pages", api.url())).await;
    assert_eq!((&pages[0]["number"], &pages[0]["coins"]), (&json!(1), &coins));
    let served: Value = serde_json::from_slice(&api.served()[0].body).unwrap();
    assert_eq!(served, coins);
}

#[tokio::test]
async fn errors_are_the_apis_own() {
    let api = PriceApi::start(support::any_port(), Prices::Fixed).unwrap();
    api.set_credits(0);
    for (method, path, key, expected) in [
        (Method::GET, "/coins/list", Some("k"), 405),
        (Method::POST, "/coins/list", None, 401),
        (Method::POST, "/coins/list", Some(""), 401),
        (Method::POST, "/credits", None, 401),
        (Method::POST, "/coins/nothing", Some("k"), 404),
        (Method::POST, "/coins/map", Some("k"), 400),
        (Method::POST, "/coins/list", Some("k"), 429),
    ] {
        let (status, body) = call(&api, method, path, key, json!({})).await;
        assert_eq!((status.as_u16(), &body["error"]["code"]), (expected, &json!(expected)), "{path} {key:?}");
        assert!(body["error"]["description"].is_string());
    }
    assert_eq!(call(&api, Method::POST, "/status", None, json!({})).await, (StatusCode::OK, json!({})));
}
