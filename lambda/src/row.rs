//! One line of an object becomes one row of each table, or the reason why not.
//!
//! ```text
//! line --one pass--> members by name --as they are--> prices: one row per coin and fetch
//!                                    `-------------> coins:  one row per coin, for the newest fetch
//! ```
//!
//! Nothing is computed: numbers are the API's literals, missing members are left out, null members are
//! NULL. Members that no table has are ignored, whatever is in them.

use std::{fmt, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Datelike, Utc};
use coinduit_common::clock;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    attribute::{self, Item, Unstorable},
    cutter::MAX_LINE_BYTES,
};

/// The largest item that DynamoDB stores: 400 KB, names and overheads included.
const MAX_ITEM_BYTES: usize = 400 * 1024;
/// The longest partition key. `code` is one, and so may `id` be.
const MAX_PARTITION_KEY_BYTES: usize = 2048;
/// The longest sort key.
const MAX_SORT_KEY_BYTES: usize = 1024;
/// When DynamoDB may remove a row of `prices`, where that was asked for.
pub const EXPIRES_AT: &str = "expiresAt";
/// The currency whose rows carry the coin's bare code.
const HOME_CURRENCY: &str = "USD";

/// Which table's rows have a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum In {
    Prices,
    Coins,
    Both,
}

/// Every member that a table has.
const MEMBERS: [(&str, In); 25] = [
    ("code", In::Both),
    ("timestamp", In::Prices),
    ("id", In::Prices),
    ("currency", In::Both),
    ("name", In::Both),
    ("symbol", In::Coins),
    ("rank", In::Coins),
    ("age", In::Coins),
    ("exchanges", In::Both),
    ("markets", In::Both),
    ("pairs", In::Coins),
    ("rate", In::Both),
    ("volume", In::Both),
    ("cap", In::Both),
    ("allTimeHighUSD", In::Coins),
    ("circulatingSupply", In::Both),
    ("totalSupply", In::Both),
    ("maxSupply", In::Both),
    ("delta", In::Coins),
    ("categories", In::Coins),
    ("links", In::Coins),
    ("png32", In::Coins),
    ("png64", In::Coins),
    ("webp32", In::Coins),
    ("webp64", In::Coins),
];

/// What one line is in the tables.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// The key `code` of both tables: the coin's code, `{code}:{currency}` where the currency is not USD.
    pub code: String,
    /// The sort key of `prices`: the line's `timestamp` as it stands there.
    pub timestamp: String,
    /// The same instant in UTC with milliseconds, so that text order is time order.
    pub updated_at: String,
    /// The row of `prices`.
    pub prices: Item,
    /// The row of `coins`.
    pub coins: Item,
}

impl Rows {
    /// Adds to the row of `prices` when DynamoDB may remove it: so long after its timestamp, in seconds since the epoch.
    #[must_use]
    pub fn expiring_after(mut self, life: Duration) -> Self {
        let life = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        if let Ok(at) = DateTime::parse_from_rfc3339(&self.updated_at) {
            let end = at.timestamp().saturating_add(life);
            self.prices.insert(EXPIRES_AT.to_owned(), AttributeValue::N(end.to_string()));
        }
        self
    }
}

/// A line that can't be rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its number in the object, from 1.
    pub line: usize,
    /// Why.
    pub reason: Reason,
    /// Its bytes, without the line break; of a line that is too long, the beginning.
    pub raw: Vec<u8>,
}

