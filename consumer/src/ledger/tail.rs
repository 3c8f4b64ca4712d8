//! Finds the last object of a chain without listing all of them.
//!
//! Names are numbers of a fixed width, so "the greatest name" can be searched: look a growing step ahead
//! until nothing follows, then halve what is left. A chain of a million objects takes some forty listings of one
//! page each instead of a thousand.
//!
//! The search decides; whoever runs it asks the store for [`Search::next`] and hands back the answer.

/// The state of one search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Names before this number are not looked at.
    first: i64,
    /// The greatest name seen.
    last: Option<i64>,
    /// No name is at or behind this number.
    end: Option<i64>,
    /// How far ahead to look next.
    step: i64,
    done: bool,
}

/// What a page of names told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The greatest name on the page, if it had any.
    pub last: Option<i64>,
    /// Whether names follow behind the page.
    pub more: bool,
}

impl Search {
    /// A search over all names from `first` on: 0, or a number that the greatest name is known to be at or behind.
    #[must_use]
    pub const fn from(first: i64) -> Self {
        Self { first, last: None, end: None, step: 1, done: false }
    }

    /// The number from which on (inclusive) a page of names is wanted; `None` when the search is over.
    #[must_use]
    pub fn next(&self) -> Option<i64> {
        if self.done {
            return None;
        }
        let Some(last) = self.last else { return Some(self.first) };
        Some(match self.end {
            None => last.saturating_add(self.step),
            Some(end) => last + 1 + (end - last - 1) / 2,
        })
    }

    /// Takes in the page of names at or behind `from`, which [`Search::next`] asked for.
    pub fn seen(&mut self, from: i64, page: Seen) {
        match page.last {
            Some(last) => {
                // The farther a page reached, the farther the next look goes.
                let reached = last - self.last.unwrap_or(from);
                self.step = self.step.max(reached).saturating_mul(2);
                self.last = Some(last);
                self.done = !page.more;
            }
            None => {
                self.end = Some(from);
                self.done = self.last.is_none_or(|last| from <= last + 1);
            }
        }
    }

    /// The greatest name, once the search is over; `None` where there are no names.
    #[must_use]
    pub const fn found(&self) -> Option<i64> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Runs a search over `names` with pages of `size`; the greatest name and how many pages it took.
    fn search(names: &BTreeSet<i64>, size: usize) -> (Option<i64>, usize) {
        let mut search = Search::from(0);
        let mut pages = 0;
        while let Some(from) = search.next() {
            let page: Vec<i64> = names.range(from..).take(size + 1).copied().collect();
            search.seen(
                from,
                Seen { last: page.iter().take(size).next_back().copied(), more: page.len() > size },
            );
            pages += 1;
            assert!(pages < 500, "the search does not end");
        }
        (search.found(), pages)
    }

    #[test]
    fn no_names_take_one_page() {
        assert_eq!(search(&BTreeSet::new(), 1000), (None, 1));
    }

    #[test]
    fn a_short_chain_takes_one_page() {
        assert_eq!(search(&(0..999).map(|n| n * 50).collect(), 1000), (Some(998 * 50), 1));
    }

    #[test]
    fn a_million_objects_take_few_pages() {
        let names: BTreeSet<i64> = (0..1_000_000).map(|n| n * 50_000).collect();
        let (found, pages) = search(&names, 1000);
        assert_eq!(found, Some(999_999 * 50_000));
        assert!(pages < 60, "{pages}");
    }

    #[test]
    fn the_greatest_possible_names_are_found() {
        assert_eq!(search(&[0, i64::MAX].into(), 1).0, Some(i64::MAX));
        assert_eq!(search(&[i64::MAX].into(), 1).0, Some(i64::MAX));
        assert_eq!(search(&[0, i64::MAX - 1].into(), 1).0, Some(i64::MAX - 1));
    }

    #[test]
    fn a_search_from_a_known_place_looks_at_nothing_before_it() {
        let mut search = Search::from(500);
        assert_eq!(search.next(), Some(500));
        search.seen(500, Seen { last: None, more: false });
        assert_eq!((search.next(), search.found()), (None, None));
    }

    proptest! {
        #[test]
        fn the_greatest_name_is_found(names in prop::collection::btree_set(prop_oneof![0i64..2_000, 0..i64::MAX], 0..60), size in 1usize..6) {
            prop_assert_eq!(search(&names, size).0, names.last().copied());
        }
    }
}
