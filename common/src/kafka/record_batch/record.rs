//! The records inside a batch.
//!
//! ```text
//! length | attributes i8 | timestamp delta | offset delta | key | value | header count | header, header, …
//! ```
//!
//! All numbers but the attributes are signed varints; a length of -1 is null. Every length is held against
//! the bytes that are there before anything is made of it. Source: Apache Kafka documentation, "Record".

use bytes::Bytes;

use super::{Batch, BatchError};
use crate::kafka::varint::take_signed;

/// Memory is set aside at once for so many headers; for more of them as they come.
const MANY_HEADERS: usize = 8;

/// One record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch: the producer's word, or the broker's where the topic says so.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in the log's order, repeated ones too.
    pub headers: Vec<Header>,
}

impl Record {
    /// The value of the last header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let last = self.headers.iter().rev().find(|header| header.name == name.as_bytes());
        last.and_then(|header| header.value.as_deref())
    }

    /// Gives its parts memory of their own: the buffers that they are slices of may be much larger.
    pub fn detach(&mut self) {
        let detach = |bytes: &mut Bytes| *bytes = Bytes::copy_from_slice(bytes);
        self.key.iter_mut().chain(&mut self.value).for_each(detach);
        for header in &mut self.headers {
            detach(&mut header.name);
            header.value.iter_mut().for_each(detach);
        }
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

/// The records of one batch. The first error is the last item.
#[derive(Debug, Clone)]
pub struct Records {
    bytes: Bytes,
    /// Where the next record begins in `bytes`.
    at: usize,
    /// How many were taken, of `count`.
    index: usize,
    count: usize,
    base_offset: i64,
    /// The offset of the next record, at least.
    from: i64,
    last_offset: i64,
    base_timestamp: i64,
    /// The time of every record, where it is the broker's.
    appended: Option<i64>,
}

impl Records {
    /// The records that `bytes`, the decompressed part of `batch`, hold.
    pub(super) fn new(batch: &Batch, bytes: Bytes) -> Self {
        Self {
            bytes,
            at: 0,
            index: 0,
            count: batch.count,
            base_offset: batch.base_offset,
            from: batch.base_offset,
            last_offset: batch.last_offset,
            base_timestamp: batch.base_timestamp,
            appended: batch.is_log_append_time().then_some(batch.max_timestamp),
        }
    }

    /// The bytes of the buffer that its records are slices of.
    #[must_use]
    pub const fn buffer_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes of the records that were not taken yet.
    #[must_use]
    pub const fn left_bytes(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Gives what is left a buffer of its own: the one that it is a slice of may be much larger.
    pub fn detach(&mut self) {
        self.bytes = Bytes::copy_from_slice(&self.bytes[self.at..]);
        self.at = 0;
    }

    /// Takes one record, or says what is wrong with it.
    fn take(&mut self) -> Result<Record, &'static str> {
        const CUT: &str = "it has not the bytes that it claims";
        let mut rest = &self.bytes[self.at..];
        let length = take_signed(&mut rest).and_then(|length| usize::try_from(length).ok()).ok_or(CUT)?;
        let mut body = rest.split_off(..length).ok_or(CUT)?;
        let behind = self.bytes.len() - rest.len();

        let _attributes = body.split_off_first().ok_or(CUT)?;
        let timestamp_delta = take_signed(&mut body).ok_or(CUT)?;
        let offset_delta = take_signed(&mut body).ok_or(CUT)?;
        let offset = self
            .base_offset
            .checked_add(offset_delta)
            .filter(|offset| (self.from..=self.last_offset).contains(offset))
            .ok_or("its offset is not between those of its neighbours")?;
        let share = |part: &[u8]| self.bytes.slice_ref(part);
        let key = take_nullable(&mut body).ok_or(CUT)?.map(share);
        let value = take_nullable(&mut body).ok_or(CUT)?.map(share);

        let count = take_signed(&mut body).and_then(|count| usize::try_from(count).ok());
        // A header takes two bytes at least.
        let count = count.filter(|count| *count <= body.len() / 2).ok_or("its header count is impossible")?;
        let mut headers = Vec::with_capacity(count.min(MANY_HEADERS));
        for _ in 0..count {
            let name = take_nullable(&mut body).flatten().ok_or(CUT)?;
            let value = take_nullable(&mut body).ok_or(CUT)?;
            headers.push(Header { name: share(name), value: value.map(share) });
        }
        if !body.is_empty() {
            return Err("it has more bytes than its parts");
        }

        let timestamp_ms =
            self.appended.unwrap_or_else(|| self.base_timestamp.saturating_add(timestamp_delta));
        (self.at, self.from) = (behind, offset + 1);
        Ok(Record { offset, timestamp_ms, key, value, headers })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = if self.index < self.count {
            self.take()
        } else if self.at < self.bytes.len() {
            Err("there are bytes behind the last record")
        } else {
            return None;
        };
        let index = self.index;
        self.index += 1;
        Some(record.map_err(|problem| {
            self.bytes.clear();
            (self.at, self.count) = (0, 0);
            BatchError::record(self.base_offset, index, problem)
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // A record takes seven bytes at least; whatever its batch claims.
        (0, Some(self.count.saturating_sub(self.index).min((self.bytes.len() - self.at) / 7 + 1)))
    }
}

/// A length and so many bytes; the inner `None` is null, the outer one "not there".
fn take_nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_signed(rest)? {
        -1 => Some(None),
        length => rest.split_off(..usize::try_from(length).ok()?).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{
        protocol::StrBytes,
        records::{Record as Written, RecordBatchDecoder},
    };
    use proptest::prelude::*;

    use super::super::{Batches, Codec, LOG_APPEND_TIME, codec, testing::*};
    use super::*;

    const MOST: usize = 1 << 20;

    fn records(bytes: Bytes) -> Result<Vec<Record>, BatchError> {
        only(bytes)?.records(MOST)?.collect()
    }

    fn problem(payload: &[u8]) -> String {
        records(raw(0, 9, 1, payload)).unwrap_err().to_string()
    }

    /// Length 12, attributes, time 3, offset 2, no key, value "v", two headers.
    const RECORD: [u8; 15] = [28, 0, 6, 4, 1, 2, b'v', 4, 4, 0xff, 0xfe, 1, 0, 2, b'x'];

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

    #[test]
    fn nulls_and_binary_headers_are_kept() {
        let record = Record {
            offset: 102,
            timestamp_ms: 5_003,
            key: None,
            value: Some(Bytes::from_static(b"v")),
            headers: vec![
                Header { name: Bytes::from_static(b"\xff\xfe"), value: None },
                Header { name: Bytes::new(), value: Some(Bytes::from_static(b"x")) },
            ],
        };
        assert_eq!(records(raw(0, 9, 1, &RECORD)), Ok(vec![record.clone()]));
        for codec in CODECS.into_iter().zip(0..) {
            let payload = compressed(codec.0, &RECORD);
            assert_eq!(records(raw(codec.1, 9, 1, &payload)), Ok(vec![record.clone()]), "{}", codec.0);
        }
    }

    #[test]
    fn log_append_time_is_the_time_of_every_record() {
        let found = records(raw(LOG_APPEND_TIME, 9, 1, &RECORD)).unwrap();
        assert_eq!(found[0].timestamp_ms, 9_000);
    }

    #[test]
    fn what_is_left_goes_on_in_a_buffer_of_its_own() {
        let bytes = batch(&plain_records(3), Codec::None);
        let all = records(bytes.clone()).unwrap();
        let mut left = only(bytes.clone()).unwrap().records(MOST).unwrap();
        assert_eq!(left.next(), Some(Ok(all[0].clone())));
        let before = left.buffer_bytes();
        left.detach();
        assert!(left.buffer_bytes() < before);
        let rest: Vec<Record> = left.collect::<Result<_, _>>().unwrap();
        assert_eq!(rest, all[1..]);
        assert!(!bytes.as_ptr_range().contains(&rest[0].value.as_ref().unwrap().as_ptr()));
    }

    #[test]
    fn records_are_slices_of_what_was_fetched() {
        let bytes = batch(&plain_records(3), Codec::None);
        for record in records(bytes.clone()).unwrap() {
            let value = record.value.unwrap();
            assert!(bytes.as_ptr_range().contains(&value.as_ptr()));
        }
    }

    #[test]
    fn parts_that_lie_are_errors() {
        for length in 0..RECORD.len() {
            assert!(problem(&RECORD[..length]).ends_with("it has not the bytes that it claims"), "{length}");
        }
        let with = |at: usize, byte: u8| {
            let mut changed = RECORD;
            changed[at] = byte;
            problem(&changed)
        };
        assert_eq!(
            with(3, 20),
            "record 0 of the batch at offset 100 is malformed: its offset is not between those of its neighbours"
        );
        assert!(with(3, 1).contains("neighbours"));
        assert!(with(4, 3).contains("bytes that it claims"), "a key of -2 bytes");
        assert!(with(7, 2).contains("more bytes than its parts"));
        assert!(with(7, 1).contains("header count"), "-1 headers");
        assert!(with(7, 60).contains("header count"));
        assert!(with(8, 1).contains("bytes that it claims"), "a null name");
        let behind = records(raw(0, 9, 1, &[&RECORD[..], &[0]].concat())).unwrap_err();
        assert!(behind.to_string().contains("record 1 of"), "{behind}");
        let twice = records(raw(0, 9, 2, &[RECORD, RECORD].concat())).unwrap_err();
        assert!(twice.to_string().contains("neighbours"), "{twice}");
    }

    #[test]
    fn a_count_that_lies_sets_nothing_aside() {
        let found = only(raw(0, i32::MAX, i32::MAX, &RECORD)).unwrap().records(MOST).unwrap();
        assert!(found.size_hint().1.unwrap() < 10);
        let found: Vec<_> = found.collect();
        assert!(found.len() == 2 && found[0].is_ok() && found[1].is_err());
    }

    #[test]
    fn what_is_too_large_decompressed_is_named() {
        let payload = compressed(Codec::Lz4, &[0; 5_000]);
        let error = only(raw(3, 9, 1, &payload)).unwrap().records(4_999).unwrap_err();
        assert_eq!(
            error.to_string(),
            "batch at offset 100 has more than 4999 bytes when its lz4 is decompressed"
        );
    }

    fn part() -> impl Strategy<Value = Option<Bytes>> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from))
    }

    /// Records with gaps between their offsets, as compaction leaves them.
    fn any_records() -> impl Strategy<Value = Vec<Written>> {
        let headers = prop::collection::vec(("[a-ä]{0,3}", part()), 0..12);
        let record = (1..300_i64, -1_000_000..1_000_000_i64, part(), part(), headers);
        prop::collection::vec(record, 1..20).prop_map(|parts| {
            let mut offset = 1 << 40;
            let record = |(gap, timestamp, key, value, headers): (_, _, _, _, Vec<(String, _)>)| {
                offset += gap;
                let headers = headers.into_iter();
                Written {
                    key,
                    value,
                    headers: headers.map(|(name, value)| (StrBytes::from_string(name), value)).collect(),
                    // The encoder begins a batch where this and the offset part.
                    sequence: i32::try_from(offset % (1 << 31)).unwrap(),
                    ..written(offset, timestamp, "")
                }
            };
            parts.into_iter().map(record).collect()
        })
    }

    fn as_ours(written: &Written) -> Record {
        let headers = written.headers.iter();
        let headers = headers.map(|(name, value)| Header { name: name.clone().into(), value: value.clone() });
        Record {
            offset: written.offset,
            timestamp_ms: written.timestamp,
            key: written.key.clone(),
            value: written.value.clone(),
            headers: headers.collect(),
        }
    }

    proptest! {
        #[test]
        fn every_record_comes_out_in_order_with_all_its_parts(records in any_records(), codec in 0_usize..5) {
            let bytes = batch(&records, CODECS[codec]);
            let found: Result<Vec<_>, _> =
                Batches::new(bytes).flat_map(|batch| batch.unwrap().records(MOST).unwrap()).collect();
            prop_assert_eq!(found.unwrap(), records.iter().map(as_ours).collect::<Vec<_>>());
        }

        /// What their decoder reads after some bytes of the records were changed, ours reads as they do, or
        /// refuses for what they do not look at.
        #[test]
        fn we_agree_with_the_decoder_of_kafka_protocol(
            records in any_records(),
            codec in 0_usize..5,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let mut bytes = batch(&records, CODECS[codec]).to_vec();
            for (at, byte) in &changes {
                let at = 61 + at.index(bytes.len() - 61);
                bytes[at] = *byte;
            }
            let bytes = rechecked(&bytes);
            let found = only(bytes.clone()).unwrap().records(MOST);
            let found = found.and_then(Iterator::collect::<Result<Vec<_>, _>>);
            // Theirs sets aside what a header count claims, so it is only asked about what ours can read.
            if let Ok(found) = found {
                let decompress = |bytes: &mut Bytes, _| {
                    Ok(Bytes::from(codec::decompress(CODECS[codec], bytes, MOST).expect("it was just read")))
                };
                let theirs =
                    RecordBatchDecoder::decode_with_custom_compression(&mut bytes.clone(), Some(decompress));
                if let Ok(theirs) = theirs {
                    prop_assert_eq!(theirs.records.len(), found.len());
                    for (theirs, ours) in theirs.records.iter().zip(&found) {
                        prop_assert_eq!((theirs.offset, theirs.timestamp), (ours.offset, ours.timestamp_ms));
                        prop_assert_eq!((&theirs.key, &theirs.value), (&ours.key, &ours.value));
                        prop_assert!(theirs.headers.len() <= ours.headers.len());
                    }
                }
            } else {
                prop_assert!(!changes.is_empty());
            }
        }
    }
}
