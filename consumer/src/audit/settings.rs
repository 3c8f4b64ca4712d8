//! What an audit is told: the settings of `run` that say where records and objects are.

use clap::{ArgAction, Args};
use coinduit_common::{
    aws::AwsSettings,
    config::{Env, Faults, given},
    kafka::{
        aborted::Isolation,
        settings::{KafkaArgs, KafkaSettings},
    },
    object_key::Prefix,
    telemetry::LogSettings,
};

use crate::config;

/// What the operator wrote.
#[derive(Debug, Clone, Default, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Consumer group whose committed offsets say how far the topic is handled [default: coinduit]
    #[arg(long, env = "KAFKA_GROUP_ID", value_name = "NAME", help_heading = "Kafka")]
    kafka_group_id: Option<String>,
    /// What the consumer reads: read_uncommitted, or read_committed [default: read_uncommitted]
    #[arg(long, env = "KAFKA_ISOLATION_LEVEL", value_name = "LEVEL", help_heading = "Kafka")]
    kafka_isolation_level: Option<String>,

    /// Bucket that is looked at (required)
    #[arg(long, env = "S3_BUCKET", value_name = "NAME", help_heading = "Objects")]
    s3_bucket: Option<String>,
    /// Before every key; a missing last / is added [default: none]
    #[arg(long, env = "S3_PREFIX", value_name = "PREFIX", help_heading = "Objects")]
    s3_prefix: Option<String>,

    /// Print one JSON document instead of a table
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Audit")]
    json: bool,
    /// Look at the bucket alone, and do not connect to Kafka
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Audit")]
    bucket_only: bool,
}

/// What the audit may rely on.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// Where records come from.
    pub kafka: KafkaSettings,
    /// The group.
    pub group_id: String,
    /// Which transactions' records must be there.
    pub isolation: Isolation,
    /// Where objects are.
    pub bucket: String,
    /// Before every key.
    pub prefix: Prefix,
    /// Print JSON.
    pub json: bool,
    /// Leave Kafka out.
    pub bucket_only: bool,
    /// The AWS side.
    pub aws: AwsSettings,
    /// How to log.
    pub log: LogSettings,
}

impl AuditConfig {
    /// Checks each value.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn new(args: &AuditArgs, env: &Env) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let bucket = given(args.s3_bucket.as_deref()).map(ToOwned::to_owned);
        if bucket.is_none() {
            faults.add("S3_BUCKET", "is not set", "name the bucket to look at");
        }
        let aws = AwsSettings::from_env(env, &mut faults);
        let config = Self {
            kafka: args.kafka.read("coinduit-consumer", &aws, &mut faults),
            group_id: given(args.kafka_group_id.as_deref()).unwrap_or("coinduit").to_owned(),
            isolation: faults.read(
                "KAFKA_ISOLATION_LEVEL",
                args.kafka_isolation_level.as_deref(),
                Isolation::ReadUncommitted,
                config::isolation,
            ),
            bucket: bucket.unwrap_or_default(),
            prefix: faults.read("S3_PREFIX", args.s3_prefix.as_deref(), Prefix::default(), Prefix::new),
            json: args.json,
            bucket_only: args.bucket_only,
            aws,
            log: LogSettings::from_env(env, &mut faults),
        };
        faults.into_result(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_run() {
        let args = AuditArgs { s3_bucket: Some("b".to_owned()), ..AuditArgs::default() };
        let config = AuditConfig::new(&args, &Env::default()).unwrap();
        assert_eq!(
            (config.kafka.topic.as_str(), config.group_id.as_str(), config.prefix.as_str()),
            ("crypto_prices", "coinduit", "")
        );
        assert!(!config.json && !config.bucket_only);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let args = AuditArgs { s3_prefix: Some("/a".to_owned()), ..AuditArgs::default() };
        let text = AuditConfig::new(&args, &Env::default()).unwrap_err().to_string();
        assert!(text.contains("S3_BUCKET") && text.contains("S3_PREFIX"), "{text}");
    }
}
