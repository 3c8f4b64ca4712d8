//! LiveCoinWatch's API, played from recorded answers whose prices move.
//!
//! ```text
//! POST /status             {} (no key needed)
//! POST /credits            {"dailyCreditsRemaining":9999,"dailyCreditsLimit":10000}
//! POST /coins/list         a page of coins; one credit
//! POST /coins/map          the coins of a list of codes; one credit
//! GET  /_local/pages       every page that was answered, to compare a pipeline's output with
//! ```
//!
//! With faults (`--api-fault`) it does wrong what an API can do wrong: [`fault`].
//!
//! Everything else is answered as the API does: 405 for another method, 401 without a key, 429 without credits,
//! each with `{"error":{"code":…,"status":…,"description":…}}`. Any key that is not empty is right. Figures are
//! the recorded ones in US dollars, whatever currency is asked for.
//!
//! Source: LiveCoinWatch's API documents and recorded answers (`data/README.md`).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::{DateTime, NaiveDate, Utc};
use serde_json::json;

use crate::server::Server;
use coinduit_common::clock::{self, Clock};

pub mod fault;
mod front;
mod movement;
mod recording;

use fault::ApiFault;
use front::Plan;
use recording::{Movement, Query, Recording};

/// Credits a day, renewed at midnight UTC.
pub const DAILY_CREDITS: u32 = 10_000;
/// Coins in a page, when the caller does not say and at most.
const DEFAULT_LIMIT: usize = 10;
const MAX_LIMIT: usize = 100;
/// How much of the answers is kept for [`PriceApi::served`]: the newest, up to this many bytes.
const KEPT_BYTES: usize = 16 << 20;

/// What the prices do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prices {
    /// Every page is as recorded, byte for byte.
    Fixed,
    /// Every answer is one tick later. The same seed gives the same history.
    Moving {
        /// Which history.
        seed: u64,
    },
}

/// One answer with coins.
#[derive(Debug, Clone)]
pub struct ServedPage {
    /// The first answer is 1.
    pub number: u64,
    /// When it was answered.
    pub at: DateTime<Utc>,
    /// The body, byte for byte.
    pub body: Bytes,
}

/// The running service.
#[derive(Debug)]
pub struct PriceApi {
    server: Server,
    /// In front of it, where it is to do things wrong.
    door: Option<Server>,
    api: Arc<Api>,
}

impl PriceApi {
    /// Starts on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub fn start(address: SocketAddr, prices: Prices) -> io::Result<Self> {
        Self::start_without(address, prices, None, Vec::new())
    }

    /// The same with `faults`, which are played one after the other.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub fn start_faulty(address: SocketAddr, prices: Prices, faults: Vec<ApiFault>) -> io::Result<Self> {
        Self::start_without(address, prices, None, faults)
    }

    /// The same, as if there were no coins of the ranks `without`: a short list can then hold coins that are far
    /// apart in the long one. With `faults`.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub fn start_without(
        address: SocketAddr,
        prices: Prices,
        without: Option<&RangeInclusive<u64>>,
        faults: Vec<ApiFault>,
    ) -> io::Result<Self> {
        let recording = Recording::load().map_err(io::Error::other)?;
        let api = Arc::new(Api {
            recording: match without {
                Some(ranks) => recording.without(ranks),
                None => recording,
            },
            prices,
            state: Mutex::new(Answers::new()),
        });
        let router = Router::new()
            .route("/status", post(status).fallback(wrong_method))
            .route("/credits", post(credits).fallback(wrong_method))
            .route("/coins/list", post(coins_list).fallback(wrong_method))
            .route("/coins/map", post(coins_map).fallback(wrong_method))
            .route("/_local/pages", get(pages))
            .fallback(unknown_path)
            .with_state(Arc::clone(&api));
        let (router_address, door) =
            if faults.is_empty() { (address, None) } else { (any_port(address), Some(Plan::new(faults))) };
        let server = Server::start_router("price api", router_address, router)?;
        let door = match door {
            Some(plan) => {
                let (behind, api, plan) = (server.address(), Arc::clone(&api), Arc::new(plan));
                let serve = move |listener, stop| front::serve(listener, stop, plan, api, behind);
                Some(Server::start("price api's door", address, serve)?)
            }
            None => None,
        };
        Ok(Self { server, door, api })
    }

    /// The base URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.door.as_ref().unwrap_or(&self.server).url()
    }

    /// The newest answers with coins, oldest first; at most 16 MiB of them.
    pub fn served(&self) -> Vec<ServedPage> {
        self.api.answers().pages.iter().cloned().collect()
    }

    /// Sets how many of today's credits are left, to see what a client does when they run out.
    pub fn set_credits(&self, remaining: u32) {
        self.api.answers().credits.remaining = remaining;
    }

    /// Stops the service.
    pub async fn stop(self) {
        if let Some(door) = self.door {
            door.stop().await;
        }
        self.server.stop().await;
    }
}

