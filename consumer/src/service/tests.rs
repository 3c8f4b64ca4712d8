//! The service against a coordinator that is told what to say, in paused time.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use clap::Parser;
use coinduit_common::{
    alert::{AlertSender, SendError},
    config::Env,
    kafka::{
        error::KafkaError,
        group::{Committed as CommittedOffset, Identity, Join, JoinAnswer, Joined, Offset, Sync},
    },
};
use kafka_protocol::ResponseError as Code;
use tokio::{task::JoinHandle, time::timeout};
use uuid::Uuid;

use super::*;
use crate::{
    budget::Reservation,
    config::{Cli, Command},
    group::{assignor::COOPERATIVE_STICKY, subscription::encode_assignment},
    reader::{Ask, Bounds, Fetched, PartitionReader, ReadError, Record},
    testing::MemoryBucket,
};

const RECORDS: i64 = 5;

/// Everything that the service meets: a coordinator, a topic with one partition, and its log.
#[derive(Default)]
struct World {
    /// What the next heartbeats are answered with; then all is well.
    heartbeats: Mutex<Vec<Code>>,
    /// What the member is given, round by round; the last one for ever.
    assignments: Mutex<Vec<Vec<i32>>>,
    joins: AtomicUsize,
    left: AtomicBool,
    /// Whether the log can be read.
    readable: AtomicBool,
    /// Whether the topic is not there.
    missing: AtomicBool,
    /// What people were told.
    told: Told,
    vitals: Mutex<Option<Arc<Vitals>>>,
}

impl World {
    fn assign(&self, rounds: &[&[i32]]) {
        *self.assignments.lock().unwrap() = rounds.iter().map(|round| round.to_vec()).collect();
    }
}

