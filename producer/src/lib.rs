//! One run: fetch, publish, say so, exit.
//!
//! ```text
//! source (pages of 100) -> page (checked) -> records (one per coin) -> publish (few batches per partition)
//!    ^ guard: are there credits?                     ^ recorded pages        ` dry_run: printed instead
//! ```
//!
//! Nothing is published before every page was fetched and checked: an error is never data. How the run's time is
//! divided stands in [`budget`], when the next run of `--interval` begins in [`schedule`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use coinduit_common::{
    alert::{Alert, AlertKind, Alerts},
    clock::{self, Clock},
    report::Chain,
    retry::{Attempt, RetryPolicy, retry},
};
use tokio::time::Instant;
use tracing::{info, warn};

pub mod budget;
pub mod config;
pub mod dry_run;
pub mod error;
pub mod last_line;
pub mod page;
pub mod partitioner;
pub mod publish;
pub mod recorded;
pub mod records;
pub mod schedule;
pub mod source;
pub mod summary;
pub mod tally;

use budget::Budget;
use config::{Config, Origin};
use error::RunError;
use page::Page;
use publish::Publisher;
use records::Coins;
use source::{Source, Wanted, livecoinwatch::LiveCoinWatch};
use summary::{Done, Summary};
use tally::Tally;

/// Waits between questions to the API.
const POLICY: RetryPolicy = RetryPolicy { first: Duration::from_millis(500), most: Duration::from_secs(20) };
/// How long the API may take to say how many credits are left: prices matter more.
const CREDITS_LIMIT: Duration = Duration::from_secs(3);

