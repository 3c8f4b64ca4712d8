//! What a real Kafka 4.1.0 has on its disk, written by its own Java clients.
//!
//! `none` to `zstd`: ten records each, `n` at offset `n` with key `k{n}` (null for 3), a value of JSON (null
//! for 4), header `id` of `n`, and for even ones a header `nothing` without a value; timestamps from
//! 1,700,000,000,000 on. `log-append-time` is the same on a topic with that setting. `transactions` has two
//! producers at once: 0 to 2 and 6 to 7 of the first, committed at 8; 3 to 5 of the second, aborted at 9; 10
//! to 11 of the second, committed at 12; 13 to 14 of a third without a transaction. `compacted` is what was
//! left of 11,400 records with seven keys.

use bytes::Bytes;

use super::{Batches, Codec, Marker, Record};

const NONE: &[u8] = include_bytes!("recorded/none.bin");
const GZIP: &[u8] = include_bytes!("recorded/gzip.bin");
const SNAPPY: &[u8] = include_bytes!("recorded/snappy.bin");
const LZ4: &[u8] = include_bytes!("recorded/lz4.bin");
const ZSTD: &[u8] = include_bytes!("recorded/zstd.bin");
const LOG_APPEND_TIME: &[u8] = include_bytes!("recorded/log-append-time.bin");
const COMPACTED: &[u8] = include_bytes!("recorded/compacted.bin");
pub(in crate::kafka) const TRANSACTIONS: &[u8] = include_bytes!("recorded/transactions.bin");

fn records(bytes: &'static [u8]) -> Vec<Record> {
    let batches = Batches::new(Bytes::from_static(bytes)).map(Result::unwrap);
    batches.flat_map(|batch| batch.records(1 << 20).unwrap()).map(Result::unwrap).collect()
}

/// Checks everything but the time, which is returned.
fn check(record: &Record, n: i64) -> i64 {
    assert_eq!(record.offset, n);
    assert_eq!(record.key, Some(Bytes::from(format!("k{n}"))).filter(|_| n != 3));
    let value = format!(r#"{{"code":"BTC","rate":{n}.5,"name":"Bitcoin, the first of them all"}}"#);
    assert_eq!(record.value, Some(Bytes::from(value)).filter(|_| n != 4));
    assert_eq!(
        (&record.headers[0].name[..], record.headers[0].value.clone()),
        (&b"id"[..], Some(n.to_string().into()))
    );
    let nothing: Vec<_> =
        record.headers[1..].iter().map(|header| (&header.name[..], &header.value)).collect();
    assert_eq!(nothing, if n % 2 == 0 { vec![(&b"nothing"[..], &None)] } else { vec![] });
    record.timestamp_ms
}

#[test]
fn every_codec_of_the_java_clients_is_read() {
    for (bytes, codec) in [
        (NONE, Codec::None),
        (GZIP, Codec::Gzip),
        (SNAPPY, Codec::Snappy),
        (LZ4, Codec::Lz4),
        (ZSTD, Codec::Zstd),
    ] {
        let first = Batches::new(Bytes::from_static(bytes)).next().unwrap().unwrap();
        assert_eq!(first.codec(), Ok(codec));
        let found = records(bytes);
        assert_eq!(found.len(), 10, "{codec}");
        for (record, n) in found.iter().zip(0..) {
            assert_eq!(check(record, n), 1_700_000_000_000 + n, "{codec}");
        }
    }
}

#[test]
fn the_brokers_time_is_read_where_the_topic_says_so() {
    for (record, n) in records(LOG_APPEND_TIME).iter().zip(0..) {
        assert!(check(record, n) > 1_790_000_000_000);
    }
}

#[test]
fn transactions_have_their_markers() {
    let batches = Batches::new(Bytes::from_static(TRANSACTIONS)).map(Result::unwrap);
    let found: Vec<_> = batches
        .map(|batch| {
            ((batch.base_offset(), batch.last_offset()), batch.is_transactional(), batch.marker().unwrap())
        })
        .collect();
    assert_eq!(
        found,
        [
            ((0, 2), true, None),
            ((3, 5), true, None),
            ((6, 7), true, None),
            ((8, 8), true, Some(Marker::Commit)),
            ((9, 9), true, Some(Marker::Abort)),
            ((10, 11), true, None),
            ((12, 12), true, Some(Marker::Commit)),
            ((13, 14), false, None),
        ]
    );
}

#[test]
fn compaction_leaves_batches_of_nothing_and_gaps() {
    let batches = Batches::new(Bytes::from_static(COMPACTED)).map(Result::unwrap);
    let found: Vec<_> =
        batches.map(|batch| (batch.base_offset(), batch.next_offset(), batch.count())).collect();
    assert_eq!(found, [(4_501, 5_000, 0), (9_501, 10_000, 0), (10_102, 10_700, 0), (10_700, 11_400, 7)]);
    let offsets: Vec<_> = records(COMPACTED).iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (11_393..11_400).collect::<Vec<_>>());
}
