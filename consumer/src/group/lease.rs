//! Until when this process is surely a member of its group.
//!
//! A process that stood still (SIGSTOP, a suspended machine) goes on where it was, and may put an object long after
//! others took its partitions over. The ledger survives that while the winner's object exists. So no put
//! starts unless the membership is valid by the clock that counts suspension: a session time-out from the sending
//! of the last heartbeat that was acknowledged. The coordinator counts from its arrival, so it never takes
//! the member for dead before.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use coinduit_common::clock::Clock;
use tokio::sync::Notify;

use crate::ledger::misreading::Misreading;

/// Told by the session, asked by partitions.
#[derive(Debug)]
pub struct Lease {
    until: Mutex<Duration>,
    /// Wakes in the order of waiting, which `watch` leaves to chance.
    changed: Notify,
    clock: Clock,
}

impl Lease {
    /// No membership yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { until: Mutex::default(), changed: Notify::new(), clock }
    }

    /// The membership is valid until then (since boot).
    pub fn set(&self, until: Duration) {
        let before =
            std::mem::replace(&mut *self.until.lock().unwrap_or_else(PoisonError::into_inner), until);
        if before != until {
            self.changed.notify_waiters();
        }
    }

    /// Whether it is valid now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.clock.since_boot() < *self.until.lock().unwrap_or_else(PoisonError::into_inner)
            || Misreading::LapseIgnored.is_made()
    }

    /// Waits until it is valid.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn held(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_held() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance, timeout};

    use super::*;

    const SESSION: Duration = Duration::from_secs(6);

    #[tokio::test(start_paused = true)]
    async fn a_lapsed_membership_is_waited_for() {
        let lease = Lease::new(Clock::Tokio(Instant::now()));
        assert!(!lease.is_held());
        lease.set(SESSION);
        lease.held().await;
        advance(SESSION).await;
        assert!(!lease.is_held());
        assert!(timeout(SESSION, lease.held()).await.is_err());
        lease.set(SESSION * 4);
        lease.held().await;
    }
}
