//! One memory budget for all partitions.
//!
//! Each partition says how much it holds ([`Share::set`]). While the sum is over the limit nobody fetches,
//! and who holds at least an equal part closes its object, however small. Somebody always does: the largest
//! holder has at least the average.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The limit, and what is used of it.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: Mutex<Used>,
    /// The limit was crossed. Wakes in the order of waiting, which `watch` leaves to chance.
    crossed: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    bytes: usize,
    shares: usize,
    /// How often the limit was crossed, either way.
    crossings: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: Mutex::default(), crossed: Notify::new() })
    }

    /// A partition's share, holding nothing yet.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Share {
        self.change(|used| used.shares += 1);
        Share { budget: Arc::clone(self), held: 0, seen: self.look().crossings }
    }

    /// Changes what is used; wakes the partitions only when the limit is crossed, either way.
    fn change(&self, change: impl FnOnce(&mut Used)) {
        let mut used = self.look();
        let before = used.bytes > self.limit;
        change(&mut used);
        if before != (used.bytes > self.limit) {
            used.crossings += 1;
            drop(used);
            self.crossed.notify_waiters();
        }
    }

    fn look(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.look().bytes
    }
}

/// What one partition holds of the budget; dropping it gives that back.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    held: usize,
    /// How many crossings it knows of.
    seen: u64,
}

impl Share {
    /// The partition now holds `bytes`.
    pub fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.held, bytes);
        if before != bytes {
            self.budget.change(|used| used.bytes = used.bytes - before + bytes);
        }
    }

    /// Whether there is room for more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.budget.used() <= self.budget.limit
    }

    /// Whether there is no room, and this partition holds at least an equal part.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        let Used { bytes, shares, .. } = *self.budget.look();
        bytes > self.budget.limit && self.held >= self.budget.limit / shares.max(1)
    }

    /// Waits until the limit was crossed, either way, since this was last called.
    ///
    /// # Cancel safety
    /// Dropping the future loses no change.
    pub async fn changed(&mut self) {
        loop {
            let crossed = self.budget.crossed.notified();
            let crossings = self.budget.look().crossings;
            if crossings != self.seen {
                self.seen = crossings;
                return;
            }
            crossed.await;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let held = self.held;
        self.budget.change(|used| {
            used.bytes -= held;
            used.shares -= 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_holder_closes_its_object() {
        let budget = Budget::new(100);
        let (mut large, mut small) = (budget.share(), budget.share());
        large.set(80);
        small.set(20);
        assert!(large.has_room() && !large.is_pressed());
        small.set(30);
        assert!(!small.has_room() && large.is_pressed() && !small.is_pressed());
        drop(large);
        assert_eq!(budget.used(), 30);
        assert!(small.has_room());
    }

    #[tokio::test]
    async fn who_waits_for_room_is_woken() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        one.set(101);
        other.changed().await;
        assert!(!other.has_room());
        one.set(0);
        other.changed().await;
        assert!(other.has_room());
    }

    proptest! {
        #[test]
        fn over_the_limit_somebody_is_pressed(held in prop::collection::vec(0usize..1_000, 1..20), limit in 1usize..5_000) {
            let budget = Budget::new(limit);
            let mut shares: Vec<Share> = held.iter().map(|_| budget.share()).collect();
            for (share, bytes) in shares.iter_mut().zip(&held) {
                share.set(*bytes);
            }
            prop_assert_eq!(shares.iter().any(Share::is_pressed), held.iter().sum::<usize>() > limit);
        }
    }
}
