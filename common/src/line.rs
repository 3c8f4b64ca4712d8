//! A record's value becomes one line of newline JSON.
//!
//! ```text
//! value --one validating pass--> members it has --splice what is missing before the last '}'--> line
//! ```
//!
//! The value is never parsed into a tree and printed again: number literals, member order, escapes and
//! spaces stay byte for byte as the API wrote them. Only line breaks become spaces (valid JSON has them
//! outside of strings alone). A line is a function of the record alone, never of when or where it was read.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{clock, event_id};

/// Where a record comes from, and what its headers say: all that may be appended to its line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// The Kafka record's timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Header `id`.
    pub id: Option<&'a [u8]>,
    /// Header `fetched_at`, RFC 3339.
    pub fetched_at: Option<&'a [u8]>,
    /// Header `source`.
    pub source: Option<&'a [u8]>,
    /// Header `currency`.
    pub currency: Option<&'a [u8]>,
}

/// Why a value can't be a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotALine {
    /// A null value: Kafka's mark for "deleted".
    #[error("tombstone (null value)")]
    Tombstone,
    /// A byte order mark, which JSON forbids at its start.
    #[error("the value begins with a byte order mark")]
    ByteOrderMark,
    /// Text in another encoding, or no text at all.
    #[error("the value is not UTF-8 (first wrong byte at {0})")]
    NotUtf8(usize),
    /// Not JSON; with the parser's word on where and why.
    #[error("the value is not JSON ({0})")]
    NotJson(String),
    /// JSON, but an array, a string, a number, a boolean or null.
    #[error("the value is JSON but not an object")]
    NotAnObject,
    /// The answer of an API that refused, published as if it were data.
    #[error("the value is an API's error answer")]
    ApiError,
    /// A line, but none that an object of its own can be named by.
    #[error("the record can't be named ({0})")]
    NoName(String),
}

impl NotALine {
    /// One word for metrics and quarantined objects.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::ByteOrderMark => "byte-order-mark",
            Self::NotUtf8(_) => "not-utf8",
            Self::NotJson(_) => "not-json",
            Self::NotAnObject => "not-an-object",
            Self::ApiError => "api-error",
            Self::NoName(_) => "no-name",
        }
    }
}

/// Appends the line of `value` and its `\n` to `out`; with an `origin`, the members `id`, `timestamp`,
/// `source` and `currency` that the value lacks and the origin knows.
///
/// # Errors
/// Why it can't be a line; `out` is then as it was.
pub fn append(out: &mut Vec<u8>, value: Option<&[u8]>, origin: Option<Origin<'_>>) -> Result<(), NotALine> {
    let value = value.ok_or(NotALine::Tombstone)?;
    if value.starts_with(b"\xEF\xBB\xBF") {
        return Err(NotALine::ByteOrderMark);
    }
    let text = std::str::from_utf8(value).map_err(|error| NotALine::NotUtf8(error.valid_up_to()))?;
    let members = Members::scan(text)?;
    if members.count == 1 && members.error_object {
        return Err(NotALine::ApiError);
    }
    let brace = text.rfind('}').expect("a JSON object ends in a brace");
    let start = out.len();
    out.reserve(value.len() + 160);
    out.extend_from_slice(&value[..brace]);
    if let Some(origin) = origin {
        members.append_missing(out, &origin);
    }
    out.extend_from_slice(&value[brace..]);
    // Each byte is written, changed or not: so the compiler takes sixteen at a time.
    for byte in &mut out[start..] {
        *byte = if matches!(*byte, b'\n' | b'\r') { b' ' } else { *byte };
    }
    out.push(b'\n');
    Ok(())
}

/// What a line is called, as far as it says so itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Member `code`, if it is text.
    pub code: Option<String>,
    /// Member `id`: text, or a number as it is written.
    pub id: Option<String>,
}

