//! The last line of a run: one JSON object on stdout, which Airflow takes as the XCom.

use std::io::{self, Write};

use serde::Serialize;

use crate::tally::Tally;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Summary {
    /// Every record was acknowledged.
    Published(Done),
    /// Every record was printed, and none published.
    DryRun(Done),
    /// Nothing was done, on purpose.
    Skipped {
        /// Why.
        reason: String,
        /// What the API says is left.
        credits_remaining: Option<u64>,
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
        /// What the API says is left, where it was asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        credits_remaining: Option<u64>,
    },
}

/// A run that did what it was to do. What is unusual about it has a member of its own, which is else left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// How many records.
    pub records: usize,
    /// How many entries of the API's answer were no coins.
    pub rejected: usize,
    /// How many coins were asked for, where the API has fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested: Option<usize>,
    /// How many coins the API gave more than once; the first was taken.
    #[serde(skip_serializing_if = "is_zero")]
    pub repeated: usize,
    /// Which codes of the watch-list the API does not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Where the records are.
    pub topic: String,
    /// The run's instant.
    pub fetched_at: String,
    /// What the API says is left, less what this run spent since; null where it was not asked.
    pub credits_remaining: Option<u64>,
    /// How long it took, from start to the last acknowledgement.
    pub elapsed_ms: u64,
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
    /// Asking the API, or reading a recording.
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
    /// A failure before anything was asked or sent.
    #[must_use]
    pub fn failed(stage: Stage, error: impl Into<String>, retryable: bool) -> Self {
        Self::failed_after(&Tally::default(), stage, error, retryable)
    }

    /// A failure of a run that had come as far as `tally` says.
    #[must_use]
    pub fn failed_after(tally: &Tally, stage: Stage, error: impl Into<String>, retryable: bool) -> Self {
        Self::Failed {
            stage,
            error: error.into(),
            retryable,
            records: tally.records(),
            possible_duplicates: tally.possible_duplicates(),
            credits_remaining: tally.credits_remaining(),
        }
    }

    /// The line, without a line break.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are written to memory")
    }

    /// Prints the line. Where nobody listens any more, nothing is left to be said.
    pub fn print(&self) {
        let mut out = io::stdout().lock();
        drop(writeln!(out, "{}", self.line()).and_then(|()| out.flush()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_contracts() {
        let done = Done {
            records: 50,
            topic: "t".to_owned(),
            fetched_at: "f".to_owned(),
            credits_remaining: Some(9_999),
            elapsed_ms: 7,
            ..Done::default()
        };
        let rest = r#""records":50,"rejected":0,"topic":"t","fetched_at":"f","credits_remaining":9999,"elapsed_ms":7}"#;
        assert_eq!(Summary::Published(done.clone()).line(), format!(r#"{{"status":"published",{rest}"#));
        assert_eq!(Summary::DryRun(done).line(), format!(r#"{{"status":"dry-run",{rest}"#));
        let failed = Summary::failed(Stage::Fetch, "a\nb", true);
        assert_eq!(failed.line(), r#"{"status":"failed","stage":"fetch","error":"a\nb","retryable":true}"#);
        let skipped = Summary::Skipped { reason: "r".to_owned(), credits_remaining: Some(5) };
        assert_eq!(skipped.line(), r#"{"status":"skipped","reason":"r","credits_remaining":5}"#);
    }

    #[test]
    fn what_is_unusual_is_said() {
        let done = Done { requested: Some(5), repeated: 1, missing: vec!["X".to_owned()], ..Done::default() };
        let line = Summary::Published(done).line();
        assert!(line.contains(r#""requested":5,"repeated":1,"missing":["X"]"#), "{line}");
        assert!(line.contains(r#""credits_remaining":null"#), "{line}");
    }

    #[test]
    fn a_failure_in_the_middle_counts_what_is_on_the_topic() {
        let tally = Tally::default();
        tally.sent(50);
        tally.acknowledged(30);
        tally.credits(7);
        assert_eq!(
            Summary::failed_after(&tally, Stage::Panic, "e", true).line(),
            r#"{"status":"failed","stage":"panic","error":"e","retryable":true,"records":30,"possible_duplicates":20,"credits_remaining":7}"#
        );
    }
}
