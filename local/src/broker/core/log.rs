//! One partition: its batches in order, where it starts, where it ends.
//!
//! ```text
//!   start (log start offset)          stable end          next (= high watermark)
//!     |                                   |                 |
//!     v   [batch][batch]  [batch][batch]  v [open tx][batch]v
//!                       ^ gaps are legal: a compacted topic has them
//! ```
//!
//! There is one replica, so everything appended is at once below the high watermark.

use std::ops::Range;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::batch::{Batch, BatchError};
use super::transactions::{Aborted, Transactions};

/// The records of one partition.
#[derive(Debug, Default)]
pub struct PartitionLog {
    start: i64,
    next: i64,
    /// Ascending, without overlap; the first may begin before `start`.
    batches: Vec<Batch>,
    transactions: Transactions,
}

/// Why a batch was not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Not a valid batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Nothing, or more than one batch, where there must be one. Source: KIP-98 (Produce v3).
    #[error("expected one record batch, found {0} bytes after it")]
    NotOneBatch(usize),
    /// Records are missing between the first and the last offset; only a compacted log has that.
    #[error("record batch has fewer records than offsets")]
    Sparse,
    /// Larger than a partition takes.
    #[error("record batch of {size} bytes is larger than {limit}")]
    TooLarge {
        /// Bytes of the batch.
        size: usize,
        /// `max.message.bytes`.
        limit: usize,
    },
    /// A batch that is to be kept as it is begins before the end of the log.
    #[error("record batch at offset {base} would overwrite the log, which ends at {next}")]
    Overlap {
        /// The batch's base offset.
        base: i64,
        /// The offset the log wants next, or later.
        next: i64,
    },
}

impl AppendError {
    /// What a producer is told.
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            Self::Batch(BatchError::Magic(_))
            | Self::NotOneBatch(_)
            | Self::Sparse
            | Self::Overlap { .. } => ResponseError::InvalidRecord,
            Self::Batch(_) => ResponseError::CorruptMessage,
            Self::TooLarge { .. } => ResponseError::MessageTooLarge,
        }
    }
}

/// Which records a reader wants to see. Source: KIP-98.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything up to the high watermark.
    ReadUncommitted,
    /// Everything before the first open transaction.
    ReadCommitted,
}

impl PartitionLog {
    /// Appends what a producer sent, at the end, whatever offset it says.
    ///
    /// Returns the batch as it is stored.
    ///
    /// # Errors
    /// [`AppendError`]; the log is unchanged.
    pub(crate) fn produce(&mut self, mut records: Bytes, limit: usize) -> Result<&Batch, AppendError> {
        let batch = Batch::split_first(&mut records)?;
        if !records.is_empty() {
            return Err(AppendError::NotOneBatch(records.len()));
        }
        let size = batch.bytes().len();
        if size > limit {
            return Err(AppendError::TooLarge { size, limit });
        }
        if !batch.is_dense() {
            return Err(AppendError::Sparse);
        }
        self.append(batch.at(self.next)?)
    }

    /// Appends a batch as it is, at its own offset, which may leave a gap before it.
    ///
    /// # Errors
    /// [`AppendError::Overlap`]; the log is unchanged.
    pub fn append(&mut self, batch: Batch) -> Result<&Batch, AppendError> {
        if batch.base_offset() < self.next {
            return Err(AppendError::Overlap { base: batch.base_offset(), next: self.next });
        }
        self.next = batch.last_offset() + 1;
        self.transactions.observe(&batch);
        self.batches.push(batch);
        Ok(self.batches.last().expect("pushed above"))
    }

    /// Completes a log that was read back batch by batch: it starts at `start`, even where its end was
    /// lost.
    pub fn start_at(&mut self, start: i64) {
        self.next = self.next.max(start);
        self.delete_before(start);
    }

    /// First offset that can be read.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// The offset of the next record: the high watermark.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The end of what is decided: before the first open transaction (the last stable offset).
    pub fn stable_end(&self) -> i64 {
        self.transactions.first_open().map_or(self.next, |first| first.max(self.start))
    }

