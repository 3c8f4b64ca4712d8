//! Brokers that go away: stopped, killed, standing still. The group lives on, and each record is in one object.

use std::time::Duration;

use coinduit_integration::cluster::Cluster;
use coinduit_integration::group::Group;
use coinduit_integration::kafka::Kafka;
use coinduit_integration::membership::{changes, generation, shared};
use coinduit_integration::program::Program;
use coinduit_integration::rig::Rig;
use coinduit_integration::traffic::{Traffic, is_line};
use coinduit_integration::wait::until;
use rustix::process::Signal;

const PARTITIONS: i32 = 4;
const SETTING: [(&str, &str); 3] =
    [("MAX_OBJECT_AGE", "200ms"), ("KAFKA_SESSION_TIMEOUT", "10s"), ("ENRICH", "off")];
/// The broker that goes alone; its id is 2. The first one is the controller too.
const OTHER: usize = 1;
/// Longer than the controller waits for a broker (9 s) and than a request of the consumer's may take.
const STANDSTILL: Duration = Duration::from_secs(20);

/// One cluster, one weather after the other: starting brokers is what takes the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_outlives_brokers_that_stop_crash_or_stand_still() {
    let mut cluster = Cluster::start().await;
    let kafka = Kafka::at(&cluster.bootstrap()).await;
    let mut rig = Rig::on(kafka, "brokers", PARTITIONS, 2).await;
    let group = group_of_the_other_broker(&rig).await;
    rig.use_group(&group);
    let traffic = Traffic::start(&rig.kafka, &rig.topic, PARTITIONS, 4).await;
    let mut members = [rig.consumer(&SETTING), rig.consumer(&SETTING)];
    shared(&members.each_ref(), PARTITIONS).await;
    goes_on(&rig, "at the start").await;

    let states = |members: &[Program; 2]| {
        members.each_ref().map(|member| (changes(&member.log()), generation(&member.log())))
    };
    let before = states(&members);
    cluster.brokers()[OTHER].stop(Signal::TERM).await;
    goes_on(&rig, "without the coordinator's broker").await;
    cluster.brokers()[OTHER].start_again().await;
    goes_on(&rig, "with that broker again").await;
    assert_eq!(states(&members), before, "the coordinator has moved, and the group had another round");

    let [first, second] = cluster.brokers();
    futures::join!(first.stop(Signal::KILL), second.stop(Signal::KILL));
    futures::join!(first.start_again(), second.start_again());
    goes_on(&rig, "after both brokers crashed").await;

    cluster.brokers()[OTHER].signal(Signal::STOP).await;
    tokio::time::sleep(STANDSTILL).await;
    cluster.brokers()[OTHER].signal(Signal::CONT).await;
    goes_on(&rig, "after a broker stood still").await;

    assert!(members.iter_mut().all(|member| !member.has_ended()), "a consumer has ended by itself");
    traffic.stop().await;
    for partition in 0..PARTITIONS {
        rig.stored_to_the_end(partition).await;
    }
    for member in members {
        member.signal(Signal::TERM);
        member.ended().await.expect_code(0);
    }
    rig.holds_everything_once(PARTITIONS, is_line).await;
    rig.finish().await;
}

/// A group that broker 2 keeps: a group's name decides.
async fn group_of_the_other_broker(rig: &Rig) -> String {
    for number in 0.. {
        let name = format!("{}-{number}", rig.topic);
        if Group::new(&rig.kafka, &name).coordinator().await.node == 2 {
            return name;
        }
    }
    unreachable!("brokers share groups evenly")
}

/// Waits until what is published now is stored, in every partition.
async fn goes_on(rig: &Rig, when: &str) {
    for partition in 0..PARTITIONS {
        let mut end = None;
        until(&format!("partition {partition} has a leader {when}"), async || {
            end = rig.kafka.try_end(&rig.topic, partition).await;
            end.is_some()
        })
        .await;
        let end = end.expect("a leader has said so");
        until(&format!("partition {partition} is stored beyond {end} {when}"), async || {
            rig.bucket.tail(&rig.topic, partition).await > end
        })
        .await;
    }
}
