//! What stands beside the group's committed offset: whose it is, and what no object says yet.
//!
//! ```text
//! coinduit/1 ledger=9d087e91cfdc5241 tail=12345 skipped=20-50:reset,60-80:retention
//! ```
//!
//! A committed offset alone says neither who committed it nor for which objects: an operator's reset, another
//! application and another prefix all look alike. So it counts only with this beside it, and only where it
//! names the same ledger. Anything else is foreign, which is for the caller to judge.

use std::fmt;

use coinduit_common::{event_id, object_key::Prefix};
use uuid::Uuid;

use super::{number, skip::Skip};

/// What it begins with. Another number is another version's, and not ours to read.
const MARK: &str = "coinduit/1";
/// How many skipped ranges fit: Kafka takes 4,096 bytes (`offset.metadata.max.bytes`, its default).
pub const MOST_SKIPS: usize = 32;

/// Which objects a commit is about: a hash of bucket, prefix and topic id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LedgerId(u64);

impl LedgerId {
    /// The ledger below `prefix` in `bucket` of the topic with this id, as Kafka's tools print it.
    #[must_use]
    pub fn new(bucket: &str, prefix: &Prefix, topic_id: &str) -> Self {
        let name = format!("{bucket}\n{prefix}\n{topic_id}");
        Self(Uuid::new_v5(&event_id::NAMESPACE, name.as_bytes()).as_u64_pair().0)
    }

    fn read(text: &str) -> Option<Self> {
        let id = Self(u64::from_str_radix(text, 16).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What is committed beside an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitMetadata {
    /// Which objects it is about.
    pub ledger: LedgerId,
    /// The end of the partition's last object, a safe place to start a listing; 0 where there is none.
    pub tail: i64,
    /// Offsets that were stepped over and that no object has recorded yet, ascending, at most
    /// [`MOST_SKIPS`].
    pub skipped: Vec<Skip>,
    /// How many records between the tail and the offset were quarantined: the next object counts them.
    pub quarantined: u64,
}

/// The text was not written by this program, or by a version that this one does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the commit is not ours: {0}")]
pub struct NotOurs(pub String);

impl CommitMetadata {
    /// Reads what [`CommitMetadata`] displays as. Words `name=value` that this version does not know are
    /// passed over: a later one may have added them.
    ///
    /// # Errors
    /// [`NotOurs`] for anything else, with the reason.
    pub fn read(text: &str) -> Result<Self, NotOurs> {
        let mut words = text.split(' ');
        let mark = words.next().unwrap_or_default();
        if mark != MARK {
            return Err(NotOurs(format!("it begins with {mark:?}, not with {MARK:?}")));
        }
        let (mut ledger, mut tail, mut skipped, mut quarantined) = (None, None, None, None);
        for word in words {
            let pair = word.split_once('=').filter(|(name, _)| !name.is_empty());
            let (name, value) = pair.ok_or_else(|| NotOurs(format!("{word:?} is not name=value")))?;
            let wrong = |what| NotOurs(format!("{name} is {value:?}, not {what}"));
            match name {
                "ledger" => {
                    once(name, &mut ledger, LedgerId::read(value).ok_or_else(|| wrong("16 hex digits"))?)?;
                }
                "tail" => once(name, &mut tail, number::offset(value).ok_or_else(|| wrong("an offset"))?)?,
                "skipped" => once(name, &mut skipped, Skip::read_list(value).map_err(NotOurs)?)?,
                "quarantined" => {
                    once(name, &mut quarantined, number::count(value).ok_or_else(|| wrong("a count"))?)?;
                }
                _ => {}
            }
        }
        let lacks = |name: &str| NotOurs(format!("it has no {name}"));
        Ok(Self {
            ledger: ledger.ok_or_else(|| lacks("ledger"))?,
            tail: tail.ok_or_else(|| lacks("tail"))?,
            skipped: skipped.unwrap_or_default(),
            quarantined: quarantined.unwrap_or(0),
        })
    }
}

fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), NotOurs> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(NotOurs(format!("it has {name} twice"))),
    }
}

