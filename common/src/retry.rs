//! The only sleep between attempts.
//!
//! A policy, a name for the log, a deadline and a closure. The closure classifies what happened
//! ([`Attempt`]) and never sleeps; [`retry`] waits, with full jitter (a random share of an exponentially
//! growing limit), so that many clients that failed together don't come back together.
//!
//! Source: AWS Architecture Blog, "Exponential Backoff And Jitter".

use std::{error::Error, future::Future, time::Duration};

use rand::Rng;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::{clock::millis, report::Chain};

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The limit of the first wait; it doubles from then on.
    pub first: Duration,
    /// The limit that is never exceeded.
    pub most: Duration,
}

impl RetryPolicy {
    /// The limit of the wait after attempt number `failed` (1 = the first).
    #[must_use]
    pub fn limit(&self, failed: u32) -> Duration {
        self.first
            .saturating_mul(1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX))
            .min(self.most)
    }

    /// A random wait for it: between a tenth of the limit and the limit, so that it is never a busy loop.
    #[must_use]
    pub fn wait(&self, failed: u32) -> Duration {
        self.limit(failed).mul_f64(rand::rng().random_range(0.1..=1.0))
    }

    /// The same spread, taken from the nanoseconds of `now`: for code that decides and must decide alike when it is
    /// asked alike.
    #[must_use]
    pub fn wait_at(&self, failed: u32, now: Duration) -> Duration {
        // SplitMix64's finalizer: neighbouring instants get waits that have nothing to do with each other.
        let mut mixed = u64::from(now.subsec_nanos()) ^ (now.as_secs() << 30) ^ u64::from(failed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let thousandths = u32::try_from((mixed ^ (mixed >> 31)) % 901).unwrap_or(0) + 100;
        self.limit(failed) * thousandths / 1000
    }
}

/// What one attempt came to.
#[derive(Debug)]
pub enum Attempt<T, E> {
    /// It worked.
    Done(T),
    /// It failed, and another attempt would fail too.
    Final(E),
    /// It failed in a way that may pass; `after` is the time that the other side asked for, if it did.
    Again {
        /// What failed.
        error: E,
        /// How long the other side wants to be left alone.
        after: Option<Duration>,
    },
}

/// Calls `attempt` until it is done, fails for good, or the next one could not start before `deadline`.
///
/// `attempt` is given the number of the attempt, from 1.
///
/// # Errors
/// The error of the last attempt.
///
/// # Cancel safety
/// Dropping the future ends the attempt under way, or the wait; nothing else is kept.
pub async fn retry<T, E, F>(
    policy: RetryPolicy,
    what: &str,
    deadline: Option<Instant>,
    mut attempt: impl FnMut(u32) -> F,
) -> Result<T, E>
where
    E: Error + 'static,
    F: Future<Output = Attempt<T, E>>,
{
    let mut number = 1;
    loop {
        match attempt(number).await {
            Attempt::Done(value) => return Ok(value),
            Attempt::Final(error) => return Err(error),
            Attempt::Again { error, after } => {
                let wait = after.map_or_else(|| policy.wait(number), |asked| asked.max(policy.wait(number)));
                if deadline.is_some_and(|deadline| Instant::now() + wait >= deadline) {
                    return Err(error);
                }
                warn!(what, attempt = number, wait_ms = millis(wait), error = %Chain(&error), "failed, trying again");
                sleep(wait).await;
                number = number.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, thiserror::Error)]
    #[error("busy at attempt {0}")]
    struct Busy(u32);

    const POLICY: RetryPolicy =
        RetryPolicy { first: Duration::from_millis(100), most: Duration::from_secs(2) };

    #[test]
    fn waits_by_the_clock_are_spread_and_repeatable() {
        let waits: std::collections::BTreeSet<Duration> =
            (0..1000).map(|n| POLICY.wait_at(2, Duration::from_nanos(n))).collect();
        assert!(waits.len() > 400, "{}", waits.len());
        assert!(
            *waits.first().unwrap() >= Duration::from_millis(20)
                && *waits.last().unwrap() <= Duration::from_millis(200)
        );
        assert_eq!(POLICY.wait_at(3, Duration::from_secs(7)), POLICY.wait_at(3, Duration::from_secs(7)));
    }

    #[test]
    fn waits_double_up_to_a_limit_and_keep_their_distance() {
        assert_eq!(POLICY.limit(1), Duration::from_millis(100));
        assert_eq!(POLICY.limit(3), Duration::from_millis(400));
        assert_eq!(POLICY.limit(6), Duration::from_secs(2));
        assert_eq!(POLICY.limit(u32::MAX), Duration::from_secs(2));
        for failed in 1..40 {
            let wait = POLICY.wait(failed);
            assert!(wait >= POLICY.limit(failed) / 10 && wait <= POLICY.limit(failed));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_may_pass_is_tried_again() {
        let result: Result<u32, Busy> = retry(POLICY, "test", None, async |number| {
            if number < 4 {
                Attempt::Again { error: Busy(number), after: None }
            } else {
                Attempt::Done(number)
            }
        })
        .await;
        assert_eq!(result, Ok(4));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_stays_is_not_tried_again() {
        let result: Result<(), Busy> =
            retry(POLICY, "test", None, async |number| Attempt::Final(Busy(number))).await;
        assert_eq!(result, Err(Busy(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_goes_beyond_the_deadline() {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(10);
        let result: Result<(), Busy> =
            retry(POLICY, "test", Some(deadline), async |_| Attempt::Again { error: Busy(0), after: None })
                .await;
        assert_eq!(result, Err(Busy(0)));
        assert!(Instant::now() < deadline && Instant::now() > start);
    }

    #[tokio::test(start_paused = true)]
    async fn the_other_sides_wish_is_obeyed() {
        let start = Instant::now();
        let result: Result<u32, Busy> = retry(POLICY, "test", None, async |number| {
            if number == 1 {
                Attempt::Again { error: Busy(429), after: Some(Duration::from_secs(30)) }
            } else {
                Attempt::Done(number)
            }
        })
        .await;
        assert_eq!(result, Ok(2));
        assert!(start.elapsed() >= Duration::from_secs(30));
    }
}
