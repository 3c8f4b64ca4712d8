//! Record batches, format 2: what the `records` field of a Fetch answer is made of.
//!
//! ```text
//! records: Bytes --Batches--> Batch (header read, checksum right) --Batch::records--> Record, Record, …
//!                                 `-- is it a control batch? Batch::marker
//!
//!  0 base offset i64      16 magic i8          27 base timestamp i64   51 producer epoch i16
//!  8 batch length i32     17 crc-32c u32       35 max timestamp i64    53 base sequence i32
//! 12 leader epoch i32     21 attributes i16    43 producer id i64      57 record count i32
//!                         23 last delta i32                            61 records, perhaps compressed
//! ```
//!
//! Nothing is copied: a record's parts are slices of the answer, or of the one buffer that its batch was
//! decompressed into. They keep that buffer alive as a whole.
//!
//! A batch says by itself where to go on, [`Batch::next_offset`], also when compaction has left nothing in
//! it, and when nothing in it is for applications. Source: Apache Kafka documentation, "Record Batch";
//! KIP-32 (timestamps), KIP-98 (format 2), KIP-534 (delete horizon).

use bytes::{Buf, Bytes};

mod codec;
mod error;
mod record;
#[cfg(test)]
pub(in crate::kafka) mod recorded;
#[cfg(test)]
pub(in crate::kafka) mod testing;
mod write;

pub use codec::Codec;
pub use error::BatchError;
pub use record::{Header, Record, Records};
pub use write::{NewRecord, Packing, Sequence, most_bytes, write};

/// Bytes that a batch's length field does not count: base offset and the length itself.
const PREFIX: usize = 12;
/// Bytes up to and with the magic, which stands at the same place in every format.
const THROUGH_MAGIC: usize = 17;
/// Bytes before the first record.
const HEADER: usize = 61;
/// Where the part begins that the checksum covers.
const CHECKED_FROM: usize = 21;

const MAGIC: i8 = 2;
const CODEC: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// The batches of one partition's answer, one after the other.
///
/// Ends at the last whole batch, or with the first error: what stands behind a bad batch can't be found.
/// A broker cuts its answer where it has the size that was asked for, so the last batch is often cut off;
/// [`Batches::cut_off`] tells how large it is.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// The batches of `records`, a Fetch answer's field of that name.
    #[must_use]
    pub const fn new(records: Bytes) -> Self {
        Self { rest: records }
    }

    /// Once [`Batches::next`] has given `None`: the size in bytes of the batch that the answer holds only
    /// the beginning of, if that is told. The next fetch from there brings it whole when its partition is
    /// the first with data in the answer, however little was asked for (KIP-74).
    #[must_use]
    pub fn cut_off(&self) -> Option<usize> {
        let mut length = self.rest.get(8..PREFIX)?;
        usize::try_from(length.get_i32()).ok().map(|length| length.saturating_add(PREFIX))
    }

    /// Gives what is left a buffer of its own: the one that it is a slice of may be much larger.
    pub fn detach(&mut self) {
        self.rest = Bytes::copy_from_slice(&self.rest);
    }

    /// The bytes that are left.
    #[must_use]
    pub const fn left_bytes(&self) -> usize {
        self.rest.len()
    }

    /// The size of the batch at the front; `None` where it is cut off, or nothing is left.
    fn first_size(&self) -> Result<Option<usize>, BatchError> {
        let Some(mut head) = self.rest.get(..THROUGH_MAGIC) else { return Ok(None) };
        let (base_offset, length) = (head.get_i64(), head.get_i32());
        let magic = self.rest[THROUGH_MAGIC - 1].cast_signed();
        if magic != MAGIC {
            return Err(BatchError::Magic { base_offset, magic });
        }
        let size = usize::try_from(length).ok().map(|length| length.saturating_add(PREFIX));
        let size = size.filter(|size| *size >= HEADER).ok_or(BatchError::Length { base_offset, length })?;
        Ok(Some(size).filter(|size| *size <= self.rest.len()))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.first_size() {
            Ok(Some(size)) => Batch::read(&self.rest.split_to(size)),
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        if batch.is_err() {
            self.rest.clear();
        }
        Some(batch)
    }
}

/// A whole batch whose checksum is right. Its records are not looked at yet.
#[derive(Debug, Clone)]
pub struct Batch {
    base_offset: i64,
    last_offset: i64,
    leader_epoch: i32,
    attributes: i16,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    count: usize,
    payload: Bytes,
}

/// What a control batch says about its producer's transaction. Source: KIP-98, "Control Records".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// It is given up: its records are for nobody.
    Abort,
    /// It is complete.
    Commit,
    /// Something between brokers, of this type.
    Other(i16),
}

