//! What an audit asks of Kafka, and the cluster that answers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use coinduit_common::{
    clock::Clock,
    kafka::{
        aborted::Isolation,
        error::KafkaError,
        group::{Committed, committed, find_coordinator},
        metadata::Topic,
        settings::KafkaSettings,
    },
    retry::{Attempt, RetryPolicy, retry},
};
use tokio::time::Instant;

use crate::{
    identity::{Confirm, Identity, IdentityError},
    reader::{OpenReader, PartitionReader, native::NativeReaders},
};

/// Between attempts at anything that an audit reads from Kafka.
pub(super) const AGAIN: RetryPolicy =
    RetryPolicy { first: Duration::from_millis(250), most: Duration::from_secs(2) };
/// For so long the group's commits are asked for: a coordinator may be on the move.
const COMMITS: Duration = Duration::from_secs(15);

/// One topic, and one group that reads it.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// What the topic is.
    ///
    /// # Errors
    /// [`IdentityError`].
    async fn describe(&self) -> Result<Topic, IdentityError>;

    /// What the group has committed, of those of `partitions` where it has.
    ///
    /// # Errors
    /// [`KafkaError`].
    async fn committed(&self, partitions: &[i32]) -> Result<Vec<Committed>, KafkaError>;

    /// Reads one partition.
    fn reader(&self, partition: i32) -> Box<dyn PartitionReader>;
}

/// The real one. Connects when it is asked.
pub struct Kafka {
    settings: KafkaSettings,
    group: String,
    identity: Arc<dyn Confirm>,
    readers: NativeReaders,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka").field("group", &self.group).finish_non_exhaustive()
    }
}

impl Kafka {
    /// The topic of `settings` as `isolation` lets it be seen, and `group`.
    #[must_use]
    pub fn new(settings: KafkaSettings, group: String, isolation: Isolation, clock: Clock) -> Self {
        let identity: Arc<dyn Confirm> = Arc::new(Identity::new(settings.clone(), clock.clone()));
        let readers = NativeReaders::new(settings.clone(), isolation, clock);
        Self { settings, group, identity, readers }
    }

    async fn ask_coordinator(&self, partitions: &[i32]) -> Result<Vec<Committed>, KafkaError> {
        let KafkaSettings { bootstrap, topic, .. } = &self.settings;
        let dialer = self.settings.dialer();
        let mut any = dialer.to_any(bootstrap).await?;
        let coordinator = find_coordinator::find(&mut any, &self.group).await?;
        let mut connection = dialer.to(&coordinator.address).await?;
        committed::committed(&mut connection, &self.group, topic, partitions).await
    }
}

#[async_trait]
impl Cluster for Kafka {
    async fn describe(&self) -> Result<Topic, IdentityError> {
        self.identity.describe().await
    }

    async fn committed(&self, partitions: &[i32]) -> Result<Vec<Committed>, KafkaError> {
        retry(AGAIN, "read the group's commits", Some(Instant::now() + COMMITS), |_| async {
            match self.ask_coordinator(partitions).await {
                Ok(committed) => Attempt::Done(committed),
                Err(error) if error.is_retryable() => Attempt::Again { error, after: None },
                Err(error) => Attempt::Final(error),
            }
        })
        .await
    }

    fn reader(&self, partition: i32) -> Box<dyn PartitionReader> {
        self.readers.open(partition)
    }
}
