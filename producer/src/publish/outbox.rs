//! What is still to be published, and what of it may be in the log already.
//!
//! Per partition there is a queue of batches, of which one is under way at a time. A batch leaves it when it is known
//! to be in the log, or when it is given up. One whose fate nobody knows is sent again only where the producer has an
//! id, by which the broker knows the batch: else it is given up, and counted as a possible duplicate.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use coinduit_common::kafka::{
    produce::ProducerId,
    record_batch::{NewRecord, Packing, Sequence, most_bytes, write},
};

use super::{Failure, verdict::Verdict};
use crate::{partitioner::partition_for, records::CoinRecord, tally::Tally};

/// The most bytes of a batch before it is compressed: a little less than brokers take by default (`message.max.bytes`,
/// 1,048,588), so that it is taken even where nothing can be compressed.
const MOST_BATCH_BYTES: usize = 1_000_000;

/// Everything that is to be published.
#[derive(Debug)]
pub(super) struct Outbox {
    topic: String,
    packing: Packing,
    producer: Option<ProducerId>,
    lanes: BTreeMap<i32, Lane>,
    failures: Vec<Failure>,
}

/// One partition's batches.
#[derive(Debug, Default)]
struct Lane {
    batches: VecDeque<Batch>,
    /// How many records of ours the partition has.
    appended: i32,
    /// What went wrong last.
    problem: Option<String>,
}

#[derive(Debug)]
struct Batch {
    records: Vec<CoinRecord>,
    /// It is under way, or nobody knows what became of it: it is counted as unconfirmed.
    counted: bool,
    /// An earlier attempt may have appended it.
    may_be_there: bool,
}

impl Outbox {
    /// Places `records` on `partitions` partitions, in few batches each. With a `producer` a batch may be sent again.
    pub(super) fn new(
        topic: &str,
        records: Vec<CoinRecord>,
        partitions: u32,
        packing: Packing,
        producer: Option<ProducerId>,
    ) -> Self {
        let mut placed: BTreeMap<i32, Vec<CoinRecord>> = BTreeMap::new();
        for record in records {
            let partition = partition_for(record.key.as_bytes(), partitions);
            placed.entry(i32::try_from(partition).unwrap_or(i32::MAX)).or_default().push(record);
        }
        let lane = |records| Lane { batches: split(records), ..Lane::default() };
        let lanes = placed.into_iter().map(|(partition, records)| (partition, lane(records))).collect();
        Self { topic: topic.to_owned(), packing, producer, lanes, failures: Vec::new() }
    }

    /// The partitions that have a batch to be sent.
    pub(super) fn due(&self) -> Vec<i32> {
        self.lanes
            .iter()
            .filter(|(_, lane)| !lane.batches.is_empty())
            .map(|(partition, _)| *partition)
            .collect()
    }

    /// The bytes of the partition's next batch, which from now on counts as sent. The same until it is settled.
    pub(super) fn take(&mut self, partition: i32, tally: &Tally) -> Option<Bytes> {
        let lane = self.lanes.get_mut(&partition)?;
        let batch = lane.batches.front_mut()?;
        if !std::mem::replace(&mut batch.counted, true) {
            tally.sent(batch.records.len());
        }
        let sequence = self.producer.map(|ProducerId { id, epoch }| Sequence {
            producer_id: id,
            epoch,
            first: lane.appended,
        });
        let headers: Vec<[(&str, &[u8]); 4]> = batch
            .records
            .iter()
            .map(|record| record.headers.each_ref().map(|(name, value)| (*name, value.as_bytes())))
            .collect();
        let records: Vec<NewRecord<'_>> =
            batch.records.iter().zip(&headers).map(|(record, headers)| new_record(record, headers)).collect();
        Some(write(&records, self.packing, sequence))
    }

