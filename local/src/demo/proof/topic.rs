//! The topic against the pages that the price API served.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Check, Expected, count, fetched_at, place, records, runs};
use crate::demo::evidence::{Evidence, Record};

/// The namespace of ids.
///
/// Source: the contract, "Records on the topic".
const NAMESPACE: Uuid = Uuid::from_u128(0xb5b1_c2a4_0b1e_4b57_9a0e_6f4f_2f6d_3c11);
/// Codes that only look like a program's own names.
const UNDERSCORED: [&str; 2] = ["_IMX", "__GMX"];

/// The members of a coin that are compared, as they are written in it.
#[derive(Deserialize)]
pub(super) struct Coin<'a> {
    #[serde(borrow)]
    pub(super) code: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) rate: &'a RawValue,
    #[serde(borrow)]
    pub(super) volume: &'a RawValue,
    #[serde(borrow)]
    pub(super) cap: &'a RawValue,
}

impl<'a> Coin<'a> {
    pub(super) fn read(json: &'a str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| format!("no coin ({error}): {json}"))
    }
}

/// The price API answered once for each run.
pub(super) fn served(evidence: &Evidence, expected: Expected) -> Check {
    let Expected { runs, coins } = expected;
    let mut problems = count(runs, evidence.pages.len());
    let short = evidence.pages.iter().enumerate().filter(|(_, page)| page.len() != coins);
    problems.extend(short.map(|(index, page)| format!("page {} has {} coins", index + 1, page.len())));
    Check::new(format!("{runs} pages of {coins} coins served by the price API"), problems)
}

/// As many records as coins were served.
pub(super) fn counted(evidence: &Evidence, expected: Expected) -> Check {
    let mut problems = count(expected.records(), records(evidence).count());
    for (at, found) in runs(evidence) {
        if found != expected.coins {
            problems.push(format!("the run of {at} has {found}"));
        }
    }
    Check::new(format!("{} records on the topic", expected.records()), problems)
}

/// Key, headers and timestamp are the contract's.
pub(super) fn named(evidence: &Evidence, expected: Expected) -> Check {
    let wrong = |(partition, record)| {
        let problem = name_problem(record)?;
        Some(format!("{}: {problem}", place(partition, record)))
    };
    let claim = format!("{} records with key, id, source, currency and instant", expected.records());
    Check::new(claim, records(evidence).filter_map(wrong).collect())
}

fn name_problem(record: &Record) -> Option<String> {
    let coin = match Coin::read(&record.value) {
        Ok(coin) => coin,
        Err(problem) => return Some(problem),
    };
    if coin.code != record.key {
        return Some(format!("its value is of {}", coin.code));
    }
    let at = fetched_at(record);
    let instant = DateTime::parse_from_rfc3339(at).map(|at| at.timestamp_millis());
    if instant != Ok(record.timestamp_ms) {
        return Some(format!("its timestamp is {} ms, its fetched_at {at:?}", record.timestamp_ms));
    }
    let id = Uuid::new_v5(&NAMESPACE, format!("livecoinwatch/USD/{}/{at}", coin.code).as_bytes());
    [("id", id.to_string().as_str()), ("source", "livecoinwatch"), ("currency", "USD")]
        .into_iter()
        .find(|(name, value)| record.headers.get(*name).map(String::as_str) != Some(*value))
        .map(|(name, value)| format!("its {name} is {:?}, expected {value:?}", record.headers.get(name)))
}

/// Every record is a coin of its run's page, and every coin of every page is one record.
pub(super) fn digits(evidence: &Evidence, expected: Expected) -> Check {
    let compacted = |page: &Vec<String>| page.iter().map(|coin| compact(coin)).collect();
    let pages: Vec<Vec<String>> = evidence.pages.iter().map(compacted).collect();
    let mut problems = Vec::new();
    let mut exponents = 0;
    let mut example = None;
    let mut published: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (partition, record) in records(evidence) {
        let entry = published.entry((fetched_at(record), record.value.as_str())).or_default();
        entry.push(place(partition, record));
    }
    let runs = runs(evidence);
    for (at, page) in runs.keys().zip(&pages) {
        for served in page {
            let coin = match Coin::read(served) {
                Ok(coin) => coin,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            if coin.rate.get().contains(['e', 'E']) {
                exponents += 1;
                example.get_or_insert_with(|| format!("{} {}", coin.code, coin.rate));
            }
            match published.remove(&(*at, served.as_str())).unwrap_or_default().as_slice() {
                [_] => {}
                [] => problems.push(format!(
                    "{} with rate {} of the run of {at} is not on the topic as it was served",
                    coin.code, coin.rate
                )),
                twice => problems.push(format!("on the topic more than once: {}", twice.join(", "))),
            }
        }
    }
    let strangers = published.into_values().flatten();
    problems.extend(strangers.map(|place| format!("{place} is not as it was served")));
    let mut claim = format!("{} rates on the topic are the API's, digit for digit", expected.records());
    if let Some(example) = example {
        claim.push_str(&format!(" ({exponents} with an exponent, such as {example})"));
    }
    Check::new(claim, problems)
}

/// Codes that begin with underscores are coins like others.
pub(super) fn underscores(evidence: &Evidence) -> Check {
    let keys: BTreeSet<&str> = records(evidence).map(|(_, record)| record.key.as_str()).collect();
    let missing = UNDERSCORED.iter().filter(|code| !keys.contains(*code));
    Check::new(
        format!("{} are among the coins", UNDERSCORED.join(" and ")),
        missing.map(|code| format!("{code} is missing")).collect(),
    )
}

/// `json` without the white space between its parts. Strings and numbers stay as they are.
fn compact(json: &str) -> String {
    let (mut string, mut escaped) = (false, false);
    json.chars()
        .filter(|&c| {
            let keep = string || !matches!(c, ' ' | '\t' | '\n' | '\r');
            if c == '"' && !escaped {
                string = !string;
            }
            escaped = string && c == '\\' && !escaped;
            keep
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_space_between_parts_goes() {
        let json = "{ \"a b\" :\n[ 1.50 , -2e-9 ],\t\"c\": \"d \\\" e \\\\\" , \"f\":null }";
        assert_eq!(compact(json), r#"{"a b":[1.50,-2e-9],"c":"d \" e \\","f":null}"#);
    }
}
