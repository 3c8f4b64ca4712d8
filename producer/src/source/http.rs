//! One question over HTTP, one answer, within a time limit and a size.
//!
//! Redirects are not followed: they would carry the key away. Proxies are those of the environment (`HTTPS_PROXY`,
//! `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`). What is compressed is bounded by its size when it is not.

use std::{fmt, time::Duration};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use coinduit_common::{report::Chain, retry::Attempt};
use reqwest::{Client, StatusCode, header, redirect};
use url::Url;

use crate::page::{self, PageError};

/// A page of 100 coins has some 70 kB; what is larger than this is no page.
pub const MOST_BODY_BYTES: usize = 16 << 20;
/// No run waits any longer; a day more or less is the same, and can be added to a clock.
const LONGEST_WISH: Duration = Duration::from_secs(7 * 24 * 3600);

/// The question was not answered with coins.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No connection, or it broke.
    #[error("ask {host} for coins")]
    Unreachable {
        /// The API's host.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The whole answer did not come in time.
    #[error("{host} did not answer within {limit:?} (REQUEST_TIMEOUT, or what was left of RUN_DEADLINE)")]
    TimedOut {
        /// The API's host.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// An HTTP status that is not 200.
    #[error("{host} answers HTTP {status}: {says}{}", wish(*.retry_after))]
    Status {
        /// The API's host.
        host: String,
        /// The status.
        status: StatusCode,
        /// What the body says about it.
        says: String,
        /// How long the API wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// HTTP 200 with something else than coins.
    #[error("{host} answers HTTP 200, but no coins")]
    Body {
        /// The API's host.
        host: String,
        /// What came instead.
        #[source]
        source: PageError,
        /// How long the API wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// An answer without an end.
    #[error("the answer of {host} is larger than {MOST_BODY_BYTES} bytes")]
    TooLarge {
        /// The API's host.
        host: String,
    },
}

impl ApiError {
    /// Whether the API refuses the key: nobody should ask again with it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status.as_u16(), 401 | 403),
            Self::Body { source: PageError::Api { code, .. }, .. } => matches!(code, 401 | 403),
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Body { .. } | Self::TooLarge { .. } => {
                false
            }
        }
    }

    /// Whether the same question may be answered later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::TooLarge { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
            }
            // What has no code that means anything is weather, too.
            Self::Body { source: PageError::Api { code, .. }, .. } => {
                !(400..500).contains(code) || matches!(code, 408 | 425 | 429)
            }
            Self::Body { .. } => true,
        }
    }

    /// Whether the list had nothing in it.
    #[must_use]
    pub const fn is_empty_list(&self) -> bool {
        matches!(self, Self::Body { source: PageError::Empty, .. })
    }

    /// Sorts it for [`coinduit_common::retry::retry`].
    #[must_use]
    pub fn into_attempt<T>(self) -> Attempt<T, Self> {
        if !self.is_retryable() {
            return Attempt::Final(self);
        }
        let after = match &self {
            Self::Status { retry_after, .. } | Self::Body { retry_after, .. } => *retry_after,
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::TooLarge { .. } => None,
        };
        Attempt::Again { error: self, after }
    }
}

/// The HTTP client can't be built.
#[derive(Debug, thiserror::Error)]
#[error("make an HTTP client")]
pub struct ClientError(#[source] reqwest::Error);

/// An answer with HTTP 200.
#[derive(Debug)]
pub struct Answer {
    /// The body, whole and not compressed any more.
    pub body: Bytes,
    host: String,
    retry_after: Option<Duration>,
}

impl Answer {
    /// What is wrong with the body.
    #[must_use]
    pub fn refused(&self, source: PageError) -> ApiError {
        ApiError::Body { host: self.host.clone(), source, retry_after: self.retry_after }
    }
}

/// A client that asks questions. Making it opens no connection.
#[derive(Debug, Clone)]
pub struct Http(Client);

impl Http {
    /// With the proxies of the environment.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new() -> Result<Self, ClientError> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .user_agent(concat!("coinduit/", env!("CARGO_PKG_VERSION")))
            .build();
        client.map(Self).map_err(ClientError)
    }

    /// Posts `question` to `url` with `key` in the header `key_header`; the whole answer may take `time_limit`. `now`
    /// dates a Retry-After.
    ///
    /// # Errors
    /// [`ApiError`], for every status but 200 too.
    pub async fn post(
        &self,
        url: &Url,
        (key_header, key): (&'static str, &str),
        question: String,
        time_limit: Duration,
        now: DateTime<Utc>,
    ) -> Result<Answer, ApiError> {
        let host = || Host(url).to_string();
        let failed = |source: reqwest::Error| {
            if source.is_timeout() {
                ApiError::TimedOut { host: host(), limit: time_limit }
            } else {
                ApiError::Unreachable { host: host(), source: source.without_url() }
            }
        };
        let request = self
            .0
            .post(url.clone())
            .timeout(time_limit)
            .header(header::CONTENT_TYPE, "application/json")
            .header(key_header, key);
        let mut answer = request.body(question).send().await.map_err(failed)?;
        let status = answer.status();
        let retry_after = answer
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, now));
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_BODY_BYTES {
                return Err(ApiError::TooLarge { host: host() });
            }
        }
        if status != StatusCode::OK {
            return Err(ApiError::Status { host: host(), status, says: says(status, &body), retry_after });
        }
        Ok(Answer { body: body.freeze(), host: host(), retry_after })
    }
}

