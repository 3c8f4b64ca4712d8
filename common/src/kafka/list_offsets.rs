//! Where the logs of partitions begin and end.
//!
//! Asked of the broker that leads them. To read_committed, a log ends at its last stable offset.
//!
//! Source: KIP-79, KIP-98 (isolation), KIP-320 (leader epochs).

use std::ops::RangeInclusive;

use kafka_protocol::messages::{
    BrokerId, ListOffsetsRequest, ListOffsetsResponse,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    aborted::Isolation,
    api::Api,
    by_topic::{Told, grouped},
    connection::Connection,
    error::KafkaError,
    group::accepted,
    shape::{
        Field,
        Kind::{Fixed, Structs, Text},
        field,
    },
};

impl Api for ListOffsetsRequest {
    const NAME: &'static str = "ListOffsets";
    /// 4 brings leader epochs.
    const TRIED: RangeInclusive<i16> = 4..=7;
    const ANSWER: &'static [Field] = &[
        field(Fixed(4)), // throttle time
        field(Structs(&[
            field(Text),                         // topic
            field(Structs(&[field(Fixed(26))])), // partition, error, timestamp, offset, leader epoch
        ])),
    ];
}

/// Which end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The offset of the oldest record that is still there.
    Earliest,
    /// The offset that the next record gets, as far as the isolation lets see.
    Latest,
}

/// One end of one partition's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndOf {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The leader epoch as Metadata tells it, so that a broker of another one refuses; -1 for whichever it is.
    pub leader_epoch: i32,
    /// Which end.
    pub end: End,
}

/// Where that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The offset.
    pub offset: i64,
    /// The leader epoch of the record there; -1 where unknown.
    pub leader_epoch: i32,
}

/// Asks for `ends`, of which each partition may be named once.
#[must_use]
pub fn request(isolation: Isolation, ends: &[EndOf]) -> ListOffsetsRequest {
    let topics = grouped(
        ends,
        |asked| &asked.topic,
        |asked| {
            ListOffsetsPartition::default()
                .with_partition_index(asked.partition)
                .with_current_leader_epoch(asked.leader_epoch)
                .with_timestamp(match asked.end {
                    End::Latest => -1,
                    End::Earliest => -2,
                })
        },
    );
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| ListOffsetsTopic::default().with_name(topic).with_partitions(partitions));
    // Not a replica.
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(isolation.level())
        .with_topics(topics.collect())
}

/// Where each of `ends` is, in their order, or why that partition's can't be told: NOT_LEADER_OR_FOLLOWER,
/// FENCED_LEADER_EPOCH, OFFSET_NOT_AVAILABLE (a new leader; ask again), …
///
/// # Errors
/// [`KafkaError::Useless`] where a partition is missing, or has no offset.
pub fn answer(
    response: ListOffsetsResponse,
    ends: &[EndOf],
) -> Result<Vec<Result<Listed, KafkaError>>, KafkaError> {
    let parts = response.topics.into_iter().flat_map(|found| {
        let topic = found.name;
        found.partitions.into_iter().map(move |part| (topic.clone(), part.partition_index, part))
    });
    let mut told = Told::new(ListOffsetsRequest::NAME, parts);
    ends.iter()
        .map(|asked| {
            let part = told.take(&asked.topic, asked.partition)?;
            let about = format!("{}/{}", asked.topic, asked.partition);
            if let Err(refused) = accepted(part.error_code, ListOffsetsRequest::NAME, &about) {
                return Ok(Err(refused));
            }
            if part.offset < 0 {
                let problem = format!("{} is no offset", part.offset);
                return Err(KafkaError::useless(ListOffsetsRequest::NAME, about, problem));
            }
            Ok(Ok(Listed { offset: part.offset, leader_epoch: part.leader_epoch }))
        })
        .collect()
}

/// Asks the broker for ends of partitions that it leads.
///
/// # Errors
/// What [`Connection::call`] gives, and [`answer`].
pub async fn list_offsets<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    isolation: Isolation,
    ends: &[EndOf],
) -> Result<Vec<Result<Listed, KafkaError>>, KafkaError> {
    answer(connection.call(&request(isolation, ends)).await?, ends)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{
        ResponseError,
        messages::{
            TopicName,
            list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        },
    };

    use super::{
        super::group::{testing::*, text},
        *,
    };

    fn asked() -> [EndOf; 2] {
        let end_of = |partition, end| EndOf { topic: "t".to_owned(), partition, leader_epoch: 3, end };
        [end_of(1, End::Earliest), end_of(0, End::Latest)]
    }

    /// Offset 40 for partition 0, and `code` for partition 1.
    fn response(code: i16) -> ListOffsetsResponse {
        let part = |partition, offset, code| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(partition)
                .with_offset(offset)
                .with_leader_epoch(9)
                .with_error_code(code)
        };
        let topic = ListOffsetsTopicResponse::default()
            .with_name(TopicName(text("t")))
            .with_partitions(vec![part(0, 40, 0), part(1, if code == 0 { 2 } else { -1 }, code)]);
        ListOffsetsResponse::default().with_topics(vec![topic])
    }

    #[test]
    fn ends_are_asked_for_by_kafkas_numbers() {
        for version in ListOffsetsRequest::TRIED {
            let asked = comes_back(&request(Isolation::ReadCommitted, &asked()), version);
            assert_eq!((asked.replica_id.0, asked.isolation_level), (-1, 1));
            let parts = asked.topics[0].partitions.iter();
            let parts: Vec<_> =
                parts.map(|it| (it.partition_index, it.timestamp, it.current_leader_epoch)).collect();
            assert_eq!(parts, [(1, -2, 3), (0, -1, 3)]);
        }
    }

    #[test]
    fn ends_come_in_the_order_asked_for_and_refusals_one_by_one() {
        let offsets = |code| {
            let found = answer(response(code), &asked()).unwrap().into_iter();
            found
                .map(|it| it.map(|it| (it.offset, it.leader_epoch)).map_err(|error| error.code()))
                .collect::<Vec<_>>()
        };
        assert_eq!(offsets(0), [Ok((2, 9)), Ok((40, 9))]);
        assert_eq!(offsets(78), [Err(Some(ResponseError::OffsetNotAvailable)), Ok((40, 9))]);
    }

    #[test]
    fn what_is_missing_is_no_offset() {
        let mut empty = response(0);
        empty.topics[0].partitions.pop();
        assert!(matches!(answer(empty, &asked()), Err(KafkaError::Useless { .. })));
        let mut negative = response(0);
        negative.topics[0].partitions[1].offset = -1;
        assert!(matches!(answer(negative, &asked()), Err(KafkaError::Useless { .. })));
    }

    #[test]
    fn the_shape_of_an_answer_is_described_rightly() {
        shape_is_right::<ListOffsetsRequest>(|_| response(6));
    }

    #[test]
    fn arbitrary_answers_never_panic() {
        never_panics::<ListOffsetsRequest>(|_| response(6), |answered| drop(answer(answered, &asked())));
    }
}
