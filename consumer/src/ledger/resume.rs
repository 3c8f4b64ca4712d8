//! Where a partition goes on when it is assigned: from what the bucket, the group and the log say.
//!
//! ```text
//! chain (its end) --\
//! commit (a hint) ---+--> tail: names the next object    position: the next offset to read
//! log (its bounds) -/     skipped: what lies between, with reasons, until an object records it
//! ```
//!
//! The bucket is the truth and the group's offset a hint. A commit of our own, for this ledger, can only add
//! what the bucket does not know yet: that offsets behind the tail hold nothing, were quarantined or
//! skipped. A commit of anybody else (an operator's reset, another application, another prefix) is obeyed where
//! that loses no trace: forward, and on record.

use crate::{
    ledger::{
        metadata::{Skip, SkipReason},
        misreading::Misreading,
    },
    reader::Bounds,
};

/// `AUTO_OFFSET_RESET`: where reading starts when neither the bucket nor the group knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// At the log's start.
    Earliest,
    /// At the log's end.
    Latest,
    /// Nowhere: a person decides.
    Error,
}

/// The group's committed offset for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// There is none.
    Nothing,
    /// One of ours, about this ledger.
    Ours {
        /// Everything below it is handled.
        handled: i64,
        /// The chain's end when it was written.
        tail: i64,
        /// Skips that no object had recorded then.
        skipped: Vec<Skip>,
        /// How many records between `tail` and `handled` were quarantined.
        quarantined: u64,
        /// The epoch of the leader that appended what was read last, if it was known.
        leader_epoch: Option<i32>,
    },
    /// Somebody else's, or about another ledger.
    Foreign {
        /// The offset.
        offset: i64,
    },
}

impl Committed {
    /// A safe place to start the listing of the chain: no object was ever added before it since.
    #[must_use]
    pub const fn list_from(&self) -> Option<i64> {
        match self {
            Self::Ours { tail, .. } => Some(*tail),
            Self::Nothing | Self::Foreign { .. } => None,
        }
    }
}

/// Where a partition goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The name of the next object.
    pub tail: i64,
    /// The offset to read next, at or behind the tail.
    pub position: i64,
    /// What lies between them and is not recorded in an object, ascending.
    pub skipped: Vec<Skip>,
    /// How many records between them were quarantined; the next object counts them.
    pub quarantined: u64,
    /// The epoch of the leader that appended what stands before `position`, or a later one; where it is known.
    pub leader_epoch: Option<i32>,
    /// A foreign commit that is not obeyed, and why; for the log.
    pub refused: Option<RefusedCommit>,
}

/// A foreign commit that is not obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedCommit {
    /// It lies behind what is stored; obeying would store records twice.
    BehindTheTail {
        /// The offset.
        offset: i64,
        /// The chain's end.
        tail: i64,
    },
    /// It lies beyond the log's end; obeying would skip records that are yet to come.
    BeyondTheEnd {
        /// The offset.
        offset: i64,
        /// The log's end.
        end: i64,
    },
}

/// There is neither an object nor a commit, and `AUTO_OFFSET_RESET=error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is neither an object nor a committed offset, and AUTO_OFFSET_RESET is error")]
pub struct NoStart;

