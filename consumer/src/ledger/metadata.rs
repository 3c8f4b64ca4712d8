//! What a data object's metadata says, and how it is read back.
//!
//! Names have no hyphens, which some stores refuse. Offsets are decimal numbers, ranges are half-open.

use coinduit_common::clock;

use super::{bucket::UserMetadata, misreading::Misreading, number};

pub use super::skip::{Skip, SkipReason};

/// The version of names, lines and metadata. A reader refuses another one.
pub const FORMAT: &str = "1";
/// How many skipped ranges one object's metadata holds; S3 takes 2 KB of metadata.
pub const MOST_SKIPS: usize = 16;

/// Why an object was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It has `MAX_OBJECT_RECORDS`.
    Records,
    /// The next line would have gone over `MAX_OBJECT_BYTES`.
    Bytes,
    /// Its first record was fetched `MAX_OBJECT_AGE` ago.
    Age,
    /// `MEMORY_BUDGET` was used up.
    Budget,
    /// The partition was given to another member of the group.
    Revoked,
    /// `--exit-at-end`: the end was reached.
    End,
    /// The process was told to stop.
    Shutdown,
    /// It holds as many skipped ranges as fit.
    Skips,
}

impl Closed {
    pub(crate) const ALL: [Self; 8] = [
        Self::Records,
        Self::Bytes,
        Self::Age,
        Self::Budget,
        Self::Revoked,
        Self::End,
        Self::Shutdown,
        Self::Skips,
    ];

    /// The word in metadata and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::Budget => "budget",
            Self::Revoked => "revoked",
            Self::End => "end",
            Self::Shutdown => "shutdown",
            Self::Skips => "skips",
        }
    }
}

/// Everything that a data object's metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMetadata {
    /// The tail it continues from, its name.
    pub from_offset: i64,
    /// The new tail: everything below it is handled.
    pub to_offset: i64,
    /// Offsets and timestamps (milliseconds since the Unix epoch) of its first and last record; `None`
    /// where it holds no record.
    pub stored: Option<Stored>,
    /// How many lines it has.
    pub records: u64,
    /// How many records between its bounds were quarantined.
    pub quarantined: u64,
    /// Offsets that were stepped over.
    pub skipped: Vec<Skip>,
    /// Process and batch number, the same through all attempts at one batch.
    pub writer: String,
    /// Why it was closed.
    pub closed: Closed,
}

/// The first and the last record of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Offset of the first.
    pub first_offset: i64,
    /// Offset of the last.
    pub last_offset: i64,
    /// Timestamp of the first, ms.
    pub first_timestamp_ms: i64,
    /// Timestamp of the last, ms.
    pub last_timestamp_ms: i64,
}

impl ObjectMetadata {
    /// The names and values that are stored.
    #[must_use]
    pub fn to_user_metadata(&self) -> UserMetadata {
        let mut out = UserMetadata::new();
        let mut set = |name: &str, value: String| drop(out.insert(name.to_owned(), value));
        set("format", FORMAT.to_owned());
        set("fromoffset", self.from_offset.to_string());
        set("tooffset", self.to_offset.to_string());
        set("records", self.records.to_string());
        set("quarantined", self.quarantined.to_string());
        set("writer", self.writer.clone());
        set("closed", self.closed.name().to_owned());
        if let Some(stored) = &self.stored {
            set("firstoffset", stored.first_offset.to_string());
            set("lastoffset", stored.last_offset.to_string());
            set("firsttimestamp", clock::rfc3339_ms(stored.first_timestamp_ms));
            set("lasttimestamp", clock::rfc3339_ms(stored.last_timestamp_ms));
        }
        if !self.skipped.is_empty() {
            set("skipped", Skip::list(&self.skipped));
        }
        out
    }

    /// Reads back all that [`ObjectMetadata::to_user_metadata`] wrote, of the object at `key`, whose name is
    /// `from`. What the numbers say of each other and of the log is for the reader to judge. Names that this
    /// version does not know are passed over.
    ///
    /// # Errors
    /// [`NotALink`] as from [`Link::read`]; also where anything is missing or not written as it is here.
    pub fn read(key: &str, from: i64, metadata: &UserMetadata) -> Result<Self, NotALink> {
        let link = Link::read(key, from, metadata)?;
        let entries = Entries { key, metadata };
        let skipped = entries.get("skipped").map(|text| {
            Skip::read_list(text).map_err(|problem| entries.wrong(format!("its skipped is wrong: {problem}")))
        });
        Ok(Self {
            from_offset: from,
            to_offset: link.to_offset,
            stored: entries.stored()?,
            records: entries.count("records")?,
            quarantined: entries.count("quarantined")?,
            skipped: skipped.transpose()?.unwrap_or_default(),
            writer: link.writer,
            closed: entries.read("closed", "a reason for closing it", |text| {
                Closed::ALL.into_iter().find(|closed| closed.name() == text)
            })?,
        })
    }
}

