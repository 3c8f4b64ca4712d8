//! Every metric, once: its name, its unit, and what it means.
//!
//! What was is counted where it happens ([`Metrics`]'s methods); what is (offsets, memory, alerts) is read when somebody
//! asks. The names begin with `coinduit_consumer_`; only those of the process as such are what Prometheus' own clients call
//! them.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use coinduit_common::{alert::Alerts, clock::Clock};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use tokio::time::Instant;

use crate::{
    health::{Health, PartitionHealth, Stage},
    ledger::metadata::{Closed, ObjectMetadata, SkipReason},
};

/// What `/metrics` says it is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What goes before every name.
const PREFIX: &str = "coinduit_consumer";

type Label = [(&'static str, &'static str); 1];

/// What is counted while the process works.
pub struct Metrics {
    registry: Registry,
    seconds: Family<Label, Histogram, fn() -> Histogram>,
    in_flight: Family<Label, Gauge>,
    retries: Family<Label, Counter>,
    objects: Family<Label, Counter>,
    object_bytes: Counter,
    records: Counter,
    conflicts: Counter,
    quarantined: Family<Label, Counter>,
    skipped: Family<Label, Counter>,
    rebalances: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Why most records are quarantined: these series are there before the first one is.
const NOT_A_LINE: [&str; 7] =
    ["tombstone", "byte-order-mark", "not-utf8", "not-json", "not-an-object", "api-error", "no-name"];
/// What has a duration of its own.
const TIMED: [Stage; 3] = [Stage::Fetch, Stage::Put, Stage::Commit];

/// From 5 ms to 80 s: a fetch on the local network, an upload of 8 MiB to a store in trouble.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.5, 11))
}

