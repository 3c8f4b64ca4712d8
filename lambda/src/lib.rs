//! The Lambda function: one event of S3 becomes rows of two tables, and alerts.
//!
//! ```text
//! event --envelope--> objects --ingest--> lines --row--> prices (history), coins (latest)
//!                                              `-------> quarantine, and an alert
//! ```
//!
//! Events come at least once and in any order. So nothing here depends on either: a row of `prices` is a
//! function of its line, and a row of `coins` is replaced only by a newer one. What was not stored is said: message by
//! message where SQS brought it, else the invocation fails. AWS then brings it again, and keeps it when that does not
//! help.

use std::{collections::HashSet, fmt, time::Duration};

use coinduit_common::{
    alert::{Alert, AlertKind, Alerts},
    clock::Clock,
};
use serde::Serialize;
use tokio::time::Instant;
use tracing::{debug, info, warn};

pub mod attribute;
pub mod batch;
pub mod config;
pub mod cutter;
pub mod decompress;
pub mod envelope;
pub mod error;
pub mod ingest;
pub mod metrics;
pub mod object;
pub mod quarantine;
pub mod replay;
pub mod row;
pub mod runtime_api;
pub mod table;

use envelope::{Entry, Ignored, ObjectRef, Part};
use error::{Failure, HandleError, Listed};
use ingest::{Report, ingest};
use metrics::{Measured, Metrics};
use object::Stores;
use table::{Limits, Tables};

/// What is left of the invocation's time for alerts and the answer.
const MARGIN: Duration = Duration::from_secs(1);
/// What is left of it for the answer alone.
const ANSWER_MARGIN: Duration = Duration::from_millis(200);
/// How many causes an alert writes out.
const CAUSES: usize = 5;

/// What an invocation works with; made once, before the first one.
#[derive(Debug)]
pub struct Clients {
    /// The stores of the buckets that events name.
    pub stores: Stores,
    /// The tables.
    pub tables: Tables,
    /// How long a row of `prices` is kept, where it is not kept for ever.
    pub row_life: Option<Duration>,
    /// Where to say what went wrong.
    pub alerts: Alerts,
    /// Where to say what was done.
    pub metrics: Metrics,
    /// What time it is.
    pub clock: Clock,
}

/// What an invocation answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Everything is stored.
    Done(Summary),
    /// To SQS: everything is stored, but for these messages.
    Queue {
        /// What SQS brings again; empty when all is well.
        #[serde(rename = "batchItemFailures")]
        failures: Vec<ItemFailure>,
    },
}

/// A message of SQS that was not handled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemFailure {
    /// The message's id.
    #[serde(rename = "itemIdentifier")]
    pub id: String,
}

/// What an invocation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Objects that were read.
    pub objects: usize,
    /// Rows that were put into the table of prices.
    pub rows: usize,
    /// Rows that were put into the table of coins.
    pub coins: usize,
    /// Coins that the table had as new, or newer.
    pub stale: usize,
    /// Lines that can't be rows.
    pub rejected: usize,
    /// Records of the event that there was nothing to do for.
    pub ignored: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, rows, coins, stale, rejected, ignored } = self;
        write!(
            f,
            "stored: {rows} rows and {coins} coins of {objects} objects; {stale} coins were stale, {rejected} lines rejected, {ignored} records ignored"
        )
    }
}

/// Handles every record of `event`, also when an earlier one fails, within `deadline`: the end of the
/// invocation, a little before which everything is given up, so that it can be said.
///
/// # Errors
/// When the event, or something in it, was not stored, and the answer can't name what. The same event may be handled
/// again.
pub async fn handle(event: &[u8], deadline: Instant, clients: &Clients) -> Result<Answer, HandleError> {
    let retries = clients.tables.retries();
    let mut invocation = Invocation { clients, measured: Measured::default() };
    let result = invocation.run(event, before(deadline, MARGIN)).await;
    invocation.measured.retries = clients.tables.retries() - retries;
    clients.metrics.report(&invocation.measured, clients.clock.now_ms());
    let left = before(deadline, ANSWER_MARGIN).saturating_duration_since(Instant::now());
    clients.alerts.flush(left).await;
    result
}

struct Invocation<'a> {
    clients: &'a Clients,
    measured: Measured,
}

