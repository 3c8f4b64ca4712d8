//! Records into Kafka, every one acknowledged by all in-sync replicas, and none twice.
//!
//! ```text
//! records -> outbox (batches per partition) -> one request per broker and round -> verdict per batch -> outbox
//! ```
//!
//! Over our own connection and not through rskafka: that sends a batch again by itself, where the answer was lost and
//! where the broker asks to slow down, and both times the batch may be in the log. Here a batch carries the number
//! that an idempotent producer gives it, so that a broker appends it once however often it comes; and where the
//! brokers know no such producers, one that may be in the log is given up, counted and told.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use coinduit_common::{
    kafka::{
        bootstrap::Address,
        connection::Connection,
        create_topics::{self, Created},
        error::KafkaError,
        metadata::{self, Leader},
        produce::{self, ProducerId},
        record_batch::Packing,
        settings::KafkaSettings,
    },
    report::Chain,
    retry::{Attempt, RetryPolicy, retry},
};
use futures::future::join_all;
use kafka_protocol::messages::ProduceResponse;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};
use tracing::info;

use crate::{records::CoinRecord, tally::Tally};

mod outbox;
mod verdict;

use outbox::Outbox;
use verdict::Verdict;

/// Waits between attempts.
const POLICY: RetryPolicy = RetryPolicy { first: Duration::from_millis(100), most: Duration::from_secs(5) };
/// How long a broker waits for the replicas, and how long we wait for the broker.
const REPLICAS: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(15);
/// How long the controller may take to create a topic.
const CREATION: Duration = Duration::from_secs(8);

/// How long a producer's id is asked for; there is publishing without one.
const ID: Duration = Duration::from_secs(10);

/// How batches are compressed: gzip, which every client reads, shrinks coins to a fifth in less than a millisecond
/// (docs/producer.md has the figures).
const PACKING: Packing = Packing::Gzip;

/// How a missing topic is created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// How many partitions; else the brokers' default.
    pub partitions: Option<i32>,
    /// How many replicas of each; else the brokers' default.
    pub replication_factor: Option<i16>,
}

/// The topic can't be written to.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The cluster did not answer, or not with what is needed.
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
    /// The topic may not be created.
    #[error("create topic {topic}: the cluster at {bootstrap} answers {why}")]
    Create {
        /// The cluster.
        bootstrap: String,
        /// The topic.
        topic: String,
        /// Why.
        why: String,
        /// Whether running again may help.
        retryable: bool,
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
            Self::Create { retryable, .. } => *retryable,
            Self::Deadline { .. } => true,
        }
    }
}

/// Part of the records was not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words, with the partition and what to do.
    pub problem: String,
    /// Whether running again may help.
    pub retryable: bool,
}

/// A topic that exists, a connection to its cluster, and an id by which brokers know a batch again.
#[derive(Debug)]
pub struct Publisher {
    kafka: KafkaSettings,
    partitions: u32,
    producer: Option<ProducerId>,
    deadline: Instant,
    cluster: Mutex<Cluster>,
}

/// What is known about the cluster, and the connections to it.
#[derive(Debug, Default)]
struct Cluster {
    /// Some broker, for questions that any of them answers.
    any: Option<Connection>,
    /// The leaders of the topic's partitions; `None` when they are to be asked for.
    leaders: Option<BTreeMap<i32, Option<Leader>>>,
    /// By the broker's id.
    connections: HashMap<i32, Connection>,
}

