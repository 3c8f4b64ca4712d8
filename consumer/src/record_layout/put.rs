//! Stores records, several at a time. Every function is one attempt.

use futures::{StreamExt, stream};

use super::{
    RecordObject,
    decide::{Standing, standing},
};
use crate::{
    ledger::bucket::{Bucket, CreateAnswer, StoreError},
    puts::Puts,
};

/// How many records of one partition are put at a time.
const PUTS: usize = 16;

/// A record was not stored, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else's objects have both its names.
    #[error("offset {offset} can't be stored: objects with other content stand at {key} and at {second_key}")]
    Taken {
        /// The record's.
        offset: i64,
        /// Its first name.
        key: String,
        /// Its second.
        second_key: String,
    },
}

/// Stores `records`, those that repeat a name one after the other, behind the rest. What is left over was not stored, or
/// nobody knows; with the first error.
///
/// # Cancel safety
/// Dropping the future leaves some records stored, which the next attempt finds.
pub async fn each<'a>(
    bucket: &dyn Bucket,
    puts: &Puts,
    records: Vec<&'a RecordObject>,
) -> (Vec<&'a RecordObject>, Option<PutError>) {
    let (repeating, first): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.repeats);
    let (mut left, error) = wave(bucket, puts, first, PUTS).await;
    if error.is_some() {
        left.extend(repeating);
        return (left, error);
    }
    wave(bucket, puts, repeating, 1).await
}

async fn wave<'a>(
    bucket: &dyn Bucket,
    puts: &Puts,
    records: Vec<&'a RecordObject>,
    at_a_time: usize,
) -> (Vec<&'a RecordObject>, Option<PutError>) {
    // Collected first: a lazy map over borrowed records is not `Send` enough for a spawned task.
    let attempts: Vec<_> = records
        .into_iter()
        .map(|record| async move {
            let turn = puts.turn().await;
            let stored = one(bucket, record).await;
            drop(turn);
            (record, stored)
        })
        .collect();
    let mut outcomes = stream::iter(attempts).buffer_unordered(at_a_time);
    let (mut left, mut error) = (Vec::new(), None);
    while let Some((record, stored)) = outcomes.next().await {
        if let Err(reason) = stored {
            left.push(record);
            error.get_or_insert(reason);
        }
    }
    (left, error)
}

