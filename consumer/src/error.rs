//! Why the consumer ends without having been asked to.

use coinduit_common::{alert::AlertKind, exit::Exit};

use crate::{
    group::event::GroupError, http::ListenError, identity::IdentityError, ownership::OwnershipError,
};

/// Nothing that is tried again can help.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The topic is another one of the same name.
    #[error("{0}; its records need another S3_PREFIX and another group")]
    TopicRecreated(IdentityError),
    /// The folder in the bucket is not this topic's, or the store can't be used.
    #[error(transparent)]
    Ownership(OwnershipError),
    /// The group can't be joined, or somebody else has this member's name.
    #[error(transparent)]
    Group(GroupError),
}

impl Fatal {
    /// What people are told it is.
    #[must_use]
    pub const fn kind(&self) -> AlertKind {
        match self {
            Self::TopicRecreated(_) => AlertKind::TopicChanged,
            Self::Ownership(_) => AlertKind::LedgerBroken,
            Self::Group(_) => AlertKind::KafkaFailed,
        }
    }
}

/// The consumer ended.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// A person has to change something first.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// The bucket's client can't be built.
    #[error("make a client for bucket {bucket}")]
    Client {
        /// The bucket.
        bucket: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// `/metrics` and the others can't be served.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// What was held could not be stored in time, or the group gave it to others first. It is in Kafka, and will be read
    /// again.
    #[error(
        "{partitions} partitions still held records when DRAIN_TIMEOUT ended, or when the group took them away; they \
         will be read again"
    )]
    NotDrained {
        /// How many.
        partitions: usize,
    },
    /// A bug.
    #[error("a partition's task ended abnormally")]
    Crashed(#[source] tokio::task::JoinError),
}

impl ConsumerError {
    /// The exit code.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Fatal(_) | Self::Client { .. } | Self::Listen(_) => Exit::Misconfigured,
            Self::NotDrained { .. } | Self::Crashed(_) => Exit::Failed,
        }
    }
}
