//! Leaders that move, and a leader that has lost what another one had: the native reader's side of it.

use coinduit_integration::cluster::Cluster;
use coinduit_integration::group::Group;
use coinduit_integration::kafka::{Kafka, record};
use coinduit_integration::program::Program;
use coinduit_integration::rig::Rig;
use coinduit_integration::traffic::{Traffic, is_line};
use coinduit_integration::wait::until;
use rustix::process::Signal;

const NATIVE: [(&str, &str); 3] =
    [("KAFKA_READER", "native"), ("MAX_OBJECT_AGE", "200ms"), ("ENRICH", "off")];
/// What the consumer says of a log that has less than was read.
const CUT: &str = "the log was cut";

async fn stop(consumer: Program) {
    consumer.signal(Signal::TERM);
    consumer.ended().await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_partitions_are_read_on_while_their_leaders_move() {
    const PARTITIONS: i32 = 100;
    /// The broker that goes alone; its id is 2. The first one is the controller too.
    const OTHER: usize = 1;
    let mut cluster = Cluster::start().await;
    let kafka = Kafka::at(&cluster.bootstrap()).await;
    let rig = Rig::on(kafka, "moving", PARTITIONS, 2).await;
    let mut consumer = rig.consumer(&NATIVE);
    consumer.logs("partitions assigned", 1).await;
    let traffic = Traffic::start(&rig.kafka, &rig.topic, PARTITIONS, 11).await;
    let goes_on = async |when: &str| {
        for partition in (0..PARTITIONS).step_by(9) {
            let mut end = None;
            until(&format!("partition {partition} takes records {when}"), async || {
                let line = record(r#"{"n":-1}"#);
                if !rig.kafka.try_publish(&rig.topic, partition, vec![line]).await {
                    return false;
                }
                end = rig.kafka.try_end(&rig.topic, partition).await;
                end.is_some()
            })
            .await;
            let end = end.expect("a leader has said so");
            until(&format!("partition {partition} is stored up to {end} {when}"), async || {
                rig.bucket.tail(&rig.topic, partition).await >= end
            })
            .await;
        }
    };
    goes_on("at the start").await;
    for signal in [Signal::TERM, Signal::KILL] {
        cluster.brokers()[OTHER].stop(signal).await;
        goes_on("when all leaders are on one broker").await;
        cluster.brokers()[OTHER].start_again().await;
        goes_on("when the broker is back").await;
    }
    assert!(!consumer.has_ended());
    traffic.stop().await;
    for partition in 0..PARTITIONS {
        rig.stored_to_the_end(partition).await;
    }
    assert!(rig.alerts("log-truncated").is_empty(), "leaders that move lose nothing");
    stop(consumer).await;
    rig.holds_everything_once(PARTITIONS, is_line).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_unclean_election_nothing_is_stored_behind_what_was_lost() {
    let mut cluster = Cluster::start().await;
    let mut third = cluster.join().await;
    let bootstrap = format!("{},{}", cluster.bootstrap(), third.address());
    let kafka = Kafka::at(&bootstrap).await;
    until("the third broker is one of the cluster", async || {
        let topic = Kafka::unused_name("on-three");
        kafka.try_create_as(&topic, &[&[3]], &[]).await
    })
    .await;
    // The controller has no part in it: it stays, whoever leads.
    let risky = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    let mut rig = Rig::placed(kafka, "unclean", &[&[2, 3]], &risky).await;
    let group = group_of_the_controller(&rig).await;
    rig.use_group(&group);
    let lines =
        |numbers: std::ops::Range<i32>| numbers.map(|n| format!(r#"{{"n":{n}}}"#)).collect::<Vec<_>>();
    let publish = async |numbers: std::ops::Range<i32>| {
        until("records are taken", async || {
            let records = lines(numbers.clone()).iter().map(|line| record(line)).collect();
            rig.kafka.try_publish(&rig.topic, 0, records).await
        })
        .await;
    };
    let other_group = format!("{group}-other");
    let other = [&NATIVE[..], &[("S3_PREFIX", "other"), ("KAFKA_GROUP_ID", &other_group)]].concat();
    let tail = async |prefix: &str| rig.bucket.tail(&format!("{prefix}{}", rig.topic), 0).await;

    publish(0..10).await;
    let mut running = rig.consumer(&NATIVE);
    let stopped = rig.consumer(&other);
    until("both have stored ten", async || tail("").await == 10 && tail("other/").await == 10).await;

    third.stop(Signal::TERM).await;
    publish(10..20).await;
    until("both have stored what only one broker has", async || {
        tail("").await == 20 && tail("other/").await == 20
    })
    .await;
    stop(stopped).await;

    cluster.brokers()[1].stop(Signal::TERM).await;
    third.start_again().await;
    // What comes now has offsets that were others' before, and goes beyond them.
    publish(100..140).await;
    assert_eq!(rig.kafka.end(&rig.topic, 0).await, 50, "the new leader's log");

    let mut restarted = rig.consumer(&other);
    running.logs(CUT, 1).await;
    restarted.logs(CUT, 1).await;
    until("people are told", async || !rig.alerts("log-truncated").is_empty()).await;
    publish(140..160).await;
    // Each has looked again, and stands still still.
    running.logs(CUT, 2).await;
    restarted.logs(CUT, 2).await;
    for (prefix, consumer) in [("", running), ("other/", restarted)] {
        let chain = rig.bucket.chain(&format!("{prefix}{}", rig.topic), 0).await;
        let stored: Vec<&str> = chain.iter().flat_map(|object| object.lines()).collect();
        assert_eq!(stored, lines(0..20), "{prefix}");
        stop(consumer).await;
        assert_eq!(tail(prefix).await, 20, "{prefix} after it has stopped");
    }
    rig.finish().await;
}

/// A group that broker 1 keeps: a group's name decides.
async fn group_of_the_controller(rig: &Rig) -> String {
    for number in 0.. {
        let name = format!("{}-{number}", rig.topic);
        let other = format!("{name}-other");
        let node = async |name: &str| Group::new(&rig.kafka, name).coordinator().await.node;
        if node(&name).await == 1 && node(&other).await == 1 {
            return name;
        }
    }
    unreachable!("brokers share groups evenly")
}
