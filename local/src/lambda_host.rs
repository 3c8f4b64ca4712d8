//! AWS Lambda for one function: runs the real `bootstrap` binary and feeds it S3's events.
//!
//! ```text
//! EventQueue --> dispatch: one event at a time --> Desk <-- Runtime API <-- bootstrap (a process)
//!                   |  ^                                                       ^
//!                   v  | later                                                 | started, restarted, ended
//!               Deliveries: retries, dead letters                           process::keep
//! ```
//!
//! | path | |
//! | --- | --- |
//! | `GET /_local/status` | counters and what waits, as JSON |
//! | `GET /_local/dead-letters` | events that were given up, as JSON |
//! | `POST /2015-03-31/functions/{name}/invocations` | invokes the function with the body and returns its answer, once |
//! | `/2018-06-01/runtime/…` | the Runtime API, for the function's process |
//!
//! The function's process exits, hangs, fails: the event is tried again, up to three times in all.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::event_queue::EventQueue;
use crate::s3_event::ObjectCreated;
use crate::server::Server;
use coinduit_common::clock::Clock;

mod delivery;
mod process;
mod runtime_api;

use delivery::{Attempt, Deliveries, Verdict};
pub use delivery::{Counters, DeadLetter, MAX_ATTEMPTS};
use process::{Order, ProcessState, Program};
use runtime_api::{Desk, FUNCTION_NAME, Reply};

/// How long a process may take from its start, or from its last answer, until it asks for the event that waits.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many direct invocations may wait.
const CALLS: usize = 16;

/// What a host is started with.
#[derive(Debug)]
pub struct LambdaConfig {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// The function's binary.
    pub bootstrap: PathBuf,
    /// The function's environment, besides Lambda's own variables. It inherits next to nothing.
    pub environment: Vec<(String, String)>,
    /// Where the events come from.
    pub events: Arc<EventQueue>,
    /// How long the function has for an event.
    pub timeout: Duration,
    /// The wait before the first retry; the second waits twice as long.
    pub retry_delay: Duration,
}

/// The running host.
#[derive(Debug)]
pub struct LambdaHost {
    server: Server,
    host: Arc<Host>,
    finish: watch::Sender<Finish>,
    dispatcher: JoinHandle<Vec<ObjectCreated>>,
    keeper: JoinHandle<()>,
}

/// When the dispatcher shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finish {
    Never,
    /// When no event waits.
    WhenDrained,
}

impl LambdaHost {
    /// Starts the host and the function's process.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub fn start(config: LambdaConfig) -> io::Result<Self> {
        let desk = Arc::new(Desk::new(config.timeout));
        let (process, _) = watch::channel(ProcessState { number: 0, running: false });
        let (orders, obeyed) = watch::channel(Order::KeepRunning);
        let (calls, called) = mpsc::channel(CALLS);
        let host = Arc::new(Host {
            desk: Arc::clone(&desk),
            events: config.events,
            timeout: config.timeout,
            deliveries: Mutex::new(Deliveries::new(config.retry_delay)),
            process: process.clone(),
            orders,
            calls,
        });
        let router = Router::new()
            .route("/_local/status", get(status))
            .route("/_local/dead-letters", get(dead_letters))
            .route("/2015-03-31/functions/{name}/invocations", post(invoke))
            .with_state(Arc::clone(&host))
            .merge(desk.router());
        let server = Server::start_router("lambda host", config.address, router)?;
        let program = Program {
            path: config.bootstrap,
            environment: config.environment,
            runtime_api: server.address().to_string(),
        };
        let keeper = tokio::spawn(process::keep(program, desk, process, obeyed));
        let (finish, finishing) = watch::channel(Finish::Never);
        let dispatcher = tokio::spawn(dispatch(Arc::clone(&host), called, finishing));
        Ok(Self { server, host, finish, dispatcher, keeper })
    }

    /// The host's URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.host.deliveries().counters()
    }

    /// The newest 10,000 events that were given up, oldest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.host.deliveries().dead_letters()
    }

    /// Invokes the function with `event` and returns its answer, as the AWS API does for `RequestResponse`.
    ///
    /// # Errors
    /// Why there is no answer: the function's own error, a timeout, an exit. It is not tried again.
    pub async fn invoke(&self, event: Bytes) -> Result<Bytes, InvokeError> {
        self.host.call(event).await
    }

    /// Handles what is queued for at most `drain`, ends the process, stops the service.
    ///
    /// Returns the events that are left.
    pub async fn stop(self, drain: Duration) -> Vec<ObjectCreated> {
        let Self { server, host, finish, mut dispatcher, keeper } = self;
        finish.send_replace(Finish::WhenDrained);
        let drained = tokio::time::timeout(drain, &mut dispatcher).await;
        // Ends the invocation that is running, if one is; the dispatcher then takes no other.
        host.orders.send_replace(Order::Stop);
        let left = match drained {
            Ok(left) => left,
            Err(_) => dispatcher.await,
        }
        .unwrap_or_else(|error| {
            error!(%error, "the lambda host's dispatcher failed");
            Vec::new()
        });
        if let Err(error) = keeper.await {
            error!(%error, "the lambda host's keeper failed");
        }
        server.stop().await;
        left
    }
}

