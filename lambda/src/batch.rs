//! The rows of one object, sorted out by table, in portions that fit into memory.
//!
//! ```text
//! lines --> Window:  so many rows of prices, and what was rejected; written, then the next
//!       `-> Newest:  of each coin its newest row, kept to the object's end
//! ```
//!
//! DynamoDB refuses a batch that names a key twice: of lines with the same code and timestamp in a window the last one
//! stays, as it does in the table where windows follow each other. Of a coin only its newest row is worth a request,
//! the last of several equally new ones.

use std::collections::HashMap;

use crate::{
    attribute::{self, Item},
    row::{Rejected, Rows},
};

/// How many lines a window takes, and how many bytes of them.
const WINDOW_LINES: usize = 2_500;
const WINDOW_BYTES: usize = 1 << 20;
/// How many bytes of coins are kept, as DynamoDB counts them: some 6,000 coins, which take several times as much here.
const NEWEST_BYTES: usize = 4 << 20;

/// Some lines' rows of `prices`, and what can't be rows.
#[derive(Debug, Default)]
pub struct Window {
    /// Rows of `prices`, in the order of their lines, no two with the same key.
    pub prices: Vec<Item>,
    /// Lines that can't be rows.
    pub rejected: Vec<Rejected>,
    places: HashMap<(String, String), usize>,
    lines: usize,
    bytes: usize,
}

impl Window {
    /// Adds a line of so many bytes.
    pub fn add(&mut self, line: Result<Rows, Rejected>, bytes: usize, newest: &mut Newest) {
        self.lines += 1;
        self.bytes += bytes;
        match line {
            Ok(Rows { code, timestamp, updated_at, prices, coins }) => {
                newest.add(&code, Coin { updated_at, item: coins });
                match self.places.get(&(code.clone(), timestamp.clone())) {
                    Some(place) => self.prices[*place] = prices,
                    None => {
                        self.places.insert((code, timestamp), self.prices.len());
                        self.prices.push(prices);
                    }
                }
            }
            Err(rejected) => self.rejected.push(rejected),
        }
    }

    /// Whether it has to be written before another line is added.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.lines >= WINDOW_LINES || self.bytes >= WINDOW_BYTES
    }
}

/// The newest row of each coin.
#[derive(Debug, Default)]
pub struct Newest {
    coins: HashMap<String, Coin>,
    bytes: usize,
}

impl Newest {
    fn add(&mut self, code: &str, coin: Coin) {
        match self.coins.get_mut(code) {
            Some(known) if known.updated_at > coin.updated_at => {}
            Some(known) => {
                self.bytes = self.bytes + attribute::size(&coin.item) - attribute::size(&known.item);
                *known = coin;
            }
            None => {
                self.bytes += attribute::size(&coin.item);
                self.coins.insert(code.to_owned(), coin);
            }
        }
    }

    /// The coins, where there are too many to keep. Putting them early is harmless: an older one never replaces a
    /// newer one.
    pub fn take_if_full(&mut self) -> Vec<Coin> {
        if self.bytes >= NEWEST_BYTES { self.take() } else { Vec::new() }
    }

    /// The coins, in no order.
    pub fn take(&mut self) -> Vec<Coin> {
        std::mem::take(self).coins.into_values().collect()
    }
}

/// A row of `coins`.
#[derive(Debug, Clone, PartialEq)]
pub struct Coin {
    /// The row's `updatedAt`.
    pub updated_at: String,
    /// The row.
    pub item: Item,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row;

    fn rows(code: &str, timestamp: &str, rate: u32) -> Rows {
        let line = format!(r#"{{"code":"{code}","timestamp":"{timestamp}","id":"i","rate":{rate}}}"#);
        row::read(line.as_bytes()).unwrap()
    }

    fn rate(item: &Item) -> &str {
        item["rate"].as_n().unwrap()
    }

    fn sorted_out(rows: impl IntoIterator<Item = Rows>) -> (Window, Newest) {
        let (mut window, mut newest) = (Window::default(), Newest::default());
        for rows in rows {
            window.add(Ok(rows), 100, &mut newest);
        }
        (window, newest)
    }

    #[test]
    fn the_same_key_is_sent_once_with_the_last_lines_row() {
        let (window, _) = sorted_out([
            rows("BTC", "2026-11-23T10:05:00.000Z", 1),
            rows("ETH", "2026-11-23T10:05:00.000Z", 2),
            rows("BTC", "2026-11-23T10:10:00.000Z", 3),
            rows("BTC", "2026-11-23T10:05:00.000Z", 4),
        ]);
        assert_eq!(window.prices.iter().map(rate).collect::<Vec<_>>(), ["4", "2", "3"]);
    }

    #[test]
    fn of_a_coin_only_the_newest_row_is_sent() {
        let (_, mut newest) = sorted_out([
            rows("BTC", "2026-11-23T10:10:00.000Z", 1),
            rows("BTC", "2026-11-23T10:05:00.000Z", 2),
            rows("ETH", "2026-11-23T10:05:00.000Z", 3),
            // The same instant, written in another way: as new, and later in the log.
            rows("ETH", "2026-11-23T11:05:00+01:00", 4),
        ]);
        let mut coins = newest.take();
        coins.sort_by_key(|coin| coin.item["code"].as_s().unwrap().clone());
        assert_eq!(coins.iter().map(|coin| rate(&coin.item)).collect::<Vec<_>>(), ["1", "4"]);
    }

    #[test]
    fn a_window_is_full_after_so_many_lines_or_bytes() {
        let mut newest = Newest::default();
        let mut window = Window::default();
        for number in 0..WINDOW_LINES {
            assert!(!window.is_full(), "{number}");
            window.add(Ok(rows("BTC", "2026-11-23T10:05:00.000Z", 1)), 1, &mut newest);
        }
        assert!(window.is_full());
        let mut window = Window::default();
        window.add(Ok(rows("BTC", "2026-11-23T10:05:00.000Z", 1)), WINDOW_BYTES, &mut newest);
        assert!(window.is_full());
    }

    #[test]
    fn coins_are_handed_out_early_when_there_are_too_many() {
        let name = "x".repeat(100_000);
        let (mut window, mut newest) = (Window::default(), Newest::default());
        let mut handed_out = 0;
        for number in 0..100 {
            let line = format!(
                r#"{{"code":"C{number}","timestamp":"2026-11-23T10:05:00Z","id":"i","name":"{name}"}}"#
            );
            window.add(Ok(row::read(line.as_bytes()).unwrap()), 1, &mut newest);
            handed_out += newest.take_if_full().len();
        }
        assert_eq!(handed_out, 84);
        assert_eq!(newest.take().len(), 16);
    }
}
