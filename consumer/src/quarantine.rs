//! What can't be a line, and where it goes: an object of its own with everything the record was.
//!
//! The object is a function of the record alone, so storing it again changes nothing. Key, value and header
//! values are base64: they may be any bytes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use coinduit_common::{
    clock,
    line::NotALine,
    object_key::{self, Prefix},
};
use serde_json::{Value, json};

use crate::{
    ledger::bucket::{NewObject, UserMetadata},
    reader::Record,
};

/// A record that can't be a line, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its place in the partition.
    pub offset: i64,
    /// Why it is none.
    pub reason: NotALine,
    /// What is stored.
    pub object: NewObject,
}

impl Quarantined {
    /// The object for `record` of `topic`/`partition`.
    #[must_use]
    pub fn new(prefix: &Prefix, topic: &str, partition: i32, record: &Record, reason: NotALine) -> Self {
        let binary = |bytes: Option<&Bytes>| bytes.map_or(Value::Null, |bytes| STANDARD.encode(bytes).into());
        let headers: Vec<Value> = record
            .headers
            .iter()
            .map(|header| match std::str::from_utf8(&header.name) {
                Ok(name) => json!({ "key": name, "value": binary(header.value.as_ref()) }),
                Err(_) => json!({ "key_base64": STANDARD.encode(&header.name), "value": binary(header.value.as_ref()) }),
            })
            .collect();
        let content = json!({
            "reason": reason.reason(),
            "problem": reason.to_string(),
            "topic": topic,
            "partition": partition,
            "offset": record.offset,
            "timestamp": clock::rfc3339_ms(record.timestamp_ms),
            "headers": headers,
            "key": binary(record.key.as_ref()),
            "value": binary(record.value.as_ref()),
        });
        let mut body =
            serde_json::to_vec_pretty(&content).expect("strings and numbers are written to memory");
        body.push(b'\n');
        let object = NewObject {
            key: object_key::quarantine(prefix, topic, partition, record.offset),
            body: body.into(),
            content_type: "application/json",
            metadata: UserMetadata::from([("reason".to_owned(), reason.reason().to_owned())]),
        };
        Self { offset: record.offset, reason, object }
    }

    /// Whether people are told. A tombstone is somebody's intention.
    #[must_use]
    pub const fn is_alarming(&self) -> bool {
        !matches!(self.reason, NotALine::Tombstone)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        layout::Layout,
        partition::progress::{Progress, Setting, Settled, Work},
        reader::{Fetched, Header},
    };

    #[test]
    fn nothing_of_the_record_is_lost() {
        let record = Record {
            offset: 7,
            timestamp_ms: 0,
            key: Some(Bytes::from_static(b"BTC")),
            value: Some(Bytes::from_static(b"\xff{")),
            headers: vec![
                Header { name: Bytes::from_static(b"id"), value: Some(Bytes::from_static(b"x")) },
                Header { name: Bytes::from_static(b"\xffn"), value: None },
            ],
        };
        let stored = Quarantined::new(&Prefix::new("p").unwrap(), "t", 3, &record, NotALine::NotUtf8(0));
        assert_eq!(stored.object.key, "p/quarantine/t/partition=3/00000000000000000007.json");
        let content: Value = serde_json::from_slice(&stored.object.body.to_vec()).unwrap();
        assert_eq!(
            content,
            json!({
                "reason": "not-utf8", "problem": "the value is not UTF-8 (first wrong byte at 0)",
                "topic": "t", "partition": 3, "offset": 7, "timestamp": "1970-01-01T00:00:00.000Z",
                "headers": [{ "key": "id", "value": "eA==" }, { "key_base64": "/24=", "value": null }],
                "key": "QlRD", "value": "/3s=",
            })
        );
        assert!(stored.is_alarming());
        assert!(
            !Quarantined::new(
                &Prefix::default(),
                "t",
                3,
                &Record { value: None, ..record },
                NotALine::Tombstone
            )
            .is_alarming()
        );
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    prop_compose! {
        fn any_record()(
            timestamp_ms: i64,
            key in prop::option::of(bytes()),
            value in prop::option::of(prop_oneof![
                bytes(),
                Just(Bytes::from_static(b"{\"code\":\"A\"}")),
                Just(Bytes::from_static(b"{\"code\":\"A/B\",\"id\":[]}")),
                Just(Bytes::from_static(b"{\"error\":{}}")),
            ]),
            headers in prop::collection::vec((prop_oneof![bytes(), Just(Bytes::from_static(b"id"))], prop::option::of(bytes())), 0..4),
        ) -> Record {
            let headers = headers.into_iter().map(|(name, value)| Header { name, value }).collect();
            Record { offset: 0, timestamp_ms, key, value, headers }
        }
    }

    proptest! {
        #[test]
        fn no_record_stops_the_flow_and_none_gets_lost(
            records in prop::collection::vec(any_record(), 1..40),
            each: bool, enrich: bool,
        ) {
            let layout = if each { Layout::Record } else { Layout::default() };
            let end = i64::try_from(records.len()).unwrap();
            let records: Vec<Record> = records.into_iter().zip(0..).map(|(record, offset)| Record { offset, ..record }).collect();
            let limits = crate::batch::Limits { records: 7, bytes: 1 << 20, age: std::time::Duration::ZERO };
            let setting = Setting { topic: "t".into(), partition: 0, prefix: std::sync::Arc::default(), layout, limits, enrich, writer: "w".into() };
            let resume = crate::ledger::resume::Resume { tail: 0, position: 0, skipped: Vec::new(), quarantined: 0, leader_epoch: None, refused: None };
            let now = std::time::Duration::ZERO;
            let mut progress = Progress::new(setting, resume, Some(end), now);
            progress.fetched(0, Fetched { records: records.clone(), next: end, high_watermark: end, ..Fetched::default() }, now);
            let (mut quarantined, mut lines) = (Vec::new(), 0);
            while let Some(work) = progress.next_work(now, false) {
                let settled = match work {
                    Work::Put(sealed) => { lines += sealed.metadata.records; Settled::Stored }
                    Work::Quarantine { records, .. } => { quarantined.extend(records.iter().cloned()); Settled::Quarantined }
                };
                progress.settled(settled, now);
            }
            prop_assert!(progress.is_done());
            prop_assert_eq!(quarantined.len() + usize::try_from(lines).unwrap(), records.len());
            for stored in quarantined {
                let record = &records[usize::try_from(stored.offset).unwrap()];
                let content: Value = serde_json::from_slice(&stored.object.body.to_vec()).unwrap();
                let read = |text: &Value| text.as_str().map(|text| STANDARD.decode(text).unwrap());
                prop_assert_eq!(read(&content["value"]), record.value.as_ref().map(|value| value.to_vec()));
                prop_assert_eq!(read(&content["key"]), record.key.as_ref().map(|key| key.to_vec()));
                prop_assert_eq!(content["headers"].as_array().unwrap().len(), record.headers.len());
                prop_assert_eq!(&content["reason"], stored.reason.reason());
            }
        }
    }
}
