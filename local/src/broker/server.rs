//! Sockets, tasks and time around the core.
//!
//! Each connection is a task that reads a frame, asks the core, writes the answer, and only then reads
//! the next frame, so answers come in the order of the requests, as Kafka's do. A call that must wait is
//! put to the core again after each change, and when its time has come; a parked one is asked after.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::core::wire::{self, Call, FrameError, Response};
use super::core::{Core, Endpoint, Moment, Step, Ticket};
use super::faults::{Fault, Faults};
use super::storage::{Storage, StorageError};

/// Rest after the operating system refused a connection, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct Node {
    state: Mutex<State>,
    /// Counts changes, so that waiting calls look again.
    progress: watch::Sender<u64>,
    /// Set when the broker shall stop, or cannot go on.
    halted: watch::Sender<bool>,
    faults: Faults,
    started: Instant,
}

#[derive(Debug)]
struct State {
    core: Core,
    storage: Option<Storage>,
}

/// Why a connection ends before its client ends it.
#[derive(Debug, thiserror::Error)]
enum Hangup {
    #[error("read or write")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Refused(String),
    #[error("fault {0:?} was asked for")]
    Fault(Fault),
}

impl Node {
    pub(crate) fn new(core: Core, storage: Option<Storage>) -> Self {
        Self {
            state: Mutex::new(State { core, storage }),
            progress: watch::Sender::new(0),
            halted: watch::Sender::new(false),
            faults: Faults::new(),
            started: Instant::now(),
        }
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Stops accepting and ends every connection.
    pub(crate) fn halt(&self) {
        self.halted.send_replace(true);
    }

    async fn is_halted(&self) {
        let mut halted = self.halted.subscribe();
        halted.wait_for(|halted| *halted).await.expect("the sender lives in self");
    }

    /// Looks at the core, or changes it; what changed is written before this returns.
    ///
    /// The write blocks the thread: it goes to the page cache, and must be in the order of the log, which
    /// only the holder of the lock knows.
    ///
    /// # Errors
    /// [`StorageError`]: the change is in memory and not in the folder, so the broker stops, as Kafka does
    /// when its log folder fails.
    pub(crate) fn with_core<T>(&self, work: impl FnOnce(&mut Core) -> T) -> Result<T, StorageError> {
        let mut state = self.state.lock().expect("nothing panics while it holds the state");
        let State { core, storage } = &mut *state;
        let groups = core.group_revision();
        let result = work(core);
        let changes = core.take_changes();
        if changes.is_empty() && core.group_revision() == groups {
            return Ok(result);
        }
        if let Some(storage) = storage
            && !changes.is_empty()
        {
            storage.apply(&changes, core).inspect_err(|_| self.halt())?;
        }
        self.progress.send_modify(|count| *count += 1);
        Ok(result)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("584 million years")
    }

    /// Puts `call` to the core until it has an answer; `None` when none is wanted.
    async fn answer(&self, call: &Call, mut moment: Moment) -> Result<Option<Response>, Hangup> {
        let mut progress = self.progress.subscribe();
        let mut parked: Option<Parked<'_>> = None;
        loop {
            // Before the core looks: a change after that is not missed.
            progress.mark_unchanged();
            moment.now_ms = self.now_ms();
            let step = self.with_core(|core| match &parked {
                None => core.handle(call, &moment),
                Some(parked) => core.resume(call, parked.ticket, &moment),
            })?;
            let until_ms = match step {
                Step::Answer(response) => return Ok(Some(response)),
                Step::Silence => return Ok(None),
                Step::Close { reason } => return Err(Hangup::Refused(reason)),
                Step::Wait { until_ms } => until_ms,
                Step::Park { ticket, until_ms } => {
                    parked.get_or_insert_with(|| Parked { node: self, ticket });
                    until_ms
                }
            };
            let until = self.started + Duration::from_millis(until_ms);
            tokio::select! {
                changed = progress.changed() => changed.expect("the sender lives in self"),
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    fn refuse(&self, call: &Call, error: ResponseError, moment: &Moment) -> Result<Option<Response>, Hangup> {
        match self.with_core(|core| core.refuse(call, error, &moment.endpoint))? {
            Step::Answer(response) => Ok(Some(response)),
            Step::Close { reason } => Err(Hangup::Refused(reason)),
            Step::Silence | Step::Wait { .. } | Step::Park { .. } => Ok(None),
        }
    }
}

/// A call that the core has parked; dropped with its connection, it is given up.
#[derive(Debug)]
struct Parked<'a> {
    node: &'a Node,
    ticket: Ticket,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.node.state.lock().expect("nothing panics while it holds the state").core.give_up(self.ticket);
    }
}

/// Accepts connections until the node is halted; ends them before it returns.
pub(crate) async fn run(node: Arc<Node>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = node.is_halted() => break,
            Some(ended) = connections.join_next() => {
                if let Err(failed) = ended && failed.is_panic() {
                    std::panic::resume_unwind(failed.into_panic());
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let dropped = node.faults.dropped();
                    connections.spawn(connection(Arc::clone(&node), stream, peer, dropped));
                }
                Err(error) => {
                    warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

/// Serves one client until it leaves, errs, or is dropped.
async fn connection(node: Arc<Node>, stream: TcpStream, peer: SocketAddr, mut dropped: watch::Receiver<u64>) {
    let hangup = tokio::select! {
        biased;
        _ = dropped.changed() => {
            debug!(%peer, "connection dropped as asked");
            return;
        }
        served = serve(&node, stream) => match served {
            Ok(()) => return,
            Err(hangup) => hangup,
        },
    };
    match &hangup {
        Hangup::Io(_) | Hangup::Fault(_) => {
            debug!(%peer, error = &hangup as &dyn std::error::Error, "connection closed")
        }
        Hangup::Frame(_) | Hangup::Refused(_) => {
            warn!(%peer, error = &hangup as &dyn std::error::Error, "connection closed");
        }
        Hangup::Storage(_) => {
            error!(%peer, error = &hangup as &dyn std::error::Error, "broker stopped");
        }
    }
}

async fn serve(node: &Node, mut stream: TcpStream) -> Result<(), Hangup> {
    stream.set_nodelay(true)?;
    let reached = stream.local_addr()?;
    let endpoint = Endpoint { host: reached.ip().to_canonical().to_string(), port: reached.port() };
    while let Some(frame) = read_frame(&mut stream).await? {
        let call = wire::decode(frame)?;
        let fault = node.faults.next(call.request.api());
        node.faults.thawed().await;
        let received_ms = node.now_ms();
        let moment = Moment { endpoint: endpoint.clone(), received_ms, now_ms: received_ms };
        let response = match fault {
            Some(Fault::Drop) => return Err(Hangup::Fault(Fault::Drop)),
            Some(Fault::Error(error)) => node.refuse(&call, error, &moment)?,
            Some(Fault::LoseReply | Fault::Delay(_)) | None => node.answer(&call, moment).await?,
        };
        match fault {
            Some(Fault::LoseReply) => return Err(Hangup::Fault(Fault::LoseReply)),
            Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::Drop | Fault::Error(_)) | None => {}
        }
        node.faults.thawed().await;
        if let Some(response) = response {
            stream.write_all(&wire::encode(&call, &response)?).await?;
        }
    }
    Ok(())
}

/// The next frame without its length; `None` when the client has left.
async fn read_frame(stream: &mut TcpStream) -> Result<Option<Bytes>, Hangup> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let length = wire::frame_length(length)?;
    // Grows as bytes arrive: a length alone reserves nothing.
    let mut frame = Vec::new();
    let limit = u64::try_from(length).expect("a length fits");
    stream.take(limit).read_to_end(&mut frame).await?;
    if frame.len() < length {
        return Ok(None);
    }
    Ok(Some(Bytes::from(frame)))
}

#[cfg(test)]
mod tests;
