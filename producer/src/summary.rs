//! The last line of a run: one JSON object on stdout, which Airflow takes as the XCom.

use serde::Serialize;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Summary {
    /// Every record was acknowledged.
    Published {
        /// How many.
        records: usize,
        /// How many entries of the API's answer were no coins.
        rejected: usize,
        /// Where they are.
        topic: String,
        /// The run's instant.
        fetched_at: String,
        /// How long it took, from start to the last acknowledgement.
        elapsed_ms: u64,
    },
    /// It was not done.
    Failed {
        /// Where it failed.
        stage: Stage,
        /// Why.
        error: String,
        /// Whether running again may help.
        retryable: bool,
        /// How many records were acknowledged all the same.
        #[serde(skip_serializing_if = "is_zero")]
        records: usize,
        /// How many may have been appended without an acknowledgement. Their ids make them harmless.
        #[serde(skip_serializing_if = "is_zero")]
        possible_duplicates: usize,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The part of a run that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The settings.
    Config,
    /// Asking the API.
    Fetch,
    /// Reaching the topic.
    Connect,
    /// Handing records to Kafka.
    Publish,
    /// A signal ended it.
    Interrupted,
    /// A bug.
    Panic,
}

impl Summary {
    /// A failure of which nothing reached the topic.
    #[must_use]
    pub fn failed(stage: Stage, error: impl Into<String>, retryable: bool) -> Self {
        Self::Failed { stage, error: error.into(), retryable, records: 0, possible_duplicates: 0 }
    }

    /// The line, without a line break.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are written to memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_contracts() {
        let published = Summary::Published {
            records: 50,
            rejected: 0,
            topic: "t".to_owned(),
            fetched_at: "f".to_owned(),
            elapsed_ms: 7,
        };
        assert_eq!(
            published.line(),
            r#"{"status":"published","records":50,"rejected":0,"topic":"t","fetched_at":"f","elapsed_ms":7}"#
        );
        let failed = Summary::failed(Stage::Fetch, "a\nb", true);
        assert_eq!(failed.line(), r#"{"status":"failed","stage":"fetch","error":"a\nb","retryable":true}"#);
    }
}
