//! Time as a value that tests can set: the wall's, and the time since boot, which never goes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::time::Instant;

/// Tells the time: the system's, or one that a test moves.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The operating system's clocks.
    #[default]
    System,
    /// A clock that stands still until it is set: milliseconds since the Unix epoch, and since boot.
    Manual(Arc<AtomicI64>),
    /// tokio's clock, which a test can pause: the machine booted, and the epoch began, at this instant.
    Tokio(Instant),
}

impl Clock {
    /// A clock for tests, standing at `ms` milliseconds since the Unix epoch.
    #[must_use]
    pub fn manual(ms: i64) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(ms)))
    }

    /// The instant, to the millisecond, so that what is written down is what was meant.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.now_ms()).unwrap_or_default()
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
            Self::System => Utc::now().timestamp_millis(),
            Self::Manual(_) | Self::Tokio(_) => {
                i64::try_from(self.since_boot().as_millis()).unwrap_or(i64::MAX)
            }
        }
    }

    /// How long ago the machine booted, suspension included: for all that must not count a sleeping machine
    /// as no time at all (CLOCK_BOOTTIME).
    #[must_use]
    pub fn since_boot(&self) -> Duration {
        match self {
            Self::System => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Duration::new(
                    u64::try_from(now.tv_sec).unwrap_or_default(),
                    u32::try_from(now.tv_nsec).unwrap_or_default(),
                )
            }
            Self::Manual(ms) => {
                Duration::from_millis(u64::try_from(ms.load(Ordering::Relaxed)).unwrap_or_default())
            }
            Self::Tokio(boot) => boot.elapsed(),
        }
    }
}

/// Whole milliseconds, as logs and summaries have them.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// For people: `45s`, `2m 5s`, `3h 2m`, `4d 1h`.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-23T10:05:00.000Z`, the form of every instant that
/// Coinduit writes.
#[must_use]
pub fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The same for milliseconds since the Unix epoch, as Kafka counts them. A number outside of what a
/// calendar can show (about 262,000 years either way) is held at its edge.
#[must_use]
pub fn rfc3339_ms(ms: i64) -> String {
    let edge = if ms < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    rfc3339(DateTime::from_timestamp_millis(ms).unwrap_or(edge))
}

/// Milliseconds since the Unix epoch of an instant that [`rfc3339_ms`] wrote; `None` for any other text.
#[must_use]
pub fn ms_of_rfc3339(text: &str) -> Option<i64> {
    let ms = text.parse::<DateTime<Utc>>().ok()?.timestamp_millis();
    (rfc3339_ms(ms) == text).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_in_utc_with_milliseconds() {
        assert_eq!(rfc3339_ms(1_795_428_300_000), "2026-11-23T10:05:00.000Z");
        assert_eq!(rfc3339_ms(-1), "1969-12-31T23:59:59.999Z");
        assert!(rfc3339_ms(i64::MAX).starts_with("+262142-"));
        assert!(rfc3339_ms(i64::MIN).starts_with("-262143-"));
    }

    #[test]
    fn durations_are_said_in_two_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (125, "2m 5s"), (7_320, "2h 2m"), (90_000, "1d 1h")] {
            assert_eq!(in_words(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn instants_are_read_back_and_nothing_else_is() {
        for ms in [0, -1, 1_795_428_300_123, -62_135_596_800_001, 253_402_300_800_000] {
            assert_eq!(ms_of_rfc3339(&rfc3339_ms(ms)), Some(ms));
        }
        for edge in [i64::MIN, i64::MAX] {
            let text = rfc3339_ms(edge);
            assert_eq!(ms_of_rfc3339(&text).map(rfc3339_ms), Some(text));
        }
        for other in
            ["", "now", "1970-01-01T00:00:00Z", "1970-01-01T01:00:00.000+01:00", "1970-01-01 00:00:00.000Z"]
        {
            assert_eq!(ms_of_rfc3339(other), None, "{other}");
        }
    }

    #[test]
    fn the_time_since_boot_goes_on() {
        let before = Clock::System.since_boot();
        assert!(before > Duration::ZERO && Clock::System.since_boot() >= before);
    }

    #[tokio::test(start_paused = true)]
    async fn tokios_clock_can_be_paused() {
        let clock = Clock::Tokio(Instant::now());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((clock.since_boot(), clock.now_ms()), (Duration::from_secs(5), 5_000));
    }

    #[test]
    fn a_manual_clock_stands_still() {
        let clock = Clock::manual(1_795_428_300_123);
        assert_eq!(rfc3339(clock.now()), "2026-11-23T10:05:00.123Z");
    }
}
