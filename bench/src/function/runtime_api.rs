//! Lambda's Runtime API for one process, with the moments at which the process came to it.
//!
//! Source: AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes".

use std::{net::Ipv4Addr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
    task::JoinHandle,
};

use crate::error::BenchError;

/// The service; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    address: String,
    events: mpsc::Sender<Event>,
    asked: mpsc::Receiver<()>,
    answers: mpsc::Receiver<Result<Bytes, Bytes>>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Event {
    body: Bytes,
    deadline_ms: i64,
}

/// The service's side.
#[derive(Debug)]
struct Desk {
    events: Mutex<mpsc::Receiver<Event>>,
    asked: mpsc::Sender<()>,
    answers: mpsc::Sender<Result<Bytes, Bytes>>,
}

impl RuntimeApi {
    /// Starts it on a free port.
    pub(crate) async fn start() -> Result<Self, BenchError> {
        let failed = "start the Runtime API";
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(BenchError::io(failed))?;
        let address = listener.local_addr().map_err(BenchError::io(failed))?.to_string();
        let (events, waiting) = mpsc::channel(1);
        let (asking, asked) = mpsc::channel(8);
        let (answering, answers) = mpsc::channel(8);
        let desk = Arc::new(Desk { events: Mutex::new(waiting), asked: asking, answers: answering });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(error))
            .with_state(desk);
        let server = tokio::spawn(async move {
            // It serves until it is aborted.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self { address, events, asked, answers, server })
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Waits until the process asks for its first event.
    pub(crate) async fn asked(&mut self) {
        self.asked.recv().await;
    }

    /// The process's answer to `event`, or its error.
    pub(crate) async fn invoke(&mut self, event: Bytes, deadline_ms: i64) -> Result<Value, String> {
        let gone = || "the Runtime API has ended".to_owned();
        self.events.send(Event { body: event, deadline_ms }).await.map_err(|_| gone())?;
        let text = |body: &Bytes| String::from_utf8_lossy(body).into_owned();
        match self.answers.recv().await.ok_or_else(gone)? {
            Ok(body) => serde_json::from_slice(&body).map_err(|_| text(&body)),
            Err(body) => Err(text(&body)),
        }
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next(State(desk): State<Arc<Desk>>) -> Response {
    // Only the first is waited for.
    desk.asked.try_send(()).unwrap_or_default();
    match desk.events.lock().await.recv().await {
        Some(Event { body, deadline_ms }) => {
            let headers = [
                ("lambda-runtime-aws-request-id", "bench".to_owned()),
                ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
                (
                    "lambda-runtime-invoked-function-arn",
                    "arn:aws:lambda:us-east-1:000000000000:function:coinduit".to_owned(),
                ),
            ];
            (headers, body).into_response()
        }
        None => StatusCode::GONE.into_response(),
    }
}

async fn response(State(desk): State<Arc<Desk>>, body: Bytes) -> StatusCode {
    answer(&desk, Ok(body)).await
}

async fn error(State(desk): State<Arc<Desk>>, body: Bytes) -> StatusCode {
    answer(&desk, Err(body)).await
}

async fn answer(desk: &Desk, answer: Result<Bytes, Bytes>) -> StatusCode {
    match desk.answers.send(answer).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::GONE,
    }
}
