//! Clients of a running stack, for whoever wants to look into it: made of its exports and of nothing else.
//!
//! No client takes a credential, a region, a profile or a proxy from the environment.

use std::error::Error;

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector};
use rskafka::client::partition::{PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client as KafkaClient, ClientBuilder};

use super::environment::{Exports, ExportsError};

/// Something that could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{attempted}")]
pub(super) struct LookError {
    attempted: String,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

impl LookError {
    /// For a cause that arose while one `attempted` something.
    pub(super) fn at<E: Into<Box<dyn Error + Send + Sync>>>(
        attempted: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let attempted = attempted.into();
        move |source| Self { attempted, source: source.into() }
    }
}

/// Clients of one stack.
#[derive(Debug)]
pub(super) struct Services {
    /// The topic.
    pub(super) topic: String,
    /// The topic's partitions, ascending.
    pub(super) partitions: Vec<(i32, PartitionClient)>,
    /// The bucket.
    pub(super) bucket: AmazonS3,
    /// The tables.
    pub(super) tables: aws_sdk_dynamodb::Client,
    /// The name of the table with one row per coin and fetch.
    pub(super) prices: String,
    /// The name of the table with one row per coin.
    pub(super) coins: String,
    http: reqwest::Client,
    api_url: String,
    sns_url: String,
    lambda_url: String,
}

impl Services {
    /// Connects to the stack that exported `exports`.
    ///
    /// # Errors
    /// [`LookError`].
    pub(super) async fn connect(exports: &Exports) -> Result<Self, LookError> {
        let get = |name| exports.get(name).map_err(LookError::at::<ExportsError>("read the stack's exports"));
        let http =
            reqwest::Client::builder().no_proxy().build().map_err(LookError::at("make an HTTP client"))?;
        let topic = get("KAFKA_TOPIC")?.to_owned();
        let (access_key, secret_key) = (get("AWS_ACCESS_KEY_ID")?, get("AWS_SECRET_ACCESS_KEY")?);
        let bucket = AmazonS3Builder::new()
            .with_endpoint(get("AWS_ENDPOINT_URL_S3")?)
            .with_bucket_name(get("S3_BUCKET")?)
            .with_region(get("AWS_REGION")?)
            .with_access_key_id(access_key)
            .with_secret_access_key(secret_key)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_http_connector(WithoutProxy(http.clone()))
            .build()
            .map_err(LookError::at("make an S3 client"))?;
        let dynamodb = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(get("AWS_REGION")?.to_owned()))
            .credentials_provider(Credentials::new(access_key, secret_key, None, None, "coinduit-local"))
            .endpoint_url(get("AWS_ENDPOINT_URL_DYNAMODB")?)
            .http_client(
                aws_smithy_http_client::Builder::new()
                    .tls_provider(Provider::Rustls(CryptoMode::Ring))
                    .build_https(),
            )
            .build();
        Ok(Self {
            partitions: partitions(get("KAFKA_BOOTSTRAP_SERVERS")?, &topic).await?,
            topic,
            bucket,
            tables: aws_sdk_dynamodb::Client::from_conf(dynamodb),
            prices: get("PRICES_TABLE")?.to_owned(),
            coins: get("COINS_TABLE")?.to_owned(),
            http,
            api_url: get("API_URL")?.to_owned(),
            sns_url: get("AWS_ENDPOINT_URL_SNS")?.to_owned(),
            lambda_url: get("COINDUIT_LOCAL_LAMBDA")?.to_owned(),
        })
    }

    /// Every page that the price API answered, as JSON.
    ///
    /// # Errors
    /// [`LookError`].
    pub(super) async fn served(&self) -> Result<String, LookError> {
        self.get(format!("{}/_local/pages", self.api_url)).await
    }

    /// Every alert that was published, as JSON.
    ///
    /// # Errors
    /// [`LookError`].
    pub(super) async fn published(&self) -> Result<String, LookError> {
        self.get(format!("{}/_local/published", self.sns_url)).await
    }

    /// Every event that the Lambda host gave up, as JSON.
    ///
    /// # Errors
    /// [`LookError`].
    pub(super) async fn dead_letters(&self) -> Result<String, LookError> {
        self.get(format!("{}/_local/dead-letters", self.lambda_url)).await
    }

    async fn get(&self, url: String) -> Result<String, LookError> {
        let answer = async { self.http.get(&url).send().await?.error_for_status()?.text().await };
        answer.await.map_err(LookError::at(format!("get {url}")))
    }
}

/// A client of each of the topic's partitions.
async fn partitions(bootstrap: &str, topic: &str) -> Result<Vec<(i32, PartitionClient)>, LookError> {
    let found = async {
        let client: KafkaClient = ClientBuilder::new(vec![bootstrap.to_owned()]).build().await?;
        let topics = client.list_topics().await?;
        let numbers =
            topics.into_iter().filter(|found| found.name == topic).flat_map(|found| found.partitions);
        let mut partitions = Vec::new();
        for number in numbers {
            // The topic is there, so that asking for it by name does not make it.
            partitions
                .push((number, client.partition_client(topic, number, UnknownTopicHandling::Error).await?));
        }
        Ok::<_, rskafka::client::error::Error>(partitions)
    };
    found.await.map_err(LookError::at(format!("find the partitions of {topic} at {bootstrap}")))
}

/// object_store's own connector would send requests to this machine through the operator's proxy.
#[derive(Debug)]
struct WithoutProxy(reqwest::Client);

impl HttpConnector for WithoutProxy {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}
