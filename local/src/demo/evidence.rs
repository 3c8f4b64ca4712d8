//! What a run of the pipeline left behind, as it was found: plain data for [`super::proof`] to judge.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

/// A row of a table.
pub type Row = HashMap<String, AttributeValue>;

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// The topic's name.
    pub topic: String,
    /// What the price API answered, oldest first: the JSON of each coin, as the API wrote it.
    pub pages: Vec<Vec<String>>,
    /// The topic, by partition, in the order of the log.
    pub log: BTreeMap<i32, Vec<Record>>,
    /// Everything in the bucket, by key.
    pub objects: BTreeMap<String, Object>,
    /// The table with one row per coin and fetch.
    pub prices: Vec<Row>,
    /// The table with one row per coin.
    pub coins: Vec<Row>,
    /// The subject of each alert.
    pub alerts: Vec<String>,
    /// Why the Lambda host gave up an event, for each that it gave up.
    pub dead_letters: Vec<String>,
}

/// A record of the topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The coin's code.
    pub key: String,
    /// The coin's JSON.
    pub value: String,
    /// By name.
    pub headers: BTreeMap<String, String>,
}

/// An object of the bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    /// Its Content-Type.
    pub content_type: String,
    /// Its user metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its content.
    pub text: String,
}

/// The text of a row's attribute: of a string, or a number as it is written.
#[must_use]
pub fn text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    match row.get(name)? {
        AttributeValue::S(text) | AttributeValue::N(text) => Some(text),
        _ => None,
    }
}
