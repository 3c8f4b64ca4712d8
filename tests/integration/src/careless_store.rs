//! A store that speaks enough of S3 to be written to, and that ignores conditions, as some do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use tokio::net::TcpListener;

/// No object is larger than this here.
const MOST_BYTES: usize = 16 << 20;

/// The running store. It serves until the runtime ends.
#[derive(Debug)]
pub struct CarelessStore {
    url: String,
    objects: Objects,
}

type Objects = Arc<Mutex<BTreeMap<String, Bytes>>>;

impl CarelessStore {
    /// Starts on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a listener has an address"));
        let objects = Objects::default();
        let served = Arc::clone(&objects);
        let router =
            Router::new().fallback(move |request: Request<Body>| answer(Arc::clone(&served), request));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, objects }
    }

    /// Its endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The keys of all objects, each after its bucket.
    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

async fn answer(objects: Objects, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MOST_BYTES).await.unwrap_or_default();
    let key = head.uri.path().trim_start_matches('/').to_owned();
    let listing = head.uri.query().is_some_and(|query| query.contains("list-type"));
    let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
    let (status, body) = match head.method {
        // Whatever If-None-Match says.
        Method::PUT => {
            objects.insert(key, body);
            (StatusCode::OK, Bytes::new())
        }
        // The consumer stops before it has stored anything that it could list.
        _ if listing => (StatusCode::OK, Bytes::from_static(b"<ListBucketResult></ListBucketResult>")),
        _ => match objects.get(&key) {
            Some(object) => (StatusCode::OK, object.clone()),
            None => (StatusCode::NOT_FOUND, Bytes::from_static(b"<Error><Code>NoSuchKey</Code></Error>")),
        },
    };
    Response::builder()
        .status(status)
        .header("etag", "\"1\"")
        .header("last-modified", "Mon, 23 Nov 2026 10:05:00 GMT")
        .body(Body::from(body))
        .expect("the parts of this answer are right")
}
