//! The real Kafka: found, and used as people use one, independently of the pipeline's own code where that
//! is what is tested.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use coinduit_common::clock::Clock;
use coinduit_common::kafka::{
    bootstrap::Bootstrap,
    dialer::Dialer,
    metadata::{self, Topic},
    security::Security,
};
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use ring::pbkdf2;
use rskafka::BackoffConfig;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
pub use rskafka::record::{Record, RecordAndOffset};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::services::{self, Address};
use crate::wait::until;

/// An answer of a broker that may be away is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the controller may take.
const CONTROLLER_MS: i32 = 30_000;

/// A cluster.
#[derive(Debug)]
pub struct Kafka {
    bootstrap: Address,
    client: Client,
}

impl Kafka {
    /// The cluster that the environment names, or else one that is started for the tests of this process.
    ///
    /// # Panics
    /// When there is none, or it does not answer.
    pub async fn find() -> Self {
        Self::of(services::kafka().await).await
    }

    /// The cluster at these addresses.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn at(bootstrap: &str) -> Self {
        Self::of(Address::given(bootstrap)).await
    }

    async fn of(bootstrap: Address) -> Self {
        Self { client: connect(&bootstrap).await, bootstrap }
    }

    /// Its addresses.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A topic's name that nobody has used.
    pub fn unused_name(what: &str) -> String {
        format!("coinduit-test-{what}-{}", Uuid::new_v4().simple())
    }

    /// Creates `topic`, and waits until each partition takes records.
    ///
    /// # Panics
    /// When that fails.
    pub async fn create(&self, topic: &str, partitions: i32) {
        self.create_with_copies(topic, partitions, 1).await;
    }

    /// Creates `topic` with each partition on so many brokers, and waits until each takes records.
    ///
    /// # Panics
    /// When that fails.
    pub async fn create_with_copies(&self, topic: &str, partitions: i32, copies: i16) {
        let controller = self.client.controller_client().expect("a client has a controller client");
        controller.create_topic(topic, partitions, copies, CONTROLLER_MS).await.expect("create a topic");
        for partition in 0..partitions {
            self.end(topic, partition).await;
        }
    }

    /// Creates `topic` with one partition for each list of brokers, the first of which leads it, and with these
    /// settings; waits until each takes records.
    ///
    /// # Panics
    /// When that fails.
    pub async fn create_as(&self, topic: &str, brokers: &[&[i32]], settings: &[(&str, &str)]) {
        assert!(self.try_create_as(topic, brokers, settings).await, "create {topic}");
        for (partition, _) in (0..).zip(brokers) {
            self.end(topic, partition).await;
        }
    }

    /// Tries to: whether it is created. Nobody has waited for it then.
    ///
    /// # Panics
    /// When the cluster can't be asked.
    pub async fn try_create_as(&self, topic: &str, brokers: &[&[i32]], settings: &[(&str, &str)]) -> bool {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let assignments = (0..).zip(brokers).map(|(partition, brokers)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(partition)
                .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
        });
        let settings = settings.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        });
        let wish = CreatableTopic::default()
            .with_name(TopicName(text(topic)))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(assignments.collect())
            .with_configs(settings.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![wish]).with_timeout_ms(CONTROLLER_MS);
        let answer = ask(&self.bootstrap, &request, 7).await.expect("create a topic");
        answer.topics.iter().all(|topic| topic.error_code == 0)
    }

    /// Deletes `topic`, and waits until it is gone.
    ///
    /// # Panics
    /// When that fails.
    pub async fn delete(&self, topic: &str) {
        let controller = self.client.controller_client().expect("a client has a controller client");
        controller.delete_topic(topic, CONTROLLER_MS).await.expect("delete a topic");
        until("the topic is gone", async || !self.has(topic).await).await;
    }

    /// Gives `user` this password for both kinds of SCRAM.
    ///
    /// # Panics
    /// When that fails.
    pub async fn set_password(&self, user: &str, password: &str) {
        const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");
        for (mechanism, algorithm, bytes) in
            [(1, pbkdf2::PBKDF2_HMAC_SHA256, 32), (2, pbkdf2::PBKDF2_HMAC_SHA512, 64)]
        {
            let salt = b"salt of a test";
            let mut salted = vec![0; bytes];
            pbkdf2::derive(algorithm, ROUNDS, salt, password.as_bytes(), &mut salted);
            let credential = ScramCredentialUpsertion::default()
                .with_name(StrBytes::from_string(user.to_owned()))
                .with_mechanism(mechanism)
                .with_iterations(4096)
                .with_salt(Bytes::from_static(salt))
                .with_salted_password(salted.into());
            let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![credential]);
            let answer = ask(&self.bootstrap, &request, 0).await.expect("set a password");
            let codes: Vec<i16> = answer.results.iter().map(|result| result.error_code).collect();
            assert_eq!(codes, [0], "{answer:?}");
        }
    }

    /// Whether there is such a topic. Asking creates none.
    ///
    /// # Panics
    /// When the cluster can't be asked.
    pub async fn has(&self, topic: &str) -> bool {
        let topics = self.client.list_topics().await.expect("list topics");
        topics.iter().any(|found| found.name == topic)
    }

    /// Raises `topic`'s number of partitions to `total`.
    ///
    /// # Panics
    /// When that fails.
    pub async fn add_partitions(&mut self, topic: &str, total: i32) {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let change =
            CreatePartitionsTopic::default().with_name(name).with_count(total).with_assignments(None);
        let request =
            CreatePartitionsRequest::default().with_topics(vec![change]).with_timeout_ms(CONTROLLER_MS);
        let answer = ask(&self.bootstrap, &request, 3).await.expect("add partitions");
        let codes: Vec<i16> = answer.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0], "{answer:?}");
        let all: Vec<i32> = (0..total).collect();
        until("the partitions are there", async || self.describe(topic).await.partitions == all).await;
        // rskafka remembers which partitions a topic had.
        self.client = connect(&self.bootstrap).await;
    }

    /// What the cluster says of `topic`.
    ///
    /// # Panics
    /// When there is none.
    pub async fn describe(&self, topic: &str) -> Topic {
        let bootstrap = Bootstrap::parse(&self.bootstrap).expect("rskafka has read these addresses too");
        let dialer = Dialer::new("coinduit-test", Security::default());
        let mut connection = dialer.to_any(&bootstrap).await.expect("connect to Kafka");
        let answer = metadata::topic(&mut connection, topic).await.expect("describe a topic");
        answer.unwrap_or_else(|| panic!("there is no topic {topic}"))
    }

    /// Asks for a topic that does not exist as most clients do, and returns whether the cluster creates topics
    /// when it is asked like that. The topic is deleted.
    ///
    /// # Panics
    /// When the cluster can't be asked.
    pub async fn creates_topics_when_asked(&self) -> bool {
        let topic = Self::unused_name("control");
        let asked = self.client.partition_client(topic.as_str(), 0, UnknownTopicHandling::Retry).await;
        let created = asked.is_ok() && self.has(&topic).await;
        if created {
            self.delete(&topic).await;
        }
        created
    }

    /// Appends `records` as one batch; their offsets.
    ///
    /// # Panics
    /// When that fails.
    pub async fn publish(&self, topic: &str, partition: i32, records: Vec<Record>) -> Vec<i64> {
        let client = self.partition(topic, partition).await;
        client.produce(records, Compression::NoCompression).await.expect("publish records")
    }

    /// Tries to append `records`, however the brokers are: whether they are acknowledged. Records that are not may
    /// be in the log all the same.
    pub async fn try_publish(&self, topic: &str, partition: i32, records: Vec<Record>) -> bool {
        let publish = async {
            let client = self.client.partition_client(topic, partition, UnknownTopicHandling::Retry).await;
            match client {
                Ok(client) => client.produce(records, Compression::NoCompression).await.is_ok(),
                Err(_) => false,
            }
        };
        tokio::time::timeout(PATIENCE, publish).await.unwrap_or(false)
    }

    /// All records of a partition, in order.
    ///
    /// # Panics
    /// When that fails.
    pub async fn read(&self, topic: &str, partition: i32) -> Vec<RecordAndOffset> {
        let client = self.partition(topic, partition).await;
        let mut next = client.get_offset(OffsetAt::Earliest).await.expect("the log's start");
        let end = client.get_offset(OffsetAt::Latest).await.expect("the log's end");
        let mut records = Vec::new();
        while next < end {
            let (found, _) = client.fetch_records(next, 1..1 << 20, 500).await.expect("read records");
            next = found.last().map_or(next, |last| last.offset + 1);
            records.extend(found);
        }
        records
    }

    /// The offset after a partition's last record.
    ///
    /// # Panics
    /// When that fails.
    pub async fn end(&self, topic: &str, partition: i32) -> i64 {
        self.partition(topic, partition).await.get_offset(OffsetAt::Latest).await.expect("the log's end")
    }

    /// The same, if its leader can be asked now.
    pub async fn try_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let end = async {
            let client =
                self.client.partition_client(topic, partition, UnknownTopicHandling::Retry).await.ok()?;
            client.get_offset(OffsetAt::Latest).await.ok()
        };
        tokio::time::timeout(PATIENCE, end).await.ok().flatten()
    }

    /// Deletes a partition's records before `offset`, as retention does.
    ///
    /// # Panics
    /// When that fails.
    pub async fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let client = self.partition(topic, partition).await;
        client.delete_records(offset, CONTROLLER_MS).await.expect("delete records");
        let start = client.get_offset(OffsetAt::Earliest).await.expect("the log's start");
        assert_eq!(start, offset, "the log's start after deleting records");
    }

    async fn partition(&self, topic: &str, partition: i32) -> PartitionClient {
        let client = self.client.partition_client(topic, partition, UnknownTopicHandling::Retry);
        client.await.unwrap_or_else(|error| panic!("reach {topic}/{partition}: {error}"))
    }
}

