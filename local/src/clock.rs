//! The stack's one look at the wall clock: services stamp what they record and send with it.

use chrono::{DateTime, SecondsFormat, Utc};

/// Now, by the wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge itself: stand-ins for cloud services have the machine's time, as the real ones have theirs"
)]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}

/// RFC 3339 with milliseconds in UTC, as AWS writes times in events: `2026-11-23T10:05:00.000Z`.
pub(crate) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
