//! What S3 tells the world about a new object: the fact, and the JSON that AWS makes of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use crate::credentials::REGION;
use coinduit_common::clock;

/// An object that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectCreated {
    /// The bucket's name.
    pub bucket: String,
    /// The object's key as the writer wrote it, not encoded.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The entity tag without quotes.
    pub etag: String,
    /// Grows with every object, also over restarts: orders the events of one key.
    pub sequencer: u64,
    /// When it was created.
    pub at: DateTime<Utc>,
    /// By which request.
    pub by: CreatedBy,
}

/// The request that created an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CreatedBy {
    /// `PutObject`.
    Put,
    /// `CopyObject`.
    Copy,
    /// `CompleteMultipartUpload`.
    CompleteMultipartUpload,
}

impl ObjectCreated {
    /// The event as AWS delivers it to a Lambda function: one record.
    ///
    /// Source: Amazon S3, "Event message structure".
    pub fn to_json(&self) -> Value {
        let request = format!("{:016X}", self.sequencer);
        json!({ "Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": REGION,
            "eventTime": clock::rfc3339(self.at),
            "eventName": format!("ObjectCreated:{:?}", self.by),
            "userIdentity": { "principalId": "AWS:COINDUITLOCAL" },
            "requestParameters": { "sourceIPAddress": "127.0.0.1" },
            "responseElements": { "x-amz-request-id": request, "x-amz-id-2": request },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "coinduit-local",
                "bucket": {
                    "name": self.bucket,
                    "ownerIdentity": { "principalId": "COINDUITLOCAL" },
                    "arn": format!("arn:aws:s3:::{}", self.bucket),
                },
                "object": {
                    "key": encode_key(&self.key),
                    "size": self.size,
                    "eTag": self.etag,
                    "sequencer": format!("{:016X}", self.sequencer),
                },
            },
        }]})
    }
}

/// A key as it stands in an event: each segment form-encoded (a space is `+`), slashes as they are.
fn encode_key(key: &str) -> String {
    let segments: Vec<String> =
        key.split('/').map(|segment| byte_serialize(segment.as_bytes()).collect()).collect();
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_as_aws_encodes_them() {
        // Recorded: the key in an event of S3.
        assert_eq!(encode_key("raw/dt=2026-11-23/a b+c.jsonl"), "raw/dt%3D2026-11-23/a+b%2Bc.jsonl");
        assert_eq!(encode_key("crypto/₿_1.json"), "crypto/%E2%82%BF_1.json");
    }

    #[test]
    fn events_have_the_shape_of_aws() {
        let event = ObjectCreated {
            bucket: "coinduit".into(),
            key: "a b".into(),
            size: 7,
            etag: "abc".into(),
            sequencer: 255,
            at: "2026-11-23T10:05:00Z".parse().unwrap(),
            by: CreatedBy::CompleteMultipartUpload,
        }
        .to_json();
        let record = &event["Records"][0];
        assert_eq!(record["eventName"], "ObjectCreated:CompleteMultipartUpload");
        assert_eq!(record["eventTime"], "2026-11-23T10:05:00.000Z");
        let object = json!({ "key": "a+b", "size": 7, "eTag": "abc", "sequencer": "00000000000000FF" });
        assert_eq!(record["s3"]["object"], object);
    }
}
