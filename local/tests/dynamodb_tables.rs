//! The tables, through the client that the Lambda uses.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

mod support;

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, BillingMode, KeyType, TableStatus};
use coinduit_local::dynamodb::{COINS_TABLE, DynamoDb, PRICES_TABLE};

fn row(code: &str, timestamp: &str, rate: &str) -> HashMap<String, AttributeValue> {
    HashMap::from([
        ("code".to_owned(), AttributeValue::S(code.to_owned())),
        ("timestamp".to_owned(), AttributeValue::S(timestamp.to_owned())),
        ("rate".to_owned(), AttributeValue::N(rate.to_owned())),
    ])
}

#[tokio::test]
async fn both_tables_are_there_with_their_keys() {
    let service = DynamoDb::start(support::any_port(), None).unwrap();
    let client = support::dynamodb(&service.url());
    for (name, keys) in [
        (PRICES_TABLE, vec![("code", KeyType::Hash), ("timestamp", KeyType::Range)]),
        (COINS_TABLE, vec![("code", KeyType::Hash)]),
    ] {
        let table = client.describe_table().table_name(name).send().await.unwrap().table.unwrap();
        let found: Vec<_> =
            table.key_schema().iter().map(|key| (key.attribute_name(), key.key_type().clone())).collect();
        assert_eq!(found, keys);
        assert_eq!(table.table_status(), Some(&TableStatus::Active));
        let billing = table.billing_mode_summary().and_then(|billing| billing.billing_mode());
        assert_eq!(billing, Some(&BillingMode::PayPerRequest));
    }
}

#[tokio::test]
async fn numbers_keep_their_38_digits() {
    let service = DynamoDb::start(support::any_port(), None).unwrap();
    let client = support::dynamodb(&service.url());
    let rate = "1.2345678901234567890123456789012345678";
    let item = row("BTC", "2026-11-23T10:05:00.000Z", rate);
    client.put_item().table_name(PRICES_TABLE).set_item(Some(item.clone())).send().await.unwrap();
    let query = client
        .query()
        .table_name(PRICES_TABLE)
        .key_condition_expression("code = :code")
        .expression_attribute_values(":code", AttributeValue::S("BTC".into()));
    assert_eq!(query.send().await.unwrap().items(), [item]);
}

#[tokio::test]
async fn rows_outlive_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dynamodb.sqlite");
    let item = row("BTC", "2026-11-23T10:05:00.000Z", "1");
    for start in 0..2 {
        let service = DynamoDb::start(support::any_port(), Some(&file)).unwrap();
        let client = support::dynamodb(&service.url());
        if start == 0 {
            client.put_item().table_name(COINS_TABLE).set_item(Some(item.clone())).send().await.unwrap();
        } else {
            let rows = client.scan().table_name(COINS_TABLE).send().await.unwrap();
            assert_eq!(rows.items(), std::slice::from_ref(&item));
        }
        service.stop().await;
    }
}
