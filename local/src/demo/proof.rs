//! The proof: what the price API served is compared with everything that the pipeline made of it.
//!
//! ```text
//! served pages == records on the topic == lines in objects == rows in prices; the newest run's == rows in coins
//! ```
//!
//! It is written without a line of the consumer's or the Lambda's code, from the contract alone, so that a mistake
//! of theirs is not made here a second time. It takes plain data and knows no service.

use std::collections::BTreeMap;
use std::fmt;

use super::evidence::{Evidence, Record};

mod decimal;
mod objects;
mod tables;
mod topic;

/// How many problems a failed check names.
const NAMED: usize = 3;

/// How much there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// How often the producer ran.
    pub runs: usize,
    /// How many coins it asked for each time.
    pub coins: usize,
}

impl Expected {
    /// One record, one line and one row for each coin of each run.
    #[must_use]
    pub const fn records(self) -> usize {
        self.runs * self.coins
    }
}

/// Something that should hold, and what speaks against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    claim: String,
    problems: Vec<String>,
}

impl Check {
    /// `claim` holds where nothing is in `problems`.
    #[must_use]
    pub fn new(claim: impl Into<String>, problems: Vec<String>) -> Self {
        Self { claim: claim.into(), problems }
    }

    /// Whether it holds.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Check {
    /// `ok      what holds`, or `FAILED  what should hold: what was found instead, and where`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.holds() {
            return write!(f, "ok      {}", self.claim);
        }
        let named: Vec<&str> = self.problems.iter().take(NAMED).map(String::as_str).collect();
        write!(f, "FAILED  {}: {}", self.claim, named.join("; "))?;
        match self.problems.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Every check, in the order of a price's way.
#[must_use]
pub fn checks(evidence: &Evidence, expected: Expected) -> Vec<Check> {
    let topic = [
        topic::served(evidence, expected),
        topic::counted(evidence, expected),
        topic::named(evidence, expected),
        topic::digits(evidence, expected),
        topic::underscores(evidence),
    ];
    let objects = [
        objects::counted(evidence, expected),
        objects::chained(evidence),
        objects::described(evidence),
        objects::lined(evidence, expected),
        objects::nothing_else(evidence),
    ];
    let tables = [
        tables::prices(evidence, expected),
        tables::price_numbers(evidence, expected),
        tables::coins(evidence, expected),
    ];
    let quiet = [
        Check::new("no alert was published", evidence.alerts.clone()),
        Check::new("no event was given up by the Lambda", evidence.dead_letters.clone()),
    ];
    topic.into_iter().chain(objects).chain(tables).chain(quiet).collect()
}

/// The problem that there are not as many as there should be, if it is one.
fn count(expected: usize, found: usize) -> Vec<String> {
    if expected == found { Vec::new() } else { vec![format!("expected {expected}, found {found}")] }
}

/// All records with their partitions.
fn records(evidence: &Evidence) -> impl Iterator<Item = (i32, &Record)> {
    evidence.log.iter().flat_map(|(partition, records)| records.iter().map(|record| (*partition, record)))
}

/// The runs' instants, ascending, and how many records each published. The first run was answered with the first
/// page.
fn runs(evidence: &Evidence) -> BTreeMap<&str, usize> {
    let mut runs = BTreeMap::new();
    for (_, record) in records(evidence) {
        *runs.entry(fetched_at(record)).or_default() += 1;
    }
    runs
}

fn fetched_at(record: &Record) -> &str {
    record.headers.get("fetched_at").map_or("", String::as_str)
}

/// Where a record is, for people.
fn place(partition: i32, record: &Record) -> String {
    format!("{} at partition {partition}, offset {}", record.key, record.offset)
}

#[cfg(test)]
mod tests;
