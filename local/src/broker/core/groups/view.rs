//! What the owner of a broker sees of a group.

use std::fmt;

use bytes::Bytes;

/// Where a group is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupState {
    /// No members; perhaps commits.
    #[default]
    Empty,
    /// Waits for its members to join.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Everybody can have an assignment.
    Stable,
}

impl fmt::Display for GroupState {
    /// As Kafka's tools print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        })
    }
}

/// A group, for its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Where it is in its life.
    pub state: GroupState,
    /// Rises by one with each rebalance; 0 before the first.
    pub generation: i32,
    /// `consumer`, for consumers.
    pub protocol_type: Option<String>,
    /// The assignor chosen.
    pub protocol: Option<String>,
    /// The member that assigns.
    pub leader: Option<String>,
    /// In the order of their ids.
    pub members: Vec<MemberView>,
}

/// A member, for the owner of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// As the coordinator made it.
    pub id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// What it said under the protocol chosen.
    pub metadata: Bytes,
    /// What the leader gave it; empty until then.
    pub assignment: Bytes,
}
