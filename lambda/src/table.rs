//! Writes rows into the two tables.
//!
//! ```text
//! prices  25 rows a request (BatchWriteItem), the same row again is the same row
//! coins   one request a coin, put only where the stored updatedAt is older
//! ```
//!
//! DynamoDB has two ways to say "slower": an error, and a success that lists `UnprocessedItems`. One loop
//! answers both, until the invocation's time is over, so the SDK's own retries are off. What an error means
//! and what to send again is decided by the pure functions at the end of this file.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    config::{Builder, retry::RetryConfig},
    error::{ProvideErrorMetadata, SdkError},
    types::{AttributeValue, PutRequest, WriteRequest},
};
use coinduit_common::{
    report::Chain,
    retry::{Attempt, RetryPolicy, retry},
};
use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

use crate::{attribute::Item, batch::Coin};

/// How many rows BatchWriteItem takes.
const BATCH: usize = 25;
/// How many batches of `prices` are under way at once.
const BATCHES_AT_ONCE: usize = 4;
/// How many coins are under way at once.
const COINS_AT_ONCE: usize = 16;
/// After so many refused rows, and none that was taken, it is the table and not the rows.
const HOPELESS: usize = 25;
/// A throttled table is left alone for a moment, then asked again until the invocation's time is over.
const POLICY: RetryPolicy = RetryPolicy { first: Duration::from_millis(100), most: Duration::from_secs(5) };
/// The condition of every put into `coins`. Both sides are instants in UTC with milliseconds, as text.
const ONLY_NEWER: &str = "attribute_not_exists(updatedAt) OR updatedAt < :at";

/// The two tables.
#[derive(Debug, Clone)]
pub struct Tables {
    client: Client,
    prices: String,
    coins: String,
    /// Requests that were made again.
    again: Arc<AtomicU64>,
}

/// How long to try.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// When everything has to be over.
    pub deadline: Instant,
    /// How long one request is repeated, so that a throttled table does not take the time of everything else.
    pub patience: Duration,
}

impl Limits {
    /// When a request that begins now is not repeated any more.
    fn last_retry(&self) -> Instant {
        Instant::now().checked_add(self.patience).map_or(self.deadline, |end| end.min(self.deadline))
    }
}

/// What became of rows.
#[derive(Debug, Default)]
pub struct Written {
    /// Rows that are in the table now.
    pub rows: usize,
    /// Coins that the table has as new, or newer.
    pub stale: usize,
    /// Rows that are not in the table, and why: the first few.
    pub failed: Vec<TableError>,
}

/// How many failures are kept of an object.
const MOST_FAILED: usize = 1_000;

/// A row that is not in its table.
#[derive(Debug, thiserror::Error)]
#[error("put {code} into table {table}")]
pub struct TableError {
    /// The table's name.
    pub table: String,
    /// The row's `code`; the first one's where several failed together.
    pub code: String,
    /// Why.
    #[source]
    pub cause: PutError,
}

/// Why a put failed.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// DynamoDB's answer, or the lack of one.
    #[error("{}", Chain(&**.answer))]
    Failed {
        /// What is to blame.
        blame: Blame,
        /// The SDK's error.
        answer: Box<dyn Error + Send + Sync>,
    },
    /// DynamoDB took the request, and some rows not.
    #[error("{0} rows were left unprocessed, the table is throttled; raise its capacity")]
    Unprocessed(usize),
    /// The invocation has no time left to wait for an answer.
    #[error("no answer before the invocation's time was over; raise the function's timeout")]
    OutOfTime,
}

/// What an error says about the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Throttling, a fault of the service, the network: the same request may work in a moment.
    Weather,
    /// The content of this request: others may work.
    Rows,
    /// The table or the permission: no request will work until a person has changed something.
    Table,
}

impl Written {
    /// Adds what became of the rows behind.
    pub fn add(&mut self, behind: Self) {
        let Self { rows, stale, failed } = behind;
        self.rows += rows;
        self.stale += stale;
        let room = MOST_FAILED.saturating_sub(self.failed.len());
        self.failed.extend(failed.into_iter().take(room));
    }

    /// Whether the table takes no rows at present, whatever is in them.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.is_hopeless() || self.failed.last().is_some_and(|error| error.blame() != Blame::Rows)
    }

    /// Adds a row that was not stored; returns whether the rest need not be tried: it was not the row's fault, or
    /// every one has failed so far.
    fn is_hopeless_after(&mut self, error: TableError) -> bool {
        let others_may_work = error.blame() == Blame::Rows;
        self.failed.push(error);
        !others_may_work || self.is_hopeless()
    }

    fn is_hopeless(&self) -> bool {
        self.rows + self.stale == 0 && self.failed.len() >= HOPELESS
    }
}

