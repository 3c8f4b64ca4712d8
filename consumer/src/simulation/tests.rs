//! Many histories that must hold, and many with a mistake in them that must not.

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::*;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Plays histories on all cores; fails with the first that does not hold, and says how to see it again.
fn must_hold(kind: Kind, seeds: Range<u64>) {
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let history = play(seed, kind, None);
                    if !history.verdicts.is_empty() {
                        failed.lock().unwrap().push(history);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|history| history.seed);
    let Some(History { seed, verdicts, log }) = failed.first() else { return };
    let others: Vec<u64> = failed.iter().map(|history| history.seed).collect();
    panic!(
        "{log}\nseed {seed} ({kind:?}) fails: {verdicts:#?}\nof {seeds:?} these fail: {others:?}\n\
         this one alone: COINDUIT_SEED={seed} COINDUIT_HISTORIES=1 cargo test -p coinduit-consumer --lib simulation::"
    );
}

/// Plays histories in which that mistake is made until one of them does not hold, and does not in one of these ways.
fn must_be_noticed(mistake: Misreading, kind: Kind, within: u64, ways: &[&str]) {
    let mut histories = (1..=within).map(|seed| play(seed, kind, Some(mistake)));
    let noticed = histories.find(|history| history.fails(ways));
    assert!(noticed.is_some(), "{mistake:?}: nothing is {ways:?} in any of {within} histories");
}

impl History {
    fn fails(&self, ways: &[&str]) -> bool {
        self.verdicts.iter().any(|verdict| ways.iter().any(|way| verdict.starts_with(way)))
    }
}

#[test]
fn nothing_is_lost_or_repeated_in_a_short_history() {
    let (first, count) = (number("COINDUIT_SEED", 1), number("COINDUIT_HISTORIES", 5_000));
    must_hold(Kind::Short, first..first + count);
}

#[test]
fn nothing_is_lost_or_repeated_in_a_history_longer_than_objects_live() {
    let (first, count) = (number("COINDUIT_SEED", 1), number("COINDUIT_HISTORIES", 5_000).div_ceil(10));
    must_hold(Kind::Long, first..first + count);
}

#[test]
fn the_same_seed_is_the_same_history() {
    for (seed, kind) in (1..=20).map(|seed| (seed, Kind::Short)).chain([(1, Kind::Long)]) {
        let [one, other] = [(); 2].map(|()| play(seed, kind, None).log);
        let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
        assert!(one == other, "seed {seed} ({kind:?}) differs: {differs:#?}");
    }
}

#[test]
fn histories_are_not_all_alike() {
    let logs: Vec<String> = (1..=30).map(|seed| play(seed, Kind::Short, None).log).collect();
    for what in [
        "crashes",
        "stands still",
        "is told to stop",
        "has no store",
        "it exists",
        "quarantine/",
        "the coordinator is away",
        ":reset",
        ":retention",
        ":foreign-commit",
        "created again",
        "expire",
        "removes",
    ] {
        assert!(logs.iter().any(|log| log.contains(what)), "no history has {what:?}");
    }
}

#[test]
fn the_end_in_the_name_repeats_records() {
    must_be_noticed(Misreading::EndInName, Kind::Short, 200, &["repeated"]);
}

#[test]
fn the_first_record_in_the_name_breaks_the_chain() {
    let ways = ["repeated", "skipped", "chain"];
    must_be_noticed(Misreading::FirstRecordInName, Kind::Short, 1_000, &ways);
}

#[test]
fn taking_exists_for_stored_loses_records() {
    must_be_noticed(Misreading::ExistsIsStored, Kind::Short, 100, &["lost"]);
}

#[test]
fn taking_a_winners_end_for_ones_own_loses_records() {
    must_be_noticed(Misreading::WinnerEndsAsWe, Kind::Short, 400, &["lost"]);
}

#[test]
fn taking_a_processes_earlier_object_for_this_one_loses_records() {
    must_be_noticed(Misreading::OursByProcess, Kind::Short, 2_000, &["lost", "chain"]);
}

#[test]
fn keeping_what_was_read_behind_a_lost_batch_loses_records() {
    must_be_noticed(Misreading::ReadAheadKept, Kind::Short, 200, &["lost"]);
}

#[test]
fn putting_on_under_a_stale_name_repeats_records() {
    must_be_noticed(Misreading::StalePutGoesOn, Kind::Long, 100, &["repeated"]);
}

#[test]
fn committing_what_was_only_read_loses_records() {
    must_be_noticed(Misreading::ReadIsHandled, Kind::Short, 10, &["lost"]);
}

#[test]
fn forgetting_another_members_skips_leaves_no_trace_of_records() {
    must_be_noticed(Misreading::SkipsForgotten, Kind::Short, 50, &["lost", "unquarantined"]);
}

#[test]
fn believing_a_foreign_commit_breaks_the_chain() {
    must_be_noticed(Misreading::ForeignCommitBelieved, Kind::Short, 100, &["lost", "repeated"]);
}

#[test]
fn reading_before_the_first_answer_is_committed_asks_twice() {
    must_be_noticed(Misreading::FirstAnswerNotCommitted, Kind::Short, 100, &["skipped"]);
}

#[test]
fn a_commit_with_one_skip_only_leaves_no_trace_of_records() {
    must_be_noticed(Misreading::OneSkipPerCommit, Kind::Short, 600, &["lost", "unquarantined"]);
}

#[test]
fn quarantining_afterwards_can_come_too_late() {
    must_be_noticed(Misreading::QuarantineAfterwards, Kind::Short, 20, &["unquarantined"]);
}

#[test]
fn ignoring_a_lapse_lets_the_dead_put() {
    must_be_noticed(Misreading::LapseIgnored, Kind::Short, 100, &["lapsed"]);
}

#[test]
fn a_topic_that_is_not_confirmed_continues_anothers_chain() {
    must_be_noticed(Misreading::TopicNotConfirmed, Kind::Short, 600, &["strange"]);
}

#[test]
fn a_newest_object_that_expires_is_noticed() {
    let mut histories = (1..=100).map(|seed| play(seed, Kind::EveryObjectExpires, None));
    assert!(histories.any(|history| history.fails(&["repeated", "chain"])));
}

#[test]
fn commits_that_expire_without_objects_are_noticed_with_latest() {
    let mut histories = (1..=100).map(|seed| play(seed, Kind::CommitsExpireAlone, None));
    assert!(histories.any(|history| history.fails(&["skipped"])));
}
