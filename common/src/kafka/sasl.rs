//! SASL: this client says who it is.
//!
//! ```text
//! SaslHandshake (mechanism) -> SaslAuthenticate (the mechanism's own messages) ... -> how long the session lasts
//! ```
//!
//! Source: KIP-43 (handshake), KIP-152 (authenticate), KIP-368 (lifetime); RFC 4616 (PLAIN), [`scram`], RFC 7628 and KIP-255
//! (OAUTHBEARER), [`msk`].

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest},
    protocol::StrBytes,
};
use rand::Rng;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    api::Api,
    connection::Connection,
    error::KafkaError,
    shape::{
        Field,
        Kind::{Blob, Fixed, Text, Texts},
        field, since,
    },
};
use crate::config::Secret;

pub mod msk;
pub mod scram;
pub mod token;

use scram::{Hash, ScramError};
use token::{Tokens, printable};

impl Api for SaslHandshakeRequest {
    const NAME: &'static str = "SaslHandshake";
    const TRIED: std::ops::RangeInclusive<i16> = 1..=1;
    const ANSWER: &'static [Field] = &[
        field(Fixed(2)), // error
        field(Texts),    // mechanisms
    ];
}

impl Api for SaslAuthenticateRequest {
    const NAME: &'static str = "SaslAuthenticate";
    const TRIED: std::ops::RangeInclusive<i16> = 0..=2;
    const ANSWER: &'static [Field] = &[
        field(Fixed(2)),    // error
        field(Text),        // message
        field(Blob),        // the mechanism's own
        since(1, Fixed(8)), // session lifetime
    ];
}

/// As whom to log in, and how. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Sasl {
    /// The password, as it is.
    Plain(Login),
    /// A proof that the password is known.
    Scram(Hash, Login),
    /// A token.
    Bearer(Tokens),
}

/// A name and a password.
#[derive(Clone)]
pub struct Login {
    /// Who.
    pub username: String,
    /// The password.
    pub password: Secret,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Sasl {
    /// The mechanism's name in the protocol.
    #[must_use]
    pub const fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain(_) => "PLAIN",
            Self::Scram(Hash::Sha256, _) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512, _) => "SCRAM-SHA-512",
            Self::Bearer(_) => "OAUTHBEARER",
        }
    }

    /// What to look at when the broker says no.
    const fn way_out(&self) -> &'static str {
        match self {
            Self::Plain(_) | Self::Scram(..) => "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
            Self::Bearer(Tokens::Endpoint(_)) => {
                "check that the brokers trust the token's issuer, audience and scope (KAFKA_SASL_OAUTHBEARER_...)"
            }
            Self::Bearer(Tokens::Msk(_)) => {
                "check that this AWS principal may kafka-cluster:Connect, the region, and this machine's clock"
            }
        }
    }
}

/// Logs in. Afterwards the connection knows how long that is good for.
///
/// # Errors
/// [`KafkaError::LogIn`], [`KafkaError::Token`], and what [`Connection::call`] gives. The connection can't be used then.
pub(super) async fn log_in<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    sasl: &Sasl,
) -> Result<(), KafkaError> {
    shake_hands(connection, sasl.mechanism()).await?;
    let mut talk = Talk { connection, sasl, lifetime: Duration::ZERO };
    match sasl {
        Sasl::Plain(login) => {
            // RFC 4616: who to act as (nobody else), who, password.
            let message = format!("\0{}\0{}", login.username, login.password.reveal());
            talk.say(message.into()).await?;
        }
        Sasl::Scram(hash, login) => {
            let first = scram::First::new(*hash, &login.username, nonce());
            let wrong = |address, error: ScramError| refused(address, sasl, error.to_string(), false);
            let address = talk.connection.address().to_owned();
            let answer = talk.say(first.message().into()).await?;
            let (last, message) = first
                .answer(login.password.reveal(), &answer)
                .map_err(|error| wrong(address.clone(), error))?;
            let answer = talk.say(message.into()).await?;
            last.verify(&answer).map_err(|error| wrong(address, error))?;
        }
        Sasl::Bearer(tokens) => {
            let address = talk.connection.address().to_owned();
            let token = tokens.token().await.map_err(|source| KafkaError::Token { address, source })?;
            // RFC 7628: no channel binding, nobody else to act as, the token.
            let message = format!("n,,\x01auth=Bearer {}\x01\x01", token.reveal());
            let answered = talk.say(message.into()).await;
            if let Err(error) = talk.took(answered).await {
                tokens.forget().await;
                return Err(error);
            }
        }
    }
    let lifetime = talk.lifetime;
    if !lifetime.is_zero() {
        connection.lasts(lifetime);
    }
    Ok(())
}