/// Decides where to go on. `chain` is the end of the last object at or behind [`Committed::list_from`]; `bounds` the
/// log as it is now; `appeared_later`: the partition is younger than the ledger, so that all of it is wanted.
///
/// # Errors
/// [`NoStart`].
pub fn resume(
    committed: Committed,
    chain: Option<i64>,
    bounds: Bounds,
    reset: Reset,
    appeared_later: bool,
) -> Result<Resume, NoStart> {
    let at = |tail: i64, position: i64, reason| {
        let skipped =
            if position > tail { vec![Skip { from: tail, to: position, reason }] } else { Vec::new() };
        Resume {
            tail,
            position: position.max(tail),
            skipped,
            quarantined: 0,
            leader_epoch: None,
            refused: None,
        }
    };
    let without_commit = || match (chain, reset) {
        (Some(tail), _) => Ok(at(tail, tail, SkipReason::Reset)),
        (None, Reset::Latest) if !appeared_later => Ok(at(0, bounds.end, SkipReason::Reset)),
        (None, Reset::Error) if !appeared_later => Err(NoStart),
        (None, _) => Ok(at(0, bounds.start, SkipReason::Reset)),
    };
    match committed {
        Committed::Nothing => without_commit(),
        Committed::Ours { handled, tail: committed, skipped, quarantined, leader_epoch } => {
            let tail = chain.unwrap_or(committed);
            // Objects that came since have counted what they step over. What was quarantined lies behind the skips that
            // the commit begins with, and so not before an end within these.
            let is_counted = tail > end_of_first_skips(committed, &skipped);
            let quarantined = if is_counted { 0 } else { quarantined };
            let later =
                skipped.into_iter().filter(|skip| skip.to > tail && !Misreading::SkipsForgotten.is_made());
            let skipped = later.map(|skip| Skip { from: skip.from.max(tail), ..skip }).collect();
            // What another has read since may be of a later epoch.
            let leader_epoch = leader_epoch.filter(|_| tail <= handled);
            let position = handled.max(tail);
            Ok(Resume { tail, position, skipped, quarantined, leader_epoch, refused: None })
        }
        Committed::Foreign { offset } if Misreading::ForeignCommitBelieved.is_made() => Ok(Resume {
            tail: offset,
            position: offset,
            skipped: Vec::new(),
            quarantined: 0,
            leader_epoch: None,
            refused: None,
        }),
        Committed::Foreign { offset } => {
            let tail = chain.unwrap_or(0);
            let refused = if offset < tail {
                Some(RefusedCommit::BehindTheTail { offset, tail })
            } else if offset > bounds.end {
                Some(RefusedCommit::BeyondTheEnd { offset, end: bounds.end })
            } else {
                None
            };
            match refused {
                None => Ok(at(tail, offset, SkipReason::ForeignCommit)),
                Some(_) => without_commit().map(|resume| Resume { refused, ..resume }),
            }
        }
    }
}

