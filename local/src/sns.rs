//! SNS, played by a recorder: what is published is checked as AWS checks it, logged, and kept to look at.
//!
//! ```text
//! POST /                     the Query API: CreateTopic, Publish, PublishBatch
//! GET  /_local/published     what was published, as JSON, oldest first
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tracing::{info, warn};
use uuid::Uuid;

use crate::credentials::{ACCOUNT, REGION};
use crate::server::Server;
use coinduit_common::clock::Clock;

mod request;

use request::{Notification, Refusal, Request};

/// How many notifications are kept: the newest.
const KEPT: usize = 10_000;
/// The largest body: a batch of the largest size, every byte of it percent-encoded.
const MAX_BODY: usize = 1 << 20;

/// A notification that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// As answered to the publisher.
    pub message_id: String,
    /// The topic's ARN.
    pub topic_arn: String,
    /// As published.
    pub subject: Option<String>,
    /// As published.
    pub message: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// The running service.
#[derive(Debug)]
pub struct Sns {
    server: Server,
    state: Arc<Mutex<Recorder>>,
}

/// The ARN of the embedded stack's topic `name`.
pub fn topic_arn(name: &str) -> String {
    format!("arn:aws:sns:{REGION}:{ACCOUNT}:{name}")
}

impl Sns {
    /// Starts on `address` (port 0: a free one) with these topics.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub fn start(address: SocketAddr, topics: &[&str]) -> io::Result<Self> {
        let topics = topics.iter().map(|name| topic_arn(name)).collect();
        let state = Arc::new(Mutex::new(Recorder { topics, published: VecDeque::new() }));
        let router = Router::new()
            .route("/", post(query))
            .route("/_local/published", get(published))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(&state));
        Ok(Self { server: Server::start_router("sns", address, router)?, state })
    }

    /// The endpoint's URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The newest 10,000 notifications, oldest first.
    pub fn published(&self) -> Vec<Published> {
        lock(&self.state).published.iter().cloned().collect()
    }

    /// Stops the service.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// The topics, and what was published to them.
#[derive(Debug)]
struct Recorder {
    topics: BTreeSet<String>,
    published: VecDeque<Published>,
}

impl Recorder {
    /// Does what `request` asks for and returns the inside of the answer's result.
    fn handle(&mut self, request: Request, now: DateTime<Utc>) -> Result<Answer, Refusal> {
        match request {
            Request::CreateTopic { name } => {
                let arn = topic_arn(&name);
                let result = format!("<TopicArn>{}</TopicArn>", escape(&arn));
                self.topics.insert(arn);
                Ok(Answer { action: "CreateTopic", result })
            }
            Request::Publish { topic, notification } => {
                self.check_topic(&topic)?;
                let id = self.publish(&topic, notification, now)?;
                Ok(Answer { action: "Publish", result: format!("<MessageId>{id}</MessageId>") })
            }
            Request::PublishBatch { topic, entries } => {
                self.check_topic(&topic)?;
                let (mut successful, mut failed) = (String::new(), String::new());
                for entry in entries {
                    let id = escape(&entry.id);
                    match self.publish(&topic, entry.notification, now) {
                        Ok(message) => successful.push_str(&format!(
                            "<member><Id>{id}</Id><MessageId>{message}</MessageId></member>"
                        )),
                        Err(refusal) => failed.push_str(&format!(
                            "<member><Id>{id}</Id><Code>{}</Code><Message>{}</Message>\
                             <SenderFault>true</SenderFault></member>",
                            refusal.code,
                            escape(&refusal.message),
                        )),
                    }
                }
                let result = format!("<Successful>{successful}</Successful><Failed>{failed}</Failed>");
                Ok(Answer { action: "PublishBatch", result })
            }
        }
    }

    fn check_topic(&self, topic: &str) -> Result<(), Refusal> {
        if self.topics.contains(topic) {
            Ok(())
        } else if topic.starts_with("arn:") {
            Err(Refusal::new(404, "NotFound", "Topic does not exist"))
        } else {
            Err(Refusal::new(400, "InvalidParameter", "Invalid parameter: TopicArn"))
        }
    }

    /// Records a notification and returns its message id.
    fn publish(
        &mut self,
        topic: &str,
        notification: Notification,
        at: DateTime<Utc>,
    ) -> Result<String, Refusal> {
        notification.check()?;
        let Notification { subject, message } = notification;
        let message_id = Uuid::new_v4().to_string();
        info!(
            topic,
            subject = subject.as_deref().unwrap_or(""),
            "notification published{}",
            quoted(&message)
        );
        self.published.push_back(Published {
            message_id: message_id.clone(),
            topic_arn: topic.to_owned(),
            subject,
            message,
            at,
        });
        if self.published.len() > KEPT {
            self.published.pop_front();
        }
        Ok(message_id)
    }
}

