//! One record batch, format 2: the unit that is appended, stored, fetched and checksummed.
//!
//! The log keeps a batch as the bytes that the producer sent. Only three things ever look inside: the
//! header (offsets, checksum), the record times (ListOffsets by time) and the kind of a control record
//! (transactions).
//!
//! ```text
//!  0 base offset i64      16 magic i8          27 base timestamp i64   51 producer epoch i16
//!  8 batch length i32     17 crc-32c u32       35 max timestamp i64    53 base sequence i32
//! 12 leader epoch i32     21 attributes i16    43 producer id i64      57 record count i32
//!                         23 last delta i32                            61 records, perhaps compressed
//! ```
//!
//! The checksum begins at the attributes, so a broker may set the base offset and the leader epoch without
//! computing it again. Source: Apache Kafka documentation, "Record Batch".

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::compression::{Decompressor, Gzip, Snappy};

use coinduit_common::kafka::varint;

/// Bytes of a batch that its length field does not count: base offset and the length itself.
const PREFIX: usize = 12;
/// Bytes before the first record.
const HEADER: usize = 61;
/// Where the part begins that the checksum covers.
const CHECKED_FROM: usize = 21;

const MAGIC: i8 = 2;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// The epoch of the one leader this broker ever has.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// A whole record batch with a checked header and checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    base_offset: i64,
    last_offset: i64,
    bytes: Bytes,
}

/// Why bytes are not a record batch, or a batch's records cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does: a torn write, or a length that lies.
    #[error("record batch of {need} bytes ends after {have}")]
    Truncated {
        /// Bytes that the header, or the header alone, takes.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// The length field leaves no room for a header, or is negative.
    #[error("record batch has length field {0}")]
    Length(i32),
    /// A message set of format 0 or 1, or no batch at all.
    #[error("record batch has format {0}, only {MAGIC} is supported")]
    Magic(i8),
    /// The content is not what the producer sent.
    #[error("record batch has checksum {stored:#010x}, its content has {computed:#010x}")]
    Checksum {
        /// CRC-32C in the header.
        stored: u32,
        /// CRC-32C of the bytes.
        computed: u32,
    },
    /// Offsets that are negative or overflow.
    #[error("record batch has base offset {base} and last offset delta {delta}")]
    Offsets {
        /// The base offset.
        base: i64,
        /// Last offset less base offset.
        delta: i32,
    },
    /// The records inside cannot be read; the header was right.
    #[error("records of the batch at offset {0} are malformed")]
    Records(i64),
    /// lz4 or zstd, whose libraries are not part of this build.
    #[error("batch at offset {base} has compression {codec}, which this broker stores but cannot look into")]
    Codec {
        /// The batch's base offset.
        base: i64,
        /// Number of the codec: 3 is lz4, 4 is zstd.
        codec: i16,
    },
}

/// What a control batch says about its producer's transaction. Source: KIP-98.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Abort,
    Commit,
}

impl Batch {
    /// Takes the first batch off `bytes`, which may hold more after it.
    ///
    /// The result shares memory with `bytes`.
    ///
    /// # Errors
    /// [`BatchError`] for anything that is not a whole, valid batch; `bytes` is then unchanged.
    pub fn split_first(bytes: &mut Bytes) -> Result<Self, BatchError> {
        if bytes.len() < HEADER {
            return Err(BatchError::Truncated { need: HEADER, have: bytes.len() });
        }
        let length = (&bytes[8..]).get_i32();
        let size = usize::try_from(length)
            .ok()
            .map(|length| length.saturating_add(PREFIX))
            .filter(|&size| size >= HEADER)
            .ok_or(BatchError::Length(length))?;
        let magic = (&bytes[16..]).get_i8();
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        if bytes.len() < size {
            return Err(BatchError::Truncated { need: size, have: bytes.len() });
        }
        let (base_offset, delta) = ((&bytes[0..]).get_i64(), (&bytes[23..]).get_i32());
        let last_offset = base_offset
            .checked_add(i64::from(delta))
            .filter(|&last| base_offset >= 0 && delta >= 0 && last < i64::MAX)
            .ok_or(BatchError::Offsets { base: base_offset, delta })?;
        let stored = (&bytes[17..]).get_u32();
        let computed = crc32c::crc32c(&bytes[CHECKED_FROM..size]);
        if stored != computed {
            return Err(BatchError::Checksum { stored, computed });
        }
        Ok(Self { base_offset, last_offset, bytes: bytes.split_to(size) })
    }

