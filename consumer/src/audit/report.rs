//! What an audit says in the end: a table for people, or one JSON document for programs.

use std::fmt;

use serde_json::{Value, json};

use super::finding::Finding;
use crate::ledger::metadata::Skip;

/// What was found of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionReport {
    /// The partition.
    pub partition: i32,
    /// Where its first object begins, if it has one that can be read.
    pub first: Option<i64>,
    /// Where its chain ends.
    pub tail: Option<i64>,
    /// Everything below it was to be handled: what the group has committed, or the tail.
    pub handled: Option<i64>,
    /// How many objects are named as the chain's.
    pub objects: usize,
    /// How many records they say they have.
    pub records: u64,
    /// The size of the objects that were read, in bytes.
    pub bytes: u64,
    /// How many records lie in quarantine.
    pub quarantined: usize,
    /// What was stepped over, as objects and commit say.
    pub skipped: Vec<Skip>,
    /// The offsets of the log, half-open, that were held against the objects.
    pub compared: Option<(i64, i64)>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is worth knowing, and not wrong.
    pub notes: Vec<String>,
}

impl PartitionReport {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new(partition: i32) -> Self {
        Self {
            partition,
            first: None,
            tail: None,
            handled: None,
            objects: 0,
            records: 0,
            bytes: 0,
            quarantined: 0,
            skipped: Vec::new(),
            compared: None,
            findings: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn to_json(&self) -> Value {
        let skipped = self
            .skipped
            .iter()
            .map(|skip| json!({ "from": skip.from, "to": skip.to, "reason": skip.reason.name() }));
        json!({
            "partition": self.partition,
            "first": self.first,
            "tail": self.tail,
            "handled": self.handled,
            "objects": self.objects,
            "records": self.records,
            "bytes_read": self.bytes,
            "quarantined": self.quarantined,
            "skipped": skipped.collect::<Vec<_>>(),
            "compared": self.compared.map(|(from, to)| json!({ "from": from, "to": to })),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

fn finding(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind.name(),
        "keys": finding.keys,
        "offsets": finding.offsets.map(|(from, to)| json!({ "from": from, "to": to })),
        "problem": finding.problem,
        "advice": finding.kind.advice(),
    })
}

/// Everything that an audit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The topic.
    pub topic: String,
    /// The bucket.
    pub bucket: String,
    /// Before every key.
    pub prefix: String,
    /// The group whose commits were looked at.
    pub group: String,
    /// Whether the log was asked: `reached`, or why not.
    pub kafka: String,
    /// What is wrong with the folder as a whole.
    pub findings: Vec<Finding>,
    /// What is worth knowing of it.
    pub notes: Vec<String>,
    /// One by one, ascending.
    pub partitions: Vec<PartitionReport>,
}

/// The sums over all partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Objects.
    pub objects: usize,
    /// Records in them.
    pub records: u64,
    /// Records in quarantine.
    pub quarantined: usize,
    /// Ranges that were stepped over.
    pub skipped: usize,
    /// Findings, those of the whole folder too.
    pub findings: usize,
}

impl Report {
    /// The sums.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let start = Totals { findings: self.findings.len(), ..Totals::default() };
        self.partitions.iter().fold(start, |sum, partition| Totals {
            objects: sum.objects + partition.objects,
            records: sum.records.saturating_add(partition.records),
            quarantined: sum.quarantined + partition.quarantined,
            skipped: sum.skipped + partition.skipped.len(),
            findings: sum.findings + partition.findings.len(),
        })
    }

    /// The document. Its members' names stay as they are.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Totals { objects, records, quarantined, skipped, findings } = self.totals();
        json!({
            "format": 1,
            "topic": self.topic,
            "bucket": self.bucket,
            "prefix": self.prefix,
            "group": self.group,
            "kafka": self.kafka,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "notes": self.notes,
            "partitions": self.partitions.iter().map(PartitionReport::to_json).collect::<Vec<_>>(),
            "totals": {
                "objects": objects,
                "records": records,
                "quarantined": quarantined,
                "skipped": skipped,
                "findings": findings,
            },
        })
    }
}

const HEADS: [&str; 9] =
    ["partition", "first", "tail", "handled", "objects", "records", "quarantined", "skipped", "findings"];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "topic {} in s3://{}/{}, group {}", self.topic, self.bucket, self.prefix, self.group)?;
        writeln!(f, "Kafka: {}\n", self.kafka)?;
        let totals = self.totals();
        for row in aligned(&self.rows(totals)) {
            writeln!(f, "{row}")?;
        }
        writeln!(f)?;
        findings(f, &format!("topic {}", self.topic), &self.findings)?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for partition in &self.partitions {
            let place = format!("partition {}", partition.partition);
            findings(f, &place, &partition.findings)?;
            for skip in &partition.skipped {
                let Skip { from, to, reason } = skip;
                writeln!(f, "skipped: {place}: offsets {from} to {}: {}", to - 1, reason.name())?;
            }
            for note in &partition.notes {
                writeln!(f, "note: {place}: {note}")?;
            }
        }
        match totals.findings {
            0 => writeln!(f, "nothing found"),
            1 => writeln!(f, "1 finding"),
            count => writeln!(f, "{count} findings"),
        }
    }
}