/// Why a line can't be rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// More than anything that could be stored of it.
    #[error("the line has {0} bytes, {MAX_LINE_BYTES} are read at most; only its beginning is kept here")]
    TooLong(u64),
    /// Text in another encoding, or no text at all.
    #[error("the line is not UTF-8 (first wrong byte at {0})")]
    NotUtf8(usize),
    /// With the parser's word on where and why.
    #[error("the line is not a JSON object ({0})")]
    NotAnObject(String),
    /// A row needs `code`, `timestamp` and `id`.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A key, or the currency, has to be a string.
    #[error("{0} is not a string")]
    NotAString(&'static str),
    /// DynamoDB has no empty keys.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// Which of the two is meant is anyone's guess.
    #[error("{0} is there twice")]
    Twice(&'static str),
    /// Which of two prices is newer could not be told.
    #[error("timestamp {0:?} is not RFC 3339 with an offset")]
    Timestamp(String),
    /// A value that DynamoDB refuses or would round.
    #[error(transparent)]
    Value(#[from] Unstorable),
    /// DynamoDB has a limit for keys.
    #[error("{member} has {bytes} bytes, as a key it may have {limit}")]
    LongKey {
        /// Which key.
        member: &'static str,
        /// Its length.
        bytes: usize,
        /// DynamoDB's limit.
        limit: usize,
    },
    /// DynamoDB has a limit for whole rows.
    #[error("the row of {table} has {bytes} bytes, DynamoDB holds {MAX_ITEM_BYTES}")]
    LargeItem {
        /// Which table's.
        table: &'static str,
        /// Its size, as DynamoDB counts.
        bytes: usize,
    },
}

/// The rows of one line.
///
/// # Errors
/// The first reason why it can't be any. A line is stored in both tables or in none.
pub fn read(line: &[u8]) -> Result<Rows, Reason> {
    let text = std::str::from_utf8(line).map_err(|error| Reason::NotUtf8(error.valid_up_to()))?;
    let found = Found::scan(text)?;

    let code = found.key("code")?;
    let timestamp = found.key("timestamp")?;
    let id = found.key("id")?;
    let code = match found.text("currency")? {
        Some(currency) if currency != HOME_CURRENCY => format!("{code}:{currency}"),
        _ => code,
    };
    let updated_at =
        instant(&timestamp).ok_or_else(|| Reason::Timestamp(timestamp.chars().take(64).collect()))?;
    for (member, key, limit) in [
        ("code", &code, MAX_PARTITION_KEY_BYTES),
        ("id", &id, MAX_PARTITION_KEY_BYTES),
        ("timestamp", &timestamp, MAX_SORT_KEY_BYTES),
    ] {
        if key.len() > limit {
            return Err(Reason::LongKey { member, bytes: key.len(), limit });
        }
    }

    let mut prices = Item::new();
    let mut coins = Item::new();
    for ((name, place), json) in MEMBERS.into_iter().zip(found.0) {
        let Some(json) = json else { continue };
        let value = attribute::attribute(name, json)?;
        match place {
            In::Prices => prices.insert(name.to_owned(), value),
            In::Coins => coins.insert(name.to_owned(), value),
            In::Both => {
                prices.insert(name.to_owned(), value.clone());
                coins.insert(name.to_owned(), value)
            }
        };
    }
    prices.insert("code".to_owned(), AttributeValue::S(code.clone()));
    coins.insert("code".to_owned(), AttributeValue::S(code.clone()));
    coins.insert("updatedAt".to_owned(), AttributeValue::S(updated_at.clone()));
    if matches!(coins.get("symbol"), None | Some(AttributeValue::Null(_))) {
        coins.insert("symbol".to_owned(), AttributeValue::S("N/A".to_owned()));
    }
    for (table, item) in [("prices", &prices), ("coins", &coins)] {
        let bytes = attribute::size(item);
        if bytes > MAX_ITEM_BYTES {
            return Err(Reason::LargeItem { table, bytes });
        }
    }
    Ok(Rows { code, timestamp, updated_at, prices, coins })
}

/// The instant `timestamp` as Coinduit writes them, which leaves ours as they are, byte for byte.
///
/// The table compares `updatedAt` as text, and only text of one form is in the order of time. That is why
/// not even `10:05:00Z` is kept: as text it comes after `10:05:00.500Z`, as `Z` comes after a point, and the
/// coin would be stuck there. More decimals than three would come before `.000Z`, so they are cut off: two prices
/// within one millisecond are equally new.
fn instant(timestamp: &str) -> Option<String> {
    let at = DateTime::parse_from_rfc3339(timestamp).ok()?.with_timezone(&Utc);
    (0..=9999).contains(&at.year()).then(|| clock::rfc3339(at))
}

/// The values of [`MEMBERS`], in their order, as they stand in the line.
struct Found<'a>([Option<&'a RawValue>; MEMBERS.len()]);

