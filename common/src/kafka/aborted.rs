//! Which batches of an answer are for applications: those of transactions that were given up are not, if
//! that is what was asked for, and control batches never are.
//!
//! An answer to a read_committed fetch ends where the first open transaction begins, and brings a list: which
//! producers gave up a transaction, and where that began. Between there and the producer's ABORT marker
//! all its transactional batches are dropped; others' batches stand among them.
//!
//! ```text
//! list: (producer 7 from 3)       offsets  0-2 p5   3-5 p7   6-7 p5   8 p7: ABORT   9 p5: COMMIT   10-11 p7
//!                                 kept?    yes      no       yes      control       control        yes
//! ```
//!
//! Source: KIP-98, "Reading committed messages"; Apache Kafka, `CompletedFetch`.

use std::collections::{BTreeSet, VecDeque};

use super::record_batch::{Batch, BatchError, Marker};

/// Which transactions' records are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// All of them, open and aborted ones too, up to the high watermark.
    ReadUncommitted,
    /// Committed ones, up to the last stable offset, where the first open transaction begins.
    ReadCommitted,
}

impl Isolation {
    /// As requests have it.
    #[must_use]
    pub const fn level(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// A transaction that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: i64,
    /// The offset of its first record.
    pub first_offset: i64,
}

/// Goes along with the batches of one answer for one partition, and says which to keep.
#[derive(Debug, Clone)]
pub struct Filter {
    /// By first offset, those that no batch has come up to yet.
    ahead: VecDeque<AbortedTransaction>,
    /// The producers inside such a transaction.
    inside: BTreeSet<i64>,
}

impl Filter {
    /// For an answer with that list of `aborted` transactions; a read_uncommitted one has none.
    #[must_use]
    pub fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_by_key(|transaction| transaction.first_offset);
        Self { ahead: aborted.into(), inside: BTreeSet::new() }
    }

    /// Whether the records of `batch` are for applications. To be asked of each batch of the answer, in order,
    /// those before the offset that was asked for too.
    ///
    /// # Errors
    /// Those of [`Batch::marker`].
    pub fn keeps(&mut self, batch: &Batch) -> Result<bool, BatchError> {
        while let Some(begun) = self.ahead.pop_front_if(|next| next.first_offset <= batch.last_offset()) {
            self.inside.insert(begun.producer_id);
        }
        if batch.is_control() {
            if let Some(producer_id) = batch.producer_id()
                && batch.marker()? == Some(Marker::Abort)
            {
                self.inside.remove(&producer_id);
            }
            return Ok(false);
        }
        let dropped =
            batch.is_transactional() && batch.producer_id().is_some_and(|id| self.inside.contains(&id));
        Ok(!dropped)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::kafka::record_batch::{Batches, Codec, recorded::TRANSACTIONS, testing::*};

    const ABORT: &[u8] = &[0, 0, 0, 0];
    const COMMIT: &[u8] = &[0, 0, 0, 1];

    /// A batch of one record.
    fn data(producer_id: i64, offset: i64, transactional: bool) -> Bytes {
        let mut record = written(offset, 0, "v");
        (record.producer_id, record.transactional) = (producer_id, transactional);
        batch(&[record], Codec::None)
    }

    fn from(producer_id: i64, first_offset: i64) -> AbortedTransaction {
        AbortedTransaction { producer_id, first_offset }
    }

    /// The first offsets of the batches that are kept.
    fn kept(aborted: &[AbortedTransaction], batches: &[Bytes]) -> Vec<i64> {
        let mut filter = Filter::new(aborted.to_vec());
        let batches = Batches::new(batches.concat().into()).map(Result::unwrap);
        batches.filter(|batch| filter.keeps(batch).unwrap()).map(|batch| batch.base_offset()).collect()
    }

    #[test]
    fn the_transaction_that_was_given_up_is_dropped_and_the_producers_next_one_is_kept() {
        let log = [
            data(5, 0, true),
            data(7, 1, true),
            data(5, 2, true),
            data(7, 3, true),
            control(7, 4, ABORT),
            control(5, 5, COMMIT),
            data(7, 6, true),
            control(7, 7, COMMIT),
        ];
        assert_eq!(kept(&[from(7, 1)], &log), [0, 2, 6]);
        assert_eq!(kept(&[], &log), [0, 1, 2, 3, 6], "read_uncommitted");
    }

    #[test]
    fn a_producer_may_give_up_twice() {
        let log = [
            data(7, 0, true),
            control(7, 1, ABORT),
            data(7, 2, true),
            control(7, 3, ABORT),
            data(7, 4, true),
        ];
        assert_eq!(kept(&[from(7, 2), from(7, 0)], &log), [4], "in any order of the list");
        assert_eq!(kept(&[from(7, 0)], &log), [2, 4]);
    }

    #[test]
    fn an_answer_may_begin_in_the_middle_of_it() {
        assert_eq!(kept(&[from(7, 3)], &[data(7, 20, true), control(7, 21, ABORT), data(7, 22, true)]), [22]);
    }

    #[test]
    fn what_is_not_of_the_transaction_is_kept() {
        let log = [data(7, 0, true), data(7, 1, false), data(-1, 2, false), data(8, 3, true)];
        assert_eq!(kept(&[from(7, 0)], &log), [1, 2, 3]);
    }

    #[test]
    fn a_commit_of_the_producer_does_not_end_it() {
        // As in Java: only the marker that the list is about does.
        assert_eq!(
            kept(&[from(7, 0)], &[data(7, 0, true), control(7, 1, COMMIT), data(7, 2, true)]),
            [0_i64; 0]
        );
    }

    #[test]
    fn a_marker_that_can_not_be_read_is_an_error() {
        let batch = only(control(7, 0, &[0])).unwrap();
        assert!(Filter::new(vec![]).keeps(&batch).is_err());
    }

    #[test]
    fn what_java_clients_wrote_is_told_apart() {
        let all = [Bytes::from_static(TRANSACTIONS)];
        let batches: Vec<_> = Batches::new(all[0].clone()).map(Result::unwrap).collect();
        let second = batches[1].producer_id().unwrap();
        assert_eq!(kept(&[from(second, 3)], &all), [0, 6, 10, 13]);
        assert_eq!(kept(&[], &all), [0, 3, 6, 10, 13]);
    }
}