impl Publisher {
    /// Finds the topic, or creates it as `create` says; tries again until `deadline`.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn connect(
        kafka: &KafkaSettings,
        create: Option<NewTopic>,
        deadline: Instant,
    ) -> Result<Self, PublishError> {
        let (topic, bootstrap) = (&kafka.topic, kafka.bootstrap.to_string());
        let mut cluster = Cluster::default();
        let found =
            match (within(kafka, deadline, "answer", find(kafka, &mut cluster, deadline)).await?, create) {
                (Some(leaders), _) => leaders,
                (None, None) => return Err(PublishError::TopicMissing { bootstrap, topic: topic.clone() }),
                (None, Some(new)) => {
                    let created = create_topic(kafka, &mut cluster, new, deadline);
                    within(kafka, deadline, "create the topic", created).await?
                }
            };
        let partitions = u32::try_from(found.len()).unwrap_or(u32::MAX);
        cluster.leaders = Some(found);
        let producer = within(kafka, deadline, "give out a producer's id", async {
            Ok(producer_id(kafka, &mut cluster, deadline).await)
        });
        let producer = producer.await?;
        info!(topic, partitions, idempotent = producer.is_some(), "topic found");
        Ok(Self { kafka: kafka.clone(), partitions, producer, deadline, cluster: Mutex::new(cluster) })
    }

    /// Publishes all records: few batches per partition, all partitions at once, until the deadline. What was
    /// acknowledged, and what may be in the log, is in `tally` at any moment.
    ///
    /// # Errors
    /// What failed, once per partition.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing that `tally` has not counted.
    pub async fn publish(&self, records: Vec<CoinRecord>, tally: &Tally) -> Result<(), Vec<Failure>> {
        let outbox = Outbox::new(&self.kafka.topic, records, self.partitions, PACKING, self.producer);
        let outbox = Mutex::new(outbox);
        let rounds = retry(POLICY, "publish", Some(self.deadline), async |_| {
            let mut outbox = outbox.lock().await;
            let mut cluster = self.cluster.lock().await;
            while !outbox.due().is_empty() {
                if let Err(Pause { error, after }) = self.round(&mut outbox, &mut cluster, tally).await {
                    cluster.leaders = None;
                    return Attempt::Again { error, after };
                }
            }
            Attempt::Done(())
        });
        // Whatever ended it, the outbox knows what is left.
        drop(timeout_at(self.deadline, rounds).await);
        let bootstrap = &self.kafka.bootstrap;
        let failures = outbox.into_inner().into_failures(|place, left| {
            format!("{place} did not acknowledge {left} records before RUN_DEADLINE (brokers {bootstrap})")
        });
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }

    /// Sends the next batch of every partition that has one.
    ///
    /// # Errors
    /// [`Pause`] where some of them have to be sent again, later.
    async fn round(&self, outbox: &mut Outbox, cluster: &mut Cluster, tally: &Tally) -> Result<(), Pause> {
        let leaders = match cluster.leaders.take() {
            Some(leaders) => leaders,
            None => self.leaders(cluster).await?,
        };
        let mut again: Option<Pause> = None;
        let mut by_broker: BTreeMap<i32, (Address, Vec<(i32, Bytes)>)> = BTreeMap::new();
        for partition in outbox.due() {
            let Some(leader) = leaders.get(&partition).and_then(Option::as_ref) else {
                let problem = format!("{}/{partition} has no leader at the moment", self.kafka.topic);
                outbox.blocked(partition, problem.clone());
                again = Some(Pause::because(problem));
                continue;
            };
            if let Some(batch) = outbox.take(partition, tally) {
                let (_, batches) =
                    by_broker.entry(leader.node).or_insert_with(|| (leader.address.clone(), vec![]));
                batches.push((partition, batch));
            }
        }
        let calls = by_broker.into_iter().map(|(node, (address, batches))| {
            let connection = cluster.connections.remove(&node).filter(Connection::is_usable);
            async move { (node, self.send(connection, &address, batches).await) }
        });
        for (node, sent) in join_all(calls).await {
            cluster.connections.extend(sent.connection.map(|connection| (node, connection)));
            for (partition, verdict) in sent.verdicts {
                let problem = match &verdict {
                    Verdict::NotAppended(problem) | Verdict::Unknown(problem) => problem.clone(),
                    Verdict::Appended | Verdict::TooLarge(_) | Verdict::Refused { .. } => String::new(),
                };
                if outbox.settle(partition, verdict, tally) {
                    again = Some(Pause::because(problem));
                }
            }
            if !outbox.due().is_empty() && !sent.throttle.is_zero() {
                let pause = again.unwrap_or_else(|| Pause::because("the brokers ask to slow down (a quota)"));
                again = Some(Pause { after: Some(sent.throttle), ..pause });
            }
        }
        match again {
            Some(pause) => Err(pause),
            None => {
                cluster.leaders = Some(leaders);
                Ok(())
            }
        }
    }

    /// Sends one batch to each of some partitions that the broker at `address` leads.
    async fn send(
        &self,
        connection: Option<Connection>,
        address: &Address,
        batches: Vec<(i32, Bytes)>,
    ) -> Sent {
        let topic = self.kafka.topic.as_str();
        let partitions: Vec<i32> = batches.iter().map(|(partition, _)| *partition).collect();
        let all = |verdict: &dyn Fn(&str) -> Verdict| {
            partitions
                .iter()
                .map(|partition| (*partition, verdict(&format!("{topic}/{partition}"))))
                .collect()
        };
        let dialled = match connection {
            Some(connection) => Ok(connection),
            None => self.kafka.dialer().to(address).await,
        };
        let mut connection = match dialled {
            Ok(connection) => connection,
            Err(error) => {
                let chain = Chain(&error).to_string();
                let verdicts = all(&|place| {
                    let problem = format!(
                        "{place}: its leader is at {address}, as the cluster says, and can't be reached: {chain}; is that \
                         an address for this machine (advertised.listeners)?"
                    );
                    if error.is_retryable() {
                        Verdict::NotAppended(problem)
                    } else {
                        Verdict::Refused { problem, retryable: false }
                    }
                });
                return Sent { verdicts, connection: None, throttle: Duration::ZERO };
            }
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let request = produce::request(topic, &batches, REPLICAS.min(left));
        let answer = connection.call_within(ANSWER.min(left), &request).await;
        let told = answer.and_then(|answer: ProduceResponse| {
            let throttle = Duration::from_millis(u64::try_from(answer.throttle_time_ms).unwrap_or(0));
            Ok((throttle, produce::answer(answer, topic, partitions.iter().copied())?))
        });
        match told {
            Ok((throttle, answers)) => {
                let verdict = |(partition, answer): (i32, Result<i64, produce::NotAcknowledged>)| {
                    let place = format!("{topic}/{partition}");
                    (
                        partition,
                        answer.map_or_else(
                            |refused| verdict::of_answer(&place, &refused),
                            |_| Verdict::Appended,
                        ),
                    )
                };
                let verdicts = partitions.iter().copied().zip(answers).map(verdict).collect();
                Sent { verdicts, connection: Some(connection), throttle }
            }
            Err(error) => {
                let chain = Chain(&error).to_string();
                let verdicts = all(&|place| verdict::of_failure(place, &error, chain.clone()));
                Sent { verdicts, connection: None, throttle: Duration::ZERO }
            }
        }
    }

    /// Who leads the partitions now.
    async fn leaders(&self, cluster: &mut Cluster) -> Result<BTreeMap<i32, Option<Leader>>, Pause> {
        let asked = async {
            let mut connection = any(&self.kafka, cluster).await?;
            let leaders = metadata::leaders(&mut connection, &self.kafka.topic).await?;
            cluster.any = Some(connection);
            Ok::<_, KafkaError>(leaders)
        };
        match asked.await {
            Ok(Some(leaders)) => Ok(leaders),
            Ok(None) => Err(Pause::because(format!("topic {} is gone", self.kafka.topic))),
            Err(error) => Err(Pause::because(Chain(&error).to_string())),
        }
    }
}

