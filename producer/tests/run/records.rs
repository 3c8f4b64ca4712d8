//! What a record on the topic is, byte by byte.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use rskafka::record::Record;
use serde_json::Value;
use uuid::{Uuid, uuid};

use crate::{
    scripted::{Answer, Scripted},
    world::{World, price_api},
};

/// The namespace of all ids, from the contract.
const NAMESPACE: Uuid = uuid!("b5b1c2a4-0b1e-4b57-9a0e-6f4f2f6d3c11");

fn text(bytes: Option<&Vec<u8>>) -> &str {
    std::str::from_utf8(bytes.unwrap()).unwrap()
}

fn value_of(records: &[(i32, Record)], code: &str) -> String {
    let found = records.iter().find(|(_, record)| text(record.key.as_ref()) == code).unwrap();
    text(found.1.value.as_ref()).to_owned()
}

#[tokio::test]
async fn a_value_is_the_apis_object_without_white_space_and_with_every_digit() {
    let world = World::new(1).await;
    let page = r#"
        [ { "code" : "BTC" , "rate" : 70835.60280789908 , "tiny" : 2.4980008270697834e-9 ,
            "odd" : [ 1.50E+03 , -0.0 , 0.10 , 12345678901234567890123456789012345678901 ] } ,
          { "unknown" : { "a" : null , "b" : "two  words, \" { and \u20bf \\" } , "code" : "\u005fIMX" } ]
    "#;
    world.run(&Scripted::start([Answer::ok(page)]).await.url).finish().await.published(2);
    let records = world.records().await;
    assert_eq!(
        value_of(&records, "BTC"),
        r#"{"code":"BTC","rate":70835.60280789908,"tiny":2.4980008270697834e-9,"odd":[1.50E+03,-0.0,0.10,12345678901234567890123456789012345678901]}"#
    );
    assert_eq!(
        value_of(&records, "_IMX"),
        r#"{"unknown":{"a":null,"b":"two  words, \" { and \u20bf \\"},"code":"\u005fIMX"}"#
    );
}

#[tokio::test]
async fn every_recorded_coin_arrives_as_it_was_served() {
    let (world, api) = (World::new(6).await, price_api());
    world.run(&api.url()).with("COINS", "100").finish().await.published(100);
    let served: Vec<Value> = serde_json::from_slice(&api.served()[0].body).unwrap();
    let mut served: BTreeMap<&str, &Value> =
        served.iter().map(|coin| (coin["code"].as_str().unwrap(), coin)).collect();
    let records = world.records().await;
    for (_, record) in &records {
        let value: Value = serde_json::from_str(text(record.value.as_ref())).unwrap();
        assert_eq!(served.remove(text(record.key.as_ref())), Some(&value));
    }
    assert!(served.is_empty(), "{served:?}");
    // As numbers, other digits would be equal, too.
    assert!(value_of(&records, "BTC").contains(r#""rate":120361.96212658589,"volume":61836701177,"#));
    assert!(value_of(&records, "BABYDOGE").contains(r#""rate":2.4980008270697834e-9,"#));
    assert!(value_of(&records, "_IMX").starts_with('{'));
}

#[tokio::test]
async fn one_instant_is_in_the_summary_in_every_header_and_in_every_timestamp() {
    let (world, api) = (World::new(6).await, price_api());
    let outcome = world.run(&api.url()).with("COINS", "100").with("CURRENCY", "EUR").finish().await;
    let fetched_at = outcome.published(100).summary["fetched_at"].as_str().unwrap();
    let instant = DateTime::parse_from_rfc3339(fetched_at).unwrap().to_utc();
    assert_eq!(instant.to_rfc3339_opts(SecondsFormat::Millis, true), fetched_at);
    for (_, record) in world.records().await {
        let code = text(record.key.as_ref());
        let name = format!("livecoinwatch/EUR/{code}/{fetched_at}");
        let id = Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string();
        let headers: Vec<(&str, &str)> =
            record.headers.iter().map(|(name, value)| (name.as_str(), text(Some(value)))).collect();
        assert_eq!(
            headers,
            [("currency", "EUR"), ("fetched_at", fetched_at), ("id", &id), ("source", "livecoinwatch")]
        );
        assert_eq!(record.timestamp, instant);
    }
}

/// The partitions were computed by another implementation of Kafka's murmur2.
#[tokio::test]
async fn a_key_is_placed_as_the_java_clients_place_it() {
    let (world, api) = (World::new(6).await, price_api());
    world.run(&api.url()).with("COINS", "100").finish().await.published(100);
    let places: BTreeMap<String, i32> = (world.records().await.iter())
        .map(|(partition, record)| (text(record.key.as_ref()).to_owned(), *partition))
        .collect();
    for (code, partition) in
        [("BTC", 4), ("ETH", 1), ("USDT", 2), ("_IMX", 3), ("__GMX", 0), ("SOL", 3), ("DOGE", 1)]
    {
        assert_eq!(places[code], partition, "{code}");
    }
}

#[tokio::test]
async fn a_key_need_not_be_ascii() {
    let world = World::new(3).await;
    let api = Scripted::start([Answer::ok(r#"[{"code":"₿/ x"}]"#)]).await;
    world.run(&api.url).finish().await.published(1);
    assert_eq!(world.codes().await, ["₿/ x"]);
}
