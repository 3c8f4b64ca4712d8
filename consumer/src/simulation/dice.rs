//! Chance from a seed: the same seed, the same throws.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A generator that everybody in one history shares: SplitMix64.
///
/// Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators".
#[derive(Debug)]
pub(super) struct Dice(AtomicU64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn throw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range.
    pub(super) fn between(&self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.throw() % (range.end() - range.start() + 1)
    }

    /// An offset of the range; its end where it is empty.
    pub(super) fn offset(&self, range: RangeInclusive<i64>) -> i64 {
        let width = u64::try_from(range.end() - range.start()).unwrap_or(0);
        range.start() + i64::try_from(self.between(0..=width)).unwrap_or(0)
    }

    /// `true` in so many of a thousand cases.
    pub(super) fn happens(&self, per_mille: u64) -> bool {
        self.throw() % 1000 < per_mille
    }

    /// One of `several`, which are not none.
    pub(super) fn one_of<'a, T>(&self, several: &'a [T]) -> &'a T {
        let last = u64::try_from(several.len()).unwrap_or(1) - 1;
        &several[usize::try_from(self.between(0..=last)).unwrap_or(0)]
    }

    /// A duration of so many milliseconds.
    pub(super) fn millis(&self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.between(range))
    }

    /// A duration of so many seconds.
    pub(super) fn seconds(&self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.between(range))
    }
}
