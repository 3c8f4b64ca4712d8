//! The log against the objects: is every record that was handled where it belongs, byte for byte?
//!
//! ```text
//! log:      |--------|-----------|------|---------|....        from the log's start to the handled offset
//! stretch:    object    object    nothing  object
//! ```
//!
//! Each [`Stretch`] of the log is held against one object, or against nothing, record by record ([`Part`]), so that
//! no more than one object's body is in memory. A record is a line of the object whose bounds hold it, or lies
//! in quarantine, or in a range that is skipped on record.
//!
//! Lines are made again from the records, with and without what `ENRICH` appends; an object agrees with one of
//! the two throughout. Lines that no record explains are wrong, unless the log lacks offsets there: retention
//! deletes records from the start, compaction anywhere. So at most as many lines as the log lacks offsets may be
//! left over; where it lacks none, object and log are the same.

use std::collections::BTreeSet;

use bytes::Bytes;
use coinduit_common::{
    line::{self, NotALine},
    object_key::{self, Prefix},
};

use super::{
    examine::Link,
    finding::{Finding, Kind},
};
use crate::{batch, ledger::metadata::Skip, reader::Record};

/// Where the records come from, for lines and keys.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The prefix of all keys.
    pub prefix: &'a Prefix,
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
}

/// What a stretch of the log is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against<'a> {
    /// An object.
    Object(&'a Link),
    /// No object has it.
    Nothing,
}

/// The offsets `from..to` of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch<'a> {
    /// The first.
    pub from: i64,
    /// The one after the last.
    pub to: i64,
    /// What has to hold their records.
    pub against: Against<'a>,
}

/// Cuts the log `start..end` at the bounds of the chain's links, which are in the order of their names. What
/// overlaps an earlier link is left out: whose its records are is not to be said.
#[must_use]
pub fn stretches(chain: &[Link], start: i64, end: i64) -> Vec<Stretch<'_>> {
    let mut out = Vec::new();
    let mut push = |from: i64, to: i64, against| {
        let to = to.min(end);
        if from < to {
            out.push(Stretch { from, to, against });
        }
    };
    let (mut at, mut chain_end) = (start, i64::MIN);
    for link in chain {
        if link.from > at {
            push(at, link.from, Against::Nothing);
        }
        if link.from >= chain_end {
            push(link.from.max(start), link.to, Against::Object(link));
        }
        chain_end = chain_end.max(link.to);
        at = at.max(link.to);
    }
    push(at, end, Against::Nothing);
    out
}

/// One stretch, record by record.
#[derive(Debug)]
pub struct Part<'a> {
    place: Place<'a>,
    stretch: Stretch<'a>,
    quarantine: &'a BTreeSet<i64>,
    skips: &'a [Skip],
    body: Bytes,
    plain: Matcher,
    enriched: Matcher,
    line: Vec<u8>,
    /// Records of the log in the stretch, apart from skipped ones.
    seen: u64,
    /// Records that should have been lines and have no object: first, last, how many.
    homeless: Option<(i64, i64, u64)>,
    /// Records that should lie in quarantine: first, why, how many.
    loose: Option<(i64, NotALine, u64)>,
}

/// What became of a stretch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be told.
    pub notes: Vec<String>,
}

impl<'a> Part<'a> {
    /// Begins with the `body` of the stretch's object, if it has one. `skips` is what lies over offsets
    /// without an object.
    #[must_use]
    pub fn new(
        place: Place<'a>,
        stretch: Stretch<'a>,
        quarantine: &'a BTreeSet<i64>,
        skips: &'a [Skip],
        body: Bytes,
    ) -> Self {
        let skips = match stretch.against {
            Against::Object(link) => link.skipped.as_slice(),
            Against::Nothing => skips,
        };
        Self {
            place,
            stretch,
            quarantine,
            skips,
            body,
            plain: Matcher::default(),
            enriched: Matcher::default(),
            line: Vec::new(),
            seen: 0,
            homeless: None,
            loose: None,
        }
    }

    /// Takes in the next record of the stretch.
    pub fn take(&mut self, record: &Record) {
        let offset = record.offset;
        if self.skips.iter().any(|skip| skip.from <= offset && offset < skip.to) {
            return;
        }
        self.seen += 1;
        if self.quarantine.contains(&offset) {
            return;
        }
        self.line.clear();
        let value = record.value.as_deref();
        if let Err(reason) = line::append(&mut self.line, value, None) {
            self.loose.get_or_insert((offset, reason, 0)).2 += 1;
            return;
        }
        let Against::Object(_) = self.stretch.against else {
            let homeless = self.homeless.get_or_insert((offset, offset, 0));
            (homeless.1, homeless.2) = (offset, homeless.2 + 1);
            return;
        };
        self.plain.expect(&self.body, &self.line, offset);
        self.line.clear();
        let origin = batch::origin(self.place.topic, self.place.partition, record);
        if line::append(&mut self.line, value, Some(origin)).is_ok() {
            self.enriched.expect(&self.body, &self.line, offset);
        }
    }

