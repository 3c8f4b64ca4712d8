//! Our own [`PartitionReader`]: Fetch on connections of our own to the partitions' leaders, every codec, transactions,
//! headers and timestamps as they stand in the log.
//!
//! ```text
//! question --hub: many partitions in one Fetch--> broker --Log--> Left --Batches, Filter, a slice at a time--> Fetched
//! ```
//!
//! A batch says by itself where to go on, so that control batches, transactions that were given up, and what
//! compaction has emptied are stepped over like anything else.
//!
//! Records are made as they are asked for: a batch of a megabyte may become ten when it is decompressed, and as many
//! again in records. What is left of an answer waits here ([`PartitionReader::held_bytes`]).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use coinduit_common::{
    clock::Clock,
    kafka::{
        aborted::{Filter, Isolation},
        record_batch::{Batch, BatchError, Batches, Codec, Records},
        settings::KafkaSettings,
    },
};
use kafka_protocol::ResponseError as Code;

use super::{Ask, Bounds, Fetched, OpenReader, PartitionReader, ReadError, Record};
use crate::budget::Reservation;
use hub::{Hub, NoReply, Reply};

mod hub;
mod lane;
mod leaders;

/// A batch that claims to be larger than this once it is decompressed is refused.
const MOST_BATCH_BYTES: usize = 256 << 20;
/// So many bytes of records are handed out at a time, and the one that exceeds it.
const SLICE_BYTES: usize = 1 << 20;

/// Makes such readers. They share connections, two to each broker.
#[derive(Debug, Clone)]
pub struct NativeReaders {
    hub: Arc<Hub>,
}

impl NativeReaders {
    /// Of the topic of `settings`, seeing what `isolation` lets see. Connects at the first question.
    #[must_use]
    pub fn new(settings: KafkaSettings, isolation: Isolation, clock: Clock) -> Self {
        Self { hub: Arc::new(Hub::new(settings, isolation, clock)) }
    }
}

impl OpenReader for NativeReaders {
    fn open(&self, partition: i32) -> Box<dyn PartitionReader> {
        Box::new(NativeReader {
            hub: Arc::clone(&self.hub),
            partition,
            lost_at: None,
            left: None,
            reached: None,
        })
    }
}

/// Reads one partition.
#[derive(Debug)]
struct NativeReader {
    hub: Arc<Hub>,
    partition: i32,
    /// When the leader last failed: who leads must be known later than this.
    lost_at: Option<Duration>,
    /// What is left of the last answer.
    left: Option<Left>,
    /// Where the last batch ended that was read, and its leader's epoch.
    reached: Option<(i64, i32)>,
}

/// An answer of which nothing can be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("its first batch, of {size} bytes, did not come whole")]
    CutOff { size: usize },
}

impl NativeReader {
    fn unavailable(&mut self, what: &str, error: NoReply) -> ReadError {
        // The leader has moved, or the connection broke: look it up again.
        self.lost_at = Some(self.hub.now());
        let attempted = format!("{what} of {}/{}", self.hub.topic(), self.partition);
        ReadError::Unavailable { attempted, source: Box::new(error) }
    }

    async fn ask(&mut self, ask: Ask, room: &Reservation) -> Result<Left, ReadError> {
        let Ask { offset, max_bytes, is_behind } = ask;
        // An epoch says nothing of a place that was stepped to.
        let epoch = self.reached.filter(|(reached, _)| *reached == offset).map(|(_, epoch)| epoch);
        let last_epoch = epoch.unwrap_or(-1);
        let answer =
            self.hub.fetch(self.partition, offset, last_epoch, max_bytes, is_behind, self.lost_at).await;
        match answer {
            Ok(reply) => {
                room.takes(reply.log.records.len());
                Ok(Left::new(reply, offset, self.hub.isolation()))
            }
            Err(error) if error.code() == Some(Code::OffsetOutOfRange) => {
                Err(ReadError::OutOfRange { offset })
            }
            Err(NoReply::Diverged(diverged)) => {
                Err(ReadError::Truncated { offset, epoch: last_epoch, end: diverged.end })
            }
            Err(error) => Err(self.unavailable("fetch", error)),
        }
    }
}

