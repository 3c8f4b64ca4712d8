//! What tasks say about themselves while they work, for `/metrics`, `/readyz` and `/livez`.
//!
//! ```text
//! service, session, partitions --Vitals--> Health (what is), Metrics (what was) --> http
//! ```
//!
//! Saying it costs a short lock and no allocation; it is done once a fetch and once an object, never once a record.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use coinduit_common::{alert::Alerts, clock::Clock};
use tokio::time::sleep;

use crate::{
    health::{BEAT, GRACE, Health, Hindrance, Now, Offsets, PartitionHealth, Phase, Report, Stage},
    metrics::{Budget, Metrics, Sources},
    trouble::Trouble,
};

/// A page of metrics is shown for so long, whoever asks: many who ask cost no more than one.
const PAGE_AGE: Duration = Duration::from_secs(1);

/// One process's.
pub struct Vitals {
    topic: Arc<str>,
    clock: Clock,
    limit: Duration,
    health: Arc<Mutex<Health>>,
    budget: Arc<Mutex<Budget>>,
    metrics: Metrics,
    page: Mutex<Option<(Duration, Bytes)>>,
}

impl std::fmt::Debug for Vitals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vitals").field("topic", &self.topic).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vitals {
    /// Of a consumer of `topic` that closes objects after `object_age`.
    #[must_use]
    pub fn new(topic: &str, object_age: Duration, clock: Clock, alerts: Alerts) -> Arc<Self> {
        let health = Arc::new(Mutex::new(Health::new(clock.since_boot())));
        let budget = Arc::new(Mutex::new(Budget::default()));
        let sources = Sources {
            topic: topic.into(),
            clock: clock.clone(),
            health: Arc::clone(&health),
            budget: Arc::clone(&budget),
            alerts,
        };
        Arc::new(Self {
            topic: topic.into(),
            limit: object_age.saturating_add(GRACE),
            health,
            budget,
            metrics: Metrics::new(sources),
            page: Mutex::default(),
            clock,
        })
    }

    /// What is counted.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The memory budget is `limit` bytes, of which `used` says what is in use.
    pub fn budget(&self, limit: usize, used: impl Fn() -> usize + Send + Sync + 'static) {
        *locked(&self.budget) = Budget { limit, used: Some(Box::new(used)) };
    }

    /// The process has come so far.
    pub fn phase(&self, phase: Phase) {
        let now = self.clock.since_boot();
        let mut health = locked(&self.health);
        health.phase = phase;
        health.phase_at = now;
    }

    /// The membership is valid until then (since boot), in that generation of the group.
    pub fn member(&self, until: Duration, generation: i32) {
        let mut health = locked(&self.health);
        health.member_until = until;
        health.generation = generation;
    }

    /// Whether the group has spread its partitions over its members, this one among them.
    pub fn in_group(&self, in_group: bool) {
        let now = self.clock.since_boot();
        let mut health = locked(&self.health);
        if health.in_group != in_group {
            health.in_group = in_group;
            health.phase_at = now;
        }
    }

    /// Says that the main loop turns, for as long as it is polled there.
    pub async fn beat(&self) -> Infallible {
        loop {
            locked(&self.health).turned_at = self.clock.since_boot();
            sleep(BEAT).await;
        }
    }

    /// A partition that was assigned; it is shown until what is returned is dropped.
    #[must_use]
    pub fn partition(self: &Arc<Self>, partition: i32, number: u64) -> PartitionVitals {
        let health = PartitionHealth::new(number, self.clock.since_boot());
        locked(&self.health).partitions.insert(partition, health);
        PartitionVitals { vitals: Arc::clone(self), partition, number }
    }

    /// Where troubles of the whole process show.
    #[must_use]
    pub fn slot(self: &Arc<Self>, stage: Stage) -> Slot {
        Slot { vitals: Arc::clone(self), of: None, stage }
    }

    fn now(&self) -> Now {
        Now { since_boot: self.clock.since_boot(), ms: self.clock.now_ms() }
    }

    /// Whether the main loop turns.
    #[must_use]
    pub fn liveness(&self) -> Report {
        locked(&self.health).liveness(self.now())
    }

    /// Whether everything gets on.
    #[must_use]
    pub fn readiness(&self) -> Report {
        // Partitions don't wait until it is decided.
        let health = locked(&self.health).clone();
        health.readiness(&self.topic, self.now(), self.limit)
    }

    /// All metrics, in OpenMetrics' text form.
    #[must_use]
    pub fn page(&self) -> Bytes {
        let now = self.clock.since_boot();
        let mut page = locked(&self.page);
        match &*page {
            Some((at, text)) if now.saturating_sub(*at) < PAGE_AGE => text.clone(),
            _ => {
                let text = Bytes::from(self.metrics.text());
                *page = Some((now, text.clone()));
                text
            }
        }
    }
}

