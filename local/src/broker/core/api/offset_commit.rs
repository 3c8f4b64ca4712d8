//! OffsetCommit: a group's place in each partition, from its members or, while it has none, from anybody.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::OffsetCommitRequest;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use super::super::groups::{Committed, Sender};
use super::super::{Change, Core};
use super::optional;

pub(crate) fn handle(core: &mut Core, request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let sender = Sender {
        member_id: request.member_id.to_string(),
        instance_id: optional(request.group_instance_id.as_ref()),
        generation: request.generation_id_or_member_epoch,
    };
    // As in Kafka, a commit for unknown partitions only never gets to the coordinator.
    let known: BTreeSet<_> = request
        .topics
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|partition| (topic.name.as_str(), partition.partition_index))
        })
        .filter(|(topic, partition)| core.topics.partition(topic, *partition).is_some())
        .collect();
    let admitted = if known.is_empty() {
        Ok(())
    } else {
        core.groups.admit_commit(&core.settings, &request.group_id, &sender)
    };
    let mut changed = false;
    let response = answer(request, |topic, partition| {
        if !known.contains(&(topic, partition.partition_index)) {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        admitted?;
        commit(core, &request.group_id, topic, partition)?;
        changed = true;
        Ok(())
    });
    if changed {
        core.changes.push(Change::Commits);
    }
    response
}

pub(crate) fn refuse(request: &OffsetCommitRequest, error: ResponseError) -> OffsetCommitResponse {
    answer(request, |_, _| Err(error))
}

fn commit(
    core: &mut Core,
    group: &str,
    topic: &str,
    partition: &OffsetCommitRequestPartition,
) -> Result<(), ResponseError> {
    let topic_id = core.topics.get(topic).ok_or(ResponseError::UnknownTopicOrPartition)?.id();
    let metadata = optional(partition.committed_metadata.as_ref()).unwrap_or_default();
    if metadata.len() > core.settings.max_commit_metadata_bytes {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    let (offset, leader_epoch) = (partition.committed_offset, partition.committed_leader_epoch);
    let committed = Committed { topic_id, offset, leader_epoch, metadata };
    core.groups.commit(group, topic, partition.partition_index, committed);
    Ok(())
}

/// The response with the outcome of each partition.
fn answer(
    request: &OffsetCommitRequest,
    mut outcome: impl FnMut(&str, &OffsetCommitRequestPartition) -> Result<(), ResponseError>,
) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(super::code(&outcome(&topic.name, partition)))
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}
