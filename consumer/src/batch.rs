//! One object in the making: what it holds, and when it is full.
//!
//! ```text
//! OpenBatch --take(record)*--> full, old, or told to close --seal--> Sealed (never changes again)
//! ```

use std::time::Duration;

use coinduit_common::line::{self, NotALine, Origin};

use crate::{
    layout::Layout,
    ledger::{
        bucket::Body,
        metadata::{Closed, MOST_SKIPS, ObjectMetadata, Skip, Stored},
    },
    lines::Lines,
    partition::progress::Setting,
    reader::Record,
    record_layout::{self, Each, RecordObject},
};

/// When an object is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At so many lines.
    pub records: u64,
    /// Before the line that would make it larger than so many bytes; a longer line is an object of its own.
    pub bytes: usize,
    /// So long after its first record was fetched.
    pub age: Duration,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is a line of the batch.
    Line,
    /// It can't be a line; the batch counts it, and it has to be quarantined before the batch is stored.
    Quarantine(NotALine),
    /// The batch is full without it.
    Full,
}

/// A batch that still takes records. Times are on one clock that never goes back.
#[derive(Debug)]
pub struct OpenBatch {
    from: i64,
    to: i64,
    content: Content,
    records: u64,
    quarantined: u64,
    quarantined_ahead: u64,
    stored: Option<Stored>,
    skipped: Vec<Skip>,
    opened_at: Option<Duration>,
    full: Option<Closed>,
}

/// What a batch holds: the lines of one object, or an object for each record.
#[derive(Debug)]
enum Content {
    Lines(Lines),
    Each(Each),
}

impl Content {
    fn new(layout: Layout) -> Self {
        match layout {
            Layout::Log(compression) => Self::Lines(Lines::new(compression)),
            Layout::Record => Self::Each(Each::default()),
        }
    }

    /// Appends `record`'s line unless that would make more than `most` bytes; returns whether it was kept.
    fn append(&mut self, setting: &Setting, record: &Record, most: usize) -> Result<bool, NotALine> {
        let Setting { topic, partition, prefix, enrich, .. } = setting;
        let origin = enrich.then(|| origin(topic, *partition, record));
        let value = record.value.as_deref();
        let write = |out: &mut Vec<u8>| line::append(out, value, origin);
        match self {
            Self::Lines(lines) => lines.append(value.map_or(0, <[u8]>::len), most, write),
            Self::Each(each) => {
                each.append(&record_layout::place(prefix, topic, *partition), record, most, write)
            }
        }
    }

    /// How many bytes the lines have, uncompressed.
    const fn len(&self) -> usize {
        match self {
            Self::Lines(lines) => lines.len(),
            Self::Each(each) => each.len(),
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Lines(lines) => lines.held_bytes(),
            Self::Each(each) => each.held_bytes(),
        }
    }
}

impl OpenBatch {
    /// An empty batch that continues from `tail`, and whose next offset is `to`; of what lies between, so many
    /// records were quarantined.
    #[must_use]
    pub fn new(layout: Layout, tail: i64, to: i64, quarantined: u64) -> Self {
        Self {
            from: tail,
            to,
            content: Content::new(layout),
            records: 0,
            quarantined,
            quarantined_ahead: quarantined,
            stored: None,
            skipped: Vec::new(),
            opened_at: None,
            full: None,
        }
    }

    /// Takes `record`, fetched at `now`, as a line; or says why not.
    pub fn take(&mut self, setting: &Setting, record: &Record, now: Duration) -> Taken {
        if self.full.is_some() {
            return Taken::Full;
        }
        let limits = &setting.limits;
        // A line that is longer than the limit by itself is an object of its own.
        let most = if self.records == 0 { usize::MAX } else { limits.bytes };
        match self.content.append(setting, record, most) {
            Ok(true) => {}
            Ok(false) => {
                self.full = Some(Closed::Bytes);
                return Taken::Full;
            }
            Err(reason) => {
                self.quarantined += 1;
                self.quarantined_ahead += u64::from(self.stored.is_none());
                self.to = record.offset + 1;
                return Taken::Quarantine(reason);
            }
        }
        let first = self.stored.unwrap_or(Stored {
            first_offset: record.offset,
            first_timestamp_ms: record.timestamp_ms,
            last_offset: 0,
            last_timestamp_ms: 0,
        });
        self.stored =
            Some(Stored { last_offset: record.offset, last_timestamp_ms: record.timestamp_ms, ..first });
        self.records += 1;
        self.to = record.offset + 1;
        self.opened_at.get_or_insert(now);
        if self.content.len() >= limits.bytes {
            self.full = Some(Closed::Bytes);
        } else if self.records >= limits.records {
            self.full = Some(Closed::Records);
        }
        Taken::Line
    }

