//! What the owner of a broker may see of its groups, and do to them.

use kafka_protocol::error::ResponseError;

use super::groups::{Committed, Group, GroupView};
use super::{Change, Core};

impl Core {
    /// A group, as of the last time that somebody looked; `None` if it was never heard of.
    pub fn group(&self, id: &str) -> Option<GroupView> {
        self.groups.get(id).map(Group::view)
    }

    /// What a group has committed for a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.groups.get(group)?.commits().get(topic)?.get(&partition)
    }

    /// Sets a committed offset as an operator does (`kafka-consumer-groups --reset-offsets`): to any number,
    /// without metadata. With `force` also while the group has members, which Kafka refuses.
    ///
    /// # Errors
    /// [`ResponseError::UnknownTopicOrPartition`]; [`ResponseError::NonEmptyGroup`].
    pub fn reset_offset(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
        force: bool,
    ) -> Result<(), ResponseError> {
        self.topics.partition(topic, partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let topic_id = self.topics.get(topic).ok_or(ResponseError::UnknownTopicOrPartition)?.id();
        if !force && self.groups.get(group).is_some_and(|group| !group.is_empty()) {
            return Err(ResponseError::NonEmptyGroup);
        }
        let committed = Committed { topic_id, offset, leader_epoch: -1, metadata: String::new() };
        self.groups.commit(group, topic, partition, committed);
        self.changes.push(Change::Commits);
        Ok(())
    }

    /// Removes all commits of a group, as their retention does; says whether there were any.
    pub fn expire_commits(&mut self, group: &str) -> bool {
        let expired = self.groups.expire(group);
        if expired {
            self.changes.push(Change::Commits);
        }
        expired
    }

    /// The coordinator of all groups moves to a broker that nobody can reach: until
    /// [`regain_coordinator`](Self::regain_coordinator) every call about a group is answered NOT_COORDINATOR,
    /// also those that are parked, and FindCoordinator is answered COORDINATOR_NOT_AVAILABLE.
    pub fn lose_coordinator(&mut self, now_ms: u64) {
        self.pass_time(now_ms);
        self.groups.lose();
    }

    /// Ends [`lose_coordinator`](Self::lose_coordinator): all groups are as they were, and all time-outs begin
    /// anew, as in Kafka after a load.
    pub fn regain_coordinator(&mut self, now_ms: u64) {
        self.groups.regain(now_ms);
    }
}
