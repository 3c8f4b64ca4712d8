//! What people are told when something goes wrong, and when it is over.
//!
//! ```text
//! whoever notices --Alerts::send, Alerts::over, never wait--> throttle --one task--> AlertSender (SNS)
//! ```
//!
//! An alert is also a log line, so nothing depends on SNS: where no topic is set, or where it is down, the log has it, and
//! the pipeline goes on. People get one message per kind and minute; what that stands for is counted and listed in it,
//! also when nothing else happens. What waits is bounded: one message per kind.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use crate::{
    clock::{self, Clock},
    retry::{Attempt, RetryPolicy, retry},
};

mod letter;
mod sns;
mod throttle;

pub use sns::{InvalidTopicArn, SnsSender, topic_arn};

use throttle::{Letter, Throttle};

/// How long one attempt at sending may take.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Waits between attempts at sending one message.
const SEND_POLICY: RetryPolicy = RetryPolicy { first: Duration::from_secs(1), most: Duration::from_secs(8) };
/// So many attempts are made at sending one message.
const SEND_ATTEMPTS: u32 = 4;

/// What went wrong, by kind: what is counted, throttled and filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertKind {
    /// The price API could not be asked, or refused.
    ApiFailed,
    /// The price API grants too few more questions today.
    CreditsLow,
    /// Part of an answer can't be a record.
    CoinRejected,
    /// Kafka is down, silent, or refuses.
    KafkaFailed,
    /// The topic does not exist, or was deleted and created again.
    TopicChanged,
    /// Records are gone before they were read.
    RecordsLost,
    /// The log ends before what was already stored: an unclean election or a restored cluster.
    LogTruncated,
    /// A record can't be a line.
    RecordQuarantined,
    /// Objects can't be written or read.
    StoreFailed,
    /// The ledger's objects are not what they must be.
    LedgerBroken,
    /// A line can't be a row.
    LineQuarantined,
    /// A table can't be written.
    TableFailed,
    /// An event of no known shape, or about an object that can't be handled.
    EventFailed,
}

impl AlertKind {
    /// The kind's name in bodies and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiFailed => "api-failed",
            Self::CreditsLow => "credits-low",
            Self::CoinRejected => "coin-rejected",
            Self::KafkaFailed => "kafka-failed",
            Self::TopicChanged => "topic-changed",
            Self::RecordsLost => "records-lost",
            Self::LogTruncated => "log-truncated",
            Self::RecordQuarantined => "record-quarantined",
            Self::StoreFailed => "store-failed",
            Self::LedgerBroken => "ledger-broken",
            Self::LineQuarantined => "line-quarantined",
            Self::TableFailed => "table-failed",
            Self::EventFailed => "event-failed",
        }
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that went wrong, in words for the person who is woken by it.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    kind: AlertKind,
    place: String,
    what: String,
    advice: String,
    count: u64,
    details: Map<String, Value>,
    /// It is over, and lasted so long.
    over: Option<Duration>,
}

impl Alert {
    /// `what` happened at `place` (a topic, a partition, a bucket, a table), and what to do: `advice`.
    #[must_use]
    pub fn new(
        kind: AlertKind,
        place: impl Into<String>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            place: place.into(),
            what: what.into(),
            advice: advice.into(),
            count: 1,
            details: Map::new(),
            over: None,
        }
    }

    /// What was told about `place` is over: `what` works again, after so long.
    fn over(kind: AlertKind, place: impl Into<String>, what: &str, lasted: Duration) -> Self {
        let lasted_text = clock::in_words(lasted);
        let what = format!("over: {what}, lasted {lasted_text}");
        let alert = Self::new(kind, place, what, "nothing more");
        Self { over: Some(lasted), ..alert }.detail("lasted_seconds", lasted.as_secs())
    }

    /// What it is counted as.
    #[must_use]
    pub const fn kind(&self) -> AlertKind {
        self.kind
    }

    /// What happened, in words.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// How many of them there are, where it is more than one.
    #[must_use]
    pub const fn count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    /// A fact for machines: an offset, a key, a status code.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// Why an alert did not reach anybody.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The service was not reached, or is in trouble.
    #[error("{0}")]
    Unavailable(String),
    /// The service refused it.
    #[error("{0}")]
    Refused(String),
}

