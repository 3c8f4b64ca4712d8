//! One partition's task, from its assignment to its end: fetches, does the work that [`progress`] asks for, and tries
//! again for ever.
//!
//! ```text
//!            +--fetch--> reader --+
//! Progress --+                    +--> Progress   (both at the same time, each at most once)
//!            +--work---> chain ---+
//!            \--commit point--> board
//! ```

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use coinduit_common::{
    alert::{Alert, AlertKind, Alerts},
    clock::Clock,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info, warn};

use crate::{
    budget::{Reservation, Share},
    error::Fatal,
    group::{board::Place, lease::Lease},
    health::{Offsets, Stage},
    identity::{Confirm, IdentityError},
    ledger::{
        chain::Chain,
        metadata::Closed,
        misreading::Misreading,
        resume::{Committed, Reset},
    },
    partition::{
        progress::{Progress, Setting, Settled},
        store::{Known, Located, Store, perform},
    },
    patience::{Patience, Setback},
    pending::{Pending, done},
    reader::{Ask, Bounds, Fetched, PartitionReader, ReadError, Record},
    tiny::TinyObjects,
    vitals::PartitionVitals,
};

pub mod progress;
mod store;
#[cfg(test)]
mod tests;

/// How much is asked of a log that is known to go on. More does not make reading cheaper.
const BEHIND_BYTES: usize = 256 << 10;
/// How much is asked of a log that ends where reading goes on, so far as is known.
const AT_END_BYTES: usize = 16 << 10;
/// After so many empty fetches below the high watermark people are told.
const EMPTY_HANDED: u32 = 20;
/// For so long a partition that is given up waits for its last commit.
const LAST_COMMIT: Duration = Duration::from_secs(5);
/// For so long a log may end before its own tail: a new leader's high watermark lags for a moment.
const LAGGING_LEADER: Duration = Duration::from_secs(30);

/// What a partition's task works with.
pub struct PartitionTask {
    /// What does not change.
    pub setting: Setting,
    /// Where records come from.
    pub reader: Box<dyn PartitionReader>,
    /// Where objects go.
    pub chain: Chain,
    /// Whether the topic is still the same.
    pub identity: Arc<dyn Confirm>,
    /// What time it is.
    pub clock: Clock,
    /// Whom to tell.
    pub alerts: Alerts,
    /// Who shows how it stands.
    pub vitals: PartitionVitals,
    /// The memory it may use.
    pub share: Share,
    /// What the group knows of it.
    pub committed: Committed,
    /// Where to begin when nobody knows.
    pub reset: Reset,
    /// The partition is younger than the ledger: all of it is wanted.
    pub appeared_later: bool,
    /// Where it says what the group shall know.
    pub place: Place,
    /// The membership that puts need.
    pub lease: Arc<Lease>,
    /// Watches how large objects are, of all partitions.
    pub tiny: Arc<Mutex<TinyObjects>>,
    /// Says why to stop, when it is time to: store what is held, and end.
    pub stop: watch::Receiver<Option<Closed>>,
    /// End at the log's end as it is now.
    pub exit_at_end: bool,
}

impl std::fmt::Debug for PartitionTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionTask").field("setting", &self.setting).finish_non_exhaustive()
    }
}