impl Batch {
    /// Reads `bytes`, which are as many as the batch's length says and no fewer than a header.
    fn read(bytes: &Bytes) -> Result<Self, BatchError> {
        let mut head = &bytes[..HEADER];
        let base_offset = head.get_i64();
        let _length = head.get_i32();
        let leader_epoch = head.get_i32();
        let _magic = head.get_i8();
        let stored = head.get_u32();
        let computed = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        if stored != computed {
            return Err(BatchError::Checksum { base_offset, stored, computed });
        }
        let attributes = head.get_i16();
        let delta = head.get_i32();
        let last_offset = base_offset
            .checked_add(i64::from(delta))
            .filter(|&last| base_offset >= 0 && delta >= 0 && last < i64::MAX)
            .ok_or(BatchError::Offsets { base_offset, delta })?;
        let (base_timestamp, max_timestamp) = (head.get_i64(), head.get_i64());
        let producer_id = head.get_i64();
        let (_producer_epoch, _base_sequence) = (head.get_i16(), head.get_i32());
        let count = head.get_i32();
        let count = usize::try_from(count).map_err(|_| BatchError::Count { base_offset, count })?;
        let payload = bytes.slice(HEADER..);
        Ok(Self {
            base_offset,
            last_offset,
            leader_epoch,
            attributes,
            base_timestamp,
            max_timestamp,
            producer_id,
            count,
            payload,
        })
    }

    /// The offset of the first record that was ever in it.
    #[must_use]
    pub const fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// The offset of the last record that was ever in it; compaction may have taken the record away.
    #[must_use]
    pub const fn last_offset(&self) -> i64 {
        self.last_offset
    }

    /// Where to go on behind it.
    #[must_use]
    pub const fn next_offset(&self) -> i64 {
        self.last_offset + 1
    }

    /// The epoch of the leader that appended it; -1 where unknown (KIP-101).
    #[must_use]
    pub const fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// How many records it claims to have.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The producer, where it has an id: idempotent and transactional ones do.
    #[must_use]
    pub fn producer_id(&self) -> Option<i64> {
        Some(self.producer_id).filter(|id| *id >= 0)
    }

    /// Whether it is part of a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether its record is for clients and brokers, and never for applications.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether the broker's clock gave its records their time (topic setting LogAppendTime).
    #[must_use]
    pub const fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// How its records are compressed.
    ///
    /// # Errors
    /// [`BatchError::Codec`] for a number that Kafka has not given out.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let number = self.attributes & CODEC;
        Codec::of(number).ok_or(BatchError::Codec { base_offset: self.base_offset, number })
    }

    /// Its records in ascending order of offset; none where compaction left none. Each one is checked when it
    /// is taken; an error is the last item. They may begin before the offset that was asked for.
    ///
    /// # Errors
    /// [`BatchError::Codec`], [`BatchError::Compressed`], and [`BatchError::TooLarge`] where they take more
    /// than `most_bytes` bytes decompressed.
    pub fn records(&self, most_bytes: usize) -> Result<Records, BatchError> {
        let codec = self.codec()?;
        let plain = if codec == Codec::None || self.payload.is_empty() {
            self.payload.clone()
        } else {
            codec::decompress(codec, &self.payload, most_bytes)
                .map_err(|failure| failure.of(self.base_offset, codec, most_bytes))?
                .into()
        };
        Ok(Records::new(self, plain))
    }

    /// What a control batch says; `None` for every other batch, and where compaction left nothing of it.
    ///
    /// # Errors
    /// Those of [`Batch::records`] and of its record, and [`BatchError::Record`] where that has not the key of
    /// a control record.
    pub fn marker(&self) -> Result<Option<Marker>, BatchError> {
        if !self.is_control() {
            return Ok(None);
        }
        // Control records are a few bytes.
        let Some(record) = self.records(self.payload.len())?.next() else { return Ok(None) };
        let key = record?.key.unwrap_or_default();
        // Version i16 and type i16; newer versions may have more behind them.
        let problem = "it has not the key of a control record";
        let mut key = key.get(..4).ok_or_else(|| BatchError::record(self.base_offset, 0, problem))?;
        let (version, kind) = (key.get_i16(), key.get_i16());
        if version < 0 {
            return Err(BatchError::record(self.base_offset, 0, problem));
        }
        Ok(Some(match kind {
            0 => Marker::Abort,
            1 => Marker::Commit,
            other => Marker::Other(other),
        }))
    }
}

#[cfg(test)]
mod tests;
