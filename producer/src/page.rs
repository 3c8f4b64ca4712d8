//! One answer of the API becomes coins: checked as a whole, then one by one.
//!
//! An answer that is no list of coins is never data, whatever its HTTP status was. One malformed coin in a
//! good list is reported with its position, and the others are taken. A coin keeps every member and every
//! number's digits; only the white space between them goes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// A coin as the API wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    /// Its code, unique in one answer.
    pub code: String,
    /// Its JSON object, compact.
    pub json: Vec<u8>,
}

/// Part of a list that is no coin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in the list, from 0.
    pub position: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// A list of coins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The coins, in the API's order.
    pub coins: Vec<Coin>,
    /// What was among them and is none.
    pub rejected: Vec<Rejected>,
}

/// What came is no list of coins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The API's own error object.
    #[error("the API answers error {code} {status}: {description}")]
    Api {
        /// Like an HTTP status.
        code: i64,
        /// Its name.
        status: String,
        /// In words.
        description: String,
    },
    /// A web page, of a proxy perhaps.
    #[error("the answer is a web page, not JSON; is there a proxy in between?")]
    Html,
    /// Something else that is not JSON, or JSON that was cut off.
    #[error("the answer is not JSON ({0})")]
    NotJson(String),
    /// JSON, but no list.
    #[error("the answer is JSON but not a list of coins")]
    NotAList,
    /// A list of nothing.
    #[error("the list of coins is empty")]
    Empty,
    /// A list in which nothing is a coin.
    #[error("none of the {count} entries is a coin; the first: {problem}")]
    NoCoins {
        /// How many there were.
        count: usize,
        /// What is wrong with the first.
        problem: String,
    },
}

/// Reads the body of an answer.
///
/// # Errors
/// [`PageError`]; nothing of the answer may be published then.
pub fn parse(body: &[u8]) -> Result<Page, PageError> {
    let text =
        std::str::from_utf8(body).map_err(|error| PageError::NotJson(format!("not UTF-8: {error}")))?;
    // A byte order mark before the list is no part of any coin.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let start = text.trim_start();
    if start.starts_with('<') {
        return Err(PageError::Html);
    }
    if !start.starts_with('[') {
        return Err(not_a_list(text));
    }
    let entries: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| PageError::NotJson(error.to_string()))?;
    if entries.is_empty() {
        return Err(PageError::Empty);
    }
    let mut page = Page::default();
    for (position, entry) in entries.iter().enumerate() {
        match coin(entry.get()) {
            Ok(coin) => page.coins.push(coin),
            Err(problem) => page.rejected.push(Rejected { position, problem }),
        }
    }
    match page.rejected.first() {
        Some(first) if page.coins.is_empty() => {
            Err(PageError::NoCoins { count: entries.len(), problem: first.problem.clone() })
        }
        _ => Ok(page),
    }
}

