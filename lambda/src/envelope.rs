//! An event becomes the list of objects to handle.
//!
//! ```text
//! {"Records":[...]}        S3 notification --record by record--> object | ignored | refused
//! {"Event":"s3:TestEvent"} S3 trying out a new notification ---> ignored
//! ```
//!
//! The types are our own and ask only for what is needed: the published ones refuse an event that lacks a
//! member nobody reads (aws-lambda-rust-runtime #1064), and leave keys URL-encoded. A record that makes no
//! sense never hides the others.
//!
//! Source: Amazon S3 User Guide, "Event message structure".

use serde::Deserialize;
use serde_json::value::RawValue;

/// The consumer's note about a topic's objects.
const MANIFEST: &str = "_coinduit.json";
/// The path segment of everything that could not be stored.
const QUARANTINE: &str = "quarantine";

/// What one record of an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An object was created: store what is in it.
    Object(ObjectRef),
    /// Nothing to do.
    Ignored {
        /// Which object; empty for a test event.
        key: String,
        /// Why there is nothing to do.
        reason: Ignored,
    },
    /// A record that can't be handled. It fails the invocation, so that the event is kept.
    Refused(Refused),
}

/// An object that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// The bucket's name.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
}

/// Why there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// S3 asks whether the notification arrives.
    #[error("a test event of S3")]
    TestEvent,
    /// Removed, restored, tagged, ...
    #[error("the event is {0}, not a creation")]
    NotACreation(String),
    /// The consumer's note about a topic's objects.
    #[error("the consumer's {MANIFEST}")]
    Manifest,
    /// What was quarantined is for people.
    #[error("a quarantined record")]
    Quarantined,
    /// Somebody else's object in the same bucket.
    #[error("a foreign object: its key ends in neither .jsonl nor .json")]
    Foreign,
    /// Removed since; there is nothing left to store.
    #[error("the object is gone")]
    Gone,
}

/// Why a record can't be handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A compressed object.
    #[error(
        "object {key} in bucket {bucket} is compressed, which is not read yet; set COMPRESSION=none for the consumer"
    )]
    Compressed {
        /// The bucket's name.
        bucket: String,
        /// The key, decoded.
        key: String,
    },
    /// A record without what every S3 record has.
    #[error("record {record} of the event has no {member}; only notifications of S3 are understood")]
    Missing {
        /// Its place in the event, from 0.
        record: usize,
        /// What it lacks.
        member: &'static str,
    },
    /// A record with something else in its place.
    #[error("record {record} of the event can't be read ({problem})")]
    Malformed {
        /// Its place in the event, from 0.
        record: usize,
        /// The parser's word.
        problem: String,
    },
    /// A key whose bytes are not UTF-8; S3 has no such keys.
    #[error("record {record} of the event has the key {key}, which is not URL-encoded UTF-8")]
    Key {
        /// Its place in the event, from 0.
        record: usize,
        /// The key as it stands in the event.
        key: String,
    },
}

/// An event that is none of the shapes in the module's drawing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// No JSON object, or one whose `Records` is no list, or whose `Event` is no text.
    #[error("the event can't be read ({0})")]
    Malformed(String),
    /// A JSON object of another kind.
    #[error("the event has no known shape: it is neither a notification of S3 (Records) nor its test event")]
    UnknownShape,
}

/// What `event` asks for, record by record in its order.
///
/// # Errors
/// When it is no event of a known shape.
pub fn parse(event: &[u8]) -> Result<Vec<Entry>, EnvelopeError> {
    let event: Event =
        serde_json::from_slice(event).map_err(|error| EnvelopeError::Malformed(error.to_string()))?;
    match (event.records, event.event.as_deref()) {
        (Some(records), _) => Ok(records.iter().enumerate().map(|(at, json)| entry(at, json)).collect()),
        (None, Some("s3:TestEvent")) => {
            Ok(vec![Entry::Ignored { key: String::new(), reason: Ignored::TestEvent }])
        }
        (None, _) => Err(EnvelopeError::UnknownShape),
    }
}

