//! Where bearer tokens come from: a token endpoint (OAuth 2.0, client credentials), or AWS credentials.

use std::{fmt, sync::Arc, time::Duration};

use aws_credential_types::Credentials;
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Client, StatusCode, redirect};
use serde_json::Value;
use tokio::{
    sync::{Mutex, OnceCell},
    time::{Instant, timeout},
};
use url::Url;

use super::{msk, percent_encoded};
use crate::{
    aws::{Aws, AwsSettings, NoCredentials},
    clock::Clock,
    config::Secret,
};

/// How long it may take to get one.
const LIMIT: Duration = Duration::from_secs(10);
/// An endpoint's answer is not larger.
const MOST_ANSWER_BYTES: usize = 1 << 20;

/// There is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No HTTP client.
    #[error("make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// The endpoint does not answer.
    #[error("ask the token endpoint {endpoint}")]
    Unreachable {
        /// Its address.
        endpoint: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Nobody answers in time.
    #[error("{from} gave no token within {LIMIT:?}")]
    TimedOut {
        /// Who was asked.
        from: String,
    },
    /// The endpoint says no.
    #[error("the token endpoint {endpoint} refuses (HTTP {status}{said}); {way_out}")]
    Refused {
        /// Its address.
        endpoint: String,
        /// Its answer.
        status: u16,
        /// What it says about it, after a colon.
        said: String,
        /// What to change.
        way_out: &'static str,
    },
    /// The endpoint's answer holds no token.
    #[error(
        "the answer of the token endpoint {endpoint} can't be used: {problem}; check KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"
    )]
    Useless {
        /// Its address.
        endpoint: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nobody knows who this is in AWS.
    #[error(transparent)]
    Credentials(#[from] NoCredentials),
    /// AWS credentials that can't sign.
    #[error("sign a token with the AWS credentials: {0}")]
    Sign(String),
}

impl TokenError {
    /// Whether asking again may help without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::Credentials(error) => error.is_retryable(),
            Self::Client(_) | Self::Useless { .. } | Self::Sign(_) => false,
        }
    }
}

/// Gives tokens. Cheap to clone; clones share what they hold.
#[derive(Debug, Clone)]
pub enum Tokens {
    /// A token endpoint's.
    Endpoint(Arc<Endpoint>),
    /// Amazon MSK's.
    Msk(Arc<Msk>),
}

impl Tokens {
    /// A token that can be used now.
    ///
    /// # Errors
    /// [`TokenError`].
    ///
    /// # Cancel safety
    /// Dropping the future loses at most a token that nobody has used.
    pub async fn token(&self) -> Result<Secret, TokenError> {
        let (from, got) = match self {
            Self::Endpoint(endpoint) => (endpoint.url.as_str(), timeout(LIMIT, endpoint.token()).await),
            Self::Msk(msk) => ("the AWS credential chain", timeout(LIMIT, msk.token()).await),
        };
        got.unwrap_or_else(|_| Err(TokenError::TimedOut { from: from.to_owned() }))
    }

    /// The broker has refused the last token: the next one is a new one.
    pub async fn forget(&self) {
        match self {
            Self::Endpoint(endpoint) => drop(endpoint.held.lock().await.take()),
            // Each is a new one.
            Self::Msk(_) => {}
        }
    }
}