    /// The same batch at `base_offset`, in the epoch of this broker; in memory of its own, so that the
    /// request it came with can be freed.
    ///
    /// # Errors
    /// [`BatchError::Offsets`] when the last offset would overflow.
    pub(crate) fn at(&self, base_offset: i64) -> Result<Self, BatchError> {
        let delta = self.last_offset_delta();
        let last_offset = base_offset
            .checked_add(i64::from(delta))
            .filter(|&last| last < i64::MAX)
            .ok_or(BatchError::Offsets { base: base_offset, delta })?;
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[0..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&LEADER_EPOCH.to_be_bytes());
        Ok(Self { base_offset, last_offset, bytes: bytes.freeze() })
    }

    /// Offset of the first record, or where it was before compaction.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Offset of the last record, inclusive.
    pub fn last_offset(&self) -> i64 {
        self.last_offset
    }

    /// The batch as it is stored and sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Greatest timestamp of its records, in ms since the epoch; -1 for none.
    pub(crate) fn max_timestamp(&self) -> i64 {
        self.field::<8>(35).get_i64()
    }

    pub(crate) fn producer_id(&self) -> i64 {
        self.field::<8>(43).get_i64()
    }

    /// Whether every offset from the first to the last has a record, as a producer must send it.
    pub(crate) fn is_dense(&self) -> bool {
        let count = self.field::<4>(57).get_i32();
        i64::from(count) == i64::from(self.last_offset_delta()) + 1
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// The end of a transaction that a control batch stands for, if it is one that consumers know.
    pub(crate) fn marker(&self) -> Option<Marker> {
        if !self.is_control() {
            return None;
        }
        let records = self.records().ok()?;
        let key = RecordHead::take(&mut &records[..])?.key?;
        // Version i16, type i16.
        match key.get(2..4)? {
            [0, 0] => Some(Marker::Abort),
            [0, 1] => Some(Marker::Commit),
            _ => None,
        }
    }

    /// The first record at or after `from` whose timestamp is `at_or_after` or later, as offset and
    /// timestamp.
    ///
    /// # Errors
    /// [`BatchError::Records`] or [`BatchError::Codec`] when the records cannot be read.
    pub(crate) fn find_time(&self, at_or_after: i64, from: i64) -> Result<Option<(i64, i64)>, BatchError> {
        let malformed = BatchError::Records(self.base_offset);
        let records = self.records()?;
        let base_timestamp = self.field::<8>(27).get_i64();
        let mut rest = &records[..];
        while !rest.is_empty() {
            let record = RecordHead::take(&mut rest).ok_or_else(|| malformed.clone())?;
            let offset = self.base_offset.saturating_add(record.offset_delta);
            let timestamp = if self.attributes() & LOG_APPEND_TIME == 0 {
                base_timestamp.saturating_add(record.timestamp_delta)
            } else {
                self.max_timestamp()
            };
            if offset >= from && timestamp >= at_or_after {
                return Ok(Some((offset, timestamp)));
            }
        }
        Ok(None)
    }

    /// The records section, decompressed.
    fn records(&self) -> Result<Bytes, BatchError> {
        let mut stored = self.bytes.slice(HEADER..);
        let plain = match self.attributes() & 0b111 {
            0 => return Ok(stored),
            1 => Gzip::decompress(&mut stored, |plain| Ok(plain.clone())),
            2 => Snappy::decompress(&mut stored, |plain| Ok(plain.clone())),
            codec => return Err(BatchError::Codec { base: self.base_offset, codec }),
        };
        plain.map_err(|_| BatchError::Records(self.base_offset))
    }

    fn attributes(&self) -> i16 {
        self.field::<2>(21).get_i16()
    }

    fn last_offset_delta(&self) -> i32 {
        self.field::<4>(23).get_i32()
    }

    /// `N` header bytes at `at`, to be read as a number.
    fn field<const N: usize>(&self, at: usize) -> &[u8] {
        &self.bytes[at..at + N]
    }
}

/// What of a record stands before its value.
struct RecordHead<'a> {
    timestamp_delta: i64,
    offset_delta: i64,
    key: Option<&'a [u8]>,
}

