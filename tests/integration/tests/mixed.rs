//! A group in which librdkafka, as `kcat`, reads beside us: partitions change hands both ways.

use std::collections::{BTreeMap, BTreeSet};

use coinduit_integration::kafka::record;
use coinduit_integration::membership::{owned, shared};
use coinduit_integration::program::Program;
use coinduit_integration::rig::Rig;
use coinduit_integration::traffic::{Traffic, is_line};
use coinduit_integration::wait::until;
use rustix::process::Signal;

const PARTITIONS: i32 = 4;
/// Short sessions have quick heartbeats, which tell of a rebalance.
const SETTING: [(&str, &str); 3] =
    [("MAX_OBJECT_AGE", "100ms"), ("KAFKA_SESSION_TIMEOUT", "6s"), ("ENRICH", "off")];
const QUICK: [&str; 4] = ["-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=300"];

#[tokio::test(flavor = "multi_thread")]
async fn librdkafka_joins_and_leaves_with_range() {
    joins_and_leaves("range").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafka_joins_and_leaves_with_cooperative_sticky() {
    joins_and_leaves("cooperative-sticky").await;
}

async fn joins_and_leaves(assignor: &str) {
    let rig = Rig::start(&format!("mixed-{assignor}"), PARTITIONS).await;
    let traffic = Traffic::start(&rig.kafka, &rig.topic, PARTITIONS, 5).await;
    let ours = rig.consumer(&SETTING);
    shared(&[&ours], PARTITIONS).await;

    let kcat = kcat(&rig, assignor);
    until("kcat has half of the partitions", async || owned(&ours.log()).len() == 2).await;
    until("kcat prints from each of its own", async || printed(&kcat.out()).len() == 2).await;
    assert!(ours.log().contains(&format!(r#""assignor":"{assignor}""#)), "{}", ours.log());

    // A record that kcat holds when it is told to stop is never printed, though it commits it.
    traffic.stop().await;
    for (partition, _) in printed(&kcat.out()) {
        let end = rig.kafka.end(&rig.topic, partition).await;
        let last = async || printed(&kcat.out()).get(&partition).and_then(|offsets| offsets.last().copied());
        until("kcat has printed the last one", async || last().await == Some(end - 1)).await;
    }
    kcat.signal(Signal::TERM);
    let printed = printed(&kcat.ended().await.out);
    shared(&[&ours], PARTITIONS).await;
    for partition in 0..PARTITIONS {
        rig.kafka.publish(&rig.topic, partition, vec![record(r#"{"n":"the last"}"#)]).await;
        rig.stored_to_the_end(partition).await;
    }
    ours.signal(Signal::TERM);
    let ended = ours.ended().await.expect_code(0);
    assert!(!ended.log.contains("not stored within DRAIN_TIMEOUT"), "the group had to wait:\n{}", ended.log);

    for partition in 0..PARTITIONS {
        let chain = rig.chain(partition).await;
        let lines = chain.iter().map(|object| object.lines().len()).sum::<usize>();
        let stored: BTreeSet<&[u8]> =
            chain.iter().flat_map(|object| object.lines()).map(str::as_bytes).collect();
        assert_eq!(stored.len(), lines, "a record is stored twice");
        let folder = format!("quarantine/{}/partition={partition}", rig.topic);
        let quarantined = rig.bucket.keys(&folder).await;
        let nothing = BTreeSet::new();
        let elsewhere = printed.get(&partition).unwrap_or(&nothing);
        let log = rig.kafka.read(&rig.topic, partition).await;
        let lost = log.iter().filter(|found| {
            let value = found.record.value.as_deref().unwrap_or_default();
            let kept = if is_line(value) {
                stored.contains(value)
            } else {
                quarantined.iter().any(|key| key.ends_with(&format!("/{:020}.json", found.offset)))
            };
            !kept && !elsewhere.contains(&found.offset)
        });
        let lost: Vec<i64> = lost.map(|found| found.offset).collect();
        let seen = (elsewhere.first(), elsewhere.last());
        assert!(
            lost.is_empty(),
            "{lost:?} of partition {partition} are nowhere; kcat saw {seen:?}; {chain:#?}"
        );
        let skips = chain.iter().filter_map(|object| object.metadata.get("skipped"));
        let foreign = skips.filter(|skipped| skipped.contains("foreign-commit")).count();
        let expected = usize::from(printed.contains_key(&partition));
        assert_eq!(foreign, expected, "what kcat has read is on record as skipped: {chain:?}");
    }
    rig.audit().await;
    rig.finish().await;
}

fn kcat(rig: &Rig, assignor: &str) -> Program {
    let assignor = format!("partition.assignment.strategy={assignor}");
    let (bootstrap, topic) = (rig.kafka.bootstrap(), rig.topic.as_str());
    let settings = ["-X", &assignor, "-X", "auto.offset.reset=earliest"];
    let what = ["-u", "-f", "%p %o\\n", "-G", topic, topic];
    Program::tool("kcat", "kcat", &[&["-b", bootstrap], &settings[..], &QUICK, &what].concat())
}

/// The offsets that kcat has printed, by partition.
fn printed(out: &str) -> BTreeMap<i32, BTreeSet<i64>> {
    let mut printed: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
    for line in out.lines() {
        let (partition, offset) = line.split_once(' ').expect("a partition and an offset");
        let numbers = partition.parse().ok().zip(offset.parse().ok());
        let (partition, offset) = numbers.expect("two numbers");
        printed.entry(partition).or_default().insert(offset);
    }
    printed
}
