//! Why something could not be measured.

use std::{io, path::PathBuf};

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A binary is missing.
    #[error("there is no {}; make bench builds it, or name its folder with --bin-dir", .0.display())]
    Missing(PathBuf),
    /// The system refused something.
    #[error("{what}")]
    Io {
        /// What was attempted.
        what: String,
        #[source]
        source: io::Error,
    },
    /// Kafka refused something.
    #[error("{what}")]
    Kafka {
        /// What was attempted.
        what: String,
        #[source]
        source: rskafka::client::error::Error,
    },
    /// S3 refused something.
    #[error("put object {key}")]
    Store {
        key: String,
        #[source]
        source: object_store::Error,
    },
    /// A program failed, or did something else than its work.
    #[error("{program}: {problem}")]
    Program {
        /// Which.
        program: String,
        /// What was wrong.
        problem: String,
    },
}

impl BenchError {
    /// For `map_err`: what was attempted.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn program(program: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Program { program: program.into(), problem: problem.into() }
    }
}