/// A free port of the same interface.
fn any_port(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), 0)
}

#[derive(Debug)]
struct Api {
    recording: Recording,
    prices: Prices,
    state: Mutex<Answers>,
}

impl Api {
    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers with a page of coins, or says what is wrong with the request.
    fn coins(&self, body: &[u8], now: DateTime<Utc>) -> Result<Bytes, ApiError> {
        let query: Query = serde_json::from_slice(body).map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, format!("The body is not right: {error}"))
        })?;
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            let message = format!("limit is {limit}; it must be 1 to {MAX_LIMIT}, page with offset");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
        }
        let mut answers = self.answers();
        if !answers.credits.take(now.date_naive()) {
            let message = format!("All {DAILY_CREDITS} credits of this day are used");
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, message));
        }
        let movement = match self.prices {
            Prices::Fixed => Movement::Fixed,
            Prices::Moving { seed } => Movement::At { seed, tick: answers.count + 1 },
        };
        let page = Bytes::from(self.recording.page(&query, limit, movement));
        answers.keep(page.clone(), now);
        Ok(page)
    }
}

/// What the service remembers.
#[derive(Debug)]
struct Answers {
    count: u64,
    credits: Credits,
    pages: VecDeque<ServedPage>,
    bytes: usize,
}

impl Answers {
    fn new() -> Self {
        let credits = Credits { day: NaiveDate::MIN, remaining: DAILY_CREDITS };
        Self { count: 0, credits, pages: VecDeque::new(), bytes: 0 }
    }

    fn keep(&mut self, body: Bytes, at: DateTime<Utc>) {
        self.count += 1;
        self.bytes += body.len();
        self.pages.push_back(ServedPage { number: self.count, at, body });
        while self.bytes > KEPT_BYTES {
            match self.pages.pop_front() {
                Some(oldest) => self.bytes -= oldest.body.len(),
                None => break,
            }
        }
    }
}

/// The day's credits.
#[derive(Debug)]
struct Credits {
    day: NaiveDate,
    remaining: u32,
}

impl Credits {
    /// What is left on the day `today`.
    fn remaining(&mut self, today: NaiveDate) -> u32 {
        if self.day != today {
            // The first day keeps what a test has set before the first request.
            if self.day != NaiveDate::MIN {
                self.remaining = DAILY_CREDITS;
            }
            self.day = today;
        }
        self.remaining
    }

    /// Uses one credit; false when there is none.
    fn take(&mut self, today: NaiveDate) -> bool {
        let left = self.remaining(today).checked_sub(1);
        self.remaining = left.unwrap_or(0);
        left.is_some()
    }
}

/// An answer that is an error, in the API's own form.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    description: String,
}

