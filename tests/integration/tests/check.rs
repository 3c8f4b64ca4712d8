//! `consumer check` on the real Kafka.

use coinduit_integration::kafka::record;
use coinduit_integration::program::{Ended, Program};
use coinduit_integration::rig::Rig;
use rustix::process::Signal;
use serde_json::Value;

async fn check(rig: &Rig, changes: &[(&str, &str)]) -> Ended {
    Program::start("consumer", &["check", "--json"], &rig.env(changes)).ended().await
}

/// The steps that failed, and the whole document.
fn failed(ended: &Ended) -> Vec<String> {
    let document: Value = serde_json::from_str(&ended.out).expect("the check prints JSON");
    let steps = document["steps"].as_array().expect("a list of steps").iter();
    let failed = steps.filter(|step| step["outcome"] == "failed");
    failed.map(|step| step["step"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_set_up_passes_before_a_run_and_while_one_is_at_work() {
    let rig = Rig::start("check", 3).await;
    rig.kafka.publish(&rig.topic, 1, vec![record("{}")]).await;
    let ended = check(&rig, &[]).await.expect_code(0);
    assert!(ended.out.contains("may be read; there are none yet"), "{}", ended.out);
    assert!(ended.out.contains("may be joined"), "{}", ended.out);

    let mut consumer = rig.consumer(&[("MAX_OBJECT_AGE", "50ms")]);
    rig.stored_to_the_end(1).await;
    consumer.logs("object stored", 1).await;
    consumer.logs("partitions assigned", 1).await;
    for _ in 0..3 {
        check(&rig, &[]).await.expect_code(0);
    }
    // The group was left alone.
    assert_eq!(consumer.log().matches("partitions assigned").count(), 1, "{}", consumer.log());
    consumer.signal(Signal::TERM);
    consumer.ended().await.expect_code(0);

    let ended = check(&rig, &[]).await.expect_code(0);
    assert!(ended.out.contains("all about these objects"), "{}", ended.out);
    assert!(ended.out.contains("the objects are this topic's"), "{}", ended.out);
    rig.audit().await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named_and_not_created() {
    let rig = Rig::without_topic("check-missing").await;
    let ended = check(&rig, &[]).await.expect_code(3);
    assert_eq!(failed(&ended), ["topic"]);
    assert!(ended.out.contains(&format!("the cluster has no topic {}", rig.topic)), "{}", ended.out);
    assert!(!rig.kafka.has(&rig.topic).await);
    rig.finish().await;
}
