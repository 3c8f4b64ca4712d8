//! Records into a batch, as a producer sends it.
//!
//! The inverse of [`Batches`](super::Batches). A producer id and a sequence number make the batch one that a broker
//! appends once, however often it is sent (KIP-98).

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};

use super::{CHECKED_FROM, Codec, HEADER, MAGIC, PREFIX};
use crate::kafka::varint::put_signed;

/// A record to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Names and values of the headers.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Whose batch it is, and which one, so that the broker knows it when it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// The producer's id, from InitProducerId.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// How many records of this producer the partition has had before this batch.
    pub first: i32,
}

/// The codecs that are written. Every Kafka client reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    None,
    /// gzip.
    Gzip,
    /// Snappy, in one raw block.
    Snappy,
}

impl Packing {
    const fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
        }
    }

    fn pack(self, plain: Vec<u8>) -> Vec<u8> {
        match self {
            Self::None => plain,
            Self::Gzip => {
                let mut out = flate2::write::GzEncoder::new(
                    Vec::with_capacity(plain.len() / 3),
                    flate2::Compression::default(),
                );
                out.write_all(&plain).and_then(|()| out.finish()).expect("memory takes every byte")
            }
            Self::Snappy => snap::raw::Encoder::new()
                .compress_vec(&plain)
                .expect("a batch is smaller than the 4 GiB that a block can have"),
        }
    }
}

/// One batch of `records`, of which there is at least one. Without a `sequence` the broker appends it as often as it
/// comes.
///
/// # Panics
/// Where there is no record, or the records have 2 GiB or more.
#[must_use]
pub fn write(records: &[NewRecord<'_>], packing: Packing, sequence: Option<Sequence>) -> Bytes {
    let first = records.first().expect("a batch has a record").timestamp_ms;
    let last = records.iter().map(|record| record.timestamp_ms).max().unwrap_or(first);
    let mut plain = Vec::new();
    for (offset_delta, record) in records.iter().enumerate() {
        let body = body(record, length(offset_delta), first);
        put_signed(&mut plain, length(body.len()));
        plain.extend_from_slice(&body);
    }
    let payload = packing.pack(plain);
    let sequence = sequence.unwrap_or(Sequence { producer_id: -1, epoch: -1, first: -1 });
    let mut batch = BytesMut::with_capacity(HEADER + payload.len());
    batch.put_i64(0); // the broker sets the offset
    batch.put_i32(int(HEADER - PREFIX + payload.len()));
    batch.put_i32(-1); // and the leader epoch
    batch.put_i8(MAGIC);
    batch.put_u32(0); // the checksum, below
    batch.put_i16(packing.codec().number());
    batch.put_i32(int(records.len() - 1));
    batch.put_i64(first);
    batch.put_i64(last);
    batch.put_i64(sequence.producer_id);
    batch.put_i16(sequence.epoch);
    batch.put_i32(sequence.first);
    batch.put_i32(int(records.len()));
    batch.put_slice(&payload);
    let checksum = crc32c::crc32c(&batch[CHECKED_FROM..]);
    batch[CHECKED_FROM - 4..CHECKED_FROM].copy_from_slice(&checksum.to_be_bytes());
    batch.freeze()
}

/// About how many bytes a record takes before it is compressed; never less than it does.
#[must_use]
pub fn most_bytes(record: &NewRecord<'_>) -> usize {
    // Lengths take up to 5 bytes each; attributes, time and offset up to 16.
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
    record.key.len() + record.value.len() + headers + 36
}

fn body(record: &NewRecord<'_>, offset_delta: i64, first_ms: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(most_bytes(record));
    out.push(0); // no attributes
    put_signed(&mut out, record.timestamp_ms - first_ms);
    put_signed(&mut out, offset_delta);
    let mut part = |bytes: &[u8]| {
        put_signed(&mut out, length(bytes.len()));
        out.extend_from_slice(bytes);
    };
    part(record.key);
    part(record.value);
    put_signed(&mut out, length(record.headers.len()));
    for (name, value) in record.headers {
        let mut part = |bytes: &[u8]| {
            put_signed(&mut out, length(bytes.len()));
            out.extend_from_slice(bytes);
        };
        part(name.as_bytes());
        part(value);
    }
    out
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).expect("memory has fewer bytes")
}