fn refused(code: Code) -> KafkaError {
    KafkaError::refused(code.code(), "a request", "g")
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl AlertSender for Told {
    fn send<'a>(
        &'a self,
        subject: &'a str,
        _: &'a str,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>> {
        self.0.lock().unwrap().push(subject.to_owned());
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The world, as each trait wants it.
struct In(Arc<World>);

#[async_trait]
impl Coordinator for In {
    async fn find(&self) -> Result<(), KafkaError> {
        Ok(())
    }

    async fn join(&self, _: &Join) -> Result<JoinAnswer, KafkaError> {
        sleep(Duration::from_millis(10)).await;
        let generation = i32::try_from(self.0.joins.fetch_add(1, Ordering::Relaxed)).unwrap();
        Ok(JoinAnswer::Joined(Joined {
            member_id: "m".to_owned(),
            generation,
            protocol: COOPERATIVE_STICKY.to_owned(),
            leader: "other".to_owned(),
            members: Vec::new(),
            skip_assignment: false,
        }))
    }

    async fn sync(&self, _: &Sync) -> Result<Bytes, KafkaError> {
        let mut rounds = self.0.assignments.lock().unwrap();
        let partitions = if rounds.len() > 1 { rounds.remove(0) } else { rounds[0].clone() };
        Ok(encode_assignment(&BTreeMap::from([("t".to_owned(), partitions)])))
    }

    async fn heartbeat(&self, _: &Identity) -> Result<(), KafkaError> {
        match self.0.heartbeats.lock().unwrap().pop() {
            Some(code) => Err(refused(code)),
            None => Ok(()),
        }
    }

    async fn leave(&self, _: &Identity) -> Result<(), KafkaError> {
        self.0.left.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn commit(&self, _: &Identity, _: &[Offset]) -> Result<Vec<(i32, KafkaError)>, KafkaError> {
        Ok(Vec::new())
    }

    async fn committed(&self, _: &[i32]) -> Result<Vec<CommittedOffset>, KafkaError> {
        Ok(Vec::new())
    }

    async fn partitions(&self, _: &[String]) -> Result<BTreeMap<String, i32>, KafkaError> {
        Ok(BTreeMap::from([("t".to_owned(), 1)]))
    }
}

#[async_trait]
impl Confirm for In {
    async fn describe(&self) -> Result<Topic, IdentityError> {
        if self.0.missing.load(Ordering::Relaxed) {
            return Err(IdentityError::Missing { topic: "t".to_owned() });
        }
        Ok(Topic { cluster_id: "c".to_owned(), topic_id: Uuid::from_u128(7), partitions: vec![0] })
    }

    async fn confirm(&self, _: Duration) -> Result<(), IdentityError> {
        Ok(())
    }
}

impl OpenReader for In {
    fn open(&self, _: i32) -> Box<dyn PartitionReader> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}

#[async_trait]
impl PartitionReader for In {
    async fn fetch(&mut self, ask: Ask, _: &Reservation) -> Result<Fetched, ReadError> {
        let offset = ask.offset;
        while !self.0.readable.load(Ordering::Relaxed) || offset == RECORDS {
            sleep(Duration::from_millis(500)).await;
        }
        let records = (offset..RECORDS).map(|offset| Record {
            offset,
            timestamp_ms: 0,
            key: None,
            value: Some(Bytes::from_static(b"{}")),
            headers: Vec::new(),
        });
        Ok(Fetched {
            records: records.collect(),
            next: RECORDS,
            high_watermark: RECORDS,
            ..Fetched::default()
        })
    }

    async fn bounds(&mut self) -> Result<Bounds, ReadError> {
        Ok(Bounds { start: 0, end: RECORDS })
    }
}

fn start(
    world: &Arc<World>,
    bucket: &Arc<MemoryBucket>,
    arguments: &[&str],
    shutdown: impl Future<Output = &'static str> + Send + 'static,
) -> JoinHandle<Result<(), ConsumerError>> {
    let line =
        [&["consumer", "--s3-bucket", "b", "--kafka-topic", "t", "--enrich", "off"], arguments].concat();
    let Command::Run(args) = Cli::try_parse_from(line).unwrap().into_command() else {
        panic!("run is the default")
    };
    let config = Config::new(&args, &Env::default()).unwrap();
    let clock = Clock::Tokio(Instant::now());
    let alerts = Alerts::start("consumer", clock.clone(), world.told.clone());
    let vitals = Vitals::new("t", config.limits.age, clock.clone(), alerts.clone());
    *world.vitals.lock().unwrap() = Some(Arc::clone(&vitals));
    let parts = Parts {
        bucket: Arc::clone(bucket) as _,
        topic: Arc::new(In(Arc::clone(world))),
        readers: Arc::new(In(Arc::clone(world))),
        coordinator: Arc::new(In(Arc::clone(world))),
        alerts,
        vitals,
        clock,
        process: "p".into(),
    };
    tokio::spawn(Service::new(config, parts).run(shutdown))
}

fn objects(bucket: &MemoryBucket) -> Vec<String> {
    bucket.below("t/partition=0/").into_iter().map(|(key, ..)| key).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_or_given_up_has_not_come_to_its_end() {
    for (code, rounds) in [
        (Code::UnknownMemberId, &[&[0][..], &[0]][..]),
        // Given up to another member, and back.
        (Code::RebalanceInProgress, &[&[0], &[], &[0]]),
    ] {
        let (world, bucket) = (Arc::new(World::default()), Arc::new(MemoryBucket::default()));
        world.assign(rounds);
        world.heartbeats.lock().unwrap().push(code);
        let mut run = start(&world, &bucket, &["--exit-at-end"], std::future::pending());
        assert!(
            timeout(Duration::from_secs(9), &mut run).await.is_err(),
            "{code:?}: it has ended with nothing stored"
        );
        world.readable.store(true, Ordering::Relaxed);
        run.await.unwrap().unwrap();
        assert_eq!(objects(&bucket).len(), 1, "{code:?}");
        assert!(world.left.load(Ordering::Relaxed));
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_given_nothing_ends_after_a_while() {
    let (world, bucket) = (Arc::new(World::default()), Arc::new(MemoryBucket::default()));
    world.assign(&[&[]]);
    let mut run = start(&world, &bucket, &["--exit-at-end"], std::future::pending());
    assert!(timeout(NOTHING_TO_DO / 2, &mut run).await.is_err());
    run.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_stores_commits_and_leaves() {
    let (world, bucket) = (Arc::new(World::default()), Arc::new(MemoryBucket::default()));
    world.assign(&[&[0]]);
    world.readable.store(true, Ordering::Relaxed);
    let stop = async {
        sleep(Duration::from_secs(20)).await;
        "SIGTERM"
    };
    start(&world, &bucket, &[], stop).await.unwrap().unwrap();
    assert_eq!(bucket.below("t/partition=0/")[0].2["closed"], "shutdown");
    assert!(world.left.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_there_is_waited_for_and_told() {
    let (world, bucket) = (Arc::new(World::default()), Arc::new(MemoryBucket::default()));
    world.assign(&[&[0]]);
    world.missing.store(true, Ordering::Relaxed);
    let run = start(&world, &bucket, &[], std::future::pending());
    sleep(Duration::from_secs(7)).await;
    let vitals = world.vitals.lock().unwrap().clone().unwrap();
    let report = vitals.readiness();
    assert!(!report.ok && report.reasons[0].why.contains("the cluster has no topic t"), "{report:?}");
    assert!(vitals.liveness().ok);
    assert_eq!(*world.told.0.lock().unwrap(), ["[coinduit consumer] topic-changed: t"]);
    world.missing.store(false, Ordering::Relaxed);
    world.readable.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    assert!(vitals.readiness().ok, "{:?}", vitals.readiness());
    assert_eq!(world.told.0.lock().unwrap()[1], "[coinduit consumer] over: topic-changed: t");
    // It is deleted while the consumer runs.
    world.missing.store(true, Ordering::Relaxed);
    sleep(LOOK_FOR_PARTITIONS + Duration::from_secs(65)).await;
    assert!(!vitals.readiness().ok);
    assert_eq!(world.told.0.lock().unwrap()[2], "[coinduit consumer] topic-changed: t");
    run.abort();
}
