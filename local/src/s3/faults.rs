//! Faults that a test orders for the next puts, at the level of HTTP: the store itself stays right.
//!
//! The interesting ones come *after* the write: the object is there and the client was told otherwise, or
//! nothing at all. That is where duplicates are born.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use s3s::service::S3Service;
use s3s::{Body, HttpError, HttpResponse, S3Error, S3ErrorCode};

/// What happens to one `PutObject` request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutFault {
    /// 500 `InternalError`; nothing is stored.
    ErrorBeforeWrite,
    /// 500 `InternalError`, but the object is stored, if the request was right.
    ErrorAfterWrite,
    /// 409 `ConditionalRequestConflict`; nothing is stored. S3 says so when another conditional write of the key
    /// is going on.
    Conflict,
    /// The request waits before it is handled.
    DelayBeforeWrite(Duration),
    /// The request is handled and the reply waits.
    DelayAfterWrite(Duration),
    /// The connection closes without a reply; nothing is stored.
    DropBeforeWrite,
    /// The connection closes without a reply, but the object is stored, if the request was right.
    DropAfterWrite,
}

/// Faults in the order in which puts meet them; a put that finds none is handled as usual.
#[derive(Debug, Default)]
pub(super) struct Faults {
    ordered: Mutex<VecDeque<PutFault>>,
}

impl Faults {
    pub(super) fn order(&self, fault: PutFault) {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
    }

    /// The fault for this request, if it is a put and one was ordered.
    fn take(&self, request: &Request<Body>) -> Option<PutFault> {
        // Parts of multipart uploads and copies are other operations.
        let is_put = request.method() == Method::PUT
            && request.uri().path().trim_matches('/').contains('/')
            && request.uri().query().is_none_or(|query| !query.contains("uploadId="))
            && !request.headers().contains_key("x-amz-copy-source");
        is_put.then(|| self.ordered.lock().unwrap_or_else(PoisonError::into_inner).pop_front()).flatten()
    }

    /// Hands `request` to the service, with the fault that is in its way.
    ///
    /// # Errors
    /// The connection is to be closed without a reply.
    pub(super) async fn call(
        &self,
        service: &S3Service,
        request: Request<Incoming>,
    ) -> Result<HttpResponse, HttpError> {
        let request = request.map(Body::from);
        match self.take(&request) {
            None => service.call(request).await,
            Some(PutFault::ErrorBeforeWrite) => {
                refuse(request, S3ErrorCode::InternalError, StatusCode::INTERNAL_SERVER_ERROR).await
            }
            Some(PutFault::ErrorAfterWrite) => {
                service.call(request).await?;
                answer(S3ErrorCode::InternalError, StatusCode::INTERNAL_SERVER_ERROR)
            }
            Some(PutFault::Conflict) => {
                refuse(request, S3ErrorCode::ConditionalRequestConflict, StatusCode::CONFLICT).await
            }
            Some(PutFault::DelayBeforeWrite(delay)) => {
                tokio::time::sleep(delay).await;
                service.call(request).await
            }
            Some(PutFault::DelayAfterWrite(delay)) => {
                let reply = service.call(request).await;
                tokio::time::sleep(delay).await;
                reply
            }
            Some(PutFault::DropBeforeWrite) => Err(dropped()),
            Some(PutFault::DropAfterWrite) => {
                service.call(request).await?;
                Err(dropped())
            }
        }
    }
}

/// Answers without having done anything, but after the whole body: a server that answers earlier closes the
/// connection under a client that is still sending, which is another fault.
async fn refuse(
    request: Request<Body>,
    code: S3ErrorCode,
    status: StatusCode,
) -> Result<HttpResponse, HttpError> {
    let mut body = request.into_body();
    while let Some(chunk) = body.next().await {
        chunk.map_err(HttpError::new)?;
    }
    answer(code, status)
}

fn answer(code: S3ErrorCode, status: StatusCode) -> Result<HttpResponse, HttpError> {
    let mut error = S3Error::with_message(code, "a fault that was ordered");
    error.set_status_code(status);
    error.to_http_response().map_err(|error| HttpError::new(Box::new(error)))
}

fn dropped() -> HttpError {
    HttpError::new("the reply was ordered to be lost".into())
}
