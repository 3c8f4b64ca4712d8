//! Reads one partition's log, and holds it against the objects: one body at a time is in memory.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use coinduit_common::{
    report::Chain as Causes,
    retry::{Attempt, retry},
};
use tokio::{
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{
    cluster::AGAIN,
    compare::{Against, Part, Place, Stretch, stretches},
    examine::Link,
    finding::{Finding, Kind},
    report::PartitionReport,
};
use crate::{
    budget::{Budget, Share},
    compression::Compression,
    ledger::{
        bucket::{Bucket, StoreError},
        metadata::Skip,
    },
    reader::{Ask, Fetched, PartitionReader, ReadError, Record},
};

/// For so long one question to the log is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// No object's lines have more bytes than this: the largest MAX_OBJECT_BYTES, or one record that is larger.
const LARGEST: usize = 2 << 30;
/// After so many empty answers in a row nothing more is expected.
const EMPTY_HANDED: u32 = 20;

/// The memory for what is read ahead, and how much one fetch asks for.
const MEMORY: usize = 64 << 20;
const FETCH_BYTES: usize = 1 << 20;

/// One side of the comparison.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain<'a> {
    pub(super) place: Place<'a>,
    /// By name.
    pub(super) links: &'a [Link],
    pub(super) quarantine: &'a BTreeSet<i64>,
    /// What the group's commit skips.
    pub(super) skips: &'a [Skip],
    /// Up to where the log is looked at.
    pub(super) handled: i64,
}

/// Compares what the log still has below the handled offset; what is found goes into `report`.
///
/// # Errors
/// [`StoreError`]; where the log can't be read that is a note, and what was compared stands in the report.
pub(super) async fn hold(
    bucket: &dyn Bucket,
    reader: Box<dyn PartitionReader>,
    chain: Chain<'_>,
    report: &mut PartitionReport,
    tell: impl Fn(i64),
) -> Result<(), StoreError> {
    let mut log = Log {
        reader: Mutex::new(reader),
        share: Budget::new(MEMORY).share(),
        pending: VecDeque::new(),
        next: 0,
    };
    let bounds = match log.bounds().await {
        Ok(bounds) => bounds,
        Err(error) => {
            report.notes.push(format!("its log was not compared: {}", Causes(&error)));
            return Ok(());
        }
    };
    if bounds.end < chain.handled {
        let (end, handled) = (bounds.end, chain.handled);
        let beyond: Vec<&str> =
            chain.links.iter().filter(|link| link.to > end).map(|link| link.key.as_str()).collect();
        let problem = format!("the log ends at {end}, though everything below {handled} was handled");
        report.findings.push(Finding::new(Kind::LogEnd, &beyond, problem).at(end, handled));
    }
    if let Some(first) = chain.links.first().map(|link| link.from).filter(|first| *first < bounds.start) {
        let to = bounds.start.min(chain.handled);
        report.notes.push(format!(
            "offsets {first} to {} can't be compared: the log begins at {}",
            to - 1,
            bounds.start
        ));
    }
    let end = chain.handled.min(bounds.end);
    for stretch in stretches(chain.links, bounds.start, end) {
        let Some(body) = body(bucket, stretch, report).await? else { continue };
        report.bytes = report.bytes.saturating_add(u64::try_from(body.len()).unwrap_or(u64::MAX));
        let mut part = Part::new(chain.place, stretch, chain.quarantine, chain.skips, body);
        log.seek(stretch.from);
        loop {
            match log.next_below(stretch.to).await {
                Ok(Some(record)) => part.take(&record),
                Ok(None) => break,
                Err(error) => {
                    report.notes.push(format!(
                        "offsets {} to {} were not compared: {}",
                        stretch.from,
                        end - 1,
                        Causes(&error)
                    ));
                    return Ok(());
                }
            }
        }
        let outcome = part.finish();
        report.findings.extend(outcome.findings);
        report.notes.extend(outcome.notes);
        report.compared = Some((bounds.start, stretch.to));
        tell(stretch.to);
    }
    Ok(())
}

/// What the stretch is held against; `None` where that can't be.
async fn body(
    bucket: &dyn Bucket,
    stretch: Stretch<'_>,
    report: &mut PartitionReport,
) -> Result<Option<Bytes>, StoreError> {
    let Against::Object(link) = stretch.against else { return Ok(Some(Bytes::new())) };
    let key = link.key.as_str();
    let problem = match (bucket.get(key).await?, Compression::of_key(key)) {
        (None, _) => format!("{key} was listed, and is gone"),
        (Some(_), None) => format!("{key} has the name of no compression"),
        (Some(content), Some(compression)) => match compression.unpack(content, LARGEST) {
            Ok(lines) => return Ok(Some(lines)),
            Err(error) => format!("{key} can't be read as {}: {error}", compression.name()),
        },
    };
    report.findings.push(Finding::new(Kind::Gone, &[key], problem).at(link.from, link.to));
    Ok(None)
}

/// The log, record by record.
struct Log {
    reader: Mutex<Box<dyn PartitionReader>>,
    share: Share,
    pending: VecDeque<Record>,
    /// Where the next fetch begins.
    next: i64,
}

/// The log goes on, and nothing comes.
#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("offset {0} brings no record although the log goes on")]
    Stalled(i64),
}

impl Log {
    async fn bounds(&self) -> Result<crate::reader::Bounds, ReadError> {
        retry(AGAIN, "ask for the log's bounds", Some(Instant::now() + PATIENCE), |_| async {
            attempt(self.reader.lock().await.bounds().await)
        })
        .await
    }

    async fn fetch(&self) -> Result<Fetched, ReadError> {
        retry(AGAIN, "read the log", Some(Instant::now() + PATIENCE), |_| async {
            let ask = Ask { offset: self.next, max_bytes: FETCH_BYTES, is_behind: true };
            let room = self.share.reserve(FETCH_BYTES).await;
            attempt(self.reader.lock().await.fetch(ask, &room).await)
        })
        .await
    }

    /// Goes on at `offset`, which is not before what was read.
    fn seek(&mut self, offset: i64) {
        while self.pending.front().is_some_and(|record| record.offset < offset) {
            self.pending.pop_front();
        }
        self.next = self.next.max(offset);
    }

    /// The next record before `to`; `None` where there is none any more.
    async fn next_below(&mut self, to: i64) -> Result<Option<Record>, LogError> {
        for _ in 0..EMPTY_HANDED {
            if let Some(record) = self.pending.front() {
                return Ok(if record.offset < to { self.pending.pop_front() } else { None });
            }
            // A fetch that brings no record may still go on.
            while self.next < to {
                let fetched = self.fetch().await?;
                let on = fetched.next > self.next;
                self.next = self.next.max(fetched.next);
                self.pending = fetched.records.into();
                if !self.pending.is_empty() || !on {
                    break;
                }
            }
            if self.pending.is_empty() && self.next >= to {
                return Ok(None);
            }
        }
        Err(LogError::Stalled(self.next))
    }
}

fn attempt<T>(answer: Result<T, ReadError>) -> Attempt<T, ReadError> {
    match answer {
        Ok(value) => Attempt::Done(value),
        Err(error @ ReadError::Unavailable { .. }) => Attempt::Again { error, after: None },
        Err(
            error @ (ReadError::OutOfRange { .. }
            | ReadError::Truncated { .. }
            | ReadError::Undecodable { .. }),
        ) => Attempt::Final(error),
    }
}