    /// The end of what a reader may see.
    pub fn end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.next,
            Isolation::ReadCommitted => self.stable_end(),
        }
    }

    /// Whole batches from the one that contains `from`, before `end`, in at most `max_bytes`.
    ///
    /// With `at_least_one` the first batch is returned even when it is larger than `max_bytes`, so that
    /// a reader always gets on. Source: KIP-74.
    pub fn read(&self, from: i64, end: i64, max_bytes: usize, at_least_one: bool) -> &[Batch] {
        let first = self.batches.partition_point(|batch| batch.last_offset() < from);
        let mut left = max_bytes;
        let count = self.batches[first..]
            .iter()
            .take_while(|batch| batch.base_offset() < end)
            .enumerate()
            .take_while(|(index, batch)| match left.checked_sub(batch.bytes().len()) {
                Some(rest) => {
                    left = rest;
                    true
                }
                None => {
                    left = 0;
                    *index == 0 && at_least_one
                }
            })
            .count();
        &self.batches[first..first + count]
    }

    /// The first readable record with timestamp `at_or_after` or later and before `end`, as offset and
    /// timestamp.
    ///
    /// # Errors
    /// [`BatchError`] when the batch that must have it cannot be read.
    pub(crate) fn find_time(&self, at_or_after: i64, end: i64) -> Result<Option<(i64, i64)>, BatchError> {
        let candidates = self.batches.iter().take_while(|batch| batch.base_offset() < end);
        for batch in candidates.filter(|batch| batch.max_timestamp() >= at_or_after) {
            if let Some(found) = batch.find_time(at_or_after, self.start)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The aborted transactions with records in `offsets`.
    pub(crate) fn aborted_in(&self, offsets: Range<i64>) -> impl Iterator<Item = &Aborted> {
        self.transactions.aborted_in(offsets)
    }

    /// Moves the log's start up to `offset`, never back and never beyond the end; forgets the batches
    /// wholly before it. Returns the start.
    pub(crate) fn delete_before(&mut self, offset: i64) -> i64 {
        self.start = self.start.max(offset.min(self.next));
        let gone = self.batches.partition_point(|batch| batch.last_offset() < self.start);
        self.batches.drain(..gone);
        self.start
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::records::Compression;
    use proptest::prelude::*;

    use super::super::batch::tests::{encoded, marker, rechecked, transactional};
    use super::*;

    const LIMIT: usize = 1_048_588;

    fn produce(log: &mut PartitionLog, records: usize) {
        log.produce(encoded(&vec![1_000; records], Compression::None), LIMIT).unwrap();
    }

    fn at(bytes: Bytes, offset: i64) -> Batch {
        Batch::split_first(&mut bytes.clone()).unwrap().at(offset).unwrap()
    }

    fn offsets(batches: &[Batch]) -> Vec<i64> {
        batches.iter().map(Batch::base_offset).collect()
    }

    #[test]
    fn producers_get_the_next_offset_whatever_they_say() {
        let mut log = PartitionLog::default();
        produce(&mut log, 3);
        let stored = log.produce(at(encoded(&[1], Compression::None), 77).bytes().clone(), LIMIT).unwrap();
        assert_eq!(stored.base_offset(), 3);
        assert_eq!(log.next(), 4);
    }

    #[test]
    fn bad_batches_leave_the_log_as_it_was() {
        let good = encoded(&[1, 2], Compression::None);
        let mut corrupt = good.to_vec();
        corrupt[70] ^= 1;
        let mut sparse = good.to_vec();
        sparse[26] = 5;
        let cases = [
            (Bytes::new(), ResponseError::CorruptMessage),
            (good.slice(..good.len() - 1), ResponseError::CorruptMessage),
            (Bytes::from(corrupt), ResponseError::CorruptMessage),
            (Bytes::from([&good[..], &good[..]].concat()), ResponseError::InvalidRecord),
            (rechecked(&sparse), ResponseError::InvalidRecord),
        ];
        let mut log = PartitionLog::default();
        for (bytes, code) in cases {
            assert_eq!(log.produce(bytes, LIMIT).unwrap_err().code(), code);
        }
        let too_large = log.produce(good.clone(), good.len() - 1).unwrap_err();
        assert_eq!(too_large.code(), ResponseError::MessageTooLarge);
        assert_eq!((log.next(), log.batches.len()), (0, 0));
        assert!(log.produce(good.clone(), good.len()).is_ok());
    }

    #[test]
    fn batch_kept_as_it_is_may_leave_a_gap_but_not_go_back() {
        let mut log = PartitionLog::default();
        let batch = at(encoded(&[1, 2], Compression::None), 10);
        log.append(batch.clone()).unwrap();
        assert_eq!(log.append(batch), Err(AppendError::Overlap { base: 10, next: 12 }));
        assert_eq!(offsets(log.read(0, log.next(), LIMIT, true)), [10]);
    }

    #[test]
    fn a_batch_larger_than_the_limit_is_returned_alone_or_not_at_all() {
        let mut log = PartitionLog::default();
        produce(&mut log, 50);
        produce(&mut log, 1);
        assert_eq!(offsets(log.read(0, 51, 1, true)), [0]);
        assert_eq!(offsets(log.read(0, 51, 1, false)), [0; 0]);
        assert_eq!(offsets(log.read(49, 51, LIMIT, true)), [0, 50]);
    }

    #[test]
    fn deleting_moves_the_start_and_keeps_the_batch_that_contains_it() {
        let mut log = PartitionLog::default();
        produce(&mut log, 3);
        produce(&mut log, 3);
        assert_eq!(log.delete_before(4), 4);
        assert_eq!(log.delete_before(1), 4);
        assert_eq!(offsets(log.read(4, 6, LIMIT, true)), [3]);
        assert_eq!(log.delete_before(100), 6);
        assert_eq!((log.start(), log.next(), log.batches.len()), (6, 6, 0));
    }

    #[test]
    fn time_is_searched_from_the_log_start() {
        let mut log = PartitionLog::default();
        log.produce(encoded(&[100, 300], Compression::Gzip), LIMIT).unwrap();
        log.produce(encoded(&[200, 400], Compression::Snappy), LIMIT).unwrap();
        assert_eq!(log.find_time(150, 4), Ok(Some((1, 300))));
        log.delete_before(2);
        assert_eq!(log.find_time(150, 4), Ok(Some((2, 200))));
        assert_eq!(log.find_time(401, 4), Ok(None));
    }

    #[test]
    fn open_transaction_holds_back_readers_of_committed_records() {
        let mut log = PartitionLog::default();
        produce(&mut log, 1);
        log.append(at(transactional(7, 2), 1)).unwrap();
        produce(&mut log, 1);
        assert_eq!(log.end(Isolation::ReadCommitted), 1);
        assert_eq!(log.end(Isolation::ReadUncommitted), 4);
        log.append(at(marker(7, super::super::batch::Marker::Abort), 4)).unwrap();
        assert_eq!(log.end(Isolation::ReadCommitted), 5);
        let aborted = Aborted { producer_id: 7, first_offset: 1, last_offset: 4 };
        assert_eq!(log.aborted_in(4..5).collect::<Vec<_>>(), [&aborted]);
        assert_eq!(log.aborted_in(5..9).count(), 0);
        assert_eq!(log.aborted_in(0..1).count(), 0);
    }

    #[test]
    fn committed_transaction_is_not_listed() {
        let mut log = PartitionLog::default();
        log.append(at(transactional(7, 2), 0)).unwrap();
        log.append(at(transactional(8, 1), 2)).unwrap();
        log.append(at(marker(7, super::super::batch::Marker::Commit), 3)).unwrap();
        assert_eq!(log.stable_end(), 2);
        assert_eq!(log.aborted_in(0..4).count(), 0);
    }

    proptest! {
        /// Offsets are dense, and a read from any offset begins with the batch that contains it.
        #[test]
        fn reads_begin_with_the_batch_that_contains_the_offset(
            sizes in proptest::collection::vec(1_usize..5, 1..20),
            deleted in 0_i64..30,
            max_bytes in 0_usize..2_000,
        ) {
            let mut log = PartitionLog::default();
            for &size in &sizes {
                let before = log.next();
                produce(&mut log, size);
                prop_assert_eq!(log.next() - before, i64::try_from(size).unwrap());
            }
            log.delete_before(deleted);
            for from in log.start()..log.next() {
                let read = log.read(from, log.next(), max_bytes, true);
                prop_assert!(read[0].base_offset() <= from && from <= read[0].last_offset());
                prop_assert!(read.windows(2).all(|pair| pair[0].last_offset() + 1 == pair[1].base_offset()));
                let bytes: usize = read.iter().map(|batch| batch.bytes().len()).sum();
                prop_assert!(read.len() == 1 || bytes <= max_bytes);
            }
            prop_assert!(log.read(log.next(), log.next(), max_bytes, true).is_empty());
        }

        #[test]
        fn restored_log_is_the_same(
            sizes in proptest::collection::vec(1_usize..5, 0..20),
            deleted in 0_i64..40,
        ) {
            let mut log = PartitionLog::default();
            for &size in &sizes {
                produce(&mut log, size);
            }
            let stored = log.batches.clone();
            log.delete_before(deleted);
            let mut restored = PartitionLog::default();
            for batch in stored {
                restored.append(batch).unwrap();
            }
            restored.start_at(log.start());
            prop_assert_eq!(restored.batches, log.batches);
            prop_assert_eq!((restored.start, restored.next), (log.start, log.next));
        }

        #[test]
        fn arbitrary_records_never_panic_produce(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut log = PartitionLog::default();
            prop_assert!(log.produce(Bytes::from(bytes), LIMIT).is_err());
        }
    }
}