/// What the chain needs to know of an object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where the next object continues.
    pub to_offset: i64,
    /// Who wrote it.
    pub writer: String,
}

/// The object at `key` is not a link of our chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("object {key} is no part of a chain: {problem}")]
pub struct NotALink {
    /// Its key.
    pub key: String,
    /// What is wrong with its metadata.
    pub problem: String,
}

impl Link {
    /// Reads the metadata of the object at `key`, whose name is `from`.
    ///
    /// # Errors
    /// [`NotALink`] where it says nothing, another format, another name, or an end before its beginning.
    pub fn read(key: &str, from: i64, metadata: &UserMetadata) -> Result<Self, NotALink> {
        let entries = Entries { key, metadata };
        let format = entries.text("format")?;
        if format != FORMAT {
            return Err(entries.wrong(format!("its format is {format:?}, this version writes {FORMAT:?}")));
        }
        let (named, to_offset) = (entries.offset("fromoffset")?, entries.offset("tooffset")?);
        if named != from && !Misreading::EndInName.is_made() && !Misreading::FirstRecordInName.is_made() {
            return Err(entries.wrong(format!("its fromoffset is {named}, its name says {from}")));
        }
        if to_offset <= from && !Misreading::EndInName.is_made() {
            return Err(entries.wrong(format!("it ends at {to_offset}, where it begins or before")));
        }
        Ok(Self { to_offset, writer: entries.text("writer")?.to_owned() })
    }
}

/// The metadata of the object at `key`, to be read value by value.
struct Entries<'a> {
    key: &'a str,
    metadata: &'a UserMetadata,
}

impl<'a> Entries<'a> {
    fn wrong(&self, problem: String) -> NotALink {
        NotALink { key: self.key.to_owned(), problem }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.metadata.get(name).map(String::as_str)
    }