/// A token endpoint, and as whom to ask it.
pub struct Endpoint {
    url: Url,
    client_id: String,
    client_secret: Secret,
    scope: Option<String>,
    http: OnceCell<Client>,
    held: Mutex<Option<(Secret, Instant)>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.url.as_str())
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(url: Url, client_id: String, client_secret: Secret, scope: Option<String>) -> Self {
        Self { url, client_id, client_secret, scope, http: OnceCell::new(), held: Mutex::default() }
    }

    async fn token(&self) -> Result<Secret, TokenError> {
        // Whoever comes while one asks waits for the same answer.
        let mut held = self.held.lock().await;
        if let Some((token, until)) = &*held
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        *held = None;
        let (token, lifetime) = self.ask().await?;
        // Given up before its end, so that it lasts through a login.
        *held = lifetime.map(|lifetime| (token.clone(), Instant::now() + lifetime.mul_f64(0.8)));
        Ok(token)
    }

    async fn ask(&self) -> Result<(Secret, Option<Duration>), TokenError> {
        let endpoint = self.url.to_string();
        let http = self.http.get_or_try_init(async || {
            Client::builder()
                .redirect(redirect::Policy::none())
                .timeout(LIMIT)
                .build()
                .map_err(TokenError::Client)
        });
        let http = http.await?;
        let mut form = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.scope {
            form.push_str(&format!("&scope={}", percent_encoded(scope)));
        }
        let secret = percent_encoded(self.client_secret.reveal());
        let basic = STANDARD.encode(format!("{}:{secret}", percent_encoded(&self.client_id)));
        let unreachable = |error: reqwest::Error| TokenError::Unreachable {
            endpoint: endpoint.clone(),
            source: error.without_url(),
        };
        let request = http
            .post(self.url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .header("authorization", format!("Basic {basic}"))
            .body(form);
        let mut answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_ANSWER_BYTES {
                return Err(TokenError::Useless { endpoint, problem: "it has no end" });
            }
        }
        read(endpoint, status, &body)
    }
}

/// The token in an answer, and how long it can be used.
///
/// Source: RFC 6749, sections 5.1 and 5.2.
fn read(endpoint: String, status: StatusCode, body: &[u8]) -> Result<(Secret, Option<Duration>), TokenError> {
    let answer = serde_json::from_slice::<Value>(body).unwrap_or_default();
    if status != StatusCode::OK {
        let word = |name| answer.get(name).and_then(Value::as_str).map(printable);
        let said = [word("error"), word("error_description")].into_iter().flatten();
        let said = said.map(|word| format!(": {word}")).collect();
        let way_out = match status.as_u16() {
            400 | 401 | 403 => {
                "check KAFKA_SASL_OAUTHBEARER_CLIENT_ID, _CLIENT_SECRET and _SCOPE, and what this client may do"
            }
            408 | 425 | 429 | 500.. => "it is asked again",
            _ => "check KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL; redirects are not followed",
        };
        return Err(TokenError::Refused { endpoint, status: status.as_u16(), said, way_out });
    }
    let Some(token) = answer.get("access_token").and_then(Value::as_str) else {
        return Err(TokenError::Useless { endpoint, problem: "it is no JSON object with an access_token" });
    };
    if token.is_empty() || !token.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
        return Err(TokenError::Useless { endpoint, problem: "its access_token holds what no token can" });
    }
    let lifetime = answer.get("expires_in").and_then(|value| match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    // Beyond a day nobody knows whether it has been revoked.
    let lifetime = lifetime
        .filter(|seconds| *seconds > 0.0)
        .map(|seconds| Duration::from_secs_f64(seconds.min(86_400.0)));
    Ok((Secret::new(token), lifetime))
}

/// What somebody else says, short and without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Signs tokens for Amazon MSK, a new one for each connection.
pub struct Msk {
    settings: AwsSettings,
    region: String,
    clock: Clock,
    aws: OnceCell<Aws>,
}

