//! Brings one partition's work to the store, trying again for ever.
//!
//! One piece of work is one future that ends with what is true ([`Settled`]): stored, superseded, quarantined. In
//! between it waits with [`Patience`], which tells people.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use coinduit_common::{
    alert::{Alert, AlertKind, Alerts},
    clock::{Clock, millis},
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::progress::{Settled, Work};
use crate::{
    batch::Sealed,
    error::Fatal,
    group::lease::Lease,
    health::Stage,
    identity::{Confirm, IdentityError},
    layout::Layout,
    ledger::{
        chain::{Chain, ChainError},
        decide::Standing,
        misreading::Misreading,
        resume::{Committed, RefusedCommit, Reset, Resume, resume},
    },
    patience::{Patience, Setback},
    quarantine::Quarantined,
    reader::{Bounds, PartitionReader},
    record_layout::{RecordObject, put::PutError},
    tiny::TinyObjects,
    vitals::PartitionVitals,
};

/// Where the tail was known longer ago than this, a put starts again at reading it: whatever others have put under
/// its name meanwhile may be gone again by age, and then nothing would refuse it.
const STALE: Duration = Duration::from_secs(5 * 60);

/// What one partition's work needs.
pub(super) struct Store {
    /// `topic/partition`, for people.
    pub(super) place: String,
    pub(super) chain: Chain,
    pub(super) identity: Arc<dyn Confirm>,
    pub(super) lease: Arc<Lease>,
    pub(super) clock: Clock,
    pub(super) alerts: Alerts,
    pub(super) tiny: Arc<Mutex<TinyObjects>>,
    pub(super) vitals: PartitionVitals,
    /// When nothing had been put yet under the name that is next, for sure (since boot).
    pub(super) tail_known_at: Mutex<Duration>,
}

/// What is known of a partition before anybody has looked.
pub(super) struct Known {
    pub(super) committed: Committed,
    pub(super) reset: Reset,
    pub(super) appeared_later: bool,
}

/// Where a partition stands.
pub(super) struct Located {
    /// Where it goes on.
    pub(super) resume: Resume,
    /// Its log.
    pub(super) bounds: Bounds,
}

/// Does the work, however long it takes.
///
/// # Errors
/// [`Fatal`]: the topic is another one.
///
/// # Cancel safety
/// Dropping the future leaves at most one whole object.
pub(super) async fn perform(store: Arc<Store>, work: Work) -> Result<Settled, Fatal> {
    match work {
        Work::Quarantine { records, fetched_at } => store.quarantine(&records, fetched_at).await,
        Work::Put(sealed) if store.chain.layout() == Layout::Record => store.put_each(&sealed).await,
        Work::Put(sealed) => store.put(&sealed).await,
    }
}

impl Store {
    /// Finds the tail in the bucket and the log's bounds, and decides where to go on.
    pub(super) async fn locate(&self, reader: &mut dyn PartitionReader, known: Known) -> Located {
        let mut patience = self.patience(Stage::Locate);
        loop {
            self.tail_is_known_at(self.clock.since_boot());
            let tail = match self.chain.tail(known.committed.list_from().unwrap_or(0)).await {
                Ok(tail) => tail,
                Err(error) => {
                    patience.failed(setback(&error), &error).await;
                    continue;
                }
            };
            let bounds = match reader.bounds().await {
                Ok(bounds) => bounds,
                Err(error) => {
                    let advice = "check that the brokers run and can be reached; it is tried again for ever";
                    let setback = Setback { permanent: false, kind: AlertKind::KafkaFailed, advice };
                    patience.failed(setback, &error).await;
                    continue;
                }
            };
            match resume(known.committed.clone(), tail, bounds, known.reset, known.appeared_later) {
                Ok(resume) => {
                    patience.over();
                    self.warn_of_a_refused_commit(resume.refused);
                    return Located { resume, bounds };
                }
                Err(error) => {
                    let advice = "set AUTO_OFFSET_RESET to earliest or latest, or commit an offset for the group, and start the consumer again";
                    let setback = Setback { permanent: true, kind: AlertKind::LedgerBroken, advice };
                    patience.failed(setback, &error).await;
                }
            }
        }
    }

