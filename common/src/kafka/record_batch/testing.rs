//! Batches for tests: those that kafka-protocol's encoder writes, and some that it would not.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record as Written, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use super::{Batch, BatchError, Batches, CHECKED_FROM, CONTROL, Codec, HEADER, PREFIX, TRANSACTIONAL};

pub(in crate::kafka) const CODECS: [Codec; 5] =
    [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// A record without key and headers.
pub(in crate::kafka) fn written(offset: i64, timestamp: i64, value: impl Into<Bytes>) -> Written {
    Written {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 4,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: i32::try_from(offset).unwrap_or(i32::MAX),
        timestamp,
        key: None,
        value: Some(value.into()),
        headers: [].into(),
    }
}

/// So many records from offset 0 on, each with its offset as value, and its thousandfold as time.
pub(in crate::kafka) fn plain_records(count: i64) -> Vec<Written> {
    (0..count).map(|offset| written(offset, offset * 1000, offset.to_string())).collect()
}

/// What the codec's usual writer makes of `plain`.
pub(in crate::kafka) fn compressed(codec: Codec, plain: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => plain.to_vec(),
        Codec::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(plain).unwrap();
            out.finish().unwrap()
        }
        Codec::Snappy => {
            let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for block in plain.chunks(32 << 10) {
                let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
                out.put_u32(u32::try_from(block.len()).unwrap());
                out.extend_from_slice(&block);
            }
            out
        }
        Codec::Lz4 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(plain).unwrap();
            out.finish().unwrap()
        }
        Codec::Zstd => ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest),
    }
}

/// `records` in one batch.
pub(in crate::kafka) fn batch(records: &[Written], codec: Codec) -> Bytes {
    let compression = match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression };
    let compress = |plain: &mut BytesMut, out: &mut BytesMut, _| {
        out.put_slice(&compressed(codec, plain));
        Ok(())
    };
    RecordBatchEncoder::encode_with_custom_compression(&mut bytes, records, &options, Some(compress))
        .unwrap();
    bytes.freeze()
}

/// The same batch with length and checksum as its content wants them.
pub(in crate::kafka) fn rechecked(batch: &[u8]) -> Bytes {
    let mut batch = batch.to_vec();
    let length = i32::try_from(batch.len() - PREFIX).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(&batch[CHECKED_FROM..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    batch.into()
}

/// A batch at offset 100 with any header and content.
pub(in crate::kafka) fn raw(attributes: i16, last_delta: i32, count: i32, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i64(100);
    bytes.put_i32(0);
    bytes.put_i32(4);
    bytes.put_i8(2);
    bytes.put_u32(0);
    bytes.put_i16(attributes);
    bytes.put_i32(last_delta);
    bytes.put_i64(5_000);
    bytes.put_i64(9_000);
    bytes.put_i64(-1);
    bytes.put_i16(-1);
    bytes.put_i32(-1);
    bytes.put_i32(count);
    assert_eq!(bytes.len(), HEADER);
    bytes.put_slice(payload);
    rechecked(&bytes)
}

/// A control batch of a producer, at `offset`.
pub(in crate::kafka) fn control(producer_id: i64, offset: i64, key: &[u8]) -> Bytes {
    let mut record = written(offset, 0, &b"\0\0\0\0\0\0"[..]);
    (record.producer_id, record.producer_epoch) = (producer_id, 0);
    record.key = Some(Bytes::copy_from_slice(key));
    let mut bytes = batch(&[record], Codec::None).to_vec();
    bytes[CHECKED_FROM..CHECKED_FROM + 2].copy_from_slice(&(CONTROL | TRANSACTIONAL).to_be_bytes());
    rechecked(&bytes)
}

/// The one batch that `bytes` are.
pub(in crate::kafka) fn only(bytes: Bytes) -> Result<Batch, BatchError> {
    let mut batches = Batches::new(bytes);
    let batch = batches.next().expect("a batch");
    assert!(batches.next().is_none() && batches.cut_off().is_none());
    batch
}
