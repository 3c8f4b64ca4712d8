//! Why bytes are not a record batch, or a batch's records can't be read.

use super::{Codec, codec::Failure};

/// A batch can't be read. What stood before it in the same answer is good.
///
/// Reading again brings the same bytes from the same broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A message set of before Kafka 0.11, or no batch at all.
    #[error(
        "batch at offset {base_offset} has message format {magic}, only 2 is read (Kafka 4 keeps no other)"
    )]
    Magic {
        /// The offset that it begins with.
        base_offset: i64,
        /// The format.
        magic: i8,
    },
    /// The length leaves no room for a header.
    #[error("batch at offset {base_offset} claims to have {length} bytes")]
    Length {
        /// The offset that it begins with.
        base_offset: i64,
        /// Its length field.
        length: i32,
    },
    /// The content is not what the producer sent.
    #[error("batch at offset {base_offset} has checksum {stored:#010x}, its content has {computed:#010x}")]
    Checksum {
        /// The offset that it begins with.
        base_offset: i64,
        /// CRC-32C in the header.
        stored: u32,
        /// CRC-32C of the bytes.
        computed: u32,
    },
    /// Offsets that are negative or overflow.
    #[error("batch at offset {base_offset} claims to end {delta} offsets behind it")]
    Offsets {
        /// The offset that it begins with.
        base_offset: i64,
        /// Last offset less base offset.
        delta: i32,
    },
    /// A negative number of records.
    #[error("batch at offset {base_offset} claims to have {count} records")]
    Count {
        /// The offset that it begins with.
        base_offset: i64,
        /// Its record count.
        count: i32,
    },
    /// An unknown compression.
    #[error("batch at offset {base_offset} has compression {number}, which is none of Kafka's")]
    Codec {
        /// The offset that it begins with.
        base_offset: i64,
        /// Number of the codec, 5 to 7.
        number: i16,
    },
    /// The compressed bytes are not what the codec writes.
    #[error("batch at offset {base_offset} can't be decompressed as {codec}: {problem}")]
    Compressed {
        /// The offset that it begins with.
        base_offset: i64,
        /// The codec.
        codec: Codec,
        /// The decompressor's word.
        problem: String,
    },
    /// Decompressed, the batch is larger than allowed.
    #[error(
        "batch at offset {base_offset} has more than {most_bytes} bytes when its {codec} is decompressed"
    )]
    TooLarge {
        /// The offset that it begins with.
        base_offset: i64,
        /// The codec.
        codec: Codec,
        /// What was allowed, in bytes.
        most_bytes: usize,
    },
    /// A record is not what its batch says, or the batch has something else than its records.
    #[error("record {index} of the batch at offset {base_offset} is malformed: {problem}")]
    Record {
        /// The offset that the batch begins with.
        base_offset: i64,
        /// Which record, counted from 0 in this batch.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl BatchError {
    pub(super) const fn record(base_offset: i64, index: usize, problem: &'static str) -> Self {
        Self::Record { base_offset, index, problem }
    }

    /// The offset that the bad batch begins with, as far as its bytes can be believed.
    #[must_use]
    pub const fn base_offset(&self) -> i64 {
        match self {
            Self::Magic { base_offset, .. }
            | Self::Length { base_offset, .. }
            | Self::Checksum { base_offset, .. }
            | Self::Offsets { base_offset, .. }
            | Self::Count { base_offset, .. }
            | Self::Codec { base_offset, .. }
            | Self::Compressed { base_offset, .. }
            | Self::TooLarge { base_offset, .. }
            | Self::Record { base_offset, .. } => *base_offset,
        }
    }
}

impl Failure {
    /// The failure as one of a batch.
    pub(super) fn of(self, base_offset: i64, codec: Codec, most_bytes: usize) -> BatchError {
        match self {
            Self::TooLarge => BatchError::TooLarge { base_offset, codec, most_bytes },
            Self::Malformed(problem) => BatchError::Compressed { base_offset, codec, problem },
        }
    }
}
