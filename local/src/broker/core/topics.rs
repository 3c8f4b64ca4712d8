//! The topics of the cluster: names, ids that never come back, partitions.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use super::log::PartitionLog;

/// More partitions than this in one topic are a typing error here.
const MAX_PARTITIONS: i32 = 10_000;

/// All topics, by name.
#[derive(Debug)]
pub struct Topics {
    cluster: Uuid,
    /// How many topics were ever created: the next id is made from it.
    created: u64,
    by_name: BTreeMap<String, Topic>,
}

/// One topic.
#[derive(Debug)]
pub struct Topic {
    id: Uuid,
    partitions: Vec<PartitionLog>,
}

/// Why a topic was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    /// There is one of that name.
    #[error("topic {0} exists already")]
    Exists(String),
    /// Kafka's rules for names.
    #[error("topic name {0:?} is not 1 to 249 letters, digits, '.', '_' or '-', or is '.' or '..'")]
    Name(String),
    /// None, negative, or absurdly many.
    #[error("topic {name} cannot have {partitions} partitions, only 1 to {MAX_PARTITIONS}")]
    Partitions {
        /// The topic.
        name: String,
        /// What was asked for.
        partitions: i32,
    },
}

impl CreateTopicError {
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            Self::Exists(_) => ResponseError::TopicAlreadyExists,
            Self::Name(_) => ResponseError::InvalidTopicException,
            Self::Partitions { .. } => ResponseError::InvalidPartitions,
        }
    }
}

impl Topic {
    /// A topic as it was, its partitions in order.
    pub fn restore(id: Uuid, partitions: Vec<PartitionLog>) -> Self {
        Self { id, partitions }
    }

    /// The id, which no other topic of this cluster has or will have.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Its partitions; the index is the partition's number.
    pub fn partitions(&self) -> &[PartitionLog] {
        &self.partitions
    }
}

impl Topics {
    /// A cluster without topics.
    pub fn new(cluster: Uuid) -> Self {
        Self { cluster, created: 0, by_name: BTreeMap::new() }
    }

    /// A cluster as it was, `created` topics later.
    pub fn restore(cluster: Uuid, created: u64, by_name: BTreeMap<String, Topic>) -> Self {
        Self { cluster, created, by_name }
    }

    /// The cluster's id.
    pub fn cluster(&self) -> Uuid {
        self.cluster
    }

    /// How many topics were ever created.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// All topics in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Topic)> {
        self.by_name.iter().map(|(name, topic)| (name.as_str(), topic))
    }

    /// The topic of that name.
    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// The name of the topic with that id.
    pub(crate) fn name_of(&self, id: Uuid) -> Option<&str> {
        self.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name)
    }

    /// A partition, by its number on the wire.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionLog> {
        self.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    /// A partition to change, with its topic's id.
    pub(crate) fn partition_mut(&mut self, topic: &str, partition: i32) -> Option<(Uuid, &mut PartitionLog)> {
        let topic = self.by_name.get_mut(topic)?;
        let log = topic.partitions.get_mut(usize::try_from(partition).ok()?)?;
        Some((topic.id, log))
    }

    /// Whether [`create`](Self::create) would work; how many partitions there would be.
    ///
    /// # Errors
    /// [`CreateTopicError`].
    pub(crate) fn check(&self, name: &str, partitions: i32) -> Result<usize, CreateTopicError> {
        if !is_legal(name) {
            return Err(CreateTopicError::Name(name.to_owned()));
        }
        if self.by_name.contains_key(name) {
            return Err(CreateTopicError::Exists(name.to_owned()));
        }
        usize::try_from(partitions)
            .ok()
            .filter(|_| (1..=MAX_PARTITIONS).contains(&partitions))
            .ok_or_else(|| CreateTopicError::Partitions { name: name.to_owned(), partitions })
    }

    /// Creates an empty topic; returns its id, which is a function of the cluster's id and of how many
    /// topics were created before.
    ///
    /// # Errors
    /// [`CreateTopicError`]; nothing was created.
    pub(crate) fn create(&mut self, name: &str, partitions: i32) -> Result<Uuid, CreateTopicError> {
        let partitions = self.check(name, partitions)?;
        let id = Uuid::new_v5(&self.cluster, &self.created.to_be_bytes());
        self.created += 1;
        let partitions = std::iter::repeat_with(PartitionLog::default).take(partitions).collect();
        self.by_name.insert(name.to_owned(), Topic { id, partitions });
        Ok(id)
    }

    /// Deletes a topic with all its records.
    pub(crate) fn delete(&mut self, name: &str) -> Option<Topic> {
        self.by_name.remove(name)
    }
}

/// Source: Kafka's `org.apache.kafka.common.internals.Topic`.
fn is_legal(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_created_again_has_another_id() {
        let mut topics = Topics::new(Uuid::from_u128(1));
        let first = topics.create("prices", 3).unwrap();
        assert_eq!(topics.name_of(first), Some("prices"));
        assert_eq!(topics.delete("prices").unwrap().partitions().len(), 3);
        let second = topics.create("prices", 3).unwrap();
        assert_ne!(first, second);
        assert_eq!(topics.name_of(first), None);
    }

    #[test]
    fn names_and_partition_counts_follow_the_rules() {
        let mut topics = Topics::new(Uuid::from_u128(1));
        for name in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
            assert_eq!(topics.create(name, 1), Err(CreateTopicError::Name(name.to_owned())));
        }
        for partitions in [0, -5, 10_001, i32::MAX] {
            let refused = topics.create("ok", partitions).unwrap_err();
            assert_eq!(refused.code(), ResponseError::InvalidPartitions);
        }
        topics.create(&"x".repeat(249), 1).unwrap();
        topics.create("a.B_c-9", 10_000).unwrap();
        assert_eq!(topics.create("a.B_c-9", 1).unwrap_err().code(), ResponseError::TopicAlreadyExists);
    }

    #[test]
    fn partitions_that_are_not_there_are_none() {
        let mut topics = Topics::new(Uuid::from_u128(1));
        topics.create("prices", 2).unwrap();
        assert!(topics.partition("prices", 1).is_some());
        for (topic, partition) in [("prices", 2), ("prices", -1), ("other", 0)] {
            assert!(topics.partition(topic, partition).is_none());
        }
    }
}
