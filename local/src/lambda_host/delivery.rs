//! What becomes of an event: handled, tried again, or a dead letter. Decides, and does nothing.
//!
//! As AWS does with asynchronous invocations: a failed event is tried twice more, later each time, while other
//! events go on; after the third failure it is put aside.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::event_queue::QueuedEvent;

/// Attempts at one event, the first included.
///
/// Source: AWS Lambda, "How Lambda handles errors and retries with asynchronous invocation".
pub const MAX_ATTEMPTS: u32 = 3;

/// How many dead letters are kept: the newest. Each was also logged in full.
const KEPT: usize = 10_000;

/// An event that the function failed on for good.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetter {
    /// What the function was invoked with.
    pub event: Value,
    /// How often.
    pub attempts: u32,
    /// What the last attempt ended with.
    pub reason: String,
    /// When it was given up.
    pub at: DateTime<Utc>,
}

/// What the host has done so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Attempts that were begun.
    pub invocations: u64,
    /// Events that were handled.
    pub succeeded: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Events that were given up.
    pub dead: u64,
}

/// An attempt at an event.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) event: QueuedEvent,
    /// 1 for the first.
    pub(super) number: u32,
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Retry { after: Duration },
    Dead,
}

/// Events between their attempts, and the books.
#[derive(Debug)]
pub(super) struct Deliveries {
    retry_delay: Duration,
    waiting: Vec<(Instant, Attempt)>,
    dead: VecDeque<DeadLetter>,
    counters: Counters,
}

impl Deliveries {
    /// The first retry comes after `retry_delay`, the second after twice that.
    pub(super) fn new(retry_delay: Duration) -> Self {
        Self { retry_delay, waiting: Vec::new(), dead: VecDeque::new(), counters: Counters::default() }
    }

    pub(super) fn begin(&mut self) {
        self.counters.invocations += 1;
    }

    pub(super) fn succeeded(&mut self) {
        self.counters.succeeded += 1;
    }

    /// Plans the next attempt, or puts the event aside.
    pub(super) fn failed(
        &mut self,
        attempt: Attempt,
        reason: &str,
        now: Instant,
        time: DateTime<Utc>,
    ) -> Verdict {
        self.counters.failed += 1;
        let Attempt { event, number } = attempt;
        if number < MAX_ATTEMPTS {
            let after = self.retry_delay * 2_u32.pow(number - 1);
            self.waiting.push((now + after, Attempt { event, number: number + 1 }));
            return Verdict::Retry { after };
        }
        self.counters.dead += 1;
        let event = event.event.to_json();
        self.dead.push_back(DeadLetter { event, attempts: number, reason: reason.to_owned(), at: time });
        if self.dead.len() > KEPT {
            self.dead.pop_front();
        }
        Verdict::Dead
    }

    /// Takes back an attempt that did not end, through no fault of the event.
    pub(super) fn put_back(&mut self, attempt: Attempt, now: Instant) {
        self.waiting.push((now, attempt));
    }

    /// The attempt that is due for longest.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Attempt> {
        let (index, (due, _)) = self.waiting.iter().enumerate().min_by_key(|(_, (due, _))| *due)?;
        (*due <= now).then(|| self.waiting.swap_remove(index).1)
    }

    /// When the next attempt is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.iter().map(|(due, _)| *due).min()
    }

    /// How many events wait for another attempt.
    pub(super) fn retrying(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the events that wait for another attempt, which there will not be.
    pub(super) fn abandon(&mut self) -> Vec<QueuedEvent> {
        self.waiting.drain(..).map(|(_, attempt)| attempt.event).collect()
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dead.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_queue::EventQueue;
    use crate::s3_event::{CreatedBy, ObjectCreated};

    const DELAY: Duration = Duration::from_secs(60);

    fn time() -> DateTime<Utc> {
        "2026-11-23T10:05:00Z".parse().unwrap()
    }

    fn attempt(key: &str) -> Attempt {
        let queue = EventQueue::new(1);
        let (bucket, etag) = ("b".to_owned(), String::new());
        let event = ObjectCreated {
            bucket,
            key: key.into(),
            size: 0,
            etag,
            sequencer: 0,
            at: time(),
            by: CreatedBy::Put,
        };
        queue.push(event, queue.reserve_beyond_capacity());
        Attempt { event: queue.try_pop().unwrap(), number: 1 }
    }

    #[tokio::test]
    async fn a_failed_event_is_tried_twice_more_and_then_put_aside() {
        let start = Instant::now();
        let mut deliveries = Deliveries::new(DELAY);
        let first = deliveries.failed(attempt("a"), "one", start, time());
        assert_eq!(first, Verdict::Retry { after: DELAY });
        assert!(deliveries.take_due(start + DELAY - Duration::from_millis(1)).is_none());

        let again = deliveries.take_due(start + DELAY).unwrap();
        assert_eq!(again.number, 2);
        assert_eq!(deliveries.failed(again, "two", start, time()), Verdict::Retry { after: DELAY * 2 });

        let last = deliveries.take_due(start + DELAY * 2).unwrap();
        assert_eq!(deliveries.failed(last, "three", start, time()), Verdict::Dead);
        assert_eq!(deliveries.retrying(), 0);
        let dead = deliveries.dead_letters();
        assert_eq!((dead[0].attempts, dead[0].reason.as_str()), (3, "three"));
        assert_eq!(dead[0].event["Records"][0]["s3"]["object"]["key"], "a");
        let counters = deliveries.counters();
        assert_eq!((counters.failed, counters.dead), (3, 1));
    }

    #[tokio::test]
    async fn what_is_due_first_comes_first() {
        let start = Instant::now();
        let mut deliveries = Deliveries::new(DELAY);
        deliveries.failed(attempt("late"), "", start + DELAY, time());
        deliveries.failed(attempt("early"), "", start, time());
        assert_eq!(deliveries.next_due(), Some(start + DELAY));
        assert_eq!(deliveries.take_due(start + DELAY * 2).unwrap().event.event.key, "early");
    }
}
