//! The one grammar of object names: built and parsed here, nowhere else.
//!
//! ```text
//! {prefix}{topic}/partition={partition}/{name:020}.jsonl     a data object; its name is the tail it continues from
//! {prefix}{code}_{id}.json                                   a record, in the layout of one object each
//! {prefix}{topic}/_coinduit.json                             whose objects these are
//! {prefix}quarantine/{topic}/partition={partition}/{offset:020}.json   a record that can't be a line
//! {folder}_check=1/_coinduit.json                              what `consumer check` has stored, to see whether it can
//! ```

use std::fmt;

/// What [`crate::config`] makes of `S3_PREFIX`: empty, or ending in one `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Adds the last `/` where it is missing.
    ///
    /// # Errors
    /// What to write instead, for a prefix that an S3 path can't hold as it is: a leading `/`, an empty, `.`
    /// or `..` segment, or characters that clients escape differently.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::default());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.=+@,:()!' /".contains(c);
        let segments = text.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        if text.split('/').any(|segment| segment == "quarantine") {
            return Err(
                "choose another name than quarantine: what lies below it is never made into rows".to_owned()
            );
        }
        if !segments || !text.chars().all(plain) || text.len() > 500 {
            return Err("write up to 500 letters, digits and - _ . = + @ , : ( ) ! ' in segments parted by single /, without a leading /".to_owned());
        }
        Ok(Self(format!("{text}/")))
    }

    /// The text before every key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder of one topic's objects: `{prefix}{topic}/`.
#[must_use]
pub fn topic_folder(prefix: &Prefix, topic: &str) -> String {
    format!("{prefix}{topic}/")
}

/// The folder of one partition's objects: `{prefix}{topic}/partition={partition}/`.
#[must_use]
pub fn partition_folder(prefix: &Prefix, topic: &str, partition: i32) -> String {
    format!("{prefix}{topic}/partition={partition}/")
}

/// What says whose objects a topic's folder holds.
#[must_use]
pub fn manifest(prefix: &Prefix, topic: &str) -> String {
    format!("{prefix}{topic}/_coinduit.json")
}

/// What `consumer check` stores in `folder` (it is empty, or ends in `/`), once. Its name is
/// never made into rows, and its folder's is no topic's.
#[must_use]
pub fn probe(folder: &str) -> String {
    format!("{folder}_check=1/_coinduit.json")
}

/// The object that continues from `tail`. `extension` is `jsonl`, `jsonl.gz` or `jsonl.zst`.
#[must_use]
pub fn object(prefix: &Prefix, topic: &str, partition: i32, tail: i64, extension: &str) -> String {
    format!("{prefix}{topic}/partition={partition}/{tail:020}.{extension}")
}

/// Where a listing starts that shall bring the objects from `tail` on, and none before.
///
/// `0…012` sorts behind `0…011.jsonl` and before `0…012.jsonl`, so it serves as "start after".
#[must_use]
pub fn before(prefix: &Prefix, topic: &str, partition: i32, tail: i64) -> String {
    format!("{prefix}{topic}/partition={partition}/{tail:020}")
}

/// The name, that is the tail, in the key of one of `folder`'s data objects; `None` for any other key.
#[must_use]
pub fn tail_of(folder: &str, key: &str) -> Option<i64> {
    let (name, extension) = key.strip_prefix(folder)?.split_once('.')?;
    if !matches!(extension, "jsonl" | "jsonl.gz" | "jsonl.zst")
        || name.len() != 20
        || !name.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    name.parse().ok()
}

/// The partition in whose folder below `topic_folder` the key lies; `None` for any other key.
#[must_use]
pub fn partition_of(topic_folder: &str, key: &str) -> Option<i32> {
    let (number, _) = key.strip_prefix(topic_folder)?.strip_prefix("partition=")?.split_once('/')?;
    let partition: i32 = number.parse().ok()?;
    (partition >= 0 && partition.to_string() == number).then_some(partition)
}

/// The object of one record, in the layout of one object each. Neither part has a slash.
#[must_use]
pub fn record(prefix: &Prefix, code: &str, id: &str) -> String {
    format!("{prefix}{code}_{id}.json")
}