impl SendError {
    /// Whether another attempt may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Unavailable(_) => true,
            Self::Refused(_) => false,
        }
    }
}

/// Brings one alert to people.
pub trait AlertSender: Send + Sync + 'static {
    /// Publishes `body` under `subject`.
    fn send<'a>(
        &'a self,
        subject: &'a str,
        body: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>>;
}

/// How many messages and alerts there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlertCounts {
    /// Messages that were delivered.
    pub sent: u64,
    /// Messages that were given up; they are in the log.
    pub failed: u64,
    /// Alerts that got no message of their own, but are counted in another's.
    pub throttled: u64,
}

/// A handle to say what went wrong; cheap to clone. Saying it never waits and never fails.
#[derive(Clone)]
pub struct Alerts {
    sending: Option<Arc<Sending>>,
}

/// What the handles share. When the last one is dropped, the task sends what waits, and ends.
struct Sending {
    desk: Arc<Desk>,
    clock: Clock,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.desk.state().closed = true;
        self.desk.changed.notify_one();
    }
}

/// Where alerts wait for the task that sends them.
#[derive(Debug)]
struct Desk {
    began: Instant,
    state: Mutex<State>,
    /// There is something to do for the task.
    changed: Notify,
    /// The task has nothing left to do.
    idle: Notify,
    sent: AtomicU64,
    failed: AtomicU64,
    throttled: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    throttle: Throttle,
    /// A message is being sent.
    is_sending: bool,
    /// So many wait until everything was sent.
    flushes: usize,
    /// Nobody can say anything any more.
    closed: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        !self.is_sending && self.throttle.due_at().is_none()
    }
}

/// What the task does next.
enum Step {
    Send(Box<Letter>),
    Wait(Option<Instant>),
    End,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> Step {
        let mut state = self.state();
        let hurry = state.closed || state.flushes > 0;
        match state.throttle.due(self.began.elapsed(), hurry) {
            Some(letter) => {
                state.is_sending = true;
                Step::Send(Box::new(letter))
            }
            None if state.closed => Step::End,
            None => Step::Wait(state.throttle.due_at().map(|at| self.began + at)),
        }
    }

    async fn work(self: Arc<Self>, program: &'static str, sender: impl AlertSender) {
        loop {
            match self.step() {
                Step::Send(letter) => {
                    let counter =
                        if deliver(&letter, program, &sender).await { &self.sent } else { &self.failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                    self.state().is_sending = false;
                    self.idle.notify_waiters();
                }
                Step::Wait(None) => self.changed.notified().await,
                Step::Wait(Some(at)) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = sleep_until(at) => {}
                },
                Step::End => return,
            }
        }
    }
}

/// Sends one message; `false` where it was given up.
async fn deliver(letter: &Letter, program: &str, sender: &impl AlertSender) -> bool {
    let (subject, body) = (letter.subject(program), letter.body(program));
    let (subject, body) = (subject.as_str(), body.as_str());
    let delivered = retry(SEND_POLICY, "send an alert", None, async |attempt| {
        let sent = tokio::time::timeout(SEND_LIMIT, sender.send(subject, body)).await;
        match sent.unwrap_or(Err(SendError::TimedOut(SEND_LIMIT))) {
            Ok(()) => Attempt::Done(()),
            Err(error) if attempt < SEND_ATTEMPTS && error.is_retryable() => {
                Attempt::Again { error, after: None }
            }
            Err(error) => Attempt::Final(error),
        }
    });
    let delivered = delivered.await;
    if let Err(error) = &delivered {
        warn!(subject, %error, "alert was not delivered; it is in the log");
    }
    delivered.is_ok()
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts").field("sends", &self.sending.is_some()).finish()
    }
}

