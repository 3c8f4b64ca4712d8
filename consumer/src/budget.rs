//! One memory budget for all partitions.
//!
//! ```text
//! |<-------------- held: three quarters -------------->|<- fetches: a quarter ->|
//!    what partitions have (pending, open, under way)      answers under way
//! ```
//!
//! A partition costs something by itself, beside its records (its task, and memory between small allocations that
//! nobody can use): that is taken off the limit first, up to half of it.
//!
//! Each partition says how much it holds ([`Share::set`]). Before it fetches it reserves what the answer may take
//! ([`Share::reserve`]), and waits in line for that; so fetches under way are inside the limit too. Nobody fetches
//! while more than three quarters are held; then who holds at least an equal part closes its object, however
//! small. Somebody always does: the largest holder has at least the average.
//!
//! What a broker sends beyond a reservation (a batch comes whole, however large), and what a batch becomes when it
//! is decompressed, is known only when it is there. Batches are decompressed one at a time, so that the limit is
//! exceeded by one of them at most ([`Reservation::turn_to_decompress`]).
//!
//! What a reader has received and not handed out yet gets less only when it is asked again. So it never waits for that
//! ([`Share::go_on`]): readers that held more than the high mark together would wait for one another for ever.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot};

/// The limit, and what is used of it.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    /// What a partition costs by itself.
    own: usize,
    used: Mutex<Used>,
    /// The high mark was crossed. Wakes in the order of waiting, which `watch` leaves to chance.
    crossed: Notify,
    /// There is room to decompress again.
    relieved: Notify,
    decompression: Semaphore,
}

#[derive(Debug, Default)]
struct Used {
    held: usize,
    reserved: usize,
    /// The part of `reserved` that readers have and hand out.
    unpacked: usize,
    shares: usize,
    /// How often the high mark was crossed, either way.
    crossings: u64,
    /// Who waits for a reservation, in order.
    line: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    bytes: usize,
    granted: oneshot::Sender<Reservation>,
}

