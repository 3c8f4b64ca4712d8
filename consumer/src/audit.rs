//! `consumer audit`: what a topic's objects say of each other, and what its log says of them.
//!
//! ```text
//! Kafka: topic, commits --> bucket: keys, metadata, quarantine --examine--> findings
//!                                                |                             ^
//!                           Kafka: records --> bodies, one by one --compare----+
//! ```
//!
//! The order matters while a consumer runs: commits are read before objects are listed, so that what was
//! committed is there, and quarantine is listed after the objects that count what it holds.

use std::{collections::BTreeMap, time::Duration};

use coinduit_common::{
    aws::Aws, clock::Clock, exit::Exit, kafka::metadata::Topic, object_key, report::Chain as Causes,
};
use tokio::time::timeout;
use tracing::warn;

pub mod cluster;
pub mod compare;
pub mod examine;
pub mod finding;
pub mod handled;
mod hold;
pub mod listing;
mod look;
pub mod owner;
pub mod report;
pub mod settings;
#[cfg(test)]
mod tests;

use cluster::{Cluster, Kafka};
use compare::Place;
use examine::{Seen, examine};
use finding::{Finding, Kind};
use handled::Commit;
use listing::{Folder, Listed};
use owner::{NoChain, Owner};
use report::{PartitionReport, Report};
use settings::AuditConfig;

use crate::{
    compression::Compression,
    ledger::{
        bucket::{Bucket, StoreError},
        commit::LedgerId,
        s3::S3Bucket,
    },
};

/// For so long Kafka is waited for.
const REACH: Duration = Duration::from_secs(10);

/// The audit could not look.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The bucket's client can't be built.
    #[error("make a client for bucket {bucket}")]
    Client {
        /// The bucket.
        bucket: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no chain to look at.
    #[error(transparent)]
    NoChain(#[from] NoChain),
}

impl AuditError {
    /// The exit code.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Client { .. } | Self::NoChain(_) => Exit::Misconfigured,
            Self::Store(error) if error.permanent => Exit::Misconfigured,
            Self::Store(_) => Exit::Failed,
        }
    }
}

/// Looks at the bucket on S3 and the topic on Kafka. `tell` is given a line on how far it has come.
///
/// # Errors
/// [`AuditError`]. A cluster that can't be reached is none: the report says so.
pub async fn run(config: &AuditConfig, tell: &dyn Fn(&str)) -> Result<Report, AuditError> {
    for warning in config.aws.warnings().iter().chain(&config.kafka.warnings) {
        warn!("{warning}");
    }
    let aws = Aws::new(config.aws.clone()).await;
    let client = aws
        .s3(&config.bucket)
        .map_err(|source| AuditError::Client { bucket: config.bucket.clone(), source })?;
    let kafka = Kafka::new(config.kafka.clone(), config.group_id.clone(), config.isolation, Clock::System);
    let cluster = (!config.bucket_only).then_some(&kafka as &dyn Cluster);
    let audit = Audit { config, bucket: &S3Bucket::new(client), cluster, tell };
    audit.run().await
}

/// One audit.
struct Audit<'a> {
    config: &'a AuditConfig,
    bucket: &'a dyn Bucket,
    cluster: Option<&'a dyn Cluster>,
    tell: &'a dyn Fn(&str),
}

/// What Kafka has said before the bucket was listed.
#[derive(Default)]
struct Told {
    topic: Option<Topic>,
    /// Offset and text by partition; `None` where the group could not be asked.
    commits: Option<BTreeMap<i32, (i64, String)>>,
    notes: Vec<String>,
}

