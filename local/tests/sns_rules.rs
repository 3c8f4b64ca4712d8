//! The recorder, through the client that the programs alert with.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

mod support;

use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sns::types::PublishBatchRequestEntry;
use coinduit_local::sns::{Sns, topic_arn};

#[tokio::test]
async fn what_is_published_is_answered_kept_and_shown() {
    let service = Sns::start(support::any_port(), &["alerts"]).unwrap();
    let client = support::sns(&service.url());
    let message = "Partition 3 waits.\n{\"kind\":\"wait\",\"a\":\"<&>\"}";
    let answer = client
        .publish()
        .topic_arn(topic_arn("alerts"))
        .subject("coinduit: partition 3 waits")
        .message(message)
        .send()
        .await
        .unwrap();
    let kept = &service.published()[0];
    assert_eq!(answer.message_id(), Some(kept.message_id.as_str()));
    assert_eq!(kept.subject.as_deref(), Some("coinduit: partition 3 waits"));
    assert_eq!(kept.message, message);

    let shown = support::get_json(format!("{}/_local/published", service.url())).await;
    assert_eq!(shown[0]["message"], message);
    assert_eq!(shown[0]["topic_arn"], topic_arn("alerts"));
}

#[tokio::test]
async fn refusals_have_the_codes_of_aws() {
    let service = Sns::start(support::any_port(), &["alerts"]).unwrap();
    let client = support::sns(&service.url());
    let refusal = async |topic: &str, subject: &str| {
        let sent = client.publish().topic_arn(topic_arn(topic)).subject(subject).message("m").send().await;
        let error = sent.unwrap_err();
        let status = match &error {
            SdkError::ServiceError(answer) => answer.raw().status().as_u16(),
            other => panic!("not an answer of the service: {other:?}"),
        };
        (status, error.code().unwrap_or_default().to_owned())
    };
    assert_eq!(refusal("alerts", "two\nlines").await, (400, "InvalidParameter".into()));
    assert_eq!(refusal("unknown", "s").await, (404, "NotFound".into()));
    assert!(service.published().is_empty());
}

#[tokio::test]
async fn a_batch_tells_which_entries_were_published() {
    let service = Sns::start(support::any_port(), &["alerts"]).unwrap();
    let client = support::sns(&service.url());
    let entry = |id: &str, subject: &str| {
        PublishBatchRequestEntry::builder().id(id).subject(subject).message("m").build().unwrap()
    };
    let answer = client
        .publish_batch()
        .topic_arn(topic_arn("alerts"))
        .publish_batch_request_entries(entry("good", "s"))
        .publish_batch_request_entries(entry("bad", "caf\u{e9}"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.successful().iter().map(|entry| entry.id().unwrap()).collect::<Vec<_>>(), ["good"]);
    assert_eq!(answer.failed().iter().map(|entry| entry.id()).collect::<Vec<_>>(), ["bad"]);
    assert_eq!(service.published().len(), 1);
}

#[tokio::test]
async fn a_topic_can_be_created() {
    let service = Sns::start(support::any_port(), &[]).unwrap();
    let client = support::sns(&service.url());
    let created = client.create_topic().name("new").send().await.unwrap();
    assert_eq!(created.topic_arn(), Some(topic_arn("new").as_str()));
    client.publish().topic_arn(topic_arn("new")).message("m").send().await.unwrap();
}