fn not_a_list(text: &str) -> PageError {
    if let Some(error) = serde_json::from_str::<Value>(text).ok().as_ref().and_then(|body| body.get("error"))
    {
        let word = |name| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        return PageError::Api {
            code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
            status: word("status"),
            description: error.as_str().map_or_else(|| word("description"), ToOwned::to_owned),
        };
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => PageError::NotAList,
        Err(error) => PageError::NotJson(error.to_string()),
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
}

fn coin(json: &str) -> Result<Coin, String> {
    if !json.starts_with('{') {
        return Err("it is no object".to_owned());
    }
    let head: Head<'_> =
        serde_json::from_str(json).map_err(|error| format!("its code can't be read ({error})"))?;
    match head.code {
        Some(code) if !code.is_empty() => Ok(Coin { code: code.into_owned(), json: compact(json) }),
        _ => Err("it has no code".to_owned()),
    }
}

/// Valid JSON without the white space between its parts; everything else byte for byte.
fn compact(json: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json.as_bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            in_string = byte == b'"';
        }
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HUNDRED: &str = include_str!("../../local/data/coins-list-100.json");

    #[test]
    fn a_recorded_answer_is_a_hundred_coins_with_every_digit() {
        let page = parse(HUNDRED.as_bytes()).unwrap();
        assert_eq!((page.coins.len(), page.rejected.len()), (100, 0));
        let text = |code: &str| {
            String::from_utf8(page.coins.iter().find(|coin| coin.code == code).unwrap().json.clone()).unwrap()
        };
        assert!(text("BTC").contains(r#","rate":30328.19874964158,"volume":12110337907,"#));
        assert!(
            page.coins
                .iter()
                .any(|coin| String::from_utf8_lossy(&coin.json).contains(r#""rate":2.4980008270697834e-9,"#))
        );
        assert!(text("_IMX").starts_with('{') && text("__GMX").ends_with('}'));
        for coin in &page.coins {
            assert!(!coin.json.contains(&b'\n'));
        }
    }

    #[test]
    fn an_error_is_never_data() {
        let api =
            parse(br#"{"error":{"code":401,"status":"Unauthorized","description":"API key is missing"}}"#)
                .unwrap_err();
        assert_eq!(
            api,
            PageError::Api {
                code: 401,
                status: "Unauthorized".to_owned(),
                description: "API key is missing".to_owned()
            }
        );
        for odd in [r#"{"error":"no"}"#, r#"{"error":null}"#, r#"{"error":{"code":"E1","description":null}}"#]
        {
            assert!(matches!(parse(odd.as_bytes()), Err(PageError::Api { code: 0, .. })), "{odd}");
        }
        assert_eq!(parse(b"<!DOCTYPE html><html></html>"), Err(PageError::Html));
        assert_eq!(parse(b"[]"), Err(PageError::Empty));
        assert_eq!(parse(b"{}"), Err(PageError::NotAList));
        assert_eq!(parse(b"null"), Err(PageError::NotAList));
        assert_eq!(parse("\u{feff}[]".as_bytes()), Err(PageError::Empty));
        for cut in ["", "[{\"code\":\"BTC\"", "[1,]", "error", "[] []", "\u{feff}", "\u{feff}\u{feff}[{}]"] {
            assert!(matches!(parse(cut.as_bytes()), Err(PageError::NotJson(_))), "{cut}");
        }
        assert!(matches!(parse(b"[\"error\"]"), Err(PageError::NoCoins { count: 1, .. })));
    }

    #[test]
    fn one_malformed_coin_is_reported_with_its_position() {
        let page =
            parse(br#"[{"code":"A"},7,{"name":"x"},{"code":5},{"code":""},{"code":"\u0042"}]"#).unwrap();
        assert_eq!(page.coins.iter().map(|coin| coin.code.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(page.rejected.iter().map(|rejected| rejected.position).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_byte_order_mark_before_the_list_is_left_out() {
        let page = parse("\u{feff}[{\"code\":\"A\"}]".as_bytes()).unwrap();
        assert_eq!(page.coins[0].json, br#"{"code":"A"}"#);
    }

    #[test]
    fn white_space_inside_strings_stays() {
        let page = parse(br#"[ { "code" : "A B" , "q" : "a \" b\\" , "n" : 1.50e+3 } ]"#).unwrap();
        assert_eq!(page.coins[0].json, br#"{"code":"A B","q":"a \" b\\","n":1.50e+3}"#);
    }

    /// What holds of every page, whatever it was read from.
    fn is_sound(page: &Page) {
        assert!(!page.coins.is_empty());
        for coin in &page.coins {
            let value: Value = serde_json::from_slice(&coin.json).unwrap();
            assert_eq!(value["code"], coin.code);
            assert!(!coin.code.is_empty() && !coin.json.contains(&b'\n'));
        }
    }

    /// JSON that is near to what the API answers: lists of coins with something wrong here and there.
    fn nearly_a_list() -> impl Strategy<Value = String> {
        let entry = prop_oneof![
            "[A-Z_]{1,5}".prop_map(|code| format!(r#"{{"code":"{code}","rate":1.5e-9}}"#)),
            Just(r#"{"error":{"code":500,"status":"s","description":"d"}}"#.to_owned()),
            Just(r#"{"code":null}"#.to_owned()),
            Just(r#"{"code":""}"#.to_owned()),
            Just(r#"{"code":7}"#.to_owned()),
            Just(r#"{"code":"A","code":"B"}"#.to_owned()),
            Just(r#"{"code":"\ud800"}"#.to_owned()),
            Just("7".to_owned()),
            Just("null".to_owned()),
            Just("[[]]".to_owned()),
        ];
        prop::collection::vec(entry, 0..8).prop_map(|entries| format!("[ {} ]", entries.join(" ,\n")))
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_are_no_data(body in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(page) = parse(&body) {
                is_sound(&page);
            }
        }

        #[test]
        fn a_damaged_answer_is_no_data(
            at in 0usize..HUNDRED.len(), byte in any::<u8>(), cut in 0usize..HUNDRED.len()
        ) {
            let mut body = HUNDRED.as_bytes()[..cut].to_vec();
            if let Some(place) = body.get_mut(at) {
                *place = byte;
            }
            if let Ok(page) = parse(&body) {
                is_sound(&page);
            }
        }

        #[test]
        fn of_a_list_with_faults_only_coins_are_taken(body in nearly_a_list()) {
            if let Ok(page) = parse(body.as_bytes()) {
                is_sound(&page);
                let good = body.matches("1.5e-9").count();
                prop_assert_eq!(page.coins.len(), good);
                let entries: Vec<&RawValue> = serde_json::from_str(&body).unwrap();
                prop_assert_eq!(page.coins.len() + page.rejected.len(), entries.len());
            }
        }

        #[test]
        fn an_error_object_is_never_data(code in any::<i64>(), words in "\\PC{0,20}", extra in any::<bool>()) {
            let mut error = serde_json::json!({"error": {"code": code, "status": words, "description": words}});
            if extra {
                error["code"] = "BTC".into();
            }
            prop_assert!(parse(error.to_string().as_bytes()).is_err());
        }

        #[test]
        fn a_cut_answer_is_never_published(cut in 0usize..HUNDRED.trim_end().len()) {
            prop_assert!(parse(&HUNDRED.as_bytes()[..cut]).is_err());
        }

        #[test]
        fn compact_json_is_the_same_json(names in prop::collection::hash_map("\\PC{0,6}", "\\PC{0,12}", 0..6)) {
            let pretty = serde_json::to_string_pretty(&names).unwrap();
            let compacted: std::collections::HashMap<String, String> = serde_json::from_slice(&compact(&pretty)).unwrap();
            prop_assert_eq!(compacted, names);
        }
    }
}