/// What became of one request.
struct Sent {
    verdicts: Vec<(i32, Verdict)>,
    /// Where it can be used again.
    connection: Option<Connection>,
    /// How long the broker wants to be left alone.
    throttle: Duration,
}

/// Something has to be tried again, later.
#[derive(Debug)]
struct Pause {
    error: Waiting,
    after: Option<Duration>,
}

impl Pause {
    fn because(problem: impl Into<String>) -> Self {
        Self { error: Waiting(problem.into()), after: None }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Waiting(String);

/// The connection to any broker, which is put back by whoever it has served.
async fn any(kafka: &KafkaSettings, cluster: &mut Cluster) -> Result<Connection, KafkaError> {
    match cluster.any.take().filter(Connection::is_usable) {
        Some(connection) => Ok(connection),
        None => kafka.dialer().to_any(&kafka.bootstrap).await,
    }
}

async fn within<T>(
    kafka: &KafkaSettings,
    deadline: Instant,
    what: &'static str,
    work: impl Future<Output = Result<T, PublishError>>,
) -> Result<T, PublishError> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| {
        Err(PublishError::Deadline {
            bootstrap: kafka.bootstrap.to_string(),
            topic: kafka.topic.clone(),
            what,
        })
    })
}

/// The leaders of the topic's partitions; `None` where there is no such topic.
async fn find(
    kafka: &KafkaSettings,
    cluster: &mut Cluster,
    deadline: Instant,
) -> Result<Option<BTreeMap<i32, Option<Leader>>>, PublishError> {
    let cluster = Mutex::new(cluster);
    let found = retry(POLICY, "find the topic", Some(deadline), async |_| {
        let mut cluster = cluster.lock().await;
        let look_up = async {
            let mut connection = any(kafka, &mut cluster).await?;
            let leaders = metadata::leaders(&mut connection, &kafka.topic).await?;
            cluster.any = Some(connection);
            Ok(leaders)
        };
        classified(look_up.await)
    });
    found.await.map_err(|source| PublishError::Kafka { topic: kafka.topic.clone(), source })
}

