//! Knows every record that was ever published, sees everything that lands in the bucket and every commit that the
//! group takes, and says where the promise is broken, in the moment in which it is.
//!
//! It goes by a record's own identity, which is its value, and by what metadata say in words of the contract. It
//! shares no code with the ledger, and does not know why an object has its name.
//!
//! # The promise
//! Of each record of the topic, exactly one of these is true when everything has healed:
//! - it is a line of one object, once, byte for byte, in the order of its partition;
//! - it can't be a line, and was quarantined, before the object or the commit that steps over it;
//! - an object's metadata, or the group's last commit behind the chain's end, say that it was stepped over, for a
//!   reason that is true: `retention` below a log start that there was, `reset` where the first of all readings began,
//!   `foreign-commit` up to an offset that an operator committed.
//!
//! A record that can't be a line may be quarantined and stepped over. Nothing else may be twice, whatever an
//! operator commits: what is behind a chain's end is not read again, and what a commit of his steps over is
//! behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use bytes::Bytes;

use self::words::{Commit, Metadata, Range};
use crate::ledger::bucket::UserMetadata;

mod words;

/// What there is to know of one record.
#[derive(Debug)]
struct Fact {
    is_line: bool,
    lines: u32,
    quarantined: bool,
    /// An object says that it was stepped over.
    skipped: bool,
}

#[derive(Debug, Default)]
struct Partition {
    records: BTreeMap<i64, Fact>,
    offset_of: BTreeMap<Bytes, i64>,
    log_start: i64,
    log_end: i64,
    /// What operators committed.
    operators: BTreeSet<i64>,
    /// Where each group's first reading began.
    first_fetch: BTreeMap<String, i64>,
    /// Where readings began, in the order in which the groups took it.
    resets: BTreeSet<i64>,
    /// All objects that ever landed, `from..to` by `from`.
    objects: BTreeMap<i64, Vec<i64>>,
    /// The batches that they are.
    writers: BTreeSet<String>,
    last_commits: BTreeMap<String, Commit>,
}

/// Sees everything.
#[derive(Debug, Default)]
pub(super) struct Judge {
    partitions: Mutex<BTreeMap<i32, Partition>>,
    verdicts: Mutex<Vec<String>>,
    latest: bool,
}

impl Judge {
    pub(super) fn new(latest: bool) -> Self {
        Self { latest, ..Self::default() }
    }

    /// Something is wrong; the first word says what.
    pub(super) fn object_to(&self, what: String) {
        let mut verdicts = self.verdicts.lock().unwrap();
        if verdicts.len() < 10 {
            verdicts.push(what);
        }
    }

    /// What was wrong so far.
    pub(super) fn verdicts(&self) -> Vec<String> {
        self.verdicts.lock().unwrap().clone()
    }

    fn with<T>(&self, partition: i32, look: impl FnOnce(&mut Partition) -> T) -> T {
        look(self.partitions.lock().unwrap().entry(partition).or_default())
    }

    pub(super) fn published(&self, partition: i32, offset: i64, value: Option<Bytes>, is_line: bool) {
        self.with(partition, |it| {
            if let Some(value) = value.filter(|_| is_line) {
                it.offset_of.insert(value, offset);
            }
            let fact = Fact { is_line, lines: 0, quarantined: false, skipped: false };
            it.records.insert(offset, fact);
        });
    }

    pub(super) fn log_is(&self, partition: i32, start: i64, end: i64) {
        self.with(partition, |it| (it.log_start, it.log_end) = (start, end));
    }

    pub(super) fn fetches(&self, group: &str, partition: i32, offset: i64) {
        self.with(partition, |it| {
            it.first_fetch.entry(group.to_owned()).or_insert(offset);
        });
    }

    /// An operator has put something else in the place of a group's commit: where its first reading began is asked
    /// again, if no object knows.
    pub(super) fn operator_committed(&self, group: &str, partition: i32, offset: i64) {
        self.with(partition, |it| {
            it.operators.insert(offset);
            it.first_fetch.insert(group.to_owned(), i64::MAX);
        });
    }