impl ApiError {
    fn new(status: StatusCode, description: impl Into<String>) -> Self {
        Self { status, description: description.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = json!({
            "code": self.status.as_u16(),
            "status": self.status.canonical_reason().unwrap_or("Error"),
            "description": self.description,
        });
        (self.status, json_body(json!({ "error": error }).to_string())).into_response()
    }
}

fn json_body(body: impl Into<Bytes>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

fn check_key(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get("x-api-key") {
        Some(key) if !key.is_empty() => Ok(()),
        _ => Err(ApiError::new(StatusCode::UNAUTHORIZED, "You need a valid API key in the header x-api-key")),
    }
}

async fn status() -> Response {
    json_body("{}")
}

async fn credits(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, ApiError> {
    check_key(&headers)?;
    let remaining = api.answers().credits.remaining(Clock::System.now().date_naive());
    let body = json!({ "dailyCreditsRemaining": remaining, "dailyCreditsLimit": DAILY_CREDITS });
    Ok(json_body(body.to_string()))
}

async fn coins_list(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    check_key(&headers)?;
    api.coins(&body, Clock::System.now()).map(json_body)
}

/// The same as a list, for a body that has `codes`.
async fn coins_map(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    check_key(&headers)?;
    let has_codes = serde_json::from_slice::<Query>(&body).is_ok_and(|query| query.codes.is_some());
    if !has_codes {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "The body needs codes, an array of strings"));
    }
    api.coins(&body, Clock::System.now()).map(json_body)
}

async fn pages(State(api): State<Arc<Api>>) -> Response {
    let mut body = String::from("[");
    for page in &api.answers().pages {
        if body.len() > 1 {
            body.push(',');
        }
        let coins = String::from_utf8_lossy(&page.body);
        let at = clock::rfc3339(page.at);
        body.push_str(&format!(r#"{{"number":{},"at":"{at}","coins":{coins}}}"#, page.number));
    }
    body.push(']');
    json_body(body)
}

async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "This end-point answers POST alone")
}

async fn unknown_path() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "There is no such end-point")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(prices: Prices) -> Api {
        Api { recording: Recording::load().unwrap(), prices, state: Mutex::new(Answers::new()) }
    }

    fn noon(day: u32) -> DateTime<Utc> {
        format!("2026-11-{day:02}T12:00:00Z").parse().unwrap()
    }

    #[test]
    fn every_answer_has_other_prices_and_is_remembered() {
        let api = api(Prices::Moving { seed: 1 });
        let first = api.coins(b"{}", noon(1)).unwrap();
        let second = api.coins(b"{}", noon(1)).unwrap();
        assert_ne!(first, second);
        let kept: Vec<_> = api.answers().pages.iter().map(|page| (page.number, page.body.clone())).collect();
        assert_eq!(kept, [(1, first), (2, second)]);
    }

    #[test]
    fn fixed_prices_stay() {
        let api = api(Prices::Fixed);
        assert_eq!(api.coins(b"{}", noon(1)).unwrap(), api.coins(b"{}", noon(1)).unwrap());
    }

    #[test]
    fn a_page_is_at_most_a_hundred_coins() {
        let error = api(Prices::Fixed).coins(br#"{"limit":101}"#, noon(1)).unwrap_err();
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_body_that_is_not_json_is_refused_and_costs_nothing() {
        let api = api(Prices::Fixed);
        assert_eq!(api.coins(b"limit=10", noon(1)).unwrap_err().status, StatusCode::BAD_REQUEST);
        assert_eq!(api.answers().credits.remaining(noon(1).date_naive()), DAILY_CREDITS);
    }

    #[test]
    fn credits_run_out_and_come_back_at_midnight() {
        let api = api(Prices::Fixed);
        api.answers().credits.remaining = 1;
        assert!(api.coins(b"{}", noon(1)).is_ok());
        assert_eq!(api.coins(b"{}", noon(1)).unwrap_err().status, StatusCode::TOO_MANY_REQUESTS);
        assert!(api.coins(b"{}", noon(2)).is_ok());
        assert_eq!(api.answers().credits.remaining(noon(2).date_naive()), DAILY_CREDITS - 1);
    }

    #[test]
    fn old_answers_give_way_to_new_ones() {
        let mut answers = Answers::new();
        let page = Bytes::from(vec![b' '; KEPT_BYTES / 2]);
        for _ in 0..3 {
            answers.keep(page.clone(), noon(1));
        }
        assert_eq!(answers.pages.iter().map(|page| page.number).collect::<Vec<_>>(), [2, 3]);
    }
}