impl Tables {
    /// The tables named `prices` and `coins`, where `config` says. Opens no connection.
    #[must_use]
    pub fn new(config: Builder, prices: String, coins: String) -> Self {
        let client = Client::from_conf(config.retry_config(RetryConfig::disabled()).build());
        Self { client, prices, coins, again: Arc::default() }
    }

    /// How many requests were made again so far, because a table was throttled or did not answer.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    fn count(&self, attempt: u32) {
        if attempt > 1 {
            self.again.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts `rows`, no two of which have the same key, into the table of prices.
    ///
    /// A batch that DynamoDB refuses for what is in it is tried row by row, so that one row keeps no other
    /// from being stored.
    ///
    /// # Cancel safety
    /// Dropping the future leaves any of the rows stored. Putting them again is harmless.
    pub async fn put_prices(&self, rows: Vec<Item>, limits: Limits) -> Written {
        let mut written = Written::default();
        let mut alone = Vec::new();
        let batches: Vec<_> = rows.chunks(BATCH).collect();
        let mut answers = stream::iter(batches)
            .map(async |batch| (batch, self.put_batch(batch, limits).await))
            .buffer_unordered(BATCHES_AT_ONCE);
        while let Some((batch, answer)) = answers.next().await {
            match answer {
                Ok(()) => written.rows += batch.len(),
                Err(error) if error.blame() == Blame::Rows => alone.extend(batch.chunks(1)),
                Err(error) => {
                    written.failed.push(error);
                    return written;
                }
            }
        }
        drop(answers);

        let mut answers = stream::iter(alone)
            .map(async |row| self.put_batch(row, limits).await)
            .buffer_unordered(BATCHES_AT_ONCE);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(()) => written.rows += 1,
                Err(error) => {
                    if written.is_hopeless_after(error) {
                        break;
                    }
                }
            }
        }
        written
    }

    /// Puts at most [`BATCH`] rows into the table of prices.
    async fn put_batch(&self, rows: &[Item], limits: Limits) -> Result<(), TableError> {
        let failed = |left: &[WriteRequest], cause| TableError {
            table: self.prices.clone(),
            code: left
                .first()
                .and_then(WriteRequest::put_request)
                .map(|put| code(put.item()))
                .unwrap_or_default(),
            cause,
        };
        let requests = rows.iter().map(|row| {
            let put = PutRequest::builder().set_item(Some(row.clone())).build().expect("the item is set");
            WriteRequest::builder().put_request(put).build()
        });
        // What is still to be written, between two attempts.
        let left = Mutex::new(requests.collect::<Vec<_>>());
        retry(POLICY, "put prices", Some(limits.last_retry()), |attempt| {
            self.count(attempt);
            async {
                let batch = left.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let request = self.client.batch_write_item().request_items(&self.prices, batch.clone());
                match timeout_at(limits.deadline, request.send()).await {
                    Err(_) => Attempt::Final(failed(&batch, PutError::OutOfTime)),
                    Ok(Err(error)) => again_or_final(error, |cause| failed(&batch, cause)),
                    Ok(Ok(answer)) => {
                        let unprocessed = to_resend(answer.unprocessed_items, &self.prices);
                        if unprocessed.is_empty() {
                            return Attempt::Done(());
                        }
                        let error = failed(&unprocessed, PutError::Unprocessed(unprocessed.len()));
                        *left.lock().unwrap_or_else(PoisonError::into_inner) = unprocessed;
                        Attempt::Again { error, after: None }
                    }
                }
            }
        })
        .await
    }

    /// Puts each of `coins`, no two of which have the same code, where the table's is older or missing.
    ///
    /// # Cancel safety
    /// Dropping the future leaves any of the coins stored. Putting them again is harmless.
    pub async fn put_coins(&self, coins: Vec<Coin>, limits: Limits) -> Written {
        let mut written = Written::default();
        let mut answers = stream::iter(coins)
            .map(async |coin| self.put_coin(coin, limits).await)
            .buffer_unordered(COINS_AT_ONCE);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(true) => written.rows += 1,
                Ok(false) => written.stale += 1,
                Err(error) => {
                    if written.is_hopeless_after(error) {
                        break;
                    }
                }
            }
        }
        written
    }

    /// Whether `coin` was newer than what the table had.
    async fn put_coin(&self, coin: Coin, limits: Limits) -> Result<bool, TableError> {
        let Coin { updated_at, item } = coin;
        let failed = |cause| TableError { table: self.coins.clone(), code: code(&item), cause };
        retry(POLICY, "put coin", Some(limits.last_retry()), |attempt| {
            self.count(attempt);
            async {
                let request = self
                    .client
                    .put_item()
                    .table_name(&self.coins)
                    .set_item(Some(item.clone()))
                    .condition_expression(ONLY_NEWER)
                    .expression_attribute_values(":at", AttributeValue::S(updated_at.clone()));
                match timeout_at(limits.deadline, request.send()).await {
                    Err(_) => Attempt::Final(failed(PutError::OutOfTime)),
                    Ok(Ok(_)) => Attempt::Done(true),
                    Ok(Err(error)) => {
                        if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception())
                        {
                            return Attempt::Done(false);
                        }
                        again_or_final(error, failed)
                    }
                }
            }
        })
        .await
    }
}

