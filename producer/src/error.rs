//! Why a run failed: what the summary says, what people are told, and the exit code.

use coinduit_common::{
    alert::{Alert, AlertKind},
    exit::Exit,
    report::Chain,
};

use crate::{
    publish::{Failure, PublishError},
    recorded::RecordedError,
    source::{ApiError, ClientError},
    summary::{Stage, Summary},
    tally::Tally,
};

/// The run was not done.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No HTTP client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The API gave no coins.
    #[error(transparent)]
    Fetch(#[from] ApiError),
    /// The API answered, and has none of the coins that were asked for.
    #[error("the API's answer holds none of the {asked} codes of CODES: {}", .codes.join(", "))]
    NoneOfTheCodes {
        /// How many there are.
        asked: usize,
        /// The first of them.
        codes: Vec<String>,
    },
    /// A recording can't be published.
    #[error(transparent)]
    Recorded(#[from] RecordedError),
    /// Too few questions may still be asked: nothing was asked, on purpose.
    #[error("the API grants {remaining} more credits today, fewer than MIN_CREDITS ({least})")]
    OutOfCredits {
        /// How many may.
        remaining: u64,
        /// How many it takes.
        least: u64,
    },
    /// The topic can't be written to.
    #[error(transparent)]
    Connect(#[from] PublishError),
    /// Not every record was acknowledged.
    #[error("{}", .0.iter().map(|failure| failure.problem.as_str()).collect::<Vec<_>>().join("; "))]
    Publish(Vec<Failure>),
    /// A signal came first.
    #[error("{0} ended the run")]
    Interrupted(&'static str),
}

impl RunError {
    /// Whether running again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Client(_) | Self::Recorded(_) => false,
            Self::Fetch(error) => error.is_retryable(),
            Self::Connect(error) => error.is_retryable(),
            Self::Publish(failures) => failures.iter().any(|failure| failure.retryable),
            Self::NoneOfTheCodes { .. } | Self::OutOfCredits { .. } | Self::Interrupted(_) => true,
        }
    }

    /// The exit code: 2 where a person has to change a setting, 99 where nothing was to be done, 1 for everything else.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let misconfigured = match self {
            // Any other no of the API may be a yes to the next run.
            Self::Fetch(error) => error.is_refusal(),
            Self::Client(_) | Self::Recorded(_) | Self::Connect(_) | Self::Publish(_) => !self.is_retryable(),
            Self::OutOfCredits { .. } => return Exit::Skipped,
            Self::NoneOfTheCodes { .. } | Self::Interrupted(_) => false,
        };
        if misconfigured { Exit::Misconfigured } else { Exit::Failed }
    }

    /// The last line of a run that had come as far as `tally` says.
    #[must_use]
    pub fn summary(&self, tally: &Tally) -> Summary {
        let stage = match self {
            Self::Client(_) | Self::Fetch(_) | Self::NoneOfTheCodes { .. } | Self::Recorded(_) => {
                Stage::Fetch
            }
            Self::OutOfCredits { remaining, .. } => {
                return Summary::Skipped { reason: self.to_string(), credits_remaining: Some(*remaining) };
            }
            Self::Connect(_) => Stage::Connect,
            Self::Publish(_) => Stage::Publish,
            Self::Interrupted(_) => Stage::Interrupted,
        };
        Summary::failed_after(tally, stage, Chain(self).to_string(), self.is_retryable())
    }

    /// What people are told about a run for `topic`; nothing where somebody ended it on purpose.
    #[must_use]
    pub fn alert(&self, topic: &str) -> Option<Alert> {
        let (kind, place, advice) = match self {
            Self::Fetch(error) if error.is_refusal() => (
                AlertKind::ApiFailed,
                "price API",
                "check API_KEY; nothing was published, and no later run will be",
            ),
            Self::Client(_) | Self::Fetch(_) => {
                (AlertKind::ApiFailed, "price API", "nothing was published; the next run asks again")
            }
            Self::NoneOfTheCodes { .. } => (
                AlertKind::ApiFailed,
                "price API",
                "check CODES; nothing was published, and the next run asks again",
            ),
            Self::Recorded(_) => {
                (AlertKind::ApiFailed, "--from-file", "nothing was published; check the file")
            }
            Self::OutOfCredits { .. } => (
                AlertKind::CreditsLow,
                "price API",
                "nothing was asked or published; credits come back at midnight UTC: run less often, ask for fewer                  coins, or lower MIN_CREDITS",
            ),
            Self::Connect(PublishError::TopicMissing { .. }) => {
                (AlertKind::TopicChanged, topic, "create the topic, or run with --create-topic")
            }
            Self::Connect(_) => (
                AlertKind::KafkaFailed,
                topic,
                "check KAFKA_BOOTSTRAP_SERVERS, and that the brokers run and can be reached; the next run tries again",
            ),
            Self::Publish(_) => (
                AlertKind::KafkaFailed,
                topic,
                "part of the coins may be missing for this run; the next run publishes all again",
            ),
            Self::Interrupted(_) => return None,
        };
        let alert = Alert::new(kind, place, Chain(self).to_string(), advice);
        Some(alert.detail("retryable", self.is_retryable()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::Failure;

    #[test]
    fn exit_codes_are_honest() {
        let missing = RunError::Connect(PublishError::TopicMissing {
            bootstrap: "b".to_owned(),
            topic: "t".to_owned(),
        });
        assert_eq!((missing.exit(), missing.is_retryable()), (Exit::Misconfigured, false));
        assert_eq!(RunError::Interrupted("SIGTERM").exit(), Exit::Failed);
        assert!(RunError::Interrupted("SIGTERM").alert("t").is_none());
    }

    #[test]
    fn what_was_acknowledged_all_the_same_is_counted() {
        let failure = Failure { problem: "t/1 did not acknowledge".to_owned(), retryable: true };
        let tally = Tally::default();
        tally.sent(50);
        tally.acknowledged(30);
        assert_eq!(
            RunError::Publish(vec![failure]).summary(&tally).line(),
            r#"{"status":"failed","stage":"publish","error":"t/1 did not acknowledge","retryable":true,"records":30,"possible_duplicates":20}"#
        );
    }

    #[test]
    fn too_few_credits_are_a_run_that_chose_to_do_nothing() {
        let skipped = RunError::OutOfCredits { remaining: 7, least: 100 };
        assert_eq!(skipped.exit(), Exit::Skipped);
        let line = skipped.summary(&Tally::default()).line();
        assert!(line.starts_with(r#"{"status":"skipped","reason":"the API grants 7 more"#), "{line}");
        assert_eq!(skipped.alert("t").unwrap().kind().name(), "credits-low");
    }
}
