//! Every record once, in order, whatever happens to the consumer and to its puts.

use std::collections::BTreeSet;
use std::time::Duration;

use coinduit_integration::chain::holds_exactly_once;
use coinduit_integration::program::Program;
use coinduit_integration::rig::Rig;
use coinduit_integration::traffic::{Traffic, is_line};
use coinduit_integration::wait::until;
use coinduit_local::s3::PutFault;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;

const PARTITIONS: i32 = 3;
/// Small objects, so that there are many puts to be interrupted.
const SMALL: [(&str, &str); 3] =
    [("MAX_OBJECT_RECORDS", "20"), ("MAX_OBJECT_AGE", "200ms"), ("ENRICH", "off")];
/// How often the consumer is killed at any moment; `COINDUIT_KILLS` sets another number.
const KILLS: u64 = 22;
/// How often it stands still while another one goes on; `COINDUIT_PAUSES` sets another number.
const PAUSES: u64 = 8;
/// The consumer's word for a put that another writer has won.
const LOST_RACE: &str = "another writer's object stands there";

#[tokio::test(flavor = "multi_thread")]
async fn kills_pauses_and_faulty_puts_neither_lose_nor_repeat_a_record() {
    let seed = number("COINDUIT_SEED", rand::random());
    let (kills, pauses) = (number("COINDUIT_KILLS", KILLS), number("COINDUIT_PAUSES", PAUSES));
    println!("COINDUIT_SEED={seed} repeats the choices of this run");
    let mut random = StdRng::seed_from_u64(seed);
    let rig = Rig::start("exactly-once", PARTITIONS).await;
    let traffic = Traffic::start(&rig.topic, PARTITIONS, random.random()).await;

    for _ in 0..kills {
        order_faults(&rig, &mut random);
        let consumer = rig.consumer(&SMALL);
        if random.random_bool(0.5) {
            stored_more(&rig, random.random_range(1..4)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..700))).await;
        consumer.kill().await;
    }

    let mut races_lost = 0;
    for _ in 0..pauses {
        order_faults(&rig, &mut random);
        // A put that the store receives and carries out while its writer stands still.
        rig.stack.s3.order_fault(PutFault::DelayBeforeWrite(Duration::from_millis(300)));
        let first = rig.consumer(&SMALL);
        stored_more(&rig, 2).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        first.signal(Signal::STOP);
        let second = rig.consumer(&SMALL);
        stored_more(&rig, random.random_range(3..9)).await;
        first.signal(Signal::CONT);
        stored_more(&rig, random.random_range(3..9)).await;
        // Both have written side by side; one of them goes without a word.
        let (killed, stopped) = if random.random_bool(0.5) { (first, second) } else { (second, first) };
        races_lost += killed.kill().await.log.matches(LOST_RACE).count();
        races_lost += stop(stopped).await.matches(LOST_RACE).count();
    }
    traffic.stop().await;
    rig.consume_all(&SMALL).await;
    let mut objects = 0;
    for partition in 0..PARTITIONS {
        let log = rig.kafka.read(&rig.topic, partition).await;
        let chain = rig.chain(partition).await;
        let end = rig.kafka.end(&rig.topic, partition).await;
        let quarantined = holds_exactly_once(&chain, &log, end, is_line);
        let folder = format!("quarantine/{}/partition={partition}", rig.topic);
        let keys: BTreeSet<String> =
            quarantined.iter().map(|offset| format!("{folder}/{offset:020}.json")).collect();
        assert_eq!(rig.bucket.keys(&folder).await.into_iter().collect::<BTreeSet<_>>(), keys);
        objects += chain.len();
    }
    println!("{kills} kills, {pauses} pauses, {objects} objects, {races_lost} races lost");
    assert!(races_lost > 0, "no two consumers ever wanted one name: this run has proved little");
    rig.finish().await;
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("the variable holds a whole number"))
}

/// Puts may fail meanwhile: the consumer stores what it holds all the same, and ends with 0.
async fn stop(consumer: Program) -> String {
    consumer.signal(Signal::TERM);
    consumer.ended().await.expect_code(0).log
}

/// Some of the things that can happen to a put.
fn order_faults(rig: &Rig, random: &mut StdRng) {
    let delay = Duration::from_millis(random.random_range(1..300));
    let faults = [
        PutFault::ErrorBeforeWrite,
        PutFault::ErrorAfterWrite,
        PutFault::Conflict,
        PutFault::DropBeforeWrite,
        PutFault::DropAfterWrite,
        PutFault::DelayBeforeWrite(delay),
        PutFault::DelayAfterWrite(delay),
    ];
    for _ in 0..random.random_range(0..6) {
        rig.stack.s3.order_fault(*faults.choose(random).expect("there are faults"));
    }
}

/// Waits until the bucket has that many more objects.
async fn stored_more(rig: &Rig, more: usize) {
    let count = async || rig.bucket.keys(&rig.topic).await.len();
    let before = count().await;
    until("more objects are stored", async || count().await >= before + more).await;
}
