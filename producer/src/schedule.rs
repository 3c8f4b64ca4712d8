//! When the next run of `--interval` begins: on the wall clock's grid, whatever the runs take.
//!
//! The grid of five minutes is 10:00, 10:05, 10:10, … in UTC: multiples of the interval since the Unix epoch. A run
//! that takes longer than the interval is not run into by the next one; the ticks that it missed are left out, and
//! counted.

use std::time::Duration;

/// The next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// When: milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// How many ticks have gone by since the last one while its run was under way.
    pub missed: i64,
}

/// The ticks of one process.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    interval_ms: i64,
    /// The grid point at or before the beginning of the last run.
    last_ms: i64,
}

impl Schedule {
    /// For a first run that begins at `now_ms`, at once.
    #[must_use]
    pub fn new(interval: Duration, now_ms: i64) -> Self {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { interval_ms, last_ms: Self::grid(interval_ms, now_ms) }
    }

    /// The tick after `now_ms`. It is the same however often it is asked for, until [`Schedule::begin`].
    #[must_use]
    pub fn next(&self, now_ms: i64) -> Tick {
        let mut at_ms = Self::grid(self.interval_ms, now_ms).saturating_add(self.interval_ms);
        let back = self.last_ms - at_ms;
        if (0..self.interval_ms).contains(&back) {
            // A clock that was set back a little: a tick does not come twice.
            at_ms = self.last_ms.saturating_add(self.interval_ms);
        }
        Tick { at_ms, missed: ((at_ms - self.last_ms) / self.interval_ms - 1).max(0) }
    }

    /// The run of `tick` begins.
    pub fn begin(&mut self, tick: Tick) {
        self.last_ms = tick.at_ms;
    }

    fn grid(interval_ms: i64, at_ms: i64) -> i64 {
        at_ms - at_ms.rem_euclid(interval_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;

    fn five_minutes(now_ms: i64) -> Schedule {
        Schedule::new(Duration::from_secs(300), now_ms)
    }

    #[test]
    fn ticks_are_on_the_wall_clocks_grid_and_do_not_drift() {
        let mut schedule = five_minutes(7 * MINUTE + 123);
        for expected in [10, 15, 20, 25] {
            // Each run takes a little more than three minutes.
            let tick = schedule.next((expected - 2) * MINUTE + 500);
            assert_eq!(tick, Tick { at_ms: expected * MINUTE, missed: 0 });
            schedule.begin(tick);
        }
    }

    #[test]
    fn a_run_longer_than_the_interval_leaves_ticks_out_and_says_how_many() {
        let mut schedule = five_minutes(10 * MINUTE);
        schedule.begin(Tick { at_ms: 10 * MINUTE, missed: 0 });
        assert_eq!(schedule.next(22 * MINUTE), Tick { at_ms: 25 * MINUTE, missed: 2 });
        // A run that ends on a tick has missed it.
        assert_eq!(schedule.next(15 * MINUTE), Tick { at_ms: 20 * MINUTE, missed: 1 });
    }

    #[test]
    fn a_clock_that_is_set_back_repeats_no_tick_and_stops_nothing() {
        let mut schedule = five_minutes(0);
        schedule.begin(Tick { at_ms: 60 * MINUTE, missed: 0 });
        assert_eq!(schedule.next(60 * MINUTE - 3), Tick { at_ms: 65 * MINUTE, missed: 0 });
        // An hour back: the grid of the new time holds.
        assert_eq!(schedule.next(MINUTE), Tick { at_ms: 5 * MINUTE, missed: 0 });
    }

    proptest! {
        #[test]
        fn the_next_tick_is_later_than_now_and_not_later_than_two_intervals(
            interval in 1u64..100_000, last in 0i64..4_000_000_000_000, now in 0i64..4_000_000_000_000
        ) {
            let mut schedule = Schedule::new(Duration::from_secs(interval), last);
            schedule.begin(Tick { at_ms: last, missed: 0 });
            let tick = schedule.next(now);
            prop_assert!(tick.at_ms > now && tick.missed >= 0);
            prop_assert!(tick.at_ms - now <= 2 * i64::try_from(interval).unwrap() * 1000);
        }
    }
}
