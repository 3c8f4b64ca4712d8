//! What can go wrong between us and a broker.

use std::{io, time::Duration};

use kafka_protocol::ResponseError;

use super::{sasl::token::TokenError, tls};

/// A call to Kafka failed.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// None of the addresses answered; the last one's failure is the source.
    #[error("no Kafka broker answers at {bootstrap}")]
    Unreachable {
        /// The addresses that were tried.
        bootstrap: String,
        /// Why the last one failed.
        #[source]
        source: Box<Self>,
    },
    /// No TCP connection.
    #[error("connect to Kafka broker {address}")]
    Connect {
        /// The broker.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The broker did not do its part in time.
    #[error("Kafka broker {address} did not answer {request} within {limit:?}")]
    TimedOut {
        /// The broker.
        address: String,
        /// What was asked.
        request: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// The connection broke.
    #[error("Kafka broker {address} closed the connection during {request}")]
    Broken {
        /// The broker.
        address: String,
        /// What was asked.
        request: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS does not come about, or is ended by the broker.
    #[error("TLS with Kafka broker {address}: {problem}")]
    Tls {
        /// The broker.
        address: String,
        /// What is wrong, and what to change.
        problem: String,
        /// Whether it may pass by itself.
        retryable: bool,
        /// In rustls' words.
        #[source]
        source: io::Error,
    },
    /// The broker does not let this client in, or can't show who it is itself.
    #[error("log in to Kafka broker {address} ({mechanism}): {problem}")]
    LogIn {
        /// The broker.
        address: String,
        /// How it was tried.
        mechanism: &'static str,
        /// What is wrong, and what to change.
        problem: String,
        /// Whether it may pass by itself.
        retryable: bool,
    },
    /// There is no token to log in with.
    #[error("get a token for Kafka broker {address}")]
    Token {
        /// The broker.
        address: String,
        /// Why.
        #[source]
        source: TokenError,
    },
    /// What came back is not Kafka's protocol.
    #[error("the answer of {address} to {request} is not Kafka's protocol: {problem}")]
    NotKafka {
        /// The other side.
        address: String,
        /// What was asked.
        request: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The answer is Kafka's protocol, but says nothing that can be used.
    #[error("Kafka's answer to {request} about {about} can't be used: {problem}")]
    Useless {
        /// What was asked.
        request: &'static str,
        /// The topic or group it was about.
        about: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The broker is too old or too new.
    #[error(
        "Kafka broker {address} speaks {request} versions {broker}, Coinduit needs {ours}; Kafka 2.8 or newer has them"
    )]
    Unsupported {
        /// The broker.
        address: String,
        /// What was to be asked.
        request: &'static str,
        /// What the broker offers.
        broker: String,
        /// What we speak.
        ours: String,
    },
    /// The broker refused with one of the protocol's error codes.
    #[error("Kafka answers {error} ({code}) to {request} about {about}")]
    Refused {
        /// The code's name.
        error: String,
        /// The code.
        code: i16,
        /// What was asked.
        request: &'static str,
        /// The topic or group it was about.
        about: String,
    },
}

impl KafkaError {
    /// The protocol's error `code` in the answer to `request`.
    #[must_use]
    pub fn refused(code: i16, request: &'static str, about: impl Into<String>) -> Self {
        let error = ResponseError::try_from_code(code)
            .map_or_else(|| "an unknown error".to_owned(), |error| error.to_string());
        Self::Refused { error, code, request, about: about.into() }
    }

    /// The connection to `address` ended during `request`: what that means.
    #[must_use]
    pub fn broken(address: String, request: &'static str, source: io::Error) -> Self {
        match tls::cause(&source).map(tls::explain) {
            Some((problem, retryable)) => {
                Self::Tls { address, problem: problem.to_owned(), retryable, source }
            }
            None => Self::Broken { address, request, source },
        }
    }

    /// The answer to `request` lacks what was asked for, or has it in a form that can't be.
    #[must_use]
    pub fn useless(request: &'static str, about: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Useless { request, about: about.into(), problem: problem.into() }
    }

    /// What the broker refused with; `None` for every other failure. A code without a name is
    /// [`ResponseError::Unknown`] with its number.
    #[must_use]
    pub const fn code(&self) -> Option<ResponseError> {
        match self {
            Self::Refused { code, .. } => ResponseError::try_from_code(*code),
            Self::Unreachable { .. }
            | Self::Connect { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. }
            | Self::Tls { .. }
            | Self::LogIn { .. }
            | Self::Token { .. }
            | Self::NotKafka { .. }
            | Self::Useless { .. }
            | Self::Unsupported { .. } => None,
        }
    }

    /// Whether the same call may work later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => source.is_retryable(),
            Self::Connect { .. } | Self::TimedOut { .. } | Self::Broken { .. } => true,
            Self::Tls { retryable, .. } | Self::LogIn { retryable, .. } => *retryable,
            Self::Token { source, .. } => source.is_retryable(),
            Self::NotKafka { .. } | Self::Useless { .. } | Self::Unsupported { .. } => false,
            Self::Refused { code, .. } => {
                ResponseError::try_from_code(*code).is_some_and(|error| error.is_retriable())
            }
        }
    }
}
