//! The tables against the topic.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::topic::Coin;
use super::{Check, Expected, count, decimal, fetched_at, place, records, runs};
use crate::demo::evidence::{Evidence, Record, Row, text};

/// `prices` has the row of each record, and no other.
pub(super) fn prices(evidence: &Evidence, expected: Expected) -> Check {
    let mut problems = count(expected.records(), evidence.prices.len());
    let mut rows = by_key(&evidence.prices, "timestamp");
    for (partition, record) in records(evidence) {
        match rows.remove(&(record.key.as_str(), fetched_at(record))) {
            Some(row) if text(row, "id") == record.headers.get("id").map(String::as_str) => {}
            Some(row) => problems.push(format!(
                "{}: the row's id is {:?}, the record's {:?}",
                place(partition, record),
                text(row, "id"),
                record.headers.get("id")
            )),
            None => problems.push(format!("{} has no row", place(partition, record))),
        }
    }
    problems.extend(rows.keys().map(|(code, at)| format!("the row {code} {at} has no record")));
    Check::new(format!("{} rows in prices, one of each record", expected.records()), problems)
}

/// The numbers of `prices` are the API's.
pub(super) fn price_numbers(evidence: &Evidence, expected: Expected) -> Check {
    let rows = by_key(&evidence.prices, "timestamp");
    let wrong = |(_, record): (i32, &Record)| {
        let row = rows.get(&(record.key.as_str(), fetched_at(record)))?;
        numbers_problem(row, record)
            .map(|problem| format!("{} {}: {problem}", record.key, fetched_at(record)))
    };
    let claim = format!("{} rates in prices are the API's, to the last decimal", expected.records());
    Check::new(claim, records(evidence).filter_map(wrong).collect())
}

/// `coins` has the newest run's coins, and no other.
pub(super) fn coins(evidence: &Evidence, expected: Expected) -> Check {
    let mut problems = count(expected.coins, evidence.coins.len());
    let newest = runs(evidence).into_keys().next_back().unwrap_or_default();
    let mut rows = by_key(&evidence.coins, "updatedAt");
    for (_, record) in records(evidence).filter(|(_, record)| fetched_at(record) == newest) {
        match rows.remove(&(record.key.as_str(), newest)) {
            Some(row) => {
                let problem = numbers_problem(row, record);
                problems.extend(problem.map(|problem| format!("{}: {problem}", record.key)));
            }
            None => problems.push(format!("{} has no row of {newest}", record.key)),
        }
    }
    problems.extend(rows.keys().map(|(code, at)| format!("the row {code} {at} is not of {newest}")));
    Check::new(format!("{} rows in coins, all of the newest run, rates too", expected.coins), problems)
}

/// Rows by code and by the member `at`.
fn by_key<'a>(rows: &'a [Row], at: &str) -> BTreeMap<(&'a str, &'a str), &'a Row> {
    let key = |row| (text(row, "code").unwrap_or_default(), text(row, at).unwrap_or_default());
    rows.iter().map(|row| (key(row), row)).collect()
}

fn numbers_problem(row: &Row, record: &Record) -> Option<String> {
    let coin = match Coin::read(&record.value) {
        Ok(coin) => coin,
        Err(problem) => return Some(problem),
    };
    [("rate", coin.rate), ("volume", coin.volume), ("cap", coin.cap)].into_iter().find_map(
        |(name, literal)| {
            let same = match row.get(name) {
                Some(AttributeValue::N(stored)) => decimal::equal(stored, literal.get()),
                Some(AttributeValue::Null(_)) => literal.get() == "null",
                _ => false,
            };
            (!same).then(|| format!("its {name} is {:?}, the API's {literal}", text(row, name)))
        },
    )
}
