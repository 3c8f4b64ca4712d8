//! The other ways to lay objects out: one per record, and compressed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use coinduit_consumer::compression::Compression;
use coinduit_integration::bucket::Object;
use coinduit_integration::kafka::{Kafka, Record, record};
use coinduit_integration::program::Program;
use coinduit_integration::rig::Rig;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

const PARTITIONS: i32 = 3;
/// How often a member is killed.
const KILLS: u32 = 12;

/// A few codes, and ids that repeat now and then with other content; some that can't be named.
fn coin(number: u64) -> Record {
    match number % 50 {
        49 => record(&format!(r#"{{"n":{number}}}"#)),
        48 => record(&format!(r#"{{"code":"a/b","n":{number}}}"#)),
        _ => record(&format!(r#"{{"code":"C{}","id":"{}","n":{number}}}"#, number % 7, number / 20)),
    }
}

async fn publish(kafka: &Kafka, topic: &str, number: &mut u64, random: &mut StdRng) {
    for partition in 0..PARTITIONS {
        let count = random.random_range(1..200);
        let records = (*number..*number + count).map(coin).collect();
        *number += count;
        kafka.publish(topic, partition, records).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_per_record_survives_kills_at_any_moment() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let rig = Rig::start("record-layout", PARTITIONS).await;
    let settings = [("OBJECT_LAYOUT", "record"), ("S3_PREFIX", "each"), ("KAFKA_SESSION_TIMEOUT", "6s")];
    // Static, so that it is back without waiting for its own session's end.
    let member = [&settings[..], &[("KAFKA_GROUP_INSTANCE_ID", "one")]].concat();
    let mut number = 0;
    let mut killed_early = 0;
    for _ in 0..KILLS {
        publish(&rig.kafka, &rig.topic, &mut number, &mut random).await;
        let before = rig.bucket.keys("each").await.len();
        let mut consumer = rig.consumer(&member);
        consumer.logs("reading", 1).await;
        sleep(Duration::from_millis(random.random_range(0..400))).await;
        drop(consumer.kill().await);
        let stored = rig.bucket.keys("each").await.len() - before;
        killed_early += u32::from(stored > 0);
    }
    assert!(killed_early > 0, "no kill met a put: this proves little");
    publish(&rig.kafka, &rig.topic, &mut number, &mut random).await;
    rig.consume_all(&member).await;

    let objects: BTreeMap<String, Object> =
        rig.bucket.objects("each").await.into_iter().map(|object| (object.key.clone(), object)).collect();
    let mut expected = BTreeSet::from([format!("each/{}/_coinduit.json", rig.topic)]);
    let mut seconds = 0;
    for partition in 0..PARTITIONS {
        for found in rig.kafka.read(&rig.topic, partition).await {
            let value = std::str::from_utf8(found.record.value.as_deref().unwrap_or_default()).expect("text");
            let coin: serde_json::Value = serde_json::from_str(value).expect("JSON");
            let (offset, place) = (found.offset, format!("{partition}-{}", found.offset));
            let (Some(code), Some(id)) = (coin["code"].as_str(), coin["id"].as_str()) else {
                expected
                    .insert(format!("each/quarantine/{}/partition={partition}/{offset:020}.json", rig.topic));
                continue;
            };
            let names = [format!("each/{code}_{id}.json"), format!("each/{code}_{id}_{place}.json")];
            // Enriched, and with a line break at its end.
            let is_it = |object: &&Object| {
                object.body.starts_with(&value[..value.len() - 1]) && object.body.ends_with("Z\"}\n")
            };
            let there: Vec<&Object> =
                names.iter().filter_map(|name| objects.get(name)).filter(is_it).collect();
            assert_eq!(there.len(), 1, "{place}: {value}");
            assert_eq!((there[0].number("partition"), there[0].number("offset")), (partition.into(), offset));
            assert_eq!(there[0].content_type.as_deref(), Some("application/json"));
            seconds += u32::from(there[0].key == names[1]);
            expected.insert(there[0].key.clone());
        }
    }
    let stored: BTreeSet<String> = objects.keys().cloned().collect();
    assert_eq!(stored, expected);
    assert!(seconds > 0, "no two records wanted one name: this proves little");
    println!(
        "{} objects of {number} records, {seconds} of them under their second name, {KILLS} kills, {killed_early} met puts",
        objects.len()
    );

    // The folder is for this layout only, and an audit says that it has no chain.
    for other in [("OBJECT_LAYOUT", "log"), ("COMPRESSION", "gzip")] {
        let changes = [("S3_PREFIX", "each"), other];
        let ended =
            Program::start("consumer", &["--exit-at-end"], &rig.env(&changes)).ended().await.expect_code(2);
        assert!(ended.log.contains("layout is \\\"record\\\" there"), "{}", ended.log);
    }
    let audit = Program::start("consumer", &["audit"], &rig.env(&[("S3_PREFIX", "each")])).ended().await;
    assert!(audit.expect_code(2).log.contains("keeps no chain"));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_objects_hold_every_record_once_and_keep_their_compression() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let rig = Rig::start("compressed", PARTITIONS).await;
        let (mut number, mut random) = (0, StdRng::seed_from_u64(7));
        let settings = [
            ("COMPRESSION", compression.name()),
            ("MAX_OBJECT_BYTES", "4KiB"),
            ("KAFKA_SESSION_TIMEOUT", "6s"),
            ("KAFKA_GROUP_INSTANCE_ID", "one"),
        ];
        for _ in 0..4 {
            publish(&rig.kafka, &rig.topic, &mut number, &mut random).await;
            let mut consumer = rig.consumer(&settings);
            consumer.logs("object stored", 1).await;
            drop(consumer.kill().await);
        }
        rig.consume_all(&settings).await;
        let document = rig.audit().await;
        assert_eq!(document["totals"]["records"], number, "{document}");
        assert!(
            document["partitions"][0]["bytes_read"].as_u64().is_some_and(|bytes| bytes > 0),
            "{document}"
        );
        let mut lines = 0;
        for partition in 0..PARTITIONS {
            let folder = format!("{}/partition={partition}", rig.topic);
            for key in rig.bucket.keys(&folder).await {
                assert_eq!(Compression::of_key(&key), Some(compression), "{key}");
                let content: Bytes = rig.bucket.bytes(&key).await;
                let unpacked = compression.unpack(content, 1 << 20).expect("it can be unpacked");
                lines += unpacked.iter().filter(|byte| **byte == b'\n').count();
            }
        }
        assert_eq!(u64::try_from(lines).expect("a few"), number);
        // Whoever says otherwise is told so, and writes nothing.
        let ended =
            Program::start("consumer", &["--exit-at-end"], &rig.env(&[])).ended().await.expect_code(2);
        assert!(ended.log.contains("set OBJECT_LAYOUT and COMPRESSION"), "{}", ended.log);
        rig.finish().await;
    }
}
