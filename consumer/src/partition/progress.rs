//! One partition's way from the log to a chain of objects, as a state machine without I/O.
//!
//! ```text
//! fetch_from --> (reader) --fetched--> pending --take--> open --seal--> in flight --settled--> new tail
//!                                         \--> quarantine (stored before the batch that steps over it)
//! ```
//!
//! It is asked what to do ([`Progress::fetch_from`], [`Progress::next_work`]) and told what happened. At most one
//! piece of work is under way; reading goes on meanwhile until the next batch is full too. `now` is a
//! duration on one clock that never goes back.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use coinduit_common::object_key::Prefix;

use crate::{
    batch::{Limits, OpenBatch, Sealed, Taken},
    layout::Layout,
    ledger::{
        decide::Standing,
        metadata::{Closed, Skip, SkipReason},
        misreading::Misreading,
        resume::Resume,
    },
    quarantine::Quarantined,
    reader::{Fetched, Record},
};

/// So many quarantined records are collected before they have to be stored.
const MOST_QUARANTINED: usize = 128;

/// What does not change while a partition is read.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The prefix of all keys.
    pub prefix: Arc<Prefix>,
    /// How objects are laid out.
    pub layout: Layout,
    /// When an object is closed.
    pub limits: Limits,
    /// Whether lines get members from headers and coordinates.
    pub enrich: bool,
    /// What names this reading of the partition in `writer`: the process, and how many it has begun. No two
    /// readings of a partition ever have the same, even in one process, or a batch of the earlier would be
    /// taken for one of the later.
    pub writer: Arc<str>,
}

/// Something that has to be done in the store before anything else is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Store these; any order, any number of times.
    Quarantine {
        /// What can't be a line.
        records: Arc<[Quarantined]>,
        /// When the last of them came: the topic's id must be confirmed later than this.
        fetched_at: Duration,
    },
    /// Create this object, and find out what stands there.
    Put(Arc<Sealed>),
}

/// What became of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// All quarantined records are stored.
    Quarantined,
    /// The batch is stored, and it is ours.
    Stored,
    /// Another's object stands there, and this is where it ends.
    Superseded {
        /// The new tail.
        tail: i64,
    },
}

impl Settled {
    /// What `standing` means for a put; `None` where it has to be put again.
    #[must_use]
    pub const fn of(standing: &Standing) -> Option<Self> {
        match standing {
            Standing::Ours => Some(Self::Stored),
            Standing::Superseded { tail } => Some(Self::Superseded { tail: *tail }),
            Standing::Absent => None,
        }
    }
}

/// What the group may be told: everything below `handled` is stored, quarantined, skipped on record, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPoint {
    /// The offset to commit.
    pub handled: i64,
    /// The chain's end.
    pub tail: i64,
    /// Skips below `handled` that no object has recorded yet, ascending.
    pub skipped: Vec<Skip>,
    /// How many records between `tail` and `handled` were quarantined.
    pub quarantined: u64,
    /// The epoch of the leader that appended what was read last, where it is known: not before that of the record
    /// before `handled`, so a log that has lost that record shows it (KIP-320).
    pub leader_epoch: Option<i32>,
    /// When the last fetch came that it rests on: the topic's id must be confirmed later than this.
    pub fetched_at: Duration,
}

impl CommitPoint {
    /// Whether both tell the group the same, whenever they were made.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self { handled, tail, skipped, quarantined, leader_epoch: _, fetched_at: _ } = self;
        (handled, tail, skipped, quarantined)
            == (&other.handled, &other.tail, &other.skipped, &other.quarantined)
    }
}

/// The state of one partition.
#[derive(Debug)]
pub struct Progress {
    setting: Setting,
    tail: i64,
    position: i64,
    /// Stop at this offset.
    end: Option<i64>,
    /// Skips of earlier readings that the open batch has not taken yet.
    skips: VecDeque<Skip>,
    pending: VecDeque<Record>,
    pending_bytes: usize,
    /// The bytes of the buffers that the pending records are slices of, if they are.
    shared_bytes: usize,
    open: OpenBatch,
    quarantine: Vec<Quarantined>,
    under_way: Option<Work>,
    closing: Option<Closed>,
    batches: u64,
    fetched_at: Duration,
    /// Of what stands before `position`.
    leader_epoch: Option<i32>,
}

