//! Who owns which task, and the order of start and stop.
//!
//! ```text
//! start: topic known -> folder claimed -> one task per partition (and later for each that is added)
//! stop:  no more fetching -> what is held is stored -> tasks end, all within DRAIN_TIMEOUT
//! ```

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use coinduit_common::{
    alert::{Alert, AlertKind, Alerts},
    clock::Clock,
    kafka::metadata::Topic,
    report::Chain as Causes,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    budget::Budget,
    config::Config,
    error::{ConsumerError, Fatal},
    identity::{Identity, IdentityError},
    ledger::{bucket::Bucket, chain::Chain, manifest::Manifest},
    ownership::{self, OwnershipError},
    partition::{PartitionTask, progress::Setting},
    patience::{Patience, Setback},
    reader::rskafka::Readers,
};

/// How often the topic is looked at for added partitions.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(30);

/// Everything that the partitions' tasks share.
pub struct Service {
    config: Config,
    bucket: Arc<dyn Bucket>,
    alerts: Alerts,
    clock: Clock,
    identity: Arc<Identity>,
    readers: Arc<Readers>,
    budget: Arc<Budget>,
    process: Arc<str>,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Service {
    /// A service that has not begun. Opens nothing.
    #[must_use]
    pub fn new(config: Config, bucket: Arc<dyn Bucket>, alerts: Alerts, clock: Clock) -> Self {
        let identity = Arc::new(Identity::new(config.kafka.clone(), clock.clone()));
        let readers = Readers::new(config.kafka.clone(), Arc::clone(&identity), clock.clone());
        let budget = Budget::new(config.memory_budget);
        Self {
            config,
            bucket,
            alerts,
            clock,
            identity,
            readers,
            budget,
            process: Uuid::new_v4().to_string().into(),
            stop: watch::Sender::new(false),
        }
    }

    /// Runs until `shutdown` comes, the end is reached (`--exit-at-end`), or nothing can help any more.
    ///
    /// # Errors
    /// [`ConsumerError`].
    pub async fn run(self, shutdown: impl Future<Output = &'static str>) -> Result<(), ConsumerError> {
        let result = self.start_and_serve(shutdown).await;
        if let Err(ConsumerError::Fatal(fatal)) = &result {
            let advice = "the consumer has stopped, and will stop again until this is changed";
            self.alerts.send(Alert::new(
                fatal.kind(),
                &self.config.kafka.topic,
                Causes(fatal).to_string(),
                advice,
            ));
        }
        result
    }

    async fn start_and_serve(
        &self,
        shutdown: impl Future<Output = &'static str>,
    ) -> Result<(), ConsumerError> {
        tokio::pin!(shutdown);
        let topic = tokio::select! {
            topic = self.start() => topic?,
            signal = &mut shutdown => {
                info!(signal, "stopped before anything was read");
                return Ok(());
            }
        };
        let mut tasks = JoinSet::new();
        let mut known = BTreeSet::new();
        self.add_partitions(&topic, &mut known, &mut tasks);
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    Some(ended) => ended.map_err(ConsumerError::Crashed)??,
                    // Only --exit-at-end lets tasks end by themselves.
                    None => {
                        info!("everything up to the end is stored");
                        return Ok(());
                    }
                },
                signal = &mut shutdown => {
                    info!(signal, held_bytes = self.budget.used(), "stopping: storing what is held");
                    return self.drain(tasks).await;
                }
                look = self.look_later(), if !self.config.exit_at_end => match look {
                    Ok(topic) => self.add_partitions(&topic, &mut known, &mut tasks),
                    Err(error @ IdentityError::Recreated { .. }) => return Err(Fatal::TopicRecreated(error).into()),
                    Err(error) => warn!(error = %Causes(&error), "can't look for added partitions now"),
                },
            }
        }
    }

    /// Waits for the topic, and claims its folder.
    async fn start(&self) -> Result<Topic, Fatal> {
        let place = &self.config.kafka.topic;
        let mut patience = Patience::new(&self.alerts, &self.clock, place);
        let topic = loop {
            match self.identity.describe().await {
                Ok(topic) => break topic,
                Err(error) => {
                    let missing = matches!(error, IdentityError::Missing { .. });
                    let kind = if missing { AlertKind::TopicChanged } else { AlertKind::KafkaFailed };
                    let advice = if missing {
                        "create the topic, or set KAFKA_TOPIC; the consumer waits for it"
                    } else {
                        "check KAFKA_BOOTSTRAP_SERVERS, and that the brokers run and can be reached; the consumer waits for them"
                    };
                    patience.failed(Setback { permanent: false, kind, advice }, &error).await;
                }
            }
        };
        info!(
            topic = place,
            topic_id = topic.printed_id(),
            cluster_id = topic.cluster_id,
            partitions = topic.partitions.len(),
            "topic found"
        );
        patience.over();
        let manifest = Manifest::for_topic(&topic);
        let mut patience = Patience::new(&self.alerts, &self.clock, &self.config.bucket);
        loop {
            match ownership::claim(&*self.bucket, &self.config.prefix, place, &manifest).await {
                Ok(()) => {
                    patience.over();
                    return Ok(topic);
                }
                Err(OwnershipError::Store(error)) => {
                    let advice = "check S3_BUCKET, the endpoint, the credentials and their permissions (list, get, put); the consumer waits";
                    let setback =
                        Setback { permanent: error.permanent, kind: AlertKind::StoreFailed, advice };
                    patience.failed(setback, &error).await;
                }
                Err(error) => return Err(Fatal::Ownership(error)),
            }
        }
    }

    fn add_partitions(
        &self,
        topic: &Topic,
        known: &mut BTreeSet<i32>,
        tasks: &mut JoinSet<Result<(), Fatal>>,
    ) {
        for partition in topic.partitions.iter().copied().filter(|partition| known.insert(*partition)) {
            let (name, prefix): (Arc<str>, _) =
                (self.config.kafka.topic.as_str().into(), Arc::new(self.config.prefix.clone()));
            let task = PartitionTask {
                chain: Chain::new(
                    Arc::clone(&self.bucket),
                    Arc::clone(&prefix),
                    Arc::clone(&name),
                    partition,
                ),
                setting: Setting {
                    topic: name,
                    partition,
                    prefix,
                    limits: self.config.limits,
                    enrich: self.config.enrich,
                    process: Arc::clone(&self.process),
                },
                reader: Box::new(self.readers.reader(partition)),
                identity: Arc::clone(&self.identity) as _,
                clock: self.clock.clone(),
                alerts: self.alerts.clone(),
                share: self.budget.share(),
                stop: self.stop.subscribe(),
                exit_at_end: self.config.exit_at_end,
            };
            tasks.spawn(task.run());
        }
    }

    /// The topic as it will be in a while.
    async fn look_later(&self) -> Result<Topic, IdentityError> {
        sleep(LOOK_FOR_PARTITIONS).await;
        self.identity.describe().await
    }

    async fn drain(&self, mut tasks: JoinSet<Result<(), Fatal>>) -> Result<(), ConsumerError> {
        let deadline = Instant::now() + self.config.drain_timeout;
        self.stop.send_replace(true);
        while !tasks.is_empty() {
            match timeout_at(deadline, tasks.join_next()).await {
                Ok(Some(ended)) => ended.map_err(ConsumerError::Crashed)??,
                Ok(None) => break,
                Err(_) => return Err(ConsumerError::NotDrained { partitions: tasks.len() }),
            }
        }
        info!("everything that was held is stored");
        Ok(())
    }
}
