//! One connection to one broker: agree on versions, ask and be answered, each within a time limit.
//!
//! Requests go one at a time: a connection that failed in the middle of an answer can't be used again, and
//! [`Connection::call`] says so by taking itself out of service.

use std::{
    collections::BTreeMap,
    io,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::{ApiVersionsRequest, RequestHeader, ResponseHeader},
    protocol::{Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{api::Api, error::KafkaError, shape, stream::Stream, tls};

/// No answer that we ask for is larger. A TLS alert or an HTTP answer read as a length is.
const MOST_RESPONSE_BYTES: usize = 64 << 20;

/// How long the broker may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// To accept the connection.
    pub connect: Duration,
    /// To answer one request.
    pub request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), request: Duration::from_secs(10) }
    }
}

/// A connection with the versions that its broker speaks. `S` is what a [`Dialer`](super::dialer::Dialer) makes, or
/// what a test brings.
#[derive(Debug)]
pub struct Connection<S = Stream> {
    stream: S,
    address: String,
    client_id: StrBytes,
    limits: Limits,
    correlation_id: i32,
    versions: BTreeMap<i16, RangeInclusive<i16>>,
    usable: bool,
    /// When the login has to be renewed.
    ends: Option<Instant>,
    /// Where to note that the broker hung up at the first request that only a known client may make.
    silence: Option<Arc<AtomicBool>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// Agrees on versions over a `stream` that is connected to `address`.
    ///
    /// # Errors
    /// What [`Connection::call`] gives for ApiVersions.
    ///
    /// Source: KIP-35 and KIP-511; a broker that doesn't know our version of the request answers with
    /// UNSUPPORTED_VERSION in the oldest form, and is asked again in that.
    pub async fn over(
        stream: S,
        address: String,
        client_id: &str,
        limits: Limits,
    ) -> Result<Self, KafkaError> {
        let client_id = StrBytes::from_string(client_id.to_owned());
        let mut connection = Self {
            stream,
            address,
            client_id,
            limits,
            correlation_id: 0,
            versions: BTreeMap::new(),
            usable: true,
            ends: None,
            silence: None,
        };
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("coinduit"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut answer = connection.call_version(&request, 3, limits.request).await?;
        if answer.error_code == ResponseError::UnsupportedVersion.code() {
            answer = connection.call_version(&request, 0, limits.request).await?;
        }
        if answer.error_code != 0 {
            return Err(KafkaError::refused(answer.error_code, "ApiVersions", connection.address));
        }
        connection.versions =
            answer.api_keys.iter().map(|api| (api.api_key, api.min_version..=api.max_version)).collect();
        Ok(connection)
    }

    /// Whether another call may be made. A login that is about to end ends the connection: the next one logs in again
    /// (KIP-368 lets brokers hang up on those who don't).
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable && self.ends.is_none_or(|ends| Instant::now() < ends)
    }

    /// Where this connection leads.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The login is good for `lifetime`, counted from now: a little less is used.
    pub(super) fn lasts(&mut self, lifetime: Duration) {
        // A lifetime beyond what a clock can show has no end.
        self.ends = Instant::now().checked_add(lifetime.mul_f64(0.85));
    }

    /// Notes in `silence` if the broker hangs up at the next request.
    pub(super) fn watch(&mut self, silence: Arc<AtomicBool>) {
        self.silence = Some(silence);
    }

    /// Asks in the highest version that the broker speaks and that was tried here.
    ///
    /// # Errors
    /// [`KafkaError::Unsupported`] where there is none; [`KafkaError::TimedOut`], [`KafkaError::Broken`] and
    /// [`KafkaError::NotKafka`], after which the connection is not usable. The request may have been carried out.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connection unusable.
    pub async fn call<R: Api>(&mut self, request: &R) -> Result<R::Response, KafkaError> {
        self.call_within(self.limits.request, request).await
    }

    /// Asks as [`Connection::call`] does, with a time `limit` of its own: some requests are answered only
    /// when others have done their part.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    ///
    /// # Cancel safety
    /// That of [`Connection::call`].
    pub async fn call_within<R: Api>(
        &mut self,
        limit: Duration,
        request: &R,
    ) -> Result<R::Response, KafkaError> {
        let version = self.version_of::<R>()?;
        self.call_version(request, version, limit).await
    }

    /// The version in which [`Connection::call`] asks, for requests that differ by it.
    ///
    /// # Errors
    /// [`KafkaError::Unsupported`] where the broker speaks none of those that were tried here.
    pub fn version_of<R: Api>(&self) -> Result<i16, KafkaError> {
        self.version_from::<R>(*R::TRIED.start())
    }

