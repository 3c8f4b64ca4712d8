//! The coins of one run become the records of one run.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use coinduit_common::{clock, event_id};

use crate::page::{Coin, Page, Rejected};

/// All coins of one run, over all its pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coins {
    coins: Vec<Coin>,
    seen: HashSet<String>,
    rejected: Vec<Rejected>,
    repeated: usize,
}

impl CoinRecord {
    /// Its header `id`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.headers[0].1
    }
}

impl Coins {
    /// Adds the page that begins at `offset` of the whole list. A coin that came before is left out, and
    /// counted: ranks shift between two questions.
    pub fn add(&mut self, offset: usize, page: Page) {
        for coin in page.coins {
            if self.seen.insert(coin.code.clone()) {
                self.coins.push(coin);
            } else {
                self.repeated += 1;
            }
        }
        let moved = page
            .rejected
            .into_iter()
            .map(|rejected| Rejected { position: offset + rejected.position, ..rejected });
        self.rejected.extend(moved);
    }

    /// What was no coin, with its position in the whole list.
    #[must_use]
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// How many coins came more than once.
    #[must_use]
    pub const fn repeated(&self) -> usize {
        self.repeated
    }

    /// Leaves out what nobody asked for; returns how many coins that were.
    pub fn keep_only(&mut self, codes: &[String]) -> usize {
        let wanted: HashSet<&String> = codes.iter().collect();
        let before = self.coins.len();
        self.coins.retain(|coin| wanted.contains(&coin.code));
        before - self.coins.len()
    }

    /// Which of `codes` no page had.
    #[must_use]
    pub fn missing(&self, codes: &[String]) -> Vec<String> {
        codes.iter().filter(|code| !self.seen.contains(*code)).cloned().collect()
    }

    /// How many coins there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.coins.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.coins.is_empty()
    }

    /// One record per coin, all of one instant.
    #[must_use]
    pub fn into_records(
        self,
        source: &'static str,
        currency: &str,
        fetched_at: DateTime<Utc>,
    ) -> Vec<CoinRecord> {
        let at = clock::rfc3339(fetched_at);
        let record = |coin: Coin| {
            let id = event_id::of_price(source, currency, &coin.code, &at).to_string();
            let headers = [
                ("id", id),
                ("source", source.to_owned()),
                ("currency", currency.to_owned()),
                ("fetched_at", at.clone()),
            ];
            CoinRecord { key: coin.code, value: coin.json, timestamp: fetched_at, headers }
        };
        self.coins.into_iter().map(record).collect()
    }
}

/// One coin's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoinRecord {
    /// The code, which places it.
    pub key: String,
    /// The coin's JSON object.
    pub value: Vec<u8>,
    /// The run's instant.
    pub timestamp: DateTime<Utc>,
    /// `id`, `source`, `currency`, `fetched_at`.
    pub headers: [(&'static str, String); 4],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(codes: &[&str]) -> Page {
        Page {
            coins: codes.iter().map(|code| Coin { code: (*code).to_owned(), json: b"{}".to_vec() }).collect(),
            rejected: vec![Rejected { position: 1, problem: "p".to_owned() }],
        }
    }

    #[test]
    fn a_coin_that_moved_to_the_next_page_is_taken_once() {
        let mut coins = Coins::default();
        coins.add(0, page(&["A", "B"]));
        coins.add(100, page(&["B", "C"]));
        assert_eq!((coins.len(), coins.repeated()), (3, 1));
        assert_eq!(coins.rejected().iter().map(|rejected| rejected.position).collect::<Vec<_>>(), [1, 101]);
        let keys: Vec<String> = coins
            .into_records("livecoinwatch", "USD", DateTime::default())
            .into_iter()
            .map(|record| record.key)
            .collect();
        assert_eq!(keys, ["A", "B", "C"]);
    }

    #[test]
    fn a_watch_list_is_held_against_what_came() {
        let codes = ["A", "C", "X"].map(str::to_owned);
        let mut coins = Coins::default();
        coins.add(0, page(&["A", "B", "C"]));
        assert_eq!(coins.missing(&codes), ["X"]);
        assert_eq!((coins.keep_only(&codes), coins.len()), (1, 2));
    }

    #[test]
    fn headers_are_the_contracts() {
        let at = DateTime::from_timestamp_millis(1_795_428_300_000).unwrap();
        let mut coins = Coins::default();
        coins.add(0, page(&["BTC"]));
        let record = coins.into_records("livecoinwatch", "USD", at).remove(0);
        let headers: Vec<(&str, &str)> =
            record.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(
            headers,
            [
                ("id", "99e88ed2-bdb0-5697-9bdc-950a549b86ed"),
                ("source", "livecoinwatch"),
                ("currency", "USD"),
                ("fetched_at", "2026-11-23T10:05:00.000Z")
            ]
        );
    }
}
