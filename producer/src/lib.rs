//! One run: fetch, publish, say so, exit.
//!
//! ```text
//! api (pages of 100) -> page (checked) -> records (one per coin) -> publish (one batch per partition)
//! ```
//!
//! Nothing is published before every page was fetched and checked: an error is never data.

use std::time::Duration;

use coinduit_common::{
    alert::{Alert, AlertKind, Alerts},
    clock::{self, Clock},
    retry::{Attempt, RetryPolicy, retry},
};
use tokio::time::Instant;
use tracing::{info, warn};

pub mod api;
pub mod config;
pub mod error;
pub mod page;
pub mod partitioner;
pub mod publish;
pub mod records;
pub mod summary;

use api::Api;
use config::Config;
use error::RunError;
use page::Page;
use publish::Publisher;
use records::Coins;
use summary::Summary;

/// Waits between questions to the API.
const POLICY: RetryPolicy = RetryPolicy { first: Duration::from_millis(500), most: Duration::from_secs(20) };

/// Does one run, until `shutdown` comes or the deadline ends it.
///
/// # Errors
/// [`RunError`]; what was acknowledged before it is counted in it.
pub async fn run(
    config: &Config,
    clock: &Clock,
    alerts: &Alerts,
    shutdown: impl Future<Output = &'static str>,
) -> Result<Summary, RunError> {
    let result = tokio::select! {
        result = fetch_and_publish(config, clock, alerts) => result,
        signal = shutdown => Err(RunError::Interrupted(signal)),
    };
    if let Err(error) = &result {
        // An alert is a log line too.
        match error.alert(&config.kafka.topic) {
            Some(alert) => alerts.send(alert),
            None => warn!(%error, "run ended"),
        }
    }
    result
}

async fn fetch_and_publish(config: &Config, clock: &Clock, alerts: &Alerts) -> Result<Summary, RunError> {
    let started = Instant::now();
    let deadline = started + config.run_deadline;
    // The cluster is reached while the API is asked; whichever fails first ends the run.
    let (coins, publisher) = tokio::try_join!(async { fetch(config, clock, deadline).await }, async {
        Publisher::connect(&config.kafka, config.create_topic, deadline).await.map_err(RunError::from)
    },)?;
    let (coins, fetched_at) = coins;
    let rejected = coins.rejected().len();
    if let Some(first) = coins.rejected().first() {
        warn!(
            rejected,
            position = first.position,
            problem = first.problem,
            "the API's answer holds what is no coin"
        );
        let what = format!(
            "{rejected} entries of the list are no coins; the first, at position {}: {}",
            first.position, first.problem
        );
        let alert = Alert::new(
            AlertKind::CoinRejected,
            "price API",
            what,
            "the other coins are published; look at the API's answer",
        );
        alerts.send(
            alert.count(u64::try_from(rejected).unwrap_or(u64::MAX)).detail("position", first.position),
        );
    }
    let records = coins.into_records(&config.currency, fetched_at);
    let count = records.len();
    info!(records = count, rejected, "coins fetched");
    let published = publisher.publish(records).await;
    if !published.failures.is_empty() {
        return Err(RunError::Publish(published));
    }
    Ok(Summary::Published {
        records: published.acknowledged,
        rejected,
        topic: config.kafka.topic.clone(),
        fetched_at: clock::rfc3339(fetched_at),
        elapsed_ms: clock::millis(started.elapsed()),
    })
}

/// All pages of one instant.
async fn fetch(
    config: &Config,
    clock: &Clock,
    deadline: Instant,
) -> Result<(Coins, chrono::DateTime<chrono::Utc>), RunError> {
    let api = Api::new(&config.api_url, config.api_key.clone(), config.currency.clone())?;
    let fetched_at = clock.now();
    // A question asked again shall have its whole time: one that the deadline cuts off would hide why the one
    // before it failed.
    let last_start = deadline - config.request_timeout;
    let mut coins = Coins::default();
    for offset in (0..config.coins).step_by(api::MOST_COINS) {
        let limit = api::MOST_COINS.min(config.coins - offset);
        let asked = retry(POLICY, "ask the price API", Some(last_start), async |_| {
            let time_limit = config.request_timeout.min(deadline.saturating_duration_since(Instant::now()));
            match api.page(offset, limit, time_limit, clock.now()).await {
                Ok(page) => Attempt::Done(page),
                // There are no more coins than that.
                Err(error) if offset > 0 && error.is_empty_list() => Attempt::Done(Page::default()),
                Err(error) => error.into_attempt(),
            }
        });
        let page = asked.await.map_err(RunError::Fetch)?;
        let last = page.coins.len() + page.rejected.len() < limit;
        coins.add(offset, page);
        if last {
            break;
        }
    }
    Ok((coins, fetched_at))
}
