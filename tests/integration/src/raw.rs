//! Batches of records as a test wants them, which no ordinary client would write.

use std::io::{self, Write};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::write::GzEncoder;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName, TransactionalId};
use kafka_protocol::protocol::StrBytes;
pub use kafka_protocol::records::{Compression, Record};
use kafka_protocol::records::{RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use lz4_flex::frame::FrameEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::kafka::{Kafka, ask, now};

/// What a broker may take to append a batch.
const APPEND_MS: i32 = 30_000;

/// A record of nobody's, without key and headers, of now.
pub fn record(value: impl Into<Bytes>) -> Record {
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: -1,
        timestamp: now().timestamp_millis(),
        key: None,
        value: Some(value.into()),
        headers: Default::default(),
    }
}

/// One batch of `records`, in this order. They are all of one producer.
///
/// # Panics
/// When there are none, or they can't be compressed so.
pub fn batch(mut records: Vec<Record>, compression: Compression) -> Bytes {
    let first = records.first().map_or(-1, |record| record.sequence);
    for (number, record) in (0..).zip(&mut records) {
        record.offset = i64::from(number);
        // Without a producer's sequence the encoder wants to see one all the same: else each is a batch of its own.
        record.sequence = first + number;
    }
    let options = RecordEncodeOptions { version: 2, compression };
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode_with_custom_compression(
        &mut out,
        &records,
        &options,
        Some(|records: &mut BytesMut, out: &mut BytesMut, compression| {
            out.put_slice(&compressed(records, compression)?);
            Ok(())
        }),
    )
    .expect("encode a batch");
    out.freeze()
}

fn compressed(records: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(records.to_vec()),
        Compression::Gzip => {
            let mut out = GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(records)?;
            out.finish()
        }
        Compression::Lz4 => {
            let mut out = FrameEncoder::new(Vec::new());
            out.write_all(records)?;
            out.finish().map_err(io::Error::other)
        }
        Compression::Zstd => Ok(compress_to_vec(records, CompressionLevel::Fastest)),
        Compression::Snappy => Err(io::Error::other("no test needs Snappy here")),
    }
}

/// Appends `batch` as it is; the offset of its first record.
///
/// # Panics
/// When the broker refuses it.
pub async fn append(kafka: &Kafka, topic: &str, partition: i32, batch: Bytes) -> i64 {
    append_for(kafka, None, topic, partition, batch).await
}

/// Appends `batch` in a transaction.
///
/// # Panics
/// When the broker refuses it.
pub(crate) async fn append_for(
    kafka: &Kafka,
    transactional_id: Option<&str>,
    topic: &str,
    partition: i32,
    batch: Bytes,
) -> i64 {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let data = TopicProduceData::default().with_name(TopicName(text(topic))).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
        .with_acks(-1)
        .with_timeout_ms(APPEND_MS)
        .with_topic_data(vec![data]);
    // 9 is the first with flexible fields, and the last before transactions began by themselves is 11.
    let answer = ask(kafka.bootstrap(), &request, 9).await.expect("append a batch");
    let partitions: Vec<_> = answer.responses.iter().flat_map(|topic| &topic.partition_responses).collect();
    let [answer] = partitions[..] else { panic!("{answer:?}") };
    assert_eq!(answer.error_code, 0, "append a batch to {topic}/{partition}: {answer:?}");
    answer.base_offset
}
