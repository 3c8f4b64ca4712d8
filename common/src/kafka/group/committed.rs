//! What the group has committed.
//!
//! Offsets that a transaction has not yet decided are waited for where the version can say so
//! (UNSTABLE_OFFSET_COMMIT, KIP-447): reading on from an older offset would repeat.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{
    GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName,
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Committed, accepted, text};
use crate::kafka::{
    api::Api,
    connection::Connection,
    error::KafkaError,
    shape::{
        Field,
        Kind::{Fixed, Structs, Text},
        between, field, since,
    },
};

/// The first version that can wait for transactions.
const REQUIRE_STABLE: i16 = 7;
/// From this version on the groups are an array.
const SEVERAL: i16 = 8;

const TOPICS: &[Field] = &[
    field(Text), // topic
    field(Structs(&[
        field(Fixed(12)),   // partition, offset
        since(5, Fixed(4)), // leader epoch
        field(Text),        // metadata
        field(Fixed(2)),    // error
    ])),
];

impl Api for OffsetFetchRequest {
    const NAME: &'static str = "OffsetFetch";
    /// 10 names topics by their ids, and no broker speaks it yet.
    const TRIED: RangeInclusive<i16> = 1..=9;
    const ANSWER: &'static [Field] = &[
        since(3, Fixed(4)), // throttle time
        between(0, 7, Structs(TOPICS)),
        between(2, 7, Fixed(2)), // error
        since(
            SEVERAL,
            Structs(&[
                field(Text), // group
                field(Structs(TOPICS)),
                field(Fixed(2)), // error
            ]),
        ),
    ];
}

/// Asks what `group` has committed for `partitions` of `topic`.
#[must_use]
pub fn request(group: &str, topic: &str, partitions: &[i32], version: i16) -> OffsetFetchRequest {
    let (group, topic) = (GroupId(text(group)), TopicName(text(topic)));
    let request = OffsetFetchRequest::default().with_require_stable(version >= REQUIRE_STABLE);
    if version < SEVERAL {
        let topic =
            OffsetFetchRequestTopic::default().with_name(topic).with_partition_indexes(partitions.to_vec());
        return request.with_group_id(group).with_topics(Some(vec![topic]));
    }
    let topic =
        OffsetFetchRequestTopics::default().with_name(topic).with_partition_indexes(partitions.to_vec());
    // Without a member, as groups of the classic protocol are asked.
    let group = OffsetFetchRequestGroup::default().with_group_id(group).with_topics(Some(vec![topic]));
    request.with_groups(vec![group])
}

