//! Metadata: the broker, the topics, their ids and partitions.
//!
//! The broker's address is the one by which the client reached it, so it is right for every client.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::batch::LEADER_EPOCH;
use super::super::topics::Topic;
use super::super::{Core, Endpoint, NODE_ID};

pub(crate) fn handle(core: &mut Core, request: &MetadataRequest, endpoint: &Endpoint) -> MetadataResponse {
    let topics = match &request.topics {
        None => core.topics.iter().map(|(name, topic)| describe(name, topic)).collect(),
        Some(asked) => {
            let create = core.settings.auto_create_topics && request.allow_auto_topic_creation;
            asked.iter().map(|asked| find(core, asked, create)).collect()
        }
    };
    cluster(core, endpoint).with_topics(topics)
}

/// Every topic asked for, with `error`; the broker is named, as a client needs it to ask again.
pub(crate) fn refuse(
    core: &Core,
    request: &MetadataRequest,
    endpoint: &Endpoint,
    error: ResponseError,
) -> MetadataResponse {
    let topics = match &request.topics {
        None => core.topics.iter().map(|(name, topic)| failed(Some(name), topic.id(), error)).collect(),
        Some(asked) => asked
            .iter()
            .map(|asked| failed(asked.name.as_ref().map(|name| name.as_str()), asked.topic_id, error))
            .collect(),
    };
    cluster(core, endpoint).with_topics(topics)
}

/// Cluster and broker, without topics.
fn cluster(core: &Core, endpoint: &Endpoint) -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(NODE_ID)
        .with_host(StrBytes::from_string(endpoint.host.clone()))
        .with_port(i32::from(endpoint.port));
    // As Kafka writes a UUID: 22 characters of base64.
    let cluster_id = URL_SAFE_NO_PAD.encode(core.topics.cluster());
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_controller_id(NODE_ID)
        .with_cluster_id(Some(StrBytes::from_string(cluster_id)))
}

/// One topic by name, or by id where there is no name (KIP-516).
fn find(core: &mut Core, asked: &MetadataRequestTopic, create: bool) -> MetadataResponseTopic {
    let Some(name) = &asked.name else {
        let name = core.topics.name_of(asked.topic_id);
        return match name.and_then(|name| Some((name, core.topics.get(name)?))) {
            Some((name, topic)) => describe(name, topic),
            None => failed(None, asked.topic_id, ResponseError::UnknownTopicId),
        };
    };
    if core.topics.get(name).is_none()
        && create
        && let Err(error) = core.create_topic(name, core.settings.default_partitions)
    {
        return failed(Some(name), Uuid::nil(), error.code());
    }
    match core.topics.get(name) {
        Some(topic) => describe(name, topic),
        None => failed(Some(name), Uuid::nil(), ResponseError::UnknownTopicOrPartition),
    }
}

fn describe(name: &str, topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..).zip(topic.partitions()).map(|(index, _)| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE_ID)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE_ID])
            .with_isr_nodes(vec![NODE_ID])
    });
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(name)))
        .with_topic_id(topic.id())
        .with_partitions(partitions.collect())
}

fn failed(name: Option<&str>, id: Uuid, error: ResponseError) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_name(name.map(topic_name))
        .with_topic_id(id)
        .with_error_code(error.code())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
