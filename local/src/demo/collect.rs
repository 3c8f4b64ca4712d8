//! Reads everything that a run left behind: the topic to its end, every object, every row.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Attribute, ObjectStore, ObjectStoreExt};
use rskafka::client::partition::{OffsetAt, PartitionClient};
use rskafka::record::RecordAndOffset;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::evidence::{Evidence, Object, Record, Row};
use super::services::{LookError, Services};

/// How much one fetch asks for.
const FETCH_BYTES: std::ops::Range<i32> = 1..8 << 20;
/// A fetch that finds nothing is answered at once.
const NO_WAIT_MS: i32 = 0;

/// Reads everything.
///
/// # Errors
/// [`LookError`] names what could not be read.
pub(super) async fn evidence(services: &Services) -> Result<Evidence, LookError> {
    let mut log = BTreeMap::new();
    for (number, partition) in &services.partitions {
        let start = partition.get_offset(OffsetAt::Earliest).await;
        let read = format!("read partition {number} of {}", services.topic);
        let start = start.map_err(LookError::at(read.clone()))?;
        let found = records_from(partition, start).await.map_err(LookError::at(read))?;
        log.insert(*number, found.into_iter().map(record).collect());
    }
    Ok(Evidence {
        topic: services.topic.clone(),
        pages: pages(&services.served().await?)?,
        log,
        objects: objects(services).await?,
        prices: rows(services, &services.prices).await?,
        coins: rows(services, &services.coins).await?,
        alerts: alerts(&services.published().await?)?,
        dead_letters: dead_letters(&services.dead_letters().await?)?,
    })
}

/// The records from `offset` to where the log ends now.
///
/// # Errors
/// rskafka's.
pub(super) async fn records_from(
    partition: &PartitionClient,
    mut offset: i64,
) -> Result<Vec<RecordAndOffset>, rskafka::client::error::Error> {
    let end = partition.get_offset(OffsetAt::Latest).await?;
    let mut records = Vec::new();
    while offset < end {
        let (more, _) = partition.fetch_records(offset, FETCH_BYTES, NO_WAIT_MS).await?;
        // The log has no gaps: nothing here deletes, compacts or aborts.
        let Some(last) = more.last() else { break };
        offset = last.offset + 1;
        records.extend(more);
    }
    Ok(records)
}

/// Text that is not UTF-8 is shown as what it is not; whatever it is compared with, it differs from.
fn record(found: RecordAndOffset) -> Record {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Record {
        offset: found.offset,
        timestamp_ms: found.record.timestamp.timestamp_millis(),
        key: text(found.record.key.unwrap_or_default()),
        value: text(found.record.value.unwrap_or_default()),
        headers: found.record.headers.into_iter().map(|(name, value)| (name, text(value))).collect(),
    }
}

async fn objects(services: &Services) -> Result<BTreeMap<String, Object>, LookError> {
    let listed: Vec<_> =
        services.bucket.list(None).try_collect().await.map_err(LookError::at("list the bucket"))?;
    let mut objects = BTreeMap::new();
    for listed in listed {
        let object = object(services, &listed.location).await;
        let object = object.map_err(LookError::at(format!("get object {}", listed.location)))?;
        objects.insert(listed.location.to_string(), object);
    }
    Ok(objects)
}

async fn object(services: &Services, key: &Path) -> object_store::Result<Object> {
    let found = services.bucket.get(key).await?;
    let mut object = Object::default();
    for (attribute, value) in &found.attributes {
        match attribute {
            Attribute::ContentType => object.content_type = value.to_string(),
            Attribute::Metadata(name) => {
                object.metadata.insert(name.to_string(), value.to_string());
            }
            _ => {}
        }
    }
    object.text = String::from_utf8_lossy(&found.bytes().await?).into_owned();
    Ok(object)
}

/// All rows of `table`.
///
/// # Errors
/// [`LookError`].
pub(super) async fn rows(services: &Services, table: &str) -> Result<Vec<Row>, LookError> {
    services
        .tables
        .scan()
        .table_name(table)
        .consistent_read(true)
        .into_paginator()
        .items()
        .send()
        .try_collect()
        .await
        .map_err(LookError::at(format!("scan table {table}")))
}

/// The coins of each page that the price API answered.
fn pages(json: &str) -> Result<Vec<Vec<String>>, LookError> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        coins: Vec<&'a RawValue>,
    }
    let pages: Vec<Page<'_>> = parse("the price API's pages", json)?;
    let texts = |page: Page<'_>| page.coins.into_iter().map(|coin| coin.get().to_owned()).collect();
    Ok(pages.into_iter().map(texts).collect())
}

fn alerts(json: &str) -> Result<Vec<String>, LookError> {
    #[derive(Deserialize)]
    struct Published {
        subject: Option<String>,
        message: String,
    }
    let published: Vec<Published> = parse("the published alerts", json)?;
    Ok(published.into_iter().map(|alert| alert.subject.unwrap_or(alert.message)).collect())
}

fn dead_letters(json: &str) -> Result<Vec<String>, LookError> {
    #[derive(Deserialize)]
    struct DeadLetter {
        reason: String,
    }
    let letters: Vec<DeadLetter> = parse("the Lambda's dead letters", json)?;
    Ok(letters.into_iter().map(|letter| letter.reason).collect())
}

fn parse<'a, T: Deserialize<'a>>(what: &str, json: &'a str) -> Result<T, LookError> {
    serde_json::from_str(json).map_err(LookError::at(format!("read {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_are_read_as_they_were_written() {
        let json = r#"[{"number":1,"at":"t","coins":[ {"rate": 2.4980008270697834e-9,
            "x":"1.0"} ]},{"number":2,"at":"t","coins":[]}]"#;
        let coin = "{\"rate\": 2.4980008270697834e-9,\n            \"x\":\"1.0\"}";
        assert_eq!(pages(json).unwrap(), [vec![coin.to_owned()], vec![]]);
    }

    #[test]
    fn an_alert_without_a_subject_is_its_message() {
        let json = r#"[{"subject":"s","message":"m","at":"t"},{"subject":null,"message":"m"}]"#;
        assert_eq!(alerts(json).unwrap(), ["s", "m"]);
        assert!(alerts("{}").unwrap_err().to_string().contains("alerts"));
    }

    #[test]
    fn a_dead_letter_says_why() {
        assert_eq!(dead_letters(r#"[{"event":{},"attempts":3,"reason":"r","at":"t"}]"#).unwrap(), ["r"]);
    }
}
