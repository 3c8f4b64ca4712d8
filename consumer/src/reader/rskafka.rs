//! rskafka as a [`PartitionReader`], inside time limits of our own.
//!
//! rskafka waits for ever: its back-off deadline counts only its own sleeps, and a broker that accepts and
//! never answers holds a call until it does. So every call here ends by a limit of ours, and a client that
//! ran into it is thrown away, connection and all. It reads no control batches, null headers, lz4 or zstd
//! (its codecs for those are C): such a fetch fails each time, which is [`ReadError::Undecodable`].

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use coinduit_common::{
    clock::Clock,
    kafka::{rskafka::client_builder, settings::KafkaSettings},
};
use rskafka::{
    BackoffConfig,
    client::{
        Client,
        error::{Error, ProtocolError, RequestError},
        partition::{OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::RecordAndOffset,
};
use tokio::{sync::Mutex, time::timeout};

use super::{Ask, Bounds, Fetched, Header, OpenReader, PartitionReader, ReadError, Record};
use crate::{
    budget::Reservation,
    identity::{Confirm, IdentityError},
};

/// How long a broker may hold a fetch that finds nothing.
const FETCH_WAIT_MS: i32 = 500;
/// An answer is held about so many times while it is decoded: the frame, its batches, and the records.
const COPIES: usize = 3;
/// How long one call may take in all, leader moves and reconnects included.
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// Makes the readers of one topic. They share a client for metadata; each has a connection of its own.
pub struct Readers {
    settings: KafkaSettings,
    identity: Arc<dyn Confirm>,
    clock: Clock,
    client: Mutex<Option<Arc<Client>>>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Readers {
    /// For the topic of `settings`. Whether it exists is asked of `identity` first, each time: rskafka would
    /// create it by asking, and bring a deleted topic back to life.
    #[must_use]
    pub fn new(settings: KafkaSettings, identity: Arc<dyn Confirm>, clock: Clock) -> Arc<Self> {
        Arc::new(Self { settings, identity, clock, client: Mutex::new(None) })
    }

    async fn client(&self) -> Result<Arc<Client>, Error> {
        let mut shared = self.client.lock().await;
        if let Some(client) = &*shared {
            return Ok(Arc::clone(client));
        }
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
            deadline: Some(CALL_LIMIT),
        };
        let client = Arc::new(client_builder(&self.settings).backoff_config(backoff).build().await?);
        *shared = Some(Arc::clone(&client));
        Ok(client)
    }
}

impl OpenReader for Arc<Readers> {
    fn open(&self, partition: i32) -> Box<dyn PartitionReader> {
        Box::new(RskafkaReader {
            readers: Self::clone(self),
            partition,
            client: None,
            lost_at: Duration::ZERO,
        })
    }
}

/// Reads one partition through rskafka.
pub struct RskafkaReader {
    readers: Arc<Readers>,
    partition: i32,
    client: Option<Arc<PartitionClient>>,
    /// When the last client was given up: whether the topic exists must be known later than this.
    lost_at: Duration,
}

impl std::fmt::Debug for RskafkaReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RskafkaReader").field("partition", &self.partition).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {CALL_LIMIT:?}")]
struct NoAnswer;