impl Alerts {
    /// Alerts that are logged and nothing more, for where no topic is set.
    #[must_use]
    pub const fn logged_only() -> Self {
        Self { sending: None }
    }

    /// Starts the task that sends. It ends when the last handle is dropped and everything was sent. Needs a tokio runtime.
    #[must_use]
    pub fn start(program: &'static str, clock: Clock, sender: impl AlertSender) -> Self {
        let desk = Arc::new(Desk {
            began: Instant::now(),
            state: Mutex::default(),
            changed: Notify::new(),
            idle: Notify::new(),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
        });
        tokio::spawn(Arc::clone(&desk).work(program, sender));
        Self { sending: Some(Arc::new(Sending { desk, clock })) }
    }

    /// Says what went wrong: in the log at once, to people within seconds, or with the next message of its kind.
    pub fn send(&self, alert: Alert) {
        error!(kind = %alert.kind, place = alert.place, count = alert.count, advice = alert.advice, details = %serde_json::Value::Object(alert.details.clone()), "{}", alert.what);
        self.say(alert);
    }

    /// Says that what was told about `place` is over: `what` works again, after `lasted`.
    pub fn over(&self, kind: AlertKind, place: &str, what: &str, lasted: Duration) {
        info!(%kind, place, seconds = lasted.as_secs(), "over: {what}");
        self.say(Alert::over(kind, place, what, lasted));
    }

    fn say(&self, alert: Alert) {
        let Some(Sending { desk, clock }) = self.sending.as_deref() else { return };
        let at = clock::rfc3339(clock.now());
        if desk.state().throttle.say(alert, at, desk.began.elapsed()) {
            desk.throttled.fetch_add(1, Ordering::Relaxed);
        }
        desk.changed.notify_one();
    }

    /// How many there were so far.
    #[must_use]
    pub fn counts(&self) -> AlertCounts {
        self.sending.as_ref().map_or_else(AlertCounts::default, |sending| AlertCounts {
            sent: sending.desk.sent.load(Ordering::Relaxed),
            failed: sending.desk.failed.load(Ordering::Relaxed),
            throttled: sending.desk.throttled.load(Ordering::Relaxed),
        })
    }

