//! A consumer group as an operator's tools see it.

use coinduit_common::kafka::{
    bootstrap::Bootstrap,
    connection::Connection,
    dialer::Dialer,
    group::{Committed, Coordinator, Identity, Offset, commit, committed, find_coordinator},
    security::Security,
};

use crate::kafka::Kafka;
use crate::wait::until;

/// A group of a cluster. It need not exist.
#[derive(Debug)]
pub struct Group {
    bootstrap: Bootstrap,
    name: String,
}

impl Group {
    /// The group `name`.
    ///
    /// # Panics
    /// When the cluster's addresses are none.
    pub fn new(kafka: &Kafka, name: &str) -> Self {
        let bootstrap = Bootstrap::parse(kafka.bootstrap()).expect("rskafka has read these addresses too");
        Self { bootstrap, name: name.to_owned() }
    }

    /// The broker that keeps it. A new cluster's first group has none for a while.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn coordinator(&self) -> Coordinator {
        let mut found = None;
        until("the group has a coordinator", async || {
            let Ok(mut any) = dialer().to_any(&self.bootstrap).await else {
                return false;
            };
            found = find_coordinator::find(&mut any, &self.name).await.ok();
            found.is_some()
        })
        .await;
        found.expect("it has been found")
    }

    async fn connect(&self) -> Option<Connection> {
        let coordinator = self.coordinator().await;
        dialer().to(&coordinator.address).await.ok()
    }

    /// What it has committed for the first `partitions` partitions of `topic`.
    ///
    /// # Panics
    /// When it does not say in time.
    pub async fn committed(&self, topic: &str, partitions: i32) -> Vec<Committed> {
        let all: Vec<i32> = (0..partitions).collect();
        let mut found = None;
        until("the group says what is committed", async || {
            let Some(mut connection) = self.connect().await else { return false };
            found = committed::committed(&mut connection, &self.name, topic, &all).await.ok();
            found.is_some()
        })
        .await;
        found.expect("it has been said")
    }

    /// Commits an offset as `kafka-consumer-groups --reset-offsets` does: without being a member, once there is none.
    ///
    /// # Panics
    /// When that is not accepted in time.
    pub async fn reset(&self, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let identity = Identity {
            group: self.name.clone(),
            member_id: String::new(),
            instance_id: None,
            generation: -1,
        };
        let offset = Offset { partition, offset, leader_epoch: -1, metadata: metadata.to_owned() };
        until("the offset is committed", async || {
            let Some(mut connection) = self.connect().await else { return false };
            let refused =
                commit::commit(&mut connection, &identity, topic, std::slice::from_ref(&offset)).await;
            refused.is_ok_and(|refused| refused.is_empty())
        })
        .await;
    }
}

fn dialer() -> Dialer {
    Dialer::new("coinduit-test", Security::default())
}
