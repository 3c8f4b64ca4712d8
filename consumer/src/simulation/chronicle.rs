//! What happened, line by line, in virtual time: printed where a history fails, compared where a seed runs twice.

use std::{collections::VecDeque, fmt, sync::Mutex};

use tokio::time::Instant;

/// So many lines are kept, the latest.
const MOST_LINES: usize = 20_000;

/// The log of one history.
#[derive(Debug)]
pub(super) struct Chronicle {
    began: Instant,
    lines: Mutex<VecDeque<String>>,
}

impl Chronicle {
    pub(super) fn new(began: Instant) -> Self {
        Self { began, lines: Mutex::default() }
    }

    /// Writes one line: the time, who, and what.
    pub(super) fn tell(&self, who: &str, what: fmt::Arguments<'_>) {
        let seconds = self.began.elapsed().as_secs_f64();
        let mut lines = self.lines.lock().unwrap();
        if lines.len() == MOST_LINES {
            lines.pop_front();
        }
        lines.push_back(format!("{seconds:9.3} {who:<8} {what}"));
    }

    pub(super) fn text(&self) -> String {
        let lines = self.lines.lock().unwrap();
        lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}
