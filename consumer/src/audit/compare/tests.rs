use proptest::prelude::*;

use super::*;
use crate::ledger::metadata::SkipReason;

fn link(from: i64, to: i64, records: u64) -> Link {
    Link {
        key: object_key::object(&Prefix::default(), "t", 0, from, "jsonl"),
        from,
        to,
        records,
        skipped: Vec::new(),
    }
}

fn record(offset: i64, value: &str) -> Record {
    Record {
        offset,
        timestamp_ms: offset,
        key: None,
        value: Some(Bytes::from(value.to_owned())),
        headers: Vec::new(),
    }
}

/// Some values stand in the log more than once.
fn good(offset: i64) -> Record {
    record(offset, &format!("{{\"n\":{}}}", offset % 7))
}

fn line_of(record: &Record, enrich: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let origin = enrich.then(|| batch::origin("t", 0, record));
    line::append(&mut out, record.value.as_deref(), origin).unwrap();
    out
}

fn body(records: &[Record], enrich: bool) -> Vec<u8> {
    records.iter().flat_map(|record| line_of(record, enrich)).collect()
}

/// Holds `log` against the object's whole bounds.
fn compare(link: &Link, log: &[Record], body: Vec<u8>, quarantine: &[i64]) -> Outcome {
    compare_from(link.from, link, log, body, quarantine)
}

fn compare_from(from: i64, link: &Link, log: &[Record], body: Vec<u8>, quarantine: &[i64]) -> Outcome {
    let stretch = Stretch { from, to: link.to, against: Against::Object(link) };
    run(stretch, log, body, quarantine, &[])
}

fn run(stretch: Stretch<'_>, log: &[Record], body: Vec<u8>, quarantine: &[i64], skips: &[Skip]) -> Outcome {
    let quarantine = quarantine.iter().copied().collect();
    let prefix = Prefix::default();
    let place = Place { prefix: &prefix, topic: "t", partition: 0 };
    let mut part = Part::new(place, stretch, &quarantine, skips, body.into());
    log.iter().for_each(|record| part.take(record));
    part.finish()
}