/// Reads what a line that [`append`] has made is called. Of members that come twice, the last counts.
#[must_use]
pub fn named(line: &[u8]) -> Named {
    struct NamedVisitor;
    impl<'de> Visitor<'de> for NamedVisitor {
        type Value = Named;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
            let mut named = Named::default();
            while let Some(name) = map.next_key::<Name>()? {
                match name {
                    Name::Code => named.code = string(map.next_value::<&RawValue>()?),
                    Name::Id => {
                        let value = map.next_value::<&RawValue>()?;
                        let number = value.get().starts_with(|c: char| c == '-' || c.is_ascii_digit());
                        named.id = if number { Some(value.get().to_owned()) } else { string(value) };
                    }
                    _ => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(named)
        }
    }
    fn string(value: &RawValue) -> Option<String> {
        serde_json::from_str(value.get()).ok()
    }
    serde_json::Deserializer::from_slice(line).deserialize_map(NamedVisitor).unwrap_or_default()
}

/// What one pass over an object tells about its top-level members.
#[derive(Debug, Default)]
struct Members {
    count: usize,
    id: bool,
    timestamp: bool,
    source: bool,
    currency: bool,
    error_object: bool,
}

impl Members {
    fn scan(text: &str) -> Result<Self, NotALine> {
        let wrong = |error: serde_json::Error| NotALine::NotJson(error.to_string());
        let mut parser = serde_json::Deserializer::from_str(text);
        if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            IgnoredAny::deserialize(&mut parser).and_then(|_| parser.end()).map_err(wrong)?;
            return Err(NotALine::NotAnObject);
        }
        let members = parser.deserialize_map(MembersVisitor).map_err(wrong)?;
        parser.end().map_err(wrong)?;
        Ok(members)
    }

    fn append_missing(&self, out: &mut Vec<u8>, origin: &Origin<'_>) {
        let mut first = self.count == 0;
        let mut member = |name: &str, value: &str| {
            if !first {
                out.push(b',');
            }
            first = false;
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            serde_json::to_writer(&mut *out, value).expect("a string is written to memory");
        };
        if !self.id {
            match text(origin.id) {
                Some(id) => member("id", id),
                None => member(
                    "id",
                    &event_id::of_position(origin.topic, origin.partition, origin.offset).to_string(),
                ),
            }
        }
        if !self.timestamp {
            match text(origin.fetched_at) {
                Some(at) => member("timestamp", at),
                None => member("timestamp", &clock::rfc3339_ms(origin.timestamp_ms)),
            }
        }
        if let (false, Some(source)) = (self.source, text(origin.source)) {
            member("source", source);
        }
        if let (false, Some(currency)) = (self.currency, text(origin.currency)) {
            member("currency", currency);
        }
    }
}

