//! What a member of a consumer group says to its coordinator, and what it is told: Kafka's classic group
//! protocol.
//!
//! ```text
//! find_coordinator -> connection to that broker
//!   join (all members meet, one is the leader) -> sync (the leader's assignment reaches each)
//!     heartbeat ... commit, committed ... -> join again, or leave
//! ```
//!
//! Each request has its file with three things: a pure `request` from plain words, a pure `answer` back to
//! them, and an async function that does both over a connection. Which of them to say next is not decided
//! here. The coordinator's refusals are [`KafkaError::Refused`], and [`KafkaError::code`] tells them apart.
//!
//! Source: KIP-394 (a member's id comes first), KIP-345 (instance ids), KIP-447 (stable offsets), KIP-559,
//! KIP-699, KIP-800, and Kafka's protocol guide.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::{api::Api, bootstrap::Address, error::KafkaError};

pub mod commit;
pub mod committed;
pub mod find_coordinator;
pub mod heartbeat;
pub mod join;
pub mod leave;
pub mod sync;
#[cfg(test)]
pub(super) mod testing;

/// The protocol type of groups whose members share the partitions of topics.
const CONSUMER: &str = "consumer";

/// Who a member is to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The group's id.
    pub group: String,
    /// The id that the coordinator gave; empty before the first join.
    pub member_id: String,
    /// The operator's own name for this member, which lets it come back without a rebalance (KIP-345).
    pub instance_id: Option<String>,
    /// The generation of the group that the member belongs to; -1 before the first join.
    pub generation: i32,
}

impl Identity {
    /// The oldest version of `R` in which this member can ask, where instance ids came with `instance_ids`.
    fn oldest<R: Api>(&self, instance_ids: i16) -> i16 {
        let tried = *R::TRIED.start();
        if self.instance_id.is_some() { tried.max(instance_ids) } else { tried }
    }
}

/// The broker that keeps a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// Its broker id.
    pub node: i32,
    /// Where it is.
    pub address: Address,
}

/// A member's wish to be in the group's next generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Who it is.
    pub identity: Identity,
    /// After so long without a heartbeat the member is out.
    pub session_timeout: Duration,
    /// How long the coordinator waits for all members to join, and so the longest that an answer takes.
    pub rebalance_timeout: Duration,
    /// The assignors it can use, best first, each with the member's subscription as that one wants it.
    pub protocols: Vec<(String, Bytes)>,
    /// Why it joins, in words for the broker's log (KIP-800); versions before 8 do not tell them.
    pub reason: String,
}

/// What a join led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinAnswer {
    /// The member is to join again, with this id (KIP-394).
    MemberIdRequired(String),
    /// The group has a new generation, and the member is in it.
    Joined(Joined),
}

/// A generation of the group, as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The member's id from now on.
    pub member_id: String,
    /// The generation.
    pub generation: i32,
    /// The assignor that all members can use.
    pub protocol: String,
    /// The id of the member that assigns; it is this one where it equals `member_id`.
    pub leader: String,
    /// All members, for the leader; empty for others.
    pub members: Vec<JoinedMember>,
    /// The leader is to keep what is assigned: it came back under its instance id (KIP-814).
    pub skip_assignment: bool,
}

/// One member, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its operator's name for it.
    pub instance_id: Option<String>,
    /// Its subscription, in the form of the protocol that was chosen.
    pub metadata: Bytes,
}

/// A member's question for its assignment; the leader's brings everybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// Who it is, in the new generation.
    pub identity: Identity,
    /// The protocol that [`Joined`] named.
    pub protocol: String,
    /// Member ids with their assignments; empty from everybody but the leader.
    pub assignments: Vec<(String, Bytes)>,
}

/// One partition's offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offset {
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 where unknown. Told from Kafka 2.1 on (KIP-320).
    pub leader_epoch: i32,
    /// Words of the committer's own; a broker takes 4096 bytes of them unless it is configured otherwise.
    pub metadata: String,
}

/// One partition's committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the record before it, as the committer knew it; -1 where it was not told.
    pub leader_epoch: i32,
    /// The committer's words.
    pub metadata: String,
}

pub(super) fn text(words: &str) -> StrBytes {
    StrBytes::from_string(words.to_owned())
}

fn optional(words: Option<&String>) -> Option<StrBytes> {
    words.map(|words| text(words))
}

/// Milliseconds as the protocol has them; more than 24 days are 24 days.
pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

pub(super) fn accepted(code: i16, request: &'static str, group: &str) -> Result<(), KafkaError> {
    if code == 0 { Ok(()) } else { Err(KafkaError::refused(code, request, group)) }
}