impl Report {
    fn rows(&self, totals: Totals) -> Vec<[String; 9]> {
        let offset = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let mut rows = vec![HEADS.map(ToOwned::to_owned)];
        rows.extend(self.partitions.iter().map(|partition| {
            [
                partition.partition.to_string(),
                offset(partition.first),
                offset(partition.tail),
                offset(partition.handled),
                partition.objects.to_string(),
                partition.records.to_string(),
                partition.quarantined.to_string(),
                partition.skipped.len().to_string(),
                partition.findings.len().to_string(),
            ]
        }));
        let none = String::new;
        rows.push([
            "total".to_owned(),
            none(),
            none(),
            none(),
            totals.objects.to_string(),
            totals.records.to_string(),
            totals.quarantined.to_string(),
            totals.skipped.to_string(),
            totals.findings.to_string(),
        ]);
        rows
    }
}

/// The rows with their columns under each other, to the right.
fn aligned(rows: &[[String; 9]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; 9] = std::array::from_fn(width);
    let line = |row: &[String; 9]| {
        row.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect()
}

fn findings(f: &mut fmt::Formatter<'_>, place: &str, findings: &[Finding]) -> fmt::Result {
    for finding in findings {
        writeln!(f, "finding: {place}: {finding}")?;
        writeln!(f, "         what to do: {}", finding.kind.advice())?;
    }
    Ok(())
}

impl Report {
    /// The report as it is printed.
    #[must_use]
    pub fn print(&self, json: bool) -> String {
        if json { format!("{:#}\n", self.to_json()) } else { self.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::finding::Kind, ledger::metadata::SkipReason};

    fn report() -> Report {
        let gap =
            Finding::new(Kind::Gap, &["a", "b"], "offsets 5 to 9 are in no object".to_owned()).at(5, 10);
        let partition = PartitionReport {
            first: Some(0),
            tail: Some(12),
            handled: Some(12),
            objects: 2,
            records: 7,
            bytes: 70,
            skipped: vec![Skip { from: 0, to: 3, reason: SkipReason::Reset }],
            compared: Some((4, 12)),
            findings: vec![gap],
            notes: vec!["it rains".to_owned()],
            ..PartitionReport::new(3)
        };
        Report {
            topic: "t".to_owned(),
            bucket: "b".to_owned(),
            prefix: "p/".to_owned(),
            group: "g".to_owned(),
            kafka: "reached".to_owned(),
            findings: Vec::new(),
            notes: Vec::new(),
            partitions: vec![partition, PartitionReport::new(10)],
        }
    }

    #[test]
    fn people_get_a_table_and_a_line_for_each_thing() {
        let expected = format!(
            "topic t in s3://b/p/, group g\nKafka: reached\n\n\
             partition  first  tail  handled  objects  records  quarantined  skipped  findings\n        \
             3      0    12       12        2        7            0        1         1\n       \
             10      -     -        -        0        0            0        0         0\n    \
             total                              2        7            0        1         1\n\n\
             finding: partition 3: gap: offsets 5 to 9 are in no object\n         what to do: {}\n\
             skipped: partition 3: offsets 0 to 2: reset\nnote: partition 3: it rains\n1 finding\n",
            Kind::Gap.advice()
        );
        assert_eq!(report().print(false), expected);
    }

    #[test]
    fn programs_get_one_document() {
        let document: Value = serde_json::from_str(&report().print(true)).unwrap();
        assert_eq!(
            document["totals"],
            json!({ "objects": 2, "records": 7, "quarantined": 0, "skipped": 1, "findings": 1 })
        );
        assert_eq!(
            document["partitions"][0],
            json!({
                "partition": 3, "first": 0, "tail": 12, "handled": 12, "objects": 2, "records": 7, "bytes_read": 70,
                "quarantined": 0, "skipped": [{ "from": 0, "to": 3, "reason": "reset" }],
                "compared": { "from": 4, "to": 12 },
                "findings": [{
                    "kind": "gap", "keys": ["a", "b"], "offsets": { "from": 5, "to": 10 },
                    "problem": "offsets 5 to 9 are in no object", "advice": Kind::Gap.advice(),
                }],
                "notes": ["it rains"],
            })
        );
        let head = (&document["format"], &document["prefix"], &document["kafka"], &document["group"]);
        assert_eq!(head, (&json!(1), &json!("p/"), &json!("reached"), &json!("g")));
        assert_eq!(document["partitions"][1]["first"], Value::Null);
    }
}