    /// A record was quarantined.
    pub(super) fn quarantined(&self, partition: i32, offset: i64) {
        let known = self.with(partition, |it| match it.records.get_mut(&offset) {
            Some(fact) if !fact.is_line => {
                fact.quarantined = true;
                true
            }
            _ => false,
        });
        if !known {
            self.object_to(format!("strange: {partition}/{offset} was quarantined"));
        }
    }

    /// A data object was created.
    pub(super) fn landed(&self, key: &str, partition: i32, body: &[u8], metadata: &UserMetadata) {
        let metadata = match Metadata::read(metadata) {
            Ok(metadata) => metadata,
            Err(problem) => return self.object_to(format!("metadata: {key}: {problem}")),
        };
        let mut wrong = Vec::new();
        self.with(partition, |it| it.take_in(body, &metadata, &mut wrong));
        wrong.into_iter().for_each(|what| self.object_to(format!("{what} (object {key})")));
    }

    /// The group took a commit of one of its members.
    pub(super) fn committed(&self, group: &str, partition: i32, offset: i64, text: &str) {
        let commit = match Commit::read(offset, text) {
            Ok(commit) => commit,
            Err(problem) => return self.object_to(format!("metadata: commit {text:?}: {problem}")),
        };
        let mut wrong = Vec::new();
        self.with(partition, |it| {
            it.check_skips(&commit.skipped, &mut wrong);
            it.check_reset(self.latest, group, &commit.skipped, &mut wrong);
            let missing = it
                .records
                .range(..offset)
                .find(|(at, fact)| !fact.is_settled() && !commit.skipped.iter().any(|skip| skip.holds(**at)));
            if let Some((at, fact)) = missing {
                let what = if fact.is_line { "lost" } else { "unquarantined" };
                wrong.push(format!("{what}: {partition}/{at} is below the commit"));
            }
            let end = it.objects.values().flatten().max();
            if commit.tail > end.copied().unwrap_or(0) {
                wrong.push(format!("chain: no object of {partition} ends at {}", commit.tail));
            }
            it.last_commits.insert(group.to_owned(), commit);
        });
        wrong.into_iter().for_each(|what| self.object_to(format!("{what} (commit {offset} {text})")));
    }

    /// Whether each record has its place, and the group knows.
    pub(super) fn is_complete(&self, group: &str, partitions: i32) -> bool {
        (0..partitions).all(|partition| {
            self.with(partition, |it| {
                it.last_commits.get(group).is_some_and(|commit| commit.offset >= it.log_end)
                    && it.missing().is_none()
            })
        })
    }

    /// Where each partition stands, for people.
    pub(super) fn state(&self) -> String {
        let partitions = self.partitions.lock().unwrap();
        let state = |(partition, it): (&i32, &Partition)| {
            let commits = it.last_commits.iter().map(|(group, commit)| format!(" {group} {}", commit.offset));
            let missing = it.missing().map(|(at, _)| *at);
            format!("{partition}: ends {}, missing {missing:?},{}; ", it.log_end, commits.collect::<String>())
        };
        partitions.iter().map(state).collect()
    }

    /// What is missing in the end.
    pub(super) fn last_look(&self, complete: bool) {
        let mut wrong = Vec::new();
        for (partition, it) in &*self.partitions.lock().unwrap() {
            let mut end = 0;
            for (from, ends) in &it.objects {
                if *from != end || ends.len() > 1 {
                    wrong.push(format!("chain: objects of {partition} begin at {from}, end at {ends:?}, and the one before ends at {end}"));
                    break;
                }
                end = ends[0];
            }
            if let Some((at, fact)) = it.missing().filter(|_| complete) {
                let what = if fact.is_line { "lost" } else { "unquarantined" };
                wrong.push(format!("{what}: {partition}/{at}"));
            }
        }
        wrong.into_iter().for_each(|what| self.object_to(what));
    }
}

impl Fact {
    const fn is_settled(&self) -> bool {
        self.lines > 0 || self.quarantined || self.skipped
    }
}

