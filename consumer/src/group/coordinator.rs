//! The requests that a member sends, performed.
//!
//! Three connections to the coordinator, because a broker answers one connection's requests in order: a join waits
//! for the whole group, and neither heartbeats nor commits may wait behind it.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use coinduit_common::kafka::{
    bootstrap::Address,
    connection::{Connection, Limits},
    error::KafkaError,
    group::{
        Committed, Identity, Join, JoinAnswer, Offset, Sync, commit, committed, find_coordinator, heartbeat,
        join, leave, sync,
    },
    metadata,
    settings::KafkaSettings,
};
use tokio::sync::Mutex;

/// What a member asks of its group's coordinator; the cluster, or what a test puts in its place. Every call ends
/// within a time limit of its own.
///
/// # Errors
/// Each call gives [`KafkaError::Refused`] with Kafka's code where the broker refused; anything else means that
/// nothing is known, and that the request may have been carried out.
#[async_trait]
pub trait Coordinator: Send + std::marker::Sync {
    /// Looks up which broker coordinates the group; the others go to that one.
    async fn find(&self) -> Result<(), KafkaError>;
    /// Joins; waits for the group, up to the rebalance time-out and somewhat more.
    async fn join(&self, ask: &Join) -> Result<JoinAnswer, KafkaError>;
    /// Hands in assignments, if there are any, and fetches this member's.
    async fn sync(&self, ask: &Sync) -> Result<Bytes, KafkaError>;
    /// Shows that the member lives.
    async fn heartbeat(&self, member: &Identity) -> Result<(), KafkaError>;
    /// Leaves.
    async fn leave(&self, member: &Identity) -> Result<(), KafkaError>;
    /// Commits offsets of the topic; returns the partitions that were refused.
    async fn commit(
        &self,
        member: &Identity,
        offsets: &[Offset],
    ) -> Result<Vec<(i32, KafkaError)>, KafkaError>;
    /// What is committed for these partitions of the topic; those without a commit are left out.
    async fn committed(&self, partitions: &[i32]) -> Result<Vec<Committed>, KafkaError>;
    /// How many partitions these topics have; those that do not exist are left out, and not created.
    async fn partitions(&self, topics: &[String]) -> Result<BTreeMap<String, i32>, KafkaError>;
}

/// The coordinator of a group in a real cluster.
#[derive(Debug)]
pub struct KafkaCoordinator {
    settings: KafkaSettings,
    group: String,
    address: Mutex<Option<Address>>,
    /// For what waits for the whole group.
    rounds: Line,
    heartbeats: Line,
    commits: Line,
}

/// A connection to the coordinator, made when it is needed.
#[derive(Debug)]
struct Line {
    limits: Limits,
    kept: Mutex<Option<(Address, Connection)>>,
}

impl Line {
    /// On which the broker may take as long as anywhere, and not longer than `most`.
    fn within(most: Duration) -> Self {
        let Limits { connect, request } = Limits::default();
        Self {
            limits: Limits { connect: connect.min(most), request: request.min(most) },
            kept: Mutex::default(),
        }
    }
}

impl KafkaCoordinator {
    /// For `group`, whose members are dead after `session_timeout` without a heartbeat. Opens nothing.
    #[must_use]
    pub fn new(settings: KafkaSettings, group: String, session_timeout: Duration) -> Self {
        Self {
            settings,
            group,
            address: Mutex::default(),
            rounds: Line::within(Duration::MAX),
            // A broker that keeps a heartbeat for longer is given up while there is time to find another.
            heartbeats: Line::within(session_timeout / 3),
            commits: Line::within(Duration::MAX),
        }
    }

    /// Runs `call` on `line`'s connection to the coordinator.
    async fn on<T>(
        &self,
        line: &Line,
        call: impl AsyncFnOnce(&mut Connection) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let address = self.address.lock().await.clone();
        let Some(address) = address else {
            let code = kafka_protocol::ResponseError::CoordinatorNotAvailable.code();
            return Err(KafkaError::refused(code, "FindCoordinator", self.group.as_str()));
        };
        let mut kept = line.kept.lock().await;
        let usable = kept.take().filter(|(to, connection)| *to == address && connection.is_usable());
        let mut connection = match usable {
            Some((_, connection)) => connection,
            None => self.settings.dialer().within(line.limits).to(&address).await?,
        };
        let answer = call(&mut connection).await;
        *kept = Some((address, connection)).filter(|(_, connection)| connection.is_usable());
        answer
    }

    async fn anywhere(&self) -> Result<Connection, KafkaError> {
        self.settings.dialer().to_any(&self.settings.bootstrap).await
    }
}

#[async_trait]
impl Coordinator for KafkaCoordinator {
    async fn find(&self) -> Result<(), KafkaError> {
        let found = find_coordinator::find(&mut self.anywhere().await?, &self.group).await?;
        tracing::info!(group = self.group, broker = found.node, address = %found.address, "group coordinator found");
        *self.address.lock().await = Some(found.address);
        Ok(())
    }

    async fn join(&self, ask: &Join) -> Result<JoinAnswer, KafkaError> {
        self.on(&self.rounds, async |connection| join::join(connection, ask).await).await
    }

    async fn sync(&self, ask: &Sync) -> Result<Bytes, KafkaError> {
        self.on(&self.rounds, async |connection| sync::sync(connection, ask).await).await
    }

    async fn heartbeat(&self, member: &Identity) -> Result<(), KafkaError> {
        self.on(&self.heartbeats, async |connection| heartbeat::heartbeat(connection, member).await).await
    }

    async fn leave(&self, member: &Identity) -> Result<(), KafkaError> {
        // Not where a join may be waiting.
        self.on(&self.commits, async |connection| leave::leave(connection, member).await).await
    }

    async fn commit(
        &self,
        member: &Identity,
        offsets: &[Offset],
    ) -> Result<Vec<(i32, KafkaError)>, KafkaError> {
        let topic = &self.settings.topic;
        self.on(&self.commits, async |connection| commit::commit(connection, member, topic, offsets).await)
            .await
    }

    async fn committed(&self, partitions: &[i32]) -> Result<Vec<Committed>, KafkaError> {
        let (group, topic) = (&self.group, &self.settings.topic);
        self.on(&self.commits, async |connection| {
            committed::committed(connection, group, topic, partitions).await
        })
        .await
    }

    async fn partitions(&self, topics: &[String]) -> Result<BTreeMap<String, i32>, KafkaError> {
        metadata::topics(&mut self.anywhere().await?, topics).await
    }
}