#[async_trait]
impl PartitionReader for NativeReader {
    async fn fetch(&mut self, ask: Ask, room: &Reservation) -> Result<Fetched, ReadError> {
        let left = self.left.take().filter(|left| left.next == ask.offset);
        let mut left = match left {
            Some(left) => left,
            None => self.ask(ask, room).await?,
        };
        let (fetched, at_end) = left
            .slice(room)
            .await
            .map_err(|error| ReadError::Undecodable { offset: ask.offset, source: Box::new(error) })?;
        self.reached = fetched.leader_epoch.map(|epoch| (fetched.next, epoch)).or(self.reached);
        self.left = Some(left).filter(|_| !at_end);
        Ok(fetched)
    }

    async fn bounds(&mut self) -> Result<Bounds, ReadError> {
        self.left = None;
        let bounds = self.hub.bounds(self.partition, self.lost_at).await;
        bounds.map_err(|error| self.unavailable("list offsets", error))
    }

    fn goes_on(&mut self, offset: i64, leader_epoch: i32) {
        self.reached = Some((offset, leader_epoch));
    }

    fn held_bytes(&self) -> usize {
        self.left.as_ref().map_or(0, Left::held_bytes)
    }
}

/// An answer, as far as no records were made of it.
#[derive(Debug)]
struct Left {
    batches: Batches,
    /// The bytes of the answer's buffer, which other partitions may have parts of.
    answer_bytes: usize,
    filter: Filter,
    /// The batch that records are being made of.
    open: Option<Open>,
    /// Where the next slice begins.
    next: i64,
    high_watermark: i64,
    log_append_time: bool,
    leader_epoch: Option<i32>,
}

/// What came of one more step through an answer.
enum Step {
    /// There may be more.
    Made,
    /// A slice is full.
    Enough,
    /// Nothing is left.
    Ended,
}

#[derive(Debug)]
struct Open {
    records: Records,
    /// Where to go on behind it.
    behind: i64,
    /// Its records are slices of a buffer that it was decompressed into, not of the answer.
    decompressed: bool,
}

impl Left {
    /// The whole answer to a fetch from `offset`.
    fn new(reply: Reply, offset: i64, isolation: Isolation) -> Self {
        let Reply { log, answer_bytes } = reply;
        let high_watermark = match isolation {
            Isolation::ReadCommitted if log.last_stable_offset >= 0 => log.last_stable_offset,
            _ => log.high_watermark,
        };
        Self {
            batches: Batches::new(log.records),
            answer_bytes,
            filter: Filter::new(log.aborted),
            open: None,
            next: offset,
            high_watermark,
            log_append_time: false,
            leader_epoch: None,
        }
    }

    /// The next records, and whether nothing is left. A bad batch is the end of the answer; it is an error when
    /// nothing comes before it.
    async fn slice(&mut self, room: &Reservation) -> Result<(Fetched, bool), Unreadable> {
        let begun = self.next;
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut shared = 0;
        let at_end = loop {
            let step = self.step(&mut records, &mut bytes, &mut shared, room).await;
            match step {
                Ok(Step::Made) => {}
                Ok(Step::Enough) => break false,
                Ok(Step::Ended) => break true,
                Err(_) if self.next > begun => break true,
                Err(error) => return Err(error.into()),
            }
        };
        if at_end
            && self.next == begun
            // The first batch always comes whole (KIP-74): asking again would bring the same for ever.
            && let Some(size) = self.batches.cut_off()
        {
            return Err(Unreadable::CutOff { size });
        }
        if !at_end {
            self.detach();
        }
        let fetched = Fetched {
            records,
            next: self.next,
            high_watermark: self.high_watermark,
            shared_bytes: if at_end { shared } else { 0 },
            leader_epoch: self.leader_epoch,
            log_append_time: self.log_append_time,
        };
        Ok((fetched, at_end))
    }

    /// Makes records of the open batch, or opens the next one.
    async fn step(
        &mut self,
        records: &mut Vec<Record>,
        bytes: &mut usize,
        shared: &mut usize,
        room: &Reservation,
    ) -> Result<Step, BatchError> {
        if let Some(open) = &mut self.open {
            let buffer = if open.decompressed { open.records.buffer_bytes() } else { self.answer_bytes };
            *shared = (*shared).max(buffer);
            if make(&mut open.records, &mut self.next, records, bytes)? {
                return Ok(Step::Enough);
            }
            self.next = self.next.max(open.behind);
            self.open = None;
            return Ok(Step::Made);
        }
        match self.batches.next().transpose()? {
            Some(batch) => self.open(&batch, room).await.map(|()| Step::Made),
            None => Ok(Step::Ended),
        }
    }

