//! The door of an API that does things wrong: it looks at each request, plays a fault, or hands it to the API that
//! does everything right.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coinduit_common::clock::Clock;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::Api;
use super::fault::{self, ApiFault, Kind, Script, Then};
use crate::server::StopSignal;

/// Requests are small; what is larger than this is none.
const MOST_REQUEST_BYTES: usize = 1 << 20;

/// The faults that are still to be played.
#[derive(Debug)]
pub(super) struct Plan(Mutex<VecDeque<ApiFault>>);

impl Plan {
    pub(super) fn new(faults: Vec<ApiFault>) -> Self {
        Self(Mutex::new(faults.into()))
    }

    /// The fault for a request to `path`: the first that is about such requests.
    fn next(&self, path: &str) -> Option<Kind> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|fault| fault.times != Some(0));
        let about = |fault: &&mut ApiFault| match fault.kind {
            Kind::Credits(_) | Kind::CreditsDown => path.ends_with("/credits"),
            Kind::Prices { .. } | Kind::Redirect(_) => {
                path.ends_with("/coins/list") || path.ends_with("/coins/map")
            }
        };
        let fault = faults.iter_mut().find(about)?;
        fault.times = fault.times.map(|times| times - 1);
        Some(fault.kind.clone())
    }
}

/// Serves until it shall stop; connections under way are cut off then.
pub(super) async fn serve(
    listener: TcpListener,
    stop: StopSignal,
    plan: Arc<Plan>,
    api: Arc<Api>,
    behind: SocketAddr,
) {
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop.wait());
    loop {
        tokio::select! {
            () = &mut stop => return,
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (plan, api) = (Arc::clone(&plan), Arc::clone(&api));
                connections.spawn(async move {
                    // The client may turn away in the middle of a fault; that ends it.
                    if let Err(error) = converse(stream, &plan, &api, behind).await {
                        debug!(%error, "a connection to the price API ended");
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One request; every connection has one.
async fn converse(stream: TcpStream, plan: &Plan, api: &Api, behind: SocketAddr) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let Some(request) = Request::read(&mut stream).await? else { return Ok(()) };
    let mut stream = stream.into_inner();
    let Some(kind) = plan.next(&request.path) else { return hand_on(stream, request, behind).await };
    info!(fault = ?kind, path = request.path, "the price API does something wrong");
    let now = Clock::System.now();
    let script = match &kind {
        Kind::Credits(left) => {
            let body =
                format!(r#"{{"dailyCreditsRemaining":{left},"dailyCreditsLimit":{}}}"#, super::DAILY_CREDITS);
            fault::http("200 OK", "Content-Type: application/json\r\n", body.as_bytes())
        }
        Kind::CreditsDown => fault::http("500 Internal Server Error", "", fault::error(500).as_bytes()),
        Kind::Prices { .. } | Kind::Redirect(_) => {
            match api.coins(&fault::question(&kind, &request.body), now) {
                Ok(page) => fault::script(&kind, &page, |after| {
                    (now + after).format("%a, %d %b %Y %H:%M:%S GMT").to_string()
                }),
                Err(error) => fault::http(&error.status.to_string(), "", error.description.as_bytes()),
            }
        }
    };
    play(&mut stream, script).await
}

async fn play(stream: &mut TcpStream, Script { bytes, then }: Script) -> io::Result<()> {
    stream.write_all(&bytes).await?;
    match then {
        Then::Close => stream.shutdown().await,
        Then::Hang => std::future::pending().await,
        Then::HalfClose => {
            stream.shutdown().await?;
            std::future::pending().await
        }
        Then::Reset => stream.set_zero_linger(),
        Then::Drip(bytes, a_second) => {
            let pause = Duration::from_secs(1) / u32::try_from(a_second).unwrap_or(u32::MAX);
            for byte in bytes {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(pause).await;
            }
            stream.shutdown().await
        }
        Then::Flood(bytes) => loop {
            stream.write_all(&bytes).await?;
        },
    }
}

/// Lets the API behind this door answer.
async fn hand_on(mut stream: TcpStream, request: Request, behind: SocketAddr) -> io::Result<()> {
    let mut api = TcpStream::connect(behind).await?;
    // One request a connection, so that the next one is looked at, too.
    let head = request.head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    api.write_all(head.as_bytes()).await?;
    api.write_all(&request.body).await?;
    copy_bidirectional(&mut stream, &mut api).await.map(drop)
}

struct Request {
    path: String,
    /// Request line and headers, with the empty line.
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// The next request; `None` when the client has closed.
    async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 || head.len() > MOST_REQUEST_BYTES {
                return Ok(None);
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
            .unwrap_or(0);
        if length > MOST_REQUEST_BYTES {
            return Ok(None);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        Ok(Some(Self { path, head, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_played_one_after_the_other_and_then_it_is_over() {
        let faults = ["credits:5", "status:500x2", "htmlx1"].map(|fault| fault.parse().unwrap());
        let plan = Plan::new(faults.to_vec());
        let names: Vec<String> =
            std::iter::from_fn(|| plan.next("/v1/coins/list")).map(|kind| format!("{kind:?}")).collect();
        assert_eq!(names.len(), 3);
        assert!(names[1].contains("status") && names[2].contains("html"), "{names:?}");
        assert_eq!(plan.next("/status"), None);
        // What is about credits is about nothing else, and stays.
        assert_eq!(
            (plan.next("/credits"), plan.next("/credits")),
            (Some(Kind::Credits(5)), Some(Kind::Credits(5)))
        );
    }
}
