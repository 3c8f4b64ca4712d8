//! Bytes of several partitions' logs, from the broker that leads them.
//!
//! The records of an answer are slices of the frame that was received; [`record_batch`](super::record_batch)
//! reads them. A broker sends whole batches from disk: the first one may begin before the offset that was
//! asked for, and the last one may be cut off.
//!
//! Fetch sessions (KIP-227) are not used: every request names all its partitions, and every answer has all.
//!
//! Source: KIP-74 (limits), KIP-98 (isolation), KIP-320 (leader epochs), KIP-392 (reading from followers),
//! KIP-595 (a log that diverges).

use std::{ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse,
    fetch_request::{FetchPartition, FetchTopic},
    fetch_response::PartitionData,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    aborted::{AbortedTransaction, Isolation},
    api::Api,
    by_topic::{Told, grouped},
    connection::Connection,
    error::KafkaError,
    group::{accepted, millis},
    shape::{
        Field,
        Kind::{Blob, Fixed, Structs, Text},
        field,
    },
};

/// No request asks for more: half of what a connection takes as an answer, as its first batch comes whole.
pub const MOST_BYTES: i32 = 32 << 20;

impl Api for FetchRequest {
    const NAME: &'static str = "Fetch";
    /// 12 tells where logs diverge, and of new leaders; from 13 on topics go by their ids.
    const TRIED: RangeInclusive<i16> = 12..=12;
    const ANSWER: &'static [Field] = &[
        field(Fixed(10)), // throttle time, error, session
        field(Structs(&[
            field(Text), // topic
            field(Structs(&[
                field(Fixed(30)), // partition, error, high watermark, last stable, log start
                field(Structs(&[field(Fixed(16))])), // aborted: producer, first offset
                field(Fixed(4)),  // preferred read replica
                field(Blob),      // records
            ])),
        ])),
    ];
}

/// A question for records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// How long the broker may wait until there are `min_bytes`.
    pub max_wait: Duration,
    /// With fewer bytes in all partitions together the broker waits.
    pub min_bytes: i32,
    /// How many bytes to send of all partitions together, up to [`MOST_BYTES`]. The first batch of the first
    /// partition that has one comes whole, though.
    pub max_bytes: i32,
    /// Which transactions' records are wanted.
    pub isolation: Isolation,
    /// The partitions; those that come first get their bytes first. Each one once.
    pub partitions: Vec<Position>,
}

/// Where to read a partition from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the first record that is wanted.
    pub offset: i64,
    /// The leader epoch as Metadata tells it, so that a broker of another one refuses; -1 for whichever it is.
    pub leader_epoch: i32,
    /// The leader epoch of the batch that ends where this begins, so that a leader whose log diverges before says so;
    /// -1 where it is not known.
    pub last_epoch: i32,
    /// How many bytes to send of this partition.
    pub max_bytes: i32,
}

/// What came for one partition.
#[derive(Debug)]
pub struct Fetched {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its records, or why there are none: OFFSET_OUT_OF_RANGE, NOT_LEADER_OR_FOLLOWER,
    /// FENCED_LEADER_EPOCH, …
    pub log: Result<Log, KafkaError>,
    /// The leader's log has less of the last epoch than was read, or never had it: the greatest epoch below, and where
    /// that ends in it. `log` is then empty (KIP-595).
    pub diverged: Option<Diverged>,
    /// Who leads it now, node and epoch, where the broker that was asked does not.
    pub leader: Option<(i32, i32)>,
}

/// Where a leader's log parts from the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diverged {
    /// The last epoch that both have.
    pub epoch: i32,
    /// The offset after its last record in the leader's log.
    pub end: i64,
}

/// A part of a partition's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Batches; empty where there are none from the offset on. A slice of the whole answer's memory.
    pub records: Bytes,
    /// The offset after the last record that all in-sync replicas have.
    pub high_watermark: i64,
    /// Where the first open transaction begins, else the high watermark; -1 where not told.
    pub last_stable_offset: i64,
    /// The offset of the oldest record that is still there; -1 where not told.
    pub log_start_offset: i64,
    /// Transactions given up that `records` may hold records of; told for read_committed only.
    pub aborted: Vec<AbortedTransaction>,
    /// The node that the broker would rather have it read from. `records` is then empty.
    pub preferred_replica: Option<i32>,
}