impl Metrics {
    /// All of them, at zero.
    #[must_use]
    pub(crate) fn new(sources: Sources) -> Self {
        let mut registry = Registry::default();
        let mut metrics = Self {
            registry: Registry::default(),
            seconds: Family::new_with_constructor(seconds),
            in_flight: Family::default(),
            retries: Family::default(),
            objects: Family::default(),
            object_bytes: Counter::default(),
            records: Counter::default(),
            conflicts: Counter::default(),
            quarantined: Family::default(),
            skipped: Family::default(),
            rebalances: Counter::default(),
        };
        // What is not there can't be told from what is not counted: every series begins at zero.
        for stage in TIMED {
            drop(metrics.seconds.get_or_create(&label("stage", stage.name())));
            drop(metrics.in_flight.get_or_create(&label("stage", stage.name())));
        }
        for stage in Stage::ALL {
            drop(metrics.retries.get_or_create(&label("stage", stage.name())));
        }
        for closed in Closed::ALL {
            drop(metrics.objects.get_or_create(&label("closed", closed.name())));
        }
        for reason in SkipReason::ALL {
            drop(metrics.skipped.get_or_create(&label("reason", reason.name())));
        }
        for reason in NOT_A_LINE {
            drop(metrics.quarantined.get_or_create(&label("reason", reason)));
        }
        let own = registry.sub_registry_with_prefix(PREFIX);
        own.register_with_unit(
            "stage",
            "How long one attempt took: at fetching records, at storing one object (from its first attempt until it is known what stands there), at committing offsets",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        own.register("in_flight", "Attempts under way now", metrics.in_flight.clone());
        own.register("retries", "Attempts that failed and are made again", metrics.retries.clone());
        own.register("objects", "Objects stored, by why they were closed", metrics.objects.clone());
        own.register_with_unit(
            "object",
            "Bytes of the objects stored",
            Unit::Bytes,
            metrics.object_bytes.clone(),
        );
        own.register("records", "Records stored as lines of objects", metrics.records.clone());
        own.register(
            "conflicts",
            "Objects whose place another writer's object had taken; what was read behind it is read again",
            metrics.conflicts.clone(),
        );
        own.register(
            "quarantined_records",
            "Records stored aside because they can't be lines, by why",
            metrics.quarantined.clone(),
        );
        own.register(
            "skipped_offsets",
            "Offsets stepped over as stored objects record it, by why",
            metrics.skipped.clone(),
        );
        own.register(
            "rebalances",
            "Rounds of the group that this member has joined",
            metrics.rebalances.clone(),
        );
        own.register("build", "Which program this is", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let started_ms = sources.clock.now_ms();
        own.register_collector(Box::new(sources));
        registry.register_collector(Box::new(Process { started_ms }));
        metrics.registry = registry;
        metrics
    }

    /// The text form: OpenMetrics 1.0, which Prometheus reads since 2.5.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }

    /// An attempt at `stage` begins.
    #[must_use]
    pub fn begin(&self, stage: Stage) -> Timing {
        let label = label("stage", stage.name());
        let in_flight = self.in_flight.get_or_create_owned(&label);
        in_flight.inc();
        Timing { begun: Instant::now(), seconds: self.seconds.get_or_create_owned(&label), in_flight }
    }

    /// An attempt at `stage` failed and is made again.
    pub fn retried(&self, stage: Stage) {
        self.retries.get_or_create(&label("stage", stage.name())).inc();
    }

    /// A batch was stored in so many objects of so many bytes together, with what it says of itself.
    pub fn stored(&self, batch: &ObjectMetadata, objects: u64, bytes: usize) {
        let ObjectMetadata { closed, records, skipped, .. } = batch;
        self.objects.get_or_create(&label("closed", closed.name())).inc_by(objects);
        self.records.inc_by(*records);
        self.object_bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        for skip in skipped {
            let offsets = u64::try_from(skip.to - skip.from).unwrap_or_default();
            self.skipped.get_or_create(&label("reason", skip.reason.name())).inc_by(offsets);
        }
    }

    /// Another writer's object stood there.
    pub fn lost_race(&self) {
        self.conflicts.inc();
    }

    /// A record was stored aside.
    pub fn quarantined(&self, reason: &'static str) {
        self.quarantined.get_or_create(&label("reason", reason)).inc();
    }

    /// The group has gone through a round with this member.
    pub fn rebalanced(&self) {
        self.rebalances.inc();
    }
}

/// `topic` and `partition`.
type PartitionLabels<'a> = ([(&'static str, &'a str); 1], [(&'static str, i32); 1]);

const fn label(name: &'static str, value: &'static str) -> Label {
    [(name, value)]
}

/// An attempt under way. Dropping it means that it was given up, and counts no duration.
#[derive(Debug)]
pub struct Timing {
    begun: Instant,
    seconds: Histogram,
    in_flight: Gauge,
}

