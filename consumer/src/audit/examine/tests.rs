use coinduit_common::object_key::{self, Prefix};
use proptest::prelude::*;

use super::*;
use crate::ledger::{
    commit::{CommitMetadata, LedgerId},
    metadata::{Closed, SkipReason},
};

fn key(name: i64) -> String {
    object_key::object(&Prefix::default(), "t", 0, name, "jsonl")
}

/// An object of nothing but records.
fn metadata(from: i64, to: i64) -> ObjectMetadata {
    ObjectMetadata {
        from_offset: from,
        to_offset: to,
        stored: Some(Stored {
            first_offset: from,
            last_offset: to - 1,
            first_timestamp_ms: 0,
            last_timestamp_ms: 0,
        }),
        records: u64::try_from(to - from).unwrap(),
        quarantined: 0,
        skipped: Vec::new(),
        writer: format!("w/{from}"),
        closed: Closed::Records,
    }
}

fn object(metadata: &ObjectMetadata) -> SeenObject {
    SeenObject {
        name: metadata.from_offset,
        key: key(metadata.from_offset),
        metadata: Some(metadata.to_user_metadata()),
    }
}

/// A chain of three: 0-10, 10-20, 20-30.
fn sound() -> Seen {
    Seen {
        partition: 0,
        objects: [metadata(0, 10), metadata(10, 20), metadata(20, 30)].iter().map(object).collect(),
        strangers: Vec::new(),
        quarantine: BTreeSet::new(),
        commit: Commit::Unknown,
    }
}

/// The sound chain with the object in the middle replaced.
fn with_middle(middle: &ObjectMetadata) -> Seen {
    let mut seen = sound();
    seen.objects[1] = SeenObject { metadata: Some(middle.to_user_metadata()), ..object(&metadata(10, 20)) };
    seen
}

fn ours(offset: i64, tail: i64, skipped: Vec<Skip>) -> Commit {
    let ledger = LedgerId::new("b", &Prefix::default(), "t");
    Commit::Ours { offset, metadata: CommitMetadata { ledger, tail, skipped, quarantined: 0 } }
}

fn findings(seen: Seen) -> Vec<Finding> {
    examine(seen).0.findings
}

/// The only finding: its kind, keys and offsets.
fn only(seen: Seen) -> (Kind, Vec<String>, Option<(i64, i64)>) {
    let findings = findings(seen);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].keys.iter().all(|key| findings[0].problem.contains(key.as_str())), "{findings:?}");
    (findings[0].kind, findings[0].keys.clone(), findings[0].offsets)
}

fn skip(from: i64, to: i64) -> Skip {
    Skip { from, to, reason: SkipReason::Retention }
}

#[test]
fn a_sound_chain_is_summed_up() {
    let mut seen = sound();
    seen.objects.reverse();
    let (report, links) = examine(seen);
    let expected = PartitionReport {
        first: Some(0),
        tail: Some(30),
        handled: Some(30),
        objects: 3,
        records: 30,
        ..PartitionReport::new(0)
    };
    assert_eq!(report, expected);
    assert_eq!(
        links.iter().map(|link| (link.from, link.to)).collect::<Vec<_>>(),
        [(0, 10), (10, 20), (20, 30)]
    );
}

#[test]
fn an_empty_partition_is_no_finding() {
    assert_eq!(examine(Seen { objects: Vec::new(), ..sound() }).0, PartitionReport::new(0));
}

#[test]
fn a_missing_object_is_a_gap_between_its_neighbours() {
    let mut seen = sound();
    seen.objects.remove(1);
    assert_eq!(only(seen), (Kind::Gap, vec![key(0), key(20)], Some((10, 20))));
}

#[test]
fn an_object_that_goes_on_too_far_is_an_overlap() {
    let seen = with_middle(&metadata(10, 25));
    assert_eq!(only(seen), (Kind::Overlap, vec![key(10), key(20)], Some((20, 25))));
    let whole = with_middle(&metadata(10, 40));
    assert_eq!(only(whole.clone()), (Kind::Overlap, vec![key(10), key(20)], Some((20, 30))));
    assert_eq!(examine(whole).0.tail, Some(40), "the tail is the greatest end");
}

#[test]
fn a_name_that_is_not_the_beginning_is_found_and_continues_nothing() {
    let mut seen = sound();
    let copied = ObjectMetadata { writer: "another/1".to_owned(), ..metadata(10, 20) };
    seen.objects.push(SeenObject { name: 15, key: key(15), ..object(&copied) });
    assert_eq!(only(seen), (Kind::Name, vec![key(15)], None));
}

