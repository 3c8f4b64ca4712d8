//! What a run has come to so far, readable at any moment: by the summary of a run that a signal, a deadline or a bug
//! ends in the middle of something.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Counts of one run. Everybody who counts and everybody who reads has the same one.
#[derive(Debug, Default)]
pub struct Tally {
    acknowledged: AtomicUsize,
    unconfirmed: AtomicUsize,
    credits: Mutex<Option<u64>>,
}

impl Tally {
    /// `records` leave for a broker: from now on they may be in the log.
    pub fn sent(&self, records: usize) {
        self.unconfirmed.fetch_add(records, Relaxed);
    }

    /// Of those, `records` are certainly not in the log.
    pub fn not_appended(&self, records: usize) {
        self.unconfirmed.fetch_sub(records, Relaxed);
    }

    /// Of those, `records` are in the log of every in-sync replica.
    pub fn acknowledged(&self, records: usize) {
        self.unconfirmed.fetch_sub(records, Relaxed);
        self.acknowledged.fetch_add(records, Relaxed);
    }

    /// The API says that `credits` are left.
    pub fn credits(&self, credits: u64) {
        *self.lock() = Some(credits);
    }

    /// One of them was spent.
    pub fn spent(&self) {
        if let Some(credits) = self.lock().as_mut() {
            *credits = credits.saturating_sub(1);
        }
    }

    /// How many records were acknowledged.
    #[must_use]
    pub fn records(&self) -> usize {
        self.acknowledged.load(Relaxed)
    }

    /// How many records may be in the log without an acknowledgement.
    #[must_use]
    pub fn possible_duplicates(&self) -> usize {
        self.unconfirmed.load(Relaxed)
    }

    /// What the API last said about credits, less what was spent since; `None` while it has said nothing.
    #[must_use]
    pub fn credits_remaining(&self) -> Option<u64> {
        *self.lock()
    }

    /// Begins again: the next run.
    pub fn reset(&self) {
        self.acknowledged.store(0, Relaxed);
        self.unconfirmed.store(0, Relaxed);
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.credits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_unconfirmed_until_somebody_knows() {
        let tally = Tally::default();
        tally.sent(50);
        assert_eq!((tally.records(), tally.possible_duplicates()), (0, 50));
        tally.acknowledged(30);
        tally.not_appended(15);
        assert_eq!((tally.records(), tally.possible_duplicates()), (30, 5));
        tally.reset();
        assert_eq!((tally.records(), tally.possible_duplicates()), (0, 0));
    }

    #[test]
    fn credits_go_down_with_every_question_and_never_below_nothing() {
        let tally = Tally::default();
        tally.spent();
        assert_eq!(tally.credits_remaining(), None);
        tally.credits(1);
        tally.spent();
        tally.spent();
        assert_eq!(tally.credits_remaining(), Some(0));
    }
}
