//! A broker of a test's own, which it may stop: a process that a script has started, or a container.

mod container;
mod process;

use std::time::Duration;

use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::wait::{until, within};

pub(crate) use container::{HEAP, IMAGE, OWN, Settings, start as start_container};
pub(crate) use process::{Process, Script};

/// A broker that has not started by then, and has not ended, never will.
const START: Duration = Duration::from_secs(600);

/// A broker. It is killed, or removed, when this is dropped.
#[derive(Debug)]
pub struct Broker {
    address: String,
    launched: Launched,
}

/// How it came to be.
#[derive(Debug)]
pub(crate) enum Launched {
    Process(Process),
    Container(Box<crate::containers::Container>),
}

impl Broker {
    /// What listens at the loopback address.
    pub(crate) fn new(port: u16, launched: Launched) -> Self {
        Self { address: format!("127.0.0.1:{port}"), launched }
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process, if it is one of this machine.
    pub(crate) const fn process(&mut self) -> Option<&mut Process> {
        match &mut self.launched {
            Launched::Process(process) => Some(process),
            Launched::Container(_) => None,
        }
    }

    /// Sends it `signal`.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn signal(&self, signal: Signal) {
        match &self.launched {
            Launched::Process(process) => process.signal(signal),
            Launched::Container(container) => container.signal(signal).await,
        }
    }

    /// Stops it: orderly with `TERM`, at once with `KILL`.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn stop(&mut self, signal: Signal) {
        self.signal(signal).await;
        match &mut self.launched {
            Launched::Process(process) => process.ended().await,
            Launched::Container(container) => container.ended().await,
        }
        // It may still listen for a moment.
        let address = &self.address;
        until("the broker listens no more", async || TcpStream::connect(address).await.is_err()).await;
    }

    /// Starts it again, and waits until it listens.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn start_again(&mut self) {
        let address = &self.address;
        match &mut self.launched {
            Launched::Process(process) => {
                process.launch().unwrap_or_else(|error| panic!("start a broker again: {error}"));
                // At a load of forty it took more than two minutes.
                within(START, "the broker listens again", async || {
                    let ended = process.has_ended();
                    assert!(!ended, "a broker has ended instead of starting:\n{}", process.last_words());
                    TcpStream::connect(address).await.is_ok()
                })
                .await;
            }
            Launched::Container(container) => {
                container.start_again().await;
                container.listens(address).await;
            }
        }
    }
}