/// Asks for records.
#[must_use]
pub fn request(fetch: &Fetch) -> FetchRequest {
    let topics = grouped(
        &fetch.partitions,
        |position| &position.topic,
        |position| {
            FetchPartition::default()
                .with_partition(position.partition)
                .with_current_leader_epoch(position.leader_epoch)
                .with_fetch_offset(position.offset)
                .with_last_fetched_epoch(position.last_epoch)
                .with_partition_max_bytes(position.max_bytes.min(MOST_BYTES))
        },
    );
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| FetchTopic::default().with_topic(topic).with_partitions(partitions));
    FetchRequest::default()
        // Not a replica, and no session.
        .with_replica_id(BrokerId(-1))
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_max_wait_ms(millis(fetch.max_wait))
        .with_min_bytes(fetch.min_bytes)
        .with_max_bytes(fetch.max_bytes.min(MOST_BYTES))
        .with_isolation_level(fetch.isolation.level())
        .with_topics(topics.collect())
}

/// What came for each of the partitions of `fetch`, in their order.
///
/// # Errors
/// [`KafkaError::Refused`] for the whole, and [`KafkaError::Useless`] where a partition is missing.
pub fn answer(response: FetchResponse, fetch: &Fetch) -> Result<Vec<Fetched>, KafkaError> {
    accepted(response.error_code, FetchRequest::NAME, "all partitions")?;
    let parts = response.responses.into_iter().flat_map(|found| {
        let topic = found.topic;
        found.partitions.into_iter().map(move |part| (topic.clone(), part.partition_index, part))
    });
    let mut told = Told::new(FetchRequest::NAME, parts);
    fetch
        .partitions
        .iter()
        .map(|position| {
            let part = told.take(&position.topic, position.partition)?;
            let leader = &part.current_leader;
            let leader = Some((leader.leader_id.0, leader.leader_epoch)).filter(|(node, _)| *node >= 0);
            let about = format!("{}/{}", position.topic, position.partition);
            let diverged = &part.diverging_epoch;
            let diverged = (diverged.epoch >= 0 || diverged.end_offset >= 0)
                .then_some(Diverged { epoch: diverged.epoch, end: diverged.end_offset });
            let log = accepted(part.error_code, FetchRequest::NAME, &about).map(|()| log(part));
            Ok(Fetched {
                topic: position.topic.clone(),
                partition: position.partition,
                log,
                diverged,
                leader,
            })
        })
        .collect()
}

fn log(part: PartitionData) -> Log {
    let aborted = part.aborted_transactions.unwrap_or_default().into_iter();
    Log {
        records: part.records.unwrap_or_default(),
        high_watermark: part.high_watermark,
        last_stable_offset: part.last_stable_offset,
        log_start_offset: part.log_start_offset,
        aborted: aborted
            .map(|it| AbortedTransaction { producer_id: it.producer_id.0, first_offset: it.first_offset })
            .collect(),
        preferred_replica: Some(part.preferred_read_replica.0).filter(|node| *node >= 0),
    }
}

