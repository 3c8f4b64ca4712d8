//! An event becomes the list of objects to handle, whatever envelopes it came in.
//!
//! ```text
//! {"Records":[{"s3":...}]}          S3 notification ---record by record--> object | ignored | refused
//! {"Records":[{"body":"..."}]}      SQS: one part per message, what is in it as below
//! {"Records":[{"Sns":{...}}]}       SNS: what is in its Message as below
//! {"Type":..,"Message":"..."}       SNS without Lambda's envelope, as it lies in a queue
//! {"detail-type":..,"detail":...}   EventBridge
//! {"Event":"s3:TestEvent"}          S3 trying out a new notification ----> ignored
//! ```
//!
//! Envelopes may be in each other. The types are our own and ask only for what is needed: the published ones refuse
//! an event that lacks a member nobody reads (aws-lambda-rust-runtime #1064), and leave keys URL-encoded. A record
//! that makes no sense never hides the others.
//!
//! Source: Amazon S3 User Guide, "Event message structure" and "EventBridge event message structure"; AWS Lambda
//! Developer Guide, "Using Lambda with Amazon SQS" and "... SNS".

use serde::Deserialize;
use serde_json::value::RawValue;

/// The consumer's note about a topic's objects.
const MANIFEST: &str = "_coinduit.json";
/// The path segment of everything that could not be stored.
const QUARANTINE: &str = "quarantine";
/// How many envelopes may be in each other: S3 in EventBridge in SNS in SQS, and one to spare.
const MAX_ENVELOPES: usize = 5;
/// How much of an unknown event is shown, in characters and in members.
const SHOWN_CHARACTERS: usize = 80;
const SHOWN_MEMBERS: usize = 8;

/// What succeeds or fails together: a message of a queue, or a record that came without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The message, where the answer can say what became of it.
    pub message: Option<QueueMessage>,
    /// What it asks for.
    pub entries: Vec<Entry>,
}

/// A message of SQS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueMessage {
    /// What the answer names it by.
    pub id: String,
    /// In a FIFO queue: the messages among which order is kept. A message that fails stops those behind it.
    pub group: Option<String>,
}

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
    /// A record that can't be handled. It fails what it came with, so that the event is kept.
    Refused(Refused),
}

/// An object that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// The bucket's name.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// Which version of it, in a bucket that keeps them.
    pub version: Option<String>,
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
    #[error("a foreign object: its key ends in none of .jsonl, .jsonl.gz, .jsonl.zst and .json")]
    Foreign,
    /// Removed since; there is nothing left to store.
    #[error("the object is gone")]
    Gone,
}

/// Why a record can't be handled. `place` says where it stands: `record 0 of SQS message m-1`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A record without what every record of its kind has.
    #[error("{place} has no {member}; only notifications of S3 are understood")]
    Missing {
        /// Where it stands.
        place: String,
        /// What it lacks.
        member: &'static str,
    },
    /// A record with something else in its place.
    #[error("{place} can't be read ({problem})")]
    Malformed {
        /// Where it stands.
        place: String,
        /// The parser's word.
        problem: String,
    },
    /// A record of something else.
    #[error("{place} has no known shape: {seen}; only notifications of S3 are understood")]
    Unknown {
        /// Where it stands.
        place: String,
        /// What is there instead, shortened.
        seen: String,
    },
    /// A key whose bytes are not UTF-8; S3 has no such keys.
    #[error("{place} has the key {key}, which is not URL-encoded UTF-8")]
    Key {
        /// Where it stands.
        place: String,
        /// The key as it stands in the event.
        key: String,
    },
    /// Nobody wraps that often.
    #[error("{place} is in more than {MAX_ENVELOPES} envelopes")]
    Depth {
        /// Where it stands.
        place: String,
    },
}

/// An event that is none of the shapes in the module's drawing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// No JSON object.
    #[error("the event can't be read ({0})")]
    Malformed(String),
    /// A JSON object of another kind.
    #[error(
        "the event has no known shape: {0}; a notification of S3 is understood, directly or in SQS, SNS or EventBridge"
    )]
    UnknownShape(String),
}

