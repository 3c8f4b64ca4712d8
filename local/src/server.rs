//! What every service of the stack has in common: a loopback listener, a task that serves it, a way to stop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::warn;

/// How long [`Server::stop`] lets requests that are already running finish.
const GRACE: Duration = Duration::from_secs(5);

/// A running server. Dropping it tells it to stop, without waiting.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Binds `address` (port 0: a free one) and runs what `serve` makes of the listener.
    ///
    /// `serve` gets a future that is ready when the server shall stop: accept no more, finish what runs, return.
    pub(crate) fn start<F>(
        name: &'static str,
        address: SocketAddr,
        serve: impl FnOnce(TcpListener, StopSignal) -> F,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = bind(address)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, StopSignal(stopped)));
        Ok(Self { name, address, stop, task })
    }

    /// Serves an axum router.
    pub(crate) fn start_router(
        name: &'static str,
        address: SocketAddr,
        router: axum::Router,
    ) -> io::Result<Self> {
        Self::start(name, address, move |listener, stop| async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.wait()).await {
                warn!(name, %error, "server failed");
            }
        })
    }

    /// Where it listens: the port that was asked for, or the one that was free.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and the address, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Accepts no more requests, lets the running ones finish for five seconds, then cuts them off.
    pub(crate) async fn stop(self) {
        let Self { name, stop, mut task, .. } = self;
        // An error says that the task has ended by itself; then there is nobody to tell.
        stop.send(()).ok();
        if tokio::time::timeout(GRACE, &mut task).await.is_err() {
            warn!(name, grace_ms = GRACE.as_millis(), "server cut off with requests running");
            task.abort();
        }
    }
}

/// Ready when a server shall stop.
#[derive(Debug)]
pub(crate) struct StopSignal(oneshot::Receiver<()>);

impl StopSignal {
    /// Waits until the server shall stop: it was told to, or its handle is gone.
    pub(crate) async fn wait(self) {
        drop(self.0.await);
    }
}

/// Listens without Nagle's delay: Linux hands the option on to accepted connections, and every service here
/// answers small requests, which would otherwise wait for the client's delayed acknowledgement.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}
