//! Keeps the function's process alive: starts it, starts it again when it exits, ends it when it must.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::runtime_api::{Desk, FUNCTION_NAME};

/// The wait before a process that exited is started again: it doubles from the first to the last of these.
const FIRST_RESTART_DELAY: Duration = Duration::from_millis(100);
const LAST_RESTART_DELAY: Duration = Duration::from_secs(5);
/// A process that ran for this long has started well; the next wait is short again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// Variables of the host's own environment that the function gets too. It gets no other: the operator's
/// credentials, profiles and proxies must not lead it to the real AWS.
const INHERITED: [&str; 7] =
    ["PATH", "HOME", "TMPDIR", "RUST_LOG", "RUST_BACKTRACE", "LOG_FORMAT", "NO_COLOR"];

/// Which process there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessState {
    /// The first is 1.
    pub(super) number: u64,
    pub(super) running: bool,
}

/// What the keeper of the process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    KeepRunning,
    /// End process `number` if it is the one, and start another.
    Replace(u64),
    Stop,
}

/// How to start the process.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) environment: Vec<(String, String)>,
    /// Host and port of the Runtime API.
    pub(super) runtime_api: String,
}

impl Program {
    fn start(&self) -> std::io::Result<Child> {
        let inherited = INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        Command::new(&self.path)
            .env_clear()
            .envs(inherited)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("AWS_LAMBDA_RUNTIME_API", &self.runtime_api)
            .env("AWS_LAMBDA_FUNCTION_NAME", FUNCTION_NAME)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{FUNCTION_NAME}"))
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "coinduit-local")
            .env("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023")
            .env("_HANDLER", "bootstrap")
            .stdin(Stdio::null())
            // Our standard output is for what people evaluate; a function's words are a log.
            .stdout(std::io::stderr())
            .kill_on_drop(true)
            .spawn()
    }
}

/// Keeps one process of `program` running until the order is to stop, and publishes which one there is.
pub(super) async fn keep(
    program: Program,
    desk: Arc<Desk>,
    state: watch::Sender<ProcessState>,
    mut orders: watch::Receiver<Order>,
) {
    let mut delay = FIRST_RESTART_DELAY;
    for number in 1.. {
        desk.admit(number);
        let started = Instant::now();
        match program.start() {
            Ok(mut child) => {
                info!(number, pid = child.id(), "function started");
                state.send_replace(ProcessState { number, running: true });
                let wanted_gone = |order: &Order| *order == Order::Stop || *order == Order::Replace(number);
                tokio::select! {
                    exit = child.wait() => match exit {
                        Ok(status) => warn!(number, %status, "function exited"),
                        Err(error) => warn!(number, %error, "function can't be waited for"),
                    },
                    _ = orders.wait_for(wanted_gone) => {}
                }
                // Also reaps it. An error says that it is gone.
                drop(child.kill().await);
                state.send_replace(ProcessState { number, running: false });
            }
            Err(error) => warn!(path = %program.path.display(), %error, "function can't be started"),
        }
        if started.elapsed() >= GOOD_RUN {
            delay = FIRST_RESTART_DELAY;
        }
        if stopped_during(delay, &mut orders).await {
            return;
        }
        delay = (delay * 2).min(LAST_RESTART_DELAY);
    }
}

/// Waits for `delay`; true when the order to stop came before or meanwhile.
async fn stopped_during(delay: Duration, orders: &mut watch::Receiver<Order>) -> bool {
    // An error: the host is gone, which is the same.
    tokio::time::timeout(delay, orders.wait_for(|order| *order == Order::Stop)).await.is_ok()
}