/// The part of an address that may be printed: no user, no password, no query.
struct Host<'a>(&'a Url);

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.host_str().unwrap_or("the API"))?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// What the body of a refusal says: the API's words, or its first characters.
fn says(status: StatusCode, body: &[u8]) -> String {
    if status.is_redirection() {
        return "it sends us elsewhere, and redirects are not followed, as the key would go there too; \
                set API_URL to where the API is"
            .to_owned();
    }
    match page::parse(body) {
        Err(error @ (PageError::Api { .. } | PageError::Html)) => Chain(&error).to_string(),
        _ => {
            let text = String::from_utf8_lossy(body);
            let start: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            if start.is_empty() { "nothing".to_owned() } else { start }
        }
    }
}

/// Retry-After is a number of seconds or a date.
///
/// Source: RFC 9110, section 10.2.3.
fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let wish = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are for ever, too.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let at = DateTime::parse_from_rfc2822(value).ok()?;
        (at.with_timezone(&Utc) - now).to_std().unwrap_or_default()
    };
    Some(wish.min(LONGEST_WISH))
}

/// What the API asks for, in words.
fn wish(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |wish| format!("; it asks to be left alone for {wish:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, body: &str) -> ApiError {
        ApiError::Status {
            host: "h".to_owned(),
            status: StatusCode::from_u16(code).unwrap(),
            says: says(StatusCode::from_u16(code).unwrap(), body.as_bytes()),
            retry_after: None,
        }
    }

    fn body(body: &str) -> ApiError {
        let source = page::parse(body.as_bytes()).unwrap_err();
        ApiError::Body { host: "h".to_owned(), source, retry_after: None }
    }

    #[test]
    fn a_refused_key_is_told_from_bad_weather() {
        for refusal in [
            status(401, ""),
            status(403, ""),
            body(r#"{"error":{"code":401,"status":"Unauthorized","description":"d"}}"#),
        ] {
            assert!(refusal.is_refusal() && !refusal.is_retryable(), "{refusal}");
        }
        for weather in [
            status(500, ""),
            status(503, ""),
            status(429, ""),
            body("[]"),
            body("<html>"),
            body("[{"),
            body(r#"{"error":{"code":503}}"#),
            body(r#"{"error":{"code":429}}"#),
        ] {
            assert!(!weather.is_refusal() && weather.is_retryable(), "{weather}");
        }
        for fault in [status(400, ""), status(404, ""), status(302, ""), body(r#"{"error":{"code":400}}"#)] {
            assert!(!fault.is_refusal() && !fault.is_retryable(), "{fault}");
        }
    }

    #[test]
    fn a_refusal_is_quoted_in_the_apis_words() {
        let error =
            status(401, r#"{"error":{"code":401,"status":"Unauthorized","description":"API key is wrong"}}"#);
        assert_eq!(
            error.to_string(),
            "h answers HTTP 401 Unauthorized: the API answers error 401 Unauthorized: API key is wrong"
        );
        assert!(status(502, "<html>").to_string().contains("web page"));
        assert!(status(500, &"x".repeat(5000)).to_string().len() < 300);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::from_timestamp(1_795_428_300, 0).unwrap();
        assert_eq!(retry_after("30", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Mon, 23 Nov 2026 10:06:00 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Mon, 23 Nov 2020 10:06:00 GMT", now), Some(Duration::ZERO));
        for none in ["soon", "", "-5", "1.5"] {
            assert_eq!(retry_after(none, now), None, "{none}");
        }
        // Hostile wishes are long, and still can be added to a clock.
        for ever in ["18446744073709551615", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(retry_after(ever, now), Some(LONGEST_WISH), "{ever}");
        }
    }

    #[test]
    fn a_wish_is_quoted_and_a_redirect_is_explained() {
        let busy = ApiError::Status {
            host: "h".to_owned(),
            status: StatusCode::TOO_MANY_REQUESTS,
            says: "slow".to_owned(),
            retry_after: Some(Duration::from_secs(30)),
        };
        assert!(busy.to_string().ends_with("slow; it asks to be left alone for 30s"), "{busy}");
        assert!(status(307, "").to_string().contains("redirects are not followed"));
    }

    #[test]
    fn an_address_is_printed_without_its_secrets() {
        let url = Url::parse("https://user:pass@api.example:8443/v1?key=k").unwrap();
        assert_eq!(Host(&url).to_string(), "api.example:8443");
    }
}