    /// Steps forward to `to`: there is nothing between.
    pub fn advance(&mut self, to: i64) {
        self.to = self.to.max(to);
    }

    /// Steps over offsets that are recorded as skipped. A batch that is full takes none: `false`.
    pub fn skip(&mut self, skip: Skip) -> bool {
        if self.full.is_some() {
            return false;
        }
        match self.skipped.last_mut() {
            Some(last) if last.to == skip.from && last.reason == skip.reason => last.to = skip.to,
            _ => self.skipped.push(skip),
        }
        self.to = self.to.max(skip.to);
        if self.skipped.len() >= MOST_SKIPS {
            self.full = Some(Closed::Skips);
        }
        true
    }

    /// The reason to close it now, if there is one: it is full, or its oldest record has reached the age.
    #[must_use]
    pub fn due(&self, limits: &Limits, now: Duration) -> Option<Closed> {
        self.full.or_else(|| {
            self.opened_at.is_some_and(|opened| now >= opened + limits.age).then_some(Closed::Age)
        })
    }

    /// When it will have reached the age.
    #[must_use]
    pub fn due_at(&self, limits: &Limits) -> Option<Duration> {
        self.opened_at.map(|opened| opened + limits.age)
    }

    /// Whether it takes no more.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.full.is_some()
    }

    /// What it steps over, ascending.
    #[must_use]
    pub fn skipped(&self) -> &[Skip] {
        &self.skipped
    }

    /// The offset of its first line.
    #[must_use]
    pub fn first_offset(&self) -> Option<i64> {
        self.stored.map(|stored| stored.first_offset)
    }

    /// The timestamp of its first line's record.
    #[must_use]
    pub fn first_timestamp_ms(&self) -> Option<i64> {
        self.stored.map(|stored| stored.first_timestamp_ms)
    }

    /// How many records were quarantined before its first line.
    #[must_use]
    pub const fn quarantined_ahead(&self) -> u64 {
        self.quarantined_ahead
    }

    /// How many lines it has.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// The bytes that it occupies.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.content.held_bytes()
    }

    /// Closes it: from here on the same bytes and bounds, whatever happens. `writer` names process and
    /// batch; `fetched_at` is when the last record came.
    #[must_use]
    pub fn seal(self, writer: String, closed: Closed, fetched_at: Duration) -> Sealed {
        let metadata = ObjectMetadata {
            from_offset: self.from,
            to_offset: self.to,
            stored: self.stored,
            records: self.records,
            quarantined: self.quarantined,
            skipped: self.skipped,
            writer,
            closed,
        };
        let line_bytes = self.content.len();
        let (body, each, held_bytes) = match self.content {
            Content::Lines(lines) => {
                let (body, held_bytes) = lines.finish();
                (body, Vec::new(), held_bytes)
            }
            Content::Each(each) => {
                let held_bytes = each.held_bytes();
                (Body::default(), each.into_objects(), held_bytes)
            }
        };
        Sealed {
            metadata,
            quarantined_ahead: self.quarantined_ahead,
            body,
            each,
            line_bytes,
            fetched_at,
            held_bytes,
        }
    }
}

