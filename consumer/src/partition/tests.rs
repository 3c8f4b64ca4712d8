//! The task against a log in memory and a bucket that fails, in paused time.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use coinduit_common::{
    alert::{AlertSender, Alerts, SendError},
    clock::Clock,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    PartitionTask,
    progress::{CommitPoint, Setting},
};
use crate::{
    batch::Limits,
    budget::{Budget, Reservation},
    compression::Compression,
    error::Fatal,
    group::{board::Board, lease::Lease},
    health::Phase,
    identity::{Confirm, IdentityError},
    layout::Layout,
    ledger::{
        chain::Chain,
        metadata::{Closed, ObjectMetadata},
        resume::{Committed, Reset},
    },
    puts::Puts,
    reader::{Ask, Bounds, Fetched, PartitionReader, ReadError, Record},
    testing::{Fault, MemoryBucket},
    tiny::TinyObjects,
    vitals::Vitals,
};

/// A partition's log, shared by its readers.
#[derive(Default)]
struct Log {
    records: Mutex<Vec<Record>>,
    bounds: Mutex<(i64, i64)>,
    /// What the next reads come to instead.
    failures: Mutex<VecDeque<ReadError>>,
}

impl Log {
    fn append(&self, values: impl IntoIterator<Item = String>) {
        let mut bounds = self.bounds.lock().unwrap();
        let mut records = self.records.lock().unwrap();
        for value in values {
            records.push(Record {
                offset: bounds.1,
                timestamp_ms: 0,
                key: None,
                value: Some(Bytes::from(value)),
                headers: Vec::new(),
            });
            bounds.1 += 1;
        }
    }

    /// The lines that all records but the `quarantined` ones make.
    fn lines(&self) -> Vec<u8> {
        let records = self.records.lock().unwrap();
        let (start, _) = *self.bounds.lock().unwrap();
        let good = records
            .iter()
            .filter(|record| record.offset >= start)
            .filter_map(|record| record.value.as_ref())
            .filter(|value| value.starts_with(b"{"));
        good.flat_map(|value| [value, &b"\n"[..]].concat()).collect()
    }
}

struct LogReader(Arc<Log>);

#[async_trait]
impl PartitionReader for LogReader {
    async fn fetch(&mut self, ask: Ask, _: &Reservation) -> Result<Fetched, ReadError> {
        let offset = ask.offset;
        tokio::task::yield_now().await;
        if let Some(failure) = self.0.failures.lock().unwrap().pop_front() {
            return Err(failure);
        }
        let (start, end) = *self.0.bounds.lock().unwrap();
        if !(start..=end).contains(&offset) {
            return Err(ReadError::OutOfRange { offset });
        }
        let records: Vec<Record> = self
            .0
            .records
            .lock()
            .unwrap()
            .iter()
            .filter(|record| record.offset >= offset)
            .take(7)
            .cloned()
            .collect();
        if records.is_empty() {
            sleep(Duration::from_millis(500)).await;
        }
        let next = records.last().map_or(offset, |last| last.offset + 1);
        Ok(Fetched { records, next, high_watermark: end, ..Fetched::default() })
    }

    async fn bounds(&mut self) -> Result<Bounds, ReadError> {
        let (start, end) = *self.0.bounds.lock().unwrap();
        Ok(Bounds { start, end })
    }
}

#[derive(Default)]
struct Topic {
    recreated: AtomicBool,
}

#[async_trait]
impl Confirm for Topic {
    async fn describe(&self) -> Result<coinduit_common::kafka::metadata::Topic, IdentityError> {
        Err(IdentityError::Missing { topic: "t".to_owned() })
    }

