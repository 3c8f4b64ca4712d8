//! Objects that are smaller than they need to be: what they cost, and which setting makes them.
//!
//! S3 takes money for each put, readers open each object, and the Lambda is called for each. Settings are looked at
//! once, when the consumer starts; what really comes out is watched meanwhile.

use std::time::Duration;

use crate::{batch::Limits, layout::Layout, ledger::metadata::Closed};

/// An object below this is called small, in bytes of lines.
const SMALL: usize = 64 << 10;
/// After so many small objects in a row people are told.
const ROW: u32 = 10;
/// And then not again for so long.
const AGAIN: Duration = Duration::from_secs(24 * 60 * 60);
/// An age below this makes small objects of most topics.
const SHORT: Duration = Duration::from_secs(5);
/// So do fewer lines than this.
const FEW: u64 = 100;
/// A month of 30 days.
const MONTH: f64 = 30.0 * 24.0 * 60.0 * 60.0;
/// S3 Standard, us-east-1: 0.005 USD for 1,000 puts.
const USD_PER_PUT: f64 = 0.000_005;

/// What to say of `limits` when the consumer starts.
#[must_use]
pub fn warnings(limits: &Limits, layout: Layout) -> Vec<String> {
    if layout == Layout::Record {
        return vec![format!(
            "OBJECT_LAYOUT=record makes one object per record: {:.2} USD in PUT requests for a million records, and as many calls of a Lambda; with OBJECT_LAYOUT=log it is one per batch",
            1e6 * USD_PER_PUT
        )];
    }
    let mut warnings = Vec::new();
    if limits.age < SHORT {
        warnings.push(format!(
            "MAX_OBJECT_AGE={:?} makes up to {}; raise it unless records must be seen that soon",
            limits.age,
            month(1.0 / limits.age.as_secs_f64(), " for each busy partition")
        ));
    }
    if limits.records < FEW {
        warnings.push(format!(
            "MAX_OBJECT_RECORDS={} makes {:.2} USD in PUT requests for a million records; raise it to {FEW} or more",
            limits.records,
            1e6 / float(limits.records) * USD_PER_PUT
        ));
    }
    if limits.bytes < SMALL {
        warnings.push(format!(
            "MAX_OBJECT_BYTES={} makes {:.2} USD in PUT requests for a GiB of records; raise it to {SMALL} or more",
            limits.bytes,
            f64::from(1 << 30) / float(u64::try_from(limits.bytes).unwrap_or(u64::MAX)) * USD_PER_PUT
        ));
    }
    warnings
}

/// Watches what objects are stored, of all partitions together.
#[derive(Debug)]
pub struct TinyObjects {
    limits: Limits,
    row: Option<Row>,
    told_at: Option<Duration>,
}

/// Small objects in a row.
#[derive(Debug, Clone, Copy)]
struct Row {
    since: Duration,
    objects: u32,
    bytes: usize,
    by_budget: u32,
}

impl TinyObjects {
    /// With objects that are closed at `limits`.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, row: None, told_at: None }
    }

    /// An object of so many `bytes` of lines was stored at `now`. Returns what people should know, if it is time to.
    pub fn stored(&mut self, bytes: usize, closed: Closed, now: Duration) -> Option<String> {
        if bytes >= SMALL || self.limits.bytes <= SMALL {
            self.row = None;
            return None;
        }
        if !matches!(closed, Closed::Age | Closed::Budget) {
            return None;
        }
        let row = self.row.get_or_insert(Row { since: now, objects: 0, bytes: 0, by_budget: 0 });
        row.objects += 1;
        row.bytes += bytes;
        row.by_budget += u32::from(closed == Closed::Budget);
        if row.objects < ROW {
            return None;
        }
        let Row { since, objects, bytes, by_budget } = *row;
        self.row = None;
        if self.told_at.is_some_and(|told| now < told + AGAIN) {
            return None;
        }
        self.told_at = Some(now);
        let lasted = now.saturating_sub(since).as_secs_f64().max(1.0);
        let average = bytes / usize::try_from(objects).unwrap_or(usize::MAX);
        let what = if by_budget * 2 > objects {
            "MEMORY_BUDGET closed most of them: raise it, or let more consumers share the partitions"
        } else {
            "MAX_OBJECT_AGE closed most of them: raise it as far as records may wait, or give the topic fewer partitions"
        };
        let often = month(f64::from(objects - 1) / lasted, "");
        Some(format!(
            "the last {objects} objects have {average} bytes on average, where {} are allowed; at this rate that is {often}. {what}",
            self.limits.bytes
        ))
    }
}

