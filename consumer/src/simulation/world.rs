//! What all processes share: the cluster, the bucket, time and chance; and the one who sees all of it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::{
    broker::{Broker, TOPIC},
    chronicle::Chronicle,
    dice::Dice,
    judge::Judge,
    store::Shelf,
    weather::Weather,
};
use crate::ledger::{bucket::NewObject, resume::Reset};

/// The world of one history.
#[derive(Debug)]
pub(super) struct World {
    pub(super) began: Instant,
    pub(super) dice: Dice,
    pub(super) weather: Weather,
    pub(super) chronicle: Chronicle,
    pub(super) broker: Broker,
    pub(super) shelf: Shelf,
    pub(super) judge: Judge,
    /// How many partitions the cluster shows.
    partitions: AtomicI32,
    healed: AtomicBool,
    /// How often the topic was created.
    incarnation: AtomicI32,
    /// Until then something that was begun before may happen: a process goes on, a put lands.
    restless_until: Mutex<Instant>,
    /// Partitions without a leader, and until when.
    leaderless: Mutex<BTreeMap<i32, Instant>>,
}

impl World {
    pub(super) fn new(dice: Dice, weather: Weather) -> Self {
        let began = Instant::now();
        let world = Self {
            began,
            judge: Judge::new(weather.reset == Reset::Latest),
            partitions: AtomicI32::new(weather.partitions.0),
            dice,
            weather,
            chronicle: Chronicle::new(began),
            broker: Broker::new(began),
            shelf: Shelf::default(),
            healed: AtomicBool::new(false),
            incarnation: AtomicI32::new(0),
            restless_until: Mutex::new(began),
            leaderless: Mutex::default(),
        };
        world.create_topic();
        world
    }

    pub(super) fn tell(&self, who: &str, what: fmt::Arguments<'_>) {
        self.chronicle.tell(who, what);
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    pub(super) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
        self.leaderless.lock().unwrap().clear();
    }

    pub(super) fn store_faults(&self) -> u64 {
        if self.is_healed() { 0 } else { self.weather.store_faults }
    }

    pub(super) fn network_faults(&self) -> u64 {
        if self.is_healed() { 0 } else { self.weather.network_faults }
    }

    /// Something under way ends after `time`.
    pub(super) fn is_restless_for(&self, time: Duration) {
        let mut until = self.restless_until.lock().unwrap();
        *until = (*until).max(Instant::now() + time);
    }

    /// Waits until all that was begun has ended, and some time for what comes of it.
    pub(super) async fn calm(&self) {
        let until = *self.restless_until.lock().unwrap();
        sleep_until(until + Duration::from_secs(20)).await;
    }

    /// How many partitions there are to see: the cluster has all of them from the beginning, and nobody knows.
    pub(super) fn partitions(&self) -> i32 {
        self.partitions.load(Ordering::Relaxed)
    }

    pub(super) fn add_partitions(&self) {
        self.partitions.store(self.weather.partitions.1, Ordering::Relaxed);
    }

    pub(super) fn is_recreated(&self) -> bool {
        self.incarnation.load(Ordering::Relaxed) > 1
    }

    fn create_topic(&self) {
        self.incarnation.fetch_add(1, Ordering::Relaxed);
        self.broker.core().create_topic(TOPIC, self.weather.partitions.1).unwrap();
    }

    pub(super) fn recreate_topic(&self) {
        self.broker.core().delete_topic(TOPIC).unwrap();
        self.create_topic();
        self.broker.changed();
    }

    pub(super) fn lose_leader(&self, partition: i32, time: Duration) {
        self.leaderless.lock().unwrap().insert(partition, Instant::now() + time);
    }

    pub(super) fn has_leader(&self, partition: i32) -> bool {
        self.leaderless.lock().unwrap().get(&partition).is_none_or(|until| *until <= Instant::now())
    }

    /// Publishes `count` records in one batch, `gap` offsets behind the last one.
    pub(super) fn publish(&self, partition: i32, count: i64, gap: i64) {
        let Some((start, end)) = self.broker.bounds(partition) else { return };
        let incarnation = self.incarnation.load(Ordering::Relaxed);
        let mut records = Vec::new();
        let mut offset = end + gap;
        for _ in 0..count {
            let good = Bytes::from(format!("{{\"n\":\"{incarnation}-{partition}-{offset}\"}}"));
            let (value, is_line) = if !self.dice.happens(self.weather.bad_records) {
                (Some(good), true)
            } else if self.dice.happens(500) {
                (Some(Bytes::from_static(b"no line")), false)
            } else {
                (None, false)
            };
            if incarnation == 1 {
                self.judge.published(partition, offset, value.clone(), is_line);
            }
            records.push((offset, value));
            // A record that compaction removed.
            offset += if self.dice.happens(100) { 2 } else { 1 };
        }
        self.broker.append(partition, &records);
        let end = records.last().map_or(end, |(last, _)| last + 1);
        if incarnation == 1 {
            self.judge.log_is(partition, start, end);
        }
        self.tell("log", format_args!("{partition} goes on to {end}, {count} records"));
    }

    /// Retention removes what lies before `offset`.
    pub(super) fn retain(&self, partition: i32, offset: i64) {
        let Ok(start) = self.broker.core().delete_records(TOPIC, partition, offset) else { return };
        self.broker.changed();
        let Some((_, end)) = self.broker.bounds(partition) else { return };
        if !self.is_recreated() {
            self.judge.log_is(partition, start, end);
        }
        self.tell("log", format_args!("{partition} begins at {start}"));
    }

    /// An object is in the bucket that was not there before.
    pub(super) fn saw_landing(&self, object: &NewObject) {
        let Some((folder, name)) = object.key.rsplit_once('/') else { return };
        let Some((_, partition)) = folder.split_once("/partition=") else { return };
        let partition = partition.parse().unwrap_or(-1);
        if folder.starts_with("quarantine/") {
            let offset = name.trim_end_matches(".json").parse().unwrap_or(-1);
            self.judge.quarantined(partition, offset);
        } else {
            self.judge.landed(&object.key, partition, &object.body.to_vec(), &object.metadata);
        }
    }
}