impl<'a> RecordHead<'a> {
    /// Takes one whole record off `rest` and reads its head; `None` when it is malformed.
    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let length = usize::try_from(varint::take_signed(rest)?).ok()?;
        let mut record = rest.split_off(..length)?;
        // Attributes of a record: unused by every version of the format.
        record.split_off_first()?;
        let timestamp_delta = varint::take_signed(&mut record)?;
        let offset_delta = varint::take_signed(&mut record)?;
        let key = match varint::take_signed(&mut record)? {
            -1 => None,
            length => Some(record.split_off(..usize::try_from(length).ok()?)?),
        };
        Some(Self { timestamp_delta, offset_delta, key })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::BufMut;
    use kafka_protocol::indexmap::IndexMap;
    use kafka_protocol::records::{
        Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };
    use proptest::prelude::*;

    use super::*;

    /// A batch at offset 0 with a record for each timestamp, encoded by kafka-protocol.
    pub(crate) fn encoded(timestamps: &[i64], compression: Compression) -> Bytes {
        encoded_with(timestamps, compression, |_| {})
    }

    /// As [`encoded`], at an offset.
    pub(crate) fn at(offset: i64, timestamps: &[i64], compression: Compression) -> Bytes {
        batch(encoded(timestamps, compression)).at(offset).unwrap().bytes().clone()
    }

    /// As [`encoded`], with every record passed through `change` first.
    pub(crate) fn encoded_with(
        timestamps: &[i64],
        compression: Compression,
        change: impl Fn(&mut Record),
    ) -> Bytes {
        let records: Vec<Record> = (0_i32..)
            .zip(timestamps)
            .map(|(index, &timestamp)| {
                let mut record = Record {
                    transactional: false,
                    control: false,
                    delete_horizon: false,
                    partition_leader_epoch: -1,
                    producer_id: -1,
                    producer_epoch: -1,
                    timestamp_type: TimestampType::Creation,
                    offset: i64::from(index),
                    sequence: index,
                    timestamp,
                    key: Some(Bytes::from(format!("key-{index}"))),
                    value: Some(Bytes::from(format!("value-{index}"))),
                    headers: IndexMap::new(),
                };
                change(&mut record);
                record
            })
            .collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        bytes.freeze()
    }

    /// A batch at offset 0 of a transaction of `producer`.
    pub(crate) fn transactional(producer: i64, records: usize) -> Bytes {
        encoded_with(&vec![1_000; records], Compression::None, |record| {
            record.transactional = true;
            record.producer_id = producer;
            record.producer_epoch = 0;
        })
    }

    /// The control batch that ends a transaction of `producer`, as Kafka's coordinator writes it.
    pub(crate) fn marker(producer: i64, marker: Marker) -> Bytes {
        let key: &[u8] = match marker {
            Marker::Abort => &[0, 0, 0, 0],
            Marker::Commit => &[0, 0, 0, 1],
        };
        encoded_with(&[1_000], Compression::None, |record| {
            record.transactional = true;
            record.control = true;
            record.producer_id = producer;
            record.producer_epoch = 0;
            record.key = Some(Bytes::copy_from_slice(key));
            record.value = Some(Bytes::from_static(&[0, 0, 0, 0, 0, 0]));
        })
    }

    /// Puts the right checksum into a batch that was changed by hand.
    pub(crate) fn rechecked(bytes: &[u8]) -> Bytes {
        let mut changed = BytesMut::from(bytes);
        let crc = crc32c::crc32c(&changed[CHECKED_FROM..]);
        (&mut changed[17..21]).put_u32(crc);
        changed.freeze()
    }

    fn batch(mut bytes: Bytes) -> Batch {
        Batch::split_first(&mut bytes).unwrap()
    }