impl PartitionTask {
    /// Reads and stores until it is told to stop, or the end is reached. All that is handled then is committed.
    ///
    /// # Errors
    /// [`Fatal`] where no attempt can help and the process has to end.
    pub async fn run(self) -> Result<(), Fatal> {
        let Self { setting, mut reader, chain, identity, clock, alerts, vitals, share, .. } = self;
        let Self { committed, reset, appeared_later, place, lease, tiny, mut stop, exit_at_end, .. } = self;
        let topic_partition = format!("{}/{}", setting.topic, setting.partition);
        let tail_known_at = Mutex::default();
        let store = Store {
            place: topic_partition,
            chain,
            identity,
            lease,
            alerts,
            vitals,
            clock,
            tiny,
            tail_known_at,
        };
        let is_first = !matches!(committed, Committed::Ours { .. });
        let known = Known { committed, reset, appeared_later };
        let located = tokio::select! {
            biased;
            _ = stopped(&mut stop) => return Ok(()),
            // Once, and not part of what each partition holds for good.
            located = Box::pin(store.locate(&mut *reader, known)) => located,
        };
        let Located { resume, bounds } = located;
        if let Some(epoch) = resume.leader_epoch {
            reader.goes_on(resume.position, epoch);
        }
        info!(
            partition = setting.partition,
            tail = resume.tail,
            position = resume.position,
            log_end = bounds.end,
            "reading"
        );
        let now = store.clock.since_boot();
        let progress = Progress::new(setting, resume, exit_at_end.then_some(bounds.end), now);
        if is_first && !Misreading::FirstAnswerNotCommitted.is_made() {
            // Where reading starts is asked once: before anything is fetched, the group knows the answer.
            if let Some(point) = progress.commit_point() {
                place.want(point);
            }
            let known = tokio::select! {
                biased;
                _ = stopped(&mut stop) => return Ok(()),
                known = place.acknowledged() => known,
            };
            if !known {
                // It is about to be given up: whoever has it next asks again.
                stopped(&mut stop).await;
                return Ok(());
            }
        }
        let patience = store.patience(Stage::Fetch);
        let reading = Reading {
            progress,
            log_end: bounds.end,
            store: Arc::new(store),
            share,
            place,
            stop,
            beyond_since: None,
            patience,
            resume_at: None,
            empty_handed: 0,
            last_answer: 0,
            reader_bytes: 0,
        };
        reading.run(reader).await
    }
}

/// The log is shorter than what was read of it.
#[derive(Debug, thiserror::Error)]
#[error("the log ends at {end}, but everything below {position} was read already")]
struct EndsBefore {
    end: i64,
    position: i64,
}

async fn stopped(stop: &mut watch::Receiver<Option<Closed>>) -> Closed {
    let why = stop.wait_for(Option::is_some).await.ok().and_then(|why| *why);
    // A sender that is gone means that the process ends.
    why.unwrap_or(Closed::Shutdown)
}

/// What one question to the log brought.
enum Answer {
    Fetched(Fetched),
    /// The offset is outside of the log, which has these bounds.
    Outside(Bounds),
    /// It is the log of another topic.
    Another(IdentityError),
}

struct Asked {
    reader: Box<dyn PartitionReader>,
    from: i64,
    answer: Result<Answer, ReadError>,
    /// The answer's memory, until the partition holds it.
    room: Reservation,
}

async fn ask(
    mut reader: Box<dyn PartitionReader>,
    ask: Ask,
    room: impl Future<Output = Reservation>,
    store: Arc<Store>,
) -> Asked {
    let room = room.await;
    let timing = store.vitals.metrics().begin(Stage::Fetch);
    let fetched = reader.fetch(ask, &room).await;
    timing.done();
    let answer = match fetched {
        Ok(fetched) => Ok(Answer::Fetched(fetched)),
        // A topic that was created again begins at 0: what we have may lie behind its end.
        Err(ReadError::OutOfRange { .. }) => match store.identity.confirm(store.clock.since_boot()).await {
            Err(error @ IdentityError::Recreated { .. }) => Ok(Answer::Another(error)),
            _ => reader.bounds().await.map(Answer::Outside),
        },
        Err(error) => Err(error),
    };
    Asked { reader, from: ask.offset, answer, room }
}

/// The loop's state.
struct Reading {
    progress: Progress,
    /// The log's end, as it was seen last.
    log_end: i64,
    store: Arc<Store>,
    share: Share,
    place: Place,
    stop: watch::Receiver<Option<Closed>>,
    /// Since when the log has ended before the position.
    beyond_since: Option<Duration>,
    /// With the reader.
    patience: Patience,
    /// Don't ask the log before this.
    resume_at: Option<Instant>,
    /// So many fetches in a row brought nothing although there should be something.
    empty_handed: u32,
    /// How many bytes the last answer had.
    last_answer: usize,
    /// How many bytes the reader keeps for the next question.
    reader_bytes: usize,
}