/// What one partition's task says. Dropping it means that the partition is given up.
#[derive(Debug)]
pub struct PartitionVitals {
    vitals: Arc<Vitals>,
    partition: i32,
    number: u64,
}

impl PartitionVitals {
    /// It stands there now.
    pub fn stands(&self, offsets: Offsets) {
        let now = self.vitals.clock.since_boot();
        let mut health = locked(&self.vitals.health);
        if let Some(own) = health.partitions.get_mut(&self.partition).filter(|own| own.number == self.number)
        {
            own.stands(offsets, now);
        }
    }

    /// Where its troubles show.
    #[must_use]
    pub fn slot(&self, stage: Stage) -> Slot {
        Slot { vitals: Arc::clone(&self.vitals), of: Some((self.partition, self.number)), stage }
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        self.vitals.metrics()
    }
}

impl Drop for PartitionVitals {
    fn drop(&mut self) {
        let mut health = locked(&self.vitals.health);
        // A task that was dropped may end after its successor has begun.
        if health.partitions.get(&self.partition).is_some_and(|own| own.number == self.number) {
            health.partitions.remove(&self.partition);
        }
    }
}

/// Where one kind of trouble shows.
#[derive(Debug, Clone)]
pub struct Slot {
    vitals: Arc<Vitals>,
    of: Option<(i32, u64)>,
    stage: Stage,
}

impl Slot {
    /// What is tried.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// It failed once more.
    pub fn failed(&self, trouble: &Trouble, permanent: bool, why: &str) {
        self.vitals.metrics.retried(self.stage);
        let since = trouble.since().unwrap_or_else(|| self.vitals.clock.since_boot());
        let hindrance = Hindrance { since, permanent, told: trouble.is_told(), why: why.to_owned() };
        locked(&self.vitals.health).set(self.of, self.stage, Some(hindrance));
    }

    /// It works.
    pub fn over(&self) {
        locked(&self.vitals.health).set(self.of, self.stage, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals() -> Arc<Vitals> {
        Vitals::new("t", Duration::from_secs(60), Clock::manual(1_000), Alerts::logged_only())
    }

    fn page(vitals: &Vitals) -> String {
        *locked(&vitals.page) = None;
        String::from_utf8(vitals.page().to_vec()).unwrap()
    }

    #[test]
    fn a_partition_is_shown_until_it_is_given_up() {
        let vitals = vitals();
        let earlier = vitals.partition(3, 1);
        earlier.stands(Offsets { tail: 4, handled: 5, end: 9, oldest_ms: Some(400) });
        let text = page(&vitals);
        for line in [
            "coinduit_consumer_partition_lag_records{topic=\"t\",partition=\"3\"} 4",
            "coinduit_consumer_partition_tail_offset{topic=\"t\",partition=\"3\"} 4",
            "coinduit_consumer_partition_handled_offset{topic=\"t\",partition=\"3\"} 5",
            "coinduit_consumer_partition_high_watermark_offset{topic=\"t\",partition=\"3\"} 9",
            "coinduit_consumer_partition_oldest_record_age_seconds{topic=\"t\",partition=\"3\"} 0.6",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is missing in\n{text}");
        }
        let later = vitals.partition(3, 2);
        drop(earlier);
        assert!(page(&vitals).contains("coinduit_consumer_partitions 1\n"), "the successor's stays");
        drop(later);
        assert!(!page(&vitals).contains("partition=\"3\""));
    }

    #[test]
    fn many_who_ask_for_metrics_get_one_page() {
        let vitals = vitals();
        let first = vitals.page();
        vitals.metrics().retried(Stage::Put);
        assert_eq!(vitals.page(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_is_polled_is_live() {
        let clock = Clock::Tokio(tokio::time::Instant::now());
        let vitals = Vitals::new("t", Duration::from_secs(60), clock, Alerts::logged_only());
        drop(tokio::time::timeout(Duration::from_secs(100), vitals.beat()).await);
        assert!(vitals.liveness().ok);
        sleep(Duration::from_secs(40)).await;
        assert!(!vitals.liveness().ok);
    }
}
