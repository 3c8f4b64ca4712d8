//! Where a leader's epoch ended.
//!
//! Who has read up to an offset in some epoch asks the leader of today where that epoch ended. Before that
//! offset: the log was cut, by an unclean election or a restored cluster, and what was read is not what is there.
//!
//! Source: KIP-101, KIP-320, "Truncation detection".

use std::ops::RangeInclusive;

use kafka_protocol::messages::{
    BrokerId, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
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

impl Api for OffsetForLeaderEpochRequest {
    const NAME: &'static str = "OffsetForLeaderEpoch";
    /// 3 lets clients ask that are no replicas.
    const TRIED: RangeInclusive<i16> = 3..=4;
    const ANSWER: &'static [Field] = &[
        field(Fixed(4)), // throttle time
        field(Structs(&[
            field(Text),                         // topic
            field(Structs(&[field(Fixed(18))])), // error, partition, leader epoch, end offset
        ])),
    ];
}

/// An epoch of one partition's leaders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The leader epoch as Metadata tells it, so that a broker of another one refuses; -1 for whichever it is.
    pub current: i32,
    /// The epoch that is asked about: that of the last record that was read.
    pub epoch: i32,
}

/// The greatest epoch of the leader's log that is not greater than the one asked about, and where it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The epoch.
    pub epoch: i32,
    /// The offset after its last record: where the next epoch begins, or the log ends.
    pub end_offset: i64,
}

/// Asks where `epochs` ended, of which each partition may be named once.
#[must_use]
pub fn request(epochs: &[Epoch]) -> OffsetForLeaderEpochRequest {
    let topics = grouped(
        epochs,
        |asked| &asked.topic,
        |asked| {
            OffsetForLeaderPartition::default()
                .with_partition(asked.partition)
                .with_current_leader_epoch(asked.current)
                .with_leader_epoch(asked.epoch)
        },
    );
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetForLeaderTopic::default().with_topic(topic).with_partitions(partitions)
    });
    // Not a replica; the codec's default is another one.
    OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect())
}

/// Where each of `epochs` ended, in their order, or why that can't be told. `None`: the leader's log knows no
/// epoch so old.
///
/// # Errors
/// [`KafkaError::Useless`] where a partition is missing.
pub fn answer(
    response: OffsetForLeaderEpochResponse,
    epochs: &[Epoch],
) -> Result<Vec<Result<Option<Ended>, KafkaError>>, KafkaError> {
    let parts = response.topics.into_iter().flat_map(|found| {
        let topic = found.topic;
        found.partitions.into_iter().map(move |part| (topic.clone(), part.partition, part))
    });
    let mut told = Told::new(OffsetForLeaderEpochRequest::NAME, parts);
    epochs
        .iter()
        .map(|asked| {
            let part = told.take(&asked.topic, asked.partition)?;
            let about = format!("{}/{}", asked.topic, asked.partition);
            let known = part.leader_epoch >= 0 && part.end_offset >= 0;
            Ok(accepted(part.error_code, OffsetForLeaderEpochRequest::NAME, &about)
                .map(|()| known.then_some(Ended { epoch: part.leader_epoch, end_offset: part.end_offset })))
        })
        .collect()
}

/// Asks the broker where epochs of partitions that it leads ended.
///
/// # Errors
/// What [`Connection::call`] gives, and [`answer`].
pub async fn ended<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    epochs: &[Epoch],
) -> Result<Vec<Result<Option<Ended>, KafkaError>>, KafkaError> {
    answer(connection.call(&request(epochs)).await?, epochs)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{
        ResponseError,
        messages::{
            TopicName,
            offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
        },
    };

    use super::{
        super::group::{testing::*, text},
        *,
    };

    fn asked() -> [Epoch; 3] {
        [2, 0, 1].map(|partition| Epoch { topic: "t".to_owned(), partition, current: 9, epoch: 5 })
    }

    /// Epoch 4 and offset 40 for partition 0, no such epoch for 1, `code` for 2.
    fn response(code: i16) -> OffsetForLeaderEpochResponse {
        let part = |partition, epoch, offset, code| {
            EpochEndOffset::default()
                .with_partition(partition)
                .with_leader_epoch(epoch)
                .with_end_offset(offset)
                .with_error_code(code)
        };
        let topic = OffsetForLeaderTopicResult::default()
            .with_topic(TopicName(text("t")))
            .with_partitions(vec![part(0, 4, 40, 0), part(1, -1, -1, 0), part(2, -1, -1, code)]);
        OffsetForLeaderEpochResponse::default().with_topics(vec![topic])
    }

    #[test]
    fn epochs_are_asked_about_as_a_client() {
        for version in OffsetForLeaderEpochRequest::TRIED {
            let asked = comes_back(&request(&asked()), version);
            assert_eq!((asked.replica_id.0, asked.topics.len()), (-1, 1));
            let parts = asked.topics[0].partitions.iter();
            let parts: Vec<_> =
                parts.map(|it| (it.partition, it.current_leader_epoch, it.leader_epoch)).collect();
            assert_eq!(parts, [(2, 9, 5), (0, 9, 5), (1, 9, 5)]);
        }
    }

    #[test]
    fn an_epoch_that_is_too_old_is_told_from_one_that_ended_and_from_a_refusal() {
        let found = answer(response(74), &asked()).unwrap();
        assert_eq!(found[0].as_ref().unwrap_err().code(), Some(ResponseError::FencedLeaderEpoch));
        assert_eq!(found[1].as_ref().unwrap(), &Some(Ended { epoch: 4, end_offset: 40 }));
        assert_eq!(found[2].as_ref().unwrap(), &None);
        let error = answer(OffsetForLeaderEpochResponse::default(), &asked()).unwrap_err();
        assert!(matches!(error, KafkaError::Useless { .. }), "{error}");
    }

    #[test]
    fn the_shape_of_an_answer_is_described_rightly() {
        shape_is_right::<OffsetForLeaderEpochRequest>(|_| response(6));
    }

    #[test]
    fn arbitrary_answers_never_panic() {
        never_panics::<OffsetForLeaderEpochRequest>(
            |_| response(6),
            |answered| drop(answer(answered, &asked())),
        );
    }
}