#[test]
fn metadata_that_cannot_be_read_is_one_finding_and_no_gap() {
    for (name, value) in [("tooffset", "x"), ("records", "-1"), ("closed", "tired"), ("fromoffset", "ten")] {
        let mut seen = sound();
        seen.objects[1].metadata.as_mut().unwrap().insert(name.to_owned(), value.to_owned());
        assert_eq!(only(seen), (Kind::Metadata, vec![key(10)], None), "{name}");
    }
    let mut seen = sound();
    seen.objects[1].metadata = Some(UserMetadata::new());
    assert_eq!(only(seen), (Kind::Metadata, vec![key(10)], None));
}

#[test]
fn an_object_that_is_gone_is_found_with_its_gap() {
    let mut seen = sound();
    seen.objects[1].metadata = None;
    let kinds: Vec<Kind> = findings(seen).iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [Kind::Gone, Kind::Gap]);
}

#[test]
fn two_objects_of_one_name_are_found_once() {
    let mut seen = sound();
    let other = ObjectMetadata { writer: "another/1".to_owned(), ..metadata(10, 20) };
    let packed = object_key::object(&Prefix::default(), "t", 0, 10, "jsonl.gz");
    seen.objects.push(SeenObject { key: packed.clone(), ..object(&other) });
    assert_eq!(only(seen), (Kind::Twins, vec![key(10), packed], None));
}

#[test]
fn one_batch_in_two_objects_is_found() {
    let seen = with_middle(&ObjectMetadata { writer: "w/0".to_owned(), ..metadata(10, 20) });
    assert_eq!(only(seen), (Kind::Writer, vec![key(0), key(10)], None));
}

#[test]
fn numbers_that_contradict_each_other_are_found() {
    let whole = metadata(10, 20);
    let stored = |first_offset, last_offset| {
        Some(Stored { first_offset, last_offset, first_timestamp_ms: 0, last_timestamp_ms: 0 })
    };
    for (what, broken) in [
        ("first too low", ObjectMetadata { stored: stored(9, 19), ..whole.clone() }),
        ("last too high", ObjectMetadata { stored: stored(10, 20), ..whole.clone() }),
        ("last before first", ObjectMetadata { stored: stored(15, 14), records: 1, ..whole.clone() }),
        ("too many", ObjectMetadata { records: 11, stored: stored(10, 19), ..whole.clone() }),
        (
            "too many for first and last",
            ObjectMetadata { records: 6, stored: stored(11, 15), ..whole.clone() },
        ),
        ("one for two", ObjectMetadata { records: 1, ..whole.clone() }),
        ("two for one", ObjectMetadata { records: 2, stored: stored(11, 11), ..whole.clone() }),
        ("none, and first and last", ObjectMetadata { records: 0, ..whole.clone() }),
        ("some, without first and last", ObjectMetadata { stored: None, ..whole.clone() }),
    ] {
        let findings = findings(with_middle(&broken));
        assert!(!findings.is_empty(), "{what}");
        for finding in findings {
            assert_eq!(
                (finding.kind, finding.keys, finding.offsets),
                (Kind::Numbers, vec![key(10)], Some((10, 20))),
                "{what}"
            );
        }
    }
}

#[test]
fn skipped_ranges_stay_in_their_object_and_off_its_records() {
    let stored =
        Some(Stored { first_offset: 12, last_offset: 17, first_timestamp_ms: 0, last_timestamp_ms: 0 });
    let few = ObjectMetadata { stored, records: 2, ..metadata(10, 20) };
    let skipping = |skips: Vec<Skip>| with_middle(&ObjectMetadata { skipped: skips, ..few.clone() });
    let (report, _) = examine(skipping(vec![skip(10, 12), skip(13, 17), skip(18, 20)]));
    assert_eq!((report.findings, report.skipped.len()), (Vec::new(), 3));
    for wrong in [skip(8, 12), skip(18, 21), skip(10, 13), skip(17, 20), skip(12, 13)] {
        assert_eq!(only(skipping(vec![wrong])), (Kind::Skip, vec![key(10)], Some((10, 20))), "{wrong}");
    }
}

#[test]
fn quarantine_holds_at_least_what_objects_have_counted() {
    let counted = ObjectMetadata { records: 8, quarantined: 2, ..metadata(10, 20) };
    let with =
        |offsets: &[i64]| Seen { quarantine: offsets.iter().copied().collect(), ..with_middle(&counted) };
    assert_eq!(findings(with(&[12, 13])), []);
    assert_eq!(findings(with(&[12, 13, 14])), [], "one that was behind the tail when its consumer ended");
    for offsets in [&[12][..], &[9, 12, 20]] {
        assert_eq!(only(with(offsets)), (Kind::Quarantine, vec![key(10)], Some((10, 20))));
    }
}

#[test]
fn what_is_no_object_is_a_stranger() {
    let seen = Seen { strangers: vec!["t/partition=0/notes.txt".to_owned()], ..sound() };
    assert_eq!(only(seen), (Kind::Stranger, vec!["t/partition=0/notes.txt".to_owned()], None));
}

