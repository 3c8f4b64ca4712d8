use proptest::prelude::*;

use super::{testing::*, *};

/// Two batches of three records each.
fn two() -> Bytes {
    let records = plain_records(6);
    [&batch(&records[..3], Codec::None)[..], &batch(&records[3..], Codec::Gzip)].concat().into()
}

#[test]
fn batches_come_one_after_the_other() {
    let found: Vec<_> = Batches::new(two()).map(Result::unwrap).collect();
    let offsets: Vec<_> = found.iter().map(|it| (it.base_offset(), it.last_offset(), it.count())).collect();
    assert_eq!(offsets, [(0, 2, 3), (3, 5, 3)]);
    assert_eq!((found[0].leader_epoch(), found[0].producer_id(), found[1].next_offset()), (4, None, 6));
    assert!(!found[0].is_control() && !found[0].is_transactional() && !found[0].is_log_append_time());
}

#[test]
fn a_batch_that_is_cut_off_is_no_error() {
    let whole = two();
    let first = batch(&plain_records(3), Codec::None).len();
    for length in 0..=whole.len() {
        let mut batches = Batches::new(whole.slice(..length));
        let found = batches.by_ref().map(Result::unwrap).count();
        assert_eq!(found, usize::from(length >= first) + usize::from(length == whole.len()), "{length}");
        let (end, left) = if found == 0 { (first, length) } else { (whole.len() - first, length - first) };
        assert_eq!(batches.cut_off(), Some(end).filter(|_| left >= PREFIX && found < 2), "{length}");
    }
}

#[test]
fn any_flipped_bit_behind_the_checksum_is_found_and_the_batch_before_it_is_good() {
    let whole = two();
    let first = batch(&plain_records(3), Codec::None).len();
    for at in THROUGH_MAGIC..whole.len() - first {
        for bit in 0..8 {
            let mut changed = whole.to_vec();
            changed[first + at] ^= 1 << bit;
            let mut batches = Batches::new(changed.into());
            assert_eq!(batches.next().unwrap().unwrap().count(), 3);
            let error = batches.next().unwrap().unwrap_err();
            assert!(matches!(error, BatchError::Checksum { base_offset: 3, .. }), "{at}: {error}");
            assert!(batches.next().is_none() && batches.cut_off().is_none());
        }
    }
}

#[test]
fn old_message_formats_are_refused_by_name() {
    for magic in [0, 1, 3] {
        let mut bytes = batch(&plain_records(1), Codec::None).to_vec();
        bytes[16] = magic;
        // A message of the old formats can be shorter than a header of the new one.
        let error = Batches::new(Bytes::from(bytes).slice(..34)).next().unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("batch at offset 0 has message format {magic}, only 2 is read (Kafka 4 keeps no other)")
        );
    }
}

#[test]
fn lengths_and_offsets_that_lie_are_errors() {
    let good = batch(&plain_records(2), Codec::None);
    for length in [i32::MIN, -1, 0, 48] {
        let mut bytes = good.to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let error = Batches::new(bytes.into()).next().unwrap().unwrap_err();
        assert_eq!(error, BatchError::Length { base_offset: 0, length });
    }
    for (base, delta) in [(-1_i64, 1), (0, -1), (i64::MAX - 1, 1), (i64::MAX, 0)] {
        let mut bytes = good.to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[23..27].copy_from_slice(&i32::to_be_bytes(delta));
        let error = Batches::new(rechecked(&bytes)).next().unwrap().unwrap_err();
        assert_eq!(error, BatchError::Offsets { base_offset: base, delta });
    }
    let error = only(raw(0, 1, -1, &[])).unwrap_err();
    assert_eq!(error, BatchError::Count { base_offset: 100, count: -1 });
}

#[test]
fn a_batch_of_nothing_says_where_to_go_on() {
    for attributes in [0, 3, CONTROL | TRANSACTIONAL] {
        let empty = only(raw(attributes, 9, 0, &[])).unwrap();
        assert_eq!((empty.next_offset(), empty.count()), (110, 0));
        assert!(empty.records(0).unwrap().next().is_none());
        assert_eq!(empty.marker(), Ok(None));
    }
}

#[test]
fn markers_are_told_apart() {
    let marker = |key: &[u8]| only(control(7, 5, key)).unwrap().marker();
    assert_eq!(marker(&[0, 0, 0, 0]), Ok(Some(Marker::Abort)));
    assert_eq!(marker(&[0, 0, 0, 1]), Ok(Some(Marker::Commit)));
    assert_eq!(marker(&[0, 1, 0, 1, 9, 9]), Ok(Some(Marker::Commit)));
    assert_eq!(marker(&[0, 0, 0, 2]), Ok(Some(Marker::Other(2))));
    for wrong in [&[][..], &[0, 0, 0], &[0xff, 0xff, 0, 0]] {
        assert!(matches!(marker(wrong), Err(BatchError::Record { base_offset: 5, index: 0, .. })));
    }
    let batch = only(control(7, 5, &[0, 0, 0, 0])).unwrap();
    assert_eq!((batch.producer_id(), batch.next_offset(), batch.is_transactional()), (Some(7), 6, true));
    assert_eq!(only(raw(0, 0, 0, &[])).unwrap().marker(), Ok(None));
}

#[test]
fn an_unknown_compression_is_named() {
    let error = only(raw(5, 0, 1, &[1])).unwrap().records(9).unwrap_err();
    assert_eq!(error, BatchError::Codec { base_offset: 100, number: 5 });
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let length = bytes.len();
        prop_assert!(Batches::new(bytes.into()).count() <= 1 + length / HEADER);
    }

    /// Behind a right header and checksum, too.
    #[test]
    fn arbitrary_records_never_panic(
        attributes in 0_i16..128,
        (delta, count) in (0..i32::MAX, 0..i32::MAX),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let batch = only(raw(attributes, delta, count, &payload)).unwrap();
        prop_assert!(batch.marker().is_err() || batch.is_control() || batch.marker() == Ok(None));
        if let Ok(records) = batch.records(1 << 16) {
            let records: Vec<_> = records.collect();
            prop_assert!(records.len() <= 1 << 16);
            prop_assert!(records.iter().rev().skip(1).all(Result::is_ok));
        }
    }
}
