//! What an invocation fails with, and what it says about it.
//!
//! The text is all that anybody gets to see: Lambda stores it beside the event in the dead-letter queue.
//! So it names every object and every cause, and an event is never dropped silently.

use std::fmt;

use coinduit_common::report::Chain;

use crate::{
    Summary,
    envelope::{EnvelopeError, Refused},
    ingest::IngestError,
    quarantine::QuarantineError,
    table::TableError,
};

/// Why an invocation failed. Running it again is harmless, and may help.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// Nothing in the event was understood.
    #[error(transparent)]
    Event(#[from] EnvelopeError),
    /// Something in the event was not stored; everything else was.
    #[error("{} ({done})", Listed(.failures))]
    Failures {
        /// What was not stored, at least one.
        failures: Vec<Failure>,
        /// What was.
        done: Summary,
    },
}

impl HandleError {
    /// The kind of failure for Lambda's `errorType`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Event(_) => "UnknownEvent",
            Self::Failures { .. } => "NotStored",
        }
    }
}

/// One thing that was not stored.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A record of the event that can't be handled.
    #[error("{0}")]
    Record(Refused),
    /// An object that was not read.
    #[error("object {key} in bucket {bucket}: {}", Chain(.cause))]
    Object {
        /// The object's bucket.
        bucket: String,
        /// Its key.
        key: String,
        /// Why.
        cause: IngestError,
    },
    /// A row that is not in its table.
    #[error("object {key} in bucket {bucket}: {}", Chain(.cause))]
    Row {
        /// The bucket of the row's object.
        bucket: String,
        /// Its key.
        key: String,
        /// Why.
        cause: TableError,
    },
    /// A rejected line that is not in the quarantine.
    #[error("object {key} in bucket {bucket}: {}", Chain(.cause))]
    Quarantine {
        /// The bucket of the line's object.
        bucket: String,
        /// Its key.
        key: String,
        /// Why.
        cause: QuarantineError,
    },
}

/// How many failures are written out; a table that is missing would otherwise be named for every object.
const LISTED: usize = 10;

/// Failures in a row, the first few.
#[derive(Debug)]
pub struct Listed<'a>(pub &'a [Failure]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, failure) in self.0.iter().take(LISTED).enumerate() {
            write!(f, "{}{failure}", if at == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(count: usize) -> HandleError {
        let failure = |at| {
            Failure::Record(Refused::Missing { place: format!("record {at} of the event"), member: "s3" })
        };
        HandleError::Failures { failures: (0..count).map(failure).collect(), done: Summary::default() }
    }

    #[test]
    fn every_cause_is_named_up_to_a_limit() {
        let text = failures(2).to_string();
        assert!(text.contains("record 0 of the event") && text.contains("; record 1 of the event"), "{text}");
        let text = failures(12).to_string();
        assert!(
            text.contains("record 9 of") && !text.contains("record 10 of") && text.contains("and 2 more"),
            "{text}"
        );
    }
}
