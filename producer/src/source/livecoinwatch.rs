//! LiveCoinWatch.
//!
//! Source: LiveCoinWatch API documentation: `POST /coins/list` (at most 100 coins an answer) and `POST /credits`;
//! `POST /coins/map` takes the same members and `codes`. Errors stand in the HTTP status, in the body, or in both.

use std::time::Duration;

use chrono::{DateTime, Utc};
use coinduit_common::config::Secret;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{
    ApiError, ClientError, Question, Source,
    http::{Answer, Http},
};
use crate::page::{self, Page, PageError};

/// Its name in records.
pub const NAME: &str = "livecoinwatch";
/// The most coins that one answer holds.
const MOST_COINS: usize = 100;
const KEY_HEADER: &str = "x-api-key";

/// LiveCoinWatch, and as whom to ask it.
#[derive(Debug, Clone)]
pub struct LiveCoinWatch {
    http: Http,
    url: Url,
    key: Secret,
    currency: String,
}

impl LiveCoinWatch {
    /// For the API at `url`. Opens no connection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(url: &Url, key: Secret, currency: String) -> Result<Self, ClientError> {
        Ok(Self { http: Http::new()?, url: url.clone(), key, currency })
    }

    async fn post(
        &self,
        path: &str,
        question: String,
        time_limit: Duration,
        now: DateTime<Utc>,
    ) -> Result<Answer, ApiError> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        self.http.post(&url, (KEY_HEADER, self.key.reveal()), question, time_limit, now).await
    }
}

impl Source for LiveCoinWatch {
    fn name(&self) -> &'static str {
        NAME
    }

    fn most_coins(&self) -> usize {
        MOST_COINS
    }

    async fn credits(&self, time_limit: Duration, now: DateTime<Utc>) -> Result<Option<u64>, ApiError> {
        let answer = self.post("credits", "{}".to_owned(), time_limit, now).await?;
        credits(&answer.body).map(Some).map_err(|problem| answer.refused(problem))
    }

    async fn page(
        &self,
        question: &Question,
        time_limit: Duration,
        now: DateTime<Utc>,
    ) -> Result<Page, ApiError> {
        let (path, body) = match question {
            Question::Ranks { offset, limit } => (
                "coins/list",
                json!({ "currency": self.currency, "sort": "rank", "order": "ascending", "offset": offset, "limit": limit, "meta": true }),
            ),
            Question::Codes(codes) => (
                "coins/map",
                json!({ "codes": codes, "currency": self.currency, "sort": "rank", "order": "ascending", "offset": 0, "limit": codes.len(), "meta": true }),
            ),
        };
        let answer = self.post(path, body.to_string(), time_limit, now).await?;
        page::parse(&answer.body).map_err(|problem| answer.refused(problem))
    }
}

#[derive(Deserialize)]
struct Credits {
    #[serde(rename = "dailyCreditsRemaining")]
    remaining: f64,
}

/// How many credits are left, of an answer to `/credits`.
fn credits(body: &[u8]) -> Result<u64, PageError> {
    match serde_json::from_slice::<Credits>(body) {
        // A float becomes the nearest whole number that there is; less than nothing is nothing.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast of a float saturates"
        )]
        Ok(Credits { remaining }) => Ok(remaining as u64),
        Err(error) => Err(match page::parse(body) {
            Err(known @ (PageError::Api { .. } | PageError::Html)) => known,
            _ => PageError::NotJson(format!("no dailyCreditsRemaining: {error}")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_read_and_an_error_is_no_number_of_them() {
        assert_eq!(credits(br#"{"dailyCreditsRemaining":4321,"dailyCreditsLimit":10000}"#), Ok(4_321));
        assert_eq!(credits(br#"{"dailyCreditsRemaining":-3}"#), Ok(0));
        assert_eq!(credits(br#"{"dailyCreditsRemaining":7.9}"#), Ok(7));
        let refused = credits(br#"{"error":{"code":401,"status":"s","description":"d"}}"#);
        assert!(matches!(refused, Err(PageError::Api { code: 401, .. })), "{refused:?}");
        assert_eq!(credits(b"<html>"), Err(PageError::Html));
        for other in
            ["{}", "[]", "", r#"{"dailyCreditsRemaining":"many"}"#, r#"{"dailyCreditsRemaining":null}"#]
        {
            assert!(matches!(credits(other.as_bytes()), Err(PageError::NotJson(_))), "{other}");
        }
    }
}
