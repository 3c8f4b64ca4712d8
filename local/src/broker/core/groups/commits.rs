//! The offsets that groups have committed.

use std::collections::BTreeMap;

use uuid::Uuid;

/// One partition's committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The id of the topic that it was committed for: a topic of the same name may come later.
    pub topic_id: Uuid,
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the record before it; -1 if the client did not say. Source: KIP-320.
    pub leader_epoch: i32,
    /// What the client wrote beside it.
    pub metadata: String,
}

/// One group's commits: by topic name, then by partition.
pub type Commits = BTreeMap<String, BTreeMap<i32, Committed>>;
