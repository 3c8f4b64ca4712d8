//! The recorded coins, and pages of them: which coins, in which order, with which rates.
//!
//! A coin's text is the recording's, byte for byte; only the digits of its rate are replaced, in place. Nothing
//! is parsed and written again, so what the pipeline meets is what the API really wrote: spaces, line breaks,
//! escapes, 17-digit numbers, members that are null or missing.

use std::ops::{Range, RangeInclusive};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::movement::{javascript, moved};

/// A hundred coins by rank, spring 2023, without symbols, supplies and links.
const PAGE: &str = include_str!("../../data/coins-list-100.json");
/// Bitcoin, Ethereum and XRP with every member, October 2025. They stand in for those three in the page.
const COMPLETE: &str = include_str!("../../data/coins-list-meta.json");

/// How far a price may move when the recording does not say how lively the coin is: 1 %.
const USUAL_AMPLITUDE: f64 = 0.01;

/// The body of `POST /coins/list` and, with `codes`, of `POST /coins/map`. Defaults are the API's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Query {
    pub(super) sort: Sort,
    pub(super) order: Order,
    pub(super) offset: usize,
    pub(super) limit: Option<usize>,
    pub(super) meta: bool,
    /// Only these coins. Codes that nobody has are left out of the answer.
    pub(super) codes: Option<Vec<String>>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sort {
    #[default]
    Rank,
    Price,
    Volume,
    Code,
    Name,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    #[default]
    Ascending,
    Descending,
}

/// Whether and where prices have moved.
#[derive(Debug, Clone, Copy)]
pub(super) enum Movement {
    /// As recorded, always.
    Fixed,
    /// As the seed has them at this tick.
    At { seed: u64, tick: u64 },
}

/// All recorded coins, by rank.
#[derive(Debug)]
pub(super) struct Recording {
    coins: Vec<Coin>,
}

#[derive(Debug)]
struct Coin {
    code: String,
    name: String,
    rank: u64,
    rate: f64,
    volume: f64,
    amplitude: f64,
    /// With every member (`meta: true`).
    full: Text,
    /// With `code`, `rate`, `volume`, `cap` and `delta` (`meta: false`).
    brief: Text,
}

/// A coin's JSON, and where in it the digits of the rate stand.
#[derive(Debug)]
struct Text {
    json: String,
    rate: Range<usize>,
}

/// The members that the API itself needs; the rest of a coin is opaque.
#[derive(Deserialize)]
struct Members<'a> {
    code: String,
    name: String,
    #[serde(borrow)]
    rank: &'a RawValue,
    #[serde(borrow)]
    rate: &'a RawValue,
    #[serde(borrow)]
    volume: &'a RawValue,
    #[serde(borrow)]
    cap: &'a RawValue,
    #[serde(borrow)]
    delta: &'a RawValue,
}

#[derive(Deserialize)]
struct Delta {
    day: Option<f64>,
}

