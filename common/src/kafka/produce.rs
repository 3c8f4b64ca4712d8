//! Batches to the partitions that one broker leads, and the id that makes a batch one that is appended once.
//!
//! A producer with an id numbers its records, partition by partition. A broker appends a batch only where its first
//! number is the next one, and answers a batch that it has already as if it had just been appended. So a batch
//! whose answer was lost is sent again, as it was, and is in the log once.
//!
//! This is spoken here and not by rskafka, because rskafka has no such ids, and yet sends a batch again by itself:
//! where the connection broke, and where the broker's answer, which says that the batch was appended, also asks
//! to be left alone for a moment (a quota).
//!
//! Source: KIP-98 (idempotent producers), KIP-360 (their errors), KIP-467 (messages to errors).

use std::{ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use kafka_protocol::messages::{
    InitProducerIdRequest, ProduceRequest, ProduceResponse, TopicName,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    api::Api,
    by_topic::Told,
    connection::Connection,
    error::KafkaError,
    group::{accepted, millis, text},
    shape::{
        Field,
        Kind::{Fixed, Structs, Text},
        field,
    },
};

/// All in-sync replicas have to have a batch before it is acknowledged.
const ALL_IN_SYNC: i16 = -1;

impl Api for ProduceRequest {
    const NAME: &'static str = "Produce";
    /// 8 says in words why, 9 is the first flexible one, from 13 on topics go by their ids.
    const TRIED: RangeInclusive<i16> = 8..=9;
    const ANSWER: &'static [Field] = &[
        field(Structs(&[
            field(Text), // topic
            field(Structs(&[
                field(Fixed(30)), // partition, error, first offset, append time, log start
                field(Structs(&[field(Fixed(4)), field(Text)])), // record, what is wrong with it
                field(Text),      // why
            ])),
        ])),
        field(Fixed(4)), // throttle time
    ];
}

impl Api for InitProducerIdRequest {
    const NAME: &'static str = "InitProducerId";
    const TRIED: RangeInclusive<i16> = 0..=4;
    const ANSWER: &'static [Field] = &[field(Fixed(16))]; // throttle time, error, id, epoch
}

/// A producer that brokers know again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerId {
    /// The id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// Asks for an id of our own.
///
/// # Errors
/// What [`Connection::call`] gives, [`KafkaError::Unsupported`] among it, and [`KafkaError::Refused`]:
/// COORDINATOR_LOAD_IN_PROGRESS and others for a moment, CLUSTER_AUTHORIZATION_FAILED where this client may not be
/// idempotent.
pub async fn producer_id<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
) -> Result<ProducerId, KafkaError> {
    // No transactions, so that their time-out is of no account.
    let request =
        InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    let answer = connection.call(&request).await?;
    accepted(answer.error_code, InitProducerIdRequest::NAME, "a producer's id")?;
    Ok(ProducerId { id: answer.producer_id.0, epoch: answer.producer_epoch })
}

/// Asks to append one batch to each of some partitions of `topic`; the broker waits for the replicas for `wait`.
#[must_use]
pub fn request(topic: &str, batches: &[(i32, Bytes)], wait: Duration) -> ProduceRequest {
    let partition = |(partition, batch): &(i32, Bytes)| {
        PartitionProduceData::default().with_index(*partition).with_records(Some(batch.clone()))
    };
    let data = TopicProduceData::default()
        .with_name(TopicName(text(topic)))
        .with_partition_data(batches.iter().map(partition).collect());
    ProduceRequest::default().with_acks(ALL_IN_SYNC).with_timeout_ms(millis(wait)).with_topic_data(vec![data])
}

/// Why a batch was not appended, or not acknowledged.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAcknowledged {
    /// The protocol's error code.
    pub code: i16,
    /// What the broker says about it, if anything.
    pub message: Option<String>,
    /// Its first offset in the leader's log, where it was appended there all the same, and the replicas did not follow;
    /// else -1.
    pub offset: i64,
}

/// The first offset of each batch in the log, in the order of `partitions`, or why it has none.
///
/// # Errors
/// [`KafkaError::Useless`] where a partition is missing.
pub fn answer(
    response: ProduceResponse,
    topic: &str,
    partitions: impl IntoIterator<Item = i32>,
) -> Result<Vec<Result<i64, NotAcknowledged>>, KafkaError> {
    let parts = response.responses.into_iter().flat_map(|found| {
        let topic = found.name;
        found.partition_responses.into_iter().map(move |part| (topic.clone(), part.index, part))
    });
    let mut told = Told::new(ProduceRequest::NAME, parts);
    partitions
        .into_iter()
        .map(|partition| {
            let part = told.take(topic, partition)?;
            Ok(if part.error_code == 0 {
                Ok(part.base_offset)
            } else {
                let of_record =
                    part.record_errors.into_iter().find_map(|error| error.batch_index_error_message);
                let message = part.error_message.or(of_record).map(|words| words.to_string());
                Err(NotAcknowledged { code: part.error_code, message, offset: part.base_offset })
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};

    use super::*;

    fn response(parts: Vec<PartitionProduceResponse>) -> ProduceResponse {
        let topic =
            TopicProduceResponse::default().with_name(TopicName(text("t"))).with_partition_responses(parts);
        ProduceResponse::default().with_responses(vec![topic])
    }

    #[test]
    fn every_replica_is_waited_for() {
        let request = request("t", &[(3, Bytes::from_static(b"b"))], Duration::from_secs(2));
        assert_eq!((request.acks, request.timeout_ms), (-1, 2_000));
        assert_eq!(request.topic_data[0].partition_data[0].index, 3);
    }

    #[test]
    fn answers_are_told_apart_whatever_their_order() {
        let part = |index, code, offset| {
            PartitionProduceResponse::default()
                .with_index(index)
                .with_error_code(code)
                .with_base_offset(offset)
        };
        let refused = part(1, 10, -1).with_error_message(Some(text("too large")));
        let told = answer(response(vec![part(0, 0, 42), refused]), "t", [1, 0]).unwrap();
        let too_large = NotAcknowledged { code: 10, message: Some("too large".to_owned()), offset: -1 };
        assert_eq!(told, [Err(too_large), Ok(42)]);
    }

    #[test]
    fn a_partition_without_an_answer_is_not_acknowledged() {
        let error = answer(response(vec![]), "t", [5]).unwrap_err();
        assert!(matches!(&error, KafkaError::Useless { about, .. } if about == "t/5"), "{error}");
    }
}