/// The inside of `<{action}Result>`.
#[derive(Debug)]
struct Answer {
    action: &'static str,
    result: String,
}

/// A message as lines below the log line.
fn quoted(message: &str) -> String {
    message.lines().map(|line| format!("\n    | {line}")).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn lock(state: &Mutex<Recorder>) -> std::sync::MutexGuard<'_, Recorder> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn query(State(state): State<Arc<Mutex<Recorder>>>, body: Bytes) -> Response {
    let request_id = Uuid::new_v4();
    let xmlns = "http://sns.amazonaws.com/doc/2010-03-31/";
    let handled = Request::parse(&body).and_then(|request| lock(&state).handle(request, Clock::System.now()));
    let (status, xml) = match handled {
        Ok(Answer { action, result }) => (
            StatusCode::OK,
            format!(
                "<{action}Response xmlns=\"{xmlns}\"><{action}Result>{result}</{action}Result>\
                 <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
            ),
        ),
        Err(refusal) => {
            warn!(code = refusal.code, reason = %refusal, "sns refused a request");
            let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
            let message = escape(&refusal.message);
            let xml = format!(
                "<ErrorResponse xmlns=\"{xmlns}\"><Error><Type>Sender</Type><Code>{}</Code>\
                 <Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>",
                refusal.code
            );
            (status, xml)
        }
    };
    (status, [(header::CONTENT_TYPE, "text/xml")], xml).into_response()
}

async fn published(State(state): State<Arc<Mutex<Recorder>>>) -> Response {
    let json = serde_json::json!(lock(&state).published).to_string();
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> Recorder {
        Recorder { topics: BTreeSet::from([topic_arn("alerts")]), published: VecDeque::new() }
    }

    fn now() -> DateTime<Utc> {
        "2026-11-23T10:05:00Z".parse().unwrap()
    }

    fn publish(recorder: &mut Recorder, topic: &str, message: &str) -> Result<Answer, Refusal> {
        let notification = Notification { subject: Some("s".into()), message: message.into() };
        recorder.handle(Request::Publish { topic: topic.to_owned(), notification }, now())
    }

    #[test]
    fn what_was_published_is_kept_with_the_id_that_was_answered() {
        let mut recorder = recorder();
        let answer = publish(&mut recorder, &topic_arn("alerts"), "hello").unwrap();
        let kept = &recorder.published[0];
        assert_eq!(answer.result, format!("<MessageId>{}</MessageId>", kept.message_id));
        assert_eq!((kept.subject.as_deref(), kept.message.as_str()), (Some("s"), "hello"));
    }

    #[test]
    fn an_unknown_topic_is_not_found_until_it_is_created() {
        let mut recorder = recorder();
        let refusal = publish(&mut recorder, &topic_arn("other"), "m").unwrap_err();
        assert_eq!((refusal.status, refusal.code), (404, "NotFound"));
        recorder.handle(Request::CreateTopic { name: "other".into() }, now()).unwrap();
        publish(&mut recorder, &topic_arn("other"), "m").unwrap();
        assert_eq!(publish(&mut recorder, "no arn", "m").unwrap_err().code, "InvalidParameter");
    }

    #[test]
    fn one_bad_entry_of_a_batch_fails_alone() {
        let mut recorder = recorder();
        let entry = |id: &str, message: &str| request::Entry {
            id: id.into(),
            notification: Notification { subject: None, message: message.into() },
        };
        let entries = vec![entry("a", "m"), entry("b", "")];
        let batch = Request::PublishBatch { topic: topic_arn("alerts"), entries };
        let result = recorder.handle(batch, now()).unwrap().result;
        assert_eq!(recorder.published.len(), 1);
        assert!(result.contains("<Failed><member><Id>b</Id><Code>InvalidParameter</Code>"), "{result}");
    }

    #[test]
    fn answers_are_well_formed_whatever_the_ids_are() {
        assert_eq!(escape(r#"<a & "b">"#), "&lt;a &amp; &quot;b&quot;&gt;");
    }

    #[test]
    fn messages_are_logged_line_by_line() {
        assert_eq!(quoted("one\ntwo"), "\n    | one\n    | two");
    }
}