/// What so many objects a second come to.
fn month(per_second: f64, of_what: &str) -> String {
    let objects = per_second * MONTH;
    format!("{objects:.0} objects a month{of_what}, about {:.2} USD in PUT requests", objects * USD_PER_PUT)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::Compression;

    const LIMITS: Limits = Limits { records: 50_000, bytes: 8 << 20, age: Duration::from_secs(60) };
    const LOG: Layout = Layout::Log(Compression::None);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn settings_that_make_small_objects_are_named_with_what_they_cost() {
        assert_eq!(warnings(&LIMITS, LOG), Vec::<String>::new());
        let tiny = Limits { records: 1, bytes: 1 << 10, age: Duration::from_secs(1) };
        assert_eq!(
            warnings(&tiny, LOG),
            [
                "MAX_OBJECT_AGE=1s makes up to 2592000 objects a month for each busy partition, about 12.96 USD in PUT requests; raise it unless records must be seen that soon",
                "MAX_OBJECT_RECORDS=1 makes 5.00 USD in PUT requests for a million records; raise it to 100 or more",
                "MAX_OBJECT_BYTES=1024 makes 5.24 USD in PUT requests for a GiB of records; raise it to 65536 or more",
            ]
        );
        assert!(warnings(&LIMITS, Layout::Record)[0].contains("5.00 USD"));
    }

    #[test]
    fn ten_small_ones_in_a_row_are_told_of_once_a_day() {
        let mut tiny = TinyObjects::new(LIMITS);
        for n in 0..9 {
            assert_eq!(tiny.stored(1_000, Closed::Age, at(n * 60)), None);
        }
        let told = tiny.stored(1_000, Closed::Age, at(9 * 60)).unwrap();
        assert!(
            told.contains("the last 10 objects have 1000 bytes on average, where 8388608 are allowed"),
            "{told}"
        );
        assert!(
            told.contains("43200 objects a month, about 0.22 USD") && told.contains("MAX_OBJECT_AGE"),
            "{told}"
        );
        let later: Vec<u64> =
            (10..3_000).filter(|n| tiny.stored(1_000, Closed::Age, at(n * 60)).is_some()).collect();
        assert_eq!(later.len(), 2, "{later:?}");
        assert!(later[0] * 60 >= 9 * 60 + AGAIN.as_secs());
    }

    #[test]
    fn one_large_object_breaks_the_row_and_ends_for_other_reasons_do_not_count() {
        let mut tiny = TinyObjects::new(LIMITS);
        for n in 0..100 {
            let bytes = if n % 9 == 8 { SMALL } else { 10 };
            assert_eq!(tiny.stored(bytes, Closed::Age, at(n)), None);
        }
        for n in 0..100 {
            assert_eq!(tiny.stored(10, Closed::Shutdown, at(n)), None);
        }
        let told = (0..20).find_map(|n| tiny.stored(10, Closed::Budget, at(n))).unwrap();
        assert!(told.contains("MEMORY_BUDGET"), "{told}");
    }

    #[test]
    fn where_small_objects_are_wanted_nobody_is_told() {
        let mut tiny = TinyObjects::new(Limits { bytes: SMALL, ..LIMITS });
        assert!((0..100).all(|n| tiny.stored(10, Closed::Age, at(n)).is_none()));
    }
}
