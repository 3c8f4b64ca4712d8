//! A process that stands still: none of its calls begins, and none of its answers arrives, until it goes on.
//!
//! Its timers run on, so it wakes up in the middle of what it believed before: a lease that was valid when it was
//! looked at, an answer that is old by now.

use std::{sync::Mutex, time::Duration};

use tokio::time::{Instant, sleep_until};

/// One process's way to the world.
#[derive(Debug)]
pub(super) struct Gate {
    closed_until: Mutex<Instant>,
}

impl Gate {
    pub(super) fn open() -> Self {
        Self { closed_until: Mutex::new(Instant::now()) }
    }

    pub(super) fn close_for(&self, time: Duration) {
        *self.closed_until.lock().unwrap() = Instant::now() + time;
    }

    /// Goes through, as soon as it is open.
    pub(super) async fn pass(&self) {
        loop {
            let until = *self.closed_until.lock().unwrap();
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}