/// Asks the first broker in this version, as `kafka-protocol` spells it: what rskafka has no call for.
pub(crate) async fn ask<R>(bootstrap: &str, request: &R, version: i16) -> io::Result<R::Response>
where
    R: Request + HeaderVersion,
    R::Response: HeaderVersion,
{
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut frame = BytesMut::new();
    header.encode(&mut frame, R::header_version(version)).map_err(io::Error::other)?;
    request.encode(&mut frame, version).map_err(io::Error::other)?;

    let broker = bootstrap.split(',').next().unwrap_or_default().trim();
    let mut stream = TcpStream::connect(broker).await?;
    stream.write_u32(u32::try_from(frame.len()).map_err(io::Error::other)?).await?;
    stream.write_all(&frame).await?;
    let length = usize::try_from(stream.read_u32().await?).map_err(io::Error::other)?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(version)).map_err(io::Error::other)?;
    R::Response::decode(&mut answer, version).map_err(io::Error::other)
}

async fn connect(bootstrap: &str) -> Client {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_millis(500),
        base: 2.0,
        deadline: Some(Duration::from_secs(10)),
    };
    let addresses = bootstrap.split(',').map(|address| address.trim().to_owned()).collect();
    let connect = ClientBuilder::new(addresses).backoff_config(backoff).build();
    match tokio::time::timeout(Duration::from_secs(30), connect).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => panic!("the Kafka at {bootstrap} can't be used: {error}"),
        Err(_) => panic!("the Kafka at {bootstrap} does not answer"),
    }
}

/// A record without key and headers, of now.
pub fn record(value: &str) -> Record {
    record_of(Some(value.as_bytes()))
}

/// A record without key and headers, of now. Without a value it is a tombstone.
pub fn record_of(value: Option<&[u8]>) -> Record {
    Record { key: None, value: value.map(<[u8]>::to_vec), headers: BTreeMap::new(), timestamp: now() }
}

/// Now, to the millisecond: what a record's timestamp can hold. A broker deletes much older ones, and refuses
/// much newer ones.
pub fn now() -> DateTime<Utc> {
    Clock::System.now()
}