impl RskafkaReader {
    /// Runs `call` on this partition's client within the limit, and forgets the clients after a failure that
    /// may have left them in a bad state.
    async fn call<T, F>(
        &mut self,
        what: &str,
        call: impl FnOnce(Arc<PartitionClient>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let attempt = async {
            let client = match self.client.take() {
                Some(client) => client,
                None => {
                    self.readers.identity.confirm(self.lost_at).await?;
                    let client = self.readers.client().await?;
                    let topic = self.readers.settings.topic.as_str();
                    Arc::new(
                        client.partition_client(topic, self.partition, UnknownTopicHandling::Error).await?,
                    )
                }
            };
            let answer = call(Arc::clone(&client)).await;
            Ok::<_, NoClient>((client, answer))
        };
        let attempted = || format!("{what} of {}/{}", self.readers.settings.topic, self.partition);
        match timeout(CALL_LIMIT, attempt).await {
            Ok(Ok((client, Ok(answer)))) => {
                self.client = Some(client);
                Ok(answer)
            }
            Ok(Ok((client, Err(error)))) if is_answer(&error) => {
                self.client = Some(client);
                Err(CallError::Answered(error))
            }
            Ok(Ok((_, Err(error)))) => Err(self.lost(attempted(), error).await),
            Ok(Err(error)) => Err(self.lost(attempted(), error).await),
            Err(_) => Err(self.lost(attempted(), NoAnswer).await),
        }
    }

    /// Gives up the shared client too: what it remembers of the cluster may be wrong by now.
    async fn lost(
        &mut self,
        attempted: String,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> CallError {
        self.lost_at = self.readers.clock.since_boot();
        self.readers.client.lock().await.take();
        CallError::Lost { attempted, source: Box::new(source) }
    }
}

/// Why there is no client for a partition.
#[derive(Debug, thiserror::Error)]
enum NoClient {
    #[error(transparent)]
    Topic(#[from] IdentityError),
    #[error("connect")]
    Kafka(#[from] Error),
}

/// A call that brought nothing.
enum CallError {
    /// The broker answered, and the connection is good.
    Answered(Error),
    /// No definite answer; the connection was given up.
    Lost { attempted: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Whether the broker answered in a way that leaves the connection usable.
fn is_answer(error: &Error) -> bool {
    is_out_of_range(error) || is_undecodable(error)
}

fn is_out_of_range(error: &Error) -> bool {
    matches!(error, Error::ServerError { protocol_error: ProtocolError::OffsetOutOfRange, .. })
}

fn is_undecodable(error: &Error) -> bool {
    match error {
        Error::InvalidResponse(_) => true,
        Error::Request(request) => {
            matches!(request, RequestError::ReadError(_) | RequestError::ReadVersionedError(_))
        }
        _ => false,
    }
}

#[async_trait]
impl PartitionReader for RskafkaReader {
    async fn fetch(&mut self, ask: Ask, room: &Reservation) -> Result<Fetched, ReadError> {
        let offset = ask.offset;
        let most = i32::try_from(ask.max_bytes).unwrap_or(i32::MAX).max(2);
        let call = async move |client: Arc<PartitionClient>| {
            client.fetch_records(offset, 1..most, FETCH_WAIT_MS).await
        };
        match self.call("fetch", call).await {
            Ok((records, high_watermark)) => {
                let next = records.last().map_or(offset, |last| last.offset + 1);
                let records: Vec<Record> = records.into_iter().map(record).collect();
                room.takes(records.iter().map(Record::held_bytes).sum());
                Ok(Fetched { records, next, high_watermark, ..Fetched::default() })
            }
            Err(CallError::Answered(error)) if is_out_of_range(&error) => {
                Err(ReadError::OutOfRange { offset })
            }
            Err(CallError::Answered(error)) => {
                Err(ReadError::Undecodable { offset, source: Box::new(error) })
            }
            Err(CallError::Lost { attempted, source }) => Err(ReadError::Unavailable { attempted, source }),
        }
    }

    fn memory_for(&self, bytes: usize) -> usize {
        bytes.saturating_mul(COPIES)
    }

    async fn bounds(&mut self) -> Result<Bounds, ReadError> {
        let call = async |client: Arc<PartitionClient>| {
            Ok(Bounds {
                start: client.get_offset(OffsetAt::Earliest).await?,
                end: client.get_offset(OffsetAt::Latest).await?,
            })
        };
        self.call("list offsets", call).await.map_err(|error| match error {
            CallError::Answered(error) => {
                ReadError::Unavailable { attempted: "list offsets".to_owned(), source: Box::new(error) }
            }
            CallError::Lost { attempted, source } => ReadError::Unavailable { attempted, source },
        })
    }
}

fn record(found: RecordAndOffset) -> Record {
    let headers = found.record.headers.into_iter();
    Record {
        offset: found.offset,
        timestamp_ms: found.record.timestamp.timestamp_millis(),
        key: found.record.key.map(Bytes::from),
        value: found.record.value.map(Bytes::from),
        headers: headers
            .map(|(name, value)| Header { name: Bytes::from(name), value: Some(Bytes::from(value)) })
            .collect(),
    }
}