/// What `event` asks for, part by part in its order.
///
/// # Errors
/// When it is no event of a known shape.
pub fn parse(event: &[u8]) -> Result<Vec<Part>, EnvelopeError> {
    let malformed = |problem: String| EnvelopeError::Malformed(problem);
    let text = std::str::from_utf8(event).map_err(|error| malformed(error.to_string()))?;
    let envelope: Envelope = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    if let Some(records) = envelope.records {
        return Ok(list(records)
            .map_err(|error| malformed(format!("Records: {error}")))?
            .into_iter()
            .enumerate()
            .map(|(at, json)| part(at, json))
            .collect());
    }
    let entries = open(&envelope, text, "the event", 1).map_err(|refused| match refused {
        Refused::Unknown { seen, .. } => EnvelopeError::UnknownShape(seen),
        other => malformed(other.to_string()),
    })?;
    Ok(vec![Part { message: None, entries }])
}

/// Why an event about `key` needs nothing to be done; `None` for an object whose lines are rows.
#[must_use]
pub fn skipped(key: &str) -> Option<Ignored> {
    let name = key.rsplit('/').next().unwrap_or_default();
    if name == MANIFEST {
        return Some(Ignored::Manifest);
    }
    if key.split('/').any(|segment| segment == QUARANTINE) {
        return Some(Ignored::Quarantined);
    }
    let known = [".jsonl", ".jsonl.gz", ".jsonl.zst", ".json"].iter().any(|ending| key.ends_with(ending));
    (!known).then_some(Ignored::Foreign)
}

/// One record of the event itself.
fn part(at: usize, json: &RawValue) -> Part {
    let place = format!("record {at} of the event");
    let message =
        serde_json::from_str::<Record>(json.get()).ok().filter(Record::is_queued).and_then(|record| {
            let id = text(record.message_id).filter(|id| !id.is_empty())?;
            // Ordinary queues have groups too, which keep no order.
            let arn = text(record.event_source_arn).unwrap_or_default();
            let attributes: Attributes =
                record.attributes.and_then(|json| serde_json::from_str(json.get()).ok()).unwrap_or_default();
            let is_fifo = arn.ends_with(".fifo") || attributes.sequence_number.is_some();
            Some(QueueMessage { id, group: text(attributes.group).filter(|_| is_fifo) })
        });
    Part { message, entries: record(json, &place, 1) }
}

/// What is in an envelope's text, which stands at `place` within `depth` others.
fn unwrap(text: &str, place: &str, depth: usize) -> Vec<Entry> {
    let refused = |refused| vec![Entry::Refused(refused)];
    if depth > MAX_ENVELOPES {
        return refused(Refused::Depth { place: place.to_owned() });
    }
    let envelope: Envelope = match serde_json::from_str(text) {
        Ok(envelope) => envelope,
        Err(error) => {
            let problem = format!("{error}; it begins with {:?}", beginning(text));
            return refused(Refused::Malformed { place: place.to_owned(), problem });
        }
    };
    let Some(records) = envelope.records else {
        return open(&envelope, text, place, depth).unwrap_or_else(refused);
    };
    match list(records) {
        Ok(records) => {
            let each = |(at, json)| record(json, &format!("record {at} of {place}"), depth);
            records.into_iter().enumerate().flat_map(each).collect()
        }
        Err(error) => {
            refused(Refused::Malformed { place: place.to_owned(), problem: format!("Records: {error}") })
        }
    }
}

/// What is in an envelope that is no list of records.
fn open(envelope: &Envelope<'_>, json: &str, place: &str, depth: usize) -> Result<Vec<Entry>, Refused> {
    if text(envelope.event).as_deref() == Some("s3:TestEvent") {
        return Ok(vec![Entry::Ignored { key: String::new(), reason: Ignored::TestEvent }]);
    }
    if let Some(detail) = envelope.detail
        && text(envelope.source).as_deref() == Some("aws.s3")
        && let Some(kind) = text(envelope.detail_type)
        && kind.starts_with("Object ")
    {
        return Ok(vec![bridged(detail, &kind, place)]);
    }
    if let Some(message) = envelope.message {
        return Ok(unwrap(&content(message), &format!("the SNS message in {place}"), depth + 1));
    }
    Err(Refused::Unknown { place: place.to_owned(), seen: seen(json) })
}