/// A header's text; a header that is empty or not UTF-8 says nothing.
fn text(header: Option<&[u8]>) -> Option<&str> {
    header.and_then(|bytes| std::str::from_utf8(bytes).ok()).filter(|text| !text.is_empty())
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<Name>()? {
            members.count += 1;
            match name {
                Name::Id => members.id = true,
                Name::Timestamp => members.timestamp = true,
                Name::Source => members.source = true,
                Name::Currency => members.currency = true,
                Name::Error => {
                    members.error_object = map.next_value::<&RawValue>()?.get().starts_with('{');
                    continue;
                }
                Name::Code | Name::Other => {}
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(members)
    }
}

/// A member's name, with its escapes resolved: `"\u0069d"` is `id` too.
enum Name {
    Code,
    Id,
    Timestamp,
    Source,
    Currency,
    Error,
    Other,
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Name, E> {
                self.visit_bytes(name.as_bytes())
            }

            fn visit_bytes<E: serde::de::Error>(self, name: &[u8]) -> Result<Name, E> {
                Ok(match name {
                    b"code" => Name::Code,
                    b"id" => Name::Id,
                    b"timestamp" => Name::Timestamp,
                    b"source" => Name::Source,
                    b"currency" => Name::Currency,
                    b"error" => Name::Error,
                    _ => Name::Other,
                })
            }
        }
        // As bytes, because a name may hold a lone surrogate escape, which is JSON (RFC 8259, section 8.2)
        // but not a Rust string.
        deserializer.deserialize_bytes(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGIN: Origin<'_> = Origin {
        topic: "crypto_prices",
        partition: 3,
        offset: 12_345,
        timestamp_ms: 1_795_428_300_000,
        id: None,
        fetched_at: None,
        source: None,
        currency: None,
    };

    fn line(value: &str, origin: Option<Origin<'_>>) -> Result<String, NotALine> {
        let mut out = Vec::new();
        append(&mut out, Some(value.as_bytes()), origin).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_is_missing_is_appended_and_the_rest_stays() {
        assert_eq!(
            line(r#"{"code":"X", "rate":2.4980008270697834e-9}"#, Some(ORIGIN)).unwrap(),
            "{\"code\":\"X\", \"rate\":2.4980008270697834e-9,\"id\":\"75981f5a-0718-5473-bc01-f8baf2ebae9a\",\"timestamp\":\"2026-11-23T10:05:00.000Z\"}\n"
        );
    }

    #[test]
    fn headers_win_over_coordinates() {
        let origin = Origin {
            id: Some(b"i-1"),
            fetched_at: Some(b"2026-01-01T00:00:00.000Z"),
            source: Some(b"livecoinwatch"),
            currency: Some(b"USD"),
            ..ORIGIN
        };
        assert_eq!(
            line("{}", Some(origin)).unwrap(),
            "{\"id\":\"i-1\",\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"source\":\"livecoinwatch\",\"currency\":\"USD\"}\n"
        );
    }

    #[test]
    fn members_that_are_there_are_left_alone_even_when_escaped() {
        let value = r#"{"\u0069d":1,"timestamp":null,"source":[],"currency":{}}"#;
        let origin = Origin { source: Some(b"s"), currency: Some(b"c"), ..ORIGIN };
        assert_eq!(line(value, Some(origin)).unwrap(), format!("{value}\n"));
    }

    #[test]
    fn nothing_is_appended_without_an_origin() {
        assert_eq!(line("{\"a\" : 1.50 }", None).unwrap(), "{\"a\" : 1.50 }\n");
    }

    #[test]
    fn a_header_that_is_no_text_says_nothing_and_quotes_are_escaped() {
        let origin = Origin { id: Some(b"\xff"), source: Some(b""), currency: Some(b"U\"S\nD"), ..ORIGIN };
        let line = line("{\"timestamp\":1}", Some(origin)).unwrap();
        assert_eq!(
            line,
            "{\"timestamp\":1,\"id\":\"75981f5a-0718-5473-bc01-f8baf2ebae9a\",\"currency\":\"U\\\"S\\nD\"}\n"
        );
    }

    #[test]
    fn line_breaks_become_spaces() {
        assert_eq!(line("{\r\n \"a\": \"b\\n\"\n}\n", None).unwrap(), "{   \"a\": \"b\\n\" } \n");
    }

    #[test]
    fn what_cannot_be_a_line_is_told_apart() {
        let reason = |value: &[u8]| append(&mut Vec::new(), Some(value), None).unwrap_err().reason();
        assert_eq!(append(&mut Vec::new(), None, None), Err(NotALine::Tombstone));
        assert_eq!(reason(b"\xEF\xBB\xBF{}"), "byte-order-mark");
        assert_eq!(reason(b"{\"a\":\"\xff\"}"), "not-utf8");
        assert_eq!(reason(b"[{}]"), "not-an-object");
        assert_eq!(reason(b"null"), "not-an-object");
        for wrong in ["", "{", "{}{}", "{\"a\":01}", "{\"a\":1,}", "error", "[1", "{\"a\":NaN}", "{'a':1}"] {
            assert_eq!(reason(wrong.as_bytes()), "not-json", "{wrong}");
        }
        assert_eq!(reason(br#"{"error":{"code":401}}"#), "api-error");
        assert!(line(r#"{"error":"text"}"#, None).is_ok());
        assert!(line(r#"{"error":{},"code":"X"}"#, None).is_ok());
    }

    #[test]
    fn a_refused_value_leaves_the_buffer_as_it_was() {
        let mut out = b"before\n".to_vec();
        assert!(append(&mut out, Some(b"{\"a\":"), Some(ORIGIN)).is_err());
        assert_eq!(out, b"before\n");
    }

    #[test]
    fn a_lone_surrogate_in_a_name_is_json() {
        assert!(line(r#"{"\ud800":1}"#, Some(ORIGIN)).is_ok());
    }

    #[test]
    fn depth_is_no_danger() {
        for depth in [128, 10_000, 1_000_000] {
            let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let objects = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            assert_eq!(line(&arrays, Some(ORIGIN)).unwrap_err(), NotALine::NotAnObject);
            for name in ["a", "id", "error", "code"] {
                let value = format!("{{\"{name}\":{arrays},\"b\":{objects}}}");
                assert!(line(&value, Some(ORIGIN)).unwrap().starts_with(&value[..value.len() - 1]));
            }
            assert_eq!(named(format!("{{\"code\":{arrays},\"id\":{objects}}}").as_bytes()), Named::default());
            let unclosed = "{\"a\":[".repeat(depth);
            assert_eq!(line(&unclosed, None).unwrap_err().reason(), "not-json");
        }
    }

    #[test]
    fn long_strings_are_lines_and_what_breaks_them_is_found() {
        for bytes in [1 << 20, 100 << 20] {
            let value = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes));
            let mut out = Vec::new();
            append(&mut out, Some(value.as_bytes()), None).unwrap();
            assert_eq!(out.len(), value.len() + 1);
            let unclosed = &value.as_bytes()[..value.len() - 2];
            assert_eq!(append(&mut Vec::new(), Some(unclosed), None).unwrap_err().reason(), "not-json");
        }
    }

    #[test]
    fn what_people_send_by_mistake_is_told_apart() {
        let reason =
            |value: &[u8]| append(&mut Vec::new(), Some(value), Some(ORIGIN)).map_err(|why| why.reason());
        for not_json in [
            &b"\0"[..],
            b"{\"a\":\"\0\"}",
            b"{\"a\":\"\t\"}",
            b"{\"a\":1}\0",
            b"{\"a\":1} {\"b\":2}",
            b"{\"a\":1}\n{\"b\":2}\n",
            b"{\"a\":-Infinity}",
            b"{\"a\":+1}",
            b"{\"a\":.5}",
            b"{\"a\":0x10}",
            b"{a:1}",
            b"{\"a\":1} // comment",
            b"{\"a\":\"\\u00zz\"}",
            b"{\"a\":\"\\x41\"}",
            b"{\"a\":True}",
            b"<html></html>",
            b" ",
            "{\"a\":1\u{2028}}".as_bytes(),
            "\u{a0}{}".as_bytes(),
        ] {
            assert_eq!(reason(not_json), Err("not-json"), "{}", String::from_utf8_lossy(not_json));
        }
        assert_eq!(reason(b"\xff\xfe{\0}\0"), Err("not-utf8"), "UTF-16 with its mark");
        assert_eq!(reason(b"\xed\xa0\x80"), Err("not-utf8"), "a surrogate as bytes");
        assert_eq!(reason(b" \xEF\xBB\xBF{}"), Err("not-json"), "a mark elsewhere");
        assert_eq!(reason(br#"{"error":{}}"#), Err("api-error"));
        assert_eq!(reason(br#" { "error" : { "code" : 401 } } "#), Err("api-error"));
        assert_eq!(reason(br#"{"\u0065rror":{}}"#), Err("api-error"));
        for fine in [
            &br#"{"a":"\ud800"}"#[..],
            br#"{"a":"\u0000","a":"\udc00\ud800"}"#,
            br#"{"":{}}"#,
            br#"{"error":{},"error":{}}"#,
            br#"{"error":[]}"#,
            br#"{"a":1e400,"b":-0,"c":0.0e-0}"#,
            "{\"a\":\"\u{2028}\u{2029}\u{85}\u{feff}\"}".as_bytes(),
        ] {
            assert_eq!(reason(fine), Ok(()), "{}", String::from_utf8_lossy(fine));
        }
    }

    #[test]
    fn separators_that_are_no_line_breaks_of_json_lines_stay() {
        let value = "{\"a\":\"\u{2028}\u{2029}\u{85}\"}";
        assert_eq!(line(value, None).unwrap(), format!("{value}\n"));
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "\\PC*".prop_map(Into::into)
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map("\\PC{0,8}", inner, 0..6)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect()))
            ]
        })
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(value in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(append(&mut Vec::new(), Some(&value), Some(ORIGIN)));
        }

        #[test]
        fn what_is_no_line_depends_on_the_value_alone(
            value in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                "\\PC{0,40}".prop_map(String::into_bytes),
                "[{}\\[\\]:,\"a\\\\u0 \n\t0-9.eE+-]{0,24}".prop_map(String::into_bytes),
                "\\{(\"(a|id|error|code)\":(1|\"x\"|\\{\\}|\\[\\]|null|01|NaN),?){0,3}\\}[ \n]?".prop_map(String::into_bytes),
            ],
            offset: i64, partition: i32, timestamp_ms: i64,
            header in prop::option::of(prop::collection::vec(any::<u8>(), 0..12)),
        ) {
            let header = header.as_deref();
            let origin = Origin { topic: "t", partition, offset, timestamp_ms, id: header, fetched_at: header, source: header, currency: header };
            let (mut plain, mut rich) = (Vec::new(), Vec::new());
            let bare = append(&mut plain, Some(&value), None);
            prop_assert_eq!(&bare, &append(&mut rich, Some(&value), Some(origin)));
            if let Ok(tree) = serde_json::from_slice::<serde_json::Value>(&value) {
                prop_assert!(bare.is_ok() || bare == Err(NotALine::ApiError) || !tree.is_object());
            }
            if bare.is_ok() {
                for line in [plain, rich] {
                    prop_assert!(line.ends_with(b"\n") && !line[..line.len() - 1].iter().any(|byte| matches!(byte, b'\n' | b'\r')));
                    let again: &serde_json::value::RawValue = serde_json::from_slice(&line).unwrap();
                    prop_assert_eq!(again.get().as_bytes()[0], b'{');
                    let brace = value.iter().rposition(|byte| *byte == b'}').unwrap();
                    let kept: Vec<u8> = value[..brace].iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
                    prop_assert_eq!(&line[..brace], &kept[..]);
                    drop(named(&line));
                }
            }
        }

        #[test]
        fn a_line_is_one_valid_object_that_keeps_every_member(members in prop::collection::hash_map("\\PC{0,8}", json(), 0..8), pretty in any::<bool>()) {
            let object = serde_json::Value::Object(members.clone().into_iter().collect());
            prop_assume!(!(members.len() == 1 && members.get("error").is_some_and(serde_json::Value::is_object)));
            let value = if pretty { serde_json::to_string_pretty(&object).unwrap() } else { object.to_string() };
            let line = line(&value, Some(ORIGIN)).unwrap();
            prop_assert_eq!(line.matches(['\n', '\r']).count(), 1);
            let read: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
            for (name, member) in &members {
                prop_assert_eq!(&read[name], member);
            }
            prop_assert!(read.contains_key("id") && read.contains_key("timestamp"));
            // Byte for byte up to the brace, line breaks apart.
            let brace = value.rfind('}').unwrap();
            prop_assert_eq!(&line[..brace], value[..brace].replace(['\n', '\r'], " "));
        }

        #[test]
        fn every_literal_survives(literal in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?") {
            let line = line(&format!("{{\"rate\":{literal}}}"), Some(ORIGIN)).unwrap();
            prop_assert!(line.starts_with(&format!("{{\"rate\":{literal},")), "{}", line);
        }
    }
}