fn kinds(outcome: &Outcome) -> Vec<Kind> {
    outcome.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn the_log_is_cut_at_the_objects_bounds() {
    let chain = [link(10, 20, 10), link(20, 30, 10), link(40, 50, 10)];
    let cut = |start, end| -> Vec<(i64, i64, bool)> {
        let stretches = stretches(&chain, start, end);
        stretches.iter().map(|s| (s.from, s.to, s.against != Against::Nothing)).collect()
    };
    let whole =
        [(5, 10, false), (10, 20, true), (20, 30, true), (30, 40, false), (40, 50, true), (50, 60, false)];
    assert_eq!(cut(5, 60), whole);
    assert_eq!(cut(25, 50), [(25, 30, true), (30, 40, false), (40, 50, true)]);
    assert_eq!(cut(55, 60), [(55, 60, false)]);
    assert_eq!(cut(50, 50), []);
    assert_eq!(cut(0, 15), [(0, 10, false), (10, 15, true)]);
}

#[test]
fn what_overlaps_an_earlier_object_is_left_out() {
    let chain = [link(0, 20, 20), link(10, 30, 20), link(30, 40, 10)];
    let cut: Vec<_> = stretches(&chain, 0, 40).iter().map(|s| (s.from, s.to)).collect();
    assert_eq!(cut, [(0, 20), (30, 40)]);
}

#[test]
fn an_object_agrees_with_or_without_what_is_appended() {
    let log: Vec<Record> = (0..10).map(good).collect();
    for enrich in [false, true] {
        assert_eq!(compare(&link(0, 10, 10), &log, body(&log, enrich), &[]), Outcome::default());
    }
    let mixed = [body(&log[..5], false), body(&log[5..], true)].concat();
    assert_eq!(kinds(&compare(&link(0, 10, 10), &log, mixed, &[])), [Kind::Line]);
}

#[test]
fn a_changed_line_is_named_with_its_offset() {
    let log: Vec<Record> = (0..10).map(|n| record(n, &format!("{{\"n\":{n}}}"))).collect();
    let mut changed = log.clone();
    changed[4] = record(4, "{\"n\":44}");
    let outcome = compare(&link(0, 10, 10), &log, body(&changed, true), &[]);
    assert_eq!(kinds(&outcome), [Kind::Line]);
    assert_eq!(outcome.findings[0].offsets, Some((4, 5)));
    assert!(outcome.findings[0].problem.starts_with("line 5 of t/partition=0/"), "{outcome:?}");
}

#[test]
fn a_body_that_is_cut_off_is_found_wherever_it_is_cut() {
    let log: Vec<Record> = (0..4).map(good).collect();
    let whole = body(&log, false);
    for length in 0..whole.len() {
        let outcome = compare(&link(0, 4, 4), &log, whole[..length].to_vec(), &[]);
        assert!(kinds(&outcome).contains(&Kind::Line), "{length}: {outcome:?}");
    }
}

#[test]
fn a_line_too_many_is_found_though_the_object_counts_it() {
    let log: Vec<Record> = (0..10).map(good).collect();
    let repeated = [body(&log, false), line_of(&log[9], false)].concat();
    let outcome = compare(&link(0, 10, 11), &log, repeated, &[]);
    assert_eq!(kinds(&outcome), [Kind::ExtraLine]);
    assert!(outcome.findings[0].problem.starts_with("line 11 of"), "{outcome:?}");
}

#[test]
fn another_number_of_lines_than_it_says_is_found() {
    let log: Vec<Record> = (0..10).map(good).collect();
    assert_eq!(kinds(&compare(&link(0, 10, 9), &log, body(&log, false), &[])), [Kind::LineCount]);
}

#[test]
fn what_the_log_has_lost_can_be_in_the_object() {
    let all: Vec<Record> = (0..10).map(good).collect();
    let retained = compare_from(4, &link(0, 10, 10), &all[4..], body(&all, true), &[]);
    assert_eq!((retained.findings.len(), retained.notes.len()), (0, 1), "{retained:?}");
    let compacted: Vec<Record> = all.iter().filter(|record| record.offset % 3 != 0).cloned().collect();
    let outcome = compare(&link(0, 10, 10), &compacted, body(&all, false), &[]);
    assert_eq!((outcome.findings.len(), outcome.notes.len()), (0, 1), "{outcome:?}");
    let more = [body(&all, false), body(&all, false)].concat();
    assert_eq!(kinds(&compare(&link(0, 10, 20), &compacted, more, &[])), [Kind::ExtraLine]);
}

#[test]
fn what_cannot_be_a_line_lies_in_quarantine() {
    let log = [good(0), record(1, "nonsense"), record(2, "[]"), good(3)];
    let lines = body(&[good(0), good(3)], false);
    assert_eq!(compare(&link(0, 4, 2), &log, lines.clone(), &[1, 2]), Outcome::default());
    let outcome = compare(&link(0, 4, 2), &log, lines, &[]);
    assert_eq!(kinds(&outcome), [Kind::NotQuarantined]);
    let Finding { keys, offsets, problem, .. } = &outcome.findings[0];
    assert_eq!(
        (keys[0].as_str(), *offsets),
        ("quarantine/t/partition=0/00000000000000000001.json", Some((1, 2)))
    );
    assert!(problem.contains("and 1 more"), "{problem}");
}

#[test]
fn records_without_an_object_are_skipped_quarantined_or_missing() {
    let nothing = Stretch { from: 0, to: 10, against: Against::Nothing };
    let log: Vec<Record> = (0..10).map(good).collect();
    let skip = |from, to| Skip { from, to, reason: SkipReason::ForeignCommit };
    assert_eq!(run(nothing, &log, Vec::new(), &[9], &[skip(0, 4), skip(4, 9)]), Outcome::default());
    let outcome = run(nothing, &log, Vec::new(), &[9], &[skip(0, 4)]);
    assert_eq!((kinds(&outcome), outcome.findings[0].offsets), (vec![Kind::NotStored], Some((4, 9))));
    assert!(outcome.findings[0].problem.contains("5 records"), "{outcome:?}");
}

#[test]
fn records_in_a_skipped_range_are_no_lines() {
    let log: Vec<Record> = (0..10).map(good).collect();
    let skipped = vec![Skip { from: 0, to: 6, reason: SkipReason::Reset }];
    let object = Link { skipped, ..link(0, 10, 4) };
    assert_eq!(compare(&object, &log, body(&log[6..], false), &[]), Outcome::default());
    let all = compare(&Link { records: 10, ..object }, &log, body(&log, false), &[]);
    assert_eq!(kinds(&all), [Kind::ExtraLine]);
}

proptest! {
    /// Whatever the log lacks and wherever it begins.
    #[test]
    fn a_sound_object_has_no_finding(
        values in prop::collection::vec((0u8..4, any::<bool>(), any::<bool>()), 1..40),
        start in 0i64..40,
        enrich: bool,
    ) {
        let (mut lines, mut log, mut quarantine) = (Vec::new(), Vec::new(), Vec::new());
        let mut records = 0;
        let mut offset = 0;
        for (value, bad, lost) in values {
            let record = if bad { record(offset, "bad") } else { record(offset, &format!("{{\"n\":{value}}}")) };
            if bad {
                quarantine.push(offset);
            } else {
                lines.extend(line_of(&record, enrich));
                records += 1;
            }
            if !lost && offset >= start {
                log.push(record);
            }
            offset += 1;
        }
        let object = link(0, offset, records);
        let outcome = compare_from(start.min(offset), &object, &log, lines, &quarantine);
        prop_assert_eq!(outcome.findings, []);
    }

    /// Where the log lacks nothing, no line can be taken out, put in twice or moved.
    #[test]
    fn any_change_of_the_lines_is_found(count in 2usize..20, from: prop::sample::Index, to: prop::sample::Index, how in 0..3) {
        let log: Vec<Record> = (0..i64::try_from(count).unwrap()).map(|n| record(n, &format!("{{\"n\":{n}}}"))).collect();
        let mut changed = log.clone();
        let (from, to) = (from.index(count), to.index(count));
        match how {
            0 => drop(changed.remove(from)),
            1 => changed.insert(to, log[from].clone()),
            _ => {
                prop_assume!(from != to);
                changed.swap(from, to);
            }
        }
        let records = u64::try_from(changed.len()).unwrap();
        let outcome = compare(&link(0, i64::try_from(count).unwrap(), records), &log, body(&changed, false), &[]);
        prop_assert!(!outcome.findings.is_empty());
    }
}
