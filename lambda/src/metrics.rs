//! One line on stdout per invocation, which CloudWatch makes into metrics: no call, no permission, no waiting.
//!
//! Namespace `Coinduit`, dimension `FunctionName`:
//!
//! | metric | unit | |
//! | --- | --- | --- |
//! | `Objects`, `Rows`, `Coins`, `StaleCoins`, `RejectedLines`, `IgnoredRecords` | Count | as in the answer |
//! | `Failures` | Count | objects, rows and records that were not stored |
//! | `Retries` | Count | requests to DynamoDB that were made again |
//! | `DataAge` | Milliseconds | from the API to the table: of the newest row, and of the oldest; absent without rows |
//!
//! Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format".

use std::io::{self, Write};

use chrono::DateTime;
use serde_json::{Map, Value, json};
use tracing::warn;

use crate::Summary;

const NAMESPACE: &str = "Coinduit";

/// What an invocation came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// What was done.
    pub done: Summary,
    /// How much was not.
    pub failures: usize,
    /// Requests to DynamoDB that were made again.
    pub retries: u64,
    /// The oldest and the newest `updatedAt` of the rows.
    pub ages: Option<(String, String)>,
}

impl Measured {
    /// Takes the ages of another object's rows into account.
    pub fn add_ages(&mut self, ages: Option<(String, String)>) {
        let Some((oldest, newest)) = ages else { return };
        self.ages = Some(match self.ages.take() {
            Some((first, last)) => (first.min(oldest), last.max(newest)),
            None => (oldest, newest),
        });
    }

    /// The line for the function named `function`, at `now_ms`.
    #[must_use]
    pub fn line(&self, function: &str, now_ms: i64) -> String {
        let Summary { objects, rows, coins, stale, rejected, ignored } = self.done;
        let mut metrics = Vec::new();
        let mut values = Map::new();
        let mut add = |name: &str, unit: &str, value: Value| {
            metrics.push(json!({ "Name": name, "Unit": unit }));
            values.insert(name.to_owned(), value);
        };
        for (name, value) in [
            ("Objects", objects),
            ("Rows", rows),
            ("Coins", coins),
            ("StaleCoins", stale),
            ("RejectedLines", rejected),
            ("IgnoredRecords", ignored),
            ("Failures", self.failures),
        ] {
            add(name, "Count", json!(value));
        }
        add("Retries", "Count", json!(self.retries));
        if let Some((oldest, newest)) = &self.ages {
            let mut ages: Vec<_> = [newest, oldest].into_iter().filter_map(|at| age(at, now_ms)).collect();
            ages.dedup();
            add("DataAge", "Milliseconds", json!(ages));
        }
        values.insert("FunctionName".to_owned(), json!(function));
        let metrics =
            json!([{ "Namespace": NAMESPACE, "Dimensions": [["FunctionName"]], "Metrics": metrics }]);
        values.insert("_aws".to_owned(), json!({ "Timestamp": now_ms, "CloudWatchMetrics": metrics }));
        Value::Object(values).to_string()
    }
}

/// Milliseconds since `at`; none where the clocks disagree.
fn age(at: &str, now_ms: i64) -> Option<i64> {
    let at = DateTime::parse_from_rfc3339(at).ok()?;
    Some(now_ms.saturating_sub(at.timestamp_millis()).max(0))
}

/// Where metrics go.
#[derive(Debug, Clone, Default)]
pub enum Metrics {
    /// To CloudWatch, by stdout, for the function of this name.
    Stdout(String),
    /// Nowhere.
    #[default]
    Off,
}

impl Metrics {
    /// Says what an invocation came to.
    pub fn report(&self, measured: &Measured, now_ms: i64) {
        let Self::Stdout(function) = self else { return };
        let line = measured.line(function, now_ms) + "\n";
        if let Err(error) = io::stdout().lock().write_all(line.as_bytes()) {
            warn!(%error, "metrics were not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_763_978_701_500;

    fn at(ms_ago: i64) -> String {
        coinduit_common::clock::rfc3339(DateTime::from_timestamp_millis(NOW - ms_ago).unwrap())
    }

    #[test]
    fn the_line_is_what_cloudwatch_makes_metrics_of() {
        let done = Summary { objects: 1, rows: 50, coins: 49, stale: 1, rejected: 2, ignored: 3 };
        let mut measured = Measured { done, failures: 4, retries: 5, ages: None };
        measured.add_ages(Some((at(1_500), at(1_500))));
        measured.add_ages(Some((at(70_000), at(1_400))));
        let line = measured.line("coinduit-prices", NOW);
        assert!(!line.contains('\n'));
        let line: Value = serde_json::from_str(&line).unwrap();
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!((&line["_aws"]["Timestamp"], &directive["Namespace"]), (&json!(NOW), &json!("Coinduit")));
        assert_eq!(directive["Dimensions"], json!([["FunctionName"]]));
        assert_eq!(line["FunctionName"], "coinduit-prices");
        for (name, unit, value) in [
            ("Objects", "Count", json!(1)),
            ("Rows", "Count", json!(50)),
            ("Coins", "Count", json!(49)),
            ("StaleCoins", "Count", json!(1)),
            ("RejectedLines", "Count", json!(2)),
            ("IgnoredRecords", "Count", json!(3)),
            ("Failures", "Count", json!(4)),
            ("Retries", "Count", json!(5)),
            ("DataAge", "Milliseconds", json!([1_400, 70_000])),
        ] {
            assert_eq!(line[name], value, "{name}");
            let metrics = directive["Metrics"].as_array().unwrap();
            assert!(metrics.contains(&json!({"Name": name, "Unit": unit})), "{name}");
        }
    }

    #[test]
    fn without_rows_there_is_no_age() {
        let line: Value = serde_json::from_str(&Measured::default().line("f", NOW)).unwrap();
        assert_eq!(line.get("DataAge"), None);
        assert!(!line["_aws"].to_string().contains("DataAge"));
    }

    #[test]
    fn a_row_of_one_instant_has_one_age_and_none_is_negative() {
        let age = |oldest: i64, newest: i64| {
            let measured = Measured { ages: Some((at(oldest), at(newest))), ..Measured::default() };
            serde_json::from_str::<Value>(&measured.line("f", NOW)).unwrap()["DataAge"].clone()
        };
        assert_eq!(age(7, 7), json!([7]));
        assert_eq!(age(7, -5), json!([0, 7]));
    }
}
