//! The objects against the topic, and against each other.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};

use super::{Check, Expected, count, place};
use crate::demo::evidence::{Evidence, Object, Record};

/// A data object, with what its key says.
struct Data<'a> {
    partition: i32,
    /// Its name: the offset it continues from.
    name: i64,
    key: &'a str,
    object: &'a Object,
}

impl<'a> Data<'a> {
    /// The object at `key`, if that is the key of a data object of `topic`.
    ///
    /// Source: the contract, "Objects in the bucket".
    fn read(topic: &str, key: &'a str, object: &'a Object) -> Option<Self> {
        let (partition, name) =
            key.strip_prefix(topic)?.strip_prefix("/partition=")?.strip_suffix(".jsonl")?.split_once('/')?;
        let whole = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = Self { partition: partition.parse().ok()?, name: name.parse().ok()?, key, object };
        whole.then_some(parsed)
    }

    fn lines(&self) -> Vec<&'a str> {
        self.object.text.lines().collect()
    }

    /// The number `name` of its metadata.
    fn number(&self, name: &str) -> Result<i64, String> {
        let value = self.object.metadata.get(name);
        value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("{}: {name} is {value:?}", self.key))
    }

    /// The records of the topic that it says to hold.
    fn records(&self, evidence: &'a Evidence) -> Vec<&'a Record> {
        let end = self.number("tooffset").unwrap_or(self.name);
        let log = evidence.log.get(&self.partition).map(Vec::as_slice).unwrap_or_default();
        log.iter().filter(|record| (self.name..end).contains(&record.offset)).collect()
    }
}

/// All data objects; a partition's are one after the other and in order, because keys are.
fn data(evidence: &Evidence) -> Vec<Data<'_>> {
    evidence.objects.iter().filter_map(|(key, object)| Data::read(&evidence.topic, key, object)).collect()
}

/// As many lines as records.
pub(super) fn counted(evidence: &Evidence, expected: Expected) -> Check {
    let data = data(evidence);
    let lines = data.iter().map(|data| data.lines().len()).sum();
    let claim = format!("{} lines in {} objects", expected.records(), data.len());
    Check::new(claim, count(expected.records(), lines))
}

/// Each partition's objects begin at 0, each continues where the one before it ends, and the last one ends where
/// the log does.
pub(super) fn chained(evidence: &Evidence) -> Check {
    let mut problems = Vec::new();
    let mut tails: BTreeMap<i32, i64> = BTreeMap::new();
    for data in data(evidence) {
        let tail = tails.entry(data.partition).or_default();
        if data.name != *tail {
            let fault = if data.name > *tail { "a gap" } else { "an overlap" };
            problems.push(format!("{}: expected to continue from {tail}, which is {fault}", data.key));
        }
        match (data.number("fromoffset"), data.number("tooffset")) {
            (Ok(from), Ok(to)) => {
                if from != data.name || to <= from {
                    problems.push(format!("{}: its metadata says {from} to {to}", data.key));
                }
                *tail = to;
            }
            (from, to) => problems.extend(from.err().into_iter().chain(to.err())),
        }
    }
    for (partition, log) in &evidence.log {
        let end = log.last().map_or(0, |last| last.offset + 1);
        let tail = tails.remove(partition).unwrap_or_default();
        if tail != end {
            problems.push(format!("partition {partition}: the log ends at {end}, its objects at {tail}"));
        }
    }
    problems.extend(tails.keys().map(|partition| format!("partition {partition} is not on the topic")));
    let claim = format!("the objects of {} partitions are chains without gap or overlap", evidence.log.len());
    Check::new(claim, problems)
}

/// What each object's metadata says is so.
pub(super) fn described(evidence: &Evidence) -> Check {
    let claim = "the metadata of every object agrees with its lines and the topic";
    Check::new(claim, data(evidence).iter().flat_map(|data| description_problems(data, evidence)).collect())
}