impl Progress {
    /// Goes on where `resume` says, of what was asked at `now`. With an `end` it closes itself there.
    #[must_use]
    pub fn new(setting: Setting, resume: Resume, end: Option<i64>, now: Duration) -> Self {
        let Resume { tail, position, skipped, quarantined, leader_epoch, refused: _ } = resume;
        let open = OpenBatch::new(setting.layout, tail, tail, quarantined);
        let mut progress = Self {
            setting,
            tail,
            position,
            end,
            skips: skipped.into(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            shared_bytes: 0,
            open,
            quarantine: Vec::new(),
            under_way: None,
            closing: None,
            batches: 0,
            fetched_at: now,
            leader_epoch,
        };
        progress.take(now);
        progress.close_at_end();
        progress
    }

    /// The end of the chain, as far as it is known to be stored.
    #[must_use]
    pub const fn tail(&self) -> i64 {
        self.tail
    }

    /// The partition.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.setting.partition
    }

    /// The offset to ask for next.
    #[must_use]
    pub const fn position(&self) -> i64 {
        self.position
    }

    /// The offset to fetch from, where there is room for what comes.
    #[must_use]
    pub fn fetch_from(&self) -> Option<i64> {
        let room = self.pending.is_empty()
            && self.skips.is_empty()
            && !self.open.is_full()
            && self.quarantine.len() < MOST_QUARANTINED;
        (room && self.closing.is_none()).then_some(self.position)
    }

    /// Takes in what a fetch from offset `from` brought at `now`. The answer to a question that is no longer
    /// asked, because the position has moved, is dropped.
    pub fn fetched(&mut self, from: i64, fetched: Fetched, now: Duration) {
        if from != self.position || self.closing.is_some() {
            return;
        }
        if fetched.next > from {
            self.leader_epoch = fetched.leader_epoch;
        }
        self.position = fetched.next.max(from);
        self.fetched_at = now;
        self.pending_bytes = fetched.records.iter().map(Record::held_bytes).sum();
        self.pending = fetched.records.into();
        self.shared_bytes = fetched.shared_bytes;
        self.take(now);
        self.close_at_end();
    }

    /// The log no longer holds what lies before `start`: it is lost, and recorded. Returns what was stepped over.
    pub fn lost_before(&mut self, start: i64, now: Duration) -> Option<Skip> {
        if start <= self.position || self.closing.is_some() || !self.pending.is_empty() {
            return None;
        }
        let skip = Skip { from: self.position, to: start, reason: SkipReason::Retention };
        self.skips.push_back(skip);
        self.position = start;
        self.leader_epoch = None;
        self.take(now);
        self.close_at_end();
        Some(skip)
    }

    /// The next piece of work, if there is one and none is under way; it is under way from now on. `pressed`: the
    /// memory for all partitions is used up, and this one holds a large part of it.
    pub fn next_work(&mut self, now: Duration, pressed: bool) -> Option<Work> {
        if self.under_way.is_some() {
            return None;
        }
        self.take(now);
        let afterwards =
            Misreading::QuarantineAfterwards.is_made().then(|| self.seal(now, pressed)).flatten();
        let work = if let Some(sealed) = afterwards {
            Work::Put(Arc::new(sealed))
        } else if self.quarantine.is_empty() {
            Work::Put(Arc::new(self.seal(now, pressed)?))
        } else {
            let records = std::mem::take(&mut self.quarantine).into();
            Work::Quarantine { records, fetched_at: self.fetched_at }
        };
        self.under_way = Some(work.clone());
        Some(work)
    }

    /// Takes in what became of the work.
    pub fn settled(&mut self, settled: Settled, now: Duration) {
        let work = self.under_way.take();
        match (settled, work) {
            (Settled::Stored, Some(Work::Put(sealed))) => self.tail = sealed.metadata.to_offset,
            (Settled::Superseded { tail }, _) => self.start_over(tail),
            _ => {}
        }
        self.take(now);
    }

