//! Records into Kafka, through rskafka, every one acknowledged by all in-sync replicas.
//!
//! rskafka waits for ever on a silent broker, and creates a topic by asking for it. So the topic is looked up
//! first over a connection of our own, which creates nothing, and every call ends at the run's deadline.

use std::{collections::BTreeMap, time::Duration};

use coinduit_common::{
    kafka::{
        error::KafkaError,
        metadata::{self, Topic},
        rskafka::client_builder,
        settings::KafkaSettings,
    },
    report::Chain,
    retry::{Attempt, RetryPolicy, retry},
};
use futures::future::join_all;
use rskafka::{
    BackoffConfig,
    client::{
        Client,
        error::{Error, ProtocolError},
        partition::{Compression, UnknownTopicHandling},
    },
    record::Record,
};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::{partitioner::partition_for, records::CoinRecord};

/// Waits between attempts to reach the cluster.
const POLICY: RetryPolicy = RetryPolicy { first: Duration::from_millis(100), most: Duration::from_secs(5) };

/// How batches are compressed. Coins shrink to a third; and rskafka writes a frame of more than 8 KiB in two
/// parts, of which Nagle's algorithm holds the second back for the broker's delayed acknowledgement: 44 ms for
/// each partition of a run that takes 8 ms without. gzip, because every client reads it.
const COMPRESSION: Compression = Compression::Gzip;

/// The topic can't be written to.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The cluster did not answer.
    #[error("find topic {topic}")]
    Kafka {
        /// The topic.
        topic: String,
        /// Why.
        #[source]
        source: KafkaError,
    },
    /// There is no such topic.
    #[error("the cluster at {bootstrap} has no topic {topic}; create it, or run with --create-topic")]
    TopicMissing {
        /// The cluster.
        bootstrap: String,
        /// The topic.
        topic: String,
    },
    /// The topic could not be created.
    #[error("create topic {topic}")]
    Create {
        /// The topic.
        topic: String,
        /// Why.
        #[source]
        source: Error,
    },
    /// rskafka could not connect.
    #[error("connect to Kafka at {bootstrap}")]
    Client {
        /// The cluster.
        bootstrap: String,
        /// Why.
        #[source]
        source: Error,
    },
    /// The run's deadline came first.
    #[error("Kafka at {bootstrap} did not {what} before RUN_DEADLINE (topic {topic})")]
    Deadline {
        /// The cluster.
        bootstrap: String,
        /// The topic.
        topic: String,
        /// What was waited for.
        what: &'static str,
    },
}

impl PublishError {
    /// Whether running again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Kafka { source, .. } => source.is_retryable(),
            Self::TopicMissing { .. } => false,
            Self::Create { source, .. } => !matches!(
                source,
                Error::ServerError {
                    protocol_error: ProtocolError::TopicAuthorizationFailed
                        | ProtocolError::ClusterAuthorizationFailed
                        | ProtocolError::InvalidReplicationFactor
                        | ProtocolError::InvalidPartitions
                        | ProtocolError::PolicyViolation,
                    ..
                }
            ),
            Self::Client { .. } | Self::Deadline { .. } => true,
        }
    }
}

/// What became of the records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// How many were acknowledged.
    pub acknowledged: usize,
    /// How many may have been appended without an acknowledgement.
    pub unconfirmed: usize,
    /// What failed, once per partition.
    pub failures: Vec<Failure>,
}

/// One partition's batch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words.
    pub problem: String,
    /// Whether running again may help.
    pub retryable: bool,
}

/// A topic that exists, and a client that reaches it.
#[derive(Debug)]
pub struct Publisher {
    client: Client,
    topic: String,
    partitions: u32,
    deadline: Instant,
    bootstrap: String,
}