impl<'a> Found<'a> {
    fn scan(text: &'a str) -> Result<Self, Reason> {
        let wrong = |error: serde_json::Error| Reason::NotAnObject(error.to_string());
        let mut parser = serde_json::Deserializer::from_str(text);
        let scanned = parser.deserialize_map(ScanVisitor).map_err(wrong)?;
        parser.end().map_err(wrong)?;
        match scanned.twice {
            Some(name) => Err(Reason::Twice(name)),
            None => Ok(scanned.found),
        }
    }

    /// The string `name`, which every row needs.
    fn key(&self, name: &'static str) -> Result<String, Reason> {
        self.text(name)?.ok_or(Reason::Missing(name))
    }

    /// The string `name`, unless it is missing or null. It is not empty.
    fn text(&self, name: &'static str) -> Result<Option<String>, Reason> {
        let place = MEMBERS.iter().position(|(member, _)| *member == name);
        let Some(json) =
            place.and_then(|place| self.0[place]).map(RawValue::get).filter(|json| *json != "null")
        else {
            return Ok(None);
        };
        if !json.starts_with('"') {
            return Err(Reason::NotAString(name));
        }
        let text = attribute::string(json).map_err(|fault| Unstorable { member: name.to_owned(), fault })?;
        if text.is_empty() { Err(Reason::Empty(name)) } else { Ok(Some(text)) }
    }
}

struct Scanned<'a> {
    found: Found<'a>,
    /// The first member that is there twice.
    twice: Option<&'static str>,
}

struct ScanVisitor;