/// What `group` has committed for those of `partitions` of `topic` where it has.
///
/// # Errors
/// [`KafkaError::Refused`] for the group or any partition of them: UNSTABLE_OFFSET_COMMIT (ask again),
/// NOT_COORDINATOR and its kin, GROUP_AUTHORIZATION_FAILED, …; and [`KafkaError::Useless`] where a partition is
/// missing: nothing said is not nothing committed.
pub fn answer(
    response: OffsetFetchResponse,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<Committed>, KafkaError> {
    accepted(response.error_code, OffsetFetchRequest::NAME, group)?;
    let mut told: Vec<(i32, i16, Committed)> = Vec::new();
    let mut tell = |partition, offset, leader_epoch, metadata: Option<_>, code| {
        let metadata = metadata.map(|words: kafka_protocol::protocol::StrBytes| words.to_string());
        let metadata = metadata.unwrap_or_default();
        told.push((partition, code, Committed { partition, offset, leader_epoch, metadata }));
    };
    for found in response.topics.into_iter().filter(|found| found.name.as_str() == topic) {
        for it in found.partitions {
            tell(
                it.partition_index,
                it.committed_offset,
                it.committed_leader_epoch,
                it.metadata,
                it.error_code,
            );
        }
    }
    for found in response.groups.into_iter().filter(|found| found.group_id.as_str() == group) {
        accepted(found.error_code, OffsetFetchRequest::NAME, group)?;
        for found in found.topics.into_iter().filter(|found| found.name.as_str() == topic) {
            for it in found.partitions {
                tell(
                    it.partition_index,
                    it.committed_offset,
                    it.committed_leader_epoch,
                    it.metadata,
                    it.error_code,
                );
            }
        }
    }
    let mut committed = Vec::new();
    for partition in partitions {
        let about = || format!("{topic}/{partition} in group {group}");
        let Some((_, code, found)) = told.iter().find(|(number, ..)| number == partition) else {
            let problem = "it does not mention the partition";
            return Err(KafkaError::useless(OffsetFetchRequest::NAME, about(), problem));
        };
        accepted(*code, OffsetFetchRequest::NAME, &about())?;
        // -1 is Kafka's "none"; an offset is never negative.
        if found.offset >= 0 {
            committed.push(found.clone());
        }
    }
    Ok(committed)
}

/// Asks what `group` has committed for `partitions` of `topic`.
///
/// # Errors
/// What [`Connection::call`] gives, and [`answer`].
pub async fn committed<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<Committed>, KafkaError> {
    let version = connection.version_of::<OffsetFetchRequest>()?;
    let response = connection.call(&request(group, topic, partitions, version)).await?;
    answer(response, group, topic, partitions)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{
        ResponseError,
        messages::offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        },
    };

    use super::{super::testing::*, *};

    /// Partition 0 at offset 40 with words, partition 1 with nothing, partition 2 refused with `code`.
    fn response(version: i16, code: i16) -> OffsetFetchResponse {
        let told = [(0, 40, "words", 0), (1, -1, "", 0), (2, -1, "", code)];
        if version < SEVERAL {
            let partitions = told.map(|(partition, offset, metadata, code)| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(partition)
                    .with_committed_offset(offset)
                    .with_metadata(Some(text(metadata)))
                    .with_error_code(code)
            });
            let topic = OffsetFetchResponseTopic::default()
                .with_name(TopicName(text("t")))
                .with_partitions(partitions.to_vec());
            return OffsetFetchResponse::default().with_topics(vec![topic]);
        }
        let partitions = told.map(|(partition, offset, metadata, code)| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(partition)
                .with_committed_leader_epoch(6)
                .with_committed_offset(offset)
                .with_metadata(Some(text(metadata)))
                .with_error_code(code)
        });
        let topic = OffsetFetchResponseTopics::default()
            .with_name(TopicName(text("t")))
            .with_partitions(partitions.to_vec());
        let group =
            OffsetFetchResponseGroup::default().with_group_id(GroupId(text("g"))).with_topics(vec![topic]);
        OffsetFetchResponse::default().with_groups(vec![group])
    }

    #[test]
    fn partitions_are_asked_for_in_every_version() {
        for version in OffsetFetchRequest::TRIED {
            let asked = comes_back(&request("g", "t", &[2, 0], version), version);
            assert_eq!(asked.require_stable, version >= REQUIRE_STABLE);
            let partitions = if version < SEVERAL {
                asked.topics.unwrap().remove(0).partition_indexes
            } else {
                asked.groups[0].topics.as_ref().unwrap()[0].partition_indexes.clone()
            };
            assert_eq!(partitions, [2, 0]);
        }
    }

    #[test]
    fn only_what_is_committed_is_told() {
        for version in OffsetFetchRequest::TRIED {
            let found = answer(response(version, 0), "g", "t", &[0, 1]).unwrap();
            let epoch = if version < SEVERAL { -1 } else { 6 };
            assert_eq!(
                found,
                [Committed { partition: 0, offset: 40, leader_epoch: epoch, metadata: "words".to_owned() }]
            );
        }
    }

    #[test]
    fn a_partition_that_is_not_mentioned_is_not_one_without_a_commit() {
        for version in OffsetFetchRequest::TRIED {
            for (group, topic, partition) in [("g", "t", 3), ("g", "other", 0)] {
                let error = answer(response(version, 0), group, topic, &[partition]).unwrap_err();
                assert!(matches!(error, KafkaError::Useless { .. }), "{error}");
            }
        }
        assert!(answer(response(9, 0), "other", "t", &[0]).is_err());
    }

    #[test]
    fn refusals_keep_their_codes() {
        for version in OffsetFetchRequest::TRIED {
            for code in [3, 14, 16, 29, 30, 88, 999] {
                let error = answer(response(version, code), "g", "t", &[0, 2]).unwrap_err();
                assert_eq!(error.code().map(|error| error.code()), Some(code));
            }
        }
        let whole = OffsetFetchResponse::default().with_error_code(16);
        assert_eq!(answer(whole, "g", "t", &[0]).unwrap_err().code(), Some(ResponseError::NotCoordinator));
        let mut group = response(9, 0);
        (group.groups[0].error_code, group.groups[0].topics) = (113, Vec::new());
        assert_eq!(answer(group, "g", "t", &[0]).unwrap_err().code(), Some(ResponseError::StaleMemberEpoch));
    }

    #[test]
    fn the_shape_of_an_answer_is_described_rightly() {
        shape_is_right::<OffsetFetchRequest>(|version| response(version, 0));
    }

    #[test]
    fn arbitrary_answers_never_panic() {
        never_panics::<OffsetFetchRequest>(
            |version| response(version, 0),
            |answered| drop(answer(answered, "g", "t", &[0, 1, 2])),
        );
    }
}
