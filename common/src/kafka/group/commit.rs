//! Committing offsets in the group's name.
//!
//! A commit is no fence: a broker takes one for any partition from any member of the current generation.

use std::{collections::BTreeMap, ops::RangeInclusive};

use kafka_protocol::{
    ResponseError,
    messages::{
        GroupId, OffsetCommitRequest, OffsetCommitResponse, TopicName,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    },
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Identity, Offset, optional, text};
use crate::kafka::{
    api::Api,
    connection::Connection,
    error::KafkaError,
    shape::{
        Field,
        Kind::{Fixed, Structs, Text},
        field, since,
    },
};

/// The first version with instance ids.
const INSTANCE_ID: i16 = 7;

impl Api for OffsetCommitRequest {
    const NAME: &'static str = "OffsetCommit";
    /// 10 names topics by their ids, and no broker speaks it yet.
    const TRIED: RangeInclusive<i16> = 2..=9;
    const ANSWER: &'static [Field] = &[
        since(3, Fixed(4)), // throttle time
        field(Structs(&[
            field(Text),                        // topic
            field(Structs(&[field(Fixed(6))])), // partition, error
        ])),
    ];
}

/// Commits `offsets` of `topic`. A member without an id and of generation -1 commits from outside the group,
/// which a broker allows while the group is empty.
#[must_use]
pub fn request(member: &Identity, topic: &str, offsets: &[Offset], _version: i16) -> OffsetCommitRequest {
    let partitions = offsets.iter().map(|offset| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(offset.partition)
            .with_committed_offset(offset.offset)
            .with_committed_leader_epoch(offset.leader_epoch)
            .with_committed_metadata(Some(text(&offset.metadata)))
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(partitions.collect());
    // The retention time stays -1: as long as the broker keeps offsets.
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(&member.group)))
        .with_generation_id_or_member_epoch(member.generation)
        .with_member_id(text(&member.member_id))
        .with_group_instance_id(optional(member.instance_id.as_ref()))
        .with_topics(vec![topic])
}

/// The partitions among `offsets` that were refused, or about which nothing is said, with why.
///
/// # Errors
/// [`KafkaError::Refused`] where it is the member or the group that is refused, and so every partition:
/// ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS, FENCED_INSTANCE_ID, NOT_COORDINATOR, …
pub fn answer(
    response: OffsetCommitResponse,
    group: &str,
    topic: &str,
    offsets: &[Offset],
) -> Result<Vec<(i32, KafkaError)>, KafkaError> {
    let partitions = response.topics.into_iter().filter(|told| told.name.as_str() == topic);
    let codes: BTreeMap<i32, i16> = partitions
        .flat_map(|told| told.partitions)
        .map(|partition| (partition.partition_index, partition.error_code))
        .collect();
    let mut refused = Vec::new();
    for &Offset { partition, .. } in offsets {
        let about = || format!("{topic}/{partition} in group {group}");
        match codes.get(&partition) {
            Some(0) => {}
            Some(&code) if is_about_the_group(code) => {
                return Err(KafkaError::refused(code, OffsetCommitRequest::NAME, group));
            }
            Some(&code) => {
                refused.push((partition, KafkaError::refused(code, OffsetCommitRequest::NAME, about())));
            }
            None => {
                let problem = "it does not mention the partition";
                refused.push((partition, KafkaError::useless(OffsetCommitRequest::NAME, about(), problem)));
            }
        }
    }
    Ok(refused)
}

fn is_about_the_group(code: i16) -> bool {
    use ResponseError::{
        CoordinatorLoadInProgress, CoordinatorNotAvailable, FencedInstanceId, FencedMemberEpoch,
        GroupAuthorizationFailed, GroupIdNotFound, IllegalGeneration, InvalidGroupId, NotCoordinator,
        RebalanceInProgress, StaleMemberEpoch, UnknownMemberId,
    };
    matches!(
        ResponseError::try_from_code(code),
        Some(
            CoordinatorLoadInProgress
                | CoordinatorNotAvailable
                | FencedInstanceId
                | FencedMemberEpoch
                | GroupAuthorizationFailed
                | GroupIdNotFound
                | IllegalGeneration
                | InvalidGroupId
                | NotCoordinator
                | RebalanceInProgress
                | StaleMemberEpoch
                | UnknownMemberId
        )
    )
}