fn entry(at: usize, json: &RawValue) -> Entry {
    let missing = |member| Entry::Refused(Refused::Missing { record: at, member });
    let record: Record = match serde_json::from_str(json.get()) {
        Ok(record) => record,
        Err(error) => return Entry::Refused(Refused::Malformed { record: at, problem: error.to_string() }),
    };
    let Some(s3) = record.s3 else { return missing("s3") };
    let Some(name) = record.event_name else { return missing("eventName") };
    let Some(bucket) = s3.bucket.and_then(|bucket| bucket.name) else { return missing("s3.bucket.name") };
    let Some(object) = s3.object else { return missing("s3.object") };
    let Some(encoded) = object.key else { return missing("s3.object.key") };
    let Some(key) = url_decode(&encoded) else {
        return Entry::Refused(Refused::Key { record: at, key: encoded });
    };

    if let Some(reason) = ignored(&name, &key) {
        return Entry::Ignored { key, reason };
    }
    if is_compressed(&key) {
        return Entry::Refused(Refused::Compressed { bucket, key });
    }
    Entry::Object(ObjectRef { bucket, key })
}

fn ignored(event: &str, key: &str) -> Option<Ignored> {
    // S3 writes the name without the prefix, stores that imitate it may write it with it.
    if !event.trim_start_matches("s3:").starts_with("ObjectCreated:") {
        return Some(Ignored::NotACreation(event.to_owned()));
    }
    let name = key.rsplit('/').next().unwrap_or_default();
    if name == MANIFEST {
        return Some(Ignored::Manifest);
    }
    if key.split('/').any(|segment| segment == QUARANTINE) {
        return Some(Ignored::Quarantined);
    }
    let known = key.ends_with(".jsonl") || key.ends_with(".json") || is_compressed(key);
    (!known).then_some(Ignored::Foreign)
}

fn is_compressed(key: &str) -> bool {
    key.ends_with(".jsonl.gz") || key.ends_with(".jsonl.zst")
}

/// The key that S3 wrote as a form value: `+` for a space, `%XX` for a byte. A `%` that begins no such
/// byte stands for itself. `None` where the bytes are not UTF-8.
fn url_decode(encoded: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        decoded.push(match (first, behind) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => b'%',
            },
            (other, _) => *other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Records")]
    records: Option<Vec<Box<RawValue>>>,
    #[serde(rename = "Event")]
    event: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: Option<String>,
    s3: Option<S3>,
}

#[derive(Deserialize)]
struct S3 {
    bucket: Option<Bucket>,
    object: Option<Object>,
}

#[derive(Deserialize)]
struct Bucket {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Object {
    key: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// As Amazon S3 writes it, with the members that we don't read.
    fn record(name: &str, key: &str) -> Value {
        json!({
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
            "eventTime": "2026-11-23T10:05:01.000Z", "eventName": name,
            "userIdentity": {"principalId": "AWS:EXAMPLE"}, "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810"},
            "s3": {
                "s3SchemaVersion": "1.0", "configurationId": "coinduit",
                "bucket": {"name": "prices-bucket", "ownerIdentity": {"principalId": "E"}, "arn": "arn:aws:s3:::prices-bucket"},
                "object": {"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "versionId": "v7", "sequencer": "0055AED6DCD90281E5"}
            }
        })
    }

    fn parse_records(records: &[Value]) -> Vec<Entry> {
        parse(json!({ "Records": records }).to_string().as_bytes()).unwrap()
    }

    fn one(name: &str, key: &str) -> Entry {
        parse_records(&[record(name, key)]).remove(0)
    }

    fn reason(name: &str, key: &str) -> Option<Ignored> {
        match one(name, key) {
            Entry::Ignored { reason, .. } => Some(reason),
            Entry::Object(_) => None,
            Entry::Refused(refused) => panic!("{refused}"),
        }
    }