/// What one record asks for.
fn record(json: &RawValue, place: &str, depth: usize) -> Vec<Entry> {
    let refused = |refused| vec![Entry::Refused(refused)];
    let missing = |member| refused(Refused::Missing { place: place.to_owned(), member });
    let record: Record = match serde_json::from_str(json.get()) {
        Ok(record) => record,
        Err(error) => {
            return refused(Refused::Malformed { place: place.to_owned(), problem: error.to_string() });
        }
    };
    if let Some(s3) = record.s3 {
        return vec![notified(s3, record.event_name, place)];
    }
    if let Some(sns) = record.sns {
        let message = serde_json::from_str::<Envelope>(sns.get()).ok().and_then(|sns| sns.message);
        return match message {
            Some(message) => unwrap(&content(message), &format!("the SNS message in {place}"), depth + 1),
            None => missing("Sns.Message"),
        };
    }
    if record.is_queued() {
        let Some(body) = record.body else { return missing("body") };
        let place = match text(record.message_id) {
            Some(id) => format!("SQS message {id}"),
            None => place.to_owned(),
        };
        return unwrap(&content(body), &place, depth + 1);
    }
    if record.event_name.is_some() || text(record.event_source).as_deref() == Some("aws:s3") {
        return missing("s3");
    }
    refused(Refused::Unknown { place: place.to_owned(), seen: seen(json.get()) })
}

/// A record of S3's own notification.
fn notified(s3: &RawValue, name: Option<&RawValue>, place: &str) -> Entry {
    let missing = |member| Entry::Refused(Refused::Missing { place: place.to_owned(), member });
    let malformed = |error: serde_json::Error| {
        Entry::Refused(Refused::Malformed { place: place.to_owned(), problem: error.to_string() })
    };
    let Some(name) = text(name) else { return missing("eventName") };
    let s3: Subject = match serde_json::from_str(s3.get()) {
        Ok(s3) => s3,
        Err(error) => return malformed(error),
    };
    let Some(bucket) = s3.bucket.and_then(|bucket| bucket.name) else { return missing("s3.bucket.name") };
    let Some(object) = s3.object else { return missing("s3.object") };
    let Some(encoded) = object.key else { return missing("s3.object.key") };
    let Some(key) = url_decode(&encoded) else {
        return Entry::Refused(Refused::Key { place: place.to_owned(), key: encoded });
    };
    // S3 writes the name without the prefix, stores that imitate it may write it with it.
    if !name.trim_start_matches("s3:").starts_with("ObjectCreated:") {
        return Entry::Ignored { key, reason: Ignored::NotACreation(name) };
    }
    created(bucket, key, text(object.version_id))
}

/// An event of EventBridge: `detail` of the `kind` "Object Created", "Object Deleted", ... Its key is not encoded.
fn bridged(detail: &RawValue, kind: &str, place: &str) -> Entry {
    let missing = |member| Entry::Refused(Refused::Missing { place: place.to_owned(), member });
    let detail: Subject = match serde_json::from_str(detail.get()) {
        Ok(detail) => detail,
        Err(error) => {
            return Entry::Refused(Refused::Malformed {
                place: place.to_owned(),
                problem: error.to_string(),
            });
        }
    };
    let Some(bucket) = detail.bucket.and_then(|bucket| bucket.name) else {
        return missing("detail.bucket.name");
    };
    let Some(object) = detail.object else { return missing("detail.object") };
    let Some(key) = object.key else { return missing("detail.object.key") };
    if kind != "Object Created" {
        return Entry::Ignored { key, reason: Ignored::NotACreation(kind.to_owned()) };
    }
    created(bucket, key, text(object.bridged_version_id))
}

fn created(bucket: String, key: String, version: Option<String>) -> Entry {
    match skipped(&key) {
        Some(reason) => Entry::Ignored { key, reason },
        None => {
            Entry::Object(ObjectRef { bucket, key, version: version.filter(|version| !version.is_empty()) })
        }
    }
}

