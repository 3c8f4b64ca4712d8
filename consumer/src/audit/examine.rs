//! What the bucket says of one partition: is it a chain without gap and overlap, and does it agree with itself?
//!
//! ```text
//! objects, by name --each by itself--> Link --each with the one before--> findings, PartitionReport
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::{
    finding::{Finding, Kind},
    handled::Commit,
    report::PartitionReport,
};
use crate::ledger::{
    bucket::UserMetadata,
    metadata::{ObjectMetadata, Skip, Stored},
};

/// What was found of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The partition.
    pub partition: i32,
    /// What is named as an object of its chain, in any order.
    pub objects: Vec<SeenObject>,
    /// Other keys in its folder.
    pub strangers: Vec<String>,
    /// The offsets of its records in quarantine.
    pub quarantine: BTreeSet<i64>,
    /// What the group has committed.
    pub commit: Commit,
}

/// An object in a partition's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenObject {
    /// The number in its name.
    pub name: i64,
    /// Its key.
    pub key: String,
    /// What it says of itself; `None` where it was gone when it was asked.
    pub metadata: Option<UserMetadata>,
}

/// An object that can be read, and so takes part in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its key.
    pub key: String,
    /// Where it begins.
    pub from: i64,
    /// Where it ends.
    pub to: i64,
    /// How many lines it says it has.
    pub records: u64,
    /// What it steps over.
    pub skipped: Vec<Skip>,
}

/// Examines one partition; also returns the links of its chain, by name.
#[must_use]
pub fn examine(mut seen: Seen) -> (PartitionReport, Vec<Link>) {
    seen.objects.sort_by(|a, b| (a.name, &a.key).cmp(&(b.name, &b.key)));
    let mut report = PartitionReport::new(seen.partition);
    report.objects = seen.objects.len();
    report.quarantined = seen.quarantine.len();
    report.findings.extend(
        seen.strangers
            .iter()
            .map(|key| Finding::new(Kind::Stranger, &[key], format!("{key} is no object of the chain"))),
    );
    repeated(&seen.objects, &mut report.findings);

    let mut links = Vec::new();
    let mut walk = Walk { end: None, blind: false };
    let mut last_name = None;
    for object in &seen.objects {
        // The second of one name is reported already, and continues nothing.
        let twin = last_name.replace(object.name) == Some(object.name);
        match read(object) {
            Ok(metadata) if !twin => {
                agree(&object.key, &metadata, &seen.quarantine, &mut report.findings);
                walk.step(&object.key, metadata.from_offset, metadata.to_offset, &mut report.findings);
                report.records = report.records.saturating_add(metadata.records);
                report.skipped.extend(&metadata.skipped);
                report.first = report.first.or(Some(metadata.from_offset));
                links.push(Link {
                    key: object.key.clone(),
                    from: metadata.from_offset,
                    to: metadata.to_offset,
                    records: metadata.records,
                    skipped: metadata.skipped,
                });
            }
            Ok(_) => {}
            Err(finding) => {
                walk.blind |= finding.kind == Kind::Metadata && !twin;
                report.findings.push(finding);
            }
        }
    }
    report.tail = walk.end.as_ref().map(|(end, _)| *end);
    report.handled = seen.commit.handled(report.tail);
    root(&mut report);
    committed(&seen.commit, walk.end, &mut report);
    (report, links)
}

/// The chain so far: where it ends, and with which object.
struct Walk {
    end: Option<(i64, String)>,
    /// The object before could not be read: where it ends is not known.
    blind: bool,
}

impl Walk {
    fn step(&mut self, key: &str, from: i64, to: i64, findings: &mut Vec<Finding>) {
        let blind = std::mem::take(&mut self.blind);
        match &self.end {
            Some((end, before)) if *end < from && !blind => {
                let problem = format!(
                    "offsets {end} to {} are in no object: {before} ends at {end}, and {key} is the next",
                    from - 1
                );
                findings.push(Finding::new(Kind::Gap, &[before, key], problem).at(*end, from));
            }
            Some((end, before)) if *end > from => {
                let problem = format!("{key} begins at {from}, though {before} goes on to {end}");
                findings.push(Finding::new(Kind::Overlap, &[before, key], problem).at(from, (*end).min(to)));
            }
            _ => {}
        }
        if self.end.as_ref().is_none_or(|(end, _)| *end < to) {
            self.end = Some((to, key.to_owned()));
        }
    }
}

/// Names and batches that stand there twice.
fn repeated(objects: &[SeenObject], findings: &mut Vec<Finding>) {
    for pair in objects.windows(2).filter(|pair| pair[0].name == pair[1].name) {
        let (first, second) = (pair[0].key.as_str(), pair[1].key.as_str());
        let problem = format!("{first} and {second} have one name");
        findings.push(Finding::new(Kind::Twins, &[first, second], problem));
    }
    let mut writers: BTreeMap<&str, &str> = BTreeMap::new();
    for object in objects {
        let Some(writer) = object.metadata.as_ref().and_then(|metadata| metadata.get("writer")) else {
            continue;
        };
        if let Some(first) = writers.get(writer.as_str()) {
            let problem = format!("{first} and {} say that they are one batch, {writer}", object.key);
            findings.push(Finding::new(Kind::Writer, &[first, &object.key], problem));
        } else {
            writers.insert(writer, &object.key);
        }
    }
}

