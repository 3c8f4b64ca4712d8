//! The edge over real sockets: frames, order, waiting, faults, the end. Everything is awaited, nothing is
//! timed.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest, RequestHeader, ResponseHeader,
    TopicName, fetch_request, produce_request,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request as WireRequest, StrBytes};
use kafka_protocol::records::Compression;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::super::core::test_batch;
use super::super::{Broker, BrokerConfig, BrokerError};
use super::*;

mod groups;

/// A client that shows what is on the wire.
struct Client {
    stream: TcpStream,
    sent: i32,
}

impl Client {
    async fn connect(broker: &Broker) -> Self {
        Self { stream: TcpStream::connect(broker.addr()).await.unwrap(), sent: 0 }
    }

    /// Sends without waiting for the answer; returns the correlation id.
    async fn send<R: WireRequest>(&mut self, request: &R, version: i16) -> i32 {
        self.sent += 1;
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.sent)
            .encode(&mut frame, R::header_version(version))
            .unwrap();
        request.encode(&mut frame, version).unwrap();
        let length = i32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await.unwrap();
        self.sent
    }

    /// The next answer with its correlation id; `None` when the broker hung up.
    async fn receive<R: WireRequest>(&mut self, version: i16) -> Option<(i32, R::Response)> {
        let length = self.stream.read_u32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await.ok()?;
        let mut frame = Bytes::from(frame);
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        Some((header.correlation_id, R::Response::decode(&mut frame, version).unwrap()))
    }

    async fn ask<R: WireRequest>(&mut self, request: &R, version: i16) -> Option<R::Response> {
        let sent = self.send(request, version).await;
        let (correlation, response) = self.receive::<R>(version).await?;
        assert_eq!(correlation, sent);
        Some(response)
    }

    async fn is_alive(&mut self) -> bool {
        self.ask(&ApiVersionsRequest::default(), 0).await.is_some()
    }

    async fn is_hung_up(&mut self) -> bool {
        self.stream.read_u8().await.is_err()
    }
}

async fn broker_with_topic() -> Broker {
    let broker = Broker::start(BrokerConfig::default()).await.unwrap();
    broker.create_topic("t", 1).unwrap();
    broker
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

fn produce(acks: i16) -> ProduceRequest {
    let partition = produce_request::PartitionProduceData::default().with_records(Some(test_batch(
        0,
        &[1_000],
        Compression::None,
    )));
    let topic =
        produce_request::TopicProduceData::default().with_name(topic()).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_topic_data(vec![topic])
}

/// A fetch that waits for an hour.
fn fetch(offset: i64) -> FetchRequest {
    let partition =
        fetch_request::FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = fetch_request::FetchTopic::default().with_topic(topic()).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(3_600_000)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic])
}

/// Starts a fetch on a connection of its own, and returns once the broker has seen it.
async fn waiting_fetch(broker: &Broker, offset: i64) -> JoinHandle<Option<(i16, i64)>> {
    let before = broker.faults().seen(ApiKey::Fetch);
    let mut client = Client::connect(broker).await;
    client.send(&fetch(offset), 12).await;
    while broker.faults().seen(ApiKey::Fetch) == before {
        tokio::task::yield_now().await;
    }
    tokio::spawn(async move {
        let (_, response) = client.receive::<FetchRequest>(12).await?;
        let partition = &response.responses[0].partitions[0];
        Some((partition.error_code, partition.high_watermark))
    })
}

#[tokio::test]
async fn bad_frames_close_their_connection_and_no_other() {
    let broker = broker_with_topic().await;
    let mut healthy = Client::connect(&broker).await;
    let frames: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 1, 9],
        &[0, 0, 0, 8, 0, 22, 0, 0, 0, 0, 0, 1],
        &[0, 0, 0, 8, 0, 1, 0, 17, 0, 0, 0, 1],
    ];
    for frame in frames {
        let mut client = Client::connect(&broker).await;
        client.stream.write_all(frame).await.unwrap();
        assert!(client.is_hung_up().await, "{frame:?}");
    }
    assert!(healthy.is_alive().await);
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let broker = broker_with_topic().await;
    let mut client = Client::connect(&broker).await;
    let first = client.send(&produce(-1), 9).await;
    let second = client.send(&MetadataRequest::default(), 12).await;
    let third = client.send(&fetch(0), 4).await;
    assert_eq!(client.receive::<ProduceRequest>(9).await.unwrap().0, first);
    let (correlation, metadata) = client.receive::<MetadataRequest>(12).await.unwrap();
    assert_eq!(correlation, second);
    assert_eq!(metadata.brokers[0].port, i32::from(broker.addr().port()));
    assert_eq!(client.receive::<FetchRequest>(4).await.unwrap().0, third);
}

#[tokio::test]
async fn produce_without_acks_gets_no_answer() {
    let broker = broker_with_topic().await;
    let mut client = Client::connect(&broker).await;
    client.send(&produce(0), 9).await;
    // The next answer belongs to the next request.
    assert!(client.is_alive().await);
    assert_eq!(broker.offsets("t", 0), Some(0..1));
}

#[tokio::test]
async fn waiting_fetch_is_woken_by_a_record() {
    let broker = broker_with_topic().await;
    let fetch = waiting_fetch(&broker, 0).await;
    Client::connect(&broker).await.ask(&produce(-1), 9).await.unwrap();
    assert_eq!(fetch.await.unwrap(), Some((0, 1)));
}

#[tokio::test]
async fn waiting_fetch_is_woken_by_the_end_of_its_topic() {
    let broker = broker_with_topic().await;
    let fetch = waiting_fetch(&broker, 0).await;
    broker.delete_topic("t").unwrap();
    assert_eq!(fetch.await.unwrap(), Some((3, -1)));
}

