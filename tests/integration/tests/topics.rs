//! Topics as people have them: compacted, with large records, odd headers, the broker's time, partitions that are
//! added, and a log that did not wait.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use coinduit_common::clock::rfc3339_ms;
use coinduit_integration::group::Group;
use coinduit_integration::kafka::{now, record};
use coinduit_integration::outside;
use coinduit_integration::program::Program;
use coinduit_integration::raw::{self, Compression, Record, append, batch};
use coinduit_integration::rig::Rig;
use coinduit_integration::wait::until;
use kafka_protocol::protocol::StrBytes;
use rustix::process::Signal;
use serde_json::{Value, json};

const READERS: [&str; 2] = ["auto", "native"];

async fn lines(rig: &Rig, partition: i32) -> Vec<String> {
    let chain = rig.chain(partition).await;
    chain.iter().flat_map(|object| object.lines()).map(str::to_owned).collect()
}

async fn stop(consumer: Program) {
    consumer.signal(Signal::TERM);
    consumer.ended().await.expect_code(0);
}

/// A record that a later one of its key replaces.
fn keyed(key: u32, number: u32) -> Record {
    Record { key: Some(format!("k{key}").into()), ..raw::record(format!(r#"{{"n":{number}}}"#)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_compaction_has_left_is_stored_whatever_is_missing_around_it() {
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "50"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
    ];
    let rig = Rig::with_settings("compacted", 1, &compacted).await;
    // Twenty records a batch. Of the first none is left; of the second the first and the last are gone; of the third
    // the ones in the middle; of the fourth the second half.
    let kept = [vec![], (1..19).collect(), (0..3).chain(17..20).collect(), (0..10).collect::<Vec<u32>>()];
    let mut number = 0;
    let mut append_next = async |keys: Vec<u32>| {
        let records = keys.into_iter().map(|key| {
            number += 1;
            keyed(key, number)
        });
        append(&rig.kafka, &rig.topic, 0, batch(records.collect(), Compression::None)).await;
        // Another segment begins with the next batch.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let keys = |of: u32| (of * 100..of * 100 + 20).collect::<Vec<u32>>();
    for of in 0..4 {
        append_next(keys(of)).await;
    }
    for (of, kept) in (0..).zip(&kept) {
        append_next(keys(of).into_iter().filter(|key| !kept.contains(&(key % 100))).collect()).await;
    }
    append_next(vec![900]).await;
    append_next(vec![901]).await;
    let unique = 80 + 2;
    let mut left = Vec::new();
    until("the log is compacted", async || {
        left = outside::read(&rig.kafka, &rig.topic, 0, "read_uncommitted").await;
        left.len() == unique
    })
    .await;
    let end = rig.kafka.end(&rig.topic, 0).await;
    assert!(end > i64::try_from(unique).expect("a few") && left[0].offset == 21, "{left:?}");

    let expected: Vec<String> = left.into_iter().map(|seen| seen.value).collect();
    for (reader, most) in [("auto", "50000"), ("native", "50000"), ("native", "7")] {
        let prefix = format!("{reader}-{most}");
        let settings = [
            ("KAFKA_READER", reader),
            ("MAX_OBJECT_RECORDS", most),
            ("S3_PREFIX", &prefix),
            ("KAFKA_GROUP_ID", &prefix),
            ("ENRICH", "off"),
        ];
        rig.consume_all(&settings).await;
        let chain = rig.bucket.objects(&format!("{prefix}/{}/partition=0", rig.topic)).await;
        let stored: Vec<&str> = chain.iter().flat_map(|object| object.lines()).collect();
        assert_eq!(stored, expected, "{prefix}");
        assert_eq!(chain.last().map(|object| object.number("tooffset")), Some(end), "{prefix}");
        assert!(chain.iter().all(|object| !object.metadata.contains_key("skipped")), "{prefix}: {chain:?}");
        rig.audit_with(&[("S3_PREFIX", &prefix), ("KAFKA_GROUP_ID", &prefix)]).await;
    }
    rig.finish().await;
}

/// A coin of so many bytes.
fn coin(bytes: usize) -> String {
    let (head, tail) = (r#"{"code":"BTC","note":""#, r#""}"#);
    let note: String = ('a'..='z').cycle().take(bytes - head.len() - tail.len()).collect();
    format!("{head}{note}{tail}")
}

#[tokio::test(flavor = "multi_thread")]
async fn large_records_are_stored_under_the_default_budget_and_one_beyond_an_objects_size_is_alone_in_its_own()
 {
    for reader in ["auto", "native", "rskafka"] {
        // A topic as it comes, and one that takes more.
        let rig = Rig::with_settings("large", 2, &[("max.message.bytes", "6000000")]).await;
        let coins: Vec<String> = [100, 1_000_000, 200, 5_000_000, 300, 1_000_000].map(coin).into();
        for coin in &coins {
            let batch = batch(vec![raw::record(coin.clone())], Compression::None);
            append(&rig.kafka, &rig.topic, 1, batch).await;
        }
        let settings = [("KAFKA_READER", reader), ("ENRICH", "off"), ("MAX_OBJECT_BYTES", "2MiB")];
        rig.consume_all(&settings).await;
        assert!(lines(&rig, 1).await == coins, "{reader}");
        let records: Vec<i64> = rig.chain(1).await.iter().map(|object| object.number("records")).collect();
        assert_eq!(records, [3, 1, 2], "{reader}");
        rig.audit().await;
        rig.finish().await;

        let rig = Rig::start("large-default", 1).await;
        let million = coin(1_000_000);
        append(&rig.kafka, &rig.topic, 0, batch(vec![raw::record(million.clone())], Compression::None)).await;
        rig.consume_all(&[("KAFKA_READER", reader), ("ENRICH", "off")]).await;
        assert!(lines(&rig, 0).await == [million], "{reader}");
        rig.audit().await;
        rig.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_keys_and_values_of_any_bytes_are_no_obstacle_and_quarantine_keeps_them() {
    let text = StrBytes::from_static_str;
    let many: BTreeMap<String, Option<Bytes>> =
        (0..5_000).map(|n| (format!("h{n}"), Some(format!("{n}").into()))).collect();
    for reader in READERS {
        let rig = Rig::start("headers", 1).await;
        let binary = Bytes::from_static(b"\x00\xff\xfe\n\x80");
        let mut odd = Record { key: Some(binary.clone()), ..raw::record(binary.clone()) };
        odd.headers.insert(text(""), None);
        odd.headers.insert(text("id"), None);
        odd.headers.insert(text("source"), Some(binary.clone()));
        odd.headers.insert(text("currency"), Some(Bytes::new()));
        let mut good = Record { value: Some(r#"{"code":"A"}"#.into()), ..odd.clone() };
        good.headers.insert(text("currency"), Some("EUR".into()));
        let mut crowd = raw::record(r#"{"code":"B"}"#);
        crowd.headers = many.iter().map(|(name, value)| (name.clone().into(), value.clone())).collect();
        crowd.headers.insert(text("source"), Some("five thousand".into()));
        let plain = raw::record(r#"{"code":"C"}"#);
        let at = rfc3339_ms(plain.timestamp);
        let records = [plain.clone(), odd, good, crowd, plain].map(|record| Record {
            timestamp: chrono::DateTime::parse_from_rfc3339(&at).expect("RFC 3339").timestamp_millis(),
            ..record
        });
        append(&rig.kafka, &rig.topic, 0, batch(records.into(), Compression::None)).await;
        rig.consume_all(&[("KAFKA_READER", reader)]).await;

        let stored: Vec<Value> = lines(&rig, 0)
            .await
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
            .collect();
        let members = |name: &str| stored.iter().map(|line| line[name].clone()).collect::<Vec<_>>();
        assert_eq!(members("code"), ["C", "A", "B", "C"], "{reader}");
        assert_eq!(members("timestamp"), [at.as_str(); 4], "{reader}");
        // A header that is no text says nothing.
        assert_eq!(members("source"), [json!(null), json!(null), json!("five thousand"), json!(null)]);
        assert_eq!(members("currency"), [json!(null), json!("EUR"), json!(null), json!(null)]);

        let key = format!("quarantine/{}/partition=0/{:020}.json", rig.topic, 1);
        let kept: Value = serde_json::from_str(&rig.bucket.object(&key).await.body).expect("JSON");
        let encoded = STANDARD.encode(&binary);
        assert_eq!((&kept["key"], &kept["value"]), (&json!(encoded), &json!(encoded)), "{reader}");
        let headers = json!([
            { "key": "", "value": null },
            { "key": "id", "value": null },
            { "key": "source", "value": encoded },
            { "key": "currency", "value": "" },
        ]);
        assert_eq!(kept["headers"], headers, "{reader}");
        rig.audit().await;
        rig.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_broker_gives_records_their_time_lines_have_that_time() {
    for reader in READERS {
        let rig = Rig::with_settings("append-time", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
        let began = now().timestamp_millis();
        for number in 0..3 {
            let old = Record { timestamp: 86_400_000, ..raw::record(format!(r#"{{"n":{number}}}"#)) };
            append(&rig.kafka, &rig.topic, 0, batch(vec![old.clone(), old], Compression::Gzip)).await;
        }
        rig.consume_all(&[("KAFKA_READER", reader)]).await;
        let seen = outside::read(&rig.kafka, &rig.topic, 0, "read_uncommitted").await;
        assert!(seen.len() == 6 && seen.iter().all(|seen| seen.timestamp_ms >= began), "{seen:?}");
        let expected: Vec<String> = seen.iter().map(|seen| rfc3339_ms(seen.timestamp_ms)).collect();
        let stored: Vec<String> = lines(&rig, 0)
            .await
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .map(|line| line["timestamp"].as_str().expect("it has one").to_owned())
            .collect();
        assert_eq!(stored, expected, "{reader}");
        let chain = rig.chain(0).await;
        assert_eq!(chain[0].meta("firsttimestamp"), expected[0], "{reader}");
        rig.audit().await;
        rig.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_while_it_runs_are_read_from_their_start() {
    let lives = ["earliest", "latest"].map(|reset| async move {
        let mut rig = Rig::start("added", 1).await;
        let old = (0..10).map(|n| record(&format!(r#"{{"old":{n}}}"#))).collect();
        rig.kafka.publish(&rig.topic, 0, old).await;
        let settings = [
            ("KAFKA_READER", "native"),
            ("AUTO_OFFSET_RESET", reset),
            ("MAX_OBJECT_AGE", "100ms"),
            ("ENRICH", "off"),
        ];
        let mut consumer = rig.consumer(&settings);
        consumer.logs("reading", 1).await;
        let group = Group::new(&rig.kafka, &rig.topic);
        if reset == "latest" {
            until("the start is committed", async || group.committed(&rig.topic, 1).await[0].offset == 10)
                .await;
        }
        let topic = rig.topic.clone();
        rig.kafka.add_partitions(&topic, 4).await;
        let new = |partition: i32| (0..20).map(move |n| format!(r#"{{"partition":{partition},"n":{n}}}"#));
        for partition in 1..4 {
            let records = new(partition).map(|line| record(&line)).collect();
            rig.kafka.publish(&rig.topic, partition, records).await;
        }
        for partition in 1..4 {
            rig.stored_up_to(partition, 20).await;
            assert_eq!(lines(&rig, partition).await, new(partition).collect::<Vec<_>>(), "{reset}");
            assert!(rig.chain(partition).await.iter().all(|object| !object.metadata.contains_key("skipped")));
        }
        assert!(!consumer.has_ended());
        stop(consumer).await;
        rig.audit().await;
        rig.finish().await;
    });
    futures::future::join_all(lives).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_deleted_while_nobody_read_is_on_record_and_told_and_nothing_else_is_missing() {
    for reader in READERS {
        let rig = Rig::start("overtaken", 1).await;
        let records = |numbers: std::ops::Range<i32>| {
            numbers.map(|n| record(&format!(r#"{{"n":{n}}}"#))).collect::<Vec<_>>()
        };
        rig.kafka.publish(&rig.topic, 0, records(0..30)).await;
        let settings = [("KAFKA_READER", reader), ("ENRICH", "off")];
        rig.consume_all(&settings).await;
        rig.kafka.publish(&rig.topic, 0, records(30..60)).await;
        rig.kafka.delete_records(&rig.topic, 0, 47).await;
        rig.consume_all(&settings).await;

        let expected: Vec<String> = (0..30).chain(47..60).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        assert_eq!(lines(&rig, 0).await, expected, "{reader}");
        let chain = rig.chain(0).await;
        let last = chain.last().expect("two objects");
        assert_eq!((last.meta("skipped"), last.number("fromoffset")), ("30-47:retention", 30), "{reader}");
        let alerts = rig.alerts("records-lost");
        let [alert] = &alerts[..] else { panic!("{reader}: {alerts:?}") };
        assert!(alert.contains("offsets 30 to 46 were deleted by retention"), "{alert}");
        assert!(alert.contains("\"from\": 30") && alert.contains("\"to\": 47"), "{alert}");
        let document = rig.audit().await;
        assert_eq!(document["totals"]["skipped"], 1, "{document}");
        assert!(document.to_string().contains("retention"), "{document}");
        rig.finish().await;
    }
}
