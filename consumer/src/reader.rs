//! How records come out of one partition, behind a trait, so that the rest does not know which client reads.
//!
//! [`rskafka`] reads what is plain; [`native`] decodes Fetch answers itself (transactions, every codec, binary
//! headers); [`auto`] begins with the one and goes on with the other where it has to.

use async_trait::async_trait;
use bytes::Bytes;

pub mod auto;
pub mod native;
pub mod rskafka;

/// One record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch: the producer's word, or the broker's.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in the log's order as far as the reader keeps it.
    pub headers: Vec<Header>,
}

impl Record {
    /// The value of the last header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let last = self.headers.iter().rev().find(|header| header.name == name.as_bytes());
        last.and_then(|header| header.value.as_deref())
    }

    /// About how many bytes it occupies in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|header| header.name.len() + length(&header.value) + size_of::<Header>())
            .sum();
        size_of::<Self>() + length(&self.key) + length(&self.value) + headers
    }
}

/// One header. Kafka allows any bytes in both parts, and no value at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: Bytes,
    /// The value.
    pub value: Option<Bytes>,
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_header_of_a_name_counts() {
        let header = |name: &'static str, value: Option<&'static [u8]>| Header {
            name: Bytes::from_static(name.as_bytes()),
            value: value.map(Bytes::from_static),
        };
        let record = Record {
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: vec![header("id", Some(b"1")), header("id", Some(b"2")), header("null", None)],
        };
        assert_eq!(
            (record.header("id"), record.header("null"), record.header("none")),
            (Some(&b"2"[..]), None, None)
        );
    }
}
