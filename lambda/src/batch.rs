//! The rows of one object, without those that need not be sent.
//!
//! DynamoDB refuses a batch that names a key twice: of lines with the same code and timestamp the last one
//! stays. Of a coin only its newest row is worth a request, the last of several equally new ones.

use std::collections::HashMap;

use crate::{attribute::Item, row::Rows};

/// The rows of one object, sorted out by table.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    /// Rows of `prices`, in the order of their lines.
    pub prices: Vec<Item>,
    /// Rows of `coins`, in no order.
    pub coins: Vec<Coin>,
}

impl Batch {
    /// Sorts out the rows of lines in their order.
    #[must_use]
    pub fn of(lines: impl IntoIterator<Item = Rows>) -> Self {
        let mut prices: Vec<Item> = Vec::new();
        let mut places: HashMap<(String, String), usize> = HashMap::new();
        let mut newest: HashMap<String, Coin> = HashMap::new();
        for Rows { code, timestamp, updated_at, prices: price, coins: item } in lines {
            match places.get(&(code.clone(), timestamp.clone())) {
                Some(place) => prices[*place] = price,
                None => {
                    places.insert((code.clone(), timestamp), prices.len());
                    prices.push(price);
                }
            }
            if newest.get(&code).is_none_or(|known| known.updated_at <= updated_at) {
                newest.insert(code, Coin { updated_at, item });
            }
        }
        Self { prices, coins: newest.into_values().collect() }
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

    #[test]
    fn the_same_key_is_sent_once_with_the_last_lines_row() {
        let batch = Batch::of([
            rows("BTC", "2026-11-23T10:05:00.000Z", 1),
            rows("ETH", "2026-11-23T10:05:00.000Z", 2),
            rows("BTC", "2026-11-23T10:10:00.000Z", 3),
            rows("BTC", "2026-11-23T10:05:00.000Z", 4),
        ]);
        assert_eq!(batch.prices.iter().map(rate).collect::<Vec<_>>(), ["4", "2", "3"]);
    }

    #[test]
    fn of_a_coin_only_the_newest_row_is_sent() {
        let mut coins = Batch::of([
            rows("BTC", "2026-11-23T10:10:00.000Z", 1),
            rows("BTC", "2026-11-23T10:05:00.000Z", 2),
            rows("ETH", "2026-11-23T10:05:00.000Z", 3),
            // The same instant, written in another way: as new, and later in the log.
            rows("ETH", "2026-11-23T11:05:00+01:00", 4),
        ])
        .coins;
        coins.sort_by_key(|coin| coin.item["code"].as_s().unwrap().clone());
        assert_eq!(coins.iter().map(|coin| rate(&coin.item)).collect::<Vec<_>>(), ["1", "4"]);
    }
}
