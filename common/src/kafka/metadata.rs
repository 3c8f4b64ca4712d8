//! What a topic is, right now: the ids of cluster and topic, and its partitions.
//!
//! A topic's id never comes back when the topic is deleted and created again; its name does. So whoever
//! ties something lasting to a topic ties it to the id.
//!
//! Source: KIP-516, "Topic Identifiers"; Metadata from version 10 carries them (Kafka 2.8).

use std::{collections::BTreeMap, ops::RangeInclusive};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kafka_protocol::{
    ResponseError,
    messages::{
        MetadataRequest, MetadataResponse, TopicName,
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponseBroker, MetadataResponseTopic},
    },
    protocol::StrBytes,
};
use tokio::io::{AsyncRead, AsyncWrite};
use uuid::Uuid;

use super::{
    api::Api,
    bootstrap::Address,
    connection::Connection,
    error::KafkaError,
    shape::{
        Field,
        Kind::{Fixed, Numbers, Structs, Text},
        between, field,
    },
};

impl Api for MetadataRequest {
    const NAME: &'static str = "Metadata";
    /// 10 brings topic ids.
    const TRIED: RangeInclusive<i16> = 10..=12;
    const ANSWER: &'static [Field] = &[
        field(Fixed(4)),                                                               // throttle time
        field(Structs(&[field(Fixed(4)), field(Text), field(Fixed(4)), field(Text)])), // brokers: id, host, port, rack
        field(Text),                                                                   // cluster id
        field(Fixed(4)),                                                               // controller
        field(Structs(&[
            field(Fixed(2)),  // error
            field(Text),      // name
            field(Fixed(17)), // id, is internal
            field(Structs(&[
                field(Fixed(14)),  // error, partition, leader, leader epoch
                field(Numbers(4)), // replicas
                field(Numbers(4)), // in sync
                field(Numbers(4)), // offline
            ])),
            field(Fixed(4)), // authorized operations
        ])),
        between(8, 10, Fixed(4)), // authorized operations of the cluster
    ];
}

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The cluster's id; empty where the broker tells none.
    pub cluster_id: String,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partitions' numbers, ascending.
    pub partitions: Vec<i32>,
}

impl Topic {
    /// The topic's id as Kafka's own tools print it.
    #[must_use]
    pub fn printed_id(&self) -> String {
        printed_id(self.topic_id)
    }
}

/// A topic's id as Kafka's own tools print it: URL-safe base64 without padding, 22 characters.
#[must_use]
pub fn printed_id(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// Who leads a partition: the broker that is asked for its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Its broker id.
    pub node: i32,
    /// Where it is.
    pub address: Address,
    /// How often the partition has changed its leader, more or less; it never decreases (KIP-101).
    pub epoch: i32,
}

/// A cluster, as one of its brokers describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its id; empty where the broker tells none.
    pub id: String,
    /// Its brokers, by ascending id.
    pub brokers: Vec<Broker>,
}

/// A broker, and where it sends clients: its advertised listener, of which nothing is known but that it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub node: i32,
    /// The host.
    pub host: String,
    /// The port.
    pub port: i32,
}

/// Asks for the cluster and its brokers, and for no topic.
///
/// # Errors
/// What [`Connection::call`] gives.
pub async fn cluster<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
) -> Result<Cluster, KafkaError> {
    // No topics at all; all of them would be `None`.
    let request =
        MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false);
    Ok(consists_of(connection.call(&request).await?))
}

fn consists_of(answer: MetadataResponse) -> Cluster {
    let broker = |broker: MetadataResponseBroker| Broker {
        node: broker.node_id.0,
        host: broker.host.to_string(),
        port: broker.port,
    };
    let mut brokers: Vec<Broker> = answer.brokers.into_iter().map(broker).collect();
    brokers.sort_unstable_by_key(|broker| broker.node);
    Cluster { id: answer.cluster_id.map(|id| id.to_string()).unwrap_or_default(), brokers }
}

/// Asks for `topic`, without creating it. `None`: the cluster has no such topic.
///
/// # Errors
/// What [`Connection::call`] gives, and [`KafkaError::Refused`] for any other answer than a description.
pub async fn topic<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    topic: &str,
) -> Result<Option<Topic>, KafkaError> {
    let answer = connection.call(&about(topic)).await?;
    describe(answer, topic)
}