    /// What the group may be told now; `None` while quarantined records are not stored yet.
    #[must_use]
    pub fn commit_point(&self) -> Option<CommitPoint> {
        if !self.quarantine.is_empty() || matches!(self.under_way, Some(Work::Quarantine { .. })) {
            return None;
        }
        let sealed = match &self.under_way {
            Some(Work::Put(sealed)) => Some(&**sealed),
            _ => None,
        };
        // What is held begins with the first line of the batch that is under way, else of the open one.
        let sealed_first = sealed.and_then(|sealed| sealed.metadata.stored).map(|stored| stored.first_offset);
        let mut quarantined = sealed.map_or(0, |sealed| sealed.quarantined_ahead);
        if sealed_first.is_none() {
            quarantined += self.open.quarantined_ahead();
        }
        let held = sealed_first.or_else(|| self.open.first_offset());
        let held = held.or_else(|| self.pending.front().map(|record| record.offset));
        let handled = held.filter(|_| !Misreading::ReadIsHandled.is_made()).unwrap_or(self.position);
        let sealed_skips = sealed.map_or(&[][..], |sealed| &sealed.metadata.skipped);
        let skips = sealed_skips.iter().chain(self.open.skipped()).chain(&self.skips);
        let most = if Misreading::OneSkipPerCommit.is_made() { 1 } else { usize::MAX };
        let skipped = skips.filter(|skip| skip.to <= handled).take(most).copied().collect();
        let Self { tail, leader_epoch, fetched_at, .. } = *self;
        Some(CommitPoint { handled, tail, skipped, quarantined, leader_epoch, fetched_at })
    }

    /// The timestamp of the oldest record that is held and not stored.
    #[must_use]
    pub fn oldest_timestamp_ms(&self) -> Option<i64> {
        let sealed = match &self.under_way {
            Some(Work::Put(sealed)) => sealed.metadata.stored.map(|stored| stored.first_timestamp_ms),
            _ => None,
        };
        let held = sealed.or_else(|| self.open.first_timestamp_ms());
        held.or_else(|| self.pending.front().map(|record| record.timestamp_ms))
    }

    /// Stops reading; what is held is stored, for that reason.
    pub fn close(&mut self, why: Closed) {
        self.closing.get_or_insert(why);
    }

    /// Whether it was told to close, or closes by itself.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether it was closed and nothing is left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.closing.is_some()
            && self.under_way.is_none()
            && self.pending.is_empty()
            && self.quarantine.is_empty()
            && self.open.records() == 0
            && !self.open.is_full()
    }

    /// When to ask for work again though nothing happened.
    #[must_use]
    pub fn due_at(&self) -> Option<Duration> {
        if self.under_way.is_some() { None } else { self.open.due_at(&self.setting.limits) }
    }

    /// The bytes that it occupies.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let under_way = match &self.under_way {
            Some(Work::Put(sealed)) => sealed.held_bytes,
            Some(Work::Quarantine { records, .. }) => quarantined_bytes(records),
            None => 0,
        };
        self.pending_bytes.max(self.shared_bytes)
            + self.open.held_bytes()
            + under_way
            + quarantined_bytes(&self.quarantine)
    }

    /// Moves pending records into the open batch, as far as it takes them.
    fn take(&mut self, now: Duration) {
        self.take_records(now);
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
            self.shared_bytes = 0;
        } else if self.shared_bytes > 2 * self.pending_bytes {
            // A few records would keep a large buffer alive.
            self.pending.iter_mut().for_each(Record::detach);
            self.shared_bytes = 0;
        }
    }

    fn take_records(&mut self, now: Duration) {
        let Setting { topic, partition, prefix, .. } = &self.setting;
        while let Some(skip) = self.skips.front() {
            if !self.open.skip(*skip) {
                return;
            }
            self.skips.pop_front();
        }
        while let Some(record) = self.pending.front() {
            if self.quarantine.len() >= MOST_QUARANTINED {
                return;
            }
            match self.open.take(&self.setting, record, now) {
                Taken::Full => return,
                Taken::Line => {}
                Taken::Quarantine(reason) => {
                    self.quarantine.push(Quarantined::new(prefix, topic, *partition, record, reason))
                }
            }
            if let Some(taken) = self.pending.pop_front() {
                self.pending_bytes -= taken.held_bytes();
            }
        }
        self.open.advance(self.position);
    }

    /// Closes the open batch where there is a reason to.
    fn seal(&mut self, now: Duration, pressed: bool) -> Option<Sealed> {
        let closing = self.closing.filter(|_| self.open.records() > 0);
        let pressed = (pressed && self.open.records() > 0).then_some(Closed::Budget);
        let why = self.open.due(&self.setting.limits, now).or(closing).or(pressed)?;
        self.batches += 1;
        let next = self.new_batch(0);
        let full = std::mem::replace(&mut self.open, next);
        let sealed = full.seal(format!("{}/{}", self.setting.writer, self.batches), why, self.fetched_at);
        let to = sealed.metadata.to_offset;
        debug_assert!(
            self.pending.front().is_none_or(|next| to <= next.offset),
            "a batch ends before what is pending"
        );
        self.open = self.new_batch(to);
        self.take(now);
        Some(sealed)
    }

    /// Another's object stands where ours was to be: everything behind the old tail was read for nothing.
    fn start_over(&mut self, tail: i64) {
        self.tail = tail;
        if Misreading::ReadAheadKept.is_made() {
            return;
        }
        self.position = tail;
        self.leader_epoch = None;
        self.pending.clear();
        self.pending_bytes = 0;
        self.shared_bytes = 0;
        self.quarantine.clear();
        self.skips.clear();
        self.open = self.new_batch(tail);
        if self.closing == Some(Closed::End) {
            self.closing = None;
        }
        self.close_at_end();
    }

    fn new_batch(&self, tail: i64) -> OpenBatch {
        OpenBatch::new(self.setting.layout, tail, tail, 0)
    }

    fn close_at_end(&mut self) {
        if self.end.is_some_and(|end| self.position >= end) {
            self.closing.get_or_insert(Closed::End);
        }
    }
}