/// Why an invocation has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// The function says so; this is its error, JSON mostly.
    #[error("the function failed: {0}")]
    Function(String),
    /// It took longer than it has.
    #[error("the function timed out after {0:?}")]
    TimedOut(Duration),
    /// Its process did not come to the event in time.
    #[error("the function did not ask for an event within {0:?}")]
    NotStarted(Duration),
    /// Its process is gone.
    #[error("the function's process exited")]
    Exited,
    /// The host stops.
    #[error("the lambda host is stopping")]
    Stopping,
}

impl InvokeError {
    /// The answer's body when AWS answers with a function error.
    fn body(&self) -> Bytes {
        match self {
            Self::Function(body) => Bytes::from(body.clone()),
            Self::TimedOut(_) | Self::NotStarted(_) | Self::Exited | Self::Stopping => {
                Bytes::from(json!({ "errorMessage": self.to_string() }).to_string())
            }
        }
    }
}

/// What the tasks and the service share.
#[derive(Debug)]
struct Host {
    desk: Arc<Desk>,
    events: Arc<EventQueue>,
    timeout: Duration,
    deliveries: Mutex<Deliveries>,
    process: watch::Sender<ProcessState>,
    orders: watch::Sender<Order>,
    calls: mpsc::Sender<Call>,
}

/// A direct invocation.
#[derive(Debug)]
struct Call {
    event: Bytes,
    answer: oneshot::Sender<Result<Bytes, InvokeError>>,
}

/// What the dispatcher does next.
enum Work {
    Call(Call),
    Attempt(Attempt),
}

