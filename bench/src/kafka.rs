//! Kafka, real or embedded, and topics with a known number of records in them.

use std::{ops::Range, time::Duration};

use chrono::{DateTime, Utc};
use coinduit_common::clock::Clock;
use coinduit_local::broker::{Broker, BrokerConfig};
use futures::{StreamExt, TryStreamExt, stream};
use rskafka::{
    client::{
        Client, ClientBuilder,
        error::Error as KafkaError,
        partition::{Compression, UnknownTopicHandling},
    },
    record::Record,
};
use uuid::Uuid;

use crate::error::BenchError;

/// What the controller may take.
const CONTROLLER_MS: i32 = 30_000;
/// How long a cluster may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many bytes of values a batch has, about.
const BATCH_BYTES: usize = 64 << 10;
/// How many partitions are filled at once.
const AT_ONCE: usize = 4;

/// A broker to measure against.
#[derive(Debug)]
pub(crate) struct Kafka {
    /// Its addresses.
    pub(crate) bootstrap: String,
    /// Whether it is a real one.
    pub(crate) is_real: bool,
    client: Client,
    embedded: Option<Broker>,
}

/// What a record looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// 68 bytes: a reading of a sensor.
    Small,
    /// 757 bytes, keyed: a coin of LiveCoinWatch.
    Coin,
}

impl Kafka {
    /// The cluster at `bootstrap`, or an embedded broker.
    pub(crate) async fn find(bootstrap: Option<&str>) -> Result<Self, BenchError> {
        let embedded = match bootstrap {
            Some(_) => None,
            None => Some(
                Broker::start(BrokerConfig::default()).await.map_err(BenchError::io("start the broker"))?,
            ),
        };
        let bootstrap = match (&embedded, bootstrap) {
            (Some(broker), _) => broker.bootstrap(),
            (None, given) => given.unwrap_or_default().to_owned(),
        };
        let servers = bootstrap.split(',').map(|server| server.trim().to_owned()).collect();
        let connected = tokio::time::timeout(PATIENCE, ClientBuilder::new(servers).build()).await;
        let client = connected
            .map_err(|_| BenchError::program(&*bootstrap, format!("no Kafka answers within {PATIENCE:?}")))?
            .map_err(failed("connect"))?;
        Ok(Self { bootstrap, is_real: embedded.is_none(), client, embedded })
    }

    /// Creates a topic that nobody has used, and returns its name.
    pub(crate) async fn create(&self, what: &str, partitions: i32) -> Result<String, BenchError> {
        let topic = format!("coinduit-bench-{what}-{}", Uuid::new_v4().simple());
        let controller = self.client.controller_client().map_err(failed("find the controller"))?;
        let created = controller.create_topic(&topic, partitions, 1, CONTROLLER_MS).await;
        created.map_err(failed(&format!("create topic {topic}")))?;
        Ok(topic)
    }

    /// Deletes a topic.
    pub(crate) async fn delete(&self, topic: &str) -> Result<(), BenchError> {
        let controller = self.client.controller_client().map_err(failed("find the controller"))?;
        let deleted = controller.delete_topic(topic, CONTROLLER_MS).await;
        deleted.map_err(failed(&format!("delete topic {topic}")))
    }

    /// Puts so many records into `topic`, evenly, uncompressed.
    pub(crate) async fn fill(
        &self,
        topic: &str,
        partitions: i32,
        shape: Shape,
        count: usize,
    ) -> Result<(), BenchError> {
        let total = usize::try_from(partitions).unwrap_or(1).max(1);
        stream::iter((0..partitions).zip(0..total).map(Ok))
            .try_for_each_concurrent(AT_ONCE, |(partition, number)| async move {
                let share = count * number / total..count * (number + 1) / total;
                self.fill_partition(topic, partition, shape, share).await
            })
            .await
    }