    fn warn_of_a_refused_commit(&self, refused: Option<RefusedCommit>) {
        match refused {
            None => {}
            Some(RefusedCommit::BehindTheTail { offset, tail }) => warn!(
                place = self.place,
                offset,
                tail,
                "somebody committed an offset behind what is stored; it is not obeyed: to read again, choose another S3_PREFIX and another group"
            ),
            Some(RefusedCommit::BeyondTheEnd { offset, end }) => warn!(
                place = self.place,
                offset,
                log_end = end,
                "somebody committed an offset beyond the log's end; it is not obeyed"
            ),
        }
    }

    async fn quarantine(&self, records: &[Quarantined], fetched_at: Duration) -> Result<Settled, Fatal> {
        self.confirm_topic(fetched_at).await?;
        let mut patience = self.patience(Stage::Quarantine);
        while let Err(error) = Box::pin(self.chain.quarantine(records)).await {
            patience.failed(setback(&error), &error).await;
        }
        patience.over();
        for record in records {
            self.vitals.metrics().quarantined(record.reason.reason());
        }
        let alarming: Vec<&Quarantined> = records.iter().filter(|record| record.is_alarming()).collect();
        info!(place = self.place, records = records.len(), alarming = alarming.len(), "records quarantined");
        if let Some(first) = alarming.first() {
            let count = u64::try_from(alarming.len()).unwrap_or(u64::MAX);
            let what = format!(
                "{count} records can't be lines; the first is at offset {}: {}",
                first.offset, first.reason
            );
            let advice = format!(
                "look at s3 object {} and at the program that published it; the other records are stored",
                first.object.key
            );
            let alert = Alert::new(AlertKind::RecordQuarantined, &self.place, what, advice).count(count);
            self.alerts.send(
                alert
                    .detail("offset", first.offset)
                    .detail("reason", first.reason.reason())
                    .detail("key", first.object.key.as_str()),
            );
        }
        Ok(Settled::Quarantined)
    }

    /// One batch, until it is known what stands under its name.
    async fn put(&self, sealed: &Sealed) -> Result<Settled, Fatal> {
        let mut patience = self.patience(Stage::Put);
        let begun = Instant::now();
        let mut timing = None;
        let mut first_attempt: Option<Duration> = None;
        loop {
            self.confirm_topic(sealed.fetched_at).await?;
            let turn = self.chain.puts().turn().await;
            // Last of all: what comes before may have taken long, or the process may have stood still.
            self.lease.held().await;
            let now = self.clock.since_boot();
            let stale =
                now.saturating_sub(self.tail_known_at()) > STALE && !Misreading::StalePutGoesOn.is_made();
            // What speaks to the store is large, and made only when its turn has come: a thousand may wait for theirs.
            let attempt = if stale {
                Box::pin(self.start_again(sealed)).await
            } else {
                first_attempt.get_or_insert(now);
                timing.get_or_insert_with(|| self.vitals.metrics().begin(Stage::Put));
                Box::pin(self.chain.put(sealed)).await
            };
            drop(turn);
            match attempt {
                Ok(standing) => {
                    match first_attempt {
                        _ if stale => self.tail_is_known_at(now),
                        // What is ours was not there before we began, and nothing stood behind it.
                        Some(begun) if standing == Standing::Ours => self.tail_is_known_at(begun),
                        // How old a winner is nobody says; but it is younger than what was known before.
                        _ => {}
                    }
                    match Settled::of(&standing) {
                        Some(settled) => {
                            patience.over();
                            if let Some(timing) = timing.take() {
                                timing.done();
                            }
                            self.log(sealed, settled, begun.elapsed());
                            return Ok(settled);
                        }
                        // A stale attempt that may begin anew, or a conflict that nobody won.
                        None if stale => {}
                        None => patience.again().await,
                    }
                }
                Err(error) => patience.failed(setback(&error), &error).await,
            }
        }
    }

    /// Every record of a batch as an object of its own, until all are stored.
    async fn put_each(&self, sealed: &Sealed) -> Result<Settled, Fatal> {
        let mut patience = self.patience(Stage::Put);
        let begun = Instant::now();
        let Sealed { metadata, line_bytes, .. } = sealed;
        let mut left: Vec<&RecordObject> = sealed.each.iter().collect();
        let mut timing = None;
        loop {
            self.confirm_topic(sealed.fetched_at).await?;
            self.lease.held().await;
            timing.get_or_insert_with(|| self.vitals.metrics().begin(Stage::Put));
            let (rest, error) = Box::pin(self.chain.put_each(left)).await;
            left = rest;
            let Some(error) = error else {
                patience.over();
                if let Some(timing) = timing.take() {
                    timing.done();
                }
                self.vitals.metrics().stored(metadata, metadata.records, *line_bytes);
                debug!(
                    place = self.place,
                    to = metadata.to_offset,
                    records = metadata.records,
                    bytes = line_bytes,
                    elapsed_ms = millis(begun.elapsed()),
                    "records stored, one object each"
                );
                return Ok(Settled::Stored);
            };
            patience.failed(setback(&error), &error).await;
        }
    }

