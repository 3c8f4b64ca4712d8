//! A group's members: how they share partitions, hand them over, come back and are left behind, and what the group
//! knows when nobody is there. Each record is in one object, whatever happens.

use std::collections::BTreeSet;
use std::time::Duration;

use coinduit_integration::bucket::Object;
use coinduit_integration::group::Group;
use coinduit_integration::kafka::{Record, record};
use coinduit_integration::membership::{LOST, REVOKED, changes, generation, owned, shared};
use coinduit_integration::program::{Ended, Program};
use coinduit_integration::rig::Rig;
use coinduit_integration::tally::LOST_RACE;
use coinduit_integration::traffic::{Traffic, is_line};
use coinduit_integration::wait::until;
use coinduit_local::s3::PutFault;
use rustix::process::Signal;

/// Objects of a moment, and the shortest session that brokers allow.
const QUICK: [(&str, &str); 3] =
    [("MAX_OBJECT_AGE", "100ms"), ("KAFKA_SESSION_TIMEOUT", "6s"), ("ENRICH", "off")];
/// Objects are full at six records and never old, and no session ends while a test runs.
const BY_COUNT: [(&str, &str); 4] = [
    ("MAX_OBJECT_RECORDS", "6"),
    ("MAX_OBJECT_AGE", "1h"),
    ("KAFKA_SESSION_TIMEOUT", "10m"),
    ("ENRICH", "off"),
];

/// The consumer's word for a partition whose chain's end it knows.
const READING: &str = "\"message\":\"reading\"";