    /// [`Connection::version_of`], for a request that needs `oldest` or newer.
    ///
    /// # Errors
    /// [`KafkaError::Unsupported`] where the broker speaks none of those.
    pub fn version_from<R: Api>(&self, oldest: i16) -> Result<i16, KafkaError> {
        let ours = oldest..=*R::TRIED.end();
        let theirs = self.versions.get(&R::KEY);
        let common = theirs.map(|theirs| (*theirs.end()).min(*ours.end()));
        let version = common.filter(|version| {
            ours.contains(version) && theirs.is_some_and(|theirs| theirs.contains(version))
        });
        version.ok_or_else(|| KafkaError::Unsupported {
            address: self.address.clone(),
            request: R::NAME,
            broker: theirs.map_or_else(
                || "none".to_owned(),
                |theirs| format!("{} to {}", theirs.start(), theirs.end()),
            ),
            ours: format!("{} to {}", ours.start(), ours.end()),
        })
    }

    /// How long a request may take that nobody else delays.
    pub(super) const fn request_limit(&self) -> Duration {
        self.limits.request
    }

    async fn call_version<R: Api>(
        &mut self,
        request: &R,
        version: i16,
        limit: Duration,
    ) -> Result<R::Response, KafkaError> {
        let (address, request_name) = (self.address.clone(), R::NAME);
        if !self.is_usable() {
            let why = if self.usable {
                "the login is about to end"
            } else {
                "an earlier call failed on this connection"
            };
            let source = io::Error::new(io::ErrorKind::NotConnected, why);
            return Err(KafkaError::Broken { address, request: request_name, source });
        }
        // Until the whole answer is there, the stream is in the middle of something.
        self.usable = false;
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let not_kafka =
            |problem| KafkaError::NotKafka { address: self.address.clone(), request: request_name, problem };
        let frame =
            encode(request, version, self.correlation_id, self.client_id.clone()).map_err(not_kafka)?;
        let silence = self.silence.take();
        let answer = match timeout(limit, exchange(&mut self.stream, &frame)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData && tls::cause(&error).is_none() => {
                return Err(not_kafka(error.to_string()));
            }
            Ok(Err(source)) => {
                if let Some(silence) = silence {
                    silence.store(true, Ordering::Relaxed);
                }
                return Err(KafkaError::broken(address, request_name, source));
            }
            Err(_) => {
                return Err(KafkaError::TimedOut { address, request: request_name, limit });
            }
        };
        let answer = decode::<R>(answer, version, self.correlation_id).map_err(not_kafka)?;
        self.usable = true;
        Ok(answer)
    }
}

fn encode<R: Api>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: StrBytes,
) -> Result<Bytes, String> {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(client_id));
    encode_request_header_into_buffer(&mut frame, &header).map_err(|error| error.to_string())?;
    request.encode(&mut frame, version).map_err(|error| error.to_string())?;
    let length = i32::try_from(frame.len() - 4).map_err(|error| error.to_string())?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), frame: &[u8]) -> io::Result<Bytes> {
    let mut sent = stream.write_all(frame).await;
    if sent.is_ok() {
        sent = stream.flush().await;
    }
    let length = match (stream.read_i32().await, sent) {
        // Whoever hangs up may have said why before.
        (Err(heard), Err(sent)) => return Err(if tls::cause(&heard).is_some() { heard } else { sent }),
        (Ok(_), Err(sent)) => return Err(sent),
        (heard, Ok(())) => heard?,
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= MOST_RESPONSE_BYTES);
    let length = length.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "its length is impossible; is the port one for TLS, or no broker's?",
        )
    })?;
    let mut answer = BytesMut::zeroed(length);
    stream.read_exact(&mut answer).await?;
    Ok(answer.freeze())
}