/// How many partitions each of `topics` has, without creating any. What the cluster doesn't have is left out.
///
/// # Errors
/// What [`Connection::call`] gives, and [`KafkaError::Refused`] for the first topic with any other answer
/// than a description.
pub async fn topics<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    topics: &[String],
) -> Result<BTreeMap<String, i32>, KafkaError> {
    let named = |name: &String| {
        MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.clone()))))
    };
    let request = MetadataRequest::default()
        .with_topics(Some(topics.iter().map(named).collect()))
        .with_allow_auto_topic_creation(false);
    count(&connection.call(&request).await?, topics)
}

/// Who leads each partition of `topic`, without creating it; `None` for a partition while nobody does, and
/// for the whole where the cluster has no such topic.
///
/// # Errors
/// What [`Connection::call`] gives, [`KafkaError::Refused`] for any other answer than a description, and
/// [`KafkaError::Useless`] where a leader's address is missing or can't be one.
pub async fn leaders<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    topic: &str,
) -> Result<Option<BTreeMap<i32, Option<Leader>>>, KafkaError> {
    let answer = connection.call(&about(topic)).await?;
    led(answer, topic)
}

fn led(answer: MetadataResponse, topic: &str) -> Result<Option<BTreeMap<i32, Option<Leader>>>, KafkaError> {
    let brokers = answer.brokers;
    let Some(found) = found(answer.topics, topic)? else { return Ok(None) };
    let mut leaders = BTreeMap::new();
    for partition in found.partitions {
        let (number, node, epoch) = (partition.partition_index, partition.leader_id, partition.leader_epoch);
        let broker = brokers.iter().find(|broker| broker.node_id == node);
        let address = broker.and_then(|broker| Address::new(&broker.host, broker.port));
        let leader = match address {
            _ if node.0 < 0 => None,
            Some(address) => Some(Leader { node: node.0, address, epoch }),
            None => {
                let problem = format!("broker {}, its leader, has no address", node.0);
                return Err(KafkaError::useless(MetadataRequest::NAME, format!("{topic}/{number}"), problem));
            }
        };
        leaders.insert(number, leader);
    }
    Ok(Some(leaders))
}

/// The question for one topic.
fn about(topic: &str) -> MetadataRequest {
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name))]))
        .with_allow_auto_topic_creation(false)
}

/// What `topics` say about `topic`; `None` where there is none.
fn found(
    topics: Vec<MetadataResponseTopic>,
    topic: &str,
) -> Result<Option<MetadataResponseTopic>, KafkaError> {
    let Some(found) =
        topics.into_iter().find(|found| found.name.as_ref().is_some_and(|name| name.as_str() == topic))
    else {
        return Ok(None);
    };
    match ResponseError::try_from_code(found.error_code) {
        None if found.error_code == 0 => Ok(Some(found)),
        Some(ResponseError::UnknownTopicOrPartition) => Ok(None),
        _ => Err(KafkaError::refused(found.error_code, "Metadata", topic)),
    }
}

fn count(answer: &MetadataResponse, topics: &[String]) -> Result<BTreeMap<String, i32>, KafkaError> {
    let mut counts = BTreeMap::new();
    for found in &answer.topics {
        let Some(name) = topics.iter().find(|name| found.name.as_ref().is_some_and(|n| n.as_str() == **name))
        else {
            continue;
        };
        match ResponseError::try_from_code(found.error_code) {
            None => {
                let partitions = i32::try_from(found.partitions.len()).unwrap_or(i32::MAX);
                counts.insert(name.clone(), partitions);
            }
            Some(ResponseError::UnknownTopicOrPartition) => {}
            Some(_) => return Err(KafkaError::refused(found.error_code, MetadataRequest::NAME, name)),
        }
    }
    Ok(counts)
}