impl Timing {
    /// It came to an end, good or bad.
    pub fn done(self) {
        self.seconds.observe(self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

/// The memory for all partitions.
#[derive(Default)]
pub(crate) struct Budget {
    pub(crate) limit: usize,
    pub(crate) used: Option<Box<dyn Fn() -> usize + Send + Sync>>,
}

/// What is read when somebody asks.
pub(crate) struct Sources {
    pub(crate) topic: Arc<str>,
    pub(crate) clock: Clock,
    pub(crate) health: Arc<Mutex<Health>>,
    pub(crate) budget: Arc<Mutex<Budget>>,
    pub(crate) alerts: Alerts,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// One number of a partition: its name, what it means, and the number.
type OffsetGauge = (&'static str, &'static str, fn(&PartitionHealth) -> Option<i64>);

const OFFSETS: [OffsetGauge; 4] = [
    (
        "partition_high_watermark_offset",
        "The log's end as seen last: the offset that the next record gets (read_committed: the last stable offset)",
        |partition| Some(partition.offsets()?.end),
    ),
    (
        "partition_tail_offset",
        "The end of the partition's chain of objects; it names the next object",
        |partition| Some(partition.offsets()?.tail),
    ),
    (
        "partition_handled_offset",
        "Everything below it is stored, quarantined, skipped on record, or nothing; it is what the group commits",
        |partition| Some(partition.offsets()?.handled),
    ),
    ("partition_lag_records", "Offsets between the handled offset and the log's end", |partition| {
        partition.offsets().map(|offsets| (offsets.end - offsets.handled).max(0))
    }),
];

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // A copy: partitions don't wait until it is written.
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (now, now_ms) = (self.clock.since_boot(), self.clock.now_ms());
        for (name, help, value) in OFFSETS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (partition, of) in &health.partitions {
                if let Some(value) = value(of) {
                    family.encode_family(&self.labels(*partition))?.encode_gauge(&value)?;
                }
            }
        }
        let mut ages = encoder.encode_descriptor(
            "partition_oldest_record_age",
            "Age by its own timestamp of the oldest record that was read and is not stored yet; 0 without one",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (partition, of) in &health.partitions {
            let Some(offsets) = of.offsets() else { continue };
            let age_ms = offsets.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest).max(0));
            let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or_default()).as_secs_f64();
            ages.encode_family(&self.labels(*partition))?.encode_gauge(&age)?;
        }
        let mut waits = encoder.encode_descriptor(
            "partition_waiting",
            "For how long there has been something to handle of which nothing was; above MAX_OBJECT_AGE and 60 s the partition is unready",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (partition, of) in &health.partitions {
            waits.encode_family(&self.labels(*partition))?.encode_gauge(&of.waiting(now).as_secs_f64())?;
        }
        let (limit, used) = {
            let budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
            (budget.limit, budget.used.as_ref().map_or(0, |used| used()))
        };
        let gauge = |encoder: &mut DescriptorEncoder<'_>, name, help, unit: Option<Unit>, value: i64| {
            encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?.encode_gauge(&value)
        };
        gauge(
            &mut encoder,
            "partitions",
            "Partitions that are this member's now",
            None,
            saturating(health.partitions.len()),
        )?;
        gauge(
            &mut encoder,
            "group_generation",
            "The group's generation as this member knows it; -1 without a membership",
            None,
            health.generation.into(),
        )?;
        gauge(
            &mut encoder,
            "memory_budget_used",
            "Memory that records and objects of all partitions use",
            Some(Unit::Bytes),
            saturating(used),
        )?;
        gauge(
            &mut encoder,
            "memory_budget",
            "MEMORY_BUDGET: what they may use",
            Some(Unit::Bytes),
            saturating(limit),
        )?;
        let counts = self.alerts.counts();
        let mut alerts = encoder.encode_descriptor(
            "alerts",
            "Alerts: messages that were sent, messages that failed (they are in the log), alerts that were throttled (they are counted in another's message)",
            None,
            MetricType::Counter,
        )?;
        for (outcome, count) in
            [("sent", counts.sent), ("failed", counts.failed), ("throttled", counts.throttled)]
        {
            ConstCounter::new(count).encode(alerts.encode_family(&label("outcome", outcome))?)?;
        }
        Ok(())
    }
}

impl Sources {
    fn labels(&self, partition: i32) -> PartitionLabels<'_> {
        ([("topic", &*self.topic)], [("partition", partition)])
    }
}

fn saturating(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The process as the operating system sees it.
#[derive(Debug)]
struct Process {
    started_ms: i64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let started = Duration::from_millis(u64::try_from(self.started_ms).unwrap_or_default());
        encoder
            .encode_descriptor(
                "process_start_time",
                "When the process started, since the Unix epoch",
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?
            .encode_gauge(&started.as_secs_f64())?;
        let Some(bytes) = resident_bytes() else { return Ok(()) };
        encoder
            .encode_descriptor(
                "process_resident_memory",
                "Resident memory",
                Some(&Unit::Bytes),
                MetricType::Gauge,
            )?
            .encode_gauge(&bytes)
    }
}

/// What the kernel counts as ours; nothing where it does not say.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests;
