//! Several consumers on the embedded stack, the real binaries: partitions shared, handed over, and proven from outside.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use coinduit_local::broker::core::GroupState;
use coinduit_local::stack::{Stack, StackConfig};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, UnknownTopicHandling};
use rskafka::record::Record;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const TOPIC: &str = "crypto_prices";
const GROUP: &str = "coinduit";
/// Nothing here takes that long, on the slowest machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A consumer on `stack`, with small objects; killed when it is dropped.
struct Consumer(Child);

impl Consumer {
    fn start(stack: &Stack, changes: &[(&str, &str)]) -> Self {
        let mut command = consumer(stack);
        command.envs([("MAX_OBJECT_AGE", "200ms"), ("ENRICH", "off"), ("KAFKA_SESSION_TIMEOUT", "6s")]);
        command.envs(changes.iter().copied());
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Sends SIGTERM; returns the exit code.
    async fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let mut code = None;
        until("the consumer has ended", || {
            code = self.0.try_wait().unwrap();
            code.is_some()
        })
        .await;
        code.unwrap().code()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn consumer(stack: &Stack) -> Command {
    let built = Path::new(env!("CARGO_BIN_EXE_coinduit-local")).with_file_name("consumer");
    assert!(built.is_file(), "there is no {}: run `cargo build` (make test does)", built.display());
    let mut command = Command::new(built);
    command.env_clear().envs(stack.env()).env("HTTP_ADDR", "off");
    command
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waited).await.is_ok(), "not within {LIMIT:?}: {what}");
}

/// Waits until the group is at rest with so many members, and returns its generation.
async fn at_rest(stack: &Stack, members: usize) -> i32 {
    let group = || stack.kafka.group(GROUP).filter(|group| group.members.len() == members);
    until(&format!("the group is at rest with {members} members"), || {
        group().is_some_and(|group| group.state == GroupState::Stable)
    })
    .await;
    stack.kafka.group(GROUP).unwrap().generation
}

/// Appends `count` records to each partition.
async fn publish(stack: &Stack, partitions: i32, count: usize) {
    let client = ClientBuilder::new(vec![stack.kafka.bootstrap()]).build().await.unwrap();
    for partition in 0..partitions {
        let records = (0..count).map(|n| Record {
            key: None,
            value: Some(format!("{{\"n\":{n}}}").into_bytes()),
            headers: BTreeMap::new(),
            timestamp: chrono::DateTime::UNIX_EPOCH,
        });
        let client = client.partition_client(TOPIC, partition, UnknownTopicHandling::Error).await.unwrap();
        client.produce(records.collect(), Compression::NoCompression).await.unwrap();
    }
}

/// Waits until the group has committed the end of every partition.
async fn all_is_handled(stack: &Stack, partitions: i32) {
    until("everything is handled", || {
        (0..partitions).all(|partition| {
            let end = stack.kafka.offsets(TOPIC, partition).unwrap().end;
            stack.kafka.committed(GROUP, TOPIC, partition).is_some_and(|committed| committed.offset == end)
        })
    })
    .await;
}

fn audit(stack: &Stack) -> (Output, Value) {
    let output = consumer(stack).args(["audit", "--json"]).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_shared_handed_over_and_nothing_is_lost_or_repeated() {
    let stack = Stack::start(StackConfig::default()).await.unwrap();
    let partitions =
        i32::try_from((0..).take_while(|n| stack.kafka.offsets(TOPIC, *n).is_some()).count()).unwrap();
    assert!(partitions >= 2, "one partition can't be shared");
    let first = Consumer::start(&stack, &[]);
    publish(&stack, partitions, 10).await;
    at_rest(&stack, 1).await;
    all_is_handled(&stack, partitions).await;

    let second = Consumer::start(&stack, &[]);
    at_rest(&stack, 2).await;
    publish(&stack, partitions, 10).await;
    all_is_handled(&stack, partitions).await;

    // A coordinator that moves costs no rebalance.
    let generation = at_rest(&stack, 2).await;
    stack.kafka.lose_coordinator();
    publish(&stack, partitions, 10).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stack.kafka.regain_coordinator();
    all_is_handled(&stack, partitions).await;
    assert_eq!(at_rest(&stack, 2).await, generation);

    // One leaves, and the other takes over before any session would have ended.
    assert_eq!(first.stop().await, Some(0));
    publish(&stack, partitions, 10).await;
    all_is_handled(&stack, partitions).await;

    // One dies, and the next continues where it was.
    drop(second);
    publish(&stack, partitions, 10).await;
    let third = Consumer::start(&stack, &[("KAFKA_GROUP_INSTANCE_ID", "third")]);
    all_is_handled(&stack, partitions).await;
    assert_eq!(third.stop().await, Some(0));

    let (output, report) = audit(&stack);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&report["kafka"], &report["totals"]["findings"]), (&"reached".into(), &0.into()), "{said}");
    assert_eq!(report["totals"]["records"], 50 * partitions, "{said}");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_members_with_one_name_the_earlier_ends() {
    let stack = Stack::start(StackConfig::default()).await.unwrap();
    let name = [("KAFKA_GROUP_INSTANCE_ID", "one")];
    let mut earlier = Consumer::start(&stack, &name);
    at_rest(&stack, 1).await;
    let later = Consumer::start(&stack, &name);
    let mut ended = None;
    until("the earlier has ended", || {
        ended = earlier.0.try_wait().unwrap();
        ended.is_some()
    })
    .await;
    assert_eq!(ended.unwrap().code(), Some(2));
    assert_eq!(later.stop().await, Some(0));
    stack.stop().await;
}