#[test]
fn a_chain_that_begins_later_is_worth_a_note() {
    let mut seen = sound();
    seen.objects.remove(0);
    let (report, _) = examine(seen);
    assert!(report.findings.is_empty());
    assert!(report.notes[0].starts_with("the chain begins at 10"), "{:?}", report.notes);
}

#[test]
fn a_commit_shows_that_the_last_object_is_missing() {
    let seen = |commit| Seen { commit, ..sound() };
    assert_eq!(only(seen(ours(45, 40, Vec::new()))), (Kind::End, vec![key(20)], Some((30, 40))));
    let (behind, _) = examine(seen(ours(20, 20, Vec::new())));
    assert_eq!((behind.findings.len(), behind.handled), (0, Some(30)));
    let (ahead, _) = examine(seen(ours(35, 30, vec![skip(0, 5), skip(31, 33)])));
    assert_eq!((ahead.handled, ahead.skipped), (Some(35), vec![skip(31, 33)]));
    let (empty, _) = examine(Seen { objects: Vec::new(), ..seen(ours(35, 30, Vec::new())) });
    assert_eq!((empty.findings.len(), empty.notes.len(), empty.handled), (0, 1, Some(35)));
}

#[test]
fn a_foreign_commit_is_a_note_and_does_not_count() {
    let commit = Commit::Foreign { offset: 99, problem: "reset by hand".to_owned() };
    let (report, _) = examine(Seen { commit, ..sound() });
    assert_eq!((report.findings.len(), report.handled), (0, Some(30)));
    assert!(report.notes[0].contains("99") && report.notes[0].contains("reset by hand"));
}

/// Chains as a consumer makes them: offsets without records, quarantined ones, skips.
fn any_chain() -> impl Strategy<Value = Seen> {
    let shape = (1i64..20, 0i64..20, 0i64..20, 0i64..3);
    (0i64..5, prop::collection::vec(shape, 1..20)).prop_map(|(first, shapes)| {
        let mut seen = Seen { objects: Vec::new(), ..sound() };
        let mut from = first;
        for (records, before, after, quarantined) in shapes {
            let stored_from = from + before;
            let quarantine_from = stored_from + records;
            let to = quarantine_from + quarantined + after;
            let skips = [skip(from, stored_from), skip(quarantine_from + quarantined, to)];
            let metadata = ObjectMetadata {
                to_offset: to,
                records: u64::try_from(records).unwrap(),
                quarantined: u64::try_from(quarantined).unwrap(),
                stored: Some(Stored {
                    first_offset: stored_from,
                    last_offset: quarantine_from - 1,
                    first_timestamp_ms: 0,
                    last_timestamp_ms: 0,
                }),
                skipped: skips.into_iter().filter(|skip| skip.from < skip.to).collect(),
                ..metadata(from, to)
            };
            seen.quarantine.extend(quarantine_from..quarantine_from + quarantined);
            seen.objects.push(object(&metadata));
            from = to;
        }
        seen
    })
}

proptest! {
    #[test]
    fn a_sound_chain_has_no_finding(seen in any_chain()) {
        prop_assert_eq!(findings(seen), []);
    }

    #[test]
    fn any_missing_object_but_the_outermost_is_found_between_its_neighbours(seen in any_chain(), at: prop::sample::Index) {
        let mut seen = seen;
        prop_assume!(seen.objects.len() > 2);
        let middle = 1 + at.index(seen.objects.len() - 2);
        let removed = seen.objects.remove(middle);
        let neighbours = vec![seen.objects[middle - 1].key.clone(), seen.objects[middle].key.clone()];
        let next = seen.objects[middle].name;
        let (kind, keys, offsets) = only(seen);
        prop_assert_eq!((kind, keys, offsets), (Kind::Gap, neighbours, Some((removed.name, next))));
    }

    #[test]
    fn any_metadata_can_be_examined(names in prop::collection::vec((0i64..40, any::<bool>()), 0..6), values in prop::collection::vec("[0-9]{1,19}|\\PC*", 6)) {
        let mut seen = sound();
        for (at, (name, known)) in names.into_iter().enumerate() {
            let mut metadata = metadata(name, name + 5).to_user_metadata();
            let entry = ["tooffset", "records", "firstoffset", "lastoffset", "quarantined", "skipped"][at];
            if known {
                metadata.insert(entry.to_owned(), values[at].clone());
            } else {
                metadata.remove(entry);
            }
            seen.objects.push(SeenObject { name, key: key(name), metadata: Some(metadata) });
        }
        let (report, links) = examine(seen);
        prop_assert!(links.len() <= report.objects);
    }
}