impl Invocation<'_> {
    async fn run(&mut self, event: &[u8], deadline: Instant) -> Result<Answer, HandleError> {
        let parts = envelope::parse(event).inspect_err(|error| {
            self.measured.failures += 1;
            self.clients.alerts.send(Alert::new(
                AlertKind::EventFailed,
                "event",
                error.to_string(),
                "look at what invokes the function; it understands notifications of S3",
            ));
        })?;
        let is_queue = parts.iter().any(|part| part.message.is_some());
        let objects =
            |part: &Part| part.entries.iter().filter(|entry| matches!(entry, Entry::Object(_))).count();
        let mut objects_left: usize = parts.iter().map(objects).sum();
        let mut stopped_groups = HashSet::new();
        // Failures that the answer can't name, and those that it can.
        let mut failures = Vec::new();
        let mut items = Vec::new();
        for part in parts {
            let group = part.message.as_ref().and_then(|message| message.group.clone());
            if let (Some(message), Some(group)) = (&part.message, &group)
                && stopped_groups.contains(group)
            {
                warn!(id = message.id, group, "message left for later, one before it in its group failed");
                objects_left -= objects(&part);
                items.push(ItemFailure { id: message.id.clone() });
                continue;
            }
            let mut failed = Vec::new();
            for entry in part.entries {
                self.entry(entry, deadline, &mut objects_left, &mut failed).await;
            }
            self.measured.failures += failed.len();
            match part.message {
                Some(message) if !failed.is_empty() => {
                    warn!(id = message.id, failures = %Listed(&failed), "message failed");
                    items.push(ItemFailure { id: message.id });
                    stopped_groups.extend(group);
                }
                _ => failures.extend(failed),
            }
        }
        let done = self.measured.done;
        if !failures.is_empty() {
            return Err(HandleError::Failures { failures, done });
        }
        if is_queue {
            info!(%done, failed = items.len(), "messages handled");
            return Ok(Answer::Queue { failures: items });
        }
        Ok(Answer::Done(done))
    }

    async fn entry(
        &mut self,
        entry: Entry,
        deadline: Instant,
        objects_left: &mut usize,
        failures: &mut Vec<Failure>,
    ) {
        match entry {
            Entry::Ignored { key, reason } => {
                info!(key, %reason, "record ignored");
                self.measured.done.ignored += 1;
            }
            Entry::Refused(refused) => {
                self.clients.alerts.send(Alert::new(
                    AlertKind::EventFailed,
                    "event",
                    refused.to_string(),
                    "it fails, so that it is kept; when it can be handled, bring it again from the dead-letter queue",
                ));
                failures.push(Failure::Record(refused));
            }
            Entry::Object(object) => {
                debug!(bucket = object.bucket, key = object.key, version = object.version, "object created");
                // A throttled table may take no more than an object's share of the time; others wait too.
                let left = deadline.saturating_duration_since(Instant::now());
                let share = left / u32::try_from((*objects_left).max(1)).unwrap_or(u32::MAX);
                *objects_left = objects_left.saturating_sub(1);
                let report = ingest(&object, Limits { deadline, patience: share }, self.clients).await;
                self.account(&object, report, failures);
            }
        }
    }

    /// Adds what became of `object` to the sum, and says what went wrong with it.
    fn account(&mut self, object: &ObjectRef, report: Report, failures: &mut Vec<Failure>) {
        let ObjectRef { bucket, key, .. } = object;
        let done = &mut self.measured.done;
        let alerts = &self.clients.alerts;
        if report.gone {
            warn!(bucket, key, reason = %Ignored::Gone, "record ignored");
            done.ignored += 1;
            return;
        }
        let Report { prices, coins, rejected, described, quarantine, broken, ages, .. } = report;
        info!(
            bucket,
            key,
            rows = prices.rows,
            coins = coins.rows,
            stale = coins.stale,
            rejected,
            "object handled"
        );
        done.objects += usize::from(broken.is_none());
        done.rows += prices.rows;
        done.coins += coins.rows;
        done.stale += coins.stale;
        done.rejected += rejected;
        if rejected > 0 {
            let more = rejected - described.len();
            let more = if more == 0 { String::new() } else { format!("; and {more} more") };
            let what = format!("{}{more}", described.join("; "));
            let advice =
                format!("look at quarantine/lambda/{key}/ in bucket {bucket}; the other lines are stored");
            let alert = Alert::new(AlertKind::LineQuarantined, place(object), what, advice);
            alerts.send(
                alert.count(count(rejected)).detail("bucket", bucket.as_str()).detail("key", key.as_str()),
            );
        }
        let first = failures.len();
        if let Some(cause) = broken {
            failures.push(Failure::Object { bucket: bucket.clone(), key: key.clone(), cause });
        }
        if let Some(cause) = quarantine {
            failures.push(Failure::Quarantine { bucket: bucket.clone(), key: key.clone(), cause });
        }
        for failure in &failures[first..] {
            alerts.send(alert(AlertKind::StoreFailed, object, &failure.to_string()));
        }
        if prices.rows > 0 || coins.rows > 0 {
            self.measured.add_ages(ages);
        }
        for written in [prices, coins] {
            let first = failures.len();
            let failed = |cause| Failure::Row { bucket: bucket.clone(), key: key.clone(), cause };
            failures.extend(written.failed.into_iter().map(failed));
            let failed = &failures[first..];
            if !failed.is_empty() {
                let alert =
                    alert(AlertKind::TableFailed, object, &some(failed.iter().map(ToString::to_string)));
                alerts.send(alert.count(count(failed.len())));
            }
        }
    }
}

fn alert(kind: AlertKind, object: &ObjectRef, what: &str) -> Alert {
    let advice = "it is tried again; if it stays, repair what is named here and bring it again from the dead-letter \
                  queue, or run bootstrap replay";
    Alert::new(kind, place(object), what, advice)
        .detail("bucket", object.bucket.as_str())
        .detail("key", object.key.as_str())
}

fn place(object: &ObjectRef) -> String {
    format!("{}/{}", object.bucket, object.key)
}

/// The first few of `causes`, and how many more there are.
fn some(causes: impl ExactSizeIterator<Item = String>) -> String {
    let more = causes.len().saturating_sub(CAUSES);
    let listed = causes.take(CAUSES).collect::<Vec<_>>().join("; ");
    if more == 0 { listed } else { format!("{listed}; and {more} more") }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn before(deadline: Instant, margin: Duration) -> Instant {
    deadline.checked_sub(margin).unwrap_or(deadline)
}