    #[test]
    fn a_created_object_is_work() {
        let object = ObjectRef {
            bucket: "prices-bucket".to_owned(),
            key: "prices/crypto_prices/partition=3/00000000000000012345.jsonl".to_owned(),
        };
        let key = "prices/crypto_prices/partition%3D3/00000000000000012345.jsonl";
        for name in ["ObjectCreated:Put", "ObjectCreated:CompleteMultipartUpload", "s3:ObjectCreated:Put"] {
            assert_eq!(one(name, key), Entry::Object(object.clone()));
        }
    }

    #[test]
    fn every_record_is_handled_in_its_order() {
        let entries = parse_records(&[
            record("ObjectCreated:Put", "a.jsonl"),
            json!({"eventSource": "aws:sqs", "body": "{}"}),
            json!(7),
            record("ObjectCreated:Put", "b.jsonl"),
        ]);
        let keys: Vec<_> = entries
            .iter()
            .map(|entry| match entry {
                Entry::Object(object) => object.key.clone(),
                Entry::Refused(refused) => refused.to_string(),
                Entry::Ignored { .. } => panic!("{entry:?}"),
            })
            .collect();
        assert_eq!(keys[0], "a.jsonl");
        assert_eq!(keys[1], "record 1 of the event has no s3; only notifications of S3 are understood");
        assert!(keys[2].starts_with("record 2 of the event can't be read"), "{}", keys[2]);
        assert_eq!(keys[3], "b.jsonl");
    }

    #[test]
    fn keys_are_decoded_as_forms_are() {
        assert_eq!(
            url_decode("raw/dt%3D2026-11-23/a+b%2Bc.jsonl").as_deref(),
            Some("raw/dt=2026-11-23/a b+c.jsonl")
        );
        assert_eq!(url_decode("%E2%82%bf").as_deref(), Some("₿"));
        assert_eq!(url_decode("100%/%zz/%4").as_deref(), Some("100%/%zz/%4"));
        assert_eq!(url_decode("%ff"), None);
        assert!(matches!(
            one("ObjectCreated:Put", "%ff.json"),
            Entry::Refused(Refused::Key { record: 0, .. })
        ));
    }

    #[test]
    fn what_is_no_price_is_ignored_with_its_reason() {
        const PUT: &str = "ObjectCreated:Put";
        assert_eq!(
            reason("ObjectRemoved:Delete", "a.jsonl"),
            Some(Ignored::NotACreation("ObjectRemoved:Delete".to_owned()))
        );
        assert_eq!(reason(PUT, "prices/crypto_prices/_coinduit.json"), Some(Ignored::Manifest));
        assert_eq!(
            reason(PUT, "prices/quarantine/crypto_prices/partition%3D0/00000000000000000007.json"),
            Some(Ignored::Quarantined)
        );
        assert_eq!(reason(PUT, "quarantine/lambda/a.jsonl/3.json"), Some(Ignored::Quarantined));
        for foreign in ["photo.jpg", "a.jsonl.bz2", "a.json/", "jsonl", "a.JSON", ""] {
            assert_eq!(reason(PUT, foreign), Some(Ignored::Foreign), "{foreign}");
        }
        // A coin's code may begin with an underscore, and may be a word.
        for work in [
            "_IMX_99e88ed2.json",
            "a/__GMX_1.json",
            "quarantine_1.json",
            "not-quarantine/a.jsonl",
            "x_coinduit.json",
        ] {
            assert_eq!(reason(PUT, work), None, "{work}");
        }
    }