#[tokio::test]
async fn fetch_without_records_is_answered_when_its_time_is_over() {
    let broker = broker_with_topic().await;
    let mut client = Client::connect(&broker).await;
    let response = client.ask(&fetch(0).with_max_wait_ms(1), 12).await.unwrap();
    assert_eq!(response.responses[0].partitions[0].records.as_deref(), Some(&[][..]));
}

#[tokio::test]
async fn stop_ends_waiting_connections_and_frees_the_port() {
    let broker = broker_with_topic().await;
    let fetch = waiting_fetch(&broker, 0).await;
    let addr = broker.addr();
    broker.stop().await;
    assert_eq!(fetch.await.unwrap(), None);
    let config = BrokerConfig { listen: addr, ..BrokerConfig::default() };
    assert_eq!(Broker::start(config).await.unwrap().addr(), addr);
}

#[tokio::test]
async fn dropped_connections_are_those_that_were_there() {
    let broker = broker_with_topic().await;
    let mut old = Client::connect(&broker).await;
    assert!(old.is_alive().await);
    broker.faults().drop_connections();
    assert!(old.is_hung_up().await);
    assert!(Client::connect(&broker).await.is_alive().await);
}

#[tokio::test]
async fn dropped_request_does_nothing_and_lost_reply_does_all() {
    let broker = broker_with_topic().await;
    broker.faults().inject(ApiKey::Produce, Fault::Drop, 1);
    assert!(Client::connect(&broker).await.ask(&produce(-1), 9).await.is_none());
    assert_eq!(broker.offsets("t", 0), Some(0..0));

    broker.faults().inject(ApiKey::Produce, Fault::LoseReply, 1);
    assert!(Client::connect(&broker).await.ask(&produce(-1), 9).await.is_none());
    assert_eq!(broker.offsets("t", 0), Some(0..1));
    assert_eq!(broker.faults().pending(), 0);
}

#[tokio::test]
async fn error_is_answered_as_often_as_asked() {
    let broker = broker_with_topic().await;
    broker.faults().inject(ApiKey::Produce, Fault::Error(ResponseError::NotLeaderOrFollower), 2);
    let mut client = Client::connect(&broker).await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        let response = client.ask(&produce(-1), 9).await.unwrap();
        codes.push(response.responses[0].partition_responses[0].error_code);
    }
    assert_eq!(codes, [6, 6, 0]);
    assert_eq!((broker.offsets("t", 0), broker.faults().seen(ApiKey::Produce)), (Some(0..1), 3));
}

#[tokio::test]
async fn delayed_answer_is_late_and_its_work_is_not() {
    let broker = broker_with_topic().await;
    broker.faults().inject(ApiKey::Produce, Fault::Delay(Duration::from_hours(1)), 1);
    let mut slow = Client::connect(&broker).await;
    slow.send(&produce(-1), 9).await;
    // Waits for the append, which the hour would hold back.
    let fetched = Client::connect(&broker).await.ask(&fetch(0), 12).await.unwrap();
    assert_eq!(fetched.responses[0].partitions[0].high_watermark, 1);

    broker.faults().inject(ApiKey::Metadata, Fault::Delay(Duration::from_millis(1)), 1);
    assert!(Client::connect(&broker).await.ask(&MetadataRequest::default(), 12).await.is_some());
}

#[tokio::test]
async fn frozen_broker_accepts_and_does_the_work_later() {
    let broker = broker_with_topic().await;
    let mut before = Client::connect(&broker).await;
    assert!(before.is_alive().await);
    broker.faults().freeze();
    let mut during = Client::connect(&broker).await;
    let sent = during.send(&produce(-1), 9).await;
    // Gone without an answer; what it sent is still done.
    before.send(&produce(-1), 9).await;
    drop(before);
    while broker.faults().seen(ApiKey::Produce) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(broker.offsets("t", 0), Some(0..0));
    broker.faults().unfreeze();
    assert_eq!(during.receive::<ProduceRequest>(9).await.unwrap().0, sent);
    let both = Client::connect(&broker).await.ask(&fetch(1), 12).await.unwrap();
    assert_eq!(both.responses[0].partitions[0].high_watermark, 2);
}

#[tokio::test]
async fn broker_whose_folder_fails_stops_before_it_answers() {
    let dir = TempDir::new().unwrap();
    let config = BrokerConfig { data_dir: Some(dir.path().to_owned()), ..BrokerConfig::default() };
    let broker = Broker::start(config).await.unwrap();
    let id = broker.create_topic("t", 1).unwrap();
    // A folder where the file should be.
    std::fs::create_dir(dir.path().join(format!("logs/{id}-0.log"))).unwrap();
    let mut client = Client::connect(&broker).await;
    assert!(client.ask(&produce(-1), 9).await.is_none());
    assert!(matches!(broker.create_topic("u", 1), Err(BrokerError::Storage(_))));
    // Ends by itself.
    while TcpStream::connect(broker.addr()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn folder_in_use_is_an_error_that_names_it() {
    let dir = TempDir::new().unwrap();
    let config = BrokerConfig { data_dir: Some(dir.path().to_owned()), ..BrokerConfig::default() };
    let broker = Broker::start(config.clone()).await.unwrap();
    let refused = Broker::start(config.clone()).await.unwrap_err();
    assert!(refused.to_string().contains(dir.path().to_str().unwrap()), "{refused}");
    broker.stop().await;
    assert!(Broker::start(config).await.is_ok());
}
