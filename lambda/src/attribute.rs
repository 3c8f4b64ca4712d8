//! One JSON value becomes one DynamoDB attribute, or the reason why DynamoDB has no place for it.
//!
//! ```text
//! 2.4980008270697834e-9 --> N "2.4980008270697834e-9"    the literal, never through f64
//! "12"                  --> S "12"                        a string stays one
//! {"hour":0.996}        --> M {hour: N "0.996"}           recursively, up to 32 levels
//! ```
//!
//! DynamoDB's limits are checked here, before anything is sent: it refuses a batch of 25 rows as a whole,
//! so one number with 39 digits would take 24 good rows with it.
//!
//! Source: Amazon DynamoDB Developer Guide, "Supported data types and naming rules", "Constraints" and
//! "Item sizes and formats".

use std::{collections::HashMap, fmt};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The attributes of one row, by name.
pub type Item = HashMap<String, AttributeValue>;

/// How many significant digits a number may have.
const MAX_DIGITS: usize = 38;
/// The power of ten of a number's first significant digit: 1e-130 to 9.99...e125.
const MAGNITUDES: std::ops::RangeInclusive<i64> = -130..=125;
/// A scalar may be inside this many maps and lists, less one.
const MAX_DEPTH: usize = 32;

/// How many values a row may have in its maps and lists: as many as DynamoDB's largest item has bytes.
const MAX_VALUES: usize = 400 * 1024;

/// Why a value can't be stored, and where in its line it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{member}: {fault}")]
pub struct Unstorable {
    /// The way to the value: `delta.hour`, `categories[3]`.
    pub member: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What DynamoDB has no place for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A number that DynamoDB would have to round.
    #[error("the number has {0} significant digits, DynamoDB holds {MAX_DIGITS}")]
    Digits(usize),
    /// A number too large or too close to zero. Zero counts as its last written digit: `0e126` is too large.
    #[error("the number is outside of 1e-130 to 9.99e125, which is what DynamoDB holds")]
    Magnitude,
    /// So many values can't be in 400 KB, as each takes a byte at least. They are not even read.
    #[error("there are more than {MAX_VALUES} values in it, DynamoDB holds 400 KB")]
    Values,
    /// Maps and lists in each other.
    #[error("the value is nested {MAX_DEPTH} levels deep or deeper, which DynamoDB refuses")]
    Depth,
    /// A map's member without a name.
    #[error("a member's name is empty, which DynamoDB refuses")]
    EmptyName,
    /// Which of the two is meant is anyone's guess.
    #[error("the member {0:?} is there twice")]
    Twice(String),
    /// JSON that no Unicode text stands for, such as a lone surrogate.
    #[error("the value is not text ({0})")]
    NotText(String),
}

/// The attribute for the value `json` of the member `name`.
///
/// # Errors
/// The first part of it that DynamoDB would refuse.
pub fn attribute(name: &str, json: &RawValue) -> Result<AttributeValue, Unstorable> {
    let mut room = MAX_VALUES;
    convert(json, 0, &mut room).map_err(|Inner { mut path, fault }| {
        path.push(name.to_owned());
        path.reverse();
        Unstorable { member: path.concat(), fault }
    })
}

/// A fault and the way to it, innermost step first.
struct Inner {
    path: Vec<String>,
    fault: Fault,
}

impl From<Fault> for Inner {
    fn from(fault: Fault) -> Self {
        Self { path: Vec::new(), fault }
    }
}

impl Inner {
    fn below(mut self, step: String) -> Self {
        self.path.push(step);
        self
    }
}

/// `depth` is the number of maps and lists around `json`, `room` how many values may be in it.
fn convert(json: &RawValue, depth: usize, room: &mut usize) -> Result<AttributeValue, Inner> {
    let text = json.get();
    *room = room.checked_sub(1).ok_or(Fault::Values)?;
    match text.as_bytes().first() {
        Some(b'{' | b'[') if depth + 1 >= MAX_DEPTH => Err(Fault::Depth.into()),
        Some(b'{') => map(text, depth + 1, room).map(AttributeValue::M),
        Some(b'[') => list(text, depth + 1, room).map(AttributeValue::L),
        Some(b'"') => string(text).map(AttributeValue::S).map_err(Inner::from),
        Some(b't') => Ok(AttributeValue::Bool(true)),
        Some(b'f') => Ok(AttributeValue::Bool(false)),
        Some(b'n') => Ok(AttributeValue::Null(true)),
        _ => {
            check_number(text)?;
            Ok(AttributeValue::N(text.to_owned()))
        }
    }
}

/// The text that the JSON string `json` stands for.
///
/// # Errors
/// [`Fault::NotText`] where it stands for none.
pub fn string(json: &str) -> Result<String, Fault> {
    serde_json::from_str(json).map_err(|error| Fault::NotText(error.to_string()))
}