impl fmt::Debug for Msk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Msk").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Msk {
    /// As the principal of `settings`, for the clusters of `region`. Looks for credentials when it is asked.
    #[must_use]
    pub fn new(settings: AwsSettings, region: String, clock: Clock) -> Self {
        Self { settings, region, clock, aws: OnceCell::new() }
    }

    async fn token(&self) -> Result<Secret, TokenError> {
        let aws = self.aws.get_or_init(async || Aws::new(self.settings.clone()).await).await;
        let found = aws.credentials().await?;
        let credentials =
            Credentials::new(&found.key_id, &found.secret_key, found.token.clone(), None, "coinduit");
        msk::token(&self.region, credentials, self.clock.now().into())
            .map(Secret::new)
            .map_err(TokenError::Sign)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        config::{Env, Faults},
        crypto,
    };

    /// An endpoint that gives the same answer each time; counts, and keeps the last question.
    async fn endpoint(
        status: &'static str,
        body: &'static str,
    ) -> (Tokens, Arc<AtomicUsize>, Arc<Mutex<String>>) {
        crypto::install_ring();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let (asked, question) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
        let (count, kept) = (Arc::clone(&asked), Arc::clone(&question));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = String::new();
                while !text.contains("grant_type=client_credentials&scope=a%20b") {
                    let mut byte = [0; 1];
                    stream.read_exact(&mut byte).await.unwrap();
                    text.push(char::from(byte[0]));
                }
                count.fetch_add(1, Ordering::SeqCst);
                *kept.lock().await = text;
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let endpoint = Endpoint::new(
            Url::parse(&url).unwrap(),
            "me:".to_owned(),
            Secret::new("geheim+"),
            Some("a b".to_owned()),
        );
        (Tokens::Endpoint(Arc::new(endpoint)), asked, question)
    }

    #[tokio::test]
    async fn a_token_is_kept_until_it_is_refused() {
        let (tokens, asked, question) =
            endpoint("200 OK", r#"{"access_token":"abc.def","token_type":"Bearer","expires_in":3600}"#).await;
        for _ in 0..3 {
            assert_eq!(tokens.token().await.unwrap().reveal(), "abc.def");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        tokens.forget().await;
        tokens.token().await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        let basic = STANDARD.encode("me%3A:geheim%2B");
        assert!(question.lock().await.contains(&format!("authorization: Basic {basic}")));
        assert!(!format!("{tokens:?}").contains("geheim"));
    }

    #[tokio::test]
    async fn a_token_without_an_end_is_used_once() {
        let (tokens, asked, _) = endpoint("200 OK", r#"{"access_token":"abc"}"#).await;
        tokens.token().await.unwrap();
        tokens.token().await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn each_failure_of_an_endpoint_has_words_of_its_own() {
        for (status, body, words, retryable) in [
            (
                "401 Unauthorized",
                r#"{"error":"invalid_client","error_description":"no such client"}"#,
                "(HTTP 401: invalid_client: no such client); check KAFKA_SASL_OAUTHBEARER_CLIENT_ID",
                false,
            ),
            ("503 Service Unavailable", "<html>", "(HTTP 503); it is asked again", true),
            ("302 Found", "", "redirects are not followed", false),
            ("200 OK", "<html>", "no JSON object with an access_token", false),
            ("200 OK", r#"{"access_token":"a b"}"#, "holds what no token can", false),
        ] {
            let (tokens, ..) = endpoint(status, body).await;
            let error = tokens.token().await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.is_retryable(), retryable, "{error}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_is_down_is_named_and_asked_again() {
        crypto::install_ring();
        let url = Url::parse("http://127.0.0.1:1/token").unwrap();
        let endpoint = Endpoint::new(url, "me".to_owned(), Secret::new("x"), None);
        let error = Tokens::Endpoint(Arc::new(endpoint)).token().await.unwrap_err();
        assert_eq!(error.to_string(), "ask the token endpoint http://127.0.0.1:1/token");
        assert!(error.is_retryable());
    }

    #[tokio::test]
    async fn a_token_for_msk_is_signed_by_the_principal_of_the_settings() {
        crypto::install_ring();
        let env = Env::from_pairs([("ACCESS_KEY", "AKIDEXAMPLE"), ("SECRET_KEY", "geheim")]);
        let settings = AwsSettings::from_env(&env, &mut Faults::default());
        let tokens = Tokens::Msk(Arc::new(Msk::new(settings, "eu-west-1".to_owned(), Clock::System)));
        let token = tokens.token().await.unwrap();
        let url = URL_SAFE_NO_PAD.decode(token.reveal()).unwrap();
        let url = String::from_utf8(url).unwrap();
        assert!(url.contains("X-Amz-Credential=AKIDEXAMPLE%2F") && !url.contains("geheim"), "{url}");
        assert!(!format!("{tokens:?}").contains("geheim"));
    }

    proptest! {
        #[test]
        fn no_answer_of_an_endpoint_panics(body in "\\PC*", seconds in any::<f64>(), status in 200u16..600) {
            let status = StatusCode::from_u16(status).unwrap();
            drop(read(String::new(), status, body.as_bytes()));
            let body = serde_json::json!({ "access_token": "a", "expires_in": seconds }).to_string();
            drop(read(String::new(), status, body.as_bytes()));
        }
    }
}