    /// Begins with `batch`, if its records are for applications.
    async fn open(&mut self, batch: &Batch, room: &Reservation) -> Result<(), BatchError> {
        self.log_append_time |= batch.is_log_append_time();
        let epoch = Some(batch.leader_epoch()).filter(|epoch| *epoch >= 0);
        if self.filter.keeps(batch)? && batch.next_offset() > self.next {
            let decompressed = batch.codec()? != Codec::None;
            let turn = match decompressed {
                true => Some(room.turn_to_decompress(self.batches.left_bytes()).await),
                false => None,
            };
            let records = batch.records(MOST_BATCH_BYTES)?;
            if decompressed {
                room.is_unpacked(self.batches.left_bytes() + records.buffer_bytes());
            }
            drop(turn);
            self.open = Some(Open { records, behind: batch.next_offset(), decompressed });
        } else {
            self.next = self.next.max(batch.next_offset());
        }
        self.leader_epoch = epoch;
        Ok(())
    }

    /// Lets go of an answer's buffer of which only a small part is still wanted.
    fn detach(&mut self) {
        let rest = self.batches.left_bytes();
        let open = self.open.as_ref().filter(|open| !open.decompressed);
        let part = open.map_or(0, |open| open.records.left_bytes());
        if 2 * (rest + part) < self.answer_bytes {
            self.batches.detach();
            if let Some(open) = self.open.as_mut().filter(|open| !open.decompressed) {
                open.records.detach();
            }
            self.answer_bytes = rest + part;
        }
    }

    fn held_bytes(&self) -> usize {
        let open = self.open.as_ref().filter(|open| open.decompressed);
        self.answer_bytes + open.map_or(0, |open| open.records.buffer_bytes())
    }
}

