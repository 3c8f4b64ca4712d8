//! What a partition's log says about transactions: where the first open one begins, which were aborted.
//!
//! The broker does not coordinate transactions (no InitProducerId, no AddPartitionsToTxn). It keeps
//! transactional and control batches as they are, and answers readers of committed records as Kafka does:
//! up to the last stable offset, with the list of aborted transactions. Source: KIP-98.

use std::collections::BTreeMap;
use std::ops::Range;

use super::batch::{Batch, Marker};

/// The transactions of one partition, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// Producer id -> offset of its open transaction's first record.
    open: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
}

/// One aborted transaction in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    /// Its first record.
    pub(crate) first_offset: i64,
    /// Its marker.
    pub(crate) last_offset: i64,
}

impl Transactions {
    /// Learns from the next batch of the log.
    pub(crate) fn observe(&mut self, batch: &Batch) {
        let producer_id = batch.producer_id();
        if batch.is_control() {
            let Some(marker) = batch.marker() else { return };
            let first_offset = self.open.remove(&producer_id);
            if let (Marker::Abort, Some(first_offset)) = (marker, first_offset) {
                self.aborted.push(Aborted { producer_id, first_offset, last_offset: batch.last_offset() });
            }
        } else if batch.is_transactional() {
            self.open.entry(producer_id).or_insert(batch.base_offset());
        }
    }

    /// First offset of the oldest open transaction: readers of committed records stop before it.
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.open.values().min().copied()
    }

    /// The aborted transactions that have records in `offsets`.
    pub(crate) fn aborted_in(&self, offsets: Range<i64>) -> impl Iterator<Item = &Aborted> {
        self.aborted
            .iter()
            .filter(move |aborted| aborted.first_offset < offsets.end && aborted.last_offset >= offsets.start)
    }
}
