//! The words between a [`Member`](super::member::Member) and whoever performs what it asks for.
//!
//! ```text
//! Event --> Member::on --> Action*       Action::Fail(GroupError), Action::Lose(Lost)
//! ```

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use coinduit_common::kafka::{
    error::KafkaError,
    group::{Identity, Join, JoinAnswer, Sync},
};

use super::assignor::PREFERENCE;

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// Time has passed: see [`Member::wake_at`](super::member::Member::wake_at).
    Tick,
    /// The coordinator was looked up.
    Found(Result<(), KafkaError>),
    /// The answer to [`Action::Join`].
    Joined(Result<JoinAnswer, KafkaError>),
    /// The answer to [`Action::Describe`]: how many partitions each topic has that exists.
    Described(Result<BTreeMap<String, i32>, KafkaError>),
    /// The answer to [`Action::Sync`].
    Synced(Result<Bytes, KafkaError>),
    /// The answer to [`Action::Beat`] as `identity`, sent at `sent_at`.
    Beaten {
        /// Who asked.
        identity: Identity,
        /// When the question left.
        sent_at: Duration,
        /// What came.
        answer: Result<(), KafkaError>,
    },
    /// Another call as `identity` (a commit, a question for commits) was refused or not answered.
    Refused {
        /// Who asked.
        identity: Identity,
        /// What came.
        error: KafkaError,
    },
    /// Everything of the last [`Action::Revoke`] is stored or dropped.
    Released,
    /// The topic has this many partitions now.
    Partitions(i32),
    /// Join no more: what is owned is being stored, and then the member leaves.
    Stopping,
    /// Leave the group.
    Leave,
    /// The answer to [`Action::Leave`].
    Left(Result<(), KafkaError>),
}

/// Something has to be done. [`Action::Find`] to [`Action::Leave`] are requests, of which the last replaces those
/// before it; [`Action::Beat`] goes beside them.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Look the coordinator up.
    Find,
    /// Join the group, on a connection where nothing else waits: it takes up to the rebalance time-out.
    Join(Join),
    /// Find out how many partitions these topics have.
    Describe(Vec<String>),
    /// Hand in, or fetch, assignments.
    Sync(Sync),
    /// Leave the group.
    Leave(Identity),
    /// Tell the coordinator that the member lives, on a connection where nothing waits.
    Beat(Identity),
    /// These partitions are the member's from now on; none where it has enough.
    Assign(Vec<i32>),
    /// Store or drop what these partitions hold, then report [`Event::Released`].
    Revoke(Vec<i32>),
    /// Every partition is lost: somebody else may have it by now. Drop what is held.
    Lose(Lost),
    /// The membership is over.
    Gone,
    /// Nothing that is tried again can help.
    Fail(GroupError),
}

/// Why partitions were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// UNKNOWN_MEMBER_ID: the coordinator took the member for dead.
    Forgotten,
    /// ILLEGAL_GENERATION: the group went on without it.
    LeftBehind,
}

/// The group can't be joined until a person has changed something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// FENCED_INSTANCE_ID.
    #[error(
        "another process joined group {group} as {instance_id}; give each its own KAFKA_GROUP_INSTANCE_ID"
    )]
    Fenced {
        /// The group.
        group: String,
        /// The name that both use.
        instance_id: String,
    },
    /// INVALID_SESSION_TIMEOUT.
    #[error(
        "the brokers refuse a session time-out of {session_timeout:?}; set KAFKA_SESSION_TIMEOUT between their group.min.session.timeout.ms and group.max.session.timeout.ms"
    )]
    SessionTimeout {
        /// What was asked for.
        session_timeout: Duration,
    },
    /// INCONSISTENT_GROUP_PROTOCOL.
    #[error(
        "the members of group {group} use none of the assignors {}; choose another KAFKA_GROUP_ID, or let them use one",
        PREFERENCE.join(", ")
    )]
    NoCommonAssignor {
        /// The group.
        group: String,
    },
    /// INVALID_GROUP_ID.
    #[error("the brokers refuse {group:?} as a group's name; choose another KAFKA_GROUP_ID")]
    InvalidName {
        /// The group.
        group: String,
    },
    /// The brokers speak another protocol, or none of the versions that are spoken here.
    #[error("group {group} can't be joined: {problem}")]
    Protocol {
        /// The group.
        group: String,
        /// What they said.
        problem: String,
    },
}
