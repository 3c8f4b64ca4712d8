//! Reads a Kafka topic and writes it to S3 as newline JSON objects, each record exactly once.
//!
//! ```text
//! Kafka --reader--> partition (progress, batch) --ledger--> S3
//!                        \--quarantine--> S3
//! ```
//!
//! [`ledger`] carries the argument why nothing is lost or repeated; [`group`] shares partitions with other consumers;
//! [`service`] owns the tasks; one [`partition`] is one task.

use std::sync::Arc;

use coinduit_common::{
    alert::{Alerts, SnsSender},
    aws::Aws,
    clock::Clock,
    kafka::aborted::Isolation,
};
use tracing::{info, warn};

pub mod audit;
pub mod batch;
pub mod budget;
pub mod check;
pub mod compression;
pub mod config;
pub mod error;
pub mod group;
pub mod health;
pub mod http;
pub mod identity;
pub mod layout;
pub mod ledger;
pub mod lines;
pub mod metrics;
pub mod ownership;
pub mod partition;
pub mod patience;
mod pending;
pub mod puts;
pub mod quarantine;
pub mod reader;
pub mod record_layout;
pub mod service;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
pub mod tiny;
pub mod trouble;
pub mod vitals;

use config::{Config, Reader};
use error::ConsumerError;
use group::coordinator::KafkaCoordinator;
use identity::{Confirm, Identity};
use ledger::s3::S3Bucket;
use reader::{OpenReader, auto::AutoReaders, native::NativeReaders, rskafka::Readers};
use service::{Parts, Service};
use tokio::task::JoinSet;
use uuid::Uuid;
use vitals::Vitals;

/// How long alerts get to leave when the process ends.
const LAST_ALERTS: std::time::Duration = std::time::Duration::from_secs(3);

/// Runs the consumer until `shutdown` comes, the end is reached, or nothing can help any more.
///
/// # Errors
/// [`ConsumerError`]; its exit code says whether running again can help.
pub async fn run(config: Config, shutdown: impl Future<Output = &'static str>) -> Result<(), ConsumerError> {
    for warning in config.aws.warnings().iter().chain(&config.kafka.warnings) {
        warn!("{warning}");
    }
    for warning in tiny::warnings(&config.limits, config.layout) {
        warn!("{warning}");
    }
    info!(brokers = %config.kafka.bootstrap, topic = config.kafka.topic, group = config.group_id, bucket = config.bucket, prefix = config.prefix.as_str(), reader = ?config.reader, isolation = ?config.isolation, "consumer starts");
    let listener = match config.http_addr {
        Some(address) => Some(http::listen(address).await?),
        None => None,
    };
    let aws = Aws::new(config.aws.clone()).await;
    let client = aws
        .s3(&config.bucket)
        .map_err(|source| ConsumerError::Client { bucket: config.bucket.clone(), source })?;
    let alerts = match &config.sns_topic_arn {
        Some(arn) => Alerts::start("consumer", Clock::System, SnsSender::new(&aws, arn.clone())),
        None => Alerts::logged_only(),
    };
    let vitals = Vitals::new(&config.kafka.topic, config.limits.age, Clock::System, alerts.clone());
    let mut server = JoinSet::new();
    if let Some(listener) = listener {
        info!(address = ?listener.local_addr().ok(), "serving /metrics, /livez and /readyz");
        server.spawn(http::serve(listener, Arc::clone(&vitals)));
    }
    let topic: Arc<dyn Confirm> = Arc::new(Identity::new(config.kafka.clone(), Clock::System));
    let readers = readers(&config, &topic);
    let coordinator =
        KafkaCoordinator::new(config.kafka.clone(), config.group_id.clone(), config.session_timeout);
    let parts = Parts {
        bucket: Arc::new(S3Bucket::new(client)),
        topic,
        readers,
        coordinator: Arc::new(coordinator),
        alerts: alerts.clone(),
        vitals,
        clock: Clock::System,
        process: Uuid::new_v4().to_string().into(),
    };
    let result = Service::new(config, parts).run(shutdown).await;
    alerts.flush(LAST_ALERTS).await;
    result
}

/// The readers that `KAFKA_READER` and `KAFKA_ISOLATION_LEVEL` ask for.
fn readers(config: &Config, topic: &Arc<dyn Confirm>) -> Arc<dyn OpenReader> {
    let native = NativeReaders::new(config.kafka.clone(), config.isolation, Clock::System);
    let rskafka = || Readers::new(config.kafka.clone(), Arc::clone(topic), Clock::System);
    match (config.reader, config.isolation) {
        (Reader::Rskafka, _) => Arc::new(rskafka()),
        (Reader::Native, _) | (Reader::Auto, Isolation::ReadCommitted) => Arc::new(native),
        (Reader::Auto, Isolation::ReadUncommitted) => {
            Arc::new(AutoReaders::new(rskafka(), native, Clock::System))
        }
    }
}