impl fmt::Display for CommitMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK} ledger={} tail={}", self.ledger, self.tail)?;
        if !self.skipped.is_empty() {
            write!(f, " skipped={}", Skip::list(&self.skipped))?;
        }
        if self.quarantined > 0 { write!(f, " quarantined={}", self.quarantined) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::skip::{SkipReason, tests::any_list};

    fn ledger() -> LedgerId {
        LedgerId::new("prices", &Prefix::new("raw").unwrap(), "AAAAAAAAAAAAAAAAAAAABw")
    }

    fn metadata() -> CommitMetadata {
        CommitMetadata {
            ledger: ledger(),
            tail: 12_345,
            skipped: vec![Skip { from: 20, to: 50, reason: SkipReason::ForeignCommit }],
            quarantined: 0,
        }
    }

    #[test]
    fn the_text_is_the_contracts() {
        let text = "coinduit/1 ledger=9d087e91cfdc5241 tail=12345 skipped=20-50:foreign-commit";
        assert_eq!(metadata().to_string(), text);
        let without = CommitMetadata { skipped: Vec::new(), ..metadata() };
        assert_eq!(without.to_string(), "coinduit/1 ledger=9d087e91cfdc5241 tail=12345");
    }

    #[test]
    fn bucket_prefix_and_topic_each_make_another_ledger() {
        let id = |bucket, prefix, topic| LedgerId::new(bucket, &Prefix::new(prefix).unwrap(), topic);
        let ids =
            [id("b", "p", "t"), id("c", "p", "t"), id("b", "q", "t"), id("b", "p", "u"), id("b", "", "t")];
        for (at, one) in ids.iter().enumerate() {
            assert!(!ids[at + 1..].contains(one), "{one}");
        }
        assert_eq!(id("b", "p", "t"), ids[0]);
        assert_eq!(id("b", "p/", "t"), ids[0]);
    }

    #[test]
    fn what_is_not_exactly_ours_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", r#"it begins with "", not with "coinduit/1""#),
            ("reset by hand", r#"it begins with "reset", not with "coinduit/1""#),
            (
                "coinduit/2 ledger=0000000000000001 tail=1",
                r#"it begins with "coinduit/2", not with "coinduit/1""#,
            ),
            ("coinduit/1", "it has no ledger"),
            ("coinduit/1 ledger=0000000000000001", "it has no tail"),
            ("coinduit/1 tail=1", "it has no ledger"),
            ("coinduit/1 ledger=1 tail=1", r#"ledger is "1", not 16 hex digits"#),
            (
                "coinduit/1 ledger=000000000000000A tail=1",
                r#"ledger is "000000000000000A", not 16 hex digits"#,
            ),
            (
                "coinduit/1 ledger=+000000000000001 tail=1",
                r#"ledger is "+000000000000001", not 16 hex digits"#,
            ),
            ("coinduit/1 ledger=0000000000000001 tail=-1", r#"tail is "-1", not an offset"#),
            ("coinduit/1 ledger=0000000000000001 tail=1 tail=1", "it has tail twice"),
            ("coinduit/1 ledger=0000000000000001 tail=1 skipped=", r#""" is no range"#),
            ("coinduit/1 ledger=0000000000000001 tail=1 skipped=5-5:reset", r#""5-5:reset" is empty"#),
            ("coinduit/1 ledger=0000000000000001 tail=1 more", r#""more" is not name=value"#),
            ("coinduit/1 ledger=0000000000000001 tail=1 =more", r#""=more" is not name=value"#),
            ("coinduit/1  ledger=0000000000000001 tail=1", r#""" is not name=value"#),
            ("coinduit/1 ledger=0000000000000001 tail=1 ", r#""" is not name=value"#),
        ] {
            assert_eq!(CommitMetadata::read(text), Err(NotOurs(reason.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_later_versions_words_are_passed_over() {
        let text =
            format!("coinduit/1 epoch=7 {} note=a=b", metadata().to_string().split_once(' ').unwrap().1);
        assert_eq!(CommitMetadata::read(&text), Ok(metadata()));
    }

    #[test]
    fn as_many_ranges_as_fit_stay_below_kafkas_limit() {
        let widest = Skip { from: i64::MAX - 1, to: i64::MAX, reason: SkipReason::ForeignCommit };
        let skipped = vec![widest; MOST_SKIPS];
        let largest = CommitMetadata { tail: i64::MAX, skipped, quarantined: u64::MAX, ..metadata() };
        assert!(largest.to_string().len() < 4096, "{}", largest.to_string().len());
    }

    proptest! {
        #[test]
        fn everything_is_read_back(id: u64, tail in 0..=i64::MAX, skipped in any_list(MOST_SKIPS), quarantined: u64) {
            let written = CommitMetadata { ledger: LedgerId(id), tail, skipped, quarantined };
            prop_assert_eq!(CommitMetadata::read(&written.to_string()), Ok(written));
        }

        #[test]
        fn any_text_can_be_read(text in "\\PC*|coinduit/1( (ledger|tail|skipped)=[0-9a-f:,-]{0,20}){0,4}") {
            if let Ok(read) = CommitMetadata::read(&text) {
                prop_assert!(read.tail >= 0);
            }
        }
    }
}
