//! How far the group has come: what its committed offset is worth.

use crate::ledger::commit::{CommitMetadata, LedgerId};

/// The group's committed offset of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// Nobody was asked.
    Unknown,
    /// There is none.
    None,
    /// It is not about these objects, and so it does not count.
    Foreign {
        /// The offset.
        offset: i64,
        /// Why not.
        problem: String,
    },
    /// It is about these objects.
    Ours {
        /// Everything below it was handled.
        offset: i64,
        /// What stands beside it.
        metadata: CommitMetadata,
    },
}

impl Commit {
    /// What a committed `offset` (negative: there is none) with this text beside it is to `ledger`.
    #[must_use]
    pub fn judge(offset: i64, text: &str, ledger: LedgerId) -> Self {
        if offset < 0 {
            return Self::None;
        }
        match CommitMetadata::read(text) {
            Ok(metadata) if metadata.ledger == ledger => Self::Ours { offset, metadata },
            Ok(metadata) => Self::Foreign {
                offset,
                problem: format!("it is about ledger {}, these objects are {ledger}", metadata.ledger),
            },
            Err(error) => Self::Foreign { offset, problem: error.to_string() },
        }
    }

    /// What stands beside it, where it is ours.
    #[must_use]
    pub const fn metadata(&self) -> Option<&CommitMetadata> {
        match self {
            Self::Ours { metadata, .. } => Some(metadata),
            _ => None,
        }
    }

    /// The handled offset of a chain that ends at `tail`: a crash between an object and its commit leaves
    /// the commit behind, so the greater one counts.
    #[must_use]
    pub fn handled(&self, tail: Option<i64>) -> Option<i64> {
        match self {
            Self::Ours { offset, .. } => Some(tail.map_or(*offset, |tail| tail.max(*offset))),
            _ => tail,
        }
    }
}

#[cfg(test)]
mod tests {
    use coinduit_common::object_key::Prefix;

    use super::*;

    #[test]
    fn only_a_commit_about_these_objects_counts() {
        let ledger = |topic: &str| LedgerId::new("b", &Prefix::default(), topic);
        let metadata = CommitMetadata { ledger: ledger("t"), tail: 5, skipped: Vec::new(), quarantined: 0 };
        let text = metadata.to_string();
        let ours = Commit::judge(7, &text, ledger("t"));
        assert_eq!(ours, Commit::Ours { offset: 7, metadata });
        assert_eq!(
            (ours.handled(Some(5)), ours.handled(Some(9)), ours.handled(None)),
            (Some(7), Some(9), Some(7))
        );
        assert_eq!(Commit::judge(-1, "", ledger("t")), Commit::None);
        for (text, reason) in [("", "not ours"), (text.as_str(), "it is about ledger")] {
            let foreign = Commit::judge(7, text, ledger("u"));
            assert!(
                matches!(&foreign, Commit::Foreign { offset: 7, problem } if problem.contains(reason)),
                "{foreign:?}"
            );
            assert_eq!((foreign.handled(Some(5)), foreign.handled(None)), (Some(5), None));
        }
    }
}
