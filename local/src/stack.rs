//! The embedded stack: every service the pipeline talks to, started in order, wired together, stopped in order.
//!
//! ```text
//! Kafka broker
//! price API        S3 --objects created--> EventQueue --> Lambda host --> bootstrap (a process)
//!                   ^                                                      |  |  |
//!                   `----------------------- quarantine -------------------'  |  |
//!                                                     DynamoDB <--------------'  |
//!                                                     SNS      <-----------------'
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tracing::{info, warn};

use crate::broker::{Broker, BrokerConfig};
use crate::credentials::{API_KEY, FUNCTION, REGION, USER};
use crate::dynamodb::{COINS_TABLE, DynamoDb, PRICES_TABLE};
use crate::event_queue::EventQueue;
use crate::lambda_host::{LambdaConfig, LambdaHost};
use crate::price_api::{PriceApi, Prices, fault::ApiFault};
use crate::s3::{S3, S3Config};
use crate::s3_event::ObjectCreated;
use crate::sns::{self, Sns};

/// The SNS topic for alerts.
const ALERTS_TOPIC: &str = "coinduit-alerts";
/// How many events may wait for the Lambda before writers to S3 do.
const QUEUED_EVENTS: usize = 1000;
/// In the data folder: the events that were left at the last stop, to be delivered at the next start.
const UNDELIVERED: &str = "undelivered-events.json";

/// What a stack is started with. The default is a temporary one on free ports, without a Lambda.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// Where everything is kept. Without one: a temporary folder, and tables in memory.
    pub data_dir: Option<PathBuf>,
    /// The Kafka topic.
    pub topic: String,
    /// How many partitions the topic gets.
    pub partitions: i32,
    /// The S3 bucket.
    pub bucket: String,
    /// Where to listen.
    pub ports: Ports,
    /// Where prices come from.
    pub prices: PriceSource,
    /// The stack's own price API behaves as if there were no coins of these ranks.
    pub without_ranks: Option<RangeInclusive<u64>>,
    /// What the stack's own price API does wrong.
    pub api_faults: Vec<ApiFault>,
    /// The Lambda's binary. Without one there is no Lambda, and nobody hears of new objects.
    pub bootstrap: Option<PathBuf>,
    /// How long the Lambda has for an event.
    pub lambda_timeout: Duration,
    /// The wait before the Lambda is tried again with an event it failed on; the second time twice as long.
    pub lambda_retry_delay: Duration,
    /// How long a stack that stops goes on to handle what is queued for the Lambda.
    pub drain: Duration,
}

/// A port on loopback for each service; 0 takes a free one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ports {
    /// The Kafka broker.
    pub kafka: u16,
    /// The price API.
    pub api: u16,
    /// S3.
    pub s3: u16,
    /// DynamoDB.
    pub dynamodb: u16,
    /// SNS.
    pub sns: u16,
    /// The Lambda host.
    pub lambda: u16,
}

/// Where prices come from.
#[derive(Clone, PartialEq, Eq)]
pub enum PriceSource {
    /// The stack's own API.
    Recorded(Prices),
    /// The real one: the stack starts none and hands on what the producer needs.
    Live {
        /// The base URL.
        url: String,
        /// The user's key.
        key: String,
    },
}

impl std::fmt::Debug for PriceSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Recorded(prices) => f.debug_tuple("Recorded").field(prices).finish(),
            Self::Live { url, .. } => f.debug_struct("Live").field("url", url).field("key", &"***").finish(),
        }
    }
}

impl Default for StackConfig {
    fn default() -> Self {
        Self {
            data_dir: None,
            topic: "crypto_prices".to_owned(),
            partitions: 4,
            bucket: "coinduit".to_owned(),
            ports: Ports::default(),
            prices: PriceSource::Recorded(Prices::Moving { seed: 1 }),
            without_ranks: None,
            api_faults: Vec::new(),
            bootstrap: None,
            lambda_timeout: Duration::from_secs(30),
            lambda_retry_delay: Duration::from_secs(1),
            drain: Duration::from_secs(10),
        }
    }
}