/// Whether whoever closed a connection to `address` without a word wants a login first: what it then offers.
///
/// # Errors
/// [`KafkaError::LogIn`] if so.
pub(super) async fn is_wanted<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
) -> Result<(), KafkaError> {
    let ask = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("NONE"));
    let Ok(answer) = connection.call(&ask).await else { return Ok(()) };
    if answer.error_code != ResponseError::UnsupportedSaslMechanism.code() {
        return Ok(());
    }
    Err(KafkaError::LogIn {
        address: connection.address().to_owned(),
        mechanism: "no mechanism",
        problem: format!(
            "the broker lets nobody in without a login; set KAFKA_SECURITY_PROTOCOL to SASL_SSL or SASL_PLAINTEXT, and KAFKA_SASL_MECHANISM to one of {}",
            offered(&answer.mechanisms)
        ),
        retryable: false,
    })
}

async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut Connection<S>,
    mechanism: &'static str,
) -> Result<(), KafkaError> {
    let ask = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    let answer = connection.call(&ask).await?;
    let problem = match ResponseError::try_from_code(answer.error_code) {
        None if answer.error_code == 0 => return Ok(()),
        Some(ResponseError::UnsupportedSaslMechanism) => format!(
            "the broker offers {}; set KAFKA_SASL_MECHANISM to one that it has",
            offered(&answer.mechanisms)
        ),
        Some(ResponseError::IllegalSaslState) => {
            "the broker takes no logins here; set KAFKA_SECURITY_PROTOCOL to PLAINTEXT or SSL, or use another port"
                .to_owned()
        }
        _ => {
            return Err(KafkaError::refused(
                answer.error_code,
                SaslHandshakeRequest::NAME,
                connection.address(),
            ));
        }
    };
    Err(KafkaError::LogIn { address: connection.address().to_owned(), mechanism, problem, retryable: false })
}

fn offered(mechanisms: &[StrBytes]) -> String {
    let names: Vec<String> = mechanisms.iter().take(20).map(|name| printable(name)).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The exchange of a mechanism's messages.
struct Talk<'a, S> {
    connection: &'a mut Connection<S>,
    sasl: &'a Sasl,
    lifetime: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<'_, S> {
    /// Says `message`; returns the broker's answer.
    async fn say(&mut self, message: Bytes) -> Result<Bytes, KafkaError> {
        let ask = SaslAuthenticateRequest::default().with_auth_bytes(message);
        let answer: SaslAuthenticateResponse = self.connection.call(&ask).await?;
        if answer.error_code == 0 {
            let lifetime = u64::try_from(answer.session_lifetime_ms).unwrap_or(0);
            self.lifetime = Duration::from_millis(lifetime);
            return Ok(answer.auth_bytes);
        }
        let error = ResponseError::try_from_code(answer.error_code);
        let said = answer.error_message.as_deref().map(printable).filter(|said| !said.is_empty());
        let said = said.unwrap_or_else(|| {
            error.map_or_else(|| "an unknown error".to_owned(), |error| error.to_string())
        });
        let retryable = error.is_some_and(|error| error.is_retriable());
        let address = self.connection.address().to_owned();
        let problem = format!("the broker refuses ({said}); {}", self.sasl.way_out());
        Err(refused(address, self.sasl, problem, retryable))
    }

    /// Whether the broker took a token: one that it does not take is answered with why, as JSON, and wants an answer too.
    async fn took(&mut self, answered: Result<Bytes, KafkaError>) -> Result<(), KafkaError> {
        let answer = answered?;
        if answer.is_empty() {
            return Ok(());
        }
        let why = serde_json::from_slice::<Value>(&answer).unwrap_or_default();
        let status =
            why.get("status").and_then(Value::as_str).map_or_else(|| "no reason given".to_owned(), printable);
        let address = self.connection.address().to_owned();
        // The answer to this says no more than the first one; a broker need not give it.
        drop(self.say(Bytes::from_static(b"\x01")).await);
        let problem = format!("the broker refuses the token ({status}); {}", self.sasl.way_out());
        Err(refused(address, self.sasl, problem, false))
    }
}

fn refused(address: String, sasl: &Sasl, problem: String, retryable: bool) -> KafkaError {
    KafkaError::LogIn { address, mechanism: sasl.mechanism(), problem, retryable }
}

fn nonce() -> String {
    STANDARD.encode(rand::rng().random::<[u8; 24]>())
}