impl Partition {
    /// The first record that has no place.
    fn missing(&self) -> Option<(&i64, &Fact)> {
        let end = self.objects.values().flatten().max().copied().unwrap_or(0);
        let by_commit = |at: i64| {
            let skips = self.last_commits.values().flat_map(|commit| &commit.skipped);
            at >= end && skips.into_iter().any(|skip| skip.holds(at))
        };
        self.records.iter().find(|(at, fact)| !fact.is_settled() && !by_commit(**at))
    }

    fn take_in(&mut self, body: &[u8], metadata: &Metadata, wrong: &mut Vec<String>) {
        let Metadata { from, to, .. } = *metadata;
        self.objects.entry(from).or_default().push(to);
        if !self.writers.insert(metadata.writer.clone()) {
            wrong.push(format!("repeated: batch {} is another object, too", metadata.writer));
        }
        if metadata.skipped.iter().any(|skip| skip.from < from || skip.to > to) {
            wrong.push("metadata: a skip lies outside of the object".to_owned());
        }
        self.check_skips(&metadata.skipped, wrong);
        for skip in metadata.skipped.iter().filter(|skip| skip.reason == "reset") {
            if !self.resets.contains(&skip.to) {
                wrong.push(format!("skipped: no group knew that reading begins at {}", skip.to));
            }
        }
        let mut offsets = Vec::new();
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            let value = line.strip_suffix(b"\n").unwrap_or(line);
            let Some(offset) = self.offset_of.get(value).copied() else {
                wrong.push(format!("strange: {} is no record", String::from_utf8_lossy(line)));
                continue;
            };
            let fact = self.records.get_mut(&offset).expect("it is in both");
            fact.lines += 1;
            if fact.lines > 1 {
                wrong.push(format!("repeated: {offset}"));
            }
            if !(from..to).contains(&offset) || offsets.last().is_some_and(|last| *last >= offset) {
                wrong.push(format!("order: {offset} in {from}..{to} behind {:?}", offsets.last()));
            }
            offsets.push(offset);
        }
        let mut bad = 0;
        for (at, fact) in self.records.range_mut(from..to) {
            if metadata.skipped.iter().any(|skip| skip.holds(*at)) {
                if fact.lines > 0 {
                    wrong.push(format!("skipped: {at} is stored, too"));
                }
                fact.skipped = true;
            } else if fact.is_line && !offsets.contains(at) {
                wrong.push(format!("lost: {at} is not in its object"));
            } else if !fact.is_line {
                bad += 1;
                if !fact.quarantined {
                    wrong.push(format!("unquarantined: {at} is stepped over"));
                }
            }
        }
        let told = (metadata.records, metadata.first, metadata.last, metadata.quarantined);
        let seen = (offsets.len(), offsets.first().copied(), offsets.last().copied(), bad);
        if told != seen {
            wrong.push(format!("metadata: it says {told:?}, and it holds {seen:?}"));
        }
    }

    /// Whether the reasons are true, as far as they do not depend on the group.
    fn check_skips(&self, skips: &[Range], wrong: &mut Vec<String>) {
        for skip in skips {
            let is_true = match skip.reason.as_str() {
                "retention" => skip.to <= self.log_start,
                "foreign-commit" => self.operators.contains(&skip.to),
                other => other == "reset",
            };
            if !is_true {
                wrong.push(format!("skipped: {}-{} for no {}", skip.from, skip.to, skip.reason));
            }
        }
    }

    /// A reading begins at the log's start, or, with `latest`, where the first one of its group began.
    fn check_reset(&mut self, latest: bool, group: &str, skips: &[Range], wrong: &mut Vec<String>) {
        let began = self.first_fetch.get(group).copied().unwrap_or(i64::MAX);
        let most = if latest { self.log_end.min(began) } else { self.log_start };
        for skip in skips.iter().filter(|skip| skip.reason == "reset") {
            if skip.to > most {
                wrong.push(format!("skipped: reading begins at {}, and not at {most} or before", skip.to));
            }
            self.resets.insert(skip.to);
        }
    }
}
