//! One test's world: a topic of its own on the real Kafka, and embedded services for everything else.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::config::Builder;
use coinduit_common::aws::{Aws, AwsSettings};
use coinduit_common::config::{Env, Faults};
use coinduit_common::crypto;
use coinduit_local::price_api::Prices;
use coinduit_local::stack::{PriceSource, Stack, StackConfig};

use serde_json::Value;

use crate::bucket::{Bucket, Object};
use crate::chain::holds_exactly_once;
use crate::kafka::Kafka;
use crate::logs::{self, Logs};
use crate::program::{Ended, Program, binary};
use crate::table::{self, Row};
use crate::wait::until;

/// The services, and where programs find them.
#[derive(Debug)]
pub struct Rig {
    /// The real one.
    pub kafka: Kafka,
    /// The embedded rest. Its own broker is used by nobody.
    pub stack: Stack,
    /// What is in the bucket.
    pub bucket: Bucket,
    /// The topic that programs are told of, and their group's name. Whether the topic exists is up to the test.
    pub topic: String,
    dynamodb: aws_sdk_dynamodb::Client,
    env: Vec<(String, String)>,
    logs: Logs,
}

impl Rig {
    /// With a topic of so many partitions, and without a Lambda.
    pub async fn start(what: &str, partitions: i32) -> Self {
        let rig = Self::build(what, Kafka::find().await, StackConfig::default()).await;
        rig.kafka.create(&rig.topic, partitions).await;
        rig
    }

    /// With a topic of so many partitions, and with the Lambda.
    pub async fn with_lambda(what: &str, partitions: i32) -> Self {
        let config = StackConfig { bootstrap: Some(binary("bootstrap")), ..StackConfig::default() };
        let rig = Self::build(what, Kafka::find().await, config).await;
        rig.kafka.create(&rig.topic, partitions).await;
        rig
    }

    /// With a topic of so many partitions, each on so many brokers of `kafka`, and without a Lambda.
    pub async fn on(kafka: Kafka, what: &str, partitions: i32, copies: i16) -> Self {
        let rig = Self::build(what, kafka, StackConfig::default()).await;
        rig.kafka.create_with_copies(&rig.topic, partitions, copies).await;
        rig
    }

    /// With a topic of so many partitions and these settings, and without a Lambda.
    pub async fn with_settings(what: &str, partitions: usize, settings: &[(&str, &str)]) -> Self {
        let rig = Self::without_topic(what).await;
        // One broker is enough for these tests, and a cluster's first has this id.
        rig.kafka.create_as(&rig.topic, &vec![&[1][..]; partitions], settings).await;
        rig
    }

    /// With a topic of `kafka` as [`Kafka::create_as`] makes it, and without a Lambda.
    pub async fn placed(kafka: Kafka, what: &str, brokers: &[&[i32]], settings: &[(&str, &str)]) -> Self {
        let rig = Self::build(what, kafka, StackConfig::default()).await;
        rig.kafka.create_as(&rig.topic, brokers, settings).await;
        rig
    }

    /// Without the topic.
    pub async fn without_topic(what: &str) -> Self {
        Self::build(what, Kafka::find().await, StackConfig::default()).await
    }