fn describe(answer: MetadataResponse, topic: &str) -> Result<Option<Topic>, KafkaError> {
    let cluster_id = answer.cluster_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let Some(found) = found(answer.topics, topic)? else { return Ok(None) };
    let mut partitions: Vec<i32> =
        found.partitions.iter().map(|partition| partition.partition_index).collect();
    partitions.sort_unstable();
    Ok(Some(Topic { cluster_id, topic_id: found.topic_id, partitions }))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{BrokerId, metadata_response::MetadataResponsePartition};

    use super::{super::shape, *};

    fn answer(name: &'static str, error: i16) -> MetadataResponse {
        let partition = |index| MetadataResponsePartition::default().with_partition_index(index);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str(name))))
            .with_topic_id(Uuid::from_u128(7))
            .with_error_code(error)
            .with_partitions(vec![partition(1), partition(0)]);
        MetadataResponse::default()
            .with_cluster_id(Some(StrBytes::from_static_str("c")))
            .with_topics(vec![topic])
    }

    #[test]
    fn a_topic_is_described() {
        let topic = describe(answer("prices", 0), "prices").unwrap().unwrap();
        assert_eq!(
            (topic.cluster_id.as_str(), topic.topic_id, &topic.partitions[..]),
            ("c", Uuid::from_u128(7), &[0, 1][..])
        );
        assert_eq!(topic.printed_id(), "AAAAAAAAAAAAAAAAAAAABw");
    }

    #[test]
    fn the_shape_of_an_answer_is_described_rightly() {
        use bytes::{Buf, BytesMut};
        use kafka_protocol::protocol::Encodable;
        for version in MetadataRequest::TRIED {
            let mut body = BytesMut::new();
            answer("prices", 0).encode(&mut body, version).unwrap();
            assert!(shape::is_sound(MetadataRequest::ANSWER, version, true, &body), "{version}");
            body.advance(1);
            assert!(!shape::is_sound(MetadataRequest::ANSWER, version, true, &body), "{version}");
        }
    }

    #[test]
    fn partitions_are_counted_where_there_is_a_topic() {
        let asked = ["prices".to_owned(), "missing".to_owned()];
        let mut both = answer("prices", 0);
        both.topics.extend(answer("missing", 3).topics);
        both.topics.extend(answer("nobody asked", 29).topics);
        assert_eq!(count(&both, &asked).unwrap(), BTreeMap::from([("prices".to_owned(), 2)]));
        both.topics.extend(answer("missing", 5).topics);
        assert_eq!(count(&both, &asked).unwrap_err().code(), Some(ResponseError::LeaderNotAvailable));
    }

    #[test]
    fn a_missing_topic_is_no_error_and_a_refusal_is_one() {
        assert_eq!(describe(answer("prices", 3), "prices").unwrap(), None);
        assert_eq!(describe(answer("other", 0), "prices").unwrap(), None);
        let error = describe(answer("prices", 29), "prices").unwrap_err();
        assert!(
            error.to_string().contains("(29) to Metadata about prices") && !error.is_retryable(),
            "{error}"
        );
        assert!(describe(answer("prices", 5), "prices").unwrap_err().is_retryable());
    }

    #[test]
    fn a_cluster_is_its_id_and_its_brokers_as_they_call_themselves() {
        let broker = |node, host| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(node))
                .with_host(StrBytes::from_static_str(host))
                .with_port(9092)
        };
        let told = answer("prices", 0).with_brokers(vec![broker(2, "b"), broker(1, "not a host")]);
        let cluster = consists_of(told);
        let brokers: Vec<_> =
            cluster.brokers.iter().map(|broker| (broker.node, broker.host.as_str())).collect();
        assert_eq!((cluster.id.as_str(), &brokers[..]), ("c", &[(1, "not a host"), (2, "b")][..]));
    }

    #[test]
    fn leaders_are_told_with_their_addresses() {
        let mut told = answer("prices", 0);
        told.brokers.push(
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(3))
                .with_host(StrBytes::from_static_str("kafka"))
                .with_port(9093),
        );
        let partitions = &mut told.topics[0].partitions;
        (partitions[0].leader_id, partitions[0].leader_epoch) = (BrokerId(3), 9);
        (partitions[1].leader_id, partitions[1].error_code) = (BrokerId(-1), 5);
        let leader = Leader { node: 3, address: Address::new("kafka", 9093).unwrap(), epoch: 9 };
        assert_eq!(
            led(told.clone(), "prices").unwrap().unwrap(),
            BTreeMap::from([(0, None), (1, Some(leader))])
        );
        assert_eq!(led(answer("prices", 3), "prices").unwrap(), None);
        assert_eq!(led(answer("prices", 29), "prices").unwrap_err().code().unwrap().code(), 29);
        told.brokers.clear();
        assert_eq!(
            led(told, "prices").unwrap_err().to_string(),
            "Kafka's answer to Metadata about prices/1 can't be used: broker 3, its leader, has no address"
        );
    }
}