    /// Waits until everything said so far was sent or given up, at most for `limit`: for programs that end,
    /// and Lambda invocations that freeze. What waits for its minute to end leaves now.
    pub async fn flush(&self, limit: Duration) {
        let Some(sending) = &self.sending else { return };
        let desk = &sending.desk;
        desk.state().flushes += 1;
        desk.changed.notify_one();
        let flushed = tokio::time::timeout(limit, async {
            loop {
                let idle = desk.idle.notified();
                if desk.state().is_idle() {
                    return;
                }
                idle.await;
            }
        });
        let flushed = flushed.await;
        desk.state().flushes -= 1;
        if flushed.is_err() {
            warn!("alerts were still being sent when the time for them ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Keeps what it is given, and fails so many times before.
    #[derive(Clone, Default)]
    struct Recorder {
        sent: Arc<Mutex<Vec<(String, String)>>>,
        failures: Arc<Mutex<Vec<SendError>>>,
    }

    impl Recorder {
        fn start(&self) -> Alerts {
            Alerts::start("consumer", Clock::manual(0), self.clone())
        }

        fn subjects(&self) -> Vec<String> {
            self.sent.lock().unwrap().iter().map(|(subject, _)| subject.clone()).collect()
        }
    }

    impl AlertSender for Recorder {
        fn send<'a>(
            &'a self,
            subject: &'a str,
            body: &'a str,
        ) -> Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>> {
            Box::pin(async move {
                if let Some(failure) = self.failures.lock().unwrap().pop() {
                    return Err(failure);
                }
                self.sent.lock().unwrap().push((subject.to_owned(), body.to_owned()));
                Ok(())
            })
        }
    }

    struct Never;

    impl AlertSender for Never {
        fn send<'a>(
            &'a self,
            _: &'a str,
            _: &'a str,
        ) -> Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>> {
            Box::pin(std::future::pending())
        }
    }

    fn alert() -> Alert {
        Alert::new(
            AlertKind::RecordsLost,
            "crypto_prices/3",
            "offsets 10 to 20 are gone",
            "raise retention.ms",
        )
        .count(10)
        .detail("from", 10)
    }

    #[tokio::test]
    async fn people_get_words_first_and_json_after() {
        let people = Recorder::default();
        let alerts = people.start();
        alerts.send(alert());
        alerts.flush(Duration::from_secs(5)).await;
        let sent = people.sent.lock().unwrap();
        let (subject, body) = &sent[0];
        assert_eq!(subject, "[coinduit consumer] records-lost: crypto_prices/3");
        let (words, machine) = body.split_once("\n\n").unwrap();
        assert!(
            words.contains("What to do: raise retention.ms") && words.contains("1970-01-01T00:00:00.000Z"),
            "{words}"
        );
        let machine: Value = serde_json::from_str(machine).unwrap();
        assert_eq!(
            (&machine["kind"], &machine["count"], &machine["details"]["from"]),
            (&json!("records-lost"), &json!(10), &json!(10))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_two_messages_in_the_first_minute_and_all_of_it_is_counted() {
        let people = Recorder::default();
        let alerts = people.start();
        alerts.send(alert());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(people.subjects().len(), 1, "within seconds");
        for _ in 0..1_000 {
            alerts.send(alert());
        }
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(people.subjects()[1], "[coinduit consumer] records-lost: 1000 more in the last minute");
        assert!(people.sent.lock().unwrap()[1].1.contains("How many: 10000\n"));
        assert_eq!(alerts.counts(), AlertCounts { sent: 2, failed: 0, throttled: 999 });
    }

    #[tokio::test(start_paused = true)]
    async fn people_are_told_that_it_is_over() {
        let people = Recorder::default();
        let alerts = people.start();
        alerts.send(alert());
        tokio::time::sleep(Duration::from_secs(5)).await;
        alerts.over(AlertKind::RecordsLost, "crypto_prices/3", "reading", Duration::from_secs(125));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(people.subjects()[1], "[coinduit consumer] over: records-lost: crypto_prices/3");
        assert!(people.sent.lock().unwrap()[1].1.starts_with("What: over: reading, lasted 2m 5s\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_is_away_for_a_moment_is_tried_again() {
        let people = Recorder::default();
        *people.failures.lock().unwrap() =
            vec![SendError::Unavailable("503".to_owned()), SendError::TimedOut(SEND_LIMIT)];
        let alerts = people.start();
        alerts.send(alert());
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!((people.subjects().len(), alerts.counts().sent), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_refuses_stops_nothing() {
        let people = Recorder::default();
        people.failures.lock().unwrap().push(SendError::Refused("no such topic".to_owned()));
        let alerts = people.start();
        for _ in 0..2 {
            alerts.send(alert());
            alerts.flush(Duration::from_secs(5)).await;
        }
        assert_eq!(alerts.counts(), AlertCounts { sent: 1, failed: 1, throttled: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_hangs_blocks_nobody_and_loses_nothing() {
        let alerts = Alerts::start("consumer", Clock::manual(0), Never);
        for _ in 0..1_000 {
            alerts.send(alert());
        }
        alerts.flush(Duration::from_secs(1)).await;
        alerts.send(alert());
        let desk = &alerts.sending.as_ref().unwrap().desk;
        assert!(desk.state().is_sending && desk.state().throttle.due_at().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_sent_when_the_last_handle_is_gone() {
        let people = Recorder::default();
        let alerts = people.start();
        alerts.send(alert());
        drop(alerts);
        tokio::task::yield_now().await;
        assert_eq!(people.subjects().len(), 1);
    }
}
