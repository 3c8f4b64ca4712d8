//! Whether the topic is still the one whose records are held.
//!
//! A topic that is deleted and created again keeps its name; its offsets begin at 0 again, and would continue
//! another topic's chain. Its id never comes back. So no put starts before the cluster has shown the same
//! id in an answer to a question that was asked after the batch's last fetch.

use std::time::Duration;

use async_trait::async_trait;
use coinduit_common::{
    clock::Clock,
    kafka::{
        connection::Connection,
        error::KafkaError,
        metadata::{self, Topic, printed_id},
        settings::KafkaSettings,
    },
};
use tokio::sync::Mutex;
use uuid::Uuid;

/// The topic was not shown to be the same.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The cluster could not be asked.
    #[error("ask the cluster about topic {topic}")]
    Unknown {
        /// The topic.
        topic: String,
        /// Why.
        #[source]
        source: KafkaError,
    },
    /// The cluster has no such topic.
    #[error("the cluster has no topic {topic}")]
    Missing {
        /// The topic.
        topic: String,
    },
    /// There is a topic of the same name that is another one.
    #[error("topic {topic} was deleted and created again: its id was {was} and is {is}")]
    Recreated {
        /// The topic.
        topic: String,
        /// The id of the topic whose records are held.
        was: String,
        /// The id of the topic that is there.
        is: String,
    },
}

impl IdentityError {
    /// Whether the cluster refuses this client, or can't be trusted: a person has to change something before it can be
    /// asked. (A topic that is missing may come by itself.)
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Unknown { source, .. } => !source.is_retryable(),
            Self::Missing { .. } | Self::Recreated { .. } => false,
        }
    }
}

/// Knows whether a topic is still the same; the cluster, or what a test says.
#[async_trait]
pub trait Confirm: Send + Sync {
    /// What the topic is now. The first answer is what all later ones are compared with.
    ///
    /// # Errors
    /// [`IdentityError`].
    async fn describe(&self) -> Result<Topic, IdentityError>;

    /// Makes sure that the topic was still the same at some time later than `after` (since boot).
    ///
    /// # Errors
    /// [`IdentityError`].
    async fn confirm(&self, after: Duration) -> Result<(), IdentityError>;
}

/// Asks the cluster about one topic, over a connection of its own, once for all who ask at a time.
#[derive(Debug)]
pub struct Identity {
    settings: KafkaSettings,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    known: Option<Uuid>,
    /// When the question was asked that the last good answer is about.
    confirmed: Option<Duration>,
}

impl Identity {
    /// About the topic of `settings`. Connects at the first question.
    #[must_use]
    pub fn new(settings: KafkaSettings, clock: Clock) -> Self {
        Self { settings, clock, state: Mutex::default() }
    }

    async fn ask(&self, state: &mut State) -> Result<Topic, IdentityError> {
        let KafkaSettings { bootstrap, topic, .. } = &self.settings;
        let asked = self.clock.since_boot();
        let answer = async {
            if let Some(mut kept) = state.connection.take() {
                let answer = metadata::topic(&mut kept, topic).await;
                state.connection = Some(kept).filter(Connection::is_usable);
                // Brokers close idle connections (connections.max.idle.ms); that is no trouble.
                if !matches!(answer, Err(KafkaError::Broken { .. })) {
                    return answer;
                }
            }
            let mut fresh = self.settings.dialer().to_any(bootstrap).await?;
            let answer = metadata::topic(&mut fresh, topic).await;
            state.connection = Some(fresh).filter(Connection::is_usable);
            answer
        };
        let found = answer.await.map_err(|source| IdentityError::Unknown { topic: topic.clone(), source })?;
        let found = found.ok_or_else(|| IdentityError::Missing { topic: topic.clone() })?;
        let known = *state.known.get_or_insert(found.topic_id);
        if known != found.topic_id {
            return Err(IdentityError::Recreated {
                topic: topic.clone(),
                was: printed_id(known),
                is: found.printed_id(),
            });
        }
        state.confirmed = Some(asked);
        Ok(found)
    }
}

#[async_trait]
impl Confirm for Identity {
    async fn describe(&self) -> Result<Topic, IdentityError> {
        self.ask(&mut *self.state.lock().await).await
    }

    async fn confirm(&self, after: Duration) -> Result<(), IdentityError> {
        let mut state = self.state.lock().await;
        if state.confirmed.is_some_and(|confirmed| confirmed > after) {
            return Ok(());
        }
        self.ask(&mut state).await.map(drop)
    }
}