fn description_problems(data: &Data<'_>, evidence: &Evidence) -> Vec<String> {
    let records = data.records(evidence);
    let rfc3339 = |record: &&Record| {
        let at = DateTime::from_timestamp_millis(record.timestamp_ms).unwrap_or_default();
        at.to_rfc3339_opts(SecondsFormat::Millis, true)
    };
    let offset = |record: &&Record| record.offset.to_string();
    let expected = [
        ("format", Some("1".to_owned())),
        ("records", Some(data.lines().len().to_string())),
        ("quarantined", Some("0".to_owned())),
        ("skipped", None),
        ("firstoffset", records.first().map(offset)),
        ("lastoffset", records.last().map(offset)),
        ("firsttimestamp", records.first().map(rfc3339)),
        ("lasttimestamp", records.last().map(rfc3339)),
    ];
    let mut problems = Vec::new();
    for (name, expected) in expected {
        let found = data.object.metadata.get(name);
        if found != expected.as_ref() {
            problems.push(format!("{}: {name}: expected {expected:?}, found {found:?}", data.key));
        }
    }
    if data.object.content_type != "application/x-ndjson" {
        problems.push(format!("{}: its Content-Type is {:?}", data.key, data.object.content_type));
    }
    problems
}

/// Every record is one line, in the order of the log.
pub(super) fn lined(evidence: &Evidence, expected: Expected) -> Check {
    let mut problems = Vec::new();
    let mut found: BTreeMap<(i32, i64), usize> = BTreeMap::new();
    for data in data(evidence) {
        let (lines, records) = (data.lines(), data.records(evidence));
        if !data.object.text.ends_with('\n') {
            problems.push(format!("{}: its last line has no end", data.key));
        }
        if lines.len() != records.len() {
            let (lines, records) = (lines.len(), records.len());
            problems.push(format!("{}: {lines} lines for {records} records", data.key));
        }
        for (number, (line, record)) in lines.into_iter().zip(records).enumerate() {
            *found.entry((data.partition, record.offset)).or_default() += 1;
            if let Err(problem) = is_line_of(line, record) {
                let place = place(data.partition, record);
                problems.push(format!("{} line {}, expected {place}: {problem}", data.key, number + 1));
            }
        }
    }
    for (partition, record) in super::records(evidence) {
        match found.get(&(partition, record.offset)) {
            Some(1) => {}
            None => problems.push(format!("{} is in no line", place(partition, record))),
            Some(times) => problems.push(format!("{} is in {times} lines", place(partition, record))),
        }
    }
    let claim =
        format!("{} lines are the topic's records, each once, in order, byte for byte", expected.records());
    Check::new(claim, problems)
}

/// Whether `line` is the record's value, byte for byte, and after its last member what the headers say.
fn is_line_of(line: &str, record: &Record) -> Result<(), String> {
    let value = record.value.strip_suffix('}').ok_or("the record is no object")?;
    let appended = line.strip_prefix(value).ok_or("the line does not begin with the record's bytes")?;
    let appended = appended.strip_prefix(',').ok_or("nothing is appended to the record's members")?;
    let members: BTreeMap<String, String> = serde_json::from_str(&format!("{{{appended}"))
        .map_err(|error| format!("what is appended is no members: {error}"))?;
    let header = |name: &str| record.headers.get(name).cloned().unwrap_or_default();
    let expected: BTreeMap<String, String> =
        [("id", "id"), ("timestamp", "fetched_at"), ("source", "source"), ("currency", "currency")]
            .map(|(member, name)| (member.to_owned(), header(name)))
            .into();
    if members == expected { Ok(()) } else { Err(format!("appended are {members:?}, expected {expected:?}")) }
}

/// Nothing was quarantined, and nothing is there that nobody knows.
pub(super) fn nothing_else(evidence: &Evidence) -> Check {
    let manifest = format!("{}/_coinduit.json", evidence.topic);
    let other = evidence
        .objects
        .iter()
        .filter(|(key, object)| Data::read(&evidence.topic, key, object).is_none() && **key != manifest);
    let mut problems: Vec<String> = other.map(|(key, _)| key.clone()).collect();
    if !evidence.objects.contains_key(&manifest) {
        problems.push(format!("{manifest} is missing"));
    }
    Check::new("no record and no line is in quarantine, and nothing else is in the bucket", problems)
}