impl Host {
    fn deliveries(&self) -> std::sync::MutexGuard<'_, Deliveries> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, event: Bytes) -> Result<Bytes, InvokeError> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(Call { event, answer }).await.map_err(|_| InvokeError::Stopping)?;
        answered.await.map_err(|_| InvokeError::Stopping)?
    }

    /// The next piece of work: what is due again, then direct calls, then new events.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    async fn next_work(&self, calls: &mut mpsc::Receiver<Call>) -> Work {
        loop {
            let due = {
                let mut deliveries = self.deliveries();
                if let Some(attempt) = deliveries.take_due(Instant::now()) {
                    return Work::Attempt(attempt);
                }
                deliveries.next_due()
            };
            let due_again = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = due_again => {}
                Some(call) = calls.recv() => return Work::Call(call),
                event = self.events.pop() => return Work::Attempt(Attempt { event, number: 1 }),
            }
        }
    }

    /// Has the process handle one event.
    async fn invoke(&self, event: Bytes) -> Result<Bytes, InvokeError> {
        let mut process = self.process.subscribe();
        let mut orders = self.orders.subscribe();
        let number = tokio::select! {
            biased;
            _ = orders.wait_for(|order| *order == Order::Stop) => return Err(InvokeError::Stopping),
            running = process.wait_for(|process| process.running) => match running {
                Ok(process) => process.number,
                Err(_) => return Err(InvokeError::Stopping),
            },
        };
        let laid = self.desk.lay(event);
        let outcome = tokio::select! {
            biased;
            outcome = self.answer(laid) => outcome,
            _ = orders.wait_for(|order| *order == Order::Stop) => Err(InvokeError::Stopping),
            _ = process.wait_for(|process| process.number != number || !process.running) => {
                Err(InvokeError::Exited)
            }
        };
        self.desk.clear();
        match outcome {
            Err(InvokeError::TimedOut(_) | InvokeError::NotStarted(_)) => {
                // Only when it is gone can it not take the next event and be ended in the middle of that.
                self.orders.send_replace(Order::Replace(number));
                drop(process.wait_for(|process| process.number != number || !process.running).await);
            }
            Ok(_) | Err(InvokeError::Function(_) | InvokeError::Exited | InvokeError::Stopping) => {}
        }
        outcome
    }

    /// Waits until the event that was laid out is answered, or for too long.
    async fn answer(&self, laid: runtime_api::Laid) -> Result<Bytes, InvokeError> {
        if tokio::time::timeout(INIT_TIMEOUT, laid.picked).await.is_err() {
            return Err(InvokeError::NotStarted(INIT_TIMEOUT));
        }
        match tokio::time::timeout(self.timeout, laid.reply).await {
            Ok(Ok(Reply::Response(body))) => Ok(body),
            Ok(Ok(Reply::Error(body))) => {
                Err(InvokeError::Function(String::from_utf8_lossy(&body).into_owned()))
            }
            Ok(Err(_)) => Err(InvokeError::Exited),
            Err(_) => Err(InvokeError::TimedOut(self.timeout)),
        }
    }

    /// Invokes the function with an event and enters in the books what came of it.
    async fn attempt(&self, attempt: Attempt) {
        let key = attempt.event.event.key.clone();
        let number = attempt.number;
        self.deliveries().begin();
        let payload = attempt.event.event.to_json().to_string();
        match self.invoke(Bytes::from(payload.clone())).await {
            Ok(_) => {
                self.deliveries().succeeded();
                info!(key, attempt = number, "event handled");
            }
            Err(InvokeError::Stopping) => self.deliveries().put_back(attempt, Instant::now()),
            Err(reason) => {
                let verdict = self.deliveries().failed(
                    attempt,
                    &reason.to_string(),
                    Instant::now(),
                    Clock::System.now(),
                );
                match verdict {
                    Verdict::Retry { after } => {
                        let after_ms = after.as_millis();
                        warn!(key, attempt = number, %reason, after_ms, "event failed, will be tried again");
                    }
                    Verdict::Dead => {
                        error!(key, attempts = number, %reason, event = payload, "event failed for good");
                    }
                }
            }
        }
    }

    /// Ready when the order is to stop.
    async fn stopped(&self) {
        // An error can't be: the sender is in `self`.
        drop(self.orders.subscribe().wait_for(|order| *order == Order::Stop).await);
    }

    /// Whether no event waits, neither for its first attempt nor for another.
    fn is_drained(&self) -> bool {
        self.events.is_empty() && self.deliveries().retrying() == 0
    }

    fn status(&self) -> Value {
        let process = *self.process.borrow();
        let deliveries = self.deliveries();
        json!({
            "counters": deliveries.counters(),
            "queued": self.events.len(),
            "retrying": deliveries.retrying(),
            "process": { "number": process.number, "running": process.running },
        })
    }
}

/// Does one piece of work after the other until told to finish; returns the events that are left then.
async fn dispatch(
    host: Arc<Host>,
    mut calls: mpsc::Receiver<Call>,
    mut finishing: watch::Receiver<Finish>,
) -> Vec<ObjectCreated> {
    loop {
        let stopped = *host.orders.borrow() == Order::Stop;
        let drained = *finishing.borrow_and_update() == Finish::WhenDrained && host.is_drained();
        if stopped || drained {
            break;
        }
        let work = tokio::select! {
            changed = finishing.changed() => {
                if changed.is_err() {
                    // The handle is gone, and with it everyone who could say stop.
                    host.orders.send_replace(Order::Stop);
                }
                continue;
            }
            () = host.stopped() => break,
            work = host.next_work(&mut calls) => work,
        };
        match work {
            Work::Call(Call { event, answer }) => {
                // An error: the caller has gone away.
                drop(answer.send(host.invoke(event).await));
            }
            Work::Attempt(attempt) => host.attempt(attempt).await,
        }
    }
    let retrying = host.deliveries().abandon();
    let queued = std::iter::from_fn(|| host.events.try_pop());
    retrying.into_iter().chain(queued).map(|event| event.into_event()).collect()
}

async fn status(State(host): State<Arc<Host>>) -> Response {
    json_body(host.status().to_string())
}

async fn dead_letters(State(host): State<Arc<Host>>) -> Response {
    let letters = host.deliveries().dead_letters();
    json_body(json!(letters).to_string())
}

async fn invoke(
    State(host): State<Arc<Host>>,
    axum::extract::Path(name): axum::extract::Path<String>,
    event: Bytes,
) -> Response {
    if name != FUNCTION_NAME {
        let message = format!("There is one function, {FUNCTION_NAME}; {name} is not it");
        return (StatusCode::NOT_FOUND, json_body(json!({ "Message": message }).to_string())).into_response();
    }
    match host.call(event).await {
        Ok(answer) => json_body(answer),
        Err(error) => ([("x-amz-function-error", "Unhandled")], json_body(error.body())).into_response(),
    }
}

fn json_body(body: impl Into<Bytes>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}
