//! `groups.json`: what groups have committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::core::{Commits, Committed, Groups, Topics};
use super::{Format, Id};

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredGroups {
    format: Format,
    /// By group, topic and partition.
    groups: BTreeMap<String, BTreeMap<String, BTreeMap<i32, StoredCommit>>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCommit {
    topic_id: Id,
    offset: i64,
    leader_epoch: i32,
    metadata: String,
}

impl StoredGroups {
    pub(super) fn of(groups: &Groups) -> Self {
        let stored = |commits: &Commits| {
            let topics = commits.iter().map(|(topic, partitions)| {
                let partitions = partitions.iter().map(|(partition, commit)| (*partition, commit.into()));
                (topic.clone(), partitions.collect())
            });
            topics.collect()
        };
        let groups = groups.commits().map(|(id, commits)| (id.to_owned(), stored(commits)));
        Self { format: Format, groups: groups.collect() }
    }

    /// The commits for topics that are still there: the process may have been killed between the deletion
    /// of a topic and that of its commits.
    pub(super) fn restore(self, topics: &Topics) -> BTreeMap<String, Commits> {
        let is_there = |topic: &str, commit: &StoredCommit| {
            topics.get(topic).is_some_and(|found| found.id() == commit.topic_id.0)
        };
        let mut groups: BTreeMap<String, Commits> = BTreeMap::new();
        for (group, by_topic) in self.groups {
            for (topic, by_partition) in by_topic {
                for (partition, commit) in
                    by_partition.into_iter().filter(|(_, commit)| is_there(&topic, commit))
                {
                    let commits = groups.entry(group.clone()).or_default();
                    commits.entry(topic.clone()).or_default().insert(partition, commit.into());
                }
            }
        }
        groups
    }
}

impl From<&Committed> for StoredCommit {
    fn from(commit: &Committed) -> Self {
        Self {
            topic_id: Id(commit.topic_id),
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            metadata: commit.metadata.clone(),
        }
    }
}

impl From<StoredCommit> for Committed {
    fn from(stored: StoredCommit) -> Self {
        Self {
            topic_id: stored.topic_id.0,
            offset: stored.offset,
            leader_epoch: stored.leader_epoch,
            metadata: stored.metadata,
        }
    }
}
