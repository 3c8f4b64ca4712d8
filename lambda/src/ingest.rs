//! One object: read it portion by portion, put its good lines into both tables and its bad ones aside.
//!
//! ```text
//!                             .--> prices, window by window   \
//! object --lines--> rows -----|--> coins, at the object's end  > no one waits for, or fails, another
//!                      `rejected-> quarantine                 /
//! ```
//!
//! While a window is written the next one is read, and nothing more is in memory. The table of prices is given up
//! when it has taken 70 % of the time before the object's end is reached: the rest of it is then read for
//! the coins alone. Everything here may run again: rows, and quarantined lines, are a function of the object.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use futures::{StreamExt, stream::BoxStream};
use object_store::ObjectStore;
use tokio::time::{Instant, timeout_at};

use crate::{
    Clients,
    batch::{Coin, Newest, Window},
    cutter::{Cutter, Line},
    envelope::ObjectRef,
    object::{self, ReadError},
    quarantine::{self, QuarantineError},
    row::{self, Reason, Rejected, Rows},
    table::{Limits, Written},
};

/// How much of the time a throttled table of prices may take from the coins behind it, in percent.
const PRICES_SHARE: u32 = 70;
/// How many rejected lines are described.
const DESCRIBED: usize = 5;

/// What became of an object.
#[derive(Debug, Default)]
pub struct Report {
    /// Whether there was no object any more.
    pub gone: bool,
    /// Why it was not read, or not to its end. What had been read is stored.
    pub broken: Option<IngestError>,
    /// What became of the rows of `prices`.
    pub prices: Written,
    /// What became of the rows of `coins`.
    pub coins: Written,
    /// How many lines can't be rows.
    pub rejected: usize,
    /// The first of them, with the reason.
    pub described: Vec<String>,
    /// Why rejected lines are not in the quarantine.
    pub quarantine: Option<QuarantineError>,
    /// The oldest and the newest timestamp of its rows, as `updatedAt` has them.
    pub ages: Option<(String, String)>,
}

/// Why an object was not read.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The settings make no client for the bucket.
    #[error("make a client for the bucket")]
    Bucket(#[source] object_store::Error),
    /// The object was not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store did not answer in time, or the invocation's time was used up.
    #[error("the invocation's time was over before the object was read; raise the function's timeout")]
    OutOfTime,
}

/// Handles `object` within `limits`.
pub async fn ingest(object: &ObjectRef, limits: Limits, clients: &Clients) -> Report {
    let mut report = Report::default();
    let store = match clients.stores.of(&object.bucket) {
        Ok(store) => store,
        Err(error) => {
            report.broken = Some(IngestError::Bucket(error));
            return report;
        }
    };
    let opened = timeout_at(limits.deadline, object::open(Arc::clone(&store), object)).await;
    let pieces = match opened.map_err(|_| IngestError::OutOfTime).and_then(|opened| Ok(opened?)) {
        Ok(Some(pieces)) => pieces,
        Ok(None) => {
            report.gone = true;
            return report;
        }
        Err(error) => {
            report.broken = Some(error);
            return report;
        }
    };
    let reader = Reader {
        pieces,
        piece: Bytes::new(),
        cutter: Cutter::new(&object.key),
        ended: false,
        life: clients.row_life,
        deadline: limits.deadline,
        ages: None,
    };
    Ingestion { object, store, limits, clients, report }.run(reader).await
}

struct Ingestion<'a> {
    object: &'a ObjectRef,
    store: Arc<dyn ObjectStore>,
    limits: Limits,
    clients: &'a Clients,
    report: Report,
}

