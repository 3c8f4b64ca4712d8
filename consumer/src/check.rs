//! `consumer check`: whether a run has all that it needs, tried with the settings of `run`.
//!
//! ```text
//! brokers: addresses, advertised listeners, topic, head of a log, group --kafka--.
//! bucket:  listing, create-only puts, what comes back, _coinduit.json ----store--+--> steps --report--> table or JSON
//! SNS, where a message is wanted; HTTP_ADDR ------------------------------alerts-'
//! ```
//!
//! Nothing is joined, committed or claimed: a consumer may run meanwhile. One small object per folder is made and stays
//! (the role of a consumer may not delete), the same always, so that the next check finds it: that the store then refuses
//! to make it again is what there is to be shown.

use std::{io, net::SocketAddr};

use coinduit_common::{
    alert::{AlertSender, SnsSender},
    aws::Aws,
    report::Chain,
};
use tokio::net::TcpListener;
use tracing::warn;

pub mod alerts;
mod brokers;
mod bucket;
pub mod grant;
pub mod kafka;
pub mod report;
pub mod settings;
pub mod step;
pub mod store;

use alerts::Sent;
use bucket::Place;
use grant::BucketName;
use report::Report;
use settings::CheckConfig;
use step::{Kind, Step};

use crate::{config::Config, http, ledger::s3::S3Bucket};

/// Tries everything.
pub async fn run(check: &CheckConfig) -> Report {
    let config = &check.run;
    for warning in config.aws.warnings().iter().chain(&config.kafka.warnings) {
        warn!("{warning}");
    }
    let aws = Aws::new(config.aws.clone()).await;
    let region = aws.sdk().region().map_or_else(String::new, ToString::to_string);
    let name = BucketName { name: &config.bucket, prefix: &config.prefix, region: Some(&region) };
    let place = Place { name, prefix: &config.prefix, topic: &config.kafka.topic, layout: config.layout };
    let (kafka, (credentials, asked), alerts, http) = tokio::join!(
        Box::pin(brokers::ask(config)),
        Box::pin(ask_bucket(config, &aws, place)),
        Box::pin(notify(check, &aws)),
        listen(config.http_addr),
    );
    let mut steps = kafka.steps;
    steps.push(credentials);
    steps.extend(asked.finish(place, kafka.topic.as_ref()));
    steps.push(alerts::alerts(config.sns_topic_arn.as_deref(), &region, &alerts));
    steps.push(http);
    Report {
        brokers: config.kafka.bootstrap.to_string(),
        topic: config.kafka.topic.clone(),
        group: config.group_id.clone(),
        bucket: config.bucket.clone(),
        prefix: config.prefix.to_string(),
        steps,
    }
}

async fn ask_bucket(config: &Config, aws: &Aws, place: Place<'_>) -> (Step, bucket::Asked) {
    const ABOUT: &str = "AWS";
    let failed = |said: String, advice: &str| {
        (Step::failed(Kind::Credentials, ABOUT, said).advise(advice), bucket::not_asked(place))
    };
    if let Err(error) = aws.credentials().await {
        return failed(
            Chain(&error).to_string(),
            "give this process credentials, or a role; where it has one, see that its service answers (IMDS, ECS, EKS)",
        );
    }
    match aws.s3(&config.bucket) {
        Ok(client) => {
            let found = Step::ok(Kind::Credentials, ABOUT, "were found");
            (found, bucket::ask(&S3Bucket::new(client), place).await)
        }
        Err(error) => {
            let said = format!("make a client for bucket {}: {}", config.bucket, Chain(&error));
            failed(said, "correct S3_BUCKET, AWS_REGION and AWS_ENDPOINT_URL_S3")
        }
    }
}

async fn notify(check: &CheckConfig, aws: &Aws) -> Sent {
    let Some(arn) = check.run.sns_topic_arn.as_ref().filter(|_| check.notify) else { return Sent::NotTried };
    let (topic, bucket) = (&check.run.kafka.topic, &check.run.bucket);
    let body = format!(
        "This is a test. Somebody ran consumer check --notify for topic {topic} and bucket {bucket}; alerts of that consumer arrive here. Nothing is to be done.\n"
    );
    match SnsSender::new(aws, arn.clone()).send("coinduit: a test, nothing is wrong", &body).await {
        Ok(()) => Sent::Taken,
        Err(error) => Sent::Refused(error.to_string()),
    }
}

async fn listen(address: Option<SocketAddr>) -> Step {
    let Some(wanted) = address else { return alerts::http(None, Ok(()), false) };
    let bound: io::Result<TcpListener> = TcpListener::bind(wanted).await;
    let consumer_answers = bound.is_err() && http::ask(wanted, "/livez").await.is_ok();
    alerts::http(address, bound.as_ref().map(|_| ()), consumer_answers)
}