impl Reading {
    async fn run(mut self, reader: Box<dyn PartitionReader>) -> Result<(), Fatal> {
        let mut idle = Some(reader);
        let mut asked: Pending<Asked> = None;
        let mut work: Pending<Result<Settled, Fatal>> = None;
        loop {
            self.share.set(self.progress.held_bytes() + self.reader_bytes);
            let now = self.store.clock.since_boot();
            if work.is_none()
                && let Some(todo) = self.progress.next_work(now, self.share.is_pressed())
            {
                work = Some(Box::pin(perform(Arc::clone(&self.store), todo)));
            }
            if let Some(point) = self.progress.commit_point() {
                self.store.vitals.stands(Offsets {
                    tail: point.tail,
                    handled: point.handled,
                    end: self.log_end,
                    oldest_ms: self.progress.oldest_timestamp_ms(),
                });
                self.place.want(point);
            }
            if self.progress.is_done() {
                self.last_commit().await;
                return Ok(());
            }
            // What the reader has waits for no room, but for the object that is under way, when room is scarce.
            let waits = self.reader_bytes > 0 && work.is_some() && self.share.is_full();
            if !waits
                && self.resume_at.is_none_or(|at| at <= Instant::now())
                && let Some(from) = self.progress.fetch_from()
                && let Some(reader) = idle.take()
            {
                self.patience.begins();
                let question = self.question(from);
                let store = Arc::clone(&self.store);
                asked = Some(match std::mem::take(&mut self.reader_bytes) {
                    0 => {
                        let bytes = reader.memory_for(question.max_bytes.max(self.last_answer));
                        Box::pin(ask(reader, question, self.share.reserve(bytes), store))
                    }
                    bytes => Box::pin(ask(reader, question, ready(self.share.go_on(bytes)), store)),
                });
            }
            let wake_at = self.wake_at(now, idle.is_some());
            let closing = self.progress.is_closing();
            tokio::select! {
                biased;
                why = stopped(&mut self.stop), if !closing => {
                    self.progress.close(why);
                    // What is asked for and not answered yet will be read by whoever comes next.
                    asked = None;
                }
                settled = done(&mut work) => {
                    work = None;
                    self.progress.settled(settled?, self.store.clock.since_boot());
                }
                Asked { reader, from, answer, room } = done(&mut asked) => {
                    asked = None;
                    self.reader_bytes = reader.held_bytes();
                    idle = Some(reader);
                    self.answered(from, answer)?;
                    self.share.set(self.progress.held_bytes() + self.reader_bytes);
                    drop(room);
                }
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
                () = self.share.changed() => {}
            }
        }
    }

    /// Waits until the group knows what was handled; not for long where somebody waits for this partition, because
    /// everything is stored, and the bucket is the truth.
    async fn last_commit(mut self) {
        let partition = self.progress.partition();
        let patience = async {
            stopped(&mut self.stop).await;
            sleep(LAST_COMMIT).await;
        };
        tokio::select! {
            biased;
            _ = self.place.acknowledged() => {}
            () = patience => warn!(partition, "everything is stored, but the group did not take the last commit"),
        }
    }

    /// When something is due though nothing happens: an object's age, or another question to the log.
    fn wake_at(&self, now: Duration, idle: bool) -> Option<Instant> {
        let due = self.progress.due_at().map(|due| Instant::now() + due.saturating_sub(now));
        let resume = self.resume_at.filter(|at| idle && *at > Instant::now());
        due.into_iter().chain(resume).min()
    }

    /// Little is asked for where nothing is known to be there: with a thousand quiet partitions that adds up.
    fn question(&self, offset: i64) -> Ask {
        let is_behind = offset < self.log_end && self.empty_handed == 0;
        Ask { offset, max_bytes: if is_behind { BEHIND_BYTES } else { AT_END_BYTES }, is_behind }
    }

