//! An HTTP server that answers as a test wants it to: for services that misbehave, and for Lambda's
//! Runtime API.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// A request, as far as tests look at it.
#[derive(Debug)]
pub(crate) struct Request {
    /// Method and path: `POST /x`.
    pub(crate) line: String,
    /// All headers, lower case, one a line.
    pub(crate) headers: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// An answer: status, headers as they are sent, body. None: the client waits for ever.
pub(crate) type Answer = Option<(u16, String, String)>;

/// Serves on a free port of the loopback address until the runtime ends.
pub(crate) async fn serve(answer: impl Fn(Request) -> Answer + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move { while_open(stream, &*answer).await });
        }
    });
    address
}

async fn while_open(stream: TcpStream, answer: &(impl Fn(Request) -> Answer + Send + Sync)) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let Some((status, headers, body)) = answer(request) else {
            return std::future::pending().await;
        };
        let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
        if stream.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The next request; `None` when the client has closed.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
    let mut headers = String::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        if header.trim().is_empty() {
            break;
        }
        headers.push_str(&header.to_lowercase());
    }
    let length = headers.lines().find_map(|header| header.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { line: line.trim_end_matches(" HTTP/1.1\r\n").to_owned(), headers, body })
}
