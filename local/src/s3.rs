//! S3 on a directory: s3s speaks the protocol, s3s-fs keeps the files, `store` closes its gaps.
//!
//! ```text
//! connection -> faults (tests) -> s3s (signatures, XML) -> store (conditions, locks) -> s3s-fs -> files
//!                                                            `-> EventQueue, for each new object
//! ```

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::credentials::{FUNCTION, USER};
use crate::event_queue::EventQueue;
use crate::server::{Server, StopSignal};

mod faults;
mod store;

use faults::Faults;
pub use faults::PutFault;
use store::Store;

/// What an S3 is started with.
#[derive(Debug)]
pub struct S3Config {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Where the objects are kept. Made when missing.
    pub directory: PathBuf,
    /// Made when missing.
    pub buckets: Vec<String>,
    /// Who is told of new objects.
    pub events: Option<Arc<EventQueue>>,
}

/// The running service.
#[derive(Debug)]
pub struct S3 {
    server: Server,
    faults: Arc<Faults>,
}

impl S3 {
    /// Starts the service; [`USER`] and [`FUNCTION`] may use it.
    ///
    /// # Errors
    /// When the directories can't be made or the address can't be listened on.
    pub fn start(config: S3Config) -> io::Result<Self> {
        for bucket in &config.buckets {
            std::fs::create_dir_all(config.directory.join(bucket))?;
        }
        let store = Store::open(config.directory, config.events)?;
        let mut builder = S3ServiceBuilder::new(store);
        let mut auth = SimpleAuth::new();
        for caller in [USER, FUNCTION] {
            auth.register(caller.access_key.to_owned(), caller.secret_key.into());
        }
        builder.set_auth(auth);
        let service = builder.build();
        let faults = Arc::new(Faults::default());
        let server = Server::start("s3", config.address, |listener, stop| {
            serve(listener, stop, service, Arc::clone(&faults))
        })?;
        Ok(Self { server, faults })
    }

    /// The endpoint's URL, without a slash at the end. Buckets are in the path.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Puts `fault` in the way of the next put that no fault ordered before it has met.
    pub fn order_fault(&self, fault: PutFault) {
        self.faults.order(fault);
    }

    /// Stops the service, after the requests that are running.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

async fn serve(listener: TcpListener, stop: StopSignal, service: S3Service, faults: Arc<Faults>) {
    let (close, closing) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop.wait());
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(talk(stream, service.clone(), Arc::clone(&faults), closing.clone()));
                }
                // Too many open files, mostly: others close theirs.
                Err(error) => {
                    warn!(%error, "s3 could not accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    drop(close);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until the client closes it, or the service stops and its last request is answered.
async fn talk(stream: TcpStream, service: S3Service, faults: Arc<Faults>, mut closing: watch::Receiver<()>) {
    let handler = service_fn(|request| faults.call(&service, request));
    let mut connection =
        std::pin::pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), handler));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // The sender never sends; it goes away.
        _ = closing.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "s3 connection ended");
    }
}
