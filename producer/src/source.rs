//! Where prices come from: one provider, one file.
//!
//! ```text
//! Wanted --questions--> Question --Source::page--> Page (coins, and what is none)
//!                                    ^ http: one question, one answer, within its limits
//! ```
//!
//! A provider is a [`Source`] in a file of its own: its addresses, its words for a question, its way to read an
//! answer. Paging, retries, the credit guard, what is a record: all of that is the same for every one of them.

use std::{future::Future, time::Duration};

use chrono::{DateTime, Utc};

use crate::page::Page;

pub mod http;
pub mod livecoinwatch;

pub use http::{ApiError, ClientError};

/// A provider of prices.
pub trait Source: Send + Sync {
    /// Its name in the header `source` of every record.
    fn name(&self) -> &'static str;

    /// How many coins one answer holds at most.
    fn most_coins(&self) -> usize;

    /// How many questions may still be asked; `None` for a provider that does not count them. `now` dates a
    /// Retry-After, here and below.
    ///
    /// # Errors
    /// [`ApiError`].
    fn credits(
        &self,
        time_limit: Duration,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<Option<u64>, ApiError>> + Send;

    /// Asks once; the whole answer may take `time_limit`.
    ///
    /// # Errors
    /// [`ApiError`]; nothing of the answer may be published then.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection; the question may have been counted.
    fn page(
        &self,
        question: &Question,
        time_limit: Duration,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<Page, ApiError>> + Send;
}

/// Which coins a run is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// So many, by rank.
    Top(usize),
    /// A watch-list, without repetitions.
    Codes(Vec<String>),
}

impl Wanted {
    /// How many coins.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Top(count) => *count,
            Self::Codes(codes) => codes.len(),
        }
    }

    /// The questions for them, each for `most` coins at most.
    #[must_use]
    pub fn questions(&self, most: usize) -> Vec<Question> {
        match self {
            Self::Top(count) => (0..*count)
                .step_by(most)
                .map(|offset| Question::Ranks { offset, limit: most.min(count - offset) })
                .collect(),
            Self::Codes(codes) => codes.chunks(most).map(|codes| Question::Codes(codes.to_vec())).collect(),
        }
    }
}

/// What one answer is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// `limit` coins by rank, from `offset` (0 is the first) on.
    Ranks {
        /// How many come before.
        offset: usize,
        /// How many.
        limit: usize,
    },
    /// These coins.
    Codes(Vec<String>),
}

impl Question {
    /// How many coins it is for.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Ranks { limit, .. } => *limit,
            Self::Codes(codes) => codes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_are_asked_for_in_pages() {
        let windows = |count| {
            let window = |question| match question {
                Question::Ranks { offset, limit } => (offset, limit),
                Question::Codes(_) => panic!("no codes were asked for"),
            };
            Wanted::Top(count).questions(100).into_iter().map(window).collect::<Vec<_>>()
        };
        assert_eq!(windows(50), [(0, 50)]);
        assert_eq!(windows(100), [(0, 100)]);
        assert_eq!(windows(250), [(0, 100), (100, 100), (200, 50)]);
    }

    #[test]
    fn a_long_watch_list_is_several_questions() {
        let codes: Vec<String> = (0..5).map(|number| number.to_string()).collect();
        let questions = Wanted::Codes(codes).questions(2);
        assert_eq!(questions.iter().map(Question::count).collect::<Vec<_>>(), [2, 2, 1]);
    }
}