    #[test]
    fn a_compressed_object_is_refused_by_name() {
        for key in ["a/1.jsonl.gz", "a/1.jsonl.zst"] {
            let Entry::Refused(refused) = one("ObjectCreated:Put", key) else {
                panic!("{key} was not refused")
            };
            assert_eq!(
                refused,
                Refused::Compressed { bucket: "prices-bucket".to_owned(), key: key.to_owned() }
            );
            assert!(refused.to_string().contains(key));
        }
        assert_eq!(
            reason("ObjectRemoved:Delete", "a.jsonl.gz"),
            Some(Ignored::NotACreation("ObjectRemoved:Delete".to_owned()))
        );
    }

    #[test]
    fn the_test_event_is_ignored() {
        let event = br#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-23T10:05:00.000Z","Bucket":"b","RequestId":"r","HostId":"h"}"#;
        assert_eq!(parse(event), Ok(vec![Entry::Ignored { key: String::new(), reason: Ignored::TestEvent }]));
    }

    #[test]
    fn an_event_of_no_known_shape_is_an_error() {
        for unknown in
            ["{}", r#"{"Event":"s3:Other"}"#, r#"{"detail-type":"Object Created"}"#, r#"{"Records":null}"#]
        {
            assert_eq!(parse(unknown.as_bytes()), Err(EnvelopeError::UnknownShape), "{unknown}");
        }
        for broken in ["", "7", "{", r#"{"Records":{}}"#, r#"{"Event":7}"#, "\"text\""] {
            assert!(matches!(parse(broken.as_bytes()), Err(EnvelopeError::Malformed(_))), "{broken}");
        }
    }

    #[test]
    fn members_that_nobody_needs_may_be_missing_or_wrong() {
        let bare = json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "a.json"}}});
        let odd = json!({"eventName": "ObjectCreated:Put", "eventTime": 7, "s3": {"bucket": {"name": "b"}, "object": {"key": "a.json", "size": "big", "versionId": null, "sequencer": []}}});
        let object = ObjectRef { bucket: "b".to_owned(), key: "a.json".to_owned() };
        assert_eq!(parse_records(&[bare, odd]), vec![Entry::Object(object.clone()), Entry::Object(object)]);
    }

    #[test]
    fn a_record_that_lacks_something_says_what() {
        let lacks = |remove: &str| {
            let mut record = record("ObjectCreated:Put", "a.jsonl");
            let (parent, member) = remove.rsplit_once('/').unwrap();
            record.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(member);
            parse_records(&[record]).remove(0)
        };
        for (pointer, member) in [
            ("/eventName", "eventName"),
            ("/s3", "s3"),
            ("/s3/bucket", "s3.bucket.name"),
            ("/s3/bucket/name", "s3.bucket.name"),
            ("/s3/object", "s3.object"),
            ("/s3/object/key", "s3.object.key"),
        ] {
            assert_eq!(lacks(pointer), Entry::Refused(Refused::Missing { record: 0, member }), "{pointer}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(event in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&event));
        }

        #[test]
        fn a_record_with_anything_anywhere_never_hides_the_others(
            pointer in prop::sample::select(vec!["", "/eventName", "/s3", "/s3/bucket", "/s3/bucket/name", "/s3/object", "/s3/object/key", "/s3/object/size"]),
            value in prop_oneof![Just(Value::Null), any::<i64>().prop_map(Into::into), "\\PC*".prop_map(Into::into), Just(json!([])), Just(json!({}))],
        ) {
            let mut odd = record("ObjectCreated:Put", "a.jsonl");
            *odd.pointer_mut(pointer).unwrap() = value;
            let entries = parse_records(&[odd, record("ObjectCreated:Put", "b.jsonl")]);
            prop_assert_eq!(entries.len(), 2);
            prop_assert!(matches!(&entries[1], Entry::Object(object) if object.key == "b.jsonl"));
        }

        #[test]
        fn an_encoded_key_is_decoded_to_itself(key in "\\PC*") {
            let encoded: String = key.bytes().map(|byte| if byte == b' ' { "+".to_owned() } else { format!("%{byte:02X}") }).collect();
            prop_assert_eq!(url_decode(&encoded), Some(key));
        }
    }
}
