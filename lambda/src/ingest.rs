//! One object: read it, put its good lines into both tables and its bad ones aside.
//!
//! ```text
//!                            .--> prices     \
//! object --lines--> rows ----|--> coins       > at the same time; no one waits for, or fails, another
//!                     `rejected-> quarantine /
//! ```
//!
//! Everything here may run again: rows, and quarantined lines, are a function of the object.

use std::sync::Arc;

use object_store::ObjectStore;
use tokio::time::{Instant, timeout_at};

use crate::{
    Clients,
    batch::Batch,
    envelope::ObjectRef,
    object::{self, ReadError},
    quarantine::{self, QuarantineError},
    row::{self, Rejected},
    table::Written,
};

/// What became of an object.
#[derive(Debug, Default)]
pub struct Report {
    /// Whether there was no object any more.
    pub gone: bool,
    /// What became of the rows of `prices`.
    pub prices: Written,
    /// What became of the rows of `coins`.
    pub coins: Written,
    /// Lines that can't be rows.
    pub rejected: Vec<Rejected>,
    /// Why rejected lines are not in the quarantine.
    pub quarantine: Option<QuarantineError>,
}

/// Why an object was not even read.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The settings make no client for the bucket.
    #[error("make a client for the bucket")]
    Bucket(#[source] object_store::Error),
    /// The object was not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store did not answer in time, or the invocation's time was used up by other objects.
    #[error("the invocation's time was over before the object was read; raise the function's timeout")]
    OutOfTime,
}

/// Handles `object` until `deadline`.
///
/// # Errors
/// When it was not read. What happened after that stands in the report, good and bad.
pub async fn ingest(object: &ObjectRef, deadline: Instant, clients: &Clients) -> Result<Report, IngestError> {
    let store = clients.stores.of(&object.bucket).map_err(IngestError::Bucket)?;
    let read = timeout_at(deadline, object::read(&*store, &object.key)).await;
    let Some(content) = read.map_err(|_| IngestError::OutOfTime)?? else {
        return Ok(Report { gone: true, ..Report::default() });
    };

    let mut rejected = Vec::new();
    let rows = object::lines(&object.key, &content).filter_map(|(line, raw)| {
        let kept = |reason| rejected.push(Rejected { line, reason, raw: raw.to_owned() });
        row::read(raw).map_err(kept).ok()
    });
    let Batch { prices, coins } = Batch::of(rows);
    let (prices, coins, quarantine) = tokio::join!(
        clients.tables.put_prices(prices, deadline),
        clients.tables.put_coins(coins, deadline),
        put_aside(store, object, &rejected, deadline),
    );
    Ok(Report { gone: false, prices, coins, rejected, quarantine: quarantine.err() })
}

async fn put_aside(
    store: Arc<dyn ObjectStore>,
    object: &ObjectRef,
    rejected: &[Rejected],
    deadline: Instant,
) -> Result<(), QuarantineError> {
    let put = timeout_at(deadline, quarantine::put(&*store, &object.key, rejected)).await;
    put.unwrap_or(Err(QuarantineError::OutOfTime))
}
