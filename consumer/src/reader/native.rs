//! Our own [`PartitionReader`]: Fetch on a connection of our own to the partition's leader, every codec, transactions,
//! headers and timestamps as they stand in the log.
//!
//! ```text
//! Metadata -> leader -> connection --Fetch--> Log --Batches, Filter--> Fetched
//! ```
//!
//! A batch says by itself where to go on, so that control batches, transactions that were given up, and what
//! compaction has emptied are stepped over like anything else.

use std::time::Duration;

use async_trait::async_trait;
use coinduit_common::kafka::{
    aborted::{Filter, Isolation},
    connection::Connection,
    error::KafkaError,
    fetch::{self, Fetch, Log, Position},
    list_offsets::{self, End, EndOf},
    metadata,
    record_batch::{Batch, BatchError, Batches},
    settings::KafkaSettings,
};
use kafka_protocol::ResponseError as Code;
use tracing::debug;

use super::{Bounds, Fetched, OpenReader, PartitionReader, ReadError, Record};

/// How long a broker may hold a fetch that finds nothing.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// How much one fetch asks for, beyond the one batch that always comes whole.
const FETCH_BYTES: i32 = 256 << 10;
/// A batch that claims to be larger than this once it is decompressed is refused.
const MOST_BATCH_BYTES: usize = 256 << 20;

/// Makes such readers.
#[derive(Debug, Clone)]
pub struct NativeReaders {
    settings: KafkaSettings,
    isolation: Isolation,
}

impl NativeReaders {
    /// Of the topic of `settings`, seeing what `isolation` lets see.
    #[must_use]
    pub const fn new(settings: KafkaSettings, isolation: Isolation) -> Self {
        Self { settings, isolation }
    }
}

impl OpenReader for NativeReaders {
    fn open(&self, partition: i32) -> Box<dyn PartitionReader> {
        Box::new(NativeReader { readers: self.clone(), partition, leader: None })
    }
}

/// Reads one partition.
#[derive(Debug)]
struct NativeReader {
    readers: NativeReaders,
    partition: i32,
    /// The connection to the partition's leader, and its epoch.
    leader: Option<(Connection, i32)>,
}

/// Nobody can be asked.
#[derive(Debug, thiserror::Error)]
enum NoLeader {
    #[error("the cluster has no such partition")]
    Missing,
    #[error("no broker leads it now")]
    Nobody,
    #[error(transparent)]
    Kafka(#[from] KafkaError),
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
    fn topic(&self) -> &str {
        &self.readers.settings.topic
    }

    /// A connection to the leader, the kept one or a new one, and the leader's epoch.
    async fn leader(&mut self) -> Result<(Connection, i32), NoLeader> {
        if let Some(kept) = self.leader.take().filter(|(connection, _)| connection.is_usable()) {
            return Ok(kept);
        }
        let KafkaSettings { bootstrap, topic, .. } = &self.readers.settings;
        let dialer = self.readers.settings.dialer();
        let mut any = dialer.to_any(bootstrap).await?;
        let leaders = metadata::leaders(&mut any, topic).await?;
        let leader =
            leaders.and_then(|mut leaders| leaders.remove(&self.partition)).ok_or(NoLeader::Missing)?;
        let leader = leader.ok_or(NoLeader::Nobody)?;
        debug!(partition = self.partition, broker = leader.node, epoch = leader.epoch, "leader found");
        let connection = dialer.to(&leader.address).await?;
        Ok((connection, leader.epoch))
    }

    fn unavailable(&self, what: &str, source: impl std::error::Error + Send + Sync + 'static) -> ReadError {
        let attempted = format!("{what} of {}/{}", self.topic(), self.partition);
        ReadError::Unavailable { attempted, source: Box::new(source) }
    }
}

#[async_trait]
impl PartitionReader for NativeReader {
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, ReadError> {
        const WHAT: &str = "fetch";
        let (mut connection, leader_epoch) =
            self.leader().await.map_err(|error| self.unavailable(WHAT, error))?;
        let isolation = self.readers.isolation;
        let position = Position {
            topic: self.topic().to_owned(),
            partition: self.partition,
            offset,
            leader_epoch,
            max_bytes: FETCH_BYTES,
        };
        let ask = Fetch {
            max_wait: FETCH_WAIT,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            isolation,
            partitions: vec![position],
        };
        let answer = fetch::fetch(&mut connection, &ask).await;
        let log = answer.and_then(|mut answers| answers.remove(0).log);
        let log = match log {
            Ok(log) => log,
            Err(error) if error.code() == Some(Code::OffsetOutOfRange) => {
                self.leader = Some((connection, leader_epoch));
                return Err(ReadError::OutOfRange { offset });
            }
            // The leader has moved, or the connection broke: look it up again.
            Err(error) => return Err(self.unavailable(WHAT, error)),
        };
        self.leader = Some((connection, leader_epoch));
        read(log, offset, isolation)
            .map_err(|error| ReadError::Undecodable { offset, source: Box::new(error) })
    }

    async fn bounds(&mut self) -> Result<Bounds, ReadError> {
        const WHAT: &str = "list offsets";
        let (mut connection, leader_epoch) =
            self.leader().await.map_err(|error| self.unavailable(WHAT, error))?;
        let mut ends = [0; 2];
        for (at, end) in ends.iter_mut().zip([End::Earliest, End::Latest]) {
            let of = EndOf { topic: self.topic().to_owned(), partition: self.partition, leader_epoch, end };
            let answer = list_offsets::list_offsets(&mut connection, self.readers.isolation, &[of]).await;
            let listed = answer.and_then(|mut answers| answers.remove(0));
            *at = listed.map_err(|error| self.unavailable(WHAT, error))?.offset;
        }
        self.leader = Some((connection, leader_epoch));
        Ok(Bounds { start: ends[0], end: ends[1] })
    }
}

/// What the answer to a fetch from `offset` holds. A bad batch ends it; it is an error when nothing comes before it.
fn read(log: Log, offset: i64, isolation: Isolation) -> Result<Fetched, Unreadable> {
    let mut filter = Filter::new(log.aborted);
    let mut batches = Batches::new(log.records);
    let mut records = Vec::new();
    let mut next = offset;
    for batch in batches.by_ref() {
        let taken = records.len();
        match batch.and_then(|batch| take(&batch, offset, &mut filter, &mut records)) {
            Ok(behind) => next = next.max(behind),
            Err(error) => {
                records.truncate(taken);
                if next > offset {
                    break;
                }
                return Err(error.into());
            }
        }
    }
    match batches.cut_off() {
        // The first batch always comes whole (KIP-74): asking again would bring the same for ever.
        Some(size) if next == offset => return Err(Unreadable::CutOff { size }),
        _ => {}
    }
    let seen = match isolation {
        Isolation::ReadCommitted if log.last_stable_offset >= 0 => log.last_stable_offset,
        _ => log.high_watermark,
    };
    Ok(Fetched { records, next, high_watermark: seen })
}

/// Takes the records of one batch from `offset` on, if they are for applications; returns where to go on.
fn take(
    batch: &Batch,
    offset: i64,
    filter: &mut Filter,
    records: &mut Vec<Record>,
) -> Result<i64, BatchError> {
    if filter.keeps(batch)? {
        for record in batch.records(MOST_BATCH_BYTES)? {
            let record = record?;
            if record.offset >= offset {
                records.push(record);
            }
        }
    }
    Ok(batch.next_offset())
}