/// A batch that never changes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What is said of it; its name is `metadata.from_offset`.
    pub metadata: ObjectMetadata,
    /// How many of its quarantined records come before its first line.
    pub quarantined_ahead: u64,
    /// Its lines, compressed where objects are; empty where each record is an object.
    pub body: Body,
    /// An object for each record, where that is the layout.
    pub each: Vec<RecordObject>,
    /// How many bytes the lines have, uncompressed.
    pub line_bytes: usize,
    /// When its last record came: the topic's id must be confirmed later than this.
    pub fetched_at: Duration,
    /// The bytes that it occupies.
    pub held_bytes: usize,
}

/// What `record` of `topic`/`partition` may append to its line.
pub(crate) fn origin<'a>(topic: &'a str, partition: i32, record: &'a Record) -> Origin<'a> {
    Origin {
        topic,
        partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        id: record.header("id"),
        fetched_at: record.header("fetched_at"),
        source: record.header("source"),
        currency: record.header("currency"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{compression::Compression, ledger::metadata::SkipReason};

    const LIMITS: Limits = Limits { records: 3, bytes: 1000, age: Duration::from_secs(60) };

    fn record(offset: i64, value: &str) -> Record {
        Record {
            offset,
            timestamp_ms: offset * 10,
            key: None,
            value: Some(Bytes::from(value.to_owned())),
            headers: Vec::new(),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn setting() -> Setting {
        Setting {
            topic: "t".into(),
            partition: 0,
            prefix: Arc::default(),
            layout: Layout::default(),
            limits: LIMITS,
            enrich: false,
            writer: "w".into(),
        }
    }

    fn take(batch: &mut OpenBatch, record: &Record, now: Duration) -> Taken {
        batch.take(&setting(), record, now)
    }

    #[test]
    fn it_is_full_at_its_records() {
        let mut batch = OpenBatch::new(Layout::default(), 5, 5, 0);
        for offset in 7..10 {
            assert_eq!(take(&mut batch, &record(offset, "{}"), at(0)), Taken::Line);
        }
        assert_eq!(take(&mut batch, &record(10, "{}"), at(0)), Taken::Full);
        assert_eq!(batch.due(&LIMITS, at(0)), Some(Closed::Records));
        let sealed = batch.seal("w/1".to_owned(), Closed::Records, at(0));
        let stored = sealed.metadata.stored.unwrap();
        assert_eq!((sealed.metadata.from_offset, sealed.metadata.to_offset), (5, 10));
        assert_eq!(
            (stored.first_offset, stored.last_offset, stored.first_timestamp_ms, stored.last_timestamp_ms),
            (7, 9, 70, 90)
        );
        assert_eq!(sealed.body.to_vec(), b"{}\n{}\n{}\n");
    }

    #[test]
    fn a_line_that_does_not_fit_stays_for_the_next() {
        let mut batch = OpenBatch::new(Layout::default(), 0, 0, 0);
        assert_eq!(take(&mut batch, &record(0, "{}"), at(0)), Taken::Line);
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
        assert_eq!(take(&mut batch, &record(1, &long), at(0)), Taken::Full);
        assert_eq!(batch.due(&LIMITS, at(0)), Some(Closed::Bytes));
        assert_eq!(batch.seal(String::new(), Closed::Bytes, at(0)).metadata.to_offset, 1);
    }

    #[test]
    fn a_line_longer_than_the_limit_is_an_object_of_its_own() {
        let mut batch = OpenBatch::new(Layout::default(), 0, 0, 0);
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
        assert_eq!(take(&mut batch, &record(0, &long), at(0)), Taken::Line);
        assert_eq!(batch.due(&LIMITS, at(0)), Some(Closed::Bytes));
        assert_eq!(take(&mut batch, &record(1, "{}"), at(0)), Taken::Full);
    }

    #[test]
    fn age_counts_from_the_first_record_and_needs_no_other() {
        let mut batch = OpenBatch::new(Layout::default(), 0, 0, 0);
        assert_eq!((batch.due(&LIMITS, at(1_000)), batch.due_at(&LIMITS)), (None, None));
        take(&mut batch, &record(0, "{}"), at(1_000));
        take(&mut batch, &record(1, "{}"), at(1_050));
        assert_eq!(batch.due_at(&LIMITS), Some(at(1_060)));
        assert_eq!((batch.due(&LIMITS, at(1_059)), batch.due(&LIMITS, at(1_060))), (None, Some(Closed::Age)));
    }

    #[test]
    fn what_cannot_be_a_line_is_counted_and_stepped_over() {
        let mut batch = OpenBatch::new(Layout::default(), 0, 0, 0);
        assert_eq!(
            take(&mut batch, &record(0, "nonsense"), at(0)),
            Taken::Quarantine(line::append(&mut Vec::new(), Some(b"nonsense"), None).unwrap_err())
        );
        assert_eq!((batch.records(), batch.due_at(&LIMITS)), (0, None));
        take(&mut batch, &record(1, "{}"), at(0));
        let sealed = batch.seal(String::new(), Closed::Age, at(0)).metadata;
        assert_eq!((sealed.quarantined, sealed.records, sealed.to_offset), (1, 1, 2));
    }

    #[test]
    fn neighbouring_skips_become_one_and_sixteen_fill_it() {
        let skip = |from, to| Skip { from, to, reason: SkipReason::Retention };
        let mut batch = OpenBatch::new(Layout::default(), 0, 0, 0);
        batch.skip(skip(0, 10));
        batch.skip(skip(10, 20));
        assert!(!batch.is_full());
        for n in 3..18 {
            assert!(batch.skip(skip(n * 10, n * 10 + 5)), "{n}");
        }
        assert!(!batch.skip(skip(200, 300)), "more go into the next");
        assert_eq!(batch.due(&LIMITS, at(0)), Some(Closed::Skips));
        let sealed = batch.seal(String::new(), Closed::Skips, at(0)).metadata;
        assert_eq!(
            (sealed.skipped[0], sealed.skipped.len(), sealed.to_offset),
            (skip(0, 20), MOST_SKIPS, 175)
        );
    }

    #[test]
    fn the_limit_counts_lines_as_they_are_read_and_the_same_bytes_are_put_again() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let layout = Layout::Log(compression);
            let setting = Setting { layout, limits: Limits { records: 100_000, ..LIMITS }, ..setting() };
            let mut batch = OpenBatch::new(layout, 0, 0, 0);
            let mut taken = 0;
            while batch.take(&setting, &record(taken, "{\"code\":\"BTC\"}"), at(0)) == Taken::Line {
                taken += 1;
            }
            let sealed = batch.seal("w/1".to_owned(), Closed::Bytes, at(0));
            assert_eq!((taken, sealed.line_bytes), (66, 66 * 15));
            assert!(sealed.body.len() < 100, "{compression:?}: {}", sealed.body.len());
            let lines = compression.unpack(sealed.body.to_vec().into(), 1_000).unwrap();
            assert_eq!(lines, "{\"code\":\"BTC\"}\n".repeat(66));
        }
    }

    #[test]
    fn each_record_is_an_object_or_quarantined_where_that_is_the_layout() {
        let setting = Setting { layout: Layout::Record, ..setting() };
        let mut batch = OpenBatch::new(Layout::Record, 5, 5, 0);
        assert_eq!(batch.take(&setting, &record(5, "{\"code\":\"A\",\"id\":1}"), at(0)), Taken::Line);
        let nameless = NotALine::NoName("it has no member code that is text".to_owned());
        assert_eq!(batch.take(&setting, &record(6, "{}"), at(0)), Taken::Quarantine(nameless));
        assert_eq!(batch.take(&setting, &record(7, "{\"code\":\"A\",\"id\":1 }"), at(0)), Taken::Line);
        let sealed = batch.seal("w/1".to_owned(), Closed::Age, at(0));
        let each: Vec<_> =
            sealed.each.iter().map(|one| (one.key.as_str(), one.offset, one.repeats)).collect();
        assert_eq!(each, [("A_1.json", 5, false), ("A_1.json", 7, true)]);
        assert_eq!(
            (&sealed.each[1].line[..], sealed.metadata.quarantined),
            (&b"{\"code\":\"A\",\"id\":1 }\n"[..], 1)
        );
    }
}