/// Asks the broker for records of partitions that it leads.
///
/// # Errors
/// What [`Connection::call`] gives, and [`answer`].
///
/// # Cancel safety
/// That of [`Connection::call`]; asking again is always right.
pub async fn fetch<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    fetch: &Fetch,
) -> Result<Vec<Fetched>, KafkaError> {
    let limit = connection.request_limit().saturating_add(fetch.max_wait);
    answer(connection.call_within(limit, &request(fetch)).await?, fetch)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::{
        ResponseError,
        messages::{
            ProducerId, TopicName,
            fetch_response::{
                AbortedTransaction as Aborted, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch,
            },
        },
        protocol::{Decodable, Encodable},
    };

    use super::{
        super::group::{testing::*, text},
        *,
    };

    fn position(topic: &str, partition: i32, offset: i64) -> Position {
        Position {
            topic: topic.to_owned(),
            partition,
            offset,
            leader_epoch: 3,
            last_epoch: 2,
            max_bytes: 1 << 20,
        }
    }

    fn two() -> Fetch {
        Fetch {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: i32::MAX,
            isolation: Isolation::ReadCommitted,
            partitions: vec![position("t", 1, 40), position("t", 0, 7)],
        }
    }

    /// Records for partition 0, and `code` for partition 1.
    fn response(code: i16) -> FetchResponse {
        let aborted = Aborted::default().with_producer_id(ProducerId(7)).with_first_offset(3);
        let found = PartitionData::default()
            .with_high_watermark(50)
            .with_last_stable_offset(48)
            .with_log_start_offset(2)
            .with_aborted_transactions(Some(vec![aborted]))
            .with_records(Some(Bytes::from_static(b"batches")));
        let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(2)).with_leader_epoch(9);
        let mut refused = PartitionData::default()
            .with_partition_index(1)
            .with_error_code(code)
            .with_high_watermark(-1)
            .with_aborted_transactions(None)
            .with_records(None);
        refused.current_leader = leader;
        let topic = FetchableTopicResponse::default()
            .with_topic(TopicName(text("t")))
            .with_partitions(vec![found, refused]);
        FetchResponse::default().with_responses(vec![topic])
    }

    #[test]
    fn a_request_names_each_partition_and_no_session() {
        for version in FetchRequest::TRIED {
            let asked = comes_back(&request(&two()), version);
            assert_eq!((asked.replica_id.0, asked.session_id, asked.session_epoch), (-1, 0, -1));
            assert_eq!((asked.max_wait_ms, asked.min_bytes, asked.max_bytes), (500, 1, MOST_BYTES));
            assert_eq!((asked.isolation_level, asked.topics.len()), (1, 1));
            let partitions = asked.topics[0].partitions.iter();
            let partitions: Vec<_> = partitions
                .map(|it| (it.partition, it.fetch_offset, it.current_leader_epoch, it.partition_max_bytes))
                .collect();
            assert_eq!(partitions, [(1, 40, 3, 1 << 20), (0, 7, 3, 1 << 20)]);
        }
    }

    #[test]
    fn one_partitions_refusal_is_not_the_others() {
        let found = answer(response(6), &two()).unwrap();
        let error = found[0].log.as_ref().unwrap_err();
        assert_eq!(error.code(), Some(ResponseError::NotLeaderOrFollower));
        assert!(error.to_string().ends_with("to Fetch about t/1"), "{error}");
        assert_eq!(found[0].leader, Some((2, 9)));
        let log = Log {
            records: Bytes::from_static(b"batches"),
            high_watermark: 50,
            last_stable_offset: 48,
            log_start_offset: 2,
            aborted: vec![AbortedTransaction { producer_id: 7, first_offset: 3 }],
            preferred_replica: None,
        };
        assert_eq!((found[1].partition, found[1].log.as_ref().unwrap(), found[1].leader), (0, &log, None));
    }

    #[test]
    fn a_log_that_diverges_is_told() {
        assert_eq!(comes_back(&request(&two()), 12).topics[0].partitions[0].last_fetched_epoch, 2);
        let mut cut = response(0);
        cut.responses[0].partitions[1].diverging_epoch =
            EpochEndOffset::default().with_epoch(1).with_end_offset(30);
        let mut bytes = BytesMut::new();
        cut.encode(&mut bytes, 12).unwrap();
        let found = answer(FetchResponse::decode(&mut bytes.freeze(), 12).unwrap(), &two()).unwrap();
        assert_eq!(found[0].diverged, Some(Diverged { epoch: 1, end: 30 }));
        assert_eq!(found[1].diverged, None);
    }

    #[test]
    fn no_records_are_no_bytes() {
        let found = answer(response(0), &two()).unwrap();
        assert!(found[0].log.as_ref().unwrap().records.is_empty());
    }

    #[test]
    fn an_answer_without_a_partition_and_one_that_is_refused_are_errors() {
        let mut asked = two();
        asked.partitions[1].partition = 5;
        assert!(matches!(answer(response(0), &asked), Err(KafkaError::Useless { .. })));
        let refused = FetchResponse::default().with_error_code(71);
        assert_eq!(
            answer(refused, &two()).unwrap_err().code(),
            Some(ResponseError::InvalidFetchSessionEpoch)
        );
    }

    #[test]
    fn records_are_a_slice_of_the_answer() {
        for version in FetchRequest::TRIED {
            let mut bytes = BytesMut::new();
            response(0).encode(&mut bytes, version).unwrap();
            let bytes = bytes.freeze();
            let decoded = FetchResponse::decode(&mut bytes.clone(), version).unwrap();
            let records = decoded.responses[0].partitions[0].records.clone().unwrap();
            assert!(bytes.as_ptr_range().contains(&records.as_ptr()), "{version}");
        }
    }

    #[test]
    fn the_shape_of_an_answer_is_described_rightly() {
        shape_is_right::<FetchRequest>(|_| response(6));
    }

    #[test]
    fn arbitrary_answers_never_panic() {
        never_panics::<FetchRequest>(|_| response(6), |answered| drop(answer(answered, &two())));
    }
}