fn classified<T>(result: Result<T, KafkaError>) -> Attempt<T, KafkaError> {
    match result {
        Ok(value) => Attempt::Done(value),
        Err(error) if error.is_retryable() => Attempt::Again { error, after: None },
        Err(error) => Attempt::Final(error),
    }
}

/// An id by which brokers know a batch again; `None` where they give none out.
async fn producer_id(kafka: &KafkaSettings, cluster: &mut Cluster, deadline: Instant) -> Option<ProducerId> {
    let cluster = Mutex::new(cluster);
    let patience = deadline.min(Instant::now() + ID);
    let asked = retry(POLICY, "ask for a producer's id", Some(patience), async |_| {
        let mut cluster = cluster.lock().await;
        let ask = async {
            let mut connection = any(kafka, &mut cluster).await?;
            let id = produce::producer_id(&mut connection).await;
            if connection.is_usable() {
                cluster.any = Some(connection);
            }
            id
        };
        classified(ask.await)
    });
    match asked.await {
        Ok(id) => Some(id),
        Err(error) => {
            info!(error = %Chain(&error), "no idempotent producer; a batch that may be in the log is not sent again");
            None
        }
    }
}

/// Creates the topic, and waits until the cluster shows it.
async fn create_topic(
    kafka: &KafkaSettings,
    cluster: &mut Cluster,
    new: NewTopic,
    deadline: Instant,
) -> Result<BTreeMap<i32, Option<Leader>>, PublishError> {
    let topic = kafka.topic.as_str();
    let failed = |source| PublishError::Kafka { topic: topic.to_owned(), source };
    let created = retry(POLICY, "create the topic", Some(deadline), async |_| {
        let create = async {
            let mut connection = kafka.dialer().to_any(&kafka.bootstrap).await?;
            if let Some(address) = create_topics::controller(&mut connection).await? {
                connection = kafka.dialer().to(&address).await?;
            }
            create_topics::create(&mut connection, topic, new.partitions, new.replication_factor, CREATION)
                .await
        };
        match create.await {
            // NOT_CONTROLLER, COORDINATOR_LOAD_IN_PROGRESS, REQUEST_TIMED_OUT and their like: it moves, or is busy.
            Ok(Created::Refused { code, why })
                if KafkaError::refused(code, "CreateTopics", topic).is_retryable() =>
            {
                Attempt::Again { error: KafkaError::useless("CreateTopics", topic, why), after: None }
            }
            other => classified(other),
        }
    });
    match created.await.map_err(failed)? {
        Created::Yes => info!(topic, "topic created"),
        Created::Already => {}
        Created::Refused { why, .. } => {
            let bootstrap = kafka.bootstrap.to_string();
            return Err(PublishError::Create { bootstrap, topic: topic.to_owned(), why, retryable: false });
        }
    }
    let shown = retry(POLICY, "see the new topic", Some(deadline), async |_| {
        let look_up = async {
            let mut connection = kafka.dialer().to_any(&kafka.bootstrap).await?;
            metadata::leaders(&mut connection, topic).await
        };
        match look_up.await {
            // A partition without a leader yet is waited for when it is written to.
            Ok(Some(leaders)) if !leaders.is_empty() => Attempt::Done(leaders),
            Ok(_) => {
                let error =
                    KafkaError::useless("Metadata", topic, "the cluster does not show the new topic yet");
                Attempt::Again { error, after: None }
            }
            Err(error) => classified(Err(error)),
        }
    });
    let leaders = shown.await.map_err(failed)?;
    cluster.any = None;
    Ok(leaders)
}