/// Does one run, until `shutdown` comes or its time is over. `tally` has what it has come to, at any moment.
///
/// # Errors
/// [`RunError`].
pub async fn run(
    config: &Config,
    clock: &Clock,
    budget: &Budget,
    tally: &Tally,
    alerts: &Alerts,
    shutdown: impl Future<Output = &'static str>,
) -> Result<Summary, RunError> {
    let result = tokio::select! {
        result = fetch_and_publish(config, clock, budget, tally, alerts) => result,
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

/// The coins of one run.
#[derive(Debug)]
struct Fetched {
    coins: Coins,
    at: DateTime<Utc>,
    done: Done,
}

async fn fetch_and_publish(
    config: &Config,
    clock: &Clock,
    budget: &Budget,
    tally: &Tally,
    alerts: &Alerts,
) -> Result<Summary, RunError> {
    let started = Instant::now();
    let source = LiveCoinWatch::new(&config.api_url, config.api_key.clone(), config.currency.clone())?;
    let coins = async {
        match &config.origin {
            Origin::Api => fetch(&source, config, clock, budget, tally).await,
            Origin::Files { paths, fetched_at } => {
                let (coins, at) = recorded::read(paths, *fetched_at)?;
                Ok(Fetched { coins, at, done: Done::default() })
            }
        }
    };
    // The cluster is reached while the API is asked; whichever fails first ends the run.
    let topic = async {
        if config.dry_run {
            return Ok(None);
        }
        Publisher::connect(&config.kafka, config.create_topic, budget.published)
            .await
            .map(Some)
            .map_err(RunError::from)
    };
    let (Fetched { coins, at, mut done }, publisher) = tokio::try_join!(coins, topic)?;
    report(&coins, &done, alerts);
    (done.rejected, done.repeated) = (coins.rejected().len(), coins.repeated());
    let records = coins.into_records(source.name(), &config.currency, at);
    done.records = records.len();
    info!(records = done.records, rejected = done.rejected, "coins fetched");
    done.topic.clone_from(&config.kafka.topic);
    done.fetched_at = clock::rfc3339(at);
    match publisher {
        Some(publisher) => publisher.publish(records, tally).await.map_err(RunError::Publish)?,
        None => dry_run::print(&records),
    }
    done.credits_remaining = tally.credits_remaining();
    done.elapsed_ms = clock::millis(started.elapsed());
    Ok(if config.dry_run { Summary::DryRun(done) } else { Summary::Published(done) })
}

/// All pages of one instant, if there are credits for them.
async fn fetch(
    source: &impl Source,
    config: &Config,
    clock: &Clock,
    budget: &Budget,
    tally: &Tally,
) -> Result<Fetched, RunError> {
    guard(source, config, clock, budget, tally).await?;
    let at = clock.now();
    let mut coins = Coins::default();
    let mut offset = 0;
    let watched = matches!(config.wanted, Wanted::Codes(_));
    for question in config.wanted.questions(source.most_coins()) {
        let last_start = budget.last_question(Instant::now(), config.request_timeout);
        let asked = retry(POLICY, "ask the price API", Some(last_start), async |_| {
            let time_limit = budget.for_a_question(Instant::now(), config.request_timeout);
            tally.spent();
            match source.page(&question, time_limit, clock.now()).await {
                Ok(page) => Attempt::Done(page),
                // There are no more coins than that, or none of these.
                Err(error) if (offset > 0 || watched) && error.is_empty_list() => {
                    Attempt::Done(Page::default())
                }
                Err(error) => error.into_attempt(),
            }
        });
        let page = asked.await?;
        let entries = page.coins.len() + page.rejected.len();
        coins.add(offset, page);
        offset += question.count();
        info!(coins = coins.len(), wanted = config.wanted.count(), "page fetched");
        if entries < question.count() && !watched {
            break;
        }
    }
    let mut done = Done::default();
    match &config.wanted {
        Wanted::Top(count) if offset_of(&coins) < *count => done.requested = Some(*count),
        Wanted::Top(_) => {}
        Wanted::Codes(codes) => {
            let others = coins.keep_only(codes);
            if others > 0 {
                warn!(others, "the API's answer has coins that nobody asked for; they are left out");
            }
            if coins.is_empty() {
                let first = codes.iter().take(10).cloned().collect();
                return Err(RunError::NoneOfTheCodes { asked: codes.len(), codes: first });
            }
            done.missing = coins.missing(codes);
        }
    }
    Ok(Fetched { coins, at, done })
}

/// How many entries the pages had.
fn offset_of(coins: &Coins) -> usize {
    coins.len() + coins.rejected().len() + coins.repeated()
}

/// Asks whether there are credits for a run. An API that does not say is asked for prices all the same: they matter
/// more, and each of its errors has an exit code of its own.
async fn guard(
    source: &impl Source,
    config: &Config,
    clock: &Clock,
    budget: &Budget,
    tally: &Tally,
) -> Result<(), RunError> {
    if config.min_credits == 0 {
        return Ok(());
    }
    let limit = budget.for_a_question(Instant::now(), config.request_timeout.min(CREDITS_LIMIT)) / 2;
    match source.credits(limit, clock.now()).await {
        Ok(Some(remaining)) => {
            tally.credits(remaining);
            if remaining < config.min_credits {
                return Err(RunError::OutOfCredits { remaining, least: config.min_credits });
            }
        }
        Ok(None) => {}
        Err(error) => {
            warn!(error = %Chain(&error), "the API does not say how many credits are left; it is asked for prices");
        }
    }
    Ok(())
}

/// Says what is unusual about the API's answer, though the run goes on.
fn report(coins: &Coins, done: &Done, alerts: &Alerts) {
    let count = |number| u64::try_from(number).unwrap_or(u64::MAX);
    let rejected = coins.rejected();
    if let Some(first) = rejected.first() {
        let what = format!(
            "{} entries of the list are no coins; the first, at position {}: {}",
            rejected.len(),
            first.position,
            first.problem
        );
        let advice = "the other coins are published; look at the API's answer";
        let alert = Alert::new(AlertKind::CoinRejected, "price API", what, advice);
        alerts.send(alert.count(count(rejected.len())).detail("position", first.position));
    }
    if !done.missing.is_empty() {
        let shown: Vec<&str> = done.missing.iter().take(20).map(String::as_str).collect();
        let what =
            format!("the API's answer lacks {} codes of CODES: {}", done.missing.len(), shown.join(", "));
        let advice = "the other coins are published; check how the API writes these codes";
        let alert = Alert::new(AlertKind::CoinRejected, "CODES", what, advice);
        alerts.send(alert.count(count(done.missing.len())));
    }
    if coins.repeated() > 0 {
        warn!(
            repeated = coins.repeated(),
            "coins came more than once, as ranks shift between pages; the first was taken"
        );
    }
    if let Some(wanted) = done.requested {
        warn!(coins = coins.len(), wanted, "the API has fewer coins than were asked for");
    }
}
