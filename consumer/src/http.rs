//! `/livez`, `/readyz` and `/metrics`, and whoever asks for them.
//!
//! Nobody who connects holds anything for long: a connection carries one request, lives for seconds, and where too many are
//! open the oldest gives way, so that a probe is answered while somebody else sends his headers drop by drop.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::warn;

use crate::{health::Report, metrics, vitals::Vitals};

/// So many connections are open at most.
const MOST_CONNECTIONS: usize = 64;
/// A request's head has to come within this time.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// A connection lives no longer than this.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// The most that is read of a request's head.
const MOST_HEAD_BYTES: usize = 16 << 10;
/// The wait after a connection that could not be accepted: file descriptors are used up, for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long [`ask`] takes at most.
const ASK_LIMIT: Duration = Duration::from_secs(3);
/// The most that [`ask`] takes for an answer.
const MOST_ANSWER_BYTES: usize = 4 << 20;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Nobody can be served there.
#[derive(Debug, thiserror::Error)]
#[error("listen on HTTP_ADDR {address}; choose another HTTP_ADDR, or off")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Listens at `address`.
///
/// # Errors
/// [`ListenError`]: the address is in use, or not this machine's.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}

/// Answers until it is dropped.
pub async fn serve(listener: TcpListener, vitals: Arc<Vitals>) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if oldest_first.len() >= MOST_CONNECTIONS
                        && let Some(oldest) = oldest_first.pop_front()
                    {
                        oldest.abort();
                    }
                    let connection = timeout(CONNECTION_LIMIT, answer(stream, Arc::clone(&vitals)));
                    oldest_first.push_back(connections.spawn(async { drop(connection.await) }));
                }
                Err(error) => {
                    warn!(%error, "can't accept a connection at HTTP_ADDR now");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => oldest_first.retain(|connection| !connection.is_finished()),
        }
    }
}

/// One connection, which carries one request. How it ends is the other side's business.
async fn answer(stream: TcpStream, vitals: Arc<Vitals>) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let response = respond(&vitals, request.method(), request.uri().path());
        async { Ok::<_, Infallible>(response) }
    });
    let mut connection = http1::Builder::new();
    connection
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .keep_alive(false)
        .max_buf_size(MOST_HEAD_BYTES);
    drop(connection.serve_connection(TokioIo::new(stream), service).await);
}

fn respond(vitals: &Vitals, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let (status, content_type, body) = match path {
        "/livez" | "/readyz" | "/metrics" if method != Method::GET && method != Method::HEAD => {
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, Bytes::from_static(b"ask with GET or HEAD\n"))
        }
        "/livez" => report(&vitals.liveness()),
        "/readyz" => report(&vitals.readiness()),
        "/metrics" => (StatusCode::OK, metrics::CONTENT_TYPE, vitals.page()),
        _ => (
            StatusCode::NOT_FOUND,
            TEXT,
            Bytes::from_static(b"this is a coinduit consumer: it has /livez, /readyz and /metrics\n"),
        ),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn report(report: &Report) -> (StatusCode, &'static str, Bytes) {
    let status = if report.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = serde_json::to_vec_pretty(report).expect("strings and numbers are written to memory");
    body.push(b'\n');
    (status, JSON, body.into())
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens, or the connection broke.
    #[error("ask http://{address}{path}")]
    Connection {
        /// Who was asked.
        address: SocketAddr,
        /// For what.
        path: &'static str,
        /// What came instead.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It takes too long.
    #[error("no answer from http://{address}{path} within {ASK_LIMIT:?}")]
    TimedOut {
        /// Who was asked.
        address: SocketAddr,
        /// For what.
        path: &'static str,
    },
}

/// Asks the consumer that listens at `address` on this machine for `path`: whether it says that all is well, and how
/// it says so.
///
/// # Errors
/// [`AskError`], within three seconds.
pub async fn ask(address: SocketAddr, path: &'static str) -> Result<(bool, String), AskError> {
    // Who listens everywhere listens here too.
    let address = match address {
        SocketAddr::V4(any) if any.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, any.port()).into(),
        SocketAddr::V6(any) if any.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, any.port()).into(),
        one => one,
    };
    match timeout(ASK_LIMIT, get(address, path)).await {
        Ok(answer) => answer.map_err(|source| AskError::Connection { address, path, source }),
        Err(_) => Err(AskError::TimedOut { address, path }),
    }
}

async fn get(
    address: SocketAddr,
    path: &str,
) -> Result<(bool, String), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let ok = response.status() == StatusCode::OK;
        let body = Limited::new(response.into_body(), MOST_ANSWER_BYTES).collect().await?.to_bytes();
        Ok((ok, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // The connection ends when the answer has come whole.
        _ = connection => answer.await,
    }
}

#[cfg(test)]
mod tests;
