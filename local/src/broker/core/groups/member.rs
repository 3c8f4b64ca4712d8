//! One member of a group.

use bytes::Bytes;

use super::JoinGroup;
use super::tickets::Ticket;

/// How long a member that has just been added may wait for its first answer. Until then it does not know
/// its id and cannot send heartbeats. Source: Kafka's `NEW_MEMBER_JOIN_TIMEOUT_MS`.
const NEW_MEMBER_MS: u64 = 5 * 60 * 1000;

/// What the coordinator knows of a member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) session_ms: u64,
    pub(crate) rebalance_ms: u64,
    /// Name and metadata, the most wanted first.
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    /// Its JoinGroup that waits.
    pub(crate) joining: Option<Ticket>,
    /// Its SyncGroup that waits.
    pub(crate) syncing: Option<Ticket>,
    /// Not yet told its generation, ever.
    pub(crate) is_new: bool,
    /// Without a sign of life before then it is gone.
    pub(crate) session_until_ms: u64,
}

impl Member {
    pub(crate) fn new(join: &JoinGroup, now_ms: u64) -> Self {
        Self {
            instance_id: join.instance_id.clone(),
            client_id: join.client_id.clone(),
            session_ms: join.session_ms,
            rebalance_ms: join.rebalance_ms,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: true,
            session_until_ms: now_ms.saturating_add(NEW_MEMBER_MS),
        }
    }

    /// Takes over what a later JoinGroup of the member says.
    pub(crate) fn update(&mut self, join: &JoinGroup) {
        self.session_ms = join.session_ms;
        self.rebalance_ms = join.rebalance_ms;
        self.protocols.clone_from(&join.protocols);
    }

    /// A sign of life.
    pub(crate) fn is_alive(&mut self, now_ms: u64) {
        self.session_until_ms = now_ms.saturating_add(self.session_ms);
    }

    /// When it is gone, if nothing is heard of it. Who waits for an answer owes no sign of life, except
    /// for the first answer, as nobody may be there to hear it.
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        let waits = self.joining.is_some() || self.syncing.is_some();
        (self.is_new || !waits).then_some(self.session_until_ms)
    }

    pub(crate) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// What it said under a protocol; nothing where it does not know it.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }
}