/// Commits `offsets` of `topic`; what comes back was refused.
///
/// # Errors
/// What [`Connection::call`] gives, with [`KafkaError::Unsupported`] also where the broker is too old for an
/// instance id, and [`answer`].
pub async fn commit<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    member: &Identity,
    topic: &str,
    offsets: &[Offset],
) -> Result<Vec<(i32, KafkaError)>, KafkaError> {
    let oldest = member.oldest::<OffsetCommitRequest>(INSTANCE_ID);
    let version = connection.version_from::<OffsetCommitRequest>(oldest)?;
    let response = connection.call(&request(member, topic, offsets, version)).await?;
    answer(response, &member.group, topic, offsets)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::offset_commit_response::{
        OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    };

    use super::{super::testing::*, *};

    fn offset(partition: i32) -> Offset {
        Offset { partition, offset: 40, leader_epoch: 3, metadata: "words".to_owned() }
    }

    fn response(codes: &[(i32, i16)]) -> OffsetCommitResponse {
        let partitions = codes.iter().map(|(partition, code)| {
            OffsetCommitResponsePartition::default().with_partition_index(*partition).with_error_code(*code)
        });
        let topic = |name| OffsetCommitResponseTopic::default().with_name(TopicName(text(name)));
        let other = topic("other").with_partitions(vec![OffsetCommitResponsePartition::default()]);
        OffsetCommitResponse::default()
            .with_topics(vec![other, topic("t").with_partitions(partitions.collect())])
    }

    #[test]
    fn an_offset_reaches_the_coordinator_in_every_version() {
        for version in OffsetCommitRequest::TRIED {
            let asked = comes_back(&request(&member(), "t", &[offset(2)], version), version);
            assert_eq!((asked.generation_id_or_member_epoch, asked.retention_time_ms), (7, -1));
            let partition = &asked.topics[0].partitions[0];
            assert_eq!((partition.partition_index, partition.committed_offset), (2, 40));
            assert_eq!(partition.committed_leader_epoch, if version >= 6 { 3 } else { -1 });
            assert_eq!(partition.committed_metadata, Some(text("words")));
        }
    }

    #[test]
    fn refused_and_forgotten_partitions_are_named() {
        let offsets = [offset(0), offset(1), offset(2)];
        let refused = answer(response(&[(0, 0), (1, 12)]), "g", "t", &offsets).unwrap();
        assert_eq!(refused.iter().map(|(partition, _)| *partition).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(refused[0].1.code(), Some(ResponseError::OffsetMetadataTooLarge));
        assert_eq!(refused[1].1.code(), None);
        assert_eq!(
            refused[1].1.to_string(),
            "Kafka's answer to OffsetCommit about t/2 in group g can't be used: it does not mention the partition"
        );
        assert!(answer(response(&[(0, 0)]), "g", "t", &[offset(0)]).unwrap().is_empty());
    }

    #[test]
    fn a_member_that_is_refused_is_no_matter_of_partitions() {
        for code in [14, 15, 16, 22, 24, 25, 27, 30, 69, 82, 110, 113] {
            let error =
                answer(response(&[(0, 0), (1, code)]), "g", "t", &[offset(0), offset(1)]).unwrap_err();
            assert_eq!(error.code().map(|error| error.code()), Some(code));
        }
        for code in [3, 12, 28, 29, 999] {
            assert_eq!(answer(response(&[(0, code)]), "g", "t", &[offset(0)]).unwrap().len(), 1);
        }
    }

    #[test]
    fn the_shape_of_an_answer_is_described_rightly() {
        shape_is_right::<OffsetCommitRequest>(|_| response(&[(0, 0), (1, 12)]));
    }

    #[test]
    fn arbitrary_answers_never_panic() {
        never_panics::<OffsetCommitRequest>(
            |_| response(&[(0, 0), (1, 12)]),
            |answered| drop(answer(answered, "g", "t", &[offset(0)])),
        );
    }
}
