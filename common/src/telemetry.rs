//! Logs: set up once, in `main`.
//!
//! Everything goes to stderr; stdout belongs to the program's answer (the producer's summary, the audit's
//! table). On a terminal the lines are for people, elsewhere they are JSON, one event a line.

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::config::{Env, Faults};

/// What the lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines for people, in colour on a terminal unless `NO_COLOR` is set.
    Text,
    /// One JSON object per event.
    Json,
}

/// How to log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    filter: Targets,
    /// What the operator wrote, or would have.
    written: String,
    format: Format,
    colour: bool,
}

impl LogSettings {
    /// Hears these libraries from `warn` on, unless the operator's word is about them.
    #[must_use]
    pub fn quieter(mut self, libraries: &[&'static str]) -> Self {
        let libraries: Vec<_> = libraries.iter().map(|library| (*library, LevelFilter::WARN)).collect();
        self.filter = quiet(self.filter, &self.written, &libraries);
        self
    }

    /// Reads `RUST_LOG` (`info`, or `info,rskafka=debug`), `LOG_FORMAT` (`text`, `json`) and `NO_COLOR`.
    ///
    /// A value that is wrong is added to `faults`.
    #[must_use]
    pub fn from_env(env: &Env, faults: &mut Faults) -> Self {
        let terminal = io::stderr().is_terminal();
        let written = env.get("RUST_LOG").unwrap_or("info");
        let filter = written.parse::<Targets>().unwrap_or_else(|error| {
            faults.add(
                "RUST_LOG",
                format!("{written:?} is not a log filter ({error})"),
                "write a level (info) or target=level pairs (info,rskafka=debug)",
            );
            Targets::new()
        });
        let format = match env.get("LOG_FORMAT") {
            Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => {
                faults.add("LOG_FORMAT", format!("{other:?} is no log format"), "write text or json");
                Format::Text
            }
            None if terminal => Format::Text,
            None => Format::Json,
        };
        Self {
            filter: quiet(filter, written, OURS),
            written: written.to_owned(),
            format,
            colour: terminal && env.get("NO_COLOR").is_none(),
        }
    }
}

/// Libraries that log their retries at `info` are heard from `warn` on. rskafka logs every failed attempt as an
/// error; what it gives up on is said by whoever asked.
const OURS: &[(&str, LevelFilter)] = &[
    ("rskafka", LevelFilter::OFF),
    ("aws_config", LevelFilter::WARN),
    ("hyper_util", LevelFilter::WARN),
    ("reqwest", LevelFilter::WARN),
];

/// Sets the libraries' levels, where the operator's word is not about them, or about everything.
fn quiet(filter: Targets, written: &str, libraries: &[(&'static str, LevelFilter)]) -> Targets {
    libraries
        .iter()
        .filter(|(library, _)| !written.contains(library))
        .filter(|_| !matches!(written, "off" | "error" | "debug" | "trace"))
        .fold(filter, |filter, (library, level)| filter.with_target(*library, *level))
}

/// Installs the subscriber. A second call changes nothing, so tests may call it too.
pub fn init(settings: LogSettings) {
    let lines = fmt::layer().with_writer(io::stderr);
    let layer = match settings.format {
        Format::Text => lines.with_ansi(settings.colour).with_target(false).boxed(),
        Format::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    };
    // An error means that a subscriber is installed already.
    drop(tracing_subscriber::registry().with(layer.with_filter(settings.filter)).try_init());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_value_is_reported() {
        let env = Env::from_pairs([("RUST_LOG", "info,rskafka=loud"), ("LOG_FORMAT", "xml")]);
        let mut faults = Faults::default();
        drop(LogSettings::from_env(&env, &mut faults));
        let text = faults.to_string();
        assert!(text.contains("RUST_LOG") && text.contains("LOG_FORMAT"), "{text}");
    }

    #[test]
    fn the_operators_word_on_a_library_stands() {
        let asked = quiet("info,rskafka=debug".parse().unwrap(), "info,rskafka=debug", OURS);
        assert!(asked.would_enable("rskafka", &tracing::Level::DEBUG));
        let plain = quiet("info".parse().unwrap(), "info", OURS);
        assert!(!plain.would_enable("rskafka", &tracing::Level::ERROR));
        assert!(plain.would_enable("coinduit_consumer", &tracing::Level::INFO));
    }
}
