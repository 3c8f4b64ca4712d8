//! The server over real sockets on the loopback, asked as others ask.

use coinduit_common::{alert::Alerts, clock::Clock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::health::Phase;

struct Served {
    address: SocketAddr,
    vitals: Arc<Vitals>,
    task: AbortHandle,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    async fn start() -> Self {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let vitals = Vitals::new("t", Duration::from_secs(60), Clock::System, Alerts::logged_only());
        let task = tokio::spawn(serve(listener, Arc::clone(&vitals))).abort_handle();
        Self { address, vitals, task }
    }

    fn is_ready(&self) {
        self.vitals.phase(Phase::Share);
        self.vitals.in_group(true);
        self.vitals.member(Duration::MAX, 1);
    }

    /// What the server says to these bytes, until it closes the connection.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn request(&self, method: &str, path: &str) -> String {
        self.say(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await
    }
}

#[tokio::test]
async fn a_consumer_that_has_not_begun_lives_and_is_not_ready() {
    let served = Served::start().await;
    assert!(served.request("GET", "/livez").await.starts_with("HTTP/1.1 200 "));
    let answer = served.request("GET", "/readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("the topic has not been found yet"),
        "{answer}"
    );
    served.is_ready();
    assert!(served.request("GET", "/readyz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn metrics_are_whole_and_say_what_they_are() {
    let served = Served::start().await;
    let answer = served.request("GET", "/metrics").await;
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("# EOF\n"));
}

#[tokio::test]
async fn only_what_is_there_is_answered() {
    let served = Served::start().await;
    for (method, path, expected) in [
        ("GET", "/", "404"),
        ("GET", "/metrics/", "404"),
        ("POST", "/metrics", "405"),
        ("DELETE", "/readyz", "405"),
        ("GET", "/livez?verbose", "200"),
    ] {
        let answer = served.request(method, path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{method} {path}: {answer}");
        assert_eq!(answer.contains("allow: GET, HEAD\r\n"), expected == "405");
    }
    let head = served.request("HEAD", "/metrics").await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n") && head.contains("content-length: "),
        "{head}"
    );
}

#[tokio::test]
async fn whoever_holds_connections_keeps_nobody_out() {
    let served = Served::start().await;
    let mut held = Vec::new();
    for _ in 0..3 * MOST_CONNECTIONS {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.unwrap();
        held.push(stream);
    }
    assert!(served.request("GET", "/livez").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    let served = Served::start().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.unwrap();
    let mut sent = 0;
    while stream.write_all(&[b'x'; 4096]).await.is_ok() {
        sent += 4096;
        assert!(sent < 64 << 20, "it is read for ever");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn health_asks_and_says_what_it_is_told() {
    let served = Served::start().await;
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, served.address.port()));
    let (ready, said) = ask(everywhere, "/readyz").await.unwrap();
    assert!(!ready && said.contains("\"ok\": false"), "{said}");
    served.is_ready();
    assert!(ask(served.address, "/readyz").await.unwrap().0);
    assert!(ask(served.address, "/livez").await.unwrap().0);
}

#[tokio::test]
async fn health_says_that_nobody_listens() {
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = ask(address, "/readyz").await.unwrap_err();
    assert!(error.to_string().contains(&format!("http://{address}/readyz")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn health_does_not_wait_for_whoever_never_answers() {
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let error = ask(listener.local_addr().unwrap(), "/readyz").await.unwrap_err();
    assert!(matches!(error, AskError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = listen(address).await.unwrap_err();
    assert!(error.to_string().contains(&format!("HTTP_ADDR {address}")), "{error}");
}