/// Everything but letters, digits and `-._~` as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::{
        messages::{
            ApiVersionsRequest, ApiVersionsResponse, RequestHeader, SaslHandshakeResponse,
            api_versions_response::ApiVersion,
        },
        protocol::{Decodable, Encodable, HeaderVersion, Request},
    };
    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::advance,
    };

    use super::*;
    use crate::kafka::connection::Limits;

    /// What the broker says to a login.
    #[derive(Debug, Clone)]
    struct Script {
        handshake: SaslHandshakeResponse,
        /// One for each message of the mechanism; then it hangs up.
        answers: Vec<SaslAuthenticateResponse>,
    }

    fn script(answers: impl IntoIterator<Item = SaslAuthenticateResponse>) -> Script {
        Script { handshake: SaslHandshakeResponse::default(), answers: answers.into_iter().collect() }
    }

    fn says(bytes: &'static [u8]) -> SaslAuthenticateResponse {
        SaslAuthenticateResponse::default().with_auth_bytes(Bytes::from_static(bytes))
    }

    fn body(message: &impl Encodable, version: i16, flexible: bool) -> BytesMut {
        let mut body = BytesMut::new();
        if flexible {
            body.put_u8(0);
        }
        message.encode(&mut body, version).unwrap();
        body
    }

    /// Plays `script`; returns the mechanism's messages that it got.
    async fn broker(mut stream: DuplexStream, script: Script) -> Vec<Bytes> {
        let mut answers = script.answers.into_iter();
        let mut got = Vec::new();
        while let Ok(length) = stream.read_i32().await {
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut frame).await.unwrap();
            let mut frame = Bytes::from(frame);
            let (key, version) =
                (i16::from_be_bytes([frame[0], frame[1]]), i16::from_be_bytes([frame[2], frame[3]]));
            let correlation = frame.slice(4..8);
            let answer = match key {
                ApiVersionsRequest::KEY => {
                    let apis = [(SaslHandshakeRequest::KEY, 1), (SaslAuthenticateRequest::KEY, 2)];
                    let api = |(key, most)| ApiVersion::default().with_api_key(key).with_max_version(most);
                    let answer = ApiVersionsResponse::default().with_api_keys(apis.map(api).to_vec());
                    body(&answer, version, false)
                }
                SaslHandshakeRequest::KEY => body(&script.handshake, version, false),
                SaslAuthenticateRequest::KEY => {
                    let header = SaslAuthenticateRequest::header_version(version);
                    RequestHeader::decode(&mut frame, header).unwrap();
                    got.push(SaslAuthenticateRequest::decode(&mut frame, version).unwrap().auth_bytes);
                    let Some(answer) = answers.next() else { break };
                    body(&answer, version, true)
                }
                other => panic!("request {other}"),
            };
            stream.write_i32(i32::try_from(answer.len() + 4).unwrap()).await.unwrap();
            stream.write_all(&[&correlation[..], &answer[..]].concat()).await.unwrap();
        }
        got
    }

    async fn attempt(
        sasl: &Sasl,
        script: Script,
    ) -> (Result<Connection<DuplexStream>, KafkaError>, Vec<Bytes>) {
        let (ours, theirs) = duplex(1 << 16);
        let broker = tokio::spawn(broker(theirs, script));
        let mut connection =
            Connection::over(ours, "broker:9093".to_owned(), "test", Limits::default()).await.unwrap();
        let result = log_in(&mut connection, sasl).await;
        let result = result.map(|()| connection);
        match result {
            Ok(connection) => (Ok(connection), Vec::new()),
            // The broker has seen all that there is.
            Err(error) => (Err(error), broker.await.unwrap()),
        }
    }

    fn login() -> Login {
        Login { username: "me".to_owned(), password: Secret::new("geheim") }
    }

    async fn error(sasl: Sasl, script: Script) -> KafkaError {
        let error = attempt(&sasl, script).await.0.unwrap_err();
        assert!(!format!("{error} {error:?} {sasl:?}").contains("geheim"));
        error
    }

    #[tokio::test]
    async fn a_wrong_password_is_said_so_and_is_final() {
        let no = SaslAuthenticateResponse::default()
            .with_error_code(58)
            .with_error_message(Some(StrBytes::from_static_str("Invalid username or password\u{7}")));
        let error = error(Sasl::Plain(login()), script([no])).await;
        assert_eq!(
            error.to_string(),
            "log in to Kafka broker broker:9093 (PLAIN): the broker refuses (Invalid username or password); check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
        );
        assert!(!error.is_retryable());
    }

    #[tokio::test]
    async fn a_mechanism_that_the_broker_has_not_is_answered_with_those_that_it_has() {
        let names = ["PLAIN", "SCRAM-SHA-512"].map(StrBytes::from_static_str);
        let handshake = SaslHandshakeResponse::default().with_error_code(33).with_mechanisms(names.to_vec());
        let error =
            error(Sasl::Scram(Hash::Sha256, login()), Script { handshake, answers: Vec::new() }).await;
        assert!(error.to_string().contains("the broker offers PLAIN, SCRAM-SHA-512; set"), "{error}");
        assert!(!error.is_retryable());
        let handshake = SaslHandshakeResponse::default().with_error_code(34);
        let error =
            super::tests::error(Sasl::Plain(login()), Script { handshake, answers: Vec::new() }).await;
        assert!(error.to_string().contains("takes no logins here"), "{error}");
    }

    #[tokio::test]
    async fn a_broker_that_can_not_prove_itself_is_not_trusted() {
        for (answer, words) in [
            (&b"r=somebody-elses,s=AAAA,i=4096"[..], "does not continue ours"),
            (b"\xff", "makes no sense"),
            (b"", "makes no sense"),
        ] {
            let error = error(Sasl::Scram(Hash::Sha512, login()), script([says(answer), says(b"")])).await;
            assert!(error.to_string().contains(words), "{error}");
            assert!(!error.is_retryable());
        }
    }

    #[tokio::test]
    async fn a_connection_that_breaks_in_a_login_is_tried_again() {
        let error = error(Sasl::Plain(login()), script([])).await;
        assert!(matches!(error, KafkaError::Broken { request: "SaslAuthenticate", .. }), "{error}");
        assert!(error.is_retryable());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_given_up_before_its_login_ends() {
        let for_a_minute = says(b"").with_session_lifetime_ms(60_000);
        let (connection, _) = attempt(&Sasl::Plain(login()), script([for_a_minute])).await;
        let mut connection = connection.unwrap();
        advance(Duration::from_secs(50)).await;
        assert!(connection.is_usable());
        advance(Duration::from_secs(2)).await;
        assert!(!connection.is_usable());
        let ask = SaslHandshakeRequest::default();
        let error = connection.call(&ask).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");

        let (connection, _) = attempt(&Sasl::Plain(login()), script([says(b"")])).await;
        advance(Duration::from_secs(1_000_000)).await;
        assert!(connection.unwrap().is_usable());
    }

    /// With a token of an endpoint that gives one, once.
    async fn bearer() -> Sasl {
        use tokio::net::TcpListener;
        crate::crypto::install_ring();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"client_credentials") {
                asked.push(stream.read_u8().await.unwrap());
            }
            let token = r#"{"access_token":"geheim.token","expires_in":60}"#;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{token}", token.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let endpoint =
            token::Endpoint::new(url.parse().unwrap(), "me".to_owned(), Secret::new("geheim"), None);
        Sasl::Bearer(Tokens::Endpoint(std::sync::Arc::new(endpoint)))
    }

    #[tokio::test]
    async fn a_token_that_is_not_taken_is_said_so() {
        let sasl = bearer().await;
        let no = SaslAuthenticateResponse::default().with_error_code(58);
        let (result, got) =
            attempt(&sasl, script([says(br#"{"status":"invalid_token","scope":"x"}"#), no])).await;
        let error = result.unwrap_err();
        assert!(error.to_string().contains("refuses the token (invalid_token); check that"), "{error}");
        assert!(!error.is_retryable() && !format!("{error:?} {sasl:?}").contains("geheim"));
        assert_eq!(got, [&b"n,,\x01auth=Bearer geheim.token\x01\x01"[..], b"\x01"]);
        // It has been forgotten; and the endpoint of this test gives no second one.
        let error = attempt(&sasl, script([])).await.0.unwrap_err();
        assert!(matches!(error, KafkaError::Token { .. }) && error.is_retryable(), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_answer_of_a_broker_panics(first in proptest::collection::vec(any::<u8>(), 0..80), code in any::<i16>(), lifetime in any::<i64>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let answer = SaslAuthenticateResponse::default()
                .with_error_code(code)
                .with_auth_bytes(first.into())
                .with_session_lifetime_ms(lifetime);
            for sasl in [Sasl::Plain(login()), Sasl::Scram(Hash::Sha256, login())] {
                drop(runtime.block_on(attempt(&sasl, script([answer.clone(), answer.clone()]))));
            }
        }
    }
}
