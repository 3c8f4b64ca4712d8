//! Exactly once, checked from outside: the log as Kafka has it against the objects as the bucket has them.

use std::collections::BTreeSet;

use crate::bucket::Object;
use crate::kafka::RecordAndOffset;

/// Checks that `chain` holds `log` from its root to `end`: every record that can be a line is one, once, in
/// order, byte for byte (so with `ENRICH=off`), and each object says so of itself. Returns the offsets of
/// those that must have been quarantined.
///
/// # Panics
/// When that is not so.
pub fn holds_exactly_once(
    chain: &[Object],
    log: &[RecordAndOffset],
    end: i64,
    is_line: impl Fn(&[u8]) -> bool,
) -> BTreeSet<i64> {
    let mut tail = 0;
    let mut quarantined = BTreeSet::new();
    let mut writers = BTreeSet::new();
    for object in chain {
        let key = &object.key;
        let (from, to) = (name(key), object.number("tooffset"));
        assert_eq!(from, tail, "{key} does not continue from the end of the object before it");
        assert_eq!(from, object.number("fromoffset"), "{key} says another number than its name");
        assert!(to > from, "{key} ends at {to}");
        assert!(writers.insert(object.meta("writer")), "{key}: a batch stands in two objects");

        let (lines, others): (Vec<_>, Vec<_>) = log
            .iter()
            .filter(|found| (from..to).contains(&found.offset))
            .partition(|found| found.record.value.as_deref().is_some_and(&is_line));
        let expected: Vec<&str> = lines.iter().map(|found| text(found)).collect();
        assert_eq!(object.lines(), expected, "the lines of {key}, which ends at {to}");
        assert_eq!(object.number("records"), count(lines.len()), "records of {key}");
        assert_eq!(object.number("quarantined"), count(others.len()), "quarantined of {key}");
        if let (Some(first), Some(last)) = (lines.first(), lines.last()) {
            let bounds = (object.number("firstoffset"), object.number("lastoffset"));
            assert_eq!(bounds, (first.offset, last.offset), "first and last offset of {key}");
        }
        quarantined.extend(others.iter().map(|found| found.offset));
        tail = to;
    }
    assert_eq!(tail, end, "the chain's end and the log's");
    quarantined
}

/// The number that an object of the chain is named by.
///
/// # Panics
/// When the key is not one of the contract's.
pub fn name(key: &str) -> i64 {
    let name = key.rsplit('/').next().and_then(|name| name.strip_suffix(".jsonl")).unwrap_or_default();
    assert_eq!(name.len(), 20, "{key} is not named as an object of a chain");
    name.parse().unwrap_or_else(|_| panic!("{key} is not named by a number"))
}

fn text(found: &RecordAndOffset) -> &str {
    std::str::from_utf8(found.record.value.as_deref().unwrap_or_default()).expect("lines are text")
}

fn count(number: usize) -> i64 {
    i64::try_from(number).expect("tests have few records")
}
