//! Cuts the bytes of an object into lines, as they come, without ever holding more than one line.
//!
//! A line longer than [`MAX_LINE_BYTES`] is counted and numbered like any other, but only its beginning is kept: an
//! object without a single line break, or one that was compressed a thousandfold, costs no memory.

/// The longest line that is read: far beyond what DynamoDB stores of it.
pub const MAX_LINE_BYTES: usize = 4 << 20;
/// How much is kept of a longer one.
const KEPT_BYTES: usize = 64 << 10;

/// A line and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its number, from 1; blank lines count too.
    pub number: usize,
    /// Its bytes without the line break, or the beginning of them.
    pub raw: &'a [u8],
    /// How long it is. Longer than `raw` where that is only the beginning.
    pub bytes: u64,
}

impl Line<'_> {
    /// Whether nothing but its beginning was kept.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        u64::try_from(self.raw.len()).is_ok_and(|kept| kept < self.bytes)
    }
}

/// The state between two chunks.
#[derive(Debug)]
pub struct Cutter {
    /// Line breaks mean nothing: the object is one record.
    whole: bool,
    number: usize,
    /// What there is of the line under way.
    partial: Vec<u8>,
    /// How long that line is so far.
    bytes: u64,
    /// Whether `partial` was handed out.
    handed_out: bool,
}

impl Cutter {
    /// For the object `key`. One named `.json` is one record, however it is laid out.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self { whole: key.ends_with(".json"), number: 0, partial: Vec::new(), bytes: 0, handed_out: false }
    }

    /// Takes bytes from the front of `chunk`, up to the end of a line that is not blank; `None` when `chunk` is used up.
    pub fn next<'a, 'c: 'a>(&'a mut self, chunk: &mut &'c [u8]) -> Option<Line<'a>> {
        if std::mem::take(&mut self.handed_out) {
            self.begin();
        }
        loop {
            let end = if self.whole { None } else { chunk.iter().position(|byte| *byte == b'\n') };
            let Some(end) = end else {
                self.keep(chunk);
                *chunk = &[];
                return None;
            };
            let rest = &chunk[..end];
            *chunk = &chunk[end + 1..];
            self.number += 1;
            if self.bytes == 0 && end <= MAX_LINE_BYTES {
                // The usual line: it lies in one chunk, and is not copied.
                let raw = rest.trim_ascii();
                if !raw.is_empty() {
                    return Some(Line { number: self.number, raw, bytes: length(raw) });
                }
                continue;
            }
            self.keep(rest);
            if self.is_blank() {
                self.begin();
                continue;
            }
            return Some(self.hand_out());
        }
    }

    /// The last line, where it has no line break.
    pub fn end(&mut self) -> Option<Line<'_>> {
        if std::mem::take(&mut self.handed_out) {
            self.begin();
        }
        if self.is_blank() {
            return None;
        }
        self.number += 1;
        Some(self.hand_out())
    }

    fn begin(&mut self) {
        self.partial.clear();
        // One long line shall not cost its memory for ever.
        self.partial.shrink_to(KEPT_BYTES);
        self.bytes = 0;
    }

    fn keep(&mut self, bytes: &[u8]) {
        let fits = !self.is_too_long() && self.partial.len() + bytes.len() <= MAX_LINE_BYTES;
        self.bytes += length(bytes);
        if fits {
            self.partial.extend_from_slice(bytes);
            return;
        }
        let room = KEPT_BYTES.saturating_sub(self.partial.len()).min(bytes.len());
        self.partial.extend_from_slice(&bytes[..room]);
        self.partial.truncate(KEPT_BYTES);
        self.partial.shrink_to(KEPT_BYTES);
    }

    fn is_blank(&self) -> bool {
        !self.is_too_long() && self.partial.trim_ascii().is_empty()
    }

    fn is_too_long(&self) -> bool {
        length(&self.partial) < self.bytes
    }

    fn hand_out(&mut self) -> Line<'_> {
        self.handed_out = true;
        if self.is_too_long() {
            return Line { number: self.number, raw: &self.partial, bytes: self.bytes };
        }
        let raw = self.partial.trim_ascii();
        Line { number: self.number, raw, bytes: length(raw) }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Number and bytes of all lines of an object that comes in these chunks.
    fn cut(key: &str, chunks: &[&[u8]]) -> Vec<(usize, Vec<u8>, u64)> {
        let mut cutter = Cutter::new(key);
        let mut lines = Vec::new();
        for chunk in chunks {
            let mut chunk = *chunk;
            while let Some(line) = cutter.next(&mut chunk) {
                lines.push((line.number, line.raw.to_vec(), line.bytes));
            }
        }
        lines.extend(cutter.end().map(|line| (line.number, line.raw.to_vec(), line.bytes)));
        lines
    }

    fn texts(key: &str, chunks: &[&str]) -> Vec<(usize, String)> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
        cut(key, &chunks)
            .into_iter()
            .map(|(number, raw, _)| (number, String::from_utf8(raw).unwrap()))
            .collect()
    }

    #[test]
    fn lines_are_counted_with_the_blank_ones() {
        let lines = [(1, "{\"a\":1}".to_owned()), (4, "{\"b\":2}".to_owned()), (5, "{}".to_owned())];
        assert_eq!(texts("a.jsonl", &["{\"a\":1}\r\n\n  \n{\"b\":2}\n{}"]), lines);
        assert_eq!(texts("a.jsonl.gz", &["{\"a\"", ":1}\r", "\n\n ", " ", "\n{\"b\":2}", "\n{", "}"]), lines);
        assert_eq!(texts("a.jsonl", &[""]), []);
        assert_eq!(texts("a.jsonl", &["\n", "\n \n"]), []);
    }

    #[test]
    fn an_object_of_one_record_is_one_line() {
        assert_eq!(texts("BTC_1.json", &["{\n \"a\":", " 1\n}\n"]), [(1, "{\n \"a\": 1\n}".to_owned())]);
        assert_eq!(texts("BTC_1.json", &["\n"]), []);
    }

    #[test]
    fn of_a_line_that_is_too_long_only_the_beginning_is_kept() {
        let long = vec![b'x'; MAX_LINE_BYTES];
        for chunk in [1 << 10, 1 << 16, MAX_LINE_BYTES, 2 * MAX_LINE_BYTES] {
            let object = [b"{}\n", &long[..], b"xy\n", &long[..], b"\n{}\n"].concat();
            let chunks: Vec<_> = object.chunks(chunk).collect();
            let lines = cut("a.jsonl", &chunks);
            let shape: Vec<_> =
                lines.iter().map(|(number, raw, bytes)| (*number, raw.len(), *bytes)).collect();
            let most = MAX_LINE_BYTES as u64;
            assert_eq!(
                shape,
                [(1, 2, 2), (2, KEPT_BYTES, most + 2), (3, MAX_LINE_BYTES, most), (4, 2, 2)],
                "{chunk}"
            );
        }
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(object in "[ab \\r\\n]{0,60}", cuts in prop::collection::vec(0..60usize, 0..6)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(object.len())).chain([0, object.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|ends| &object[ends[0]..ends[1]]).collect();
            for key in ["a.jsonl", "a.json"] {
                prop_assert_eq!(texts(key, &chunks), texts(key, &[&object]));
            }
            let expected: Vec<_> = object.split('\n').enumerate().map(|(at, line)| (at + 1, line.trim().to_owned())).filter(|(_, line)| !line.is_empty()).collect();
            prop_assert_eq!(texts("a.jsonl", &chunks), expected);
        }
    }
}