    /// Says what became of the batch that was last taken for `partition`. Returns whether it waits to be sent again.
    pub(super) fn settle(&mut self, partition: i32, verdict: Verdict, tally: &Tally) -> bool {
        let place = format!("{}/{partition}", self.topic);
        let Some(lane) = self.lanes.get_mut(&partition) else { return false };
        let Some(mut batch) = lane.batches.pop_front() else { return false };
        let count = batch.records.len();
        if !matches!(verdict, Verdict::Appended | Verdict::Unknown(_)) && !batch.may_be_there {
            tally.not_appended(count);
            batch.counted = false;
        }
        match verdict {
            Verdict::Appended => {
                tally.acknowledged(count);
                lane.appended = lane.appended.saturating_add(i32::try_from(count).unwrap_or(i32::MAX));
                return false;
            }
            Verdict::TooLarge(says) if count == 1 => {
                let key = &batch.records[0].key;
                let problem = format!(
                    "{place} refuses coin {key} alone as too large ({says}); raise the topic's max.message.bytes"
                );
                self.failures.push(Failure { problem, retryable: false });
                return false;
            }
            Verdict::TooLarge(_) if !batch.may_be_there => {
                let second = batch.records.split_off(count / 2);
                lane.batches.push_front(Batch::new(second));
                lane.batches.push_front(Batch::new(batch.records));
                return false;
            }
            Verdict::Refused { problem, retryable } => {
                self.failures.push(Failure { problem, retryable });
                lane.batches.clear();
                return false;
            }
            Verdict::Unknown(problem) if self.producer.is_none() => {
                let problem = format!(
                    "{problem}; {count} records may be in the log and are not sent again, as the brokers know no \
                     idempotent producers"
                );
                self.failures.push(Failure { problem, retryable: true });
                return false;
            }
            Verdict::Unknown(problem) => {
                batch.may_be_there = true;
                lane.problem = Some(problem);
            }
            Verdict::NotAppended(problem) | Verdict::TooLarge(problem) => lane.problem = Some(problem),
        }
        lane.batches.push_front(batch);
        true
    }

    /// What prevents the partition's next batch from being sent at all.
    pub(super) fn blocked(&mut self, partition: i32, problem: String) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.problem = Some(problem);
        }
    }

    /// What failed, once per partition; what is still here was not done in time. `late` says so.
    pub(super) fn into_failures(self, late: impl Fn(&str, usize) -> String) -> Vec<Failure> {
        let Self { topic, lanes, mut failures, .. } = self;
        for (partition, lane) in lanes {
            let left: usize = lane.batches.iter().map(|batch| batch.records.len()).sum();
            if left > 0 {
                let late = late(&format!("{topic}/{partition}"), left);
                let problem = lane
                    .problem
                    .map_or_else(|| late.clone(), |last| format!("{late}; the last answer: {last}"));
                failures.push(Failure { problem, retryable: true });
            }
        }
        failures
    }
}

impl Batch {
    const fn new(records: Vec<CoinRecord>) -> Self {
        Self { records, counted: false, may_be_there: false }
    }
}

/// As few batches as their limit allows.
fn split(records: Vec<CoinRecord>) -> VecDeque<Batch> {
    let mut batches = VecDeque::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for record in records {
        let headers = record.headers.each_ref().map(|(name, value)| (*name, value.as_bytes()));
        let size = most_bytes(&new_record(&record, &headers));
        if bytes + size > MOST_BATCH_BYTES && !batch.is_empty() {
            batches.push_back(Batch::new(std::mem::take(&mut batch)));
            bytes = 0;
        }
        bytes += size;
        batch.push(record);
    }
    if !batch.is_empty() {
        batches.push_back(Batch::new(batch));
    }
    batches
}

