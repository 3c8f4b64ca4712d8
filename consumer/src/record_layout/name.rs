//! A record's two names, from the record alone.

use coinduit_common::{
    event_id,
    line::{self, NotALine},
    object_key::{self, Prefix},
};

use crate::reader::Record;

/// What S3 allows for a key, in bytes.
const LONGEST: usize = 1024;

/// Where a record is read and its object is to go.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Before every key.
    pub prefix: &'a Prefix,
    /// The topic's name.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
}

/// The keys of `record`, whose `line` is given: the one that it wants, and the one where that has other bytes.
///
/// `code` is the line's member. `id` is the line's member where that is text or a number (as it is written); else the
/// header `id`; else the id of the record's place. Of members that come twice, the last counts.
///
/// # Errors
/// [`NotALine::NoName`], with what is missing or wrong. It depends on record and prefix alone.
pub fn keys(place: &Place<'_>, record: &Record, line: &[u8]) -> Result<(String, String), NotALine> {
    let no_name = |problem: &str| NotALine::NoName(problem.to_owned());
    let named = line::named(line);
    let code = named.code.ok_or_else(|| no_name("it has no member code that is text"))?;
    let id = named.id.filter(|id| !id.is_empty()).unwrap_or_else(|| {
        let header = record.header("id").and_then(|id| std::str::from_utf8(id).ok());
        header.filter(|id| !id.is_empty()).map_or_else(
            || event_id::of_position(place.topic, place.partition, record.offset).to_string(),
            ToOwned::to_owned,
        )
    });
    for (name, text) in [("code", &code), ("id", &id)] {
        if text.contains('/') {
            return Err(no_name(&format!("its {name} has a slash")));
        }
        // S3 can't list such keys: XML has no place for these characters.
        if text.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')) {
            return Err(no_name(&format!("its {name} has a control character")));
        }
    }
    if code.is_empty() {
        return Err(no_name("its code is empty"));
    }
    let key = object_key::record(place.prefix, &code, &id);
    let second = object_key::record_again(place.prefix, &code, &id, place.partition, record.offset);
    if second.len() > LONGEST {
        return Err(no_name(&format!("its key would have {} bytes, S3 allows {LONGEST}", second.len())));
    }
    Ok((key, second))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::reader::Header;

    fn record(id: Option<&'static [u8]>) -> Record {
        let header =
            |value| Header { name: Bytes::from_static(b"id"), value: Some(Bytes::from_static(value)) };
        Record {
            offset: 12_345,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: id.into_iter().map(header).collect(),
        }
    }

    fn keys_of(line: &str, id: Option<&'static [u8]>) -> Result<(String, String), String> {
        let prefix = Prefix::new("p").unwrap();
        let place = Place { prefix: &prefix, topic: "crypto_prices", partition: 3 };
        keys(&place, &record(id), line.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_the_seed_projects() {
        assert_eq!(
            keys_of(r#"{"code":"BTC","id":"i-1"}"#, None),
            Ok(("p/BTC_i-1.json".to_owned(), "p/BTC_i-1_3-12345.json".to_owned()))
        );
    }

    #[test]
    fn an_id_is_the_lines_or_the_headers_or_the_places() {
        let key = |line, id| keys_of(line, id).unwrap().0;
        assert_eq!(key(r#"{"code":"X","id":7e0}"#, None), "p/X_7e0.json");
        assert_eq!(key(r#"{"code":"X","id":"a"}"#, Some(b"h")), "p/X_a.json");
        for line in [
            r#"{"code":"X"}"#,
            r#"{"code":"X","id":null}"#,
            r#"{"code":"X","id":{}}"#,
            r#"{"code":"X","id":""}"#,
            r#"{"code":"X","id":"\ud800"}"#,
        ] {
            assert_eq!(key(line, Some(b"h")), "p/X_h.json", "{line}");
            for header in [None, Some(&b""[..]), Some(&b"\xff"[..])] {
                assert_eq!(key(line, header), "p/X_75981f5a-0718-5473-bc01-f8baf2ebae9a.json", "{line}");
            }
        }
    }

    #[test]
    fn of_members_that_come_twice_the_last_counts_and_escapes_are_resolved() {
        assert_eq!(
            keys_of(r#"{"code":"A","id":"1","\u0063ode":"\u0042","id":"2"}"#, None).unwrap().0,
            "p/B_2.json"
        );
    }

    #[test]
    fn what_has_no_name_is_told_apart() {
        let long = format!(r#"{{"code":"{}","id":"1"}}"#, "x".repeat(1_010));
        for (line, problem) in [
            ("{}", "it has no member code that is text"),
            (r#"{"code":null}"#, "it has no member code that is text"),
            (r#"{"code":7}"#, "it has no member code that is text"),
            (r#"{"code":"\ud800"}"#, "it has no member code that is text"),
            (r#"{"code":""}"#, "its code is empty"),
            (r#"{"code":"a/b"}"#, "its code has a slash"),
            (r#"{"code":"a","id":"../b"}"#, "its id has a slash"),
            (r#"{"code":"a\u0000"}"#, "its code has a control character"),
            (r#"{"code":"a","id":"\uffff"}"#, "its id has a control character"),
            (&long, "its key would have 1027 bytes, S3 allows 1024"),
        ] {
            let error = keys_of(line, None).unwrap_err();
            assert_eq!(error, format!("the record can't be named ({problem})"), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_has_two_keys_that_a_store_takes_or_none(code in "\\PC{0,30}|[\\x00-\\x7f]{0,10}", id in "\\PC{0,30}|[\\x00-\\x7f]{0,10}") {
            let line = serde_json::json!({ "code": code, "id": id }).to_string();
            if let Ok((key, second)) = keys_of(&line, None) {
                prop_assert_ne!(&key, &second);
                for key in [key, second] {
                    prop_assert!(object_store::path::Path::parse(&key).is_ok_and(|path| path.as_ref() == key), "{}", key);
                }
            }
        }
    }
}