/// The object of one record where [`record`] is taken by other bytes.
#[must_use]
pub fn record_again(prefix: &Prefix, code: &str, id: &str, partition: i32, offset: i64) -> String {
    format!("{prefix}{code}_{id}_{partition}-{offset}.json")
}

/// Where a record goes that can't be a line.
#[must_use]
pub fn quarantine(prefix: &Prefix, topic: &str, partition: i32, offset: i64) -> String {
    format!("{}{offset:020}.json", quarantine_folder(prefix, topic, partition))
}

/// The folder of one partition's records that can't be lines.
#[must_use]
pub fn quarantine_folder(prefix: &Prefix, topic: &str, partition: i32) -> String {
    format!("{prefix}quarantine/{topic}/partition={partition}/")
}

/// The offset of the record in a quarantine `folder` that the key names; `None` for any other key.
#[must_use]
pub fn quarantined_offset(folder: &str, key: &str) -> Option<i64> {
    let name = key.strip_prefix(folder)?.strip_suffix(".json")?;
    let digits = name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_the_contracts() {
        let prefix = Prefix::new("raw").unwrap();
        assert_eq!(
            object(&prefix, "crypto_prices", 3, 12_345, "jsonl"),
            "raw/crypto_prices/partition=3/00000000000000012345.jsonl"
        );
        assert_eq!(
            quarantine(&prefix, "crypto_prices", 3, 7),
            "raw/quarantine/crypto_prices/partition=3/00000000000000000007.json"
        );
        assert_eq!(manifest(&Prefix::default(), "t"), "t/_coinduit.json");
    }

    #[test]
    fn a_prefix_ends_in_one_slash_or_is_refused() {
        assert_eq!(Prefix::new("a/b/").unwrap().as_str(), "a/b/");
        assert_eq!(Prefix::new("dt=2026").unwrap().as_str(), "dt=2026/");
        assert_eq!(Prefix::new("").unwrap().as_str(), "");
        for wrong in ["a/quarantine", "/a", "a//b", "a/../b", "ä", "a?b", "a\nb", "a%b"] {
            assert!(Prefix::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_keys_have_no_tail() {
        let folder = "t/partition=0/";
        for other in [
            "t/partition=0/1.jsonl",
            "t/partition=0/00000000000000000001.json",
            "t/partition=1/00000000000000000001.jsonl",
            "t/partition=0/+0000000000000000001.jsonl",
            "t/partition=0/99999999999999999999.jsonl",
        ] {
            assert_eq!(tail_of(folder, other), None, "{other}");
        }
        assert_eq!(tail_of(folder, "t/partition=0/00000000000000000001.jsonl.gz"), Some(1));
    }

    #[test]
    fn folders_know_what_is_theirs() {
        for (key, partition) in [
            ("p/t/partition=0/x", Some(0)),
            ("p/t/partition=12/00000000000000000001.jsonl", Some(12)),
            ("p/t/partition=012/x", None),
            ("p/t/partition=-1/x", None),
            ("p/t/partition=1", None),
            ("p/t/_coinduit.json", None),
            ("p/u/partition=1/x", None),
        ] {
            assert_eq!(partition_of("p/t/", key), partition, "{key}");
        }
        let folder = quarantine_folder(&Prefix::default(), "t", 3);
        assert_eq!(quarantined_offset(&folder, &quarantine(&Prefix::default(), "t", 3, 7)), Some(7));
        for other in
            ["7.json", "00000000000000000007.jsonl", "+0000000000000000007.json", "99999999999999999999.json"]
        {
            assert_eq!(quarantined_offset(&folder, &format!("{folder}{other}")), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_tails_do_and_are_read_back(a in 0..=i64::MAX, b in 0..=i64::MAX) {
            let prefix = Prefix::default();
            let (first, second) = (object(&prefix, "t", 0, a, "jsonl"), object(&prefix, "t", 0, b, "jsonl"));
            prop_assert_eq!(first.cmp(&second), a.cmp(&b));
            prop_assert_eq!(tail_of(&partition_folder(&prefix, "t", 0), &first), Some(a));
            prop_assert_eq!(first > before(&prefix, "t", 0, b), a >= b);
        }

        #[test]
        fn any_key_can_be_parsed(key in "\\PC*") {
            prop_assert!(tail_of("t/", &key).is_none_or(|tail| tail >= 0));
        }
    }
}