impl Publisher {
    /// Finds the topic, or creates it if `create` says so, with the brokers' own defaults; tries again until `deadline`.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn connect(
        kafka: &KafkaSettings,
        create: bool,
        deadline: Instant,
    ) -> Result<Self, PublishError> {
        let (topic, bootstrap) = (kafka.topic.clone(), kafka.bootstrap.to_string());
        let late = |what| late(kafka, what);
        let found = find(kafka, deadline).await?;
        if found.is_none() && !create {
            return Err(PublishError::TopicMissing { bootstrap, topic });
        }
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
            deadline: Some(deadline - Instant::now()),
        };
        let client = client_builder(kafka).backoff_config(backoff).build();
        let client = timeout_at(deadline, client).await.map_err(|_| late("accept a client"))?;
        let client =
            client.map_err(|source| PublishError::Client { bootstrap: bootstrap.clone(), source })?;
        let found = match found {
            Some(found) => found,
            None => timeout_at(deadline, create_topic(&client, kafka, deadline))
                .await
                .map_err(|_| late("create the topic"))??,
        };
        let partitions = u32::try_from(found.partitions.len()).unwrap_or(u32::MAX);
        info!(topic, partitions, topic_id = found.printed_id(), "topic found");
        Ok(Self { client, topic, partitions, deadline, bootstrap })
    }

    /// Publishes all records: one batch per partition, all partitions at once.
    pub async fn publish(&self, records: Vec<CoinRecord>) -> Published {
        let mut batches: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        for record in records {
            let partition = partition_for(record.key.as_bytes(), self.partitions);
            batches.entry(partition).or_default().push(kafka_record(record));
        }
        let sent = join_all(batches.into_iter().map(|(partition, batch)| self.send(partition, batch))).await;
        let mut published = Published::default();
        for (count, outcome) in sent {
            match outcome {
                Ok(()) => published.acknowledged += count,
                Err((failure, may_have_happened)) => {
                    published.failures.push(failure);
                    published.unconfirmed += if may_have_happened { count } else { 0 };
                }
            }
        }
        published
    }

    async fn send(&self, partition: u32, batch: Vec<Record>) -> (usize, Result<(), (Failure, bool)>) {
        let count = batch.len();
        let place = format!("{}/{partition}", self.topic);
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let leader = timeout_at(
            self.deadline,
            self.client.partition_client(self.topic.as_str(), number, UnknownTopicHandling::Error),
        )
        .await;
        let client = match leader {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                return (
                    count,
                    Err((
                        Failure {
                            problem: format!("reach the leader of {place}: {}", Chain(&error)),
                            retryable: true,
                        },
                        false,
                    )),
                );
            }
            Err(_) => {
                return (
                    count,
                    Err((
                        Failure {
                            problem: format!(
                                "the leader of {place} was not reached before RUN_DEADLINE (brokers {})",
                                self.bootstrap
                            ),
                            retryable: true,
                        },
                        false,
                    )),
                );
            }
        };
        let outcome = match timeout_at(self.deadline, client.produce(batch, COMPRESSION)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let (failure, may_have_happened) = explain(&place, count, &error);
                Err((failure, may_have_happened))
            }
            Err(_) => Err((
                Failure {
                    problem: format!(
                        "{place} did not acknowledge {count} records before RUN_DEADLINE (brokers {})",
                        self.bootstrap
                    ),
                    retryable: true,
                },
                true,
            )),
        };
        (count, outcome)
    }
}

async fn find(kafka: &KafkaSettings, deadline: Instant) -> Result<Option<Topic>, PublishError> {
    let found = retry(POLICY, "find the topic", Some(deadline), async |_| match look_up(kafka).await {
        Ok(found) => Attempt::Done(found),
        Err(error) if error.is_retryable() => Attempt::Again { error, after: None },
        Err(error) => Attempt::Final(error),
    });
    let found = timeout_at(deadline, found).await.map_err(|_| late(kafka, "answer"))?;
    found.map_err(|source| PublishError::Kafka { topic: kafka.topic.clone(), source })
}

async fn look_up(kafka: &KafkaSettings) -> Result<Option<Topic>, KafkaError> {
    let mut connection = kafka.dialer().to_any(&kafka.bootstrap).await?;
    metadata::topic(&mut connection, &kafka.topic).await
}

fn late(kafka: &KafkaSettings, what: &'static str) -> PublishError {
    PublishError::Deadline { bootstrap: kafka.bootstrap.to_string(), topic: kafka.topic.clone(), what }
}

/// Creates the topic, and waits until the cluster shows it.
async fn create_topic(
    client: &Client,
    kafka: &KafkaSettings,
    deadline: Instant,
) -> Result<Topic, PublishError> {
    let topic = kafka.topic.as_str();
    let failed = |source| PublishError::Create { topic: topic.to_owned(), source };
    let controller = client.controller_client().map_err(failed)?;
    match controller.create_topic(topic, -1, -1, 10_000).await {
        Ok(()) => info!(topic, "topic created"),
        // Somebody else was faster.
        Err(Error::ServerError { protocol_error: ProtocolError::TopicAlreadyExists, .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    loop {
        if let Some(found) = find(kafka, deadline).await? {
            return Ok(found);
        }
        warn!(topic, "the cluster does not show the new topic yet");
        tokio::time::sleep(POLICY.first).await;
    }
}

fn kafka_record(record: CoinRecord) -> Record {
    Record {
        key: Some(record.key.into_bytes()),
        value: Some(record.value),
        headers: record
            .headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into_bytes()))
            .collect(),
        timestamp: record.timestamp,
    }
}

/// What a failed batch means: in words, whether running again may help, and whether it may have been appended.
fn explain(place: &str, count: usize, error: &Error) -> (Failure, bool) {
    let failure = |problem: String, retryable| Failure { problem, retryable };
    match error {
        Error::ServerError { protocol_error: ProtocolError::MessageTooLarge, .. } => (
            failure(
                format!(
                    "{place} refuses a batch of {count} records as too large; raise the topic's max.message.bytes"
                ),
                false,
            ),
            false,
        ),
        Error::ServerError { protocol_error: ProtocolError::TopicAuthorizationFailed, .. } => {
            (failure(format!("{place} may not be written to by this client"), false), false)
        }
        Error::ServerError { .. } => {
            (failure(format!("publish {count} records to {place}: {}", Chain(error)), true), false)
        }
        _ => (failure(format!("publish {count} records to {place}: {}", Chain(error)), true), true),
    }
}
