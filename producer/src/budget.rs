//! How `RUN_DEADLINE` is divided, so that the end of one part never eats the next one's time.
//!
//! ```text
//! start |---------- asking the API ----------|-- publishing --|- alerts -| RUN_DEADLINE
//!                                              a quarter of     a tenth, 1 s to 2 s
//!                                              what is before   (of less than 2 s: half)
//!                                              alerts, at
//!                                              most 20 s
//! ```
//!
//! Publishing begins as soon as the prices are there, and has all the time up to the alerts; the connection to Kafka
//! is made while the API is asked.

use std::time::Duration;

use tokio::time::Instant;

const MOST_FOR_PUBLISHING: Duration = Duration::from_secs(20);
/// A process has to be gone 3 s after a signal, too.
const MOST_FOR_ALERTS: Duration = Duration::from_secs(2);
/// A run that ends early has more time for its alerts.
const LONGEST_FLUSH: Duration = Duration::from_secs(5);
const LEAST_FOR_ALERTS: Duration = Duration::from_secs(1);

/// The parts of one run's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// When the API has to have answered.
    pub fetched: Instant,
    /// When every record has to be acknowledged.
    pub published: Instant,
    /// When the last alert has to have left.
    pub end: Instant,
}

impl Budget {
    /// For a run that begins at `start` and may take `run_deadline`.
    #[must_use]
    pub fn new(start: Instant, run_deadline: Duration) -> Self {
        let alerts = (run_deadline / 10).clamp(LEAST_FOR_ALERTS, MOST_FOR_ALERTS).min(run_deadline / 2);
        let work = run_deadline - alerts;
        let publishing = (work / 4).min(MOST_FOR_PUBLISHING);
        Self { fetched: start + (work - publishing), published: start + work, end: start + run_deadline }
    }

    /// The time limit of one question to the API at `now`: `request_timeout`, or what is left.
    #[must_use]
    pub fn for_a_question(&self, now: Instant, request_timeout: Duration) -> Duration {
        request_timeout.min(self.fetched.saturating_duration_since(now))
    }

    /// How long alerts may still take at `now`: what is left, and no longer than people would wait for a line that
    /// says how a run ended. After a signal there are 2 s.
    #[must_use]
    pub fn for_alerts(&self, now: Instant, signalled: bool) -> Duration {
        let most = if signalled { MOST_FOR_ALERTS } else { LONGEST_FLUSH };
        self.end.saturating_duration_since(now).min(most)
    }

    /// The last moment at which it is worth asking again: a question shall have its whole time. One that the
    /// deadline cuts off would hide why the one before it failed.
    #[must_use]
    pub fn last_question(&self, now: Instant, request_timeout: Duration) -> Instant {
        self.fetched.checked_sub(request_timeout).map_or(now, |last| last.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_share() {
        let start = Instant::now();
        let of = |seconds| {
            let budget = Budget::new(start, Duration::from_secs(seconds));
            assert_eq!(budget.end - start, Duration::from_secs(seconds));
            (budget.fetched - start, budget.published - budget.fetched, budget.end - budget.published)
        };
        let ms = Duration::from_millis;
        assert_eq!(of(90), (ms(68_000), ms(20_000), ms(2_000)));
        assert_eq!(of(10), (ms(6_750), ms(2_250), ms(1_000)));
        assert_eq!(of(2), (ms(750), ms(250), ms(1_000)));
        assert_eq!(of(1), (ms(375), ms(125), ms(500)));
    }

    #[test]
    fn alerts_have_what_is_left_within_reason() {
        let start = Instant::now();
        let budget = Budget::new(start, Duration::from_secs(90));
        let seconds = |after: u64, signalled| {
            budget.for_alerts(start + Duration::from_secs(after), signalled).as_secs()
        };
        assert_eq!(
            (seconds(1, false), seconds(1, true), seconds(88, false), seconds(99, false)),
            (5, 2, 2, 0)
        );
    }

    #[test]
    fn a_question_never_takes_longer_than_is_left() {
        let start = Instant::now();
        let budget = Budget::new(start, Duration::from_secs(10));
        let ten = Duration::from_secs(10);
        assert_eq!(budget.for_a_question(start, ten), Duration::from_millis(6_750));
        assert_eq!(budget.for_a_question(start + ten, ten), Duration::ZERO);
        assert_eq!(budget.last_question(start, ten), start);
        assert_eq!(budget.last_question(start, Duration::from_secs(1)), start + Duration::from_millis(5_750));
    }
}