/// A string's text; `None` for anything else.
fn text(json: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(json?.get()).ok()
}

/// What an envelope carries: JSON as text, as AWS does it, or as it is.
fn content(json: &RawValue) -> String {
    text(Some(json)).unwrap_or_else(|| json.get().to_owned())
}

fn list(json: &RawValue) -> Result<Vec<&RawValue>, serde_json::Error> {
    serde_json::from_str(json.get())
}

/// What an unknown `json` looks like, shortened, without its values: they may be anybody's.
fn seen(json: &str) -> String {
    let Ok(members) = serde_json::from_str::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>(json)
    else {
        return format!("it begins with {:?}", beginning(json));
    };
    if members.is_empty() {
        return "it is empty".to_owned();
    }
    let names: Vec<_> =
        members.keys().take(SHOWN_MEMBERS).map(|name| format!("{:?}", beginning(name))).collect();
    let more = members.len().saturating_sub(SHOWN_MEMBERS);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("its members are {}{more}", names.join(", "))
}

fn beginning(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
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

/// Any envelope that is not a record. What has the wrong type is as good as missing.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "Records", borrow)]
    records: Option<&'a RawValue>,
    #[serde(rename = "Event", borrow)]
    event: Option<&'a RawValue>,
    #[serde(rename = "Message", borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(rename = "detail-type", borrow)]
    detail_type: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    #[serde(borrow)]
    event_name: Option<&'a RawValue>,
    #[serde(borrow)]
    event_source: Option<&'a RawValue>,
    #[serde(rename = "eventSourceARN", borrow)]
    event_source_arn: Option<&'a RawValue>,
    #[serde(borrow)]
    s3: Option<&'a RawValue>,
    #[serde(rename = "Sns", borrow)]
    sns: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
}

impl Record<'_> {
    fn is_queued(&self) -> bool {
        self.s3.is_none()
            && self.sns.is_none()
            && (self.body.is_some() || text(self.event_source).as_deref() == Some("aws:sqs"))
    }
}

#[derive(Default, Deserialize)]
struct Attributes<'a> {
    #[serde(rename = "MessageGroupId", borrow)]
    group: Option<&'a RawValue>,
    #[serde(rename = "SequenceNumber", borrow)]
    sequence_number: Option<&'a RawValue>,
}

/// Whose object it is about.
#[derive(Deserialize)]
struct Subject<'a> {
    bucket: Option<Bucket>,
    #[serde(borrow)]
    object: Option<Object<'a>>,
}