fn read(object: &SeenObject) -> Result<ObjectMetadata, Finding> {
    let SeenObject { name, key, metadata } = object;
    let Some(metadata) = metadata else {
        return Err(Finding::new(Kind::Gone, &[key], format!("{key} was listed, and is gone")));
    };
    ObjectMetadata::read(key, *name, metadata).map_err(|error| {
        let says = metadata.get("fromoffset").and_then(|text| text.parse::<i64>().ok());
        let kind = if says.is_some_and(|says| says != *name) { Kind::Name } else { Kind::Metadata };
        Finding::new(kind, &[key], error.to_string())
    })
}

/// Whether an object's numbers agree with each other, and with what lies in quarantine.
fn agree(key: &str, metadata: &ObjectMetadata, quarantine: &BTreeSet<i64>, findings: &mut Vec<Finding>) {
    let (from, to) = (metadata.from_offset, metadata.to_offset);
    let mut wrong = |kind, problem: String| {
        findings.push(Finding::new(kind, &[key], format!("{key} {problem}")).at(from, to));
    };
    for skip in &metadata.skipped {
        if skip.from < from || skip.to > to {
            wrong(Kind::Skip, format!("skips {skip}, which lies outside of its bounds {from}-{to}"));
        }
        let over = |offset: i64| skip.from <= offset && offset < skip.to;
        if let Some(Stored { first_offset, last_offset, .. }) = metadata.stored
            && (over(first_offset) || over(last_offset))
        {
            wrong(Kind::Skip, format!("skips {skip}, though it stores {first_offset} and {last_offset}"));
        }
    }
    let room = offsets(from, to).saturating_sub(skipped_between(&metadata.skipped, from, to));
    if metadata.records.saturating_add(metadata.quarantined) > room {
        let ObjectMetadata { records, quarantined, .. } = metadata;
        wrong(
            Kind::Numbers,
            format!(
                "says {records} records and {quarantined} in quarantine, but has room for {room} between {from} and {to}"
            ),
        );
    }
    match metadata.stored {
        None if metadata.records > 0 => {
            wrong(Kind::Numbers, format!("says {} records, and neither first nor last", metadata.records));
        }
        Some(stored) => {
            if let Some(problem) = contradiction(metadata, stored) {
                wrong(Kind::Numbers, problem);
            }
        }
        None => {}
    }
    let found = u64::try_from(quarantine.range(from..to).count()).unwrap_or(u64::MAX);
    if found < metadata.quarantined {
        let counted = metadata.quarantined;
        wrong(
            Kind::Quarantine,
            format!("counts {counted} records in quarantine between {from} and {to}, where {found} are"),
        );
    }
}

fn contradiction(metadata: &ObjectMetadata, stored: Stored) -> Option<String> {
    let Stored { first_offset: first, last_offset: last, .. } = stored;
    let (from, to, records) = (metadata.from_offset, metadata.to_offset, metadata.records);
    if first < from || last >= to || first > last {
        return Some(format!("says records {first} to {last}, which is not within {from}-{to}"));
    }
    let room = offsets(first, last)
        .saturating_sub(skipped_between(&metadata.skipped, first, last))
        .saturating_add(1);
    let least = if first == last { 1 } else { 2 };
    (records < least || records > room)
        .then(|| format!("says {records} records from {first} to {last}, where {least} to {room} can be"))
}

fn offsets(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or_default()
}

fn skipped_between(skips: &[Skip], from: i64, to: i64) -> u64 {
    skips.iter().fold(0, |sum, skip| sum.saturating_add(offsets(skip.from.max(from), skip.to.min(to))))
}

fn root(report: &mut PartitionReport) {
    if let Some(first) = report.first.filter(|first| *first > 0) {
        report.notes.push(format!(
            "the chain begins at {first}: the objects before it are gone (a lifecycle rule deletes old ones)"
        ));
    }
}

/// What the group's commit says beyond the chain.
fn committed(commit: &Commit, end: Option<(i64, String)>, report: &mut PartitionReport) {
    match commit {
        Commit::Ours { metadata, .. } => {
            report.skipped.extend(
                metadata.skipped.iter().filter(|skip| end.as_ref().is_none_or(|(end, _)| skip.from >= *end)),
            );
            match end {
                Some((end, last)) if end < metadata.tail => {
                    let problem = format!("the group has committed that the chain ends at {}, but {last}, the last object, ends at {end}", metadata.tail);
                    report.findings.push(Finding::new(Kind::End, &[&last], problem).at(end, metadata.tail));
                }
                None if metadata.tail > 0 => report.notes.push(format!(
                    "there is no object; the group has committed that the chain ended at {}, where it will go on",
                    metadata.tail
                )),
                _ => {}
            }
        }
        Commit::Foreign { offset, problem } => {
            report.notes.push(format!("the group's committed offset {offset} does not count: {problem}"))
        }
        Commit::Unknown | Commit::None => {}
    }
}

#[cfg(test)]
mod tests;
