//! A topic comes into being, because somebody asked for it by name and not by chance.
//!
//! Source: KIP-4 (create topics), KIP-464 (the brokers' own defaults for partitions and replicas).

use std::{ops::RangeInclusive, time::Duration};

use kafka_protocol::messages::{
    CreateTopicsRequest, MetadataRequest, TopicName, create_topics_request::CreatableTopic,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    api::Api,
    bootstrap::Address,
    connection::Connection,
    error::KafkaError,
    group::{millis, text},
    shape::{
        Field,
        Kind::{Fixed, Structs, Text},
        field,
    },
};

impl Api for CreateTopicsRequest {
    const NAME: &'static str = "CreateTopics";
    /// 4 knows the brokers' defaults.
    const TRIED: RangeInclusive<i16> = 4..=4;
    const ANSWER: &'static [Field] = &[
        field(Fixed(4)),                                              // throttle time
        field(Structs(&[field(Text), field(Fixed(2)), field(Text)])), // topic, error, why
    ];
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It is there now, or will be in a moment.
    Yes,
    /// Somebody else was faster.
    Already,
    /// It may not be.
    Refused {
        /// The protocol's error code.
        code: i16,
        /// The code's name and what the broker says.
        why: String,
    },
}

/// The broker that creates topics; `None` while there is none.
///
/// # Errors
/// What [`Connection::call`] gives.
pub async fn controller<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
) -> Result<Option<Address>, KafkaError> {
    // Of no topic; None would be all.
    let request =
        MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false);
    let answer = connection.call(&request).await?;
    let controller = answer.brokers.iter().find(|broker| broker.node_id == answer.controller_id);
    Ok(controller.and_then(|broker| Address::new(&broker.host, broker.port)))
}

/// Asks the controller, which `connection` goes to, for `topic`. Without a number the brokers' own is taken.
///
/// # Errors
/// What [`Connection::call`] gives, and [`KafkaError::Useless`] where the answer is not about the topic.
pub async fn create<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    topic: &str,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
    wait: Duration,
) -> Result<Created, KafkaError> {
    let wanted = CreatableTopic::default()
        .with_name(TopicName(text(topic)))
        .with_num_partitions(partitions.unwrap_or(-1))
        .with_replication_factor(replication_factor.unwrap_or(-1));
    let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(millis(wait));
    let answer = connection.call(&request).await?;
    let told = answer.topics.into_iter().find(|told| told.name.as_str() == topic);
    let told = told.ok_or_else(|| {
        KafkaError::useless(CreateTopicsRequest::NAME, topic, "it does not mention the topic")
    })?;
    Ok(match told.error_code {
        0 => Created::Yes,
        // TOPIC_ALREADY_EXISTS
        36 => Created::Already,
        code => {
            let name = kafka_protocol::ResponseError::try_from_code(code)
                .map_or_else(|| format!("error {code}"), |error| error.to_string());
            let why = told.error_message.map_or_else(|| name.clone(), |words| format!("{name}: {words}"));
            Created::Refused { code, why }
        }
    })
}
