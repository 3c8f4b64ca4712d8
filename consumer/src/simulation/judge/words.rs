//! What an object's metadata and a commit say, read by the contract's words alone.

use crate::ledger::bucket::UserMetadata;

/// Offsets `from..to`, stepped over.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) reason: String,
}

impl Range {
    pub(super) fn holds(&self, offset: i64) -> bool {
        (self.from..self.to).contains(&offset)
    }

    fn read_all(text: Option<&str>) -> Result<Vec<Self>, String> {
        let read = |word: &str| {
            let (range, reason) = word.split_once(':')?;
            let (from, to) = range.split_once('-')?;
            Some(Self { from: from.parse().ok()?, to: to.parse().ok()?, reason: reason.to_owned() })
        };
        let words = text.into_iter().flat_map(|text| text.split(','));
        words.map(|word| read(word).ok_or_else(|| format!("{word:?} is no range"))).collect()
    }
}

/// What an object says about itself.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) first: Option<i64>,
    pub(super) last: Option<i64>,
    pub(super) records: usize,
    pub(super) quarantined: usize,
    pub(super) skipped: Vec<Range>,
    pub(super) writer: String,
}

impl Metadata {
    pub(super) fn read(metadata: &UserMetadata) -> Result<Self, String> {
        fn number<T: std::str::FromStr>(metadata: &UserMetadata, name: &str) -> Result<Option<T>, String> {
            let text = metadata.get(name);
            text.map(|text| text.parse().map_err(|_| format!("{name} is {text:?}"))).transpose()
        }
        let lacks = |name: &str| format!("it has no {name}");
        Ok(Self {
            from: number(metadata, "fromoffset")?.ok_or_else(|| lacks("fromoffset"))?,
            to: number(metadata, "tooffset")?.ok_or_else(|| lacks("tooffset"))?,
            first: number(metadata, "firstoffset")?,
            last: number(metadata, "lastoffset")?,
            records: number(metadata, "records")?.ok_or_else(|| lacks("records"))?,
            quarantined: number(metadata, "quarantined")?.ok_or_else(|| lacks("quarantined"))?,
            skipped: Range::read_all(metadata.get("skipped").map(String::as_str))?,
            writer: metadata.get("writer").cloned().ok_or_else(|| lacks("writer"))?,
        })
    }
}

/// A commit of ours.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) offset: i64,
    pub(super) tail: i64,
    pub(super) skipped: Vec<Range>,
}

impl Commit {
    pub(super) fn read(offset: i64, text: &str) -> Result<Self, String> {
        let word = |name: &str| text.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let tail = word("tail").and_then(|tail| tail.parse().ok()).ok_or("it has no tail")?;
        Ok(Self { offset, tail, skipped: Range::read_all(word("skipped"))? })
    }
}