fn records(numbers: std::ops::Range<i64>) -> Vec<Record> {
    numbers.map(|n| record(&format!(r#"{{"n":{n}}}"#))).collect()
}

fn lines(numbers: impl IntoIterator<Item = i64>) -> Vec<String> {
    numbers.into_iter().map(|n| format!(r#"{{"n":{n}}}"#)).collect()
}

async fn stop(consumer: Program) -> Ended {
    consumer.signal(Signal::TERM);
    consumer.ended().await.expect_code(0)
}

fn member(rig: &Rig, setting: &[(&str, &str)], name: &str) -> Program {
    rig.consumer(&[setting, &[("KAFKA_GROUP_INSTANCE_ID", name)]].concat())
}

/// All lines of a partition, in order.
fn lines_of(chain: &[Object]) -> Vec<&str> {
    chain.iter().flat_map(Object::lines).collect()
}

/// The partitions in which an object was closed for that reason.
async fn closed(rig: &Rig, partitions: i32, why: &str) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for partition in 0..partitions {
        if rig.chain(partition).await.iter().any(|object| object.meta("closed") == why) {
            found.insert(partition);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn members_hand_over_what_they_hold_without_waiting_for_a_session_to_end() {
    const PARTITIONS: i32 = 6;
    let rig = Rig::start("handover", PARTITIONS).await;
    let publish_everywhere = async |first: i64| {
        for partition in 0..PARTITIONS {
            rig.kafka.publish(&rig.topic, partition, records(first..first + 10)).await;
        }
    };
    let stored_everywhere = async |end: i64| {
        for partition in 0..PARTITIONS {
            let what = format!("partition {partition} is stored up to {end} or further");
            until(&what, async || rig.bucket.tail(&rig.topic, partition).await >= end).await;
        }
    };
    // Six records are in an object, and four that came with them are held.
    publish_everywhere(0).await;
    let first = rig.consumer(&BY_COUNT);
    stored_everywhere(6).await;
    assert!(closed(&rig, PARTITIONS, "revoked").await.is_empty());

    let second = rig.consumer(&BY_COUNT);
    shared(&[&first, &second], PARTITIONS).await;
    let handed_over = owned(&second.log());
    assert_eq!(closed(&rig, PARTITIONS, "revoked").await, handed_over, "what was given up holds its records");
    for partition in &handed_over {
        rig.stored_up_to(*partition, 10).await;
    }

    publish_everywhere(10).await;
    stored_everywhere(16).await;
    let third = rig.consumer(&BY_COUNT);
    shared(&[&first, &second, &third], PARTITIONS).await;
    for partition in owned(&third.log()) {
        rig.stored_up_to(partition, 20).await;
    }

    let held = owned(&first.log());
    stop(first).await;
    for partition in &held {
        rig.stored_up_to(*partition, 20).await;
    }
    assert_eq!(closed(&rig, PARTITIONS, "shutdown").await, held);
    shared(&[&second, &third], PARTITIONS).await;
    publish_everywhere(20).await;
    stored_everywhere(26).await;
    let ends = [stop(second).await, stop(third).await];
    assert!(ends.iter().all(|ended| !ended.log.contains(LOST)), "nobody was taken for dead");
    rig.holds_everything_once(PARTITIONS, is_line).await;

    // The last words of everybody stand in the group, and are ours.
    for commit in Group::new(&rig.kafka, &rig.topic).committed(&rig.topic, PARTITIONS).await {
        assert_eq!(commit.offset, 30, "{commit:?}");
        assert!(commit.metadata.starts_with("coinduit/1 ledger="), "{commit:?}");
        assert!(commit.metadata.ends_with(" tail=30"), "{commit:?}");
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_is_killed_finds_its_partitions_again() {
    let long = [("MAX_OBJECT_AGE", "100ms"), ("KAFKA_SESSION_TIMEOUT", "10m"), ("ENRICH", "off")];
    let rig = Rig::start("static", 4).await;
    let traffic = Traffic::start(&rig.kafka, &rig.topic, 4, 1).await;
    // Who comes first leads: another leader that came back would let the group meet once, half a minute later.
    let other = member(&rig, &long, "other");
    shared(&[&other], 4).await;
    let one = member(&rig, &long, "one");
    shared(&[&one, &other], 4).await;
    let (share, before) = (owned(&one.log()), changes(&other.log()));
    let round = generation(&one.log()).max(generation(&other.log()));

    one.kill().await;
    let again = member(&rig, &long, "one");
    until("its partitions are its again", async || owned(&again.log()) == share).await;
    assert_eq!(generation(&again.log()), round, "the group has had another round");
    let tails = async || {
        let mut tails = Vec::new();
        for partition in 0..4 {
            tails.push(rig.bucket.tail(&rig.topic, partition).await);
        }
        tails
    };
    let behind = tails().await;
    until("all are read", async || tails().await.iter().zip(&behind).all(|(now, then)| now > then)).await;
    assert_eq!(changes(&other.log()), before, "the other was asked to join again:\n{}", other.log());

    // It stops as a restart does: its place is kept.
    stop(again).await;
    let again = member(&rig, &long, "one");
    until("its partitions are its again", async || owned(&again.log()) == share).await;
    assert_eq!((generation(&again.log()), changes(&other.log())), (round, before));
    traffic.stop().await;
    for partition in 0..4 {
        rig.stored_to_the_end(partition).await;
    }
    stop(again).await;
    stop(other).await;
    rig.holds_everything_once(4, is_line).await;
    rig.finish().await;
}

/// It dies between the two rounds in which a partition moves, and is back before anybody misses it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_static_member_was_giving_up_when_it_was_killed_is_somebodys_again() {
    // Who comes first leads; of two with equally much the first by name gives something up.
    futures::join!(killed_while_giving_up("given-up", ["z", "a"]), killed_while_giving_up("led", ["a", "z"]));
}

async fn killed_while_giving_up(what: &str, names: [&str; 2]) {
    let long = [("MAX_OBJECT_AGE", "100ms"), ("KAFKA_SESSION_TIMEOUT", "10m"), ("ENRICH", "off")];
    let rig = Rig::start(what, 4).await;
    let first = member(&rig, &long, names[0]);
    shared(&[&first], 4).await;
    let second = member(&rig, &long, names[1]);
    shared(&[&first, &second], 4).await;
    for partition in 0..4 {
        rig.stack.s3.order_fault(PutFault::DelayBeforeWrite(Duration::from_secs(15)));
        rig.kafka.publish(&rig.topic, partition, records(0..20)).await;
    }
    let third = member(&rig, &long, "m");
    let (mut giver, other) = if names[0] == "a" { (first, second) } else { (second, first) };
    giver.logs(REVOKED, 1).await;
    giver.kill().await;

    let again = member(&rig, &long, "a");
    shared(&[&again, &other, &third], 4).await;
    for partition in 0..4 {
        rig.kafka.publish(&rig.topic, partition, records(20..30)).await;
        rig.stored_to_the_end(partition).await;
    }
    for member in [again, other, third] {
        stop(member).await;
    }
    rig.holds_everything_once(4, is_line).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_slower_than_the_session_costs_no_membership() {
    let rig = Rig::start("slow-upload", 2).await;
    let members = [rig.consumer(&QUICK), rig.consumer(&QUICK)];
    shared(&members.each_ref(), 2).await;
    let before = members.each_ref().map(|member| changes(&member.log()));
    for partition in 0..2 {
        rig.stack.s3.order_fault(PutFault::DelayBeforeWrite(Duration::from_secs(10)));
        rig.kafka.publish(&rig.topic, partition, records(0..20)).await;
    }
    for partition in 0..2 {
        rig.stored_up_to(partition, 20).await;
    }
    assert_eq!(members.each_ref().map(|member| changes(&member.log())), before);
    for member in members {
        stop(member).await;
    }
    rig.holds_everything_once(2, is_line).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stood_still_for_too_long_writes_nothing_on_its_old_membership() {
    let rig = Rig::start("stood-still", 4).await;
    let traffic = Traffic::start(&rig.kafka, &rig.topic, 4, 2).await;
    let (sleeper, other) = (rig.consumer(&QUICK), rig.consumer(&QUICK));
    shared(&[&sleeper, &other], 4).await;
    let share = owned(&sleeper.log());
    // What it has begun to read, and puts under these names.
    let readings = async || {
        let mut found = BTreeSet::new();
        for partition in &share {
            let last = rig.chain(*partition).await.pop();
            found.extend(last.map(|object| reading(&object)));
        }
        found
    };
    until("it has written in all of its partitions", async || readings().await.len() == share.len()).await;
    let old = readings().await;

    sleeper.signal(Signal::STOP);
    let end = traffic_passes(&rig, &share).await;
    shared(&[&other], 4).await;
    until("the other has taken over", async || readings().await.is_disjoint(&old)).await;
    let mut before = Vec::new();
    for partition in &share {
        before.push((*partition, rig.chain(*partition).await.len()));
    }
    sleeper.signal(Signal::CONT);
    until("it notices", async || sleeper.log().contains(LOST)).await;
    shared(&[&sleeper, &other], 4).await;
    traffic.stop().await;
    for partition in 0..4 {
        rig.stored_to_the_end(partition).await;
    }
    for (partition, before) in before {
        let chain = rig.chain(partition).await;
        let late: Vec<&Object> =
            chain[before..].iter().filter(|object| old.contains(&reading(object))).collect();
        assert!(late.is_empty(), "written on the old membership: {late:?}");
        assert!(chain.last().is_some_and(|last| last.number("tooffset") > end[&partition]));
    }
    stop(sleeper).await;
    stop(other).await;
    rig.holds_everything_once(4, is_line).await;
    rig.finish().await;
}

/// What names one reading of a partition in an object's `writer`: all before the batch's number.
fn reading(object: &Object) -> String {
    object.meta("writer").rsplit_once('/').expect("a writer is a reading and a number").0.to_owned()
}

/// Where these partitions end now, some records later.
async fn traffic_passes(rig: &Rig, partitions: &BTreeSet<i32>) -> std::collections::BTreeMap<i32, i64> {
    let mut ends = std::collections::BTreeMap::new();
    for partition in partitions {
        ends.insert(*partition, rig.kafka.end(&rig.topic, *partition).await);
    }
    ends
}

/// Its put is on the wire when it stops, and reaches the store when another member reads the partition already.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_members_at_one_name_the_later_goes_on_at_the_end_of_the_earlier() {
    let rig = Rig::start("one-object", 1).await;
    let mut sleeper = rig.consumer(&QUICK);
    shared(&[&sleeper], 1).await;
    rig.stack.s3.order_fault(PutFault::DelayBeforeWrite(Duration::from_secs(15)));
    rig.kafka.publish(&rig.topic, 0, records(0..20)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    sleeper.signal(Signal::STOP);
    let by_count = [&QUICK[..], &[("MAX_OBJECT_RECORDS", "50"), ("MAX_OBJECT_AGE", "1h")]].concat();
    let mut successor = rig.consumer(&by_count);
    successor.logs(READING, 1).await;
    assert_eq!(rig.bucket.tail(&rig.topic, 0).await, 0, "the put has come too early to race with anybody");

    rig.stored_up_to(0, 20).await;
    rig.kafka.publish(&rig.topic, 0, records(20..50)).await;
    successor.logs(LOST_RACE, 1).await;
    sleeper.signal(Signal::CONT);
    // It holds thirty records, and stores them when it is told to stop.
    stop(successor).await;
    // Who learns of it only when it is told to stop has not stored what it held, and says so; this one has begun again.
    until("it notices", async || sleeper.log().contains(LOST)).await;
    sleeper.logs(READING, 2).await;
    stop(sleeper).await;
    rig.consume_all(&QUICK).await;
    rig.holds_everything_once(1, is_line).await;
    let writers: Vec<String> = rig.chain(0).await.iter().map(reading).collect();
    assert!(writers.len() >= 2 && writers[0] != writers[1], "{writers:?}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_with_one_name_the_earlier_ends_and_says_why() {
    let rig = Rig::start("one-name", 2).await;
    let traffic = Traffic::start(&rig.kafka, &rig.topic, 2, 3).await;
    let earlier = member(&rig, &QUICK, "twin");
    shared(&[&earlier], 2).await;
    let later = member(&rig, &QUICK, "twin");
    let ended = earlier.ended().await.expect_code(2);
    let why = format!("another process joined group {} as twin", rig.topic);
    assert!(ended.log.contains(&why) && ended.log.contains("KAFKA_GROUP_INSTANCE_ID"), "{}", ended.log);
    shared(&[&later], 2).await;
    traffic.stop().await;
    for partition in 0..2 {
        rig.stored_to_the_end(partition).await;
    }
    stop(later).await;
    rig.holds_everything_once(2, is_line).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_reset_is_obeyed_forward_and_on_record_alone() {
    let rig = Rig::start("reset", 1).await;
    let group = Group::new(&rig.kafka, &rig.topic);
    rig.kafka.publish(&rig.topic, 0, records(0..20)).await;
    rig.consume_all(&QUICK).await;
    rig.kafka.publish(&rig.topic, 0, records(20..40)).await;
    group.reset(&rig.topic, 0, 25, "").await;
    rig.consume_all(&QUICK).await;
    let chain = rig.chain(0).await;
    assert_eq!(lines_of(&chain), lines((0..20).chain(25..40)));
    assert_eq!(chain.last().expect("an object").meta("skipped"), "20-25:foreign-commit");

    for (offset, warning) in [
        (5, "somebody committed an offset behind what is stored; it is not obeyed"),
        (1000, "somebody committed an offset beyond the log's end; it is not obeyed"),
    ] {
        group.reset(&rig.topic, 0, offset, "").await;
        let ended = rig.consume_all(&QUICK).await;
        assert!(ended.log.contains(warning), "{}", ended.log);
        assert_eq!(rig.chain(0).await, chain, "a reset to {offset} has changed the objects");
        let commits = group.committed(&rig.topic, 1).await;
        let [commit] = &commits[..] else { panic!("{commits:?}") };
        assert!(commit.offset == 40 && commit.metadata.ends_with(" tail=40"), "{commit:?}");
    }
    // Nor does it count later.
    group.reset(&rig.topic, 0, 1000, "").await;
    rig.kafka.publish(&rig.topic, 0, records(40..50)).await;
    rig.consume_all(&QUICK).await;
    assert_eq!(lines_of(&rig.chain(0).await), lines((0..20).chain(25..50)));
    assert_eq!(rig.audit().await["totals"]["skipped"], 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_is_asked_once_and_a_partition_that_is_added_is_read_whole() {
    let latest = [&BY_COUNT[..], &[("AUTO_OFFSET_RESET", "latest")]].concat();
    let mut rig = Rig::start("latest", 1).await;
    let group = Group::new(&rig.kafka, &rig.topic);
    rig.kafka.publish(&rig.topic, 0, records(0..30)).await;
    // Killed before it has stored anything.
    let first = member(&rig, &latest, "only");
    until("the start is committed", async || {
        let commits = group.committed(&rig.topic, 1).await;
        commits.iter().any(|commit| commit.offset == 30 && commit.metadata.contains("skipped=0-30:reset"))
    })
    .await;
    first.kill().await;
    rig.kafka.publish(&rig.topic, 0, records(30..36)).await;
    let second = member(&rig, &latest, "only");
    rig.stored_up_to(0, 36).await;
    let chain = rig.chain(0).await;
    assert_eq!(lines_of(&chain), lines(30..36), "what came while nobody was there");
    assert_eq!(chain[0].meta("skipped"), "0-30:reset");

    // The leader looks for partitions when somebody joins; without that every half minute.
    let topic = rig.topic.clone();
    rig.kafka.add_partitions(&topic, 2).await;
    rig.kafka.publish(&rig.topic, 1, records(0..6)).await;
    let other = member(&rig, &latest, "other");
    shared(&[&second, &other], 2).await;
    rig.stored_up_to(1, 6).await;
    let chain = rig.chain(1).await;
    assert_eq!(lines_of(&chain), lines(0..6));
    assert!(!chain[0].metadata.contains_key("skipped"), "{chain:?}");
    stop(second).await;
    stop(other).await;
    assert_eq!(rig.audit().await["totals"]["skipped"], 1);
    assert!(rig.alerts("records-lost").is_empty(), "where to begin is no loss");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_to_begin_a_person_is_asked_and_nothing_is_written() {
    let rig = Rig::start("no-start", 1).await;
    rig.kafka.publish(&rig.topic, 0, records(0..10)).await;
    let error = [&QUICK[..], &[("AUTO_OFFSET_RESET", "error")]].concat();
    let consumer = rig.consumer(&error);
    until("people are told", async || !rig.alerts("ledger-broken").is_empty()).await;
    let alert = rig.alerts("ledger-broken").remove(0);
    assert!(alert.contains("AUTO_OFFSET_RESET"), "{alert}");
    stop(consumer).await;
    assert!(rig.chain(0).await.is_empty());
    let group = Group::new(&rig.kafka, &rig.topic);
    assert!(group.committed(&rig.topic, 1).await.is_empty(), "nothing was decided");

    // A person decides.
    group.reset(&rig.topic, 0, 4, "").await;
    rig.consume_all(&error).await;
    let chain = rig.chain(0).await;
    assert_eq!(lines_of(&chain), lines(4..10));
    assert_eq!(chain[0].meta("skipped"), "0-4:foreign-commit");
    rig.finish().await;
}