impl Audit<'_> {
    async fn run(&self) -> Result<Report, AuditError> {
        let AuditConfig { bucket, prefix, kafka, group_id, .. } = self.config;
        let mut report = Report {
            topic: kafka.topic.clone(),
            bucket: bucket.clone(),
            prefix: prefix.to_string(),
            group: group_id.clone(),
            kafka: "not asked: --bucket-only".to_owned(),
            findings: Vec::new(),
            notes: Vec::new(),
            partitions: Vec::new(),
        };
        let mut told = self.ask_kafka(&mut report).await;
        (self.tell)("listing objects");
        let mut folder = look::folder(self.bucket, Folder::new(prefix, &kafka.topic)).await?;
        let manifest = self.bucket.get(folder.manifest_key()).await?;
        let has_objects = folder.has_objects();
        let Owner { findings, comparable } =
            owner::judge(folder.manifest_key(), manifest.as_deref(), has_objects, told.topic.as_ref())?;
        if !comparable && told.topic.take().is_some() {
            "not compared: the objects belong to another topic".clone_into(&mut report.kafka);
        }
        report.findings = findings;
        report.findings.extend(folder.strangers.iter().map(|key| {
            Finding::new(Kind::Stranger, &[key], format!("{key} is no object of the consumer's"))
        }));
        if let Some(compression) = manifest.as_deref().and_then(owner::compression) {
            let objects = folder.partitions.values().flat_map(|listed| &listed.objects);
            let others = objects.filter(|(_, key)| Compression::of_key(key) != Some(compression));
            report.findings.extend(others.map(|(_, key)| {
                let said = compression.name();
                let problem = format!(
                    "{key} is not named as an object with COMPRESSION={said}, as _coinduit.json says"
                );
                Finding::new(Kind::Stranger, &[key], problem)
            }));
        }
        report.notes = std::mem::take(&mut told.notes);
        if !has_objects {
            report.notes.push(format!("there are no objects in {}", folder.path()));
        }
        for partition in told.topic.iter().flat_map(|topic| &topic.partitions) {
            folder.partitions.entry(*partition).or_default();
        }
        for (partition, listed) in folder.partitions {
            report.partitions.push(self.partition(partition, listed, &told).await?);
        }
        Ok(report)
    }

    async fn ask_kafka(&self, report: &mut Report) -> Told {
        let Some(cluster) = self.cluster else { return Told::default() };
        (self.tell)("asking Kafka");
        let topic = match timeout(REACH, cluster.describe()).await {
            Ok(Ok(topic)) => topic,
            Ok(Err(error)) => {
                report.kafka = format!("not reached: {}", Causes(&error));
                return Told::default();
            }
            Err(_) => {
                report.kafka = format!("not reached: no answer within {REACH:?}");
                return Told::default();
            }
        };
        "reached".clone_into(&mut report.kafka);
        let (commits, notes) = match cluster.committed(&topic.partitions).await {
            Ok(found) => (
                Some(found.into_iter().map(|it| (it.partition, (it.offset, it.metadata))).collect()),
                Vec::new(),
            ),
            Err(error) => (None, vec![format!("the group's commits can't be read: {}", Causes(&error))]),
        };
        Told { topic: Some(topic), commits, notes }
    }

    async fn partition(
        &self,
        partition: i32,
        listed: Listed,
        told: &Told,
    ) -> Result<PartitionReport, StoreError> {
        let AuditConfig { prefix, kafka, .. } = self.config;
        let place = Place { prefix, topic: &kafka.topic, partition };
        let all = listed.objects.len();
        let objects = look::heads(self.bucket, listed.objects, |done| {
            (self.tell)(&format!("partition {partition}: {done} of {all} objects looked at"));
        })
        .await?;
        let (quarantine, strange) = look::quarantine(self.bucket, place).await?;
        let commit = self.commit(partition, told);
        let skips = commit.metadata().map(|metadata| metadata.skipped.clone()).unwrap_or_default();
        let seen = Seen {
            partition,
            objects,
            strangers: [listed.strangers, strange].concat(),
            quarantine: quarantine.clone(),
            commit,
        };
        let (mut report, links) = examine(seen);
        let (Some(cluster), Some(topic)) = (self.cluster, &told.topic) else { return Ok(report) };
        if !topic.partitions.contains(&partition) {
            let folder = object_key::partition_folder(prefix, &kafka.topic, partition);
            let problem = format!("there is {folder}, and the topic has no partition {partition}");
            report.findings.push(Finding::new(Kind::Partition, &[&folder], problem));
        } else if let Some(handled) = report.handled {
            let chain = hold::Chain { place, links: &links, quarantine: &quarantine, skips: &skips, handled };
            let tell = |offset| {
                (self.tell)(&format!("partition {partition}: offset {offset} of {handled} compared"));
            };
            hold::hold(self.bucket, cluster.reader(partition), chain, &mut report, tell).await?;
        }
        Ok(report)
    }

    fn commit(&self, partition: i32, told: &Told) -> Commit {
        let (Some(topic), Some(commits)) = (&told.topic, &told.commits) else { return Commit::Unknown };
        let ledger = LedgerId::new(&self.config.bucket, &self.config.prefix, &topic.printed_id());
        match commits.get(&partition) {
            Some((offset, text)) => Commit::judge(*offset, text, ledger),
            None => Commit::None,
        }
    }
}
