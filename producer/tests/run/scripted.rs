//! An HTTP server that answers what a test wrote down, byte for byte, and then treats the connection as badly
//! as the test wants.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What becomes of the connection when the bytes of an answer are out.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It is closed.
    Close,
    /// It stays open, and silent.
    Hang,
    /// A space comes, and another one, and never enough of them.
    Drip,
    /// Spaces come as fast as they are taken, without an end.
    Flood,
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
    then: Then,
}

impl Answer {
    /// HTTP 200 with `body`, as a well-behaved API sends it.
    pub(crate) fn ok(body: &str) -> Self {
        Self::http("200 OK", "Content-Type: application/json\r\n", body)
    }

    /// `status` such as `500 Internal Server Error`; `headers` with their line breaks.
    pub(crate) fn http(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Self {
        Self::promising(body.as_ref().len(), status, headers, body)
    }

    /// The same with a Content-Length that need not be true.
    pub(crate) fn promising(length: usize, status: &str, headers: &str, body: impl AsRef<[u8]>) -> Self {
        let head =
            format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        Self::raw([head.as_bytes(), body.as_ref()].concat())
    }

    /// Bytes that need not be HTTP.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), then: Then::Close }
    }

    /// And then silence.
    pub(crate) fn hang(self) -> Self {
        Self { then: Then::Hang, ..self }
    }

    /// And then drop by drop.
    pub(crate) fn drip(self) -> Self {
        Self { then: Then::Drip, ..self }
    }

    /// And then without an end.
    pub(crate) fn flood(self) -> Self {
        Self { then: Then::Flood, ..self }
    }
}

/// What the server was asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// Request line and headers, each on a line of its own.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: Value,
}

/// The server; it lives as long as the test's runtime. What it is asked at `/credits` is answered apart.
#[derive(Debug)]
pub(crate) struct Scripted {
    /// Its address, as `API_URL` wants it.
    pub(crate) url: String,
    asked: watch::Receiver<Vec<Question>>,
}

impl Scripted {
    /// Gives `answers` one after the other, and the last of them for ever.
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let enough = Answer::ok(r#"{"dailyCreditsRemaining":9000,"dailyCreditsLimit":10000}"#);
        Self::with_credits(enough, answers).await
    }

    /// The same, with `credits` as answer to every question for credits.
    pub(crate) async fn with_credits(credits: Answer, answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: Vec<Answer> = answers.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (questions, asked) = watch::channel(Vec::new());
        let questions = Arc::new(questions);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, credits.clone(), answers.clone(), Arc::clone(&questions)));
            }
        });
        Self { url, asked }
    }

    /// All questions so far.
    pub(crate) fn asked(&self) -> Vec<Question> {
        self.asked.borrow().clone()
    }

    /// Waits for the first question.
    pub(crate) async fn is_asked(&self) {
        self.asked.clone().wait_for(|asked| !asked.is_empty()).await.unwrap();
    }
}

async fn converse(
    stream: TcpStream,
    credits: Answer,
    answers: Vec<Answer>,
    questions: Arc<watch::Sender<Vec<Question>>>,
) {
    let mut stream = BufReader::new(stream);
    let Some(question) = read(&mut stream).await else { return };
    let Answer { bytes, then } = if question.head.contains("/credits HTTP/1.1\r\n") {
        credits
    } else {
        let mut number = 0;
        questions.send_modify(|asked| {
            number = asked.len();
            asked.push(question);
        });
        answers[number.min(answers.len() - 1)].clone()
    };
    let mut stream = stream.into_inner();
    // The client may turn away in the middle of any of this; that ends the conversation.
    if stream.write_all(&bytes).await.is_err() {
        return;
    }
    match then {
        Then::Close => drop(stream.shutdown().await),
        Then::Hang => std::future::pending().await,
        Then::Drip => {
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Then::Flood => while stream.write_all(&[b' '; 65536]).await.is_ok() {},
    }
}

/// The next request; `None` when the client has closed.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Question> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        stream.read_line(&mut head).await.ok().filter(|bytes| *bytes > 0)?;
    }
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(Question { head, body: serde_json::from_slice(&body).unwrap_or_default() })
}