    /// Says what is wrong, now that all records of the stretch were taken in.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some((offset, reason, count)) = self.loose.take() {
            let Place { prefix, topic, partition } = self.place;
            let key = object_key::quarantine(prefix, topic, partition, offset);
            let others =
                if count > 1 { format!(" (and {} more after it)", count - 1) } else { String::new() };
            let problem = format!(
                "{key} is not there{others}: the record at offset {offset} can't be a line: {reason}"
            );
            outcome
                .findings
                .push(Finding::new(Kind::NotQuarantined, &[&key], problem).at(offset, offset + 1));
        }
        if let Some((first, last, count)) = self.homeless {
            let problem =
                format!("the log has {count} records from offset {first} to {last} that are in no object");
            outcome.findings.push(Finding::new(Kind::NotStored, &[], problem).at(first, last + 1));
        }
        if let Against::Object(link) = self.stretch.against {
            self.finish_object(link, &mut outcome);
        }
        outcome
    }

    fn finish_object(mut self, link: &Link, outcome: &mut Outcome) {
        let key = link.key.as_str();
        self.plain.rest(&self.body);
        self.enriched.rest(&self.body);
        let best = if self.enriched.is_better_than(&self.plain) { &self.enriched } else { &self.plain };
        if let Some((offset, line)) = best.missing {
            let problem = format!(
                "line {line} of {key} is not the record at offset {offset}, nor is any line after it"
            );
            outcome.findings.push(Finding::new(Kind::Line, &[key], problem).at(offset, offset + 1));
        } else if let Some(first) = best.first_extra {
            let (count, lacks) = (best.extra, self.lacks(link));
            let (from, to) = (link.from, link.to);
            if count > lacks {
                let problem = format!(
                    "line {first} of {key} is no record of the log, one of {count} such lines, though the log lacks {lacks} offsets of {from} to {}",
                    to - 1
                );
                outcome.findings.push(Finding::new(Kind::ExtraLine, &[key], problem).at(from, to));
            } else {
                outcome.notes.push(format!(
                    "{count} lines of {key} can't be compared: the log lacks {lacks} offsets of {from} to {}",
                    to - 1
                ));
            }
        }
        let lines = lines(&self.body);
        if lines != link.records {
            let problem = format!("{key} has {lines} lines, and says {}", link.records);
            outcome.findings.push(Finding::new(Kind::LineCount, &[key], problem).at(link.from, link.to));
        }
    }

    /// How many of the object's offsets the log has no record for.
    fn lacks(&self, link: &Link) -> u64 {
        let length = |from: i64, to: i64| u64::try_from(to.saturating_sub(from)).unwrap_or_default();
        let skipped =
            link.skipped.iter().fold(0u64, |sum, skip| sum.saturating_add(length(skip.from, skip.to)));
        length(link.from, link.to).saturating_sub(skipped).saturating_sub(self.seen)
    }
}

/// The lines of a body; one that is cut off counts too.
fn lines(body: &[u8]) -> u64 {
    let ended = body.iter().filter(|byte| **byte == b'\n').count();
    let cut = usize::from(body.last().is_some_and(|last| *last != b'\n'));
    u64::try_from(ended + cut).unwrap_or(u64::MAX)
}

/// Finds expected lines in a body, in order.
#[derive(Debug, Default)]
struct Matcher {
    /// Where the next line begins.
    at: usize,
    /// How many lines were passed.
    line: u64,
    /// How many of them nobody expected.
    extra: u64,
    first_extra: Option<u64>,
    /// The first line that was expected and not found: its offset, and the line where it should have been.
    missing: Option<(i64, u64)>,
}

impl Matcher {
    fn expect(&mut self, body: &[u8], line: &[u8], offset: i64) {
        if self.missing.is_some() {
            return;
        }
        let should = self.line + 1;
        while let Some(found) = self.next(body) {
            if found == line {
                return;
            }
            self.unexpected();
        }
        self.missing = Some((offset, should));
    }

    fn rest(&mut self, body: &[u8]) {
        while self.next(body).is_some() {
            self.unexpected();
        }
    }

    fn next<'b>(&mut self, body: &'b [u8]) -> Option<&'b [u8]> {
        let rest = body.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        self.at += length;
        self.line += 1;
        Some(&rest[..length])
    }

    fn unexpected(&mut self) {
        self.extra += 1;
        self.first_extra.get_or_insert(self.line);
    }

    /// Whether the object agrees with it rather than with the `other`.
    fn is_better_than(&self, other: &Self) -> bool {
        match (self.missing, other.missing) {
            (None, None) => self.extra < other.extra,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some((ours, _)), Some((theirs, _))) => ours > theirs,
        }
    }
}

#[cfg(test)]
mod tests;
