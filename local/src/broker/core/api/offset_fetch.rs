//! OffsetFetch: what a group has committed, of the partitions named or of all that have a commit.
//!
//! `require_stable` (KIP-447) changes nothing here: without transactions every commit is stable.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::OffsetFetchRequest;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::protocol::StrBytes;

use super::super::Core;
use super::super::groups::{Commits, Committed};
use super::text;

/// The first version with several groups. Source: KIP-709.
const WITH_GROUPS: i16 = 8;

/// A topic and its partitions, as asked for or as found.
type Asked = (TopicName, Vec<i32>);

/// A topic and what there is for each of its partitions.
type Found = (TopicName, Vec<(i32, Option<Committed>)>);

pub(crate) fn handle(core: &Core, request: &OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    answer(request, version, |group, asked| Ok(find(core.groups.fetch(group)?, asked)))
}

pub(crate) fn refuse(
    request: &OffsetFetchRequest,
    version: i16,
    error: ResponseError,
) -> OffsetFetchResponse {
    answer(request, version, |_, _| Err(error))
}

/// What of `commits` was asked for; `None` is everything.
fn find(commits: Option<&Commits>, asked: Option<Vec<Asked>>) -> Vec<Found> {
    let committed = |topic: &str, partition| commits?.get(topic)?.get(&partition).cloned();
    match asked {
        Some(asked) => asked
            .into_iter()
            .map(|(topic, partitions)| {
                let found = partitions.into_iter().map(|partition| (partition, committed(&topic, partition)));
                let found = found.collect();
                (topic, found)
            })
            .collect(),
        None => commits
            .into_iter()
            .flatten()
            .map(|(topic, partitions)| {
                let found = partitions.iter().map(|(partition, found)| (*partition, Some(found.clone())));
                (TopicName(text(topic.clone())), found.collect())
            })
            .collect(),
    }
}

/// The response in the shape of its version: for one group, or for several.
fn answer(
    request: &OffsetFetchRequest,
    version: i16,
    outcome: impl Fn(&str, Option<Vec<Asked>>) -> Result<Vec<Found>, ResponseError>,
) -> OffsetFetchResponse {
    if version < WITH_GROUPS {
        let asked = request.topics.as_ref().map(|topics| {
            let asked = topics.iter().map(|topic| (topic.name.clone(), topic.partition_indexes.clone()));
            asked.collect::<Vec<_>>()
        });
        let outcome = outcome(&request.group_id, asked.clone());
        let code = super::code(&outcome);
        // Before version 2 there is no other place for an error than each partition.
        let found = outcome.unwrap_or_else(|_| find(None, asked));
        let topics = found.into_iter().map(|(name, partitions)| one_of_a_group(name, partitions, code));
        return OffsetFetchResponse::default().with_error_code(code).with_topics(topics.collect());
    }
    let groups = request.groups.iter().map(|group| {
        let asked = group.topics.as_ref().map(|topics| {
            topics.iter().map(|topic| (topic.name.clone(), topic.partition_indexes.clone())).collect()
        });
        let outcome = outcome(&group.group_id, asked);
        let code = super::code(&outcome);
        let topics = outcome.unwrap_or_default().into_iter();
        OffsetFetchResponseGroup::default()
            .with_group_id(group.group_id.clone())
            .with_error_code(code)
            .with_topics(topics.map(|(name, partitions)| one_of_several(name, partitions)).collect())
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

fn one_of_a_group(
    name: TopicName,
    partitions: Vec<(i32, Option<Committed>)>,
    code: i16,
) -> OffsetFetchResponseTopic {
    let partitions = partitions.into_iter().map(|(partition, found)| {
        let (offset, epoch, metadata) = parts(found);
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(Some(metadata))
            .with_error_code(code)
    });
    OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
}

fn one_of_several(name: TopicName, partitions: Vec<(i32, Option<Committed>)>) -> OffsetFetchResponseTopics {
    let partitions = partitions.into_iter().map(|(partition, found)| {
        let (offset, epoch, metadata) = parts(found);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(Some(metadata))
    });
    OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
}

/// Offset, leader epoch and metadata on the wire; -1 is "there is none".
fn parts(found: Option<Committed>) -> (i64, i32, StrBytes) {
    found.map_or((-1, -1, StrBytes::default()), |found| {
        (found.offset, found.leader_epoch, text(found.metadata))
    })
}