#[derive(Deserialize)]
struct Bucket {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Object<'a> {
    key: Option<String>,
    #[serde(rename = "versionId", borrow)]
    version_id: Option<&'a RawValue>,
    #[serde(rename = "version-id", borrow)]
    bridged_version_id: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const PUT: &str = "ObjectCreated:Put";

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
                "object": {"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055AED6DCD90281E5"}
            }
        })
    }

    fn s3(keys: &[&str]) -> Value {
        json!({ "Records": keys.iter().map(|key| record(PUT, key)).collect::<Vec<_>>() })
    }

    fn test_event() -> Value {
        json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-23T10:05:00.000Z", "Bucket": "b", "RequestId": "r", "HostId": "h"})
    }

    fn sqs(id: &str, body: &str) -> Value {
        json!({
            "messageId": id, "receiptHandle": "AQEB", "body": body,
            "attributes": {"ApproximateReceiveCount": "1", "SenderId": "A", "SentTimestamp": "1", "ApproximateFirstReceiveTimestamp": "1"},
            "messageAttributes": {}, "md5OfBody": "0", "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:objects", "awsRegion": "us-east-1"
        })
    }

    fn fifo(id: &str, group: &str, body: &str) -> Value {
        let mut message = sqs(id, body);
        message["eventSourceARN"] = json!("arn:aws:sqs:us-east-1:123456789012:objects.fifo");
        message["attributes"]["MessageGroupId"] = json!(group);
        message
    }

    fn sns(message: &str) -> Value {
        json!({"EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": "arn:aws:sns:eu-west-1:1:t:s", "Sns": {
            "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Subject": "Amazon S3 Notification",
            "Message": message, "Timestamp": "2026-11-23T10:05:01.000Z", "SignatureVersion": "1", "Signature": "E", "MessageAttributes": {}
        }})
    }

    fn sns_body(message: &str) -> Value {
        json!({"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": message, "Timestamp": "2026-11-23T10:05:01.000Z"})
    }

    fn bridge(kind: &str, key: &str) -> Value {
        json!({
            "version": "0", "id": "17793124", "detail-type": kind, "source": "aws.s3", "account": "123456789012",
            "time": "2026-11-23T10:05:01Z", "region": "ca-central-1", "resources": ["arn:aws:s3:::prices-bucket"],
            "detail": {
                "version": "0", "bucket": {"name": "prices-bucket"},
                "object": {"key": key, "size": 5, "etag": "b1946ac92492d2347c6235b4d2611184", "version-id": "IYV3", "sequencer": "00617F08299329D189"},
                "request-id": "N4N7GDK58NMKJ12R", "requester": "123456789012", "source-ip-address": "1.2.3.4", "reason": "PutObject"
            }
        })
    }

    fn object(key: &str) -> Entry {
        Entry::Object(ObjectRef { bucket: "prices-bucket".to_owned(), key: key.to_owned(), version: None })
    }

    fn parts(event: &Value) -> Vec<Part> {
        parse(event.to_string().as_bytes()).unwrap()
    }

    fn entries(event: &Value) -> Vec<Entry> {
        parts(event).into_iter().flat_map(|part| part.entries).collect()
    }

    fn parse_records(records: &[Value]) -> Vec<Entry> {
        entries(&json!({ "Records": records }))
    }

    fn refusal(event: &Value) -> String {
        match entries(event).remove(0) {
            Entry::Refused(refused) => refused.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn reason(name: &str, key: &str) -> Option<Ignored> {
        match parse_records(&[record(name, key)]).remove(0) {
            Entry::Ignored { reason, .. } => Some(reason),
            Entry::Object(_) => None,
            Entry::Refused(refused) => panic!("{refused}"),
        }
    }

    #[test]
    fn a_created_object_is_work() {
        let key = "prices/crypto_prices/partition%3D3/00000000000000012345.jsonl";
        for name in [PUT, "ObjectCreated:CompleteMultipartUpload", "s3:ObjectCreated:Put"] {
            assert_eq!(
                parse_records(&[record(name, key)]),
                [object("prices/crypto_prices/partition=3/00000000000000012345.jsonl")]
            );
        }
        for key in ["a.jsonl.gz", "a.jsonl.zst", "BTC_1.json"] {
            assert_eq!(parse_records(&[record(PUT, key)]), [object(key)]);
        }
    }

    #[test]
    fn every_envelope_is_opened_and_every_record_in_it_read() {
        let two = s3(&["a+b.jsonl", "c%2Bd.jsonl"]).to_string();
        let bridged = bridge("Object Created", "a b.jsonl").to_string();
        let expected = [object("a b.jsonl"), object("c+d.jsonl")];
        for (what, event) in [
            ("direct", s3(&["a+b.jsonl", "c%2Bd.jsonl"])),
            ("sqs", json!({"Records": [sqs("1", &two)]})),
            ("sns", json!({"Records": [sns(&two)]})),
            ("sns without an envelope", sns_body(&two)),
            ("sns in sqs", json!({"Records": [sqs("1", &sns_body(&two).to_string())]})),
            (
                "an event that Lambda put into a queue",
                json!({"Records": [sqs("1", &json!({"Records": [sns(&two)]}).to_string())]}),
            ),
        ] {
            assert_eq!(entries(&event), expected, "{what}");
        }
        let bridged_object = Entry::Object(ObjectRef {
            bucket: "prices-bucket".to_owned(),
            key: "a b.jsonl".to_owned(),
            version: Some("IYV3".to_owned()),
        });
        for (what, event) in [
            ("eventbridge", bridge("Object Created", "a b.jsonl")),
            ("eventbridge in sqs", json!({"Records": [sqs("1", &bridged)]})),
            ("eventbridge in sns", json!({"Records": [sns(&bridged)]})),
            ("eventbridge in sns in sqs", json!({"Records": [sqs("1", &sns_body(&bridged).to_string())]})),
        ] {
            assert_eq!(entries(&event), std::slice::from_ref(&bridged_object), "{what}");
        }
    }

    #[test]
    fn a_test_event_is_ignored_in_every_envelope() {
        let test = test_event().to_string();
        for event in [
            test_event(),
            json!({"Records": [sqs("1", &test)]}),
            json!({"Records": [sns(&test)]}),
            json!({"Records": [sqs("1", &sns_body(&test).to_string())]}),
        ] {
            assert_eq!(
                entries(&event),
                [Entry::Ignored { key: String::new(), reason: Ignored::TestEvent }],
                "{event}"
            );
        }
    }

    #[test]
    fn each_message_of_a_queue_is_a_part_of_its_own() {
        let event = json!({"Records": [sqs("m-1", &s3(&["a.jsonl"]).to_string()), sqs("m-2", "poison"), fifo("m-3", "g", "{}")]});
        let parts = parts(&event);
        let messages: Vec<_> = parts.iter().map(|part| part.message.clone().unwrap()).collect();
        let message = |id: &str, group: Option<&str>| QueueMessage {
            id: id.to_owned(),
            group: group.map(str::to_owned),
        };
        assert_eq!(messages, [message("m-1", None), message("m-2", None), message("m-3", Some("g"))]);
        assert_eq!(parts[0].entries, [object("a.jsonl")]);
        let Entry::Refused(refused) = &parts[1].entries[0] else { panic!() };
        assert!(
            refused.to_string().starts_with("SQS message m-2 can't be read (")
                && refused.to_string().contains("\"poison\""),
            "{refused}"
        );
        let Entry::Refused(refused) = &parts[2].entries[0] else { panic!() };
        assert_eq!(
            refused.to_string(),
            "SQS message m-3 has no known shape: it is empty; only notifications of S3 are understood"
        );
    }

    #[test]
    fn groups_keep_order_in_fifo_queues_only() {
        let mut fair = fifo("1", "g", "{}");
        fair["eventSourceARN"] = json!("arn:aws:sqs:us-east-1:123456789012:objects");
        let group = |message: &Value| parts(&json!({"Records": [message]}))[0].message.clone().unwrap().group;
        assert_eq!(group(&fair), None);
        fair["attributes"]["SequenceNumber"] = json!("18849496460467696128");
        assert_eq!(group(&fair).as_deref(), Some("g"));
    }

    #[test]
    fn a_message_without_an_id_can_not_be_answered_by_itself() {
        for id in [Value::Null, json!(7), json!("")] {
            let mut message = sqs("1", &s3(&["a.jsonl"]).to_string());
            message["messageId"] = id;
            let parts = parts(&json!({"Records": [message]}));
            assert_eq!((&parts[0].message, &parts[0].entries[..]), (&None, &[object("a.jsonl")][..]));
        }
    }

    #[test]
    fn an_empty_list_of_records_asks_for_nothing() {
        assert_eq!(parts(&json!({"Records": []})), []);
        assert_eq!(entries(&json!({"Records": [sqs("1", r#"{"Records":[]}"#)]})), []);
    }

    #[test]
    fn every_record_is_handled_in_its_order() {
        let entries = parse_records(&[
            record(PUT, "a.jsonl"),
            json!({"eventSource": "aws:dynamodb", "dynamodb": {"Keys": "secret"}}),
            json!(7),
            json!({"eventSource": "aws:sqs", "messageId": "m"}),
            json!({"EventSource": "aws:sns", "Sns": {}}),
            record(PUT, "b.jsonl"),
        ]);
        let texts: Vec<_> = entries
            .iter()
            .map(|entry| match entry {
                Entry::Object(object) => object.key.clone(),
                Entry::Refused(refused) => refused.to_string(),
                Entry::Ignored { .. } => panic!("{entry:?}"),
            })
            .collect();
        assert_eq!(texts[0], "a.jsonl");
        assert_eq!(
            texts[1],
            "record 1 of the event has no known shape: its members are \"dynamodb\", \"eventSource\"; only notifications of S3 are understood"
        );
        assert!(texts[2].starts_with("record 2 of the event can't be read"), "{}", texts[2]);
        assert!(texts[3].starts_with("record 3 of the event has no body"), "{}", texts[3]);
        assert!(texts[4].starts_with("record 4 of the event has no Sns.Message"), "{}", texts[4]);
        assert_eq!(texts[5], "b.jsonl");
    }

    #[test]
    fn keys_are_decoded_as_forms_are() {
        assert_eq!(
            url_decode("raw/dt%3D2026-11-23/a+b%2Bc.jsonl").as_deref(),
            Some("raw/dt=2026-11-23/a b+c.jsonl")
        );
        assert_eq!(url_decode("%E2%82%bf%2Fx").as_deref(), Some("₿/x"));
        assert_eq!(url_decode("100%/%zz/%4").as_deref(), Some("100%/%zz/%4"));
        assert_eq!(url_decode("%ff"), None);
        assert!(refusal(&s3(&["%ff.json"])).contains("record 0 of the event has the key %ff.json"));
    }

    #[test]
    fn the_version_that_was_created_is_asked_for() {
        let version = |version: Value| {
            let mut event = s3(&["a.jsonl"]);
            event["Records"][0]["s3"]["object"]["versionId"] = version;
            match entries(&event).remove(0) {
                Entry::Object(object) => object.version,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(version(json!("v7")).as_deref(), Some("v7"));
        for none in [Value::Null, json!(""), json!(7)] {
            assert_eq!(version(none), None);
        }
    }

    #[test]
    fn what_is_no_price_is_ignored_with_its_reason() {
        for removed in [
            "ObjectRemoved:Delete",
            "ObjectRestore:Completed",
            "LifecycleExpiration:Delete",
            "ObjectTagging:Put",
        ] {
            assert_eq!(reason(removed, "a.jsonl"), Some(Ignored::NotACreation(removed.to_owned())));
        }
        let deleted = entries(&bridge("Object Deleted", "a.jsonl"));
        let reason_of = Ignored::NotACreation("Object Deleted".to_owned());
        assert_eq!(deleted, [Entry::Ignored { key: "a.jsonl".to_owned(), reason: reason_of }]);
        assert_eq!(reason(PUT, "prices/crypto_prices/_coinduit.json"), Some(Ignored::Manifest));
        assert_eq!(
            reason(PUT, "prices/quarantine/crypto_prices/partition%3D0/00000000000000000007.json"),
            Some(Ignored::Quarantined)
        );
        assert_eq!(reason(PUT, "quarantine/lambda/a.jsonl/3.json"), Some(Ignored::Quarantined));
        for foreign in ["photo.jpg", "a.jsonl.bz2", "a.json/", "jsonl", "a.JSON", "a.json.gz", ""] {
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
    fn an_event_of_no_known_shape_is_an_error_that_says_what_was_seen() {
        let unknown = |event: &str| match parse(event.as_bytes()) {
            Err(EnvelopeError::UnknownShape(seen)) => seen,
            other => panic!("{event}: {other:?}"),
        };
        assert_eq!(unknown("{}"), "it is empty");
        assert_eq!(
            unknown(r#"{"detail":{"secret":1},"detail-type":"Order"}"#),
            r#"its members are "detail", "detail-type""#
        );
        for event in [r#"{"Event":"s3:Other"}"#, r#"{"Records":null}"#, r#"{"Event":7}"#] {
            assert!(unknown(event).starts_with("its members are"), "{event}");
        }
        let many =
            json!((0..20).map(|at| (format!("{at:0>99}"), json!(at))).collect::<serde_json::Map<_, _>>());
        let seen = unknown(&many.to_string());
        assert!(seen.ends_with("and 12 more") && seen.len() < 1000, "{seen}");
        // Not one of S3's own, though it is of S3 or looks like it.
        unknown(&bridge("AWS API Call via CloudTrail", "a.jsonl").to_string());
        let mut other = bridge("Object Created", "a.jsonl");
        other["source"] = json!("my.shop");
        unknown(&other.to_string());
        for broken in ["", "7", "{", r#"{"Records":{}}"#, "\"text\"", "[]"] {
            assert!(matches!(parse(broken.as_bytes()), Err(EnvelopeError::Malformed(_))), "{broken}");
        }
        assert!(matches!(parse(b"\xff"), Err(EnvelopeError::Malformed(_))));
    }

    #[test]
    fn envelopes_in_envelopes_end_somewhere() {
        let mut event = s3(&["a.jsonl"]).to_string();
        for _ in 0..8 {
            event = sns_body(&event).to_string();
        }
        assert!(parse(event.as_bytes()).is_ok());
        let refused = refusal(&serde_json::from_str(&event).unwrap());
        assert!(refused.contains("is in more than 5 envelopes"), "{refused}");
    }

    #[test]
    fn members_that_nobody_needs_may_be_missing_or_wrong() {
        let bare = json!({"eventName": PUT, "s3": {"bucket": {"name": "prices-bucket"}, "object": {"key": "a.json"}}});
        let odd = json!({"eventName": PUT, "eventTime": 7, "messageId": [], "attributes": 7, "s3": {"bucket": {"name": "prices-bucket"}, "object": {"key": "a.json", "size": "big", "versionId": null, "sequencer": []}}});
        assert_eq!(parse_records(&[bare, odd]), [object("a.json"), object("a.json")]);
        let body = s3(&["a.json"]).to_string();
        assert_eq!(
            parse_records(&[json!({"messageId": "1", "body": body, "attributes": null})]),
            [object("a.json")]
        );
    }

    #[test]
    fn a_record_that_lacks_something_says_what() {
        let lacks = |remove: &str| {
            let mut record = record(PUT, "a.jsonl");
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
            let place = "record 0 of the event".to_owned();
            assert_eq!(lacks(pointer), Entry::Refused(Refused::Missing { place, member }), "{pointer}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(event in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&event));
        }

        #[test]
        fn arbitrary_bodies_never_panic(body in "\\PC*") {
            let entries = parse_records(&[sqs("1", &body), sns(&body)]);
            prop_assert!(!entries.is_empty());
        }

        #[test]
        fn a_record_with_anything_anywhere_never_hides_the_others(
            pointer in prop::sample::select(vec!["", "/eventName", "/s3", "/s3/bucket", "/s3/bucket/name", "/s3/object", "/s3/object/key", "/s3/object/size", "/eventSource"]),
            value in prop_oneof![Just(Value::Null), any::<i64>().prop_map(Into::into), "\\PC*".prop_map(Into::into), Just(json!([])), Just(json!({}))],
            wrapped in any::<bool>(),
        ) {
            let mut odd = record(PUT, "a.jsonl");
            *odd.pointer_mut(pointer).unwrap() = value;
            let event = json!({"Records": [odd, record(PUT, "b.jsonl")]});
            let event = if wrapped { json!({"Records": [sqs("1", &event.to_string())]}) } else { event };
            let entries = entries(&event);
            prop_assert_eq!(entries.len(), 2);
            prop_assert_eq!(&entries[1], &object("b.jsonl"));
        }

        #[test]
        fn an_encoded_key_is_decoded_to_itself(key in "\\PC*") {
            let encoded: String = key.bytes().map(|byte| if byte == b' ' { "+".to_owned() } else { format!("%{byte:02X}") }).collect();
            prop_assert_eq!(url_decode(&encoded), Some(key));
        }

        #[test]
        fn the_way_an_object_comes_makes_no_difference(key in "[a-zA-Z0-9 +%₿/_=-]{0,40}", ways in prop::collection::vec(0..3usize, 0..3)) {
            let key = format!("{key}.jsonl");
            let encoded: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
            let mut event = s3(&[&encoded]);
            for way in ways {
                let inner = event.to_string();
                event = match way {
                    0 => json!({"Records": [sqs("1", &inner)]}),
                    1 => json!({"Records": [sns(&inner)]}),
                    _ => sns_body(&inner),
                };
            }
            let expected = match skipped(&key) {
                Some(reason) => Entry::Ignored { key, reason },
                None => object(&key),
            };
            prop_assert_eq!(entries(&event), vec![expected]);
        }
    }
}