    fn answered(&mut self, from: i64, answer: Result<Answer, ReadError>) -> Result<(), Fatal> {
        let now = self.store.clock.since_boot();
        match answer {
            Ok(Answer::Fetched(fetched)) => {
                self.beyond_since = None;
                self.fetched(from, fetched, now);
            }
            Ok(Answer::Another(error)) => return Err(Fatal::TopicRecreated(error)),
            Ok(Answer::Outside(bounds)) if bounds.start > from => self.lost(bounds, now),
            Ok(Answer::Outside(bounds)) => self.beyond(from, bounds, now),
            Err(error @ ReadError::Truncated { .. }) => self.truncated(&error),
            Err(error) => {
                let permanent = matches!(error, ReadError::Undecodable { .. });
                let advice = if permanent {
                    "set KAFKA_READER=auto if it is rskafka; else the batch is damaged, or of a format older than Kafka 0.11. It is tried again every minute, and nothing is lost while it is retained"
                } else {
                    "check that the brokers run and can be reached; it is tried again for ever, and nothing is lost while it is retained"
                };
                let setback = Setback { permanent, kind: AlertKind::KafkaFailed, advice };
                self.resume_at = Some(Instant::now() + self.patience.count(setback, &error));
            }
        }
        Ok(())
    }

    fn fetched(&mut self, from: i64, fetched: Fetched, now: Duration) {
        let partition = self.progress.partition();
        debug!(
            partition,
            from,
            records = fetched.records.len(),
            high_watermark = fetched.high_watermark,
            "fetched"
        );
        let nothing = fetched.records.is_empty() && fetched.next == from && fetched.high_watermark > from;
        self.empty_handed = if nothing { self.empty_handed.saturating_add(1) } else { 0 };
        let held: usize = fetched.records.iter().map(Record::held_bytes).sum();
        self.last_answer = held.max(fetched.shared_bytes);
        if self.empty_handed == EMPTY_HANDED {
            let what = format!(
                "offset {from} brings no record although the log goes on to {}",
                fetched.high_watermark
            );
            let advice = "an open transaction ends by itself; behind records that compaction removed at the end of a log, publish one more record";
            self.store.alerts.send(
                Alert::new(AlertKind::KafkaFailed, &self.store.place, what, advice).detail("offset", from),
            );
        }
        self.patience.over();
        self.log_end = fetched.high_watermark.max(fetched.next);
        self.progress.fetched(from, fetched, now);
    }

    /// Retention was faster.
    fn lost(&mut self, bounds: Bounds, now: Duration) {
        let Some(skip) = self.progress.lost_before(bounds.start, now) else { return };
        let count = u64::try_from(skip.to - skip.from).unwrap_or_default();
        let what = format!(
            "offsets {} to {} were deleted by retention before they were read",
            skip.from,
            skip.to - 1
        );
        let alert = Alert::new(
            AlertKind::RecordsLost,
            &self.store.place,
            what,
            "raise the topic's retention, or find out why the consumer stood still",
        );
        self.store.alerts.send(alert.count(count).detail("from", skip.from).detail("to", skip.to));
    }

    /// The log ends before what we have.
    fn beyond(&mut self, from: i64, bounds: Bounds, now: Duration) {
        let since = *self.beyond_since.get_or_insert(now);
        if now.saturating_sub(since) < LAGGING_LEADER {
            self.resume_at = Some(Instant::now() + Duration::from_secs(1));
            return;
        }
        self.truncated(&EndsBefore { end: bounds.end, position: from });
    }

    /// What was read is not what the log holds now: it stands still until a person has decided.
    fn truncated(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        let position = self.progress.position();
        let advice = "records were lost by the cluster (unclean leader election, or a restored backup); compare the log with the objects, then start with another S3_PREFIX and another group";
        let alert = Alert::new(AlertKind::LogTruncated, &self.store.place, error.to_string(), advice)
            .detail("position", position);
        warn!(partition = self.progress.partition(), position, %error, "the log was cut, looking again");
        self.resume_at = Some(Instant::now() + self.patience.count_as(true, alert));
    }
}
