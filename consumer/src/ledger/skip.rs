//! Offsets that were stepped over, and why: on record in objects, and beside the group's offset until an
//! object has them.
//!
//! A list is written `20-50:reset,60-80:retention`: half-open ranges, ascending, none over another.

use std::fmt;

use super::number;

/// Why offsets were stepped over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// `AUTO_OFFSET_RESET` said where reading starts.
    Reset,
    /// The log no longer had them.
    Retention,
    /// Somebody else committed an offset for the group, and was obeyed.
    ForeignCommit,
}

impl SkipReason {
    pub(crate) const ALL: [Self; 3] = [Self::Reset, Self::Retention, Self::ForeignCommit];

    /// The word in the metadata.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Retention => "retention",
            Self::ForeignCommit => "foreign-commit",
        }
    }
}

/// Offsets `from..to` were stepped over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skip {
    /// The first of them.
    pub from: i64,
    /// The offset after the last of them.
    pub to: i64,
    /// Why.
    pub reason: SkipReason,
}

impl Skip {
    /// A list as it is written.
    #[must_use]
    pub fn list(skips: &[Self]) -> String {
        let ranges: Vec<String> = skips.iter().map(ToString::to_string).collect();
        ranges.join(",")
    }

    /// Reads what [`Skip::list`] wrote of one range or more.
    ///
    /// # Errors
    /// What is wrong with it: a range that is none, that is empty, that begins before the end of the one before
    /// it, or a reason that this version does not know.
    pub fn read_list(text: &str) -> Result<Vec<Self>, String> {
        let mut end = 0;
        let read = |range: &str| {
            let skip = Self::read(range)?;
            if skip.from < end {
                return Err(format!("{range:?} begins before {end}"));
            }
            end = skip.to;
            Ok(skip)
        };
        text.split(',').map(read).collect()
    }

    fn read(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(range, reason)| {
            let (from, to) = range.split_once('-')?;
            Some((number::offset(from)?, number::offset(to)?, reason))
        });
        let (from, to, reason) = parts.ok_or_else(|| format!("{text:?} is no range"))?;
        if to <= from {
            return Err(format!("{text:?} is empty"));
        }
        let known = SkipReason::ALL.into_iter().find(|known| known.name() == reason);
        let reason = known.ok_or_else(|| format!("{reason:?} is no reason that is known"))?;
        Ok(Self { from, to, reason })
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}:{}", self.from, self.to, self.reason.name())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Up to `most` ranges as they may stand in a list, no range over another.
    pub(in crate::ledger) fn any_list(most: usize) -> impl Strategy<Value = Vec<Skip>> {
        let range = (0i64..1 << 50, 1i64..1 << 50, prop::sample::select(SkipReason::ALL.to_vec()));
        prop::collection::vec(range, 0..=most).prop_map(|ranges| {
            let mut end = 0;
            let place = |(gap, length, reason)| {
                let from = end + gap;
                end = from + length;
                Skip { from, to: end, reason }
            };
            ranges.into_iter().map(place).collect()
        })
    }

    #[test]
    fn a_list_is_the_contracts() {
        let skips = [
            Skip { from: 20, to: 50, reason: SkipReason::Reset },
            Skip { from: 60, to: 80, reason: SkipReason::Retention },
            Skip { from: 80, to: 81, reason: SkipReason::ForeignCommit },
        ];
        let text = "20-50:reset,60-80:retention,80-81:foreign-commit";
        assert_eq!((Skip::list(&skips).as_str(), Skip::read_list(text)), (text, Ok(skips.to_vec())));
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (text, problem) in [
            ("", "\"\" is no range"),
            ("20-50:reset,", "\"\" is no range"),
            ("20-50", "\"20-50\" is no range"),
            ("-20-50:reset", "\"-20-50:reset\" is no range"),
            ("20-+50:reset", "\"20-+50:reset\" is no range"),
            ("20-50 :reset", "\"20-50 :reset\" is no range"),
            ("50-50:reset", "\"50-50:reset\" is empty"),
            ("20-50:boredom", "\"boredom\" is no reason that is known"),
            ("20-50:reset,49-60:reset", "\"49-60:reset\" begins before 50"),
            ("60-80:reset,20-50:reset", "\"20-50:reset\" begins before 80"),
        ] {
            assert_eq!(Skip::read_list(text), Err(problem.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_as_it_is_written_or_none(text in "\\PC*|[0-9]{1,3}-[0-9]{1,3}:(reset|retention|x)(,[0-9]{1,3}-[0-9]{1,3}:reset)*") {
            if let Ok(skips) = Skip::read_list(&text) {
                prop_assert_eq!(Skip::list(&skips), text);
            }
        }

        #[test]
        fn a_list_is_read_back(skips in any_list(32)) {
            if !skips.is_empty() {
                prop_assert_eq!(Skip::read_list(&Skip::list(&skips)), Ok(skips));
            }
        }
    }
}