/// Makes records from `next` on, until there are enough (`true`), or none are left.
fn make(
    from: &mut Records,
    next: &mut i64,
    records: &mut Vec<Record>,
    bytes: &mut usize,
) -> Result<bool, BatchError> {
    for record in from {
        let record = record?;
        if record.offset < *next {
            continue;
        }
        *next = record.offset + 1;
        *bytes += record.held_bytes();
        records.push(record);
        if *bytes >= SLICE_BYTES {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::{Bytes, BytesMut};
    use coinduit_common::kafka::fetch::Log;
    use flate2::write::GzEncoder;
    use kafka_protocol::records::{
        Compression, Record as Written, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };

    use super::*;
    use crate::budget::Budget;

    /// A batch of `count` records of `size` bytes from offset `from` on, as the leader of epoch 4 keeps it.
    fn batch(from: i64, count: i64, size: usize, compression: Compression) -> Bytes {
        let value = Bytes::from(vec![b'x'; size]);
        let records: Vec<Written> = (from..from + count)
            .map(|offset| Written {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: 4,
                producer_id: -1,
                producer_epoch: -1,
                timestamp_type: TimestampType::Creation,
                offset,
                // Records whose numbers follow each other are one batch.
                sequence: i32::try_from(offset - from).unwrap(),
                timestamp: 0,
                key: None,
                value: Some(value.clone()),
                headers: Default::default(),
            })
            .collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression };
        let gzip = |plain: &mut BytesMut, out: &mut BytesMut, _| {
            let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(plain)?;
            out.extend_from_slice(&gzip.finish()?);
            Ok(())
        };
        match compression {
            Compression::None => RecordBatchEncoder::encode(&mut bytes, &records, &options),
            _ => {
                RecordBatchEncoder::encode_with_custom_compression(&mut bytes, &records, &options, Some(gzip))
            }
        }
        .unwrap();
        bytes.freeze()
    }

    /// The answer to a fetch from `offset`, as large as four times its part for this partition.
    fn left(offset: i64, batches: &[Bytes]) -> Left {
        let records = Bytes::from(batches.concat());
        let log = Log {
            high_watermark: 1_000_000,
            last_stable_offset: -1,
            log_start_offset: 0,
            aborted: Vec::new(),
            preferred_replica: None,
            records,
        };
        Left::new(Reply { answer_bytes: 4 * log.records.len(), log }, offset, Isolation::ReadUncommitted)
    }

    async fn room() -> Reservation {
        Budget::new(64 << 20).share().reserve(1).await
    }

    fn offsets(fetched: &Fetched) -> Vec<i64> {
        fetched.records.iter().map(|record| record.offset).collect()
    }

    #[tokio::test]
    async fn a_batch_that_becomes_large_is_handed_out_in_slices() {
        let room = room().await;
        let mut left =
            left(3, &[batch(0, 500, 10_000, Compression::Gzip), batch(500, 1, 1, Compression::None)]);
        let mut seen = Vec::new();
        let mut slices = 0;
        loop {
            let (fetched, at_end) = left.slice(&room).await.unwrap();
            seen.extend(offsets(&fetched));
            slices += 1;
            assert_eq!(fetched.next, seen.last().unwrap() + 1);
            assert!(fetched.records.iter().map(Record::held_bytes).sum::<usize>() < SLICE_BYTES + 20_000);
            if at_end {
                break;
            }
            assert!(left.held_bytes() > 4_000_000, "the buffer that it was decompressed into is counted");
        }
        assert_eq!(seen, (3..=500).collect::<Vec<_>>());
        assert!(slices >= 5, "{slices}");
    }

    #[tokio::test]
    async fn what_is_left_of_a_part_does_not_keep_the_whole_answer() {
        let room = room().await;
        let mut left = left(0, &[batch(0, 150, 10_000, Compression::None)]);
        let (fetched, at_end) = left.slice(&room).await.unwrap();
        assert!(!at_end && fetched.records.len() < 150);
        assert!(left.held_bytes() < 600_000, "{}", left.held_bytes());
        let (rest, at_end) = left.slice(&room).await.unwrap();
        assert_eq!((at_end, fetched.records.len() + rest.records.len()), (true, 150));
    }

    #[tokio::test]
    async fn it_tells_the_leaders_epoch_and_the_buffers_that_live_on() {
        let room = room().await;
        let bytes = batch(0, 3, 10, Compression::None);
        let (fetched, at_end) = left(0, std::slice::from_ref(&bytes)).slice(&room).await.unwrap();
        assert_eq!((at_end, fetched.leader_epoch), (true, Some(4)));
        assert_eq!((fetched.shared_bytes, fetched.next), (4 * bytes.len(), 3));
    }

    #[tokio::test]
    async fn a_bad_batch_is_an_error_when_nothing_comes_before_it() {
        let room = room().await;
        let good = batch(0, 3, 10, Compression::None);
        let mut bad = batch(3, 3, 10, Compression::None).to_vec();
        *bad.last_mut().unwrap() ^= 1;
        let (fetched, at_end) = left(0, &[good, bad.clone().into()]).slice(&room).await.unwrap();
        assert_eq!((offsets(&fetched), fetched.next, at_end), (vec![0, 1, 2], 3, true));
        let error = left(3, &[bad.into()]).slice(&room).await.unwrap_err();
        assert!(matches!(error, Unreadable::Batch(BatchError::Checksum { .. })), "{error}");
    }

    #[tokio::test]
    async fn a_first_batch_that_is_cut_off_is_an_error_and_a_later_one_is_left_to_the_next_fetch() {
        let room = room().await;
        let good = batch(0, 3, 10, Compression::None);
        let cut = batch(3, 3, 10, Compression::None).slice(..70);
        let (fetched, at_end) = left(0, &[good, cut.clone()]).slice(&room).await.unwrap();
        assert_eq!((fetched.next, at_end), (3, true));
        assert!(matches!(left(3, &[cut]).slice(&room).await, Err(Unreadable::CutOff { .. })));
    }

    #[tokio::test]
    async fn an_answer_without_records_goes_nowhere() {
        let (fetched, at_end) = left(7, &[]).slice(&room().await).await.unwrap();
        assert_eq!((fetched.next, fetched.records.len(), at_end), (7, 0, true));
    }
}
