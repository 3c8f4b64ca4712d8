//! The Lambda Runtime API: how a function's process asks for events and answers them.
//!
//! ```text
//! GET  /2018-06-01/runtime/invocation/next            waits for an event
//! POST /2018-06-01/runtime/invocation/{id}/response   it was handled
//! POST /2018-06-01/runtime/invocation/{id}/error      it was not
//! POST /2018-06-01/runtime/init/error                 the process cannot even start
//! ```
//!
//! One process, one invocation at a time: the [`Desk`] has one place.
//!
//! Source: AWS Lambda, "Using the Lambda runtime API for custom runtimes".

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::{Notify, oneshot};
use tracing::error;
use uuid::Uuid;

use crate::credentials::{ACCOUNT, REGION};
use coinduit_common::clock::Clock;

/// The name of the one function.
pub(super) const FUNCTION_NAME: &str = "coinduit";
/// The largest answer of a function (AWS: 6 MB), bytes, with room for its envelope.
const MAX_BODY: usize = 8 << 20;

/// What a process made of an invocation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Response(Bytes),
    Error(Bytes),
}

/// Where the host lays out an event and the function's process picks it up.
#[derive(Debug)]
pub(super) struct Desk {
    timeout: Duration,
    place: Mutex<Place>,
    laid: Notify,
}

#[derive(Debug)]
struct Place {
    /// Which process may ask: the last one that was started. An older one's connection may still be open when
    /// it is dead, and an event that is handed to it would be lost until its time is up.
    process: u64,
    invocation: Option<Invocation>,
}

#[derive(Debug)]
struct Invocation {
    id: String,
    event: Bytes,
    /// Until it is picked up.
    picked: Option<oneshot::Sender<()>>,
    reply: oneshot::Sender<Reply>,
}

/// The host's side of an event on the desk.
#[derive(Debug)]
pub(super) struct Laid {
    /// Ready when a process has picked the event up.
    pub(super) picked: oneshot::Receiver<()>,
    /// Ready when it has answered.
    pub(super) reply: oneshot::Receiver<Reply>,
}

impl Desk {
    /// `timeout` is what the process is told it has for an event.
    pub(super) fn new(timeout: Duration) -> Self {
        let place = Mutex::new(Place { process: 0, invocation: None });
        Self { timeout, place, laid: Notify::new() }
    }

    /// From now on the process `number` asks, and no other.
    pub(super) fn admit(&self, number: u64) {
        self.place().process = number;
        self.laid.notify_waiters();
    }

    /// Lays out an event, in place of any other.
    pub(super) fn lay(&self, event: Bytes) -> Laid {
        let (picked, was_picked) = oneshot::channel();
        let (reply, replied) = oneshot::channel();
        let id = Uuid::new_v4().to_string();
        self.place().invocation = Some(Invocation { id, event, picked: Some(picked), reply });
        self.laid.notify_waiters();
        Laid { picked: was_picked, reply: replied }
    }

    /// Takes the event away; an answer to it comes too late.
    pub(super) fn clear(&self) {
        self.place().invocation = None;
    }

    /// The paths of the Runtime API.
    pub(super) fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(function_error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(self))
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an event that nobody has picked up; none when the asking process is no longer the one.
    async fn pick(&self) -> Option<(String, Bytes)> {
        let process = self.place().process;
        loop {
            let mut laid = std::pin::pin!(self.laid.notified());
            // From here on a notice is not missed, so looking comes second.
            laid.as_mut().enable();
            {
                let mut place = self.place();
                if place.process != process {
                    return None;
                }
                if let Some(invocation) = &mut place.invocation
                    && let Some(picked) = invocation.picked.take()
                    // Nobody waits for it any more otherwise.
                    && picked.send(()).is_ok()
                {
                    return Some((invocation.id.clone(), invocation.event.clone()));
                }
            }
            laid.await;
        }
    }

    /// Hands in an answer; false when it answers nothing that lies on the desk.
    fn answer(&self, id: &str, reply: Reply) -> bool {
        let mut place = self.place();
        let answered =
            place.invocation.take_if(|invocation| invocation.id == id && invocation.picked.is_none());
        answered.is_some_and(|invocation| invocation.reply.send(reply).is_ok())
    }
}

async fn next(State(desk): State<Arc<Desk>>) -> Response {
    let Some((id, event)) = desk.pick().await else { return StatusCode::GONE.into_response() };
    let timeout = i64::try_from(desk.timeout.as_millis()).unwrap_or(i64::MAX);
    let deadline = Clock::System.now().timestamp_millis().saturating_add(timeout);
    let headers = [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{FUNCTION_NAME}"),
        ),
        ("lambda-runtime-trace-id", format!("Root=1-{:08x}-{:024x};Sampled=0", deadline / 1000, deadline)),
        ("content-type", "application/json".to_owned()),
    ];
    (headers, event).into_response()
}

async fn response(State(desk): State<Arc<Desk>>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    accepted(desk.answer(&id, Reply::Response(body)))
}

async fn function_error(State(desk): State<Arc<Desk>>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    accepted(desk.answer(&id, Reply::Error(body)))
}

async fn init_error(body: Bytes) -> StatusCode {
    error!(reason = %String::from_utf8_lossy(&body), "the function could not start");
    StatusCode::ACCEPTED
}

/// 403 is what AWS says to an answer for an invocation that is not going on.
fn accepted(yes: bool) -> StatusCode {
    if yes { StatusCode::ACCEPTED } else { StatusCode::FORBIDDEN }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn desk() -> Desk {
        Desk::new(Duration::from_secs(1))
    }

    #[tokio::test]
    async fn an_event_is_picked_up_once_and_answered_once() {
        let desk = desk();
        let mut asking = Box::pin(desk.pick());
        assert!((&mut asking).now_or_never().is_none());
        let laid = desk.lay(Bytes::from_static(b"{}"));
        let (id, event) = asking.await.unwrap();
        assert_eq!(event, "{}");
        assert!(laid.picked.await.is_ok());
        assert!(desk.pick().now_or_never().is_none(), "picked up already");

        assert!(desk.answer(&id, Reply::Response(Bytes::new())));
        assert_eq!(laid.reply.await, Ok(Reply::Response(Bytes::new())));
        assert!(!desk.answer(&id, Reply::Response(Bytes::new())), "answered already");
    }

    #[tokio::test]
    async fn an_answer_after_the_event_was_taken_away_is_refused() {
        let desk = desk();
        let _laid = desk.lay(Bytes::new());
        let (id, _) = desk.pick().await.unwrap();
        desk.clear();
        assert!(!desk.answer(&id, Reply::Error(Bytes::new())));
    }

    #[tokio::test]
    async fn a_dead_process_whose_connection_is_open_gets_no_event() {
        let desk = desk();
        let mut dead = Box::pin(desk.pick());
        assert!((&mut dead).now_or_never().is_none());
        desk.admit(1);
        let _laid = desk.lay(Bytes::new());
        assert_eq!(dead.await, None);
        assert!(desk.pick().await.is_some());
    }
}
