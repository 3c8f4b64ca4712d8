//! SIGTERM and SIGINT as a future.
//!
//! As PID 1 in a scratch image a process that installs no handler ignores SIGTERM altogether, so
//! [`Signals::install`] is called before anything else that can wait.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The handlers, installed. Signals that arrive before [`Signals::received`] is awaited are kept.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Installs both handlers. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits for either signal and names it.
    ///
    /// # Cancel safety
    /// Dropping the future loses no signal.
    pub async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
