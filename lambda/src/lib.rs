//! The Lambda function: one event of S3 becomes rows of two tables, and alerts.
//!
//! ```text
//! event --envelope--> objects --ingest--> lines --row--> prices (history), coins (latest)
//!                                              `-------> quarantine, and an alert
//! ```
//!
//! Events come at least once and in any order. So nothing here depends on either: a row of `prices` is a
//! function of its line, and a row of `coins` is replaced only by a newer one. An invocation fails when
//! something was not stored; Lambda then brings the event again, and keeps it when that does not help.

use std::{fmt, time::Duration};

use coinduit_common::alert::{Alert, AlertKind, Alerts};
use serde::Serialize;
use tokio::time::Instant;
use tracing::{debug, info, warn};

pub mod attribute;
pub mod batch;
pub mod config;
pub mod envelope;
pub mod error;
pub mod ingest;
pub mod object;
pub mod quarantine;
pub mod row;
pub mod runtime_api;
pub mod table;

use envelope::{Entry, Ignored, ObjectRef};
use error::{Failure, HandleError};
use ingest::{Report, ingest};
use object::Stores;
use table::Tables;

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
    /// Where to say what went wrong.
    pub alerts: Alerts,
}

/// What an invocation did: its answer.
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
/// When the event, or something in it, was not stored. The same event may be handled again.
pub async fn handle(event: &[u8], deadline: Instant, clients: &Clients) -> Result<Summary, HandleError> {
    let result = handle_records(event, before(deadline, MARGIN), clients).await;
    let left = before(deadline, ANSWER_MARGIN).saturating_duration_since(Instant::now());
    clients.alerts.flush(left).await;
    result
}

async fn handle_records(event: &[u8], deadline: Instant, clients: &Clients) -> Result<Summary, HandleError> {
    let entries = envelope::parse(event).inspect_err(|error| {
        clients.alerts.send(Alert::new(
            AlertKind::EventFailed,
            "event",
            error.to_string(),
            "look at what invokes the function; it understands notifications of S3",
        ));
    })?;
    let mut done = Summary::default();
    let mut failures = Vec::new();
    for entry in entries {
        match entry {
            Entry::Ignored { key, reason } => {
                info!(key, %reason, "record ignored");
                done.ignored += 1;
            }
            Entry::Refused(refused) => {
                clients.alerts.send(Alert::new(
                    AlertKind::EventFailed,
                    "event",
                    refused.to_string(),
                    "the invocation fails, so that the event is kept; invoke it again when it can be handled",
                ));
                failures.push(Failure::Record(refused));
            }
            Entry::Object(object) => {
                debug!(bucket = object.bucket, key = object.key, "object created");
                match ingest(&object, deadline, clients).await {
                    Ok(report) => account(&object, report, &mut done, &mut failures, &clients.alerts),
                    Err(cause) => {
                        let (bucket, key) = (object.bucket.clone(), object.key.clone());
                        let failure = Failure::Object { bucket, key, cause };
                        clients.alerts.send(alert(AlertKind::StoreFailed, &object, &failure.to_string()));
                        failures.push(failure);
                    }
                }
            }
        }
    }
    if failures.is_empty() { Ok(done) } else { Err(HandleError::Failures { failures, done }) }
}

/// Adds what became of `object` to the sum, and says what went wrong with it.
fn account(
    object: &ObjectRef,
    report: Report,
    done: &mut Summary,
    failures: &mut Vec<Failure>,
    alerts: &Alerts,
) {
    let ObjectRef { bucket, key, .. } = object;
    if report.gone {
        warn!(bucket, key, reason = %Ignored::Gone, "record ignored");
        done.ignored += 1;
        return;
    }
    let Report { prices, coins, rejected, quarantine, .. } = report;
    info!(
        bucket,
        key,
        rows = prices.rows,
        coins = coins.rows,
        stale = coins.stale,
        rejected = rejected.len(),
        "object handled"
    );
    done.objects += 1;
    done.rows += prices.rows;
    done.coins += coins.rows;
    done.stale += coins.stale;
    done.rejected += rejected.len();

    if !rejected.is_empty() {
        let what =
            some(rejected.iter().map(|rejected| format!("line {}: {}", rejected.line, rejected.reason)));
        let advice =
            format!("look at quarantine/lambda/{key}/ in bucket {bucket}; the other lines are stored");
        let alert = Alert::new(AlertKind::LineQuarantined, place(object), what, advice);
        alerts.send(
            alert.count(count(rejected.len())).detail("bucket", bucket.as_str()).detail("key", key.as_str()),
        );
    }
    if let Some(cause) = quarantine {
        let failure = Failure::Quarantine { bucket: bucket.clone(), key: key.clone(), cause };
        alerts.send(alert(AlertKind::StoreFailed, object, &failure.to_string()));
        failures.push(failure);
    }
    for written in [prices, coins] {
        let first = failures.len();
        let failed = |cause| Failure::Row { bucket: bucket.clone(), key: key.clone(), cause };
        failures.extend(written.failed.into_iter().map(failed));
        let failed = &failures[first..];
        if !failed.is_empty() {
            let alert = alert(AlertKind::TableFailed, object, &some(failed.iter().map(ToString::to_string)));
            alerts.send(alert.count(count(failed.len())));
        }
    }
}

fn alert(kind: AlertKind, object: &ObjectRef, what: &str) -> Alert {
    let advice = "the invocation fails, so that Lambda brings the event again; if it stays, repair what is \
                  named here and invoke the event from the dead-letter queue";
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