impl Ingestion<'_> {
    async fn run(mut self, mut reader: Reader) -> Report {
        let begin = Instant::now();
        let time = self.limits.deadline.saturating_duration_since(begin);
        let prices_end = begin + time * PRICES_SHARE / 100;
        let mut newest = Newest::default();
        let mut window = self.read(&mut reader, &mut newest).await;
        while !reader.ended {
            let patience = self.limits.patience.min(prices_end.saturating_duration_since(Instant::now()));
            let limits = Limits { patience, ..self.limits };
            let early = newest.take_if_full();
            // The next window is read in the meantime, but not accounted for before this one is.
            let (prices, coins, aside, next) = tokio::join!(
                self.put_prices(std::mem::take(&mut window.prices), limits),
                self.put_coins_early(early, limits),
                self.put_aside(&window.rejected),
                reader.window(&mut newest),
            );
            self.account(&window, prices, coins, aside);
            window = self.take(next);
        }
        let (prices, coins, aside) = tokio::join!(
            self.put_prices(std::mem::take(&mut window.prices), self.limits),
            self.clients.tables.put_coins(newest.take(), self.limits),
            self.put_aside(&window.rejected),
        );
        self.account(&window, prices, coins, aside);
        self.report.ages = reader.ages;
        self.report
    }

    async fn read(&mut self, reader: &mut Reader, newest: &mut Newest) -> Window {
        let window = reader.window(newest).await;
        self.take(window)
    }

    /// A window that was read, as far as it could be.
    fn take(&mut self, (window, error): (Window, Option<IngestError>)) -> Window {
        self.report.broken = self.report.broken.take().or(error);
        window
    }

    /// Puts rows into `prices`, unless it has failed before: the invocation fails anyway, and the time is the coins'.
    async fn put_prices(&self, rows: Vec<crate::attribute::Item>, limits: Limits) -> Written {
        if self.report.prices.is_given_up() {
            return Written::default();
        }
        self.clients.tables.put_prices(rows, limits).await
    }

    /// Puts coins that there is no room for, unless that has failed before: then the time is the prices'.
    async fn put_coins_early(&self, coins: Vec<Coin>, limits: Limits) -> Written {
        if coins.is_empty() || self.report.coins.is_given_up() {
            return Written::default();
        }
        self.clients.tables.put_coins(coins, limits).await
    }

    async fn put_aside(&self, rejected: &[Rejected]) -> Result<(), QuarantineError> {
        // Those before were put, unless that failed: then it is known already.
        let room = quarantine::MOST.saturating_sub(self.report.rejected).min(rejected.len());
        let put = quarantine::put(&*self.store, &self.object.key, &rejected[..room]);
        match timeout_at(self.limits.deadline, put).await {
            Err(_) => Err(QuarantineError::OutOfTime),
            Ok(Ok(())) if room < rejected.len() => {
                Err(QuarantineError::TooMany(self.report.rejected + rejected.len()))
            }
            Ok(put) => put,
        }
    }

    fn account(
        &mut self,
        window: &Window,
        prices: Written,
        coins: Written,
        aside: Result<(), QuarantineError>,
    ) {
        let report = &mut self.report;
        report.prices.add(prices);
        report.coins.add(coins);
        let room = DESCRIBED.saturating_sub(report.described.len());
        let described = window.rejected.iter().take(room);
        report.described.extend(described.map(|line| format!("line {}: {}", line.line, line.reason)));
        report.rejected += window.rejected.len();
        match (aside, &mut report.quarantine) {
            (Err(QuarantineError::TooMany(_)), Some(QuarantineError::TooMany(lines))) => {
                *lines = report.rejected
            }
            (Err(error), kept @ None) => *kept = Some(error),
            _ => {}
        }
    }
}

/// An object on its way to being rows.
struct Reader {
    pieces: BoxStream<'static, Result<Bytes, ReadError>>,
    piece: Bytes,
    cutter: Cutter,
    /// Whether there is nothing more to read, or nothing more can be read.
    ended: bool,
    life: Option<Duration>,
    deadline: Instant,
    /// The oldest and the newest `updatedAt` so far.
    ages: Option<(String, String)>,
}

impl Reader {
    /// The next window: the lines up to the end, or as many as it takes. With it, why the end was not reached.
    async fn window(&mut self, newest: &mut Newest) -> (Window, Option<IngestError>) {
        let mut window = Window::default();
        loop {
            let mut rest = &self.piece[..];
            while !window.is_full()
                && let Some(line) = self.cutter.next(&mut rest)
            {
                add(&mut window, line, self.life, newest, &mut self.ages);
            }
            let used = self.piece.len() - rest.len();
            self.piece.advance(used);
            if window.is_full() {
                return (window, None);
            }
            let error = match timeout_at(self.deadline, self.pieces.next()).await {
                Ok(Some(Ok(piece))) => {
                    self.piece = piece;
                    continue;
                }
                Ok(None) => {
                    if let Some(line) = self.cutter.end() {
                        add(&mut window, line, self.life, newest, &mut self.ages);
                    }
                    None
                }
                Ok(Some(Err(error))) => Some(error.into()),
                Err(_) => Some(IngestError::OutOfTime),
            };
            self.ended = true;
            return (window, error);
        }
    }
}

fn add(
    window: &mut Window,
    line: Line<'_>,
    life: Option<Duration>,
    newest: &mut Newest,
    ages: &mut Option<(String, String)>,
) {
    let rows = rows(line, life);
    if let Ok(Rows { updated_at, .. }) = &rows {
        match ages {
            Some((oldest, _)) if updated_at < oldest => oldest.clone_from(updated_at),
            Some((_, latest)) if updated_at > latest => latest.clone_from(updated_at),
            Some(_) => {}
            None => *ages = Some((updated_at.clone(), updated_at.clone())),
        }
    }
    window.add(rows, line.raw.len(), newest);
}

fn rows(line: Line<'_>, life: Option<Duration>) -> Result<Rows, Rejected> {
    let rows = if line.is_cut_off() { Err(Reason::TooLong(line.bytes)) } else { row::read(line.raw) };
    match (rows, life) {
        (Ok(rows), Some(life)) => Ok(rows.expiring_after(life)),
        (Ok(rows), None) => Ok(rows),
        (Err(reason), _) => Err(Rejected { line: line.number, reason, raw: line.raw.to_owned() }),
    }
}