    fn text(&self, name: &str) -> Result<&'a str, NotALink> {
        self.get(name).ok_or_else(|| self.wrong(format!("its metadata has no {name}")))
    }

    fn read<T>(&self, name: &str, what: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, NotALink> {
        let value = self.text(name)?;
        read(value).ok_or_else(|| self.wrong(format!("its {name} is {value:?}, not {what}")))
    }

    fn offset(&self, name: &str) -> Result<i64, NotALink> {
        self.read(name, "an offset", number::offset)
    }

    fn count(&self, name: &str) -> Result<u64, NotALink> {
        self.read(name, "a count", number::count)
    }

    fn time(&self, name: &str) -> Result<i64, NotALink> {
        self.read(name, "a time", clock::ms_of_rfc3339)
    }

    /// All four values, or none.
    fn stored(&self) -> Result<Option<Stored>, NotALink> {
        let names = ["firstoffset", "lastoffset", "firsttimestamp", "lasttimestamp"];
        if names.iter().all(|name| self.get(name).is_none()) {
            return Ok(None);
        }
        Ok(Some(Stored {
            first_offset: self.offset("firstoffset")?,
            last_offset: self.offset("lastoffset")?,
            first_timestamp_ms: self.time("firsttimestamp")?,
            last_timestamp_ms: self.time("lasttimestamp")?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::skip;

    fn metadata() -> ObjectMetadata {
        ObjectMetadata {
            from_offset: 20,
            to_offset: 80,
            stored: Some(Stored {
                first_offset: 50,
                last_offset: 59,
                first_timestamp_ms: 0,
                last_timestamp_ms: 1_795_428_300_000,
            }),
            records: 10,
            quarantined: 2,
            skipped: vec![
                Skip { from: 20, to: 50, reason: SkipReason::Reset },
                Skip { from: 60, to: 80, reason: SkipReason::Retention },
            ],
            writer: "w/7".to_owned(),
            closed: Closed::Age,
        }
    }

    #[test]
    fn names_and_values_are_the_contracts() {
        let written: Vec<String> = metadata()
            .to_user_metadata()
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            written,
            [
                "closed=age",
                "firstoffset=50",
                "firsttimestamp=1970-01-01T00:00:00.000Z",
                "format=1",
                "fromoffset=20",
                "lastoffset=59",
                "lasttimestamp=2026-11-23T10:05:00.000Z",
                "quarantined=2",
                "records=10",
                "skipped=20-50:reset,60-80:retention",
                "tooffset=80",
                "writer=w/7"
            ]
        );
    }

    #[test]
    fn without_records_there_is_no_first_and_last() {
        let names =
            ObjectMetadata { stored: None, records: 0, skipped: Vec::new(), ..metadata() }.to_user_metadata();
        for absent in ["firstoffset", "lastoffset", "firsttimestamp", "lasttimestamp", "skipped"] {
            assert!(!names.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn what_is_no_link_is_refused_by_name() {
        let whole = metadata().to_user_metadata();
        assert_eq!(Link::read("k", 20, &whole).unwrap(), Link { to_offset: 80, writer: "w/7".to_owned() });
        let problem = |change: &dyn Fn(&mut UserMetadata), from| {
            let mut metadata = whole.clone();
            change(&mut metadata);
            Link::read("k", from, &metadata).unwrap_err().to_string()
        };
        assert!(problem(&|_| (), 21).contains("its name says 21"));
        for (name, value) in [("tooffset", "20"), ("tooffset", "-1"), ("tooffset", "x"), ("format", "2")] {
            assert!(
                problem(&|m| drop(m.insert(name.to_owned(), value.to_owned())), 20)
                    .starts_with("object k is no part of a chain"),
                "{name}={value}"
            );
        }
        for name in ["tooffset", "fromoffset", "format", "writer"] {
            assert!(problem(&|m| drop(m.remove(name)), 20).contains(&format!("has no {name}")));
        }
    }

    #[test]
    fn whatever_is_missing_or_differs_is_named() {
        let whole = metadata().to_user_metadata();
        let problem = |name: &str, value: Option<&str>| {
            let mut changed = whole.clone();
            match value {
                Some(value) => drop(changed.insert(name.to_owned(), value.to_owned())),
                None => drop(changed.remove(name)),
            }
            ObjectMetadata::read("k", 20, &changed).unwrap_err().to_string()
        };
        for name in whole.keys().filter(|name| *name != "skipped") {
            assert!(problem(name, None).contains(&format!("has no {name}")), "{name}");
        }
        for (name, value) in [
            ("records", "-1"),
            ("records", "+1"),
            ("quarantined", "02"),
            ("firstoffset", "-1"),
            ("lastoffset", ""),
            ("firsttimestamp", "1970-01-01"),
            ("lasttimestamp", "2026-11-23T10:05:00+00:00"),
            ("closed", "tired"),
            ("skipped", ""),
            ("skipped", "20-50:boredom"),
        ] {
            assert!(problem(name, Some(value)).contains(&format!("its {name} is")), "{name}={value}");
        }
        let mut more = whole.clone();
        more.insert("weather".to_owned(), "bad".to_owned());
        assert_eq!(ObjectMetadata::read("k", 20, &more), Ok(metadata()));
    }

    #[test]
    fn the_largest_metadata_fits_into_2_kb() {
        let widest = Skip { from: i64::MAX - 1, to: i64::MAX, reason: SkipReason::ForeignCommit };
        let stored = Stored {
            first_offset: i64::MAX,
            last_offset: i64::MAX,
            first_timestamp_ms: i64::MAX,
            last_timestamp_ms: i64::MAX,
        };
        let largest = ObjectMetadata {
            skipped: vec![widest; MOST_SKIPS],
            stored: Some(stored),
            writer: "w".repeat(60),
            ..metadata()
        };
        let size: usize =
            largest.to_user_metadata().iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(size < 2048, "{size}");
    }

    fn any_stored() -> impl Strategy<Value = Stored> {
        // Years up to 9999, as far as an instant is held exactly.
        let time = || -62_135_596_800_000i64..253_402_300_800_000;
        (0..=i64::MAX, 0..=i64::MAX, time(), time()).prop_map(|(first, last, first_ms, last_ms)| Stored {
            first_offset: first,
            last_offset: last,
            first_timestamp_ms: first_ms,
            last_timestamp_ms: last_ms,
        })
    }

    proptest! {
        #[test]
        fn a_link_is_read_back(from in 0i64..1 << 60, length in 1i64..1 << 30) {
            let written = ObjectMetadata { from_offset: from, to_offset: from + length, ..metadata() };
            prop_assert_eq!(Link::read("k", from, &written.to_user_metadata()).unwrap().to_offset, from + length);
        }

        #[test]
        fn everything_is_read_back(
            from in 0i64..1 << 60,
            length in 1i64..1 << 30,
            stored in prop::option::of(any_stored()),
            records: u64,
            quarantined: u64,
            skipped in skip::tests::any_list(MOST_SKIPS),
            writer in "[ -~]{1,60}",
            closed in prop::sample::select(Closed::ALL.to_vec()),
        ) {
            let to_offset = from + length;
            let written = ObjectMetadata { from_offset: from, to_offset, stored, records, quarantined, skipped, writer, closed };
            prop_assert_eq!(ObjectMetadata::read("k", from, &written.to_user_metadata()), Ok(written));
        }

        #[test]
        fn any_values_can_be_read(name in prop::sample::select(metadata().to_user_metadata().into_keys().collect::<Vec<_>>()), value in "\\PC*") {
            let mut changed = metadata().to_user_metadata();
            changed.insert(name, value);
            if let Ok(read) = ObjectMetadata::read("k", 20, &changed) {
                prop_assert_eq!(read.to_user_metadata(), changed);
            }
        }
    }
}