fn map(json: &str, depth: usize, room: &mut usize) -> Result<Item, Inner> {
    let members = parse(json, |parser| parser.deserialize_map(Members))?;
    let mut item = Item::with_capacity(members.len());
    for (name, value) in members {
        if name.is_empty() {
            return Err(Fault::EmptyName.into());
        }
        let value = convert(value, depth, room).map_err(|inner| inner.below(format!(".{name}")))?;
        if item.contains_key(&name) {
            return Err(Fault::Twice(name).into());
        }
        item.insert(name, value);
    }
    Ok(item)
}

fn list(json: &str, depth: usize, room: &mut usize) -> Result<Vec<AttributeValue>, Inner> {
    let elements = parse(json, |parser| parser.deserialize_seq(Elements))?;
    let convert = |(at, value)| convert(value, depth, room).map_err(|inner| inner.below(format!("[{at}]")));
    elements.into_iter().enumerate().map(convert).collect()
}

type Parser<'de> = serde_json::Deserializer<serde_json::de::StrRead<'de>>;

fn parse<'de, T>(
    json: &'de str,
    read: impl FnOnce(&mut Parser<'de>) -> Result<T, serde_json::Error>,
) -> Result<T, Inner> {
    read(&mut Parser::from_str(json)).map_err(|error| Fault::NotText(error.to_string()).into())
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(elements)
    }
}

/// Whether DynamoDB holds the JSON number `literal` exactly.
///
/// Zeros at either end are no digits: DynamoDB trims them (`1.50` and `1500e-3` are read back as `1.5`).
fn check_number(literal: &str) -> Result<(), Fault> {
    let unsigned = literal.strip_prefix('-').unwrap_or(literal);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.parse().map_err(|_| Fault::Magnitude)?;
    let digits = || whole.bytes().chain(fraction.bytes());
    let length = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);

    let magnitude = match digits().position(|digit| digit != b'0') {
        Some(first) => {
            let zeros_behind =
                fraction.bytes().rev().chain(whole.bytes().rev()).take_while(|d| *d == b'0').count();
            let significant = whole.len() + fraction.len() - first - zeros_behind;
            if significant > MAX_DIGITS {
                return Err(Fault::Digits(significant));
            }
            exponent.saturating_add(length(whole.len()) - 1 - length(first))
        }
        // Measured on the service by dynoxide's authors: zero is held to the range of its last digit.
        None => exponent.saturating_sub(length(fraction.len())),
    };
    if MAGNITUDES.contains(&magnitude) { Ok(()) } else { Err(Fault::Magnitude) }
}

/// How many bytes DynamoDB counts for `item`, at most (numbers are an upper bound).
#[must_use]
pub fn size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

