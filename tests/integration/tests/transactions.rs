//! Transactional topics: what was committed is stored once, what was given up is not, and what is open is waited for.

use coinduit_integration::group::Group;
use coinduit_integration::kafka::{Kafka, record};
use coinduit_integration::outside::{self, Seen};
use coinduit_integration::program::{Ended, events};
use coinduit_integration::raw::{self, Record};
use coinduit_integration::rig::Rig;
use coinduit_integration::transaction::Producer;

const COMMITTED: (&str, &str) = ("KAFKA_ISOLATION_LEVEL", "read_committed");
const UNCOMMITTED: (&str, &str) = ("KAFKA_ISOLATION_LEVEL", "read_uncommitted");
/// Interleaved, an aborted tail; an open transaction below a committed one; nothing but an aborted one.
const PARTITIONS: i32 = 3;

fn line(what: &str, number: i32) -> String {
    format!(r#"{{"what":"{what}","n":{number}}}"#)
}

fn records(what: &str, numbers: std::ops::Range<i32>) -> Vec<Record> {
    numbers.map(|number| raw::record(line(what, number))).collect()
}

fn lines(parts: &[(&str, std::ops::Range<i32>)]) -> Vec<String> {
    parts.iter().flat_map(|(what, numbers)| numbers.clone().map(move |number| line(what, number))).collect()
}

async fn plain(kafka: &Kafka, topic: &str, partition: i32, numbers: std::ops::Range<i32>) {
    let records = numbers.map(|number| record(&line("plain", number))).collect();
    kafka.publish(topic, partition, records).await;
}

/// What stands in each partition's log, and how far the stable part goes.
struct Written {
    all: [Vec<String>; 3],
    committed: [Vec<String>; 3],
    stable: [i64; 3],
}

/// Writes all three partitions; the second producer's transaction in partition 1 stays open.
async fn write(one: &mut Producer<'_>, two: &mut Producer<'_>, kafka: &Kafka, topic: &str) -> Written {
    plain(kafka, topic, 0, 0..4).await;
    one.append(0, records("kept", 0..5)).await;
    two.append(0, records("lost", 0..3)).await;
    one.append(0, records("kept", 5..9)).await;
    plain(kafka, topic, 0, 4..6).await;
    two.append(0, records("lost", 3..6)).await;
    one.end(true).await;
    // Its first records stand below a marker of commit.
    two.append(0, records("lost", 6..7)).await;
    two.end(false).await;
    two.append(0, records("kept", 9..12)).await;
    one.append(0, records("lost", 7..9)).await;
    two.end(true).await;
    one.end(false).await;
    one.append(0, records("tail", 0..20)).await;
    one.end(false).await;

    one.append(1, records("kept", 0..3)).await;
    one.end(true).await;
    let open = two.append(1, records("open", 0..2)).await;
    one.append(1, records("later", 0..4)).await;
    one.end(true).await;
    plain(kafka, topic, 1, 0..2).await;

    one.append(2, records("lost", 0..5)).await;
    one.end(false).await;

    Written {
        all: [
            lines(&[
                ("plain", 0..4),
                ("kept", 0..5),
                ("lost", 0..3),
                ("kept", 5..9),
                ("plain", 4..6),
                ("lost", 3..7),
                ("kept", 9..12),
                ("lost", 7..9),
                ("tail", 0..20),
            ]),
            lines(&[("kept", 0..3), ("open", 0..2), ("later", 0..4), ("plain", 0..2)]),
            lines(&[("lost", 0..5)]),
        ],
        committed: [
            lines(&[("plain", 0..4), ("kept", 0..9), ("plain", 4..6), ("kept", 9..12)]),
            lines(&[("kept", 0..3)]),
            Vec::new(),
        ],
        stable: [kafka.end(topic, 0).await, open, kafka.end(topic, 2).await],
    }
}

async fn stored(rig: &Rig) -> [Vec<String>; 3] {
    let mut all = [const { Vec::new() }; 3];
    for (partition, lines) in (0..).zip(&mut all) {
        for object in rig.chain(partition).await {
            lines.extend(object.lines().into_iter().map(str::to_owned));
        }
    }
    all
}

async fn committed_offsets(rig: &Rig) -> Vec<i64> {
    let commits = Group::new(&rig.kafka, &rig.topic).committed(&rig.topic, PARTITIONS).await;
    commits.iter().map(|commit| commit.offset).collect()
}

fn values(seen: Vec<Seen>) -> Vec<String> {
    seen.into_iter().map(|seen| seen.value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_records_are_stored_once_and_an_end_is_the_last_stable_offset() {
    for (reader, most) in [("auto", "50000"), ("native", "50000"), ("native", "1")] {
        let settings = [COMMITTED, ("KAFKA_READER", reader), ("MAX_OBJECT_RECORDS", most), ("ENRICH", "off")];
        let rig = Rig::start("committed", PARTITIONS).await;
        let mut one = Producer::start(&rig.kafka, &rig.topic, "one").await;
        let mut two = Producer::start(&rig.kafka, &rig.topic, "two").await;
        let written = write(&mut one, &mut two, &rig.kafka, &rig.topic).await;
        for (partition, committed) in (0..).zip(&written.committed) {
            let seen = outside::read(&rig.kafka, &rig.topic, partition, "read_committed").await;
            assert_eq!(&values(seen), committed, "librdkafka's word on partition {partition}");
        }
        rig.consume_all(&settings).await;
        assert_eq!(stored(&rig).await, written.committed, "{reader}");
        assert_eq!(committed_offsets(&rig).await, written.stable, "handled by {reader}");
        rig.audit_with(&[COMMITTED]).await;

        // What was open is stored once it is committed, and with it what was behind it.
        two.end(true).await;
        rig.consume_all(&settings).await;
        let mut all = written.committed;
        all[1] = written.all[1].clone();
        assert_eq!(stored(&rig).await, all, "{reader}");
        let end = rig.kafka.end(&rig.topic, 1).await;
        assert_eq!(committed_offsets(&rig).await, [written.stable[0], end, written.stable[2]]);
        rig.audit_with(&[COMMITTED]).await;
        rig.finish().await;
    }
}

/// The offsets where the other reader went on.
fn changes(ended: &Ended, partition: i64) -> Vec<i64> {
    let changes = events(&ended.log, "another reader goes on from here");
    let here = changes.iter().filter(|event| event["partition"] == partition);
    here.map(|event| event["offset"].as_i64().expect("a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_isolation_every_record_is_stored_and_the_first_reader_ends_where_a_marker_stands() {
    for reader in ["auto", "native"] {
        let settings = [UNCOMMITTED, ("KAFKA_READER", reader), ("ENRICH", "off")];
        let rig = Rig::start("uncommitted", PARTITIONS).await;
        // The first run meets no marker.
        plain(&rig.kafka, &rig.topic, 0, 100..104).await;
        let first = rig.consume_all(&settings).await;
        assert_eq!(changes(&first, 0), Vec::<i64>::new());

        let mut one = Producer::start(&rig.kafka, &rig.topic, "one").await;
        let mut two = Producer::start(&rig.kafka, &rig.topic, "two").await;
        let mut written = write(&mut one, &mut two, &rig.kafka, &rig.topic).await;
        written.all[0].splice(0..0, lines(&[("plain", 100..104)]));
        let ended = rig.consume_all(&settings).await;
        assert_eq!(stored(&rig).await, written.all, "{reader}");
        // The answer from there has the marker, and none of its records was taken from it.
        assert_eq!(changes(&ended, 0), if reader == "auto" { vec![4] } else { Vec::new() });
        rig.audit().await;
        two.end(false).await;
        rig.finish().await;
    }
}