impl Recording {
    /// Reads the recordings that are part of the program.
    ///
    /// # Errors
    /// When they are not what the API answers. They are compiled in, so a test is where that shows.
    pub(super) fn load() -> serde_json::Result<Self> {
        let page: Vec<&RawValue> = serde_json::from_str(PAGE)?;
        let complete = serde_json::from_str::<Vec<&RawValue>>(COMPLETE)?
            .into_iter()
            .map(|coin| Ok((coin.get(), serde_json::from_str::<Members<'_>>(coin.get())?)))
            .collect::<serde_json::Result<Vec<_>>>()?;
        let coins = page
            .into_iter()
            .map(|coin| {
                let members: Members<'_> = serde_json::from_str(coin.get())?;
                match complete.iter().find(|(_, richer)| richer.code == members.code) {
                    // The ranks of one page are one order: the coin keeps the page's.
                    Some((json, richer)) => {
                        Coin::new(splice(json, &place(json, richer.rank), members.rank.get()))
                    }
                    None => Coin::new(coin.get().to_owned()),
                }
            })
            .collect::<serde_json::Result<_>>()?;
        Ok(Self { coins })
    }

    /// The same without the coins of these ranks, which nobody can ask for any more.
    pub(super) fn without(mut self, ranks: &RangeInclusive<u64>) -> Self {
        self.coins.retain(|coin| !ranks.contains(&coin.rank));
        self
    }

    /// The page that answers `query`, as the API lays it out: an array, in the recording's own spacing.
    pub(super) fn page(&self, query: &Query, limit: usize, movement: Movement) -> String {
        let mut coins: Vec<(&Coin, f64)> = self
            .coins
            .iter()
            .filter(|coin| query.codes.as_ref().is_none_or(|codes| codes.contains(&coin.code)))
            .map(|coin| (coin, coin.rate_at(movement)))
            .collect();
        match query.sort {
            Sort::Rank => coins.sort_by_key(|(coin, _)| coin.rank),
            Sort::Price => coins.sort_by(|a, b| a.1.total_cmp(&b.1)),
            Sort::Volume => coins.sort_by(|a, b| a.0.volume.total_cmp(&b.0.volume)),
            Sort::Code => coins.sort_by(|a, b| a.0.code.cmp(&b.0.code)),
            Sort::Name => coins.sort_by(|a, b| a.0.name.cmp(&b.0.name)),
        }
        if matches!(query.order, Order::Descending) {
            coins.reverse();
        }
        let texts: Vec<String> = coins
            .into_iter()
            .skip(query.offset)
            .take(limit)
            .map(|(coin, rate)| {
                let text = if query.meta { &coin.full } else { &coin.brief };
                match movement {
                    Movement::Fixed => text.json.clone(),
                    Movement::At { .. } => splice(&text.json, &text.rate, &javascript(rate)),
                }
            })
            .collect();
        if texts.is_empty() { "[]".to_owned() } else { format!("[\n {}\n]", texts.join(",\n ")) }
    }
}

impl Coin {
    fn new(json: String) -> serde_json::Result<Self> {
        let members: Members<'_> = serde_json::from_str(&json)?;
        let brief = format!(
            r#"{{"code":{},"rate":{},"volume":{},"cap":{},"delta":{}}}"#,
            serde_json::to_string(&members.code)?,
            members.rate,
            members.volume,
            members.cap,
            members.delta,
        );
        let delta: Delta = serde_json::from_str(members.delta.get())?;
        Ok(Self {
            rank: serde_json::from_str(members.rank.get())?,
            rate: serde_json::from_str(members.rate.get())?,
            volume: serde_json::from_str(members.volume.get())?,
            // A stable coin stays stable: a coin moves about as far as it did on the recorded day.
            amplitude: delta.day.map_or(USUAL_AMPLITUDE, |day| (day - 1.0).abs().clamp(0.0005, 0.05)),
            code: members.code,
            name: members.name,
            brief: Text::new(brief)?,
            full: Text { rate: place(&json, members.rate), json },
        })
    }

    fn rate_at(&self, movement: Movement) -> f64 {
        match movement {
            Movement::Fixed => self.rate,
            Movement::At { seed, tick } => moved(self.rate, self.amplitude, seed, &self.code, tick),
        }
    }
}

impl Text {
    fn new(json: String) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Rate<'a> {
            #[serde(borrow)]
            rate: &'a RawValue,
        }
        let rate = place(&json, serde_json::from_str::<Rate<'_>>(&json)?.rate);
        Ok(Self { json, rate })
    }
}

/// Where in `json` the value stands that was borrowed from it.
fn place(json: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr() as usize - json.as_ptr() as usize;
    start..start + value.get().len()
}

fn splice(json: &str, place: &Range<usize>, digits: &str) -> String {
    format!("{}{digits}{}", &json[..place.start], &json[place.end..])
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const MOVING: Movement = Movement::At { seed: 1, tick: 5 };

    fn page(query: Query, movement: Movement) -> Vec<Value> {
        let limit = query.limit.unwrap_or(10);
        serde_json::from_str(&Recording::load().unwrap().page(&query, limit, movement)).unwrap()
    }

    fn codes(coins: &[Value]) -> Vec<&str> {
        coins.iter().map(|coin| coin["code"].as_str().unwrap()).collect()
    }

    #[test]
    fn fixed_coins_are_the_recorded_bytes() {
        let query = Query { meta: true, ..Query::default() };
        let text = Recording::load().unwrap().page(&query, 100, Movement::Fixed);
        let recorded: Vec<&RawValue> = serde_json::from_str(PAGE).unwrap();
        let replaced = recorded.iter().filter(|coin| !text.contains(coin.get())).count();
        assert_eq!(replaced, 3, "Bitcoin, Ethereum and XRP come from the complete recording");
        assert!(text.contains(r#""symbol":"₿","rank":1,"age":6117"#));
        assert!(text.contains("2.4980008270697834e-9"));
    }

    #[test]
    fn a_move_changes_the_rate_and_nothing_else() {
        let query = || Query { meta: true, limit: Some(100), ..Query::default() };
        let mut changed = 0;
        for (mut fixed, mut moved) in page(query(), Movement::Fixed).into_iter().zip(page(query(), MOVING)) {
            let (before, after) = (fixed["rate"].take(), moved["rate"].take());
            changed += usize::from(before != after);
            assert_eq!(fixed, moved);
        }
        assert_eq!(changed, 100);
    }

    #[test]
    fn ranks_stay_those_of_the_page() {
        let coins = page(Query { meta: true, limit: Some(100), ..Query::default() }, MOVING);
        let ranks: Vec<u64> = coins.iter().map(|coin| coin["rank"].as_u64().unwrap()).collect();
        assert_eq!(ranks, (1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn coins_of_ranks_that_are_left_out_are_nowhere_and_the_others_stay_as_they_are() {
        let query = || Query { meta: true, ..Query::default() };
        let whole = Recording::load().unwrap().page(&query(), 100, MOVING);
        let less = Recording::load().unwrap().without(&(41..=79)).page(&query(), 50, MOVING);
        let coins: Vec<Value> = serde_json::from_str(&less).unwrap();
        let ranks: Vec<u64> = coins.iter().map(|coin| coin["rank"].as_u64().unwrap()).collect();
        assert_eq!(ranks, (1..=40).chain(80..=89).collect::<Vec<_>>());
        let texts: Vec<&RawValue> = serde_json::from_str(&less).unwrap();
        assert!(texts.iter().all(|coin| whole.contains(coin.get())));
        let asked = Query { codes: Some(vec!["BTC".to_owned(), "_STX".to_owned()]), ..query() };
        let left = Recording::load().unwrap().without(&(41..=79)).page(&asked, 100, MOVING);
        assert_eq!(codes(&serde_json::from_str::<Vec<Value>>(&left).unwrap()), ["BTC"]);
    }

    #[test]
    fn pages_follow_each_other_and_end() {
        let at = |offset| page(Query { offset, limit: Some(40), ..Query::default() }, MOVING);
        assert_eq!((at(0).len(), at(40).len(), at(80).len(), at(120).len()), (40, 40, 20, 0));
        assert_eq!(codes(&at(0))[..2], ["BTC", "ETH"]);
    }

    #[test]
    fn brief_coins_have_five_members() {
        let coins = page(Query::default(), MOVING);
        let members: Vec<_> = coins[0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members.len(), 5);
        assert!(["code", "rate", "volume", "cap", "delta"].iter().all(|name| members.contains(name)));
    }

    #[test]
    fn sorts_and_orders_as_asked() {
        let dearest = page(Query { sort: Sort::Price, order: Order::Descending, ..Query::default() }, MOVING);
        assert_eq!(codes(&dearest)[0], "BTC");
        let first = page(Query { sort: Sort::Code, ..Query::default() }, MOVING);
        assert!(codes(&first).is_sorted());
    }

    #[test]
    fn a_watch_list_brings_its_coins_alone() {
        let wanted = Some(vec!["XRP".to_owned(), "BTC".to_owned(), "NOBODY".to_owned()]);
        let coins = page(Query { codes: wanted, ..Query::default() }, MOVING);
        assert_eq!(codes(&coins), ["BTC", "XRP"]);
    }
}