fn value_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        // One byte for two significant digits, one for the exponent and one for the sign.
        AttributeValue::N(literal) => literal.len().min(MAX_DIGITS).div_ceil(2) + 2,
        AttributeValue::M(map) => 3 + map.len() + size(map),
        AttributeValue::L(list) => 3 + list.len() + list.iter().map(value_size).sum::<usize>(),
        // Booleans and nulls; the other types are never made here.
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Result<AttributeValue, Unstorable> {
        attribute("m", serde_json::from_str(json).unwrap())
    }

    fn n(literal: &str) -> AttributeValue {
        AttributeValue::N(literal.to_owned())
    }

    fn s(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    #[test]
    fn scalars_keep_their_type_and_numbers_their_literal() {
        for literal in ["2.4980008270697834e-9", "0", "-0", "1.50", "1E+5", "1394051250970", "-7e-7"] {
            assert_eq!(read(literal), Ok(n(literal)));
        }
        assert_eq!(read(r#""12""#), Ok(s("12")));
        assert_eq!(read(r#""\u20bf\n""#), Ok(s("₿\n")));
        assert_eq!(read(r#""""#), Ok(s("")));
        assert_eq!(read("true"), Ok(AttributeValue::Bool(true)));
        assert_eq!(read("false"), Ok(AttributeValue::Bool(false)));
        assert_eq!(read("null"), Ok(AttributeValue::Null(true)));
    }

    #[test]
    fn maps_and_lists_are_converted_with_what_is_in_them() {
        let delta =
            HashMap::from([("hour".to_owned(), n("0.996")), ("day".to_owned(), AttributeValue::Null(true))]);
        assert_eq!(read(r#"{"hour": 0.996, "day": null}"#), Ok(AttributeValue::M(delta)));
        assert_eq!(
            read(r#"["a", [1]]"#),
            Ok(AttributeValue::L(vec![s("a"), AttributeValue::L(vec![n("1")])]))
        );
        assert_eq!(read("{}"), Ok(AttributeValue::M(HashMap::new())));
        assert_eq!(read("[]"), Ok(AttributeValue::L(Vec::new())));
    }

    #[test]
    fn thirty_eight_digits_are_held_and_a_thirty_ninth_is_not_rounded() {
        let held = "1".repeat(38);
        assert_eq!(read(&held), Ok(n(&held)));
        assert_eq!(read(&format!("0.000{held}000")), Ok(n(&format!("0.000{held}000"))));
        assert_eq!(read(&format!("{held}000e3")), Ok(n(&format!("{held}000e3"))));
        let refused = read(&format!("1{held}")).unwrap_err();
        assert_eq!(refused.fault, Fault::Digits(39));
        assert_eq!(read(&format!("-1.{}1", "0".repeat(38))).unwrap_err().fault, Fault::Digits(40));
    }

    #[test]
    fn magnitudes_are_held_up_to_the_edges() {
        let nines = format!("9.{}", "9".repeat(37));
        for held in [
            "1e-130",
            "-1E-130",
            "1e125",
            "0.1e126",
            "0e125",
            "0.0",
            &format!("{nines}e125"),
            &format!("1{}", "0".repeat(125)),
        ] {
            assert_eq!(read(held), Ok(n(held)), "{held}");
        }
        for refused in [
            "1e-131",
            "0.1e-130",
            "1e126",
            "-10e125",
            "0e126",
            "0.0e-130",
            "1e99999999999999999999",
            "1e-9223372036854775808",
            &format!("1{}", "0".repeat(126)),
        ] {
            assert_eq!(read(refused).unwrap_err().fault, Fault::Magnitude, "{refused}");
        }
    }

    #[test]
    fn the_reason_names_the_way_to_the_value() {
        let digits = "1".repeat(39);
        let refused = read(&format!(r#"{{"a": [1, {{"b": {digits}}}]}}"#)).unwrap_err();
        assert_eq!(refused.to_string(), "m.a[1].b: the number has 39 significant digits, DynamoDB holds 38");
    }

    #[test]
    fn what_dynamodb_refuses_in_maps_is_refused() {
        assert_eq!(read(r#"{"": 1}"#).unwrap_err().fault, Fault::EmptyName);
        assert_eq!(read(r#"{"a": 1, "\u0061": 2}"#).unwrap_err().fault, Fault::Twice("a".to_owned()));
        assert!(matches!(read(r#""\ud800""#).unwrap_err().fault, Fault::NotText(_)));
        assert!(matches!(read(r#"{"\ud800": 1}"#).unwrap_err().fault, Fault::NotText(_)));
    }

    #[test]
    fn thirty_one_levels_are_held_and_a_thirty_second_is_not() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(&nested(31)).is_ok());
        assert_eq!(read(&nested(32)).unwrap_err().fault, Fault::Depth);
        // Far beyond what a recursive parser survives.
        assert_eq!(read(&nested(100_000)).unwrap_err().fault, Fault::Depth);
    }

    #[test]
    fn more_values_than_a_row_has_bytes_are_refused_without_being_read() {
        let list = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(read(&list(MAX_VALUES)).is_ok());
        assert_eq!(read(&list(MAX_VALUES + 1)).unwrap_err().fault, Fault::Values);
    }

    #[test]
    fn sizes_count_names_values_and_overheads() {
        let item = |value: &str| HashMap::from([("name".to_owned(), read(value).unwrap())]);
        assert_eq!(size(&item(r#""12345""#)), 9);
        assert_eq!(size(&item("null")), 5);
        assert_eq!(size(&item("12")), 4 + 3);
        assert_eq!(size(&item(r#"["a", {"b": true}]"#)), 4 + 3 + 2 + 1 + (3 + 1 + 1 + 1));
    }

    proptest! {
        #[test]
        fn a_number_is_kept_byte_for_byte_or_refused(literal in "-?(0|[1-9][0-9]{0,45})(\\.[0-9]{1,45})?([eE][+-]?[0-9]{1,20})?") {
            match read(&literal) {
                Ok(value) => prop_assert_eq!(value, n(&literal)),
                Err(refused) => prop_assert!(matches!(refused.fault, Fault::Digits(_) | Fault::Magnitude)),
            }
        }

        /// Against a second way to count: without point and zeros at the ends, how long is it?
        #[test]
        fn digits_are_counted_without_zeros_at_the_ends(whole in "0|[1-9][0-9]{0,45}", fraction in "[0-9]{1,45}") {
            let digits = format!("{whole}{fraction}");
            let count = digits.trim_matches('0').len();
            let refused = read(&format!("{whole}.{fraction}")).err().map(|refused| refused.fault);
            prop_assert_eq!(refused, (count > 38).then_some(Fault::Digits(count)));
        }

        #[test]
        fn any_json_is_converted_or_refused(json in any_json()) {
            drop(read(&json.to_string()));
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "\\PC*".prop_map(Into::into)
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map("\\PC{0,8}", inner, 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect()))
            ]
        })
    }
}
