//! Reads a Kafka topic and writes it to S3 as newline JSON objects, each record exactly once.
//!
//! ```text
//! Kafka --reader--> partition (progress, batch) --ledger--> S3
//!                        \--quarantine--> S3
//! ```
//!
//! [`ledger`] carries the argument why nothing is lost or repeated; [`service`] owns the tasks; one
//! [`partition`] is one task.

use std::sync::Arc;

use coinduit_common::{
    alert::{Alerts, SnsSender},
    aws::Aws,
    clock::Clock,
};
use tracing::{info, warn};

pub mod audit;
pub mod batch;
pub mod budget;
pub mod config;
pub mod error;
pub mod identity;
pub mod ledger;
pub mod lines;
pub mod ownership;
pub mod partition;
pub mod patience;
pub mod quarantine;
pub mod reader;
pub mod service;
#[cfg(test)]
mod testing;
pub mod trouble;

use config::Config;
use error::ConsumerError;
use ledger::s3::S3Bucket;
use service::Service;

/// How long alerts get to leave when the process ends.
const LAST_ALERTS: std::time::Duration = std::time::Duration::from_secs(3);

/// Runs the consumer until `shutdown` comes, the end is reached, or nothing can help any more.
///
/// # Errors
/// [`ConsumerError`]; its exit code says whether running again can help.
pub async fn run(config: Config, shutdown: impl Future<Output = &'static str>) -> Result<(), ConsumerError> {
    for warning in config.aws.warnings() {
        warn!("{warning}");
    }
    if let Some(group) = &config.group_id {
        warn!(group, "this version reads all partitions by itself; KAFKA_GROUP_ID is not used");
    }
    info!(brokers = %config.kafka.bootstrap, topic = config.kafka.topic, bucket = config.bucket, prefix = config.prefix.as_str(), reader = "rskafka", "consumer starts");
    let aws = Aws::new(config.aws.clone()).await;
    let client = aws
        .s3(&config.bucket)
        .map_err(|source| ConsumerError::Client { bucket: config.bucket.clone(), source })?;
    let alerts = match &config.sns_topic_arn {
        Some(arn) => Alerts::start("consumer", Clock::System, SnsSender::new(&aws, arn.clone())),
        None => Alerts::logged_only(),
    };
    let result = Service::new(config, Arc::new(S3Bucket::new(client)), alerts.clone(), Clock::System)
        .run(shutdown)
        .await;
    alerts.flush(LAST_ALERTS).await;
    result
}
