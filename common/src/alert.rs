//! What people are told when something goes wrong.
//!
//! ```text
//! whoever notices --Alerts::send, never waits--> bounded queue --one task--> AlertSender (SNS)
//! ```
//!
//! An alert is also a log line, so nothing depends on SNS: where no topic is set, where it is down, or
//! where the queue is full, the log has it, and the pipeline goes on.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use crate::clock::{self, Clock};

mod sns;

pub use sns::{InvalidTopicArn, SnsSender, topic_arn};

/// How many alerts wait for a sender that is slow. More are logged only.
const QUEUE: usize = 64;
/// How long one alert may take to be sent.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// SNS takes 256 KiB; the rest of an overlong body is cut off, and said to be.
const MOST_BODY_BYTES: usize = 200 * 1024;

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
        }
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

    /// The subject: 1 to 99 printable ASCII characters, as SNS wants fewer than 100.
    ///
    /// Source: Amazon SNS API Reference, Publish, Subject.
    #[must_use]
    pub fn subject(&self, program: &str) -> String {
        let text = format!("[coinduit {program}] {}: {}", self.kind, self.place);
        text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(99).collect()
    }

    /// The body: plain words first, the same for machines after it.
    #[must_use]
    pub fn body(&self, program: &str, at: &str) -> String {
        let Self { kind, place, what, advice, count, details } = self;
        let machine = json!({ "kind": kind.name(), "program": program, "place": place, "at": at, "count": count, "what": what, "details": details });
        let machine =
            serde_json::to_string_pretty(&machine).expect("strings and numbers are written to memory");
        let text =
            format!("What: {what}\nWhere: {place}\nWhen: {at}\nHow many: {count}\nWhat to do: {advice}\n\n");
        if text.len() + machine.len() <= MOST_BODY_BYTES {
            return text + &machine;
        }
        let cut = text.floor_char_boundary(MOST_BODY_BYTES);
        format!("{}\n(cut off)", &text[..cut])
    }
}

/// Why an alert did not reach anybody.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The service refused it, or was not reached.
    #[error("{0}")]
    Refused(String),
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

enum Message {
    Alert(Box<Alert>),
    Flush(oneshot::Sender<()>),
}

/// A handle to say what went wrong; cheap to clone. Sending never waits and never fails.
#[derive(Clone)]
pub struct Alerts {
    queue: Option<mpsc::Sender<Message>>,
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts").field("sends", &self.queue.is_some()).finish()
    }
}

impl Alerts {
    /// Alerts that are logged and nothing more, for where no topic is set.
    #[must_use]
    pub const fn logged_only() -> Self {
        Self { queue: None }
    }

    /// Starts the task that sends. It ends when the last handle is dropped. Needs a tokio runtime.
    #[must_use]
    pub fn start(program: &'static str, clock: Clock, sender: impl AlertSender) -> Self {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(message) = waiting.recv().await {
                match message {
                    Message::Alert(alert) => {
                        let (subject, body) =
                            (alert.subject(program), alert.body(program, &clock::rfc3339(clock.now())));
                        let sent = tokio::time::timeout(SEND_LIMIT, sender.send(&subject, &body)).await;
                        if let Err(error) = sent.unwrap_or(Err(SendError::TimedOut(SEND_LIMIT))) {
                            warn!(kind = %alert.kind, %error, "alert was not delivered; it is in the log");
                        }
                    }
                    // The one who asked may have given up waiting.
                    Message::Flush(done) => drop(done.send(())),
                }
            }
        });
        Self { queue: Some(queue) }
    }

    /// Says what went wrong: in the log at once, to people as soon as the sender gets to it.
    pub fn send(&self, alert: Alert) {
        error!(kind = %alert.kind, place = alert.place, count = alert.count, advice = alert.advice, details = %json!(alert.details), "{}", alert.what);
        if let Some(queue) = &self.queue
            && queue.try_send(Message::Alert(Box::new(alert))).is_err()
        {
            warn!("too many alerts wait to be sent; this one is in the log only");
        }
    }

    /// Waits until everything said so far was sent or given up, at most for `limit`: for programs that end,
    /// and Lambda invocations that freeze.
    pub async fn flush(&self, limit: Duration) {
        let Some(queue) = &self.queue else { return };
        let (done, finished) = oneshot::channel();
        let flushed = tokio::time::timeout(limit, async {
            if queue.send(Message::Flush(done)).await.is_ok() {
                // An error means that the sending task is gone; then nothing is left to wait for.
                drop(finished.await);
            }
        });
        if flushed.await.is_err() {
            warn!("alerts were still being sent when the time for them ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    type Sent = Arc<Mutex<Vec<(String, String)>>>;

    struct Recorder {
        sent: Sent,
        fail: bool,
    }

    impl AlertSender for Recorder {
        fn send<'a>(
            &'a self,
            subject: &'a str,
            body: &'a str,
        ) -> Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>> {
            Box::pin(async move {
                self.sent.lock().unwrap().push((subject.to_owned(), body.to_owned()));
                if self.fail { Err(SendError::Refused("no such topic".to_owned())) } else { Ok(()) }
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
        let sent = Sent::default();
        let alerts =
            Alerts::start("consumer", Clock::manual(0), Recorder { sent: Arc::clone(&sent), fail: false });
        alerts.send(alert());
        alerts.flush(Duration::from_secs(5)).await;
        let sent = sent.lock().unwrap();
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

    #[tokio::test]
    async fn a_sender_that_refuses_stops_nothing() {
        let sent = Sent::default();
        let alerts =
            Alerts::start("consumer", Clock::manual(0), Recorder { sent: Arc::clone(&sent), fail: true });
        alerts.send(alert());
        alerts.send(alert());
        alerts.flush(Duration::from_secs(5)).await;
        assert_eq!(sent.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_hangs_blocks_nobody() {
        let alerts = Alerts::start("consumer", Clock::manual(0), Never);
        for _ in 0..1_000 {
            alerts.send(alert());
        }
        alerts.flush(Duration::from_secs(1)).await;
    }

    #[test]
    fn an_overlong_body_is_cut_and_says_so() {
        let body =
            Alert::new(AlertKind::StoreFailed, "b", "ä".repeat(MOST_BODY_BYTES), "a").body("consumer", "now");
        assert!(body.len() < 256 * 1024 && body.ends_with("(cut off)"));
    }

    proptest! {
        #[test]
        fn a_subject_is_always_what_sns_takes(place in "(?s).{0,200}") {
            let subject = Alert::new(AlertKind::StoreFailed, place, "w", "a").subject("consumer");
            prop_assert!((1..=99).contains(&subject.len()) && subject.bytes().all(|b| (b' '..=b'~').contains(&b)));
        }
    }
}