fn quarantined_bytes(records: &[Quarantined]) -> usize {
    records.iter().map(|record| record.object.body.len()).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const AGE: Duration = Duration::from_secs(60);

    fn setting(records: u64) -> Setting {
        Setting {
            topic: "t".into(),
            partition: 0,
            prefix: Arc::default(),
            layout: Layout::default(),
            limits: Limits { records, bytes: 1 << 20, age: AGE },
            enrich: false,
            writer: "p".into(),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn record(offset: i64) -> Record {
        Record {
            offset,
            timestamp_ms: 0,
            key: None,
            value: Some(Bytes::from(format!("{{\"n\":{offset}}}"))),
            headers: Vec::new(),
        }
    }

    fn bad(offset: i64) -> Record {
        Record { value: Some(Bytes::from_static(b"bad")), ..record(offset) }
    }

    fn from(tail: i64, position: i64) -> Resume {
        let skipped = if position > tail {
            vec![Skip { from: tail, to: position, reason: SkipReason::Reset }]
        } else {
            Vec::new()
        };
        Resume { tail, position, skipped, quarantined: 0, leader_epoch: Some(3), refused: None }
    }

    fn fetched(records: Vec<Record>, next: i64) -> Fetched {
        Fetched { records, next, high_watermark: next, ..Fetched::default() }
    }

    fn put(work: Option<Work>) -> Arc<Sealed> {
        match work {
            Some(Work::Put(sealed)) => sealed,
            other => panic!("expected a put, got {other:?}"),
        }
    }

    fn bounds(sealed: &Sealed) -> (i64, i64, u64) {
        (sealed.metadata.from_offset, sealed.metadata.to_offset, sealed.metadata.records)
    }

    #[test]
    fn a_fetch_larger_than_an_object_is_cut() {
        let mut progress = Progress::new(setting(2), from(0, 0), None, at(0));
        progress.fetched(0, fetched((0..5).map(record).collect(), 5), at(0));
        assert_eq!(progress.fetch_from(), None, "records are pending");
        assert_eq!(bounds(&put(progress.next_work(at(0), false))), (0, 2, 2));
        assert_eq!(progress.next_work(at(0), false), None, "one put in flight");
        progress.settled(Settled::Stored, at(0));
        assert_eq!((progress.tail(), bounds(&put(progress.next_work(at(0), false)))), (2, (2, 4, 2)));
        progress.settled(Settled::Stored, at(0));
        assert_eq!((progress.next_work(at(0), false), progress.fetch_from()), (None, Some(5)));
        assert_eq!(bounds(&put(progress.next_work(at(60), false))), (4, 5, 1));
    }

    #[test]
    fn reading_goes_on_while_a_put_is_in_flight() {
        let mut progress = Progress::new(setting(2), from(0, 0), None, at(0));
        progress.fetched(0, fetched(vec![record(0), record(1)], 2), at(0));
        put(progress.next_work(at(0), false));
        assert_eq!(progress.fetch_from(), Some(2));
        progress.fetched(2, fetched(vec![record(2), record(3)], 4), at(1));
        assert_eq!(progress.fetch_from(), None, "the next batch is full too");
    }

    #[test]
    fn the_loser_of_a_race_goes_on_at_the_winners_end() {
        let mut progress = Progress::new(setting(2), from(0, 0), None, at(0));
        progress.fetched(0, fetched((0..4).map(record).collect(), 4), at(0));
        put(progress.next_work(at(0), false));
        progress.settled(Settled::Superseded { tail: 3 }, at(0));
        assert_eq!((progress.tail(), progress.fetch_from()), (3, Some(3)));
        progress.fetched(4, fetched(vec![record(4)], 5), at(0));
        assert_eq!(progress.fetch_from(), Some(3), "the answer to the old question is dropped");
        progress.fetched(3, fetched(vec![record(3), record(4)], 5), at(0));
        assert_eq!(bounds(&put(progress.next_work(at(0), false))), (3, 5, 2));
    }

    #[test]
    fn quarantined_records_are_stored_before_the_batch_that_steps_over_them() {
        let mut progress = Progress::new(setting(2), from(0, 0), None, at(0));
        progress.fetched(0, fetched(vec![record(0), bad(1), record(2)], 3), at(0));
        let Some(Work::Quarantine { records, .. }) = progress.next_work(at(0), false) else {
            panic!("quarantine comes first")
        };
        assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [1]);
        assert_eq!(progress.next_work(at(0), false), None);
        progress.settled(Settled::Quarantined, at(0));
        let sealed = put(progress.next_work(at(0), false));
        assert_eq!((bounds(&sealed), sealed.metadata.quarantined), ((0, 3, 2), 1));
    }

    #[test]
    fn nothing_but_bad_records_makes_no_object() {
        let mut progress = Progress::new(setting(2), from(0, 0), Some(3), at(0));
        progress.fetched(0, fetched((0..3).map(bad).collect(), 3), at(0));
        assert!(matches!(progress.next_work(at(0), false), Some(Work::Quarantine { .. })));
        assert!(!progress.is_done());
        progress.settled(Settled::Quarantined, at(0));
        assert_eq!(progress.next_work(at(1_000), false), None);
        assert!(progress.is_done());
    }

    #[test]
    fn a_flood_of_bad_records_stays_bounded() {
        let mut progress = Progress::new(setting(2), from(0, 0), None, at(0));
        progress.fetched(0, fetched((0..1_000).map(bad).collect(), 1_000), at(0));
        let mut stored = 0;
        while let Some(Work::Quarantine { records, .. }) = progress.next_work(at(0), false) {
            assert!(records.len() <= MOST_QUARANTINED);
            stored += records.len();
            progress.settled(Settled::Quarantined, at(0));
        }
        assert_eq!((stored, progress.fetch_from()), (1_000, Some(1_000)));
    }

    #[test]
    fn gaps_belong_to_the_batch_before_them() {
        let mut progress = Progress::new(setting(10), from(0, 0), None, at(0));
        progress.fetched(0, fetched(vec![record(3)], 9), at(0));
        let sealed = put(progress.next_work(at(60), false));
        assert_eq!(bounds(&sealed), (0, 9, 1));
        assert_eq!(sealed.metadata.stored.unwrap().first_offset, 3);
    }

    #[test]
    fn where_reading_starts_is_recorded_in_the_first_object() {
        let mut progress = Progress::new(setting(10), from(0, 35), None, at(0));
        assert_eq!(progress.fetch_from(), Some(35));
        progress.fetched(35, fetched(vec![record(35)], 36), at(0));
        let sealed = put(progress.next_work(at(60), false));
        assert_eq!(sealed.metadata.to_user_metadata()["skipped"], "0-35:reset");
        assert_eq!(bounds(&sealed), (0, 36, 1));
    }

    #[test]
    fn loss_by_retention_is_recorded() {
        let mut progress = Progress::new(setting(10), from(5, 5), None, at(0));
        assert_eq!(
            progress.lost_before(20, at(0)),
            Some(Skip { from: 5, to: 20, reason: SkipReason::Retention })
        );
        assert_eq!(progress.lost_before(20, at(0)), None);
        progress.fetched(20, fetched(vec![record(20)], 21), at(0));
        let sealed = put(progress.next_work(at(60), false));
        assert_eq!(
            (bounds(&sealed), &*sealed.metadata.to_user_metadata()["skipped"]),
            ((5, 21, 1), "5-20:retention")
        );
    }

    #[test]
    fn handled_is_what_nobody_needs_to_read_again() {
        let mut progress = Progress::new(setting(2), from(0, 3), None, at(0));
        let handled = |progress: &Progress| {
            let point = progress.commit_point().unwrap();
            (point.handled, point.tail, point.skipped.len(), point.quarantined)
        };
        assert_eq!(handled(&progress), (3, 0, 1, 0));
        progress.fetched(3, fetched(vec![bad(4)], 6), at(0));
        assert_eq!(progress.commit_point(), None, "a quarantined record is not stored yet");
        assert!(matches!(progress.next_work(at(0), false), Some(Work::Quarantine { .. })));
        assert_eq!(progress.commit_point(), None);
        progress.settled(Settled::Quarantined, at(0));
        assert_eq!(handled(&progress), (6, 0, 1, 1));
        progress.fetched(6, fetched(vec![record(7), record(8), record(9)], 10), at(1));
        assert_eq!(handled(&progress), (7, 0, 1, 1), "up to the first line that is held");
        let sealed = put(progress.next_work(at(1), false));
        assert_eq!((handled(&progress), sealed.metadata.quarantined), ((7, 0, 1, 1), 1));
        progress.settled(Settled::Stored, at(1));
        assert_eq!(handled(&progress), (9, 9, 0, 0), "the object has recorded the rest");
        assert_eq!(progress.commit_point().unwrap().fetched_at, at(1));
    }

    #[test]
    fn more_skips_than_one_object_holds_go_into_two() {
        let skips = (0..20).map(|n| Skip { from: n * 10, to: n * 10 + 5, reason: SkipReason::Retention });
        let resume = Resume { skipped: skips.collect(), ..from(0, 0) };
        let mut progress = Progress::new(setting(2), Resume { position: 195, ..resume }, None, at(0));
        assert_eq!(progress.commit_point().unwrap().skipped.len(), 20);
        let sealed = put(progress.next_work(at(0), false));
        assert_eq!((bounds(&sealed), sealed.metadata.skipped.len()), ((0, 155, 0), 16));
        assert_eq!(progress.commit_point().unwrap().skipped.len(), 20, "until the object is stored");
        progress.settled(Settled::Stored, at(0));
        let point = progress.commit_point().unwrap();
        assert_eq!((point.handled, point.tail, point.skipped.len()), (195, 155, 4));
        progress.fetched(195, fetched(vec![record(195), record(196)], 197), at(0));
        let sealed = put(progress.next_work(at(0), false));
        assert_eq!((bounds(&sealed), sealed.metadata.skipped.len()), ((155, 197, 2), 4));
    }

    #[test]
    fn shutdown_stores_what_is_held_and_reads_no_more() {
        let mut progress = Progress::new(setting(2), from(0, 0), None, at(0));
        progress.fetched(0, fetched((0..5).map(record).collect(), 5), at(0));
        progress.close(Closed::Shutdown);
        let mut ends = Vec::new();
        while let Some(work) = progress.next_work(at(0), false) {
            ends.push(put(Some(work)).metadata.to_offset);
            progress.settled(Settled::Stored, at(0));
        }
        assert_eq!((ends, progress.is_done(), progress.fetch_from()), (vec![2, 4, 5], true, None));
    }

    #[test]
    fn at_the_end_it_closes_itself() {
        let mut progress = Progress::new(setting(10), from(0, 0), Some(2), at(0));
        progress.fetched(0, fetched(vec![record(0)], 1), at(0));
        assert_eq!(progress.next_work(at(0), false), None);
        progress.fetched(1, fetched(vec![record(1)], 2), at(0));
        let sealed = put(progress.next_work(at(0), false));
        assert_eq!(sealed.metadata.closed, Closed::End);
        progress.settled(Settled::Stored, at(0));
        assert!(progress.is_done());
        assert!(Progress::new(setting(10), from(2, 2), Some(2), at(0)).is_done());
    }

    #[test]
    fn a_race_lost_at_the_end_is_not_the_end() {
        let mut progress = Progress::new(setting(10), from(0, 0), Some(4), at(0));
        progress.fetched(0, fetched((0..4).map(record).collect(), 4), at(0));
        put(progress.next_work(at(0), false));
        progress.settled(Settled::Superseded { tail: 2 }, at(0));
        assert_eq!((progress.is_done(), progress.fetch_from()), (false, Some(2)));
    }

    #[test]
    fn pressure_closes_what_is_open() {
        let mut progress = Progress::new(setting(10), from(0, 0), None, at(0));
        assert_eq!(progress.next_work(at(0), true), None);
        progress.fetched(0, fetched(vec![record(0)], 1), at(0));
        assert!(progress.held_bytes() > 0);
        assert_eq!(put(progress.next_work(at(0), true)).metadata.closed, Closed::Budget);
    }

    proptest! {
        /// Whatever is fetched in whatever pieces, whoever wins which race: the objects are the log, once each.
        #[test]
        fn objects_concatenate_to_the_log(
            kinds in prop::collection::vec(0u8..10, 1..80),
            steps in prop::collection::vec((1usize..9, 0u8..8, any::<bool>()), 0..80),
            most in 1u64..6,
        ) {
            let log: Vec<Record> = kinds.iter().enumerate().filter(|(_, kind)| **kind > 0)
                .map(|(offset, kind)| { let offset = i64::try_from(offset).unwrap(); if *kind == 1 { bad(offset) } else { record(offset) } }).collect();
            let end = i64::try_from(kinds.len()).unwrap();
            let mut progress = Progress::new(setting(most), from(0, 0), Some(end), at(0));
            let mut chain: Vec<(i64, i64, Vec<u8>)> = Vec::new();
            let mut quarantine = std::collections::BTreeSet::new();
            let mut steps = steps.into_iter().chain(std::iter::repeat((3, 0, true)));
            let mut now = 0;
            for _ in 0..2_000 {
                let (size, fate, fetch_first) = steps.next().unwrap();
                now += 7;
                if progress.is_done() { break }
                if let Some(from) = progress.fetch_from().filter(|_| fetch_first) {
                    let records: Vec<Record> = log.iter().filter(|r| r.offset >= from).take(size).cloned().collect();
                    let next = log.iter().map(|r| r.offset).find(|o| *o >= from && records.last().is_none_or(|last| *o > last.offset)).unwrap_or(end);
                    progress.fetched(from, fetched(records, next), at(now));
                }
                match progress.next_work(at(now), fate == 7) {
                    None => {}
                    Some(Work::Quarantine { records, .. }) => {
                        quarantine.extend(records.iter().map(|r| r.offset));
                        progress.settled(Settled::Quarantined, at(now));
                    }
                    Some(Work::Put(sealed)) => {
                        let (from, to) = (sealed.metadata.from_offset, sealed.metadata.to_offset);
                        prop_assert_eq!(from, progress.tail());
                        let rival = log.iter().filter(|r| r.offset >= from && r.offset < end).take(size).collect::<Vec<_>>();
                        if fate == 1 && !rival.is_empty() {
                            // A rival cut the same log differently, and won.
                            let to = rival.last().unwrap().offset + 1;
                            let lines: Vec<u8> = rival.iter().filter(|r| r.value.as_deref() != Some(b"bad")).flat_map(|r| [r.value.as_deref().unwrap(), b"\n"].concat()).collect();
                            quarantine.extend(rival.iter().filter(|r| r.value.as_deref() == Some(b"bad")).map(|r| r.offset));
                            chain.push((from, to, lines));
                            progress.settled(Settled::Superseded { tail: to }, at(now));
                        } else {
                            chain.push((from, to, sealed.body.to_vec()));
                            progress.settled(Settled::Stored, at(now));
                        }
                    }
                }
            }
            prop_assert!(progress.is_done());
            let mut tail = 0;
            for (from, to, _) in &chain {
                prop_assert_eq!(*from, tail);
                tail = *to;
            }
            let stored: Vec<u8> = chain.iter().flat_map(|(_, _, body)| body.clone()).collect();
            let good: Vec<u8> = log.iter().filter(|r| r.value.as_deref() != Some(b"bad")).flat_map(|r| [r.value.as_deref().unwrap(), b"\n"].concat()).collect();
            prop_assert_eq!(stored, good);
            for bad in log.iter().filter(|r| r.value.as_deref() == Some(b"bad")) {
                prop_assert!(quarantine.contains(&bad.offset));
            }
        }
    }
}
