//! Where lines go that can't be rows, so that a person can look at them and nothing is lost.
//!
//! ```text
//! line 3 of prices/crypto_prices/partition=0/00000000000000000000.jsonl
//!   --> quarantine/lambda/prices/crypto_prices/partition=0/00000000000000000000.jsonl/3.json
//! ```
//!
//! A key that leaves no room for that has a hash in its place; what is kept names it in full.
//!
//! Name and content are a function of the line and of where it stands, so a repeated event writes the same
//! object again. Its own event is ignored for the `quarantine` in its key.

use base64::{Engine, prelude::BASE64_STANDARD};
use coinduit_common::event_id::NAMESPACE;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{Attribute, Attributes, ObjectStore, PutOptions};
use serde::Serialize;
use uuid::Uuid;

use crate::{object, row::Rejected};

/// How many lines of one object are put aside.
pub const MOST: usize = 10_000;
/// The longest key of S3.
const MAX_KEY_BYTES: usize = 1024;
/// A line longer than that is not kept as text too.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// How many lines are put at once.
const AT_ONCE: usize = 16;

/// A rejected line that could not be put aside.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// An object of nothing but such lines is no object of ours, and one object each would be put for ever.
    #[error(
        "{0} lines can't be rows; the first {MOST} are in the quarantine, the others only in the object itself: remove it, \
         or repair it and put it again"
    )]
    TooMany(usize),
    /// The store refused, failed or was not reached.
    #[error("put {name}, where line {line} is kept")]
    Store {
        /// The line's number.
        line: usize,
        /// The object that would keep it.
        name: String,
        /// Why not.
        #[source]
        source: object_store::Error,
    },
    /// The invocation has no time left.
    #[error(
        "the invocation's time was over before every rejected line was put aside; raise the function's timeout"
    )]
    OutOfTime,
}

/// What is kept of a line.
#[derive(Serialize)]
struct Kept<'a> {
    reason: String,
    key: &'a str,
    line: usize,
    /// The line's bytes in base64.
    value: String,
    /// The same as text, where it is text, and not too much of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// Puts aside all lines of the object `key` that were `rejected`.
///
/// # Errors
/// The first that could not be put; others may be there.
///
/// # Cancel safety
/// Dropping the future leaves any of them there. Putting them again is harmless.
pub async fn put(store: &dyn ObjectStore, key: &str, rejected: &[Rejected]) -> Result<(), QuarantineError> {
    stream::iter(rejected)
        .map(|rejected| async move {
            let name = name(key, rejected.line);
            let path = object::path(&name).expect("the object's key is a path, and so is its hash");
            let attributes = Attributes::from_iter([(Attribute::ContentType, "application/json")]);
            let options = PutOptions { attributes, ..PutOptions::default() };
            let put = store.put_opts(&path, content(key, rejected).into(), options).await;
            put.map(drop).map_err(|source| QuarantineError::Store { line: rejected.line, name, source })
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

fn name(key: &str, line: usize) -> String {
    let name = format!("quarantine/lambda/{key}/{line}.json");
    if name.len() <= MAX_KEY_BYTES {
        return name;
    }
    format!("quarantine/lambda/{}/{line}.json", Uuid::new_v5(&NAMESPACE, key.as_bytes()))
}

fn content(key: &str, rejected: &Rejected) -> Vec<u8> {
    let kept = Kept {
        reason: rejected.reason.to_string(),
        key,
        line: rejected.line,
        value: BASE64_STANDARD.encode(&rejected.raw),
        text: std::str::from_utf8(&rejected.raw).ok().filter(|text| text.len() <= MAX_TEXT_BYTES),
    };
    serde_json::to_vec(&kept).expect("strings and numbers are written to memory")
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt, memory::InMemory};
    use serde_json::{Value, json};

    use super::*;
    use crate::row::Reason;

    fn rejected(line: usize, raw: &[u8]) -> Rejected {
        Rejected { line, reason: Reason::Missing("code"), raw: raw.to_owned() }
    }

    #[tokio::test]
    async fn a_line_is_kept_byte_for_byte_with_its_reason() {
        let store = InMemory::new();
        put(&store, "a/0.jsonl", &[rejected(3, b"{\"rate\":1}"), rejected(7, b"\xff")]).await.unwrap();
        let kept = async |name: &str| {
            let got = store.get(&object::path(name).unwrap()).await.unwrap();
            assert_eq!(
                got.attributes.get(&Attribute::ContentType).map(AsRef::as_ref),
                Some("application/json")
            );
            serde_json::from_slice::<Value>(&got.bytes().await.unwrap()).unwrap()
        };
        assert_eq!(
            kept("quarantine/lambda/a/0.jsonl/3.json").await,
            json!({"reason": "code is missing", "key": "a/0.jsonl", "line": 3, "value": "eyJyYXRlIjoxfQ==", "text": "{\"rate\":1}"})
        );
        assert_eq!(
            kept("quarantine/lambda/a/0.jsonl/7.json").await,
            json!({"reason": "code is missing", "key": "a/0.jsonl", "line": 7, "value": "/w=="})
        );
    }

    #[test]
    fn a_key_that_leaves_no_room_is_kept_by_its_hash() {
        let key = "k".repeat(1020);
        assert_eq!(name(&key, 3), name(&key, 3));
        assert_ne!(name(&key, 3), name(&"l".repeat(1020), 3));
        assert!(
            name(&key, 3).len() < 100 && name(&key, 3).starts_with("quarantine/lambda/"),
            "{}",
            name(&key, 3)
        );
        assert_eq!(name(&"k".repeat(990), 3).len(), 18 + 990 + 7);
    }

    #[test]
    fn the_same_line_is_kept_the_same_way() {
        assert_eq!(content("a", &rejected(1, b"x")), content("a", &rejected(1, b"x")));
        assert_ne!(content("a", &rejected(1, b"x")), content("a", &rejected(2, b"x")));
    }
}
