//! An AWS emulator (ministack), and what a test asks of it that no client here can: stacks and queues.

use serde_json::Value;

use crate::services::{Address, aws_emulator};

/// An emulator: the one that `AWS_EMULATOR_URL` names, or one in a container.
#[derive(Debug)]
pub struct Emulator {
    /// Its address.
    pub url: Address,
    http: reqwest::Client,
}

impl Emulator {
    /// Finds it, or starts it.
    ///
    /// # Panics
    /// When there is none.
    pub async fn find() -> Self {
        coinduit_common::crypto::install_ring();
        Self { url: aws_emulator().await, http: reqwest::Client::new() }
    }

    /// What is posted to `service` gets this answer.
    async fn post(&self, service: &str, target: Option<&str>, content_type: &str, body: String) -> String {
        // It reads from this which service is meant, and believes the rest.
        let credential = format!(
            "AWS4-HMAC-SHA256 Credential=test/20261123/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let mut request = self.http.post(format!("{}/", &*self.url)).header("authorization", credential);
        if let Some(target) = target {
            request = request.header("x-amz-target", target);
        }
        let answer = request.header("content-type", content_type).body(body).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("ask {service}: {error}"));
        let status = answer.status();
        let text = answer.text().await.unwrap_or_else(|error| panic!("read {service}'s answer: {error}"));
        assert!(status.is_success(), "{service} says {status}: {text}");
        text
    }

    /// Calls an action of a service that takes forms and answers with XML.
    ///
    /// # Panics
    /// When it fails.
    pub async fn query(&self, service: &str, parameters: &[(&str, &str)]) -> String {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        self.post(service, None, "application/x-www-form-urlencoded", form).await
    }

    /// Calls an action of SQS.
    ///
    /// # Panics
    /// When it fails.
    pub async fn sqs(&self, action: &str, body: &Value) -> Value {
        let target = format!("AmazonSQS.{action}");
        let answer = self.post("sqs", Some(&target), "application/x-amz-json-1.0", body.to_string()).await;
        if answer.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&answer).expect("SQS answers with JSON")
        }
    }

    /// Creates a bucket.
    ///
    /// # Panics
    /// When it fails.
    pub async fn create_bucket(&self, name: &str) {
        let answer = self.http.put(format!("{}/{name}", &*self.url)).send().await.expect("ask S3");
        assert!(answer.status().is_success(), "create bucket {name}: {}", answer.status());
    }
}

/// The texts of all elements `name` in `xml`, unescaped.
#[must_use]
pub fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let found = xml.split(&open).skip(1).filter_map(|rest| rest.split_once(&close));
    found
        .map(|(text, _)| {
            text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
        })
        .collect()
}