fn int(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a batch has less than 2 GiB")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::testing::only, *};

    const PACKINGS: [Packing; 3] = [Packing::None, Packing::Gzip, Packing::Snappy];

    #[test]
    fn a_producers_batch_says_whose_it_is() {
        let record = NewRecord { timestamp_ms: 7, key: b"k", value: b"v", headers: &[] };
        let known = Sequence { producer_id: 4_711, epoch: 2, first: 30 };
        let bytes = write(&[record], Packing::None, Some(known));
        // Producer id, epoch and sequence stand behind the two times.
        assert_eq!(bytes[43..51], 4_711i64.to_be_bytes());
        assert_eq!((&bytes[51..53], &bytes[53..57]), (&2i16.to_be_bytes()[..], &30i32.to_be_bytes()[..]));
        assert_eq!(only(bytes).unwrap().producer_id(), Some(4_711));
        assert_eq!(only(write(&[record], Packing::None, None)).unwrap().producer_id(), None);
    }

    #[test]
    fn kafka_protocols_decoder_reads_it_too() {
        let headers = [("id", &b"1"[..]), ("", b"")];
        let record =
            NewRecord { timestamp_ms: 1_795_428_300_000, key: b"BTC", value: b"{}", headers: &headers };
        let mut bytes = write(&[record, record], Packing::None, None);
        let decoded = kafka_protocol::records::RecordBatchDecoder::decode(&mut bytes).unwrap();
        assert_eq!(decoded.records.len(), 2);
        let last = &decoded.records[1];
        assert_eq!((last.offset, last.timestamp), (1, 1_795_428_300_000));
        assert_eq!((last.key.as_deref(), last.value.as_deref()), (Some(&b"BTC"[..]), Some(&b"{}"[..])));
        assert_eq!(last.headers.len(), 2);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            records in prop::collection::vec(
                (any::<u32>(), any::<Vec<u8>>(), any::<Vec<u8>>(), prop::collection::vec(("[a-z]{0,9}", any::<Vec<u8>>()), 0..4)),
                1..20,
            )
        ) {
            let headers: Vec<Vec<(&str, &[u8])>> = records
                .iter()
                .map(|(_, _, _, headers)| headers.iter().map(|(name, value)| (name.as_str(), &value[..])).collect())
                .collect();
            let written: Vec<NewRecord<'_>> = records
                .iter()
                .zip(&headers)
                .map(|((at, key, value, _), headers)| NewRecord { timestamp_ms: i64::from(*at), key, value, headers })
                .collect();
            for packing in PACKINGS {
                let batch = only(write(&written, packing, None)).unwrap();
                prop_assert_eq!(batch.codec().unwrap(), packing.codec());
                let read: Vec<_> = batch.records(1 << 20).unwrap().collect::<Result<_, _>>().unwrap();
                prop_assert_eq!(read.len(), written.len());
                for (offset, (read, written)) in read.iter().zip(&written).enumerate() {
                    prop_assert_eq!((read.offset, read.timestamp_ms), (i64::try_from(offset).unwrap(), written.timestamp_ms));
                    prop_assert_eq!(read.key.as_deref(), Some(written.key));
                    prop_assert_eq!(read.value.as_deref(), Some(written.value));
                    let headers: Vec<(&str, &[u8])> = read
                        .headers
                        .iter()
                        .map(|header| (std::str::from_utf8(&header.name).unwrap(), header.value.as_deref().unwrap()))
                        .collect();
                    prop_assert_eq!(&headers[..], written.headers);
                }
            }
            let plain: usize = written.iter().map(most_bytes).sum();
            prop_assert!(write(&written, Packing::None, None).len() <= HEADER + plain);
        }
    }
}