    async fn fill_partition(
        &self,
        topic: &str,
        partition: i32,
        shape: Shape,
        records: Range<usize>,
    ) -> Result<(), BenchError> {
        let what = format!("fill {topic}/{partition}");
        let client = self.client.partition_client(topic, partition, UnknownTopicHandling::Retry).await;
        let client = client.map_err(failed(&what))?;
        let now = Clock::System.now();
        let numbers: Vec<usize> = records.collect();
        let mut batches = stream::iter(numbers.chunks(shape.batch()));
        while let Some(batch) = batches.next().await {
            let records = batch.iter().map(|number| shape.record(*number, now)).collect();
            client.produce(records, Compression::NoCompression).await.map_err(failed(&what))?;
        }
        Ok(())
    }

    /// Stops what was started.
    pub(crate) async fn stop(self) {
        if let Some(broker) = self.embedded {
            broker.stop().await;
        }
    }
}

impl Shape {
    /// How many bytes a record's value has.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Small => 68,
            Self::Coin => 757,
        }
    }

    const fn batch(self) -> usize {
        BATCH_BYTES / self.bytes()
    }

    fn record(self, number: usize, timestamp: DateTime<Utc>) -> Record {
        Record {
            key: (self == Self::Coin).then(|| code(number).into_bytes()),
            value: Some(self.value(number)),
            headers: std::collections::BTreeMap::new(),
            timestamp,
        }
    }

    fn value(self, number: usize) -> Vec<u8> {
        let filled = |mut text: String| {
            // Before the last quotation mark and brace.
            let missing = self.bytes().saturating_sub(text.len());
            text.insert_str(text.len() - 2, &"x".repeat(missing));
            text.into_bytes()
        };
        match self {
            Self::Small => filled(format!(
                r#"{{"id":{number},"value":{}.5,"ts":{},"category":"c"}}"#,
                number % 977,
                1_700_000_000_000 + number
            )),
            Self::Coin => {
                let code = code(number);
                filled(format!(
                    r##"{{"code":"{code}","name":"Coin {code}","symbol":null,"rank":{rank},"age":5794,"color":"#fa9e32","png32":"https://lcw.nyc3.cdn.digitaloceanspaces.com/production/currencies/32/{code}.png","png64":"https://lcw.nyc3.cdn.digitaloceanspaces.com/production/currencies/64/{code}.png","exchanges":179,"markets":11046,"pairs":1619,"allTimeHighUSD":108327.62,"circulatingSupply":19794931,"totalSupply":19794931,"maxSupply":21000000,"categories":["cryptocurrency"],"rate":{number}.4980008270697834e-9,"volume":36508061174,"cap":2062466311283,"delta":{{"hour":1.0009,"day":0.9984,"week":1.0412,"month":1.0698,"quarter":1.5423,"year":2.2561}},"website":"https://example.com/"}}"##,
                    rank = number % 10_000,
                ))
            }
        }
    }
}

fn code(number: usize) -> String {
    format!("C{:04}", number % 10_000)
}

fn failed(what: &str) -> impl FnOnce(KafkaError) -> BenchError {
    let what = what.to_owned();
    move |source| BenchError::Kafka { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_json_of_the_size_that_they_should_have() {
        for (shape, numbers) in [(Shape::Small, [0, 7, 2_999_999]), (Shape::Coin, [0, 7, 499_999])] {
            for number in numbers {
                let value = shape.value(number);
                assert_eq!(value.len(), shape.bytes(), "{}", String::from_utf8_lossy(&value));
                serde_json::from_slice::<serde_json::Value>(&value).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_topic_has_as_many_records_as_it_was_filled_with() {
        let kafka = Kafka::find(None).await.unwrap();
        let topic = kafka.create("test", 3).await.unwrap();
        kafka.fill(&topic, 3, Shape::Coin, 1_000).await.unwrap();
        let broker = kafka.embedded.as_ref().unwrap();
        let ends: Vec<i64> = (0..3).map(|p| broker.offsets(&topic, p).unwrap().end).collect();
        assert_eq!(ends, [333, 333, 334]);
        kafka.delete(&topic).await.unwrap();
        assert_eq!(broker.topic_id(&topic), None);
        kafka.stop().await;
    }
}