/// Where the skips end that begin at the tail, one behind the other.
fn end_of_first_skips(tail: i64, skipped: &[Skip]) -> i64 {
    skipped.iter().fold(tail, |end, skip| if skip.from <= end { end.max(skip.to) } else { end })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Bounds = Bounds { start: 10, end: 100 };

    fn skip(from: i64, to: i64, reason: SkipReason) -> Skip {
        Skip { from, to, reason }
    }

    fn places(resume: &Resume) -> (i64, i64) {
        (resume.tail, resume.position)
    }

    fn go(committed: Committed, chain: Option<i64>, reset: Reset) -> Resume {
        resume(committed, chain, LOG, reset, false).unwrap()
    }

    #[test]
    fn without_objects_and_commit_the_reset_decides_and_the_root_stays_0() {
        let earliest = go(Committed::Nothing, None, Reset::Earliest);
        assert_eq!((places(&earliest), earliest.skipped), ((0, 10), vec![skip(0, 10, SkipReason::Reset)]));
        let latest = go(Committed::Nothing, None, Reset::Latest);
        assert_eq!((places(&latest), latest.skipped), ((0, 100), vec![skip(0, 100, SkipReason::Reset)]));
        assert_eq!(resume(Committed::Nothing, None, LOG, Reset::Error, false), Err(NoStart));
    }

    #[test]
    fn an_epoch_is_known_where_nobody_has_gone_on_since() {
        let ours = Committed::Ours {
            handled: 75,
            tail: 40,
            skipped: Vec::new(),
            quarantined: 0,
            leader_epoch: Some(4),
        };
        for (tail, epoch) in [(40, Some(4)), (75, Some(4)), (80, None)] {
            assert_eq!(go(ours.clone(), Some(tail), Reset::Earliest).leader_epoch, epoch, "{tail}");
        }
    }

    #[test]
    fn where_objects_are_the_reset_is_not_asked() {
        for reset in [Reset::Earliest, Reset::Latest, Reset::Error] {
            assert_eq!(places(&go(Committed::Nothing, Some(40), reset)), (40, 40));
        }
    }

    #[test]
    fn a_partition_that_appeared_later_is_read_from_its_start() {
        for reset in [Reset::Earliest, Reset::Latest, Reset::Error] {
            let resume = resume(Committed::Nothing, None, LOG, reset, true).unwrap();
            assert_eq!(places(&resume), (0, 10));
        }
    }

    #[test]
    fn our_own_commit_adds_what_the_bucket_does_not_know() {
        let skipped = vec![
            skip(0, 20, SkipReason::Reset),
            skip(30, 50, SkipReason::Retention),
            skip(60, 70, SkipReason::Retention),
        ];
        let ours = Committed::Ours { handled: 75, tail: 40, skipped, quarantined: 2, leader_epoch: Some(4) };
        assert_eq!(ours.list_from(), Some(40));
        let resume = go(ours.clone(), Some(45), Reset::Latest);
        assert_eq!(places(&resume), (45, 75));
        assert_eq!(
            resume.skipped,
            [skip(45, 50, SkipReason::Retention), skip(60, 70, SkipReason::Retention)]
        );
        assert_eq!(resume.quarantined, 2, "they lie behind what is stepped over, where no object has come");
        // Another writer has gone on since.
        let resume = go(ours.clone(), Some(90), Reset::Latest);
        assert_eq!((places(&resume), resume.skipped), ((90, 90), vec![]));
        // All objects have expired.
        let resume = go(ours, None, Reset::Latest);
        assert_eq!((places(&resume), resume.quarantined), ((40, 75), 2));
    }

    #[test]
    fn what_was_quarantined_behind_a_skip_is_counted_though_an_object_came_into_the_skip() {
        let skipped = vec![skip(40, 50, SkipReason::Retention), skip(50, 60, SkipReason::ForeignCommit)];
        let ours = Committed::Ours { handled: 75, tail: 40, skipped, quarantined: 2, leader_epoch: Some(4) };
        for (chain, quarantined) in [(40, 2), (45, 2), (60, 2), (75, 0), (80, 0)] {
            assert_eq!(go(ours.clone(), Some(chain), Reset::Earliest).quarantined, quarantined, "{chain}");
        }
    }

    #[test]
    fn a_foreign_commit_is_obeyed_forward_and_on_record() {
        let resume = go(Committed::Foreign { offset: 60 }, Some(40), Reset::Earliest);
        assert_eq!(
            (places(&resume), resume.skipped),
            ((40, 60), vec![skip(40, 60, SkipReason::ForeignCommit)])
        );
        let resume = go(Committed::Foreign { offset: 60 }, None, Reset::Latest);
        assert_eq!(
            (places(&resume), resume.skipped),
            ((0, 60), vec![skip(0, 60, SkipReason::ForeignCommit)])
        );
        let resume = go(Committed::Foreign { offset: 100 }, Some(100), Reset::Latest);
        assert_eq!((places(&resume), resume.skipped, resume.refused), ((100, 100), vec![], None));
    }

    #[test]
    fn a_foreign_commit_behind_the_tail_or_beyond_the_end_is_refused() {
        let behind = go(Committed::Foreign { offset: 39 }, Some(40), Reset::Latest);
        assert_eq!(places(&behind), (40, 40));
        assert_eq!(behind.refused, Some(RefusedCommit::BehindTheTail { offset: 39, tail: 40 }));
        let beyond = go(Committed::Foreign { offset: 101 }, Some(40), Reset::Latest);
        assert_eq!(places(&beyond), (40, 40));
        assert_eq!(beyond.refused, Some(RefusedCommit::BeyondTheEnd { offset: 101, end: 100 }));
        // Without objects it is as if there were none.
        let beyond = go(Committed::Foreign { offset: 101 }, None, Reset::Earliest);
        assert_eq!((places(&beyond), beyond.refused.is_some()), ((0, 10), true));
    }
}