    async fn build(what: &str, kafka: Kafka, config: StackConfig) -> Self {
        crypto::install_ring();
        let topic = Kafka::unused_name(what);
        let config = StackConfig { prices: PriceSource::Recorded(Prices::Fixed), ..config };
        let stack = Stack::start(config).await.expect("start the embedded services");
        let mut env = stack.env();
        for (name, value) in &mut env {
            match name.as_str() {
                "KAFKA_BOOTSTRAP_SERVERS" => kafka.bootstrap().clone_into(value),
                "KAFKA_TOPIC" => topic.clone_into(value),
                _ => {}
            }
        }
        // Tests run side by side, and what one does to its group is no other's matter.
        env.push(("KAFKA_GROUP_ID".to_owned(), topic.clone()));
        // Several consumers on one machine, and nobody asks them.
        env.push(("HTTP_ADDR".to_owned(), "off".to_owned()));
        let pairs = env.iter().map(|(name, value)| match name.as_str() {
            // The names that the SDK's own chain, which reads this process's environment, does not know.
            "AWS_ACCESS_KEY_ID" => ("ACCESS_KEY", value.as_str()),
            "AWS_SECRET_ACCESS_KEY" => ("SECRET_KEY", value.as_str()),
            name => (name, value.as_str()),
        });
        let settings = AwsSettings::from_env(&Env::from_pairs(pairs), &mut Faults::default());
        let aws = Aws::new(settings).await;
        let client = aws.s3(&StackConfig::default().bucket).expect("a client for the bucket");
        let dynamodb = Builder::from(aws.sdk()).endpoint_url(stack.dynamodb.url()).build();
        Self {
            kafka,
            stack,
            bucket: Bucket::new(client),
            topic,
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb),
            env,
            logs: Logs::new(what),
        }
    }

    /// The environment of programs, with `changes`.
    pub fn env(&self, changes: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut env: Vec<(String, String)> = self
            .env
            .iter()
            .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name))
            .cloned()
            .collect();
        env.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        env
    }

    /// Consumers are in the group `name` from now on.
    pub fn use_group(&mut self, name: &str) {
        self.env.retain(|(variable, _)| variable != "KAFKA_GROUP_ID");
        self.env.push(("KAFKA_GROUP_ID".to_owned(), name.to_owned()));
    }

    /// Starts a consumer that runs until it is told to stop. When the test fails it can be asked how it stands, and all
    /// that it has logged is kept.
    pub fn consumer(&self, changes: &[(&str, &str)]) -> Program {
        let changes = [&[("RUST_LOG", logs::LEVEL), ("HTTP_ADDR", "127.0.0.1:0")], changes].concat();
        Program::start_logged("consumer", &[], &self.env(&changes), self.logs.file("consumer"))
    }

    /// Lets a consumer store everything up to the log's end.
    ///
    /// # Panics
    /// When it does not end with 0.
    pub async fn consume_all(&self, changes: &[(&str, &str)]) -> Ended {
        Program::start("consumer", &["--exit-at-end"], &self.env(changes)).ended().await.expect_code(0)
    }

    /// Lets `consumer audit` look, and fails unless it finds nothing. Returns its document.
    ///
    /// # Panics
    /// When it finds something.
    pub async fn audit(&self) -> Value {
        self.audit_with(&[]).await
    }

    /// The same, with `changes` to the environment.
    ///
    /// # Panics
    /// When it finds something.
    pub async fn audit_with(&self, changes: &[(&str, &str)]) -> Value {
        let ended = Program::start("consumer", &["audit", "--json"], &self.env(changes)).ended().await;
        let ended = ended.expect_code(0);
        let document: Value = serde_json::from_str(&ended.out).expect("the audit prints JSON");
        assert_eq!(document["totals"]["findings"], 0, "{}", ended.out);
        assert_eq!(document["kafka"], "reached", "{}", ended.out);
        document
    }

    /// Waits until a partition's objects reach its end.
    ///
    /// # Panics
    /// When they do not in time.
    pub async fn stored_to_the_end(&self, partition: i32) {
        let mut end = self.kafka.end(&self.topic, partition).await;
        let what = format!("{}/{partition} is stored up to {end} or a later end", self.topic);
        until(&what, async || {
            let tail = self.bucket.tail(&self.topic, partition).await;
            if tail > end {
                // A busy broker may append what its publisher has given up and published again.
                end = self.kafka.end(&self.topic, partition).await;
            }
            tail == end
        })
        .await;
    }

    /// Waits until a partition's objects end at `end`.
    ///
    /// # Panics
    /// When they do not in time.
    pub async fn stored_up_to(&self, partition: i32, end: i64) {
        let what = format!("{}/{partition} is stored up to {end}", self.topic);
        until(&what, async || self.bucket.tail(&self.topic, partition).await == end).await;
    }

    /// Fails unless the objects hold each record once, by the independent check and by `consumer audit`, and what
    /// can't be a line is in quarantine, and nothing else is. Returns how many objects there are.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn holds_everything_once(&self, partitions: i32, is_line: impl Fn(&[u8]) -> bool) -> usize {
        let mut objects = 0;
        for partition in 0..partitions {
            let log = self.kafka.read(&self.topic, partition).await;
            let end = self.kafka.end(&self.topic, partition).await;
            let chain = self.chain(partition).await;
            let quarantined = holds_exactly_once(&chain, &log, end, &is_line);
            let folder = format!("quarantine/{}/partition={partition}", self.topic);
            let expected: BTreeSet<String> =
                quarantined.iter().map(|offset| format!("{folder}/{offset:020}.json")).collect();
            let found: BTreeSet<String> = self.bucket.keys(&folder).await.into_iter().collect();
            assert_eq!(found, expected, "what is in quarantine, and what has to be");
            objects += chain.len();
        }
        self.audit().await;
        objects
    }

    /// Lets a producer do a run.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn produce(&self, arguments: &[&str], changes: &[(&str, &str)]) -> Ended {
        Program::start("producer", arguments, &self.env(changes)).ended().await
    }

    /// The objects of one of the topic's partitions.
    ///
    /// # Panics
    /// When they can't be read.
    pub async fn chain(&self, partition: i32) -> Vec<Object> {
        self.bucket.chain(&self.topic, partition).await
    }

    /// All rows of `table`.
    ///
    /// # Panics
    /// When they can't be read.
    pub async fn rows(&self, table: &str) -> Vec<Row> {
        table::rows(&self.dynamodb, table).await
    }

    /// The bodies of the alerts so far whose subject has `kind` in it.
    pub fn alerts(&self, kind: &str) -> Vec<String> {
        let published = self.stack.sns.published().into_iter();
        published
            .filter(|alert| alert.subject.as_deref().is_some_and(|subject| subject.contains(kind)))
            .map(|alert| alert.message)
            .collect()
    }

    /// Takes everything down, the topic too.
    pub async fn finish(self) {
        if self.kafka.has(&self.topic).await {
            self.kafka.delete(&self.topic).await;
        }
        self.stack.stop().await;
    }
}