impl Budget {
    /// A budget of `limit` bytes for records alone.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Self::with_own(limit, 0)
    }

    /// A budget of `limit` bytes, of which each partition takes `own` by itself.
    #[must_use]
    pub fn with_own(limit: usize, own: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            own,
            used: Mutex::default(),
            crossed: Notify::new(),
            relieved: Notify::new(),
            decompression: Semaphore::new(1),
        })
    }

    /// A partition's share, holding nothing yet.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Share {
        self.change(|used| used.shares += 1);
        Share { budget: Arc::clone(self), held: 0, seen: self.look().crossings }
    }

    /// The bytes that may be used.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The bytes in use: held, and reserved for fetches under way.
    #[must_use]
    pub fn used(&self) -> usize {
        let used = self.look();
        used.held + used.reserved
    }

    /// What fetches under way may take.
    fn fetches(&self, used: &Used) -> usize {
        self.for_records(used) / 4
    }

    /// What is left of the limit for records.
    fn for_records(&self, used: &Used) -> usize {
        self.limit - used.shares.saturating_mul(self.own).min(self.limit / 2)
    }

    /// While more than this is held nobody fetches.
    fn high_mark(&self, used: &Used) -> usize {
        self.for_records(used) - self.fetches(used)
    }

    /// Whether another batch can't be decompressed yet.
    fn is_full(&self, used: &Used) -> bool {
        used.held + used.unpacked > self.high_mark(used)
    }

    /// Changes what is used; gives what room there is to those who wait for it, and wakes the partitions when the
    /// high mark is crossed, either way.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut Used)) {
        let mut used = self.look();
        let (was_high, was_full) = (used.held > self.high_mark(&used), self.is_full(&used));
        change(&mut used);
        let is_high = used.held > self.high_mark(&used);
        used.crossings += u64::from(is_high != was_high);
        let is_relieved = was_full && !self.is_full(&used);
        let mut granted = Vec::new();
        while let Some(next) = used.line.front() {
            // Who has given up waiting takes no room.
            let gone = next.granted.is_closed();
            // The first reservation has room however large it is: else nobody would ever fetch.
            let fits = used.reserved == 0 || used.reserved + next.bytes <= self.fetches(&used);
            if !gone && (is_high || !fits) {
                break;
            }
            let next = used.line.pop_front().filter(|_| !gone);
            used.reserved += next.as_ref().map_or(0, |next| next.bytes);
            granted.extend(next);
        }
        drop(used);
        for Waiting { bytes, granted } in granted {
            // Who has gone in this moment sends the reservation back, and dropping it returns it.
            drop(granted.send(Reservation::new(self, Room { bytes, unpacked: 0 })));
        }
        if is_relieved {
            self.relieved.notify_waiters();
        }
        if is_high != was_high {
            self.crossed.notify_waiters();
        }
    }

    fn look(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory set aside for the answer to one fetch; dropping it gives that back.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    room: Mutex<Room>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Room {
    bytes: usize,
    /// The part of it that counts before another batch is decompressed.
    unpacked: usize,
}

impl Reservation {
    fn new(budget: &Arc<Budget>, room: Room) -> Self {
        Self { budget: Arc::clone(budget), room: room.into() }
    }

    /// Waits until this is the only one that decompresses, and no more is held than may be; until the turn is
    /// dropped. Meanwhile it has `bytes`.
    ///
    /// # Cancel safety
    /// Dropping the future gives the turn to the next.
    pub async fn turn_to_decompress(&self, bytes: usize) -> SemaphorePermit<'_> {
        let Budget { decompression, relieved, .. } = &*self.budget;
        // Whoever waits here must be no reason for another to wait here.
        self.takes(bytes);
        let turn = decompression.acquire().await.expect("the semaphore is never closed");
        loop {
            let is_relieved = relieved.notified();
            if !self.budget.is_full(&self.budget.look()) {
                return turn;
            }
            is_relieved.await;
        }
    }

    /// The answer takes `bytes` and not what was thought: known now, and too late to wait for room.
    pub fn takes(&self, bytes: usize) {
        self.set(Room { bytes, unpacked: 0 });
    }

    /// The same, of an answer that was decompressed.
    pub fn is_unpacked(&self, bytes: usize) {
        self.set(Room { bytes, unpacked: bytes });
    }

    fn set(&self, room: Room) {
        let before = std::mem::replace(&mut *self.room.lock().unwrap_or_else(PoisonError::into_inner), room);
        self.budget.change(|used| {
            used.reserved = used.reserved - before.bytes + room.bytes;
            used.unpacked = used.unpacked - before.unpacked + room.unpacked;
        });
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.set(Room::default());
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
            self.budget.change(|used| used.held = used.held - before + bytes);
        }
    }

    /// Waits in line until `bytes` may be used for the answer to a fetch.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    pub fn reserve(&self, bytes: usize) -> impl Future<Output = Reservation> + Send + 'static {
        let (granted, grant) = oneshot::channel();
        self.budget.change(|used| used.line.push_back(Waiting { bytes, granted }));
        let budget = Arc::clone(&self.budget);
        async move {
            let reservation = grant.await.expect("who stands in the line of a budget that lives is served");
            drop(budget);
            reservation
        }
    }

    /// Room for the answer of a reader that has `bytes` of it already, which are part of what is held: they are no longer,
    /// and this waits for nothing.
    #[must_use]
    pub fn go_on(&mut self, bytes: usize) -> Reservation {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.budget.change(|used| {
            used.held -= bytes;
            used.reserved += bytes;
            used.unpacked += bytes;
        });
        Reservation::new(&self.budget, Room { bytes, unpacked: bytes })
    }

    /// Whether so much is in use that nobody begins anything that can wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.budget.is_full(&self.budget.look())
    }

    /// Whether too much is held, and this partition holds at least an equal part.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        let used = self.budget.look();
        used.held > self.budget.high_mark(&used) && self.held >= used.held / used.shares.max(1)
    }

    /// Waits until the high mark was crossed, either way, since this was last called.
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
            used.held -= held;
            used.shares -= 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_holder_closes_its_object() {
        let budget = Budget::new(100);
        let (mut large, mut small) = (budget.share(), budget.share());
        large.set(60);
        small.set(15);
        assert!(!large.is_pressed());
        small.set(16);
        assert!(large.is_pressed() && !small.is_pressed());
        drop(large);
        assert_eq!(budget.used(), 16);
        assert!(!small.is_pressed());
    }

    #[test]
    fn partitions_take_what_they_cost_by_themselves_up_to_half() {
        let budget = Budget::with_own(100, 10);
        let mut shares: Vec<Share> = (0..2).map(|_| budget.share()).collect();
        shares[0].set(60);
        assert!(!shares[0].is_pressed(), "three quarters of 80");
        shares.push(budget.share());
        assert!(shares[0].is_pressed(), "three quarters of 70");
        shares.extend((0..20).map(|_| budget.share()));
        shares[0].set(37);
        assert!(!shares[0].is_pressed(), "three quarters of 50, however many there are");
    }

    #[tokio::test]
    async fn who_waits_for_a_crossing_is_woken() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        one.set(76);
        other.changed().await;
        one.set(0);
        other.changed().await;
        assert!(other.changed().now_or_never().is_none());
    }

    #[test]
    fn fetches_wait_in_line_for_their_quarter() {
        let budget = Budget::new(100);
        let share = budget.share();
        let first = share.reserve(20).now_or_never().unwrap();
        let (mut second, mut third) = (Box::pin(share.reserve(10)), Box::pin(share.reserve(5)));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none(), "it would fit, but it is not its turn");
        assert_eq!(budget.used(), 20);
        drop(first);
        let both = ((&mut second).now_or_never().unwrap(), (&mut third).now_or_never().unwrap());
        assert_eq!(budget.used(), 15);
        drop(both);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_fetch_larger_than_all_is_alone() {
        let budget = Budget::new(100);
        let share = budget.share();
        let huge = share.reserve(1_000).now_or_never().unwrap();
        let mut next = Box::pin(share.reserve(1));
        assert!((&mut next).now_or_never().is_none());
        drop(huge);
        assert!(next.now_or_never().is_some());
    }

    #[test]
    fn nobody_fetches_while_too_much_is_held() {
        let budget = Budget::new(100);
        let mut share = budget.share();
        share.set(76);
        let mut wait = Box::pin(share.reserve(1));
        assert!((&mut wait).now_or_never().is_none());
        share.set(75);
        assert!(wait.now_or_never().is_some());
    }

    #[test]
    fn who_gives_up_waiting_holds_up_nobody() {
        let budget = Budget::new(100);
        let share = budget.share();
        let first = share.reserve(20).now_or_never().unwrap();
        drop(share.reserve(10));
        let second = share.reserve(5).now_or_never();
        assert!(second.is_some(), "the one before it is gone");
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn one_decompresses_at_a_time_and_never_on_top_of_too_much() {
        let budget = Budget::new(100);
        let mut share = budget.share();
        let (one, other) = (share.reserve(5).await, share.reserve(5).await);
        one.takes(50);
        assert_eq!(budget.used(), 55);
        let turn = one.turn_to_decompress(5).await;
        assert!(other.turn_to_decompress(5).now_or_never().is_none());
        drop(turn);
        share.set(80);
        assert!(other.turn_to_decompress(5).now_or_never().is_none());
        share.set(0);
        assert!(other.turn_to_decompress(5).now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_readers_have_makes_nobody_wait_for_them() {
        let budget = Budget::new(100);
        let mut shares = [budget.share(), budget.share(), budget.share()];
        for share in &mut shares {
            share.set(30);
        }
        assert!(shares[0].reserve(1).now_or_never().is_none(), "too much is held");
        let going_on = shares.each_mut().map(|share| share.go_on(25));
        assert_eq!(budget.used(), 90);
        assert!(going_on[0].turn_to_decompress(5).now_or_never().is_some(), "55 of 75, without its own");
        going_on[0].is_unpacked(40);
        assert!(shares[0].is_full() && !shares[0].is_pressed());
        let mut next = Box::pin(going_on[1].turn_to_decompress(5));
        assert!((&mut next).now_or_never().is_none(), "15 are held, and readers have 65");
        shares[2].set(0);
        assert!(next.now_or_never().is_some());
        drop(going_on);
        assert_eq!(budget.used(), 10);
    }

    #[test]
    fn a_reader_has_no_more_than_is_held() {
        let budget = Budget::new(100);
        let mut share = budget.share();
        share.set(10);
        drop(share.go_on(50));
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        #[test]
        fn over_the_high_mark_somebody_is_pressed(held in prop::collection::vec(0usize..1_000, 1..20), limit in 1usize..5_000) {
            let budget = Budget::new(limit);
            let mut shares: Vec<Share> = held.iter().map(|_| budget.share()).collect();
            for (share, bytes) in shares.iter_mut().zip(&held) {
                share.set(*bytes);
            }
            let high = held.iter().sum::<usize>() > budget.high_mark(&budget.look());
            prop_assert_eq!(shares.iter().any(Share::is_pressed), high);
        }

        #[test]
        fn everybody_in_line_is_served_in_the_end(wanted in prop::collection::vec(1usize..200, 1..30), limit in 1usize..300) {
            let budget = Budget::new(limit);
            let share = budget.share();
            let mut waiting: Vec<_> = wanted.iter().map(|bytes| Box::pin(share.reserve(*bytes))).collect();
            let mut served = 0;
            while !waiting.is_empty() {
                let mut granted = Vec::new();
                waiting.retain_mut(|wait| wait.now_or_never().map(|reservation| granted.push(reservation)).is_none());
                prop_assert!(!granted.is_empty(), "{} of {} were served", served, wanted.len());
                served += granted.len();
                prop_assert!(granted.len() == 1 || budget.used() <= limit / 4);
            }
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