impl<'de> Visitor<'de> for ScanVisitor {
    type Value = Scanned<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut scanned = Scanned { found: Found([None; MEMBERS.len()]), twice: None };
        while let Some(Place(place)) = map.next_key()? {
            match place {
                Some(place) => {
                    if scanned.found.0[place].replace(map.next_value()?).is_some() {
                        scanned.twice = scanned.twice.or(Some(MEMBERS[place].0));
                    }
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(scanned)
    }
}

/// A member's place in [`MEMBERS`], if it has one.
struct Place(Option<usize>);

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = Place;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Place, E> {
                self.visit_bytes(name.as_bytes())
            }

            fn visit_bytes<E: serde::de::Error>(self, name: &[u8]) -> Result<Place, E> {
                Ok(Place(MEMBERS.iter().position(|(member, _)| member.as_bytes() == name)))
            }
        }
        // As bytes, because the name of a member that we ignore may hold a lone surrogate escape, which is
        // JSON (RFC 8259, section 8.2) but not a Rust string.
        deserializer.deserialize_bytes(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use chrono::{FixedOffset, SecondsFormat};
    use coinduit_common::line::{self, Origin};
    use proptest::prelude::*;

    use super::*;

    const HUNDRED: &str = include_str!("../../local/data/coins-list-100.json");
    const COMPLETE: &str = include_str!("../../local/data/coins-list-meta.json");

    const PRICES: [&str; 13] = [
        "id",
        "name",
        "code",
        "currency",
        "exchanges",
        "markets",
        "rate",
        "volume",
        "cap",
        "circulatingSupply",
        "totalSupply",
        "maxSupply",
        "timestamp",
    ];
    const COINS: [&str; 24] = [
        "name",
        "code",
        "currency",
        "rank",
        "age",
        "pairs",
        "exchanges",
        "markets",
        "png32",
        "png64",
        "webp32",
        "webp64",
        "allTimeHighUSD",
        "circulatingSupply",
        "totalSupply",
        "maxSupply",
        "categories",
        "links",
        "delta",
        "symbol",
        "rate",
        "volume",
        "cap",
        "updatedAt",
    ];

    const KEYS: &str = r#""id":"i-1","timestamp":"2026-11-23T10:05:00.000Z","currency":"USD""#;

    /// A line with the keys and `members`.
    fn line(members: &str) -> String {
        format!(r#"{{"code":"BTC",{members}{}{KEYS}}}"#, if members.is_empty() { "" } else { "," })
    }

    fn rows(members: &str) -> Rows {
        read(line(members).as_bytes()).unwrap()
    }

    fn reason(text: &str) -> Reason {
        read(text.as_bytes()).unwrap_err()
    }

    fn n(literal: &str) -> AttributeValue {
        AttributeValue::N(literal.to_owned())
    }

    fn s(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    fn names(item: &Item) -> BTreeSet<&str> {
        item.keys().map(String::as_str).collect()
    }

    /// A coin's members as they stand in the answer.
    type Members = BTreeMap<String, Box<RawValue>>;

    /// The coins of a recorded answer, each as the line that the consumer makes of it.
    fn recorded(answer: &str) -> Vec<(Members, Vec<u8>)> {
        let origin = Origin {
            topic: "crypto_prices",
            fetched_at: Some(b"2026-11-23T10:05:00.000Z"),
            source: Some(b"livecoinwatch"),
            currency: Some(b"USD"),
            ..Origin::default()
        };
        let coins: Vec<Box<RawValue>> = serde_json::from_str(answer).unwrap();
        let line_of = |coin: &RawValue| {
            let mut line = Vec::new();
            line::append(&mut line, Some(coin.get().as_bytes()), Some(origin)).unwrap();
            line
        };
        coins.iter().map(|coin| (serde_json::from_str(coin.get()).unwrap(), line_of(coin))).collect()
    }

    /// Whether `value` is `json`, with every number as its literal.
    fn is_same(value: &AttributeValue, json: &RawValue) -> bool {
        match value {
            AttributeValue::N(literal) => literal == json.get(),
            AttributeValue::S(text) => *text == serde_json::from_str::<String>(json.get()).unwrap(),
            AttributeValue::Null(true) => json.get() == "null",
            AttributeValue::L(list) => {
                let elements: Vec<Box<RawValue>> = serde_json::from_str(json.get()).unwrap();
                elements.len() == list.len()
                    && elements.iter().zip(list).all(|(json, value)| is_same(value, json))
            }
            AttributeValue::M(map) => {
                let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(json.get()).unwrap();
                members.len() == map.len() && members.iter().all(|(name, json)| is_same(&map[name], json))
            }
            _ => false,
        }
    }

    #[test]
    fn every_recorded_coin_is_stored_as_the_api_wrote_it() {
        for (coin, line) in recorded(HUNDRED).into_iter().chain(recorded(COMPLETE)) {
            let rows = read(&line).unwrap();
            for (name, json) in &coin {
                for (item, members) in [(&rows.prices, &PRICES[..]), (&rows.coins, &COINS[..])] {
                    let stored = item.get(name);
                    if members.contains(&name.as_str()) {
                        assert!(
                            stored.is_some_and(|value| is_same(value, json)),
                            "{}: {name} is {stored:?}",
                            rows.code
                        );
                    } else {
                        assert_eq!(stored, None, "{}: {name}", rows.code);
                    }
                }
            }
        }
    }

    #[test]
    fn tiny_rates_and_odd_codes_of_the_recorded_answer_survive() {
        let all: Vec<Rows> = recorded(HUNDRED).iter().map(|(_, line)| read(line).unwrap()).collect();
        assert_eq!(all.len(), 100);
        assert!(all.iter().any(|rows| rows.prices["rate"] == n("2.4980008270697834e-9")));
        assert!(all.iter().any(|rows| rows.code == "_IMX") && all.iter().any(|rows| rows.code == "__GMX"));
    }

    #[test]
    fn a_complete_coin_fills_exactly_the_columns_of_both_tables() {
        let (_, line) = &recorded(COMPLETE)[0];
        let rows = read(line).unwrap();
        assert_eq!(names(&rows.prices), PRICES.into_iter().collect());
        assert_eq!(names(&rows.coins), COINS.into_iter().collect());
        assert_eq!(rows.coins["symbol"], s("₿"));
        assert_eq!(rows.coins["updatedAt"], rows.prices["timestamp"]);
    }

    #[test]
    fn missing_members_are_left_out_and_null_ones_are_null() {
        let rows = rows(r#""maxSupply":null,"rate":1"#);
        assert_eq!(
            names(&rows.prices),
            BTreeSet::from(["code", "currency", "id", "maxSupply", "rate", "timestamp"])
        );
        assert_eq!(rows.prices["maxSupply"], AttributeValue::Null(true));
        assert_eq!(rows.coins["maxSupply"], AttributeValue::Null(true));
    }

    #[test]
    fn a_price_expires_so_long_after_its_timestamp_and_a_coin_never() {
        let rows = rows("").expiring_after(Duration::from_secs(86_400));
        assert_eq!(rows.prices["expiresAt"], n("1795514700"));
        assert_eq!(rows.coins.get("expiresAt"), None);
    }

    #[test]
    fn a_coin_without_a_symbol_gets_one_that_says_so() {
        assert_eq!(rows("").coins["symbol"], s("N/A"));
        assert_eq!(rows(r#""symbol":null"#).coins["symbol"], s("N/A"));
        assert_eq!(rows(r#""symbol":"Ξ""#).coins["symbol"], s("Ξ"));
        assert_eq!(rows(r#""symbol":null"#).prices.get("symbol"), None);
    }

    #[test]
    fn strings_where_numbers_were_are_stored_as_strings() {
        let rows = rows(r#""rate":"70835.60280789908","rank":true"#);
        assert_eq!(rows.prices["rate"], s("70835.60280789908"));
        assert_eq!(rows.coins["rank"], AttributeValue::Bool(true));
    }

    #[test]
    fn another_currency_has_rows_of_its_own() {
        let keyed = |currency: &str| {
            let text = line("").replace(r#""currency":"USD""#, currency);
            let rows = read(text.as_bytes()).unwrap();
            assert_eq!((&rows.prices["code"], &rows.coins["code"]), (&s(&rows.code), &s(&rows.code)));
            (rows.code, rows.prices.get("currency").cloned())
        };
        assert_eq!(keyed(r#""currency":"EUR""#), ("BTC:EUR".to_owned(), Some(s("EUR"))));
        assert_eq!(keyed(r#""currency":"USD""#), ("BTC".to_owned(), Some(s("USD"))));
        assert_eq!(keyed(r#""currency":null"#), ("BTC".to_owned(), Some(AttributeValue::Null(true))));
        assert_eq!(keyed(r#""source":"x""#), ("BTC".to_owned(), None));
    }

    #[test]
    fn a_row_needs_its_keys() {
        assert_eq!(reason(r#"{"id":"1","timestamp":"2026-11-23T10:05:00.000Z"}"#), Reason::Missing("code"));
        assert_eq!(
            reason(r#"{"code":null,"id":"1","timestamp":"2026-11-23T10:05:00.000Z"}"#),
            Reason::Missing("code")
        );
        assert_eq!(reason(r#"{"code":"A","id":"1"}"#), Reason::Missing("timestamp"));
        assert_eq!(reason(r#"{"code":"A","timestamp":"2026-11-23T10:05:00.000Z"}"#), Reason::Missing("id"));
        assert_eq!(reason(&line("").replace("BTC", "")), Reason::Empty("code"));
        assert_eq!(reason(&line("").replace("\"i-1\"", "7")), Reason::NotAString("id"));
        assert_eq!(reason(&line("").replace("\"USD\"", "[]")), Reason::NotAString("currency"));
        assert!(matches!(reason(&line("").replace("BTC", "\\ud800")), Reason::Value(_)));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "null", "[]", "7", "{", "{}{}", r#"{"code":"A",}"#, "\u{feff}{}"] {
            assert!(matches!(reason(text), Reason::NotAnObject(_)), "{text:?}");
        }
        assert_eq!(read(b"{\"code\":\"\xff\"}").unwrap_err(), Reason::NotUtf8(9));
    }

    #[test]
    fn a_member_that_is_there_twice_is_refused_even_when_written_differently() {
        assert_eq!(reason(&line(r#""rate":1,"r\u0061te":2"#)), Reason::Twice("rate"));
        assert_eq!(reason(&line(r#""code":"ETH""#)), Reason::Twice("code"));
        assert!(matches!(reason(&line(r#""delta":{"day":1,"day":2}"#)), Reason::Value(_)));
    }

    #[test]
    fn members_that_no_table_has_are_ignored_whatever_is_in_them() {
        let digits = "1".repeat(60);
        let rows = rows(&format!(r##""color":"#fff","x":{digits},"y":1,"y":2,"\ud800":"\ud800""##));
        assert_eq!(names(&rows.prices), BTreeSet::from(["code", "currency", "id", "timestamp"]));
    }

    #[test]
    fn a_number_that_would_be_rounded_is_refused_by_name() {
        let digits = "1".repeat(39);
        let text = reason(&line(&format!(r#""delta":{{"hour":{digits}}}"#))).to_string();
        assert_eq!(text, "delta.hour: the number has 39 significant digits, DynamoDB holds 38");
    }

    #[test]
    fn coins_compare_by_time_whatever_the_offset_and_the_decimals() {
        let at = |timestamp: &str| read(line("").replace("2026-11-23T10:05:00.000Z", timestamp).as_bytes());
        for same in ["2026-11-23T10:05:00Z", "2026-11-23T12:05:00+02:00", "2026-11-23T10:05:00.000400Z"] {
            let rows = at(same).unwrap();
            assert_eq!(rows.updated_at, "2026-11-23T10:05:00.000Z");
            assert_eq!((rows.timestamp.as_str(), &rows.prices["timestamp"]), (same, &s(same)));
        }
        for unknown in ["2026-11-23 10:05", "2026-11-23T10:05:00", "yesterday", "9999-12-31T23:59:59-01:00"] {
            assert_eq!(at(unknown), Err(Reason::Timestamp(unknown.to_owned())));
        }
    }

    #[test]
    fn updated_at_is_the_timestamp_itself_where_that_is_in_coinduits_form() {
        for ours in ["2026-11-23T10:05:00.000Z", "0000-01-01T00:00:00.001Z", "9999-12-31T23:59:59.999Z"] {
            let rows = read(line("").replace("2026-11-23T10:05:00.000Z", ours).as_bytes()).unwrap();
            assert_eq!((&rows.coins["updatedAt"], &rows.prices["timestamp"]), (&s(ours), &s(ours)));
        }
    }

    #[test]
    fn dynamodbs_limits_for_keys_and_items_are_kept() {
        let long = line("").replace("BTC", &"B".repeat(2049));
        assert_eq!(reason(&long), Reason::LongKey { member: "code", bytes: 2049, limit: 2048 });
        let name = |bytes: usize| line(&format!(r#""name":"{}""#, "x".repeat(bytes)));
        assert!(matches!(reason(&name(409_600)), Reason::LargeItem { table: "prices", .. }));
        assert!(read(name(409_000).as_bytes()).is_ok());
        let links = line(&format!(r#""links":{{"website":"{}"}}"#, "x".repeat(409_600)));
        assert!(matches!(reason(&links), Reason::LargeItem { table: "coins", .. }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_rows_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&bytes));
        }

        #[test]
        fn a_literal_reaches_both_tables_byte_for_byte(literal in "-?(0|[1-9][0-9]{0,15})(\\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?") {
            let rows = rows(&format!(r#""rate":{literal}"#));
            prop_assert_eq!(&rows.prices["rate"], &n(&literal));
            prop_assert_eq!(&rows.coins["rate"], &n(&literal));
        }

        #[test]
        fn the_order_of_updated_at_as_text_is_the_order_of_time(
            a in 1_700_000_000_000i64..1_700_000_003_000, b in 1_700_000_000_000i64..1_700_000_003_000,
            forms in (0usize..5, 0usize..5),
        ) {
            // Other forms of the same instant; those with seconds only are less exact.
            let written = |ms: i64, form| {
                let ms = if form == 1 { ms / 1000 * 1000 } else { ms };
                let at = DateTime::from_timestamp_millis(ms).unwrap();
                let text = match form {
                    0 => at.to_rfc3339_opts(SecondsFormat::Millis, true),
                    1 => at.to_rfc3339_opts(SecondsFormat::Secs, true),
                    2 => at.to_rfc3339_opts(SecondsFormat::Nanos, true),
                    3 => at.to_rfc3339_opts(SecondsFormat::AutoSi, false),
                    _ => at.with_timezone(&FixedOffset::west_opt(5 * 3600).unwrap()).to_rfc3339(),
                };
                (ms, instant(&text).unwrap())
            };
            let ((a, a_text), (b, b_text)) = (written(a, forms.0), written(b, forms.1));
            prop_assert_eq!(a.cmp(&b), a_text.cmp(&b_text));
        }

        #[test]
        fn any_code_is_a_key(code in "\\PC{1,40}") {
            let text = line("").replace("\"BTC\"", &serde_json::to_string(&code).unwrap());
            let rows = read(text.as_bytes()).unwrap();
            prop_assert_eq!(&rows.coins["code"], &s(&code));
        }
    }
}