impl TableError {
    /// What is to blame.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        self.cause.blame()
    }
}

impl PutError {
    const fn blame(&self) -> Blame {
        match self {
            Self::Failed { blame, .. } => *blame,
            Self::Unprocessed(_) | Self::OutOfTime => Blame::Weather,
        }
    }
}

fn again_or_final<T, E, R>(
    error: SdkError<E, R>,
    failed: impl FnOnce(PutError) -> TableError,
) -> Attempt<T, TableError>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    R: fmt::Debug + Send + Sync + 'static,
{
    let blame = match &error {
        SdkError::ServiceError(answer) => blame(answer.err().code()),
        // No request was made of it: a setting that no retry changes.
        SdkError::ConstructionFailure(_) => Blame::Table,
        // Not sent, not answered in time, or not understood.
        _ => Blame::Weather,
    };
    let error = failed(PutError::Failed { blame, answer: Box::new(error) });
    if blame == Blame::Weather { Attempt::Again { error, after: None } } else { Attempt::Final(error) }
}

/// What DynamoDB's error `code` is about.
///
/// Source: Amazon DynamoDB Developer Guide, "Error handling with DynamoDB".
fn blame(code: Option<&str>) -> Blame {
    match code {
        Some(
            "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "Throttling"
            | "RequestLimitExceeded"
            | "LimitExceededException"
            | "TransactionConflictException"
            | "TransactionInProgressException"
            | "ReplicatedWriteConflictException"
            | "InternalServerError"
            | "InternalFailure"
            | "ServiceUnavailable"
            | "ServiceUnavailableException",
        )
        // A proxy's answer, an overloaded front end: an error without a code says nothing about the rows.
        | None => Blame::Weather,
        Some("ValidationException" | "ItemCollectionSizeLimitExceededException") => Blame::Rows,
        // ResourceNotFoundException, AccessDeniedException, UnrecognizedClientException, ...
        Some(_) => Blame::Table,
    }
}

/// The requests for `table` that DynamoDB left unprocessed.
fn to_resend(unprocessed: Option<HashMap<String, Vec<WriteRequest>>>, table: &str) -> Vec<WriteRequest> {
    // One table was asked for, so only it can be in the answer; it may be named by its ARN.
    let mut requests = unprocessed.unwrap_or_default();
    let named = requests.remove(table);
    named.unwrap_or_else(|| requests.into_values().flatten().collect())
}

fn code(item: &Item) -> String {
    item.get("code").and_then(|code| code.as_s().ok()).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_and_faults_of_the_service_pass_and_the_rest_does_not() {
        for passing in [
            "ProvisionedThroughputExceededException",
            "ThrottlingException",
            "RequestLimitExceeded",
            "InternalServerError",
        ] {
            assert_eq!(blame(Some(passing)), Blame::Weather, "{passing}");
        }
        assert_eq!(blame(None), Blame::Weather);
        assert_eq!(blame(Some("ValidationException")), Blame::Rows);
        for lasting in [
            "ResourceNotFoundException",
            "AccessDeniedException",
            "UnrecognizedClientException",
            "ExpiredTokenException",
        ] {
            assert_eq!(blame(Some(lasting)), Blame::Table, "{lasting}");
        }
    }

    #[test]
    fn exactly_what_was_left_unprocessed_is_sent_again() {
        let request = |code: &str| {
            let item = Item::from([("code".to_owned(), AttributeValue::S(code.to_owned()))]);
            WriteRequest::builder()
                .put_request(PutRequest::builder().set_item(Some(item)).build().unwrap())
                .build()
        };
        assert_eq!(to_resend(None, "prices"), []);
        assert_eq!(to_resend(Some(HashMap::new()), "prices"), []);
        for name in ["prices", "arn:aws:dynamodb:us-east-1:123456789012:table/prices"] {
            let left = HashMap::from([(name.to_owned(), vec![request("A"), request("B")])]);
            assert_eq!(to_resend(Some(left), "prices"), [request("A"), request("B")]);
        }
    }

    #[test]
    fn a_table_that_takes_nothing_is_given_up() {
        let refused =
            || TableError { table: "coins".to_owned(), code: "A".to_owned(), cause: PutError::OutOfTime };
        let written = |rows, stale, failed| Written {
            rows,
            stale,
            failed: std::iter::repeat_with(refused).take(failed).collect(),
        };
        assert!(!written(0, 0, 24).is_hopeless());
        assert!(written(0, 0, 25).is_hopeless());
        assert!(!written(1, 0, 25).is_hopeless());
        assert!(!written(0, 1, 25).is_hopeless());
    }
}
