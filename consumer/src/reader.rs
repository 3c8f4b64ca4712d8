//! How records come out of one partition, behind a trait, so that the rest does not know which client reads.
//!
//! [`rskafka`] reads what is plain; [`native`] decodes Fetch answers itself (transactions, every codec, binary
//! headers); [`auto`] begins with the one and goes on with the other where it has to.

use async_trait::async_trait;

use crate::budget::Reservation;

pub mod auto;
pub mod native;
pub mod rskafka;

pub use coinduit_common::kafka::record_batch::{Header, Record};

/// A question for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The offset of the first record that is wanted.
    pub offset: i64,
    /// How many bytes the broker may send; one batch comes whole, though, if it begins the answer.
    pub max_bytes: usize,
    /// The log is known to go on behind the offset: an answer comes at once, and not when something is published.
    pub is_behind: bool,
}

/// What one fetch brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Records in ascending order of offset, all at or behind the offset that was asked for. Offsets may be
    /// missing between them (compaction, control records).
    pub records: Vec<Record>,
    /// Where to go on: everything below it is in `records`, or is nothing.
    pub next: i64,
    /// The offset after the last record that all in-sync replicas have; with read_committed, after the last one
    /// of which it is known whether it stays.
    pub high_watermark: i64,
    /// The bytes of the buffers that the records are slices of, and keep alive as a whole; 0 where each record has
    /// its own memory.
    pub shared_bytes: usize,
    /// The epoch of the leader that appended what stands before `next`, where the reader sees it (KIP-101).
    pub leader_epoch: Option<i32>,
    /// The topic's timestamps are the broker's (LogAppendTime), as far as the reader sees it.
    pub log_append_time: bool,
}

/// Where the log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The offset of the oldest record that is still there.
    pub start: i64,
    /// The offset that the next record gets (with transactions: the last stable offset).
    pub end: i64,
}

/// Why no records came.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log does not hold that offset (OFFSET_OUT_OF_RANGE): ask for [`Bounds`].
    #[error("offset {offset} is outside of the log")]
    OutOfRange {
        /// What was asked for.
        offset: i64,
    },
    /// The leader's log has less of an epoch than was read: it was cut, by an unclean election or a restored cluster,
    /// and what was read is not what is there (KIP-320).
    #[error("the log was cut: of leader epoch {epoch} it goes to offset {end}, and {offset} was reached")]
    Truncated {
        /// Where reading was to go on.
        offset: i64,
        /// The epoch of what was read last.
        epoch: i32,
        /// Where that epoch ends in the leader's log.
        end: i64,
    },
    /// The broker's answer can't be decoded by this reader; asking again gives the same.
    #[error("this reader can't decode what stands at offset {offset}")]
    Undecodable {
        /// What was asked for.
        offset: i64,
        /// The decoder's word.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No definite answer; asking again may help.
    #[error("{attempted}")]
    Unavailable {
        /// What was tried.
        attempted: String,
        /// What came instead.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Makes readers of one topic's partitions.
pub trait OpenReader: Send + Sync {
    /// A reader of `partition`. Connects at its first call.
    fn open(&self, partition: i32) -> Box<dyn PartitionReader>;
}

/// Reads one partition.
#[async_trait]
pub trait PartitionReader: Send {
    /// Records from the offset on. Waits a moment for new ones where there are none; then `records` is empty.
    /// `room` is the memory for the answer, as [`PartitionReader::memory_for`] says; what it takes more is said there.
    ///
    /// # Errors
    /// See [`ReadError`]. Every call ends within a time limit of the reader's own, not counting what it waits for
    /// its turn to decompress.
    async fn fetch(&mut self, ask: Ask, room: &Reservation) -> Result<Fetched, ReadError>;

    /// The next fetch goes on at `offset`, before which stands what a leader of this epoch appended, or an earlier one:
    /// for readers that notice a log that was cut.
    fn goes_on(&mut self, _offset: i64, _leader_epoch: i32) {}

    /// The memory that an answer of `bytes` takes until its records are taken over.
    fn memory_for(&self, bytes: usize) -> usize {
        bytes
    }

    /// The bytes of what was received and not handed out yet.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Where the log begins and ends now.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn bounds(&mut self) -> Result<Bounds, ReadError>;
}
