//! `consumer audit`: a run is found to be sound, and whatever is done to its objects is found.

use coinduit_integration::bucket::Object;
use coinduit_integration::group::Group;
use coinduit_integration::kafka::{Record, record, record_of};
use coinduit_integration::program::{Ended, Program};
use coinduit_integration::rig::Rig;
use coinduit_integration::traffic::Traffic;
use coinduit_integration::wait::until;
use coinduit_local::stack::StackConfig;
use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

const SMALL: [(&str, &str); 1] = [("MAX_OBJECT_RECORDS", "20")];
/// Design.md's namespace of ids.
const NAMESPACE: Uuid = Uuid::from_u128(0xb5b1c2a4_0b1e_4b57_9a0e_6f4f2f6d3c11);

/// Seventy records, two of which can't be lines.
fn seventy() -> Vec<Record> {
    let value = |n: i32| match n {
        7 => record("no JSON"),
        33 => record_of(None),
        n => record(&format!(r#"{{"n":{n}}}"#)),
    };
    (0..70).map(value).collect()
}

/// A topic of two partitions, consumed: four objects in one of them, none in the other.
async fn consumed(what: &str) -> Rig {
    let rig = Rig::start(what, 2).await;
    rig.kafka.publish(&rig.topic, 0, seventy()).await;
    rig.consume_all(&SMALL).await;
    assert_eq!(rig.chain(0).await.len(), 4);
    rig
}

async fn audit(rig: &Rig, arguments: &[&str], changes: &[(&str, &str)]) -> Ended {
    let arguments = [&["audit"], arguments].concat();
    Program::start("consumer", &arguments, &rig.env(changes)).ended().await
}

/// The document of an audit that ends with `code`.
async fn document(rig: &Rig, code: i32) -> Value {
    let ended = audit(rig, &["--json"], &[]).await.expect_code(code);
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {}", ended.out))
}

/// The kinds and keys of a partition's findings.
fn findings(document: &Value, partition: usize) -> Vec<(&str, Vec<&str>)> {
    let findings = document["partitions"][partition]["findings"].as_array().expect("a list of findings");
    findings
        .iter()
        .map(|finding| {
            let keys = finding["keys"].as_array().expect("a list of keys");
            let keys = keys.iter().map(|key| key.as_str().expect("a key")).collect();
            (finding["kind"].as_str().expect("a kind"), keys)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_sound() {
    for enrich in ["on", "off"] {
        let rig = Rig::start("sound", 2).await;
        rig.kafka.publish(&rig.topic, 0, seventy()).await;
        rig.consume_all(&[&SMALL[..], &[("ENRICH", enrich)]].concat()).await;
        let document = document(&rig, 0).await;
        assert_eq!((&document["kafka"], &document["topic"]), (&json!("reached"), &json!(rig.topic)));
        assert_eq!(
            document["totals"],
            json!({ "objects": 4, "records": 68, "quarantined": 2, "skipped": 0, "findings": 0 })
        );
        assert_eq!(document["partitions"][0]["compared"], json!({ "from": 0, "to": 70 }));
        assert_eq!(document["partitions"][1]["tail"], Value::Null);

        let table = audit(&rig, &[], &[]).await.expect_code(0).out;
        assert!(table.contains("Kafka: reached") && table.ends_with("nothing found\n"), "{table}");
        rig.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_to_the_objects_is_found() {
    let rig = consumed("broken").await;
    let chain = rig.chain(0).await;
    let (before, middle, after) = (&chain[0], &chain[1], &chain[2]);

    rig.bucket.delete(&middle.key).await;
    let report = document(&rig, 3).await;
    let neighbours = vec![before.key.as_str(), after.key.as_str()];
    assert_eq!(findings(&report, 0), [("gap", neighbours), ("not-stored", Vec::new())]);
    let table = audit(&rig, &[], &[]).await.expect_code(3).out;
    assert!(table.contains(&before.key) && table.contains(&after.key), "{table}");
    rig.bucket.put(middle).await;
    document(&rig, 0).await;

    let elsewhere =
        middle.key.replace(&format!("{:020}", middle.number("fromoffset")), &format!("{:020}", 30));
    rig.bucket.put(&Object { key: elsewhere.clone(), ..middle.clone() }).await;
    let report = document(&rig, 3).await;
    let twice = vec![middle.key.as_str(), elsewhere.as_str()];
    assert_eq!(findings(&report, 0), [("writer", twice), ("name", vec![elsewhere.as_str()])]);
    rig.bucket.delete(&elsewhere).await;

    let short = middle.body[..middle.body.len() - 10].to_owned();
    rig.bucket.put(&Object { body: short, ..middle.clone() }).await;
    assert_eq!(findings(&document(&rig, 3).await, 0), [("line", vec![middle.key.as_str()])]);
    rig.bucket.put(middle).await;

    let quarantine = format!("quarantine/{}/partition=0/{:020}.json", rig.topic, 7);
    rig.bucket.delete(&quarantine).await;
    let report = document(&rig, 3).await;
    let both = [("quarantine", vec![before.key.as_str()]), ("not-quarantined", vec![quarantine.as_str()])];
    assert_eq!(findings(&report, 0), both);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_while_a_consumer_writes() {
    let rig = Rig::start("busy-audit", 2).await;
    let traffic = Traffic::start(&rig.kafka, &rig.topic, 2, 7).await;
    let consumer = rig.consumer(&[("MAX_OBJECT_RECORDS", "5"), ("MAX_OBJECT_AGE", "50ms")]);
    let mut objects = 0;
    for _ in 0..4 {
        until("more objects are stored", async || rig.bucket.keys(&rig.topic).await.len() > objects + 10)
            .await;
        document(&rig, 0).await;
        objects = rig.bucket.keys(&rig.topic).await.len();
    }
    traffic.stop().await;
    consumer.signal(Signal::TERM);
    consumer.ended().await.expect_code(0);
    document(&rig, 0).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_has_deleted_is_no_finding() {
    let rig = consumed("retained").await;
    rig.kafka.delete_records(&rig.topic, 0, 30).await;
    let report = document(&rig, 0).await;
    let partition = &report["partitions"][0];
    assert_eq!(partition["compared"], json!({ "from": 30, "to": 70 }));
    assert_eq!(partition["notes"][0], "offsets 0 to 29 can't be compared: the log begins at 30");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_the_bucket_is_looked_at_alone() {
    let rig = consumed("alone").await;
    let nobody = [("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")];
    let table = audit(&rig, &[], &nobody).await.expect_code(0).out;
    assert!(table.contains("Kafka: not reached: ") && table.contains("127.0.0.1:1"), "{table}");
    let table = audit(&rig, &["--bucket-only"], &nobody).await.expect_code(0).out;
    assert!(table.contains("Kafka: not asked"), "{table}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_that_cannot_look_says_so() {
    let rig = consumed("blind").await;
    for (name, value, code) in [
        ("S3_BUCKET", "", 2),
        ("S3_BUCKET", "no-such-bucket", 2),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1", 1),
    ] {
        let ended = audit(&rig, &[], &[(name, value)]).await.expect_code(code);
        assert!(ended.out.is_empty(), "{}", ended.out);
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_groups_commit_shows_that_the_last_object_is_missing() {
    let rig = consumed("committed").await;
    let last = rig.chain(0).await.pop().expect("there are objects");
    // Not the group that has read it: what that has committed is another matter.
    let name = Uuid::new_v4().to_string();
    let changes = [("KAFKA_GROUP_ID", name.as_str())];
    let group = Group::new(&rig.kafka, &name);

    let topic = rig.kafka.describe(&rig.topic).await;
    let words = format!("{}\n\n{}", StackConfig::default().bucket, topic.printed_id());
    let ledger = &Uuid::new_v5(&NAMESPACE, words.as_bytes()).simple().to_string()[..16];
    group.reset(&rig.topic, 0, 70, &format!("coinduit/1 ledger={ledger} tail=70")).await;

    audit(&rig, &[], &changes).await.expect_code(0);
    rig.bucket.delete(&last.key).await;
    let out = audit(&rig, &[], &changes).await.expect_code(3).out;
    assert!(
        out.contains("end: the group has committed") && out.contains("not-stored: the log has 8 records"),
        "{out}"
    );

    group.reset(&rig.topic, 0, 70, "").await;
    let out = audit(&rig, &[], &changes).await.expect_code(0).out;
    assert!(out.contains("the group's committed offset 70 does not count"), "{out}");
    rig.finish().await;
}