    /// Reads the tail for a batch whose tail was known long ago: the chain's end decides, and not what stands under the
    /// batch's name, behind which others may have gone on and be half gone again.
    async fn start_again(&self, sealed: &Sealed) -> Result<Standing, ChainError> {
        let (from, to) = (sealed.metadata.from_offset, sealed.metadata.to_offset);
        match self.chain.tail(from).await? {
            None => Ok(Standing::Absent),
            Some(tail) if tail == from => Ok(Standing::Absent),
            Some(tail) if tail == to && self.chain.standing(sealed).await? == Standing::Ours => {
                Ok(Standing::Ours)
            }
            Some(tail) => Ok(Standing::Superseded { tail }),
        }
    }

    fn tail_known_at(&self) -> Duration {
        *self.tail_known_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail_is_known_at(&self, at: Duration) {
        *self.tail_known_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Waits until the topic was shown to be the same later than `after`.
    async fn confirm_topic(&self, after: Duration) -> Result<(), Fatal> {
        if Misreading::TopicNotConfirmed.is_made() {
            return Ok(());
        }
        let mut patience = self.patience(Stage::Confirm);
        loop {
            match self.identity.confirm(after).await {
                Ok(()) => {
                    patience.over();
                    return Ok(());
                }
                Err(error @ IdentityError::Recreated { .. }) => return Err(Fatal::TopicRecreated(error)),
                Err(error) => {
                    let missing = matches!(error, IdentityError::Missing { .. });
                    let kind = if missing { AlertKind::TopicChanged } else { AlertKind::KafkaFailed };
                    let advice = "nothing is stored before the cluster shows that the topic is still the same; check that the brokers run and that nobody deleted the topic";
                    patience.failed(Setback { permanent: missing, kind, advice }, &error).await;
                }
            }
        }
    }

    pub(super) fn patience(&self, stage: Stage) -> Patience {
        Patience::new(&self.alerts, &self.clock, &self.place, self.vitals.slot(stage))
    }

    fn log(&self, sealed: &Sealed, settled: Settled, took: Duration) {
        let metadata = &sealed.metadata;
        let key = self.chain.key(metadata.from_offset);
        match settled {
            Settled::Superseded { tail } => {
                self.vitals.metrics().lost_race();
                warn!(key, tail, "another writer's object stands there; going on at its end")
            }
            _ => {
                let (lines, bytes) = (sealed.line_bytes, sealed.body.len());
                self.vitals.metrics().stored(metadata, 1, bytes);
                info!(
                    key,
                    from = metadata.from_offset,
                    to = metadata.to_offset,
                    records = metadata.records,
                    bytes = lines,
                    stored_bytes = bytes,
                    closed = metadata.closed.name(),
                    elapsed_ms = millis(took),
                    "object stored"
                );
                let mut tiny = self.tiny.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(warning) = tiny.stored(lines, metadata.closed, self.clock.since_boot()) {
                    warn!("{warning}");
                }
            }
        }
    }
}

/// What a failure of the chain means for people.
const fn setback(error: &ChainError) -> Setback {
    let permanent = error.is_permanent();
    let (kind, advice) = match error {
        ChainError::Store(_) | ChainError::Record(PutError::Store(_)) if permanent => (
            AlertKind::StoreFailed,
            "check the bucket's name, the credentials and their permissions (list, get, put); it is tried again every minute, and nothing is lost",
        ),
        ChainError::Store(_) | ChainError::Record(PutError::Store(_)) => (
            AlertKind::StoreFailed,
            "check that the store runs and can be reached; it is tried again for ever, and nothing is lost",
        ),
        ChainError::NotALink(_) => (
            AlertKind::LedgerBroken,
            "somebody wrote or changed an object in this folder; remove it if it is not the consumer's, else choose another S3_PREFIX",
        ),
        ChainError::Record(PutError::Taken { .. }) => (
            AlertKind::LedgerBroken,
            "another topic's objects are below the same prefix, or somebody changed objects; choose another S3_PREFIX and another group, or move what stands there",
        ),
    };
    Setback { permanent, kind, advice }
}