fn decode<R: Api>(mut answer: Bytes, version: i16, correlation_id: i32) -> Result<R::Response, String> {
    // The answer to an ApiVersions request of a version that the broker does not know comes in version 0.
    let unknown = R::KEY == ApiVersionsRequest::KEY
        && answer.get(4..6) == Some(&ResponseError::UnsupportedVersion.code().to_be_bytes()[..]);
    let version = if unknown { 0 } else { version };
    let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version))
        .map_err(|error| error.to_string())?;
    if header.correlation_id != correlation_id {
        return Err(format!("it answers request {} instead of {correlation_id}", header.correlation_id));
    }
    // A request header of version 2 goes with flexible versions (KIP-482).
    if !shape::is_sound(R::ANSWER, version, R::header_version(version) >= 2, &answer) {
        return Err("it has not the length that it claims".to_owned());
    }
    R::Response::decode(&mut answer, version).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{
        messages::{
            ApiVersionsResponse, MetadataRequest, MetadataResponse, api_versions_response::ApiVersion,
        },
        protocol::Encodable,
    };
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// A broker that answers each request with the next of `answers`, then closes.
    async fn broker(mut stream: DuplexStream, answers: Vec<Bytes>) {
        for answer in answers {
            let length = stream.read_i32().await.unwrap();
            let mut request = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut request).await.unwrap();
            let mut frame = BytesMut::new();
            frame.put_i32(i32::try_from(answer.len() + 4).unwrap());
            frame.extend_from_slice(&request[4..8]);
            frame.extend_from_slice(&answer);
            stream.write_all(&frame).await.unwrap();
        }
    }

    fn versions(metadata: RangeInclusive<i16>, version: i16, error: i16) -> Bytes {
        let api = ApiVersion::default()
            .with_api_key(MetadataRequest::KEY)
            .with_min_version(*metadata.start())
            .with_max_version(*metadata.end());
        let mut out = BytesMut::new();
        ApiVersionsResponse::default()
            .with_error_code(error)
            .with_api_keys(vec![api])
            .encode(&mut out, version)
            .unwrap();
        out.freeze()
    }

    async fn connect(answers: Vec<Bytes>) -> Result<Connection<DuplexStream>, KafkaError> {
        let (ours, theirs) = duplex(1 << 16);
        tokio::spawn(broker(theirs, answers));
        Connection::over(ours, "broker:9092".to_owned(), "test", Limits::default()).await
    }

    #[tokio::test]
    async fn an_old_broker_is_asked_again_in_version_0() {
        let mut connection = connect(vec![versions(0..=0, 0, 35), versions(0..=4, 0, 0)]).await.unwrap();
        let error = connection.call(&MetadataRequest::default()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "Kafka broker broker:9092 speaks Metadata versions 0 to 4, Coinduit needs 10 to 12; Kafka 2.8 or newer has them"
        );
        assert!(!error.is_retryable() && connection.is_usable());
    }

    #[tokio::test]
    async fn the_highest_version_that_both_speak_is_used() {
        let mut body = BytesMut::new();
        body.put_u8(0); // the flexible header's tagged fields
        MetadataResponse::default().encode(&mut body, 11).unwrap();
        let mut connection = connect(vec![versions(0..=11, 3, 0), body.freeze()]).await.unwrap();
        assert_eq!(connection.call(&MetadataRequest::default()).await.unwrap(), MetadataResponse::default());
    }

    #[tokio::test]
    async fn a_closed_connection_is_out_of_service() {
        let mut connection = connect(vec![versions(0..=12, 3, 0)]).await.unwrap();
        let error = connection.call(&MetadataRequest::default()).await.unwrap_err();
        assert!(matches!(error, KafkaError::Broken { .. }) && error.is_retryable(), "{error}");
        assert!(!connection.is_usable());
        assert!(connection.call(&MetadataRequest::default()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_never_answers_is_named() {
        let (ours, _theirs) = duplex(1 << 16);
        let error =
            Connection::over(ours, "silent:9092".to_owned(), "test", Limits::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "Kafka broker silent:9092 did not answer ApiVersions within 10s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_can_have_a_time_limit_of_its_own() {
        let (ours, mut theirs) = duplex(1 << 16);
        tokio::spawn(async move {
            let head = versions(0..=12, 3, 0);
            theirs.write_i32(i32::try_from(head.len() + 4).unwrap()).await.unwrap();
            theirs.write_i32(1).await.unwrap();
            theirs.write_all(&head).await.unwrap();
            tokio::time::sleep(Duration::from_secs(600)).await;
        });
        let mut connection =
            Connection::over(ours, "slow:9092".to_owned(), "test", Limits::default()).await.unwrap();
        let request = MetadataRequest::default();
        let error = connection.call_within(Duration::from_secs(300), &request).await.unwrap_err();
        assert_eq!(error.to_string(), "Kafka broker slow:9092 did not answer Metadata within 300s");
    }

    #[tokio::test]
    async fn a_request_can_need_a_newer_version_than_others_of_its_kind() {
        let connection = connect(vec![versions(0..=11, 3, 0)]).await.unwrap();
        assert_eq!(connection.version_of::<MetadataRequest>().unwrap(), 11);
        assert_eq!(connection.version_from::<MetadataRequest>(11).unwrap(), 11);
        let error = connection.version_from::<MetadataRequest>(12).unwrap_err();
        assert!(error.to_string().contains("versions 0 to 11, Coinduit needs 12 to 12"), "{error}");
    }

    #[tokio::test]
    async fn http_and_tls_are_told_from_kafka() {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0x15, 3, 3, 0, 2, 2, 40, 0]] {
            let (ours, mut theirs) = duplex(1 << 16);
            theirs.write_all(answer).await.unwrap();
            let error =
                Connection::over(ours, "web:80".to_owned(), "test", Limits::default()).await.unwrap_err();
            assert!(matches!(error, KafkaError::NotKafka { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_ends_too_early_or_too_late_is_refused() {
        let whole = versions(0..=12, 3, 0);
        for length in 0..whole.len() {
            let error = connect(vec![whole.slice(..length)]).await.unwrap_err();
            assert!(matches!(error, KafkaError::NotKafka { .. }), "{length}: {error}");
        }
        let error = connect(vec![[&whole[..], b"more"].concat().into()]).await.unwrap_err();
        assert!(error.to_string().ends_with("it has not the length that it claims"), "{error}");
    }

    #[tokio::test]
    async fn arbitrary_answers_never_panic() {
        use rand::Rng;
        for _ in 0..2_000 {
            let bytes: Vec<u8> = (0..rand::rng().random_range(0..64)).map(|_| rand::rng().random()).collect();
            drop(connect(vec![bytes.into()]).await);
        }
    }
}
