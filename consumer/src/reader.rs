//! How records come out of one partition, behind a trait, so that the rest does not know which client reads.
//!
//! [`rskafka`] reads what is plain; [`native`] decodes Fetch answers itself (transactions, every codec, binary
//! headers); [`auto`] begins with the one and goes on with the other where it has to.

use async_trait::async_trait;

pub mod auto;
pub mod native;
pub mod rskafka;

pub use coinduit_common::kafka::record_batch::{Header, Record};

/// What one fetch brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Records in ascending order of offset, all at or behind the offset that was asked for. Offsets may be
    /// missing between them (compaction, control records).
    pub records: Vec<Record>,
    /// Where to go on: everything below it is in `records`, or is nothing.
    pub next: i64,
    /// The offset after the last record that all in-sync replicas have.
    pub high_watermark: i64,
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
    /// Records from `offset` on. Waits a moment for new ones where there are none; then `records` is empty.
    ///
    /// # Errors
    /// See [`ReadError`]. Every call ends within a time limit of the reader's own.
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, ReadError>;

    /// Where the log begins and ends now.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn bounds(&mut self) -> Result<Bounds, ReadError>;
}