    #[test]
    fn header_of_an_encoded_batch_is_read() {
        let batch = batch(encoded(&[5, 9, 7], Compression::None)).at(100).unwrap();
        assert_eq!((batch.base_offset(), batch.last_offset()), (100, 102));
        assert_eq!(batch.max_timestamp(), 9);
        assert!(batch.is_dense() && !batch.is_control() && !batch.is_transactional());
    }

    #[test]
    fn moved_batch_keeps_its_checksum() {
        let moved = batch(encoded(&[1, 2], Compression::None)).at(7_000_000_000).unwrap();
        assert_eq!(Batch::split_first(&mut moved.bytes().clone()), Ok(moved));
    }

    #[test]
    fn split_takes_one_batch_and_leaves_the_next() {
        let (first, second) = (encoded(&[1], Compression::None), encoded(&[2, 3], Compression::None));
        let mut both = Bytes::from([&first[..], &second[..]].concat());
        assert_eq!(Batch::split_first(&mut both).unwrap().bytes(), &first);
        assert_eq!(both, second);
    }

    #[test]
    fn every_flipped_bit_behind_the_checksum_is_found() {
        let good = encoded(&[1, 2], Compression::None);
        for at in CHECKED_FROM..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert!(Batch::split_first(&mut Bytes::from(bad)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn old_message_format_is_refused_by_name() {
        let mut old = encoded(&[1], Compression::None).to_vec();
        old[16] = 1;
        assert_eq!(Batch::split_first(&mut Bytes::from(old)), Err(BatchError::Magic(1)));
    }

    #[test]
    fn offsets_beyond_the_end_of_numbers_are_refused() {
        let batch = batch(encoded(&[1, 2], Compression::None));
        assert_eq!(batch.at(i64::MAX - 1), Err(BatchError::Offsets { base: i64::MAX - 1, delta: 1 }));
    }

    #[test]
    fn time_is_found_in_every_codec_of_the_build() {
        for codec in [Compression::None, Compression::Gzip, Compression::Snappy] {
            let batch = batch(encoded(&[10, 30, 20, 40], codec)).at(100).unwrap();
            assert_eq!(batch.find_time(5, 0), Ok(Some((100, 10))), "{codec:?}");
            assert_eq!(batch.find_time(15, 0), Ok(Some((101, 30))), "{codec:?}");
            assert_eq!(batch.find_time(15, 102), Ok(Some((102, 20))), "{codec:?}");
            assert_eq!(batch.find_time(41, 0), Ok(None), "{codec:?}");
        }
    }

    #[test]
    fn log_append_time_is_the_time_of_every_record() {
        let mut bytes = encoded(&[10, 30], Compression::None).to_vec();
        bytes[22] |= 1 << 3;
        let batch = batch(rechecked(&bytes));
        assert_eq!(batch.find_time(11, 0), Ok(Some((0, 30))));
    }

    #[test]
    fn unreadable_codec_is_named() {
        let mut bytes = encoded(&[10], Compression::None).to_vec();
        bytes[22] |= 4;
        let batch = batch(rechecked(&bytes));
        assert_eq!(batch.find_time(0, 0), Err(BatchError::Codec { base: 0, codec: 4 }));
    }

    #[test]
    fn markers_are_told_apart() {
        assert_eq!(batch(marker(7, Marker::Abort)).marker(), Some(Marker::Abort));
        assert_eq!(batch(marker(7, Marker::Commit)).marker(), Some(Marker::Commit));
        assert_eq!(batch(transactional(7, 1)).marker(), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = Bytes::from(bytes);
            prop_assert!(Batch::split_first(&mut bytes).is_err());
        }

        /// Behind a valid header and checksum, too.
        #[test]
        fn arbitrary_records_never_panic(
            attributes in any::<i16>(),
            records in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = encoded(&[1], Compression::None)[..HEADER].to_vec();
            bytes.extend_from_slice(&records);
            let length = i32::try_from(bytes.len() - PREFIX).unwrap();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
            let batch = Batch::split_first(&mut rechecked(&bytes)).unwrap();
            let found = batch.find_time(i64::MIN, 0);
            if let Ok(Some((offset, _))) = found {
                prop_assert!(offset >= 0);
            }
            prop_assert!(batch.marker().is_none() || batch.is_control());
        }
    }
}
