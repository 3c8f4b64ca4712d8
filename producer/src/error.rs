//! Why a run failed: what the summary says, what people are told, and the exit code.

use coinduit_common::{
    alert::{Alert, AlertKind},
    exit::Exit,
    report::Chain,
};

use crate::{
    api::{ApiError, ClientError},
    publish::{PublishError, Published},
    summary::{Stage, Summary},
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
    /// The topic can't be written to.
    #[error(transparent)]
    Connect(#[from] PublishError),
    /// Not every record was acknowledged.
    #[error("{}", .0.failures.iter().map(|failure| failure.problem.as_str()).collect::<Vec<_>>().join("; "))]
    Publish(Published),
    /// A signal came first.
    #[error("{0} ended the run")]
    Interrupted(&'static str),
}

impl RunError {
    /// Whether running again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Client(_) => false,
            Self::Fetch(error) => error.is_retryable(),
            Self::Connect(error) => error.is_retryable(),
            Self::Publish(published) => published.failures.iter().any(|failure| failure.retryable),
            Self::Interrupted(_) => true,
        }
    }

    /// The exit code: 2 where a person has to change a setting, 1 for everything else.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let misconfigured = match self {
            // Any other no of the API may be a yes to the next run.
            Self::Fetch(error) => error.is_refusal(),
            Self::Client(_) | Self::Connect(_) | Self::Publish(_) => !self.is_retryable(),
            Self::Interrupted(_) => false,
        };
        if misconfigured { Exit::Misconfigured } else { Exit::Failed }
    }

    /// The last line.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let (stage, records, possible_duplicates) = match self {
            Self::Client(_) | Self::Fetch(_) => (Stage::Fetch, 0, 0),
            Self::Connect(_) => (Stage::Connect, 0, 0),
            Self::Publish(published) => (Stage::Publish, published.acknowledged, published.unconfirmed),
            Self::Interrupted(_) => (Stage::Interrupted, 0, 0),
        };
        Summary::Failed {
            stage,
            error: Chain(self).to_string(),
            retryable: self.is_retryable(),
            records,
            possible_duplicates,
        }
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
        let error =
            RunError::Publish(Published { acknowledged: 30, unconfirmed: 20, failures: vec![failure] });
        assert_eq!(
            error.summary().line(),
            r#"{"status":"failed","stage":"publish","error":"t/1 did not acknowledge","retryable":true,"records":30,"possible_duplicates":20}"#
        );
    }
}