/// Stores one record under the first of its names that is free, or finds it there.
async fn one(bucket: &dyn Bucket, record: &RecordObject) -> Result<(), PutError> {
    for key in [&record.key, &record.second_key] {
        let answer = bucket.create(&record.object(key)).await;
        if matches!(answer, Ok(CreateAnswer::Created)) {
            return Ok(());
        }
        let found = bucket.get(key).await?;
        match (standing(found.as_deref(), &record.line), answer) {
            (Standing::Same, _) => return Ok(()),
            (Standing::Other, _) => {}
            // It failed, and nothing stands there: the failure is what there is to say.
            (Standing::Absent, Err(error)) => return Err(error.into()),
            // 409: somebody tries to, perhaps we ourselves.
            (Standing::Absent, Ok(_)) => {
                return Err(StoreError {
                    attempted: format!("create object {key}"),
                    permanent: false,
                    source: "the store reports a conflict that nobody has won yet".into(),
                }
                .into());
            }
        }
    }
    let RecordObject { key, second_key, offset, .. } = record.clone();
    Err(PutError::Taken { offset, key, second_key })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ledger::bucket::UserMetadata,
        testing::{Fault, MemoryBucket},
    };

    fn record(key: &str, offset: i64, line: &str, repeats: bool) -> RecordObject {
        RecordObject {
            key: format!("{key}.json"),
            second_key: format!("{key}_0-{offset}.json"),
            line: Bytes::from(line.to_owned()),
            partition: 0,
            offset,
            timestamp_ms: 0,
            repeats,
        }
    }

    fn stored(bucket: &MemoryBucket) -> Vec<(String, String)> {
        let text = |body: Bytes| String::from_utf8(body.to_vec()).unwrap();
        bucket.below("").into_iter().map(|(key, body, _)| (key, text(body))).collect()
    }

    fn own(key: &str, line: &str) -> (String, String) {
        (key.to_owned(), line.to_owned())
    }

    #[tokio::test]
    async fn the_same_bytes_are_one_object_and_other_bytes_another() {
        let bucket = MemoryBucket::default();
        let records = [
            record("a", 1, "x", false),
            record("a", 2, "y", true),
            record("a", 3, "x", true),
            record("b", 4, "z", false),
        ];
        for _ in 0..2 {
            let (left, error) = each(&bucket, &Puts::default(), records.iter().collect()).await;
            assert!(left.is_empty() && error.is_none());
            assert_eq!(stored(&bucket), [own("a.json", "x"), own("a_0-2.json", "y"), own("b.json", "z")]);
        }
    }

    #[tokio::test]
    async fn whatever_happens_to_a_put_the_next_attempt_ends_it() {
        for (fault, is_left) in [
            (Fault::FailBefore, true),
            (Fault::FailAfter, false),
            (Fault::ConflictBefore, true),
            (Fault::ConflictAfter, false),
        ] {
            let bucket = MemoryBucket::default();
            bucket.fail_next(fault);
            let record = record("a", 1, "x", false);
            let (left, error) = each(&bucket, &Puts::default(), vec![&record]).await;
            assert_eq!((left.len() == 1, error.is_some()), (is_left, is_left), "{fault:?}");
            assert!(each(&bucket, &Puts::default(), left).await.1.is_none(), "{fault:?}");
            assert_eq!(stored(&bucket), [own("a.json", "x")], "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_record_whose_names_are_both_taken_is_not_lost_in_silence() {
        let bucket = MemoryBucket::default();
        bucket.insert("a.json", UserMetadata::new());
        bucket.insert("a_0-1.json", UserMetadata::new());
        let record = record("a", 1, "x", false);
        let (left, error) = each(&bucket, &Puts::default(), vec![&record]).await;
        let error = error.unwrap().to_string();
        assert!(left.len() == 1 && error.contains("a.json") && error.contains("a_0-1.json"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Processes begin at an offset, put what they can of a batch, and die; only what a whole batch stored is
        /// committed, and somebody begins there again.
        #[test]
        fn whoever_dies_whenever_each_record_is_one_object(
            contents in prop::collection::vec((0u8..4, 0u8..3), 1..30),
            steps in prop::collection::vec((1usize..8, prop::collection::vec(0u8..5, 0..6), any::<bool>()), 0..40),
        ) {
            let bucket = MemoryBucket::default();
            let mut seen = std::collections::HashSet::new();
            let all: Vec<RecordObject> = contents.iter().zip(0i64..).map(|((key, line), offset)| {
                record(&format!("k{key}"), offset, &format!("{key}{line}"), false)
            }).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut committed = 0;
            for (size, faults, dies) in steps.into_iter().chain(std::iter::repeat_n((7, Vec::new(), false), 30)) {
                seen.clear();
                let batch: Vec<RecordObject> = all.iter().skip(committed).take(size).cloned().map(|record| {
                    RecordObject { repeats: !seen.insert(record.key.clone()), ..record }
                }).collect();
                for fault in faults {
                    match fault {
                        0 => bucket.fail_next(Fault::FailBefore),
                        1 => bucket.fail_next(Fault::FailAfter),
                        2 => bucket.fail_next(Fault::ConflictBefore),
                        3 => bucket.fail_next(Fault::ConflictAfter),
                        _ => {}
                    }
                }
                let (_, error) = runtime.block_on(each(&bucket, &Puts::default(), batch.iter().collect()));
                // One that dies has stored, and has told nobody.
                if error.is_none() && !dies {
                    committed += batch.len();
                }
            }
            prop_assert_eq!(committed, all.len());
            let objects = stored(&bucket);
            for record in &all {
                let line = String::from_utf8(record.line.to_vec()).unwrap();
                let there = objects.iter().filter(|(key, body)| *body == line && (*key == record.key || *key == record.second_key)).count();
                prop_assert_eq!(there, 1, "{}", record.key);
            }
            prop_assert_eq!(objects.len(), {
                // Records of the same name and bytes share the plain name, if theirs are the bytes that came first.
                let mut names = std::collections::HashMap::new();
                all.iter().filter(|record| {
                    let first = names.entry(record.key.clone()).or_insert_with(|| (record.line.clone(), record.offset));
                    first.0 != record.line || first.1 == record.offset
                }).count()
            });
        }
    }
}
