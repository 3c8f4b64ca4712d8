//! How long something has been failing, how long to wait now, and when to tell people.
//!
//! What fails in passing is tried again soon, then ever more seldom. What a person has to change is tried
//! every minute, for ever, losing nothing. People are told once per trouble: at once where a person is needed,
//! else when it has lasted.

use std::time::Duration;

use coinduit_common::retry::RetryPolicy;

/// Waits between attempts at what may pass.
const POLICY: RetryPolicy = RetryPolicy { first: Duration::from_millis(200), most: Duration::from_secs(30) };
/// The wait before another attempt at what a person has to change.
const EVERY_MINUTE: Duration = Duration::from_secs(60);
/// What passes within this time is nobody's business.
const LASTING: Duration = Duration::from_secs(5);

/// One thing that is tried again and again.
#[derive(Debug, Default, Clone)]
pub struct Trouble {
    since: Option<Duration>,
    attempts: u32,
    told: bool,
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Try again after this time.
    pub wait: Duration,
    /// Tell people now.
    pub tell: bool,
}

impl Trouble {
    /// An attempt that was begun at `begun` failed at `now`; `permanent`: a person has to change something.
    pub fn failed(&mut self, begun: Duration, now: Duration, permanent: bool) -> Verdict {
        let since = *self.since.get_or_insert(begun);
        self.attempts = self.attempts.saturating_add(1);
        let tell = !self.told && (permanent || now.saturating_sub(since) >= LASTING);
        self.told |= tell;
        let wait = if permanent { EVERY_MINUTE } else { POLICY.wait_at(self.attempts, now) };
        // Whether it lasts is found out in time, and not when a long wait happens to end.
        let until_told = if self.told { Duration::MAX } else { (since + LASTING).saturating_sub(now) };
        Verdict { wait: wait.min(until_told), tell }
    }

    /// An attempt brought no answer, and that is no failure: how long to wait.
    pub fn again(&mut self, now: Duration) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        POLICY.wait_at(self.attempts, now)
    }

    /// Since when it has failed, if it does.
    #[must_use]
    pub const fn since(&self) -> Option<Duration> {
        self.since
    }

    /// Whether people were told.
    #[must_use]
    pub const fn is_told(&self) -> bool {
        self.told
    }

    /// It works again. How long it had not, if people were told.
    pub fn over(&mut self, now: Duration) -> Option<Duration> {
        let Self { since, told, .. } = std::mem::take(self);
        since.filter(|_| told).map(|since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_passes_soon_is_told_to_nobody() {
        let mut trouble = Trouble::default();
        assert!(!trouble.failed(at(10), at(10), false).tell);
        assert!(!trouble.failed(at(14), at(14), false).tell);
        assert_eq!(trouble.over(at(15)), None);
    }

    #[test]
    fn what_lasts_is_told_once_and_its_end_too() {
        let mut trouble = Trouble::default();
        assert!(!trouble.failed(at(10), at(10), false).tell);
        assert!(trouble.failed(at(15), at(15), false).tell);
        assert!(!trouble.failed(at(100), at(100), false).tell);
        assert_eq!(trouble.over(at(130)), Some(at(120)));
        assert_eq!(trouble.over(at(131)), None);
    }

    #[test]
    fn what_needs_a_person_is_told_at_once_and_tried_every_minute() {
        assert_eq!(Trouble::default().failed(at(0), at(0), true), Verdict { wait: EVERY_MINUTE, tell: true });
    }

    #[test]
    fn an_attempt_that_hangs_has_lasted_when_it_ends() {
        assert!(Trouble::default().failed(at(0), at(10), false).tell);
    }

    #[test]
    fn people_are_told_within_seconds_whatever_the_waits_are() {
        let mut trouble = Trouble::default();
        let mut now = Duration::ZERO;
        loop {
            let verdict = trouble.failed(now, now, false);
            if verdict.tell {
                break;
            }
            now += verdict.wait;
        }
        assert_eq!(now, LASTING);
    }

    #[test]
    fn waits_grow_to_half_a_minute() {
        let mut trouble = Trouble::default();
        let longest = (0..40).map(|n| trouble.failed(at(n), at(n), false).wait).max().unwrap();
        assert!(longest <= at(30) && longest > at(3));
    }
}