/// Why a stack did not start. What had started is stopped.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A folder or file of the stack can't be used.
    #[error("use {} for the stack's data", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A service did not start.
    #[error("start {service} on port {port}")]
    Service {
        /// Which.
        service: &'static str,
        /// As asked for; 0 is any.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running stack. Its services are there to be looked at, and to have faults put in their way.
#[derive(Debug)]
pub struct Stack {
    /// The broker, with the topic in it.
    pub kafka: Broker,
    /// Not with a live price source.
    pub price_api: Option<PriceApi>,
    /// Object storage.
    pub s3: S3,
    /// The tables.
    pub dynamodb: DynamoDb,
    /// The alerts.
    pub sns: Sns,
    /// Not without a binary for it.
    pub lambda: Option<LambdaHost>,
    env: Vec<(String, String)>,
    events: Arc<EventQueue>,
    drain: Duration,
    folder: Folder,
}

impl Stack {
    /// Starts all services, each after those that it needs.
    ///
    /// # Errors
    /// [`StackError`]; then nothing is left running.
    pub async fn start(config: StackConfig) -> Result<Self, StackError> {
        let folder = Folder::open(config.data_dir.as_deref())?;
        let ports = config.ports;
        let events = Arc::new(EventQueue::new(QUEUED_EVENTS));

        let service = |service, port| move |source| StackError::Service { service, port, source };
        let kafka = Broker::start(BrokerConfig {
            listen: loopback(ports.kafka),
            data_dir: folder.kept().map(|path| path.join("kafka")),
            ..BrokerConfig::default()
        })
        .await
        .map_err(service("the Kafka broker", ports.kafka))?;
        if kafka.topic_id(&config.topic).is_none() {
            let created = kafka.create_topic(&config.topic, config.partitions).map_err(io::Error::other);
            created.map_err(service("the Kafka broker", ports.kafka))?;
        }
        let sns = Sns::start(loopback(ports.sns), &[ALERTS_TOPIC]).map_err(service("SNS", ports.sns))?;
        let tables = folder.kept().map(|path| path.join("dynamodb.sqlite"));
        let dynamodb = DynamoDb::start(loopback(ports.dynamodb), tables.as_deref())
            .map_err(service("DynamoDB", ports.dynamodb))?;
        let s3 = S3::start(S3Config {
            address: loopback(ports.s3),
            directory: folder.path().join("s3"),
            buckets: vec![config.bucket.clone()],
            events: config.bootstrap.is_some().then(|| Arc::clone(&events)),
        })
        .map_err(service("S3", ports.s3))?;
        let price_api = match &config.prices {
            PriceSource::Recorded(prices) => Some(
                PriceApi::start_without(
                    loopback(ports.api),
                    *prices,
                    config.without_ranks.as_ref(),
                    config.api_faults,
                )
                .map_err(service("the price API", ports.api))?,
            ),
            PriceSource::Live { .. } => None,
        };

        let mut env = Vec::new();
        let mut export = |name: &str, value: String| env.push((name.to_owned(), value));
        export("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap());
        export("KAFKA_TOPIC", config.topic.clone());
        match (&config.prices, &price_api) {
            (PriceSource::Live { url, key }, _) => {
                export("API_URL", url.clone());
                export("API_KEY", key.clone());
            }
            (PriceSource::Recorded(_), api) => {
                export("API_URL", api.as_ref().map(PriceApi::url).unwrap_or_default());
                export("API_KEY", API_KEY.to_owned());
            }
        }
        export("S3_BUCKET", config.bucket.clone());
        export("SNS_TOPIC_ARN", sns::topic_arn(ALERTS_TOPIC));
        export("PRICES_TABLE", PRICES_TABLE.to_owned());
        export("COINS_TABLE", COINS_TABLE.to_owned());
        export("AWS_REGION", REGION.to_owned());
        export("AWS_ACCESS_KEY_ID", USER.access_key.to_owned());
        export("AWS_SECRET_ACCESS_KEY", USER.secret_key.to_owned());
        export("AWS_ENDPOINT_URL_S3", s3.url());
        export("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.url());
        export("AWS_ENDPOINT_URL_SNS", sns.url());

        let lambda = match config.bootstrap {
            Some(bootstrap) => {
                folder.load_undelivered(&events)?;
                let host = LambdaHost::start(LambdaConfig {
                    address: loopback(ports.lambda),
                    bootstrap,
                    environment: function_env(&env),
                    events: Arc::clone(&events),
                    timeout: config.lambda_timeout,
                    retry_delay: config.lambda_retry_delay,
                })
                .map_err(service("the Lambda host", ports.lambda))?;
                env.push(("COINDUIT_LOCAL_LAMBDA".to_owned(), host.url()));
                Some(host)
            }
            None => None,
        };
        info!(folder = %folder.path().display(), temporary = folder.kept().is_none(), "stack started");
        Ok(Self { kafka, price_api, s3, dynamodb, sns, lambda, env, events, drain: config.drain, folder })
    }

    /// The environment that makes the pipeline's programs use this stack, in the same order always.
    pub fn env(&self) -> Vec<(String, String)> {
        self.env.clone()
    }

    /// Where everything is kept.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops what makes work before what does it: the price API and the broker, then the Lambda when it has handled what is
    /// queued, then what both write to. What it has not handled within [`StackConfig::drain`] is kept for the
    /// next start, if the folder is; a temporary folder is removed.
    pub async fn stop(self) {
        let Self { kafka, price_api, s3, dynamodb, sns, lambda, env: _, events, drain, folder } = self;
        if let Some(price_api) = price_api {
            price_api.stop().await;
        }
        kafka.stop().await;
        match lambda {
            Some(lambda) => {
                let mut left = lambda.stop(drain).await;
                // Nobody takes events from here on; who still writes shall not wait for that.
                events.close();
                s3.stop().await;
                left.extend(std::iter::from_fn(|| events.try_pop()).map(|queued| queued.into_event()));
                folder.save_undelivered(&left);
            }
            None => s3.stop().await,
        }
        dynamodb.stop().await;
        sns.stop().await;
        folder.close();
    }
}

/// The function's environment: the stack's, with the function's own credentials instead of the user's.
fn function_env(env: &[(String, String)]) -> Vec<(String, String)> {
    env.iter()
        .filter_map(|(name, value)| {
            let value = match name.as_str() {
                "AWS_ACCESS_KEY_ID" => FUNCTION.access_key,
                "AWS_SECRET_ACCESS_KEY" => FUNCTION.secret_key,
                "KAFKA_BOOTSTRAP_SERVERS" | "KAFKA_TOPIC" | "API_URL" | "API_KEY" => return None,
                _ => value,
            };
            Some((name.clone(), value.to_owned()))
        })
        .collect()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Where the stack keeps its data.
#[derive(Debug)]
enum Folder {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Folder {
    fn open(path: Option<&Path>) -> Result<Self, StackError> {
        match path {
            Some(path) => {
                std::fs::create_dir_all(path).map_err(|source| data_error(path, source))?;
                Ok(Self::Kept(path.to_owned()))
            }
            None => tempfile::Builder::new()
                .prefix("coinduit-local-")
                .tempdir()
                .map(Self::Temporary)
                .map_err(|source| data_error(&std::env::temp_dir(), source)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    /// The folder, if it outlives the stack.
    fn kept(&self) -> Option<&Path> {
        match self {
            Self::Kept(path) => Some(path),
            Self::Temporary(_) => None,
        }
    }

    /// Queues the events that were left at the last stop. Their file stays until the next one: an event that is
    /// delivered twice does no harm, a lost one does.
    fn load_undelivered(&self, events: &EventQueue) -> Result<(), StackError> {
        let Some(folder) = self.kept() else { return Ok(()) };
        let path = folder.join(UNDELIVERED);
        let json = match std::fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(data_error(&path, source)),
        };
        let left: Vec<ObjectCreated> =
            serde_json::from_slice(&json).map_err(|error| data_error(&path, error.into()))?;
        info!(events = left.len(), "events left at the last stop are queued");
        for event in left {
            events.push(event, events.reserve_beyond_capacity());
        }
        Ok(())
    }

    /// Keeps the events that are left, or, in a temporary folder, says that they go with the rest.
    fn save_undelivered(&self, left: &[ObjectCreated]) {
        let Some(folder) = self.kept() else {
            if !left.is_empty() {
                warn!(events = left.len(), "events were not delivered and go with the temporary folder");
            }
            return;
        };
        let path = folder.join(UNDELIVERED);
        let saved = if left.is_empty() {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        } else {
            warn!(events = left.len(), "events were not delivered and are kept for the next start");
            serde_json::to_vec(left).map_err(io::Error::from).and_then(|json| std::fs::write(&path, json))
        };
        if let Err(error) = saved {
            warn!(path = %path.display(), %error, events = left.len(), "undelivered events can't be kept");
        }
    }

    fn close(self) {
        if let Self::Temporary(folder) = self {
            let path = folder.path().to_owned();
            if let Err(error) = folder.close() {
                warn!(path = %path.display(), %error, "temporary folder can't be removed");
            }
        }
    }
}

fn data_error(path: &Path, source: io::Error) -> StackError {
    StackError::Data { path: path.to_owned(), source }
}