    async fn confirm(&self, _: Duration) -> Result<(), IdentityError> {
        if self.recreated.load(Ordering::Relaxed) {
            return Err(IdentityError::Recreated {
                topic: "t".to_owned(),
                was: "a".to_owned(),
                is: "b".to_owned(),
            });
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl AlertSender for Told {
    fn send<'a>(
        &'a self,
        _: &'a str,
        body: &'a str,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>> {
        self.0.lock().unwrap().push(body.to_owned());
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A partition's world, in which tasks can be started.
struct World {
    log: Arc<Log>,
    bucket: Arc<MemoryBucket>,
    topic: Arc<Topic>,
    told: Told,
    alerts: Alerts,
    vitals: Arc<Vitals>,
    stop: watch::Sender<Option<Closed>>,
    clock: Clock,
    layout: Layout,
    limits: Limits,
    /// What the group has, and every commit that it took.
    group: Arc<Mutex<Vec<CommitPoint>>>,
    /// Whether commits are acknowledged.
    group_answers: Arc<AtomicBool>,
    lease: Arc<Lease>,
    reset: Reset,
    /// Of the task that was started last.
    board: Mutex<Arc<Board>>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::Tokio(Instant::now());
        let lease = Arc::new(Lease::new(clock.clone()));
        lease.set(Duration::MAX);
        let told = Told::default();
        let alerts = Alerts::start("consumer", clock.clone(), told.clone());
        let limits = Limits { records: 5, bytes: 1 << 20, age: Duration::from_secs(60) };
        let vitals = Vitals::new("t", limits.age, clock.clone(), alerts.clone());
        vitals.phase(Phase::Share);
        vitals.in_group(true);
        vitals.member(Duration::MAX, 1);
        Self {
            log: Arc::default(),
            bucket: Arc::default(),
            topic: Arc::default(),
            told,
            alerts,
            vitals,
            stop: watch::Sender::new(None),
            clock,
            layout: Layout::default(),
            limits,
            group: Arc::default(),
            group_answers: Arc::new(AtomicBool::new(true)),
            lease,
            reset: Reset::Earliest,
            board: Mutex::default(),
        }
    }

    /// A group that takes every commit, while it answers.
    fn board(&self) -> Arc<Board> {
        let board = Arc::new(Board::default());
        let (group, answers, mut wishes) =
            (Arc::clone(&self.group), Arc::clone(&self.group_answers), board.wishes());
        let taken = Arc::clone(&board);
        *self.board.lock().unwrap() = Arc::clone(&board);
        tokio::spawn(async move {
            loop {
                if answers.load(Ordering::Relaxed) {
                    for (partition, point) in taken.wanted() {
                        group.lock().unwrap().push(point.clone());
                        taken.acknowledge(partition, point);
                    }
                }
                drop(tokio::time::timeout(Duration::from_secs(1), wishes.changed()).await);
            }
        });
        board
    }

    /// What the next owner is told.
    fn committed(&self) -> Committed {
        self.group.lock().unwrap().last().map_or(Committed::Nothing, |point| Committed::Ours {
            handled: point.handled,
            tail: point.tail,
            skipped: point.skipped.clone(),
            quarantined: point.quarantined,
            leader_epoch: point.leader_epoch,
        })
    }

    fn start(&self, process: &str, exit_at_end: bool) -> JoinHandle<Result<(), Fatal>> {
        self.start_from(process, exit_at_end, Committed::Nothing)
    }

    fn start_from(
        &self,
        process: &str,
        exit_at_end: bool,
        committed: Committed,
    ) -> JoinHandle<Result<(), Fatal>> {
        let setting = Setting {
            topic: "t".into(),
            partition: 0,
            prefix: Arc::default(),
            layout: self.layout,
            limits: self.layout.limits(self.limits),
            enrich: false,
            writer: process.into(),
        };
        let task = PartitionTask {
            chain: Chain::new(Arc::clone(&self.bucket) as _, Arc::default(), "t".into(), 0)
                .laid_out(self.layout, Puts::default()),
            setting,
            reader: Box::new(LogReader(Arc::clone(&self.log))),
            identity: Arc::clone(&self.topic) as _,
            clock: self.clock.clone(),
            alerts: self.alerts.clone(),
            vitals: self.vitals.partition(0, 1),
            share: Budget::new(1 << 20).share(),
            committed,
            reset: self.reset,
            appeared_later: false,
            place: self.board().place(0),
            lease: Arc::clone(&self.lease),
            tiny: Arc::new(Mutex::new(TinyObjects::new(self.limits))),
            stop: self.stop.subscribe(),
            exit_at_end,
        };
        tokio::spawn(task.run())
    }

    /// The chain's lines in order; fails where it has a gap or an overlap.
    fn stored(&self) -> Vec<u8> {
        let mut tail = 0;
        let mut lines = Vec::new();
        for (key, body, metadata) in self.bucket.below("t/partition=0/") {
            assert_eq!(
                (metadata["fromoffset"].as_str(), key.contains(&format!("{tail:020}"))),
                (tail.to_string().as_str(), true),
                "{key}"
            );
            tail = metadata["tooffset"].parse().unwrap();
            lines.extend_from_slice(&body);
        }
        lines
    }

    fn closed(&self) -> Vec<String> {
        self.bucket
            .below("t/partition=0/")
            .into_iter()
            .map(|(_, _, metadata)| metadata["closed"].clone())
            .collect()
    }
}

fn values(numbers: std::ops::Range<i32>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!("{{\"n\":{number}}}"))
}

#[tokio::test(start_paused = true)]
async fn everything_up_to_the_end_is_stored_whatever_the_store_does() {
    let world = World::new();
    world.log.append(values(0..23));
    for fault in [
        Fault::FailBefore,
        Fault::FailAfter,
        Fault::ConflictBefore,
        Fault::ConflictAfter,
        Fault::FailBefore,
        Fault::FailBefore,
    ] {
        world.bucket.fail_next(fault);
    }
    world.start("p", true).await.unwrap().unwrap();
    assert_eq!(world.stored(), world.log.lines());
    assert_eq!(world.closed(), ["records", "records", "records", "records", "end"]);
    assert!(world.told.0.lock().unwrap().is_empty(), "what passes soon is nobody's business");
}

#[tokio::test(start_paused = true)]
async fn an_object_is_closed_by_its_age_without_any_traffic() {
    let world = World::new();
    let task = world.start("p", false);
    sleep(Duration::from_secs(10)).await;
    world.log.append(values(0..2));
    sleep(Duration::from_secs(59)).await;
    assert!(world.stored().is_empty());
    sleep(Duration::from_secs(3)).await;
    assert_eq!((world.stored(), world.closed()), (world.log.lines(), vec!["age".to_owned()]));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn being_told_to_stop_stores_what_is_held() {
    let world = World::new();
    world.log.append(values(0..3));
    let task = world.start("p", false);
    sleep(Duration::from_secs(5)).await;
    world.stop.send_replace(Some(Closed::Shutdown));
    task.await.unwrap().unwrap();
    assert_eq!(
        (world.stored(), world.closed()),
        (world.log.lines(), vec![Closed::Shutdown.name().to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_heard_while_everything_else_is_ready_too() {
    for round in 0..50 {
        let world = World::new();
        world.log.append(values(0..2_000));
        let task = world.start("p", false);
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        world.stop.send_replace(Some(Closed::Shutdown));
        tokio::time::timeout(Duration::from_secs(600), task)
            .await
            .expect("the stop was lost")
            .unwrap()
            .unwrap();
        let stored = world.stored();
        assert!(world.log.lines().starts_with(&stored) && stored.len() < world.log.lines().len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_log_of_another_topic_ends_the_process() {
    let world = World::new();
    world.log.append(values(0..5));
    world.start("first", true).await.unwrap().unwrap();
    world.log.bounds.lock().unwrap().1 = 3;
    world.topic.recreated.store(true, Ordering::Relaxed);
    assert!(matches!(world.start("second", false).await.unwrap(), Err(Fatal::TopicRecreated(_))));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_dies_at_any_moment_is_continued_by_the_next() {
    for died_after_ms in (0..4_000).step_by(37) {
        let world = World::new();
        world.log.append(values(0..40));
        world.bucket.fail_next(Fault::FailAfter);
        world.bucket.fail_next(Fault::FailBefore);
        let first = world.start("first", false);
        sleep(Duration::from_millis(died_after_ms)).await;
        first.abort();
        world.start("second", true).await.unwrap().unwrap();
        assert_eq!(world.stored(), world.log.lines(), "died after {died_after_ms} ms");
    }
}

/// Every record that has a name is in one object, under one of its two names; nothing else is there but quarantine.
fn holds_each_record_once(world: &World) {
    let objects = world.bucket.below("");
    let records = world.log.records.lock().unwrap();
    let mut named = 0;
    for record in records
        .iter()
        .filter(|record| record.value.as_ref().is_some_and(|value| value.starts_with(b"{\"code")))
    {
        let line = [record.value.as_deref().unwrap(), b"\n"].concat();
        let there: Vec<_> =
            objects.iter().filter(|(_, body, _)| *body == line).map(|(key, ..)| key).collect();
        assert_eq!(there.len(), 1, "offset {} is at {there:?}", record.offset);
        named += 1;
    }
    let others = objects.iter().filter(|(key, ..)| key.contains('/')).collect::<Vec<_>>();
    assert!(others.iter().all(|(key, ..)| key.starts_with("quarantine/t/")), "{others:?}");
    assert_eq!((objects.len() - others.len(), others.len()), (named, records.len() - named));
}

#[tokio::test(start_paused = true)]
async fn each_record_is_one_object_whenever_a_task_dies_and_whatever_the_store_does() {
    for died_after_ms in (0..3_000).step_by(61) {
        let mut world = World::new();
        world.layout = Layout::Record;
        // Three names for forty records, none of them like another; and some that can't be named.
        world.log.append((0..40).map(|n| match n % 10 {
            9 => format!("{{\"n\":{n}}}"),
            _ => format!("{{\"code\":\"C{}\",\"id\":\"i\",\"n\":{n}}}", n % 3),
        }));
        for fault in [
            Fault::FailAfter,
            Fault::FailBefore,
            Fault::ConflictAfter,
            Fault::ConflictBefore,
            Fault::FailBefore,
        ] {
            world.bucket.fail_next(fault);
        }
        let first = world.start("first", false);
        sleep(Duration::from_millis(died_after_ms)).await;
        first.abort();
        let committed = world.committed();
        world.start_from("second", true, committed).await.unwrap().unwrap();
        holds_each_record_once(&world);
        let handled = world.group.lock().unwrap().last().unwrap().handled;
        assert_eq!(handled, 40, "died after {died_after_ms} ms");
        // A third that knows nothing of the group reads all of it again, and changes nothing.
        let before = world.bucket.below("");
        world.start("third", true).await.unwrap().unwrap();
        assert_eq!(world.bucket.below(""), before);
    }
}

#[tokio::test(start_paused = true)]
async fn two_tasks_that_both_believe_to_own_a_partition_store_each_record_once() {
    let mut world = World::new();
    world.layout = Layout::Record;
    world.log.append((0..200).map(|n| format!("{{\"code\":\"C{}\",\"id\":{},\"n\":{n}}}", n % 7, n / 20)));
    let first = world.start("first", true);
    world.limits.records = 3;
    let second = world.start("second", true);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    holds_each_record_once(&world);
}

#[tokio::test(start_paused = true)]
async fn compressed_objects_make_the_same_chain_whatever_the_store_does() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut world = World::new();
        world.layout = Layout::Log(compression);
        world.log.append(values(0..40));
        for fault in [Fault::FailAfter, Fault::FailBefore, Fault::ConflictAfter] {
            world.bucket.fail_next(fault);
        }
        let first = world.start("first", true);
        let second = world.start("second", true);
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        let (mut lines, mut tail) = (Vec::new(), 0);
        for (key, body, metadata) in world.bucket.below("t/partition=0/") {
            assert_eq!(key, format!("t/partition=0/{tail:020}.{}", compression.extension()));
            tail = metadata["tooffset"].parse::<i64>().unwrap();
            lines.extend_from_slice(&compression.unpack(body, 1 << 20).unwrap());
        }
        assert_eq!((tail, lines), (40, world.log.lines()));
    }
}

#[tokio::test(start_paused = true)]
async fn two_tasks_at_one_partition_make_one_chain() {
    let mut world = World::new();
    world.log.append(values(0..60));
    let first = world.start("first", true);
    // The second cuts the log otherwise.
    world.limits.records = 3;
    let second = world.start("second", true);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(world.stored(), world.log.lines());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_line_is_stored_aside_and_told() {
    let world = World::new();
    world.log.append(["{}".to_owned(), "[1]".to_owned(), "{\"error\":{}}".to_owned()]);
    world.start("p", true).await.unwrap().unwrap();
    let aside: Vec<String> =
        world.bucket.below("quarantine/t/partition=0/").into_iter().map(|(key, ..)| key).collect();
    assert_eq!(aside.len(), 2, "{aside:?}");
    assert_eq!(world.bucket.below("t/partition=0/")[0].2["quarantined"], "2");
    world.alerts.flush(Duration::from_secs(1)).await;
    let told = world.told.0.lock().unwrap();
    assert!(told.len() == 1 && told[0].contains("2 records can't be lines"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_retention_took_is_recorded_and_told() {
    let world = World::new();
    world.log.append(values(0..5));
    world.start("first", true).await.unwrap().unwrap();
    world.log.append(values(5..20));
    world.log.bounds.lock().unwrap().0 = 12;
    world.start("second", true).await.unwrap().unwrap();
    let objects = world.bucket.below("t/partition=0/");
    assert_eq!(
        (objects[1].2["fromoffset"].as_str(), objects[1].2["skipped"].as_str()),
        ("5", "5-12:retention")
    );
    world.alerts.flush(Duration::from_secs(1)).await;
    assert!(world.told.0.lock().unwrap()[0].contains("offsets 5 to 11 were deleted by retention"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_told_within_seconds_and_that_it_is_over_too() {
    let world = World::new();
    world.log.append(values(0..5));
    for _ in 0..100 {
        world.bucket.fail_next(Fault::FailBefore);
    }
    let task = world.start("p", false);
    sleep(Duration::from_secs(7)).await;
    {
        let told = world.told.0.lock().unwrap();
        assert!(told.len() == 1 && told[0].contains("\"kind\": \"store-failed\""), "{told:?}");
    }
    let early = world.vitals.readiness();
    assert!(early.ok && early.notes[0].why.contains("storing objects fails"), "{early:?}");
    sleep(Duration::from_secs(150)).await;
    let late = world.vitals.readiness();
    assert!(!late.ok && late.reasons[0].place == "t/0" && late.reasons[0].offset == Some(0), "{late:?}");
    sleep(Duration::from_secs(3_600)).await;
    assert!(world.vitals.readiness().ok, "{:?}", world.vitals.readiness());
    assert_eq!(world.stored(), world.log.lines());
    let told = world.told.0.lock().unwrap().clone();
    assert!(told.len() == 2 && told[1].contains("over: storing objects, lasted "), "{told:?}");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_cannot_be_read_is_unready_until_it_can() {
    let world = World::new();
    let task = world.start("p", false);
    sleep(Duration::from_secs(1)).await;
    assert!(world.vitals.readiness().ok);
    for _ in 0..30 {
        world.log.failures.lock().unwrap().push_back(ReadError::Unavailable {
            attempted: "fetch of t/0".to_owned(),
            source: "no broker leads it now".into(),
        });
    }
    sleep(Duration::from_secs(8)).await;
    let report = world.vitals.readiness();
    assert!(!report.ok && report.reasons[0].why.contains("no broker leads it now"), "{report:?}");
    assert!(world.told.0.lock().unwrap()[0].contains("\"kind\": \"kafka-failed\""));
    sleep(Duration::from_secs(3_600)).await;
    assert!(world.vitals.readiness().ok);
    assert!(world.told.0.lock().unwrap()[1].contains("over: reading, lasted "));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_given_up_is_shown_no_more() {
    let world = World::new();
    world.log.append(values(0..5));
    let task = world.start("p", false);
    sleep(Duration::from_secs(5)).await;
    let page = String::from_utf8(world.vitals.page().to_vec()).unwrap();
    assert!(page.contains("partition_handled_offset{topic=\"t\",partition=\"0\"} 5\n"), "{page}");
    assert!(page.contains("coinduit_consumer_objects_total{closed=\"records\"} 1\n"), "{page}");
    world.stop.send_replace(Some(Closed::Revoked));
    task.await.unwrap().unwrap();
    sleep(Duration::from_secs(2)).await;
    let page = String::from_utf8(world.vitals.page().to_vec()).unwrap();
    assert!(!page.contains("partition=\"0\""), "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_ends_before_the_tail_stops_the_partition_and_is_told() {
    let world = World::new();
    world.log.append(values(0..5));
    world.start("first", true).await.unwrap().unwrap();
    world.log.bounds.lock().unwrap().1 = 3;
    let task = world.start("second", false);
    sleep(Duration::from_secs(20)).await;
    assert!(world.told.0.lock().unwrap().is_empty(), "a new leader's high watermark may lag");
    sleep(Duration::from_secs(20)).await;
    assert!(
        world.told.0.lock().unwrap()[0]
            .contains("the log ends at 3, but everything below 5 was read already")
    );
    let report = world.vitals.readiness();
    assert!(!report.ok && report.reasons[0].why.contains("the log ends at 3"), "{report:?}");
    assert!(!task.is_finished());
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn reading_is_tried_again_for_ever_and_people_are_told_once() {
    let world = World::new();
    world.log.append(values(0..5));
    for _ in 0..20 {
        world.log.failures.lock().unwrap().push_back(ReadError::Unavailable {
            attempted: "fetch of t/0".to_owned(),
            source: "no route".into(),
        });
    }
    world.start("p", true).await.unwrap().unwrap();
    assert_eq!(world.stored(), world.log.lines());
    let told = world.told.0.lock().unwrap();
    assert!(told.len() == 1 && told[0].contains("fetch of t/0: no route"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_stored_once_the_topic_is_another_one() {
    let world = World::new();
    world.log.append(values(0..20));
    world.topic.recreated.store(true, Ordering::Relaxed);
    let error = world.start("p", false).await.unwrap().unwrap_err();
    assert!(matches!(error, Fatal::TopicRecreated(_)));
    assert!(world.bucket.below("").is_empty());
}

#[tokio::test(start_paused = true)]
async fn where_reading_starts_is_committed_before_anything_is_fetched() {
    let mut world = World::new();
    world.reset = Reset::Latest;
    world.log.append(values(0..20));
    world.group_answers.store(false, Ordering::Relaxed);
    let first = world.start("first", false);
    sleep(Duration::from_secs(5)).await;
    world.log.append(values(20..30));
    sleep(Duration::from_secs(100)).await;
    assert!(
        world.stored().is_empty() && world.group.lock().unwrap().is_empty(),
        "nobody acknowledged the start"
    );
    world.group_answers.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(5)).await;
    first.abort();
    // `latest` is not asked again: the records that came since are stored.
    world.start_from("second", true, world.committed()).await.unwrap().unwrap();
    let objects = world.bucket.below("t/partition=0/");
    assert_eq!((objects[0].2["fromoffset"].as_str(), objects[0].2["skipped"].as_str()), ("0", "0-20:reset"));
    assert_eq!(
        world.stored(),
        values(20..30).flat_map(|line| (line + "\n").into_bytes()).collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_that_the_group_does_not_take_is_no_start() {
    let mut world = World::new();
    world.reset = Reset::Latest;
    world.log.append(values(0..20));
    world.group_answers.store(false, Ordering::Relaxed);
    let first = world.start("first", false);
    sleep(Duration::from_secs(5)).await;
    // The group has changed to an eager assignor: commits are refused until everything is given up.
    world.board.lock().unwrap().close(true);
    world.log.append(values(20..30));
    sleep(Duration::from_secs(100)).await;
    world.stop.send_replace(Some(Closed::Revoked));
    first.await.unwrap().unwrap();
    assert!(world.stored().is_empty(), "it has begun, and nobody knows where");
}

#[tokio::test(start_paused = true)]
async fn what_is_handled_is_committed_with_the_tail() {
    let world = World::new();
    world.log.append(values(0..7).chain(["[1]".to_owned()]));
    let task = world.start("p", false);
    sleep(Duration::from_secs(5)).await;
    let point = world.group.lock().unwrap().last().cloned().unwrap();
    assert_eq!((point.handled, point.tail), (5, 5));
    world.stop.send_replace(Some(Closed::Revoked));
    task.await.unwrap().unwrap();
    let point = world.group.lock().unwrap().last().cloned().unwrap();
    assert_eq!((point.handled, point.tail), (8, 8));
    assert_eq!(world.closed(), ["records", "revoked"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_on_a_lapsed_membership() {
    let world = World::new();
    world.log.append(values(0..5));
    world.lease.set(Duration::ZERO);
    let task = world.start("p", true);
    sleep(Duration::from_secs(600)).await;
    assert!(world.stored().is_empty());
    world.lease.set(Duration::MAX);
    task.await.unwrap().unwrap();
    assert_eq!(world.stored(), world.log.lines());
}

#[tokio::test(start_paused = true)]
async fn a_put_that_waited_long_before_its_first_attempt_reads_the_tail_again() {
    let world = World::new();
    world.log.append(values(0..12));
    world.lease.set(Duration::ZERO);
    let task = world.start("p", true);
    sleep(Duration::from_secs(600)).await;
    // Others have gone on meanwhile, and the first of their objects has expired.
    let theirs = ObjectMetadata {
        from_offset: 5,
        to_offset: 10,
        stored: None,
        records: 0,
        quarantined: 0,
        skipped: Vec::new(),
        writer: "q/2".to_owned(),
        closed: Closed::Age,
    };
    let key = |tail: i64| format!("t/partition=0/{tail:020}.jsonl");
    world.bucket.insert(&key(5), theirs.to_user_metadata());
    world.lease.set(Duration::MAX);
    task.await.unwrap().unwrap();
    let keys: Vec<String> = world.bucket.below("t/partition=0/").into_iter().map(|(key, ..)| key).collect();
    assert_eq!(keys, [key(5), key(10)]);
}

#[tokio::test(start_paused = true)]
async fn without_a_start_the_partition_waits_for_a_person() {
    let mut world = World::new();
    world.reset = Reset::Error;
    world.log.append(values(0..5));
    let task = world.start("p", false);
    sleep(Duration::from_secs(300)).await;
    assert!(world.stored().is_empty() && world.group.lock().unwrap().is_empty() && !task.is_finished());
    let told = world.told.0.lock().unwrap().clone();
    assert!(told.len() == 1 && told[0].contains("AUTO_OFFSET_RESET is error"), "{told:?}");
    assert!(told[0].contains("\"kind\": \"ledger-broken\""), "{told:?}");
    let report = world.vitals.readiness();
    assert!(!report.ok && report.reasons[0].why.contains("AUTO_OFFSET_RESET is error"), "{report:?}");
    world.stop.send_replace(Some(Closed::Shutdown));
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_group_that_does_not_answer_does_not_hold_up_a_drain_for_long() {
    let world = World::new();
    world.log.append(values(0..7));
    let task = world.start("p", false);
    sleep(Duration::from_secs(5)).await;
    world.group_answers.store(false, Ordering::Relaxed);
    world.stop.send_replace(Some(Closed::Shutdown));
    tokio::time::timeout(Duration::from_secs(10), task)
        .await
        .expect("it waits for the group")
        .unwrap()
        .unwrap();
    assert_eq!(world.stored(), world.log.lines());
}