fn new_record<'a>(record: &'a CoinRecord, headers: &'a [(&'a str, &'a [u8])]) -> NewRecord<'a> {
    NewRecord {
        timestamp_ms: record.timestamp.timestamp_millis(),
        key: record.key.as_bytes(),
        value: &record.value,
        headers,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::{
        page::{Coin, Page},
        records::Coins,
    };

    const PRODUCER: ProducerId = ProducerId { id: 7, epoch: 0 };

    fn records(count: usize, bytes: usize) -> Vec<CoinRecord> {
        let mut coins = Coins::default();
        let coin = |number| Coin { code: format!("C{number}"), json: vec![b'x'; bytes] };
        coins.add(0, Page { coins: (0..count).map(coin).collect(), rejected: vec![] });
        coins.into_records("s", "USD", DateTime::default())
    }

    fn outbox(count: usize, bytes: usize, producer: Option<ProducerId>) -> Outbox {
        Outbox::new("t", records(count, bytes), 1, Packing::None, producer)
    }

    fn late(place: &str, left: usize) -> String {
        format!("{place}: {left} late")
    }

    /// The number of the first record in the partition, as the batch has it.
    fn first(batch: &[u8]) -> i32 {
        i32::from_be_bytes(batch[53..57].try_into().unwrap())
    }

    fn count(batch: &[u8]) -> i32 {
        i32::from_be_bytes(batch[57..61].try_into().unwrap())
    }

    #[test]
    fn all_coins_of_a_partition_are_one_batch() {
        let (mut outbox, tally) = (outbox(50, 700, None), Tally::default());
        assert_eq!(count(&outbox.take(0, &tally).unwrap()), 50);
        assert_eq!(tally.possible_duplicates(), 50);
        assert!(!outbox.settle(0, Verdict::Appended, &tally));
        assert_eq!((outbox.due(), tally.records(), tally.possible_duplicates()), (vec![], 50, 0));
        assert!(outbox.into_failures(late).is_empty());
    }

    #[test]
    fn more_than_a_broker_takes_at_once_is_several_batches() {
        let (mut outbox, tally) = (outbox(30, 100_000, Some(PRODUCER)), Tally::default());
        let mut firsts = Vec::new();
        while !outbox.due().is_empty() {
            let batch = outbox.take(0, &tally).unwrap();
            assert!(batch.len() < 1_048_588);
            firsts.push(first(&batch));
            outbox.settle(0, Verdict::Appended, &tally);
        }
        assert_eq!((firsts, tally.records()), (vec![0, 9, 18, 27], 30));
    }

    #[test]
    fn a_batch_of_unknown_fate_is_sent_again_as_it_was_where_the_broker_knows_it() {
        let (mut outbox, tally) = (outbox(5, 10, Some(PRODUCER)), Tally::default());
        let batch = outbox.take(0, &tally).unwrap();
        assert!(outbox.settle(0, Verdict::Unknown("silence".to_owned()), &tally));
        assert_eq!(tally.possible_duplicates(), 5);
        assert_eq!(outbox.take(0, &tally).unwrap(), batch);
        // It was not appended now, but perhaps before.
        assert!(outbox.settle(0, Verdict::NotAppended("moved".to_owned()), &tally));
        assert_eq!(tally.possible_duplicates(), 5);
        assert_eq!(outbox.take(0, &tally).unwrap(), batch);
        outbox.settle(0, Verdict::Appended, &tally);
        assert_eq!((tally.records(), tally.possible_duplicates()), (5, 0));
    }

    #[test]
    fn a_batch_of_unknown_fate_is_given_up_and_counted_where_it_would_be_appended_twice() {
        let (mut outbox, tally) = (outbox(5, 10, None), Tally::default());
        outbox.take(0, &tally).unwrap();
        assert!(!outbox.settle(0, Verdict::Unknown("silence".to_owned()), &tally));
        assert_eq!((outbox.due(), tally.possible_duplicates()), (vec![], 5));
        let failures = outbox.into_failures(late);
        assert!(failures[0].retryable && failures[0].problem.contains("silence"), "{failures:?}");
    }

    #[test]
    fn what_was_certainly_not_appended_is_no_possible_duplicate() {
        let (mut outbox, tally) = (outbox(5, 10, None), Tally::default());
        outbox.take(0, &tally).unwrap();
        assert!(outbox.settle(0, Verdict::NotAppended("moved".to_owned()), &tally));
        assert_eq!((outbox.due(), tally.possible_duplicates()), (vec![0], 0));
        let failures = outbox.into_failures(late);
        assert_eq!(
            failures,
            [Failure { problem: "t/0: 5 late; the last answer: moved".to_owned(), retryable: true }]
        );
    }

    #[test]
    fn a_batch_that_is_too_large_is_halved_until_the_coin_is_found_that_is() {
        let (mut outbox, tally) = (outbox(4, 10, Some(PRODUCER)), Tally::default());
        let mut seen = Vec::new();
        while !outbox.due().is_empty() {
            let batch = outbox.take(0, &tally).unwrap();
            seen.push((first(&batch), count(&batch)));
            // The first coin is the one that is too large.
            let verdict =
                if seen.len() <= 3 { Verdict::TooLarge("no".to_owned()) } else { Verdict::Appended };
            outbox.settle(0, verdict, &tally);
        }
        // What was refused has no number.
        assert_eq!(seen, [(0, 4), (0, 2), (0, 1), (0, 1), (1, 2)]);
        assert_eq!((tally.records(), tally.possible_duplicates()), (3, 0));
        let failures = outbox.into_failures(late);
        assert!(failures[0].problem.contains("coin C0") && !failures[0].retryable, "{failures:?}");
    }

    #[test]
    fn a_refusal_is_for_the_whole_partition() {
        let (mut outbox, tally) = (outbox(30, 100_000, None), Tally::default());
        outbox.take(0, &tally).unwrap();
        outbox.settle(0, Verdict::Refused { problem: "no".to_owned(), retryable: false }, &tally);
        assert_eq!(
            (outbox.due(), tally.possible_duplicates(), outbox.into_failures(late).len()),
            (vec![], 0, 1)
        );
    }
}
