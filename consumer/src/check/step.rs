//! One thing that was tried, and what came of it.

/// What was tried: what programs tell steps apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of the addresses that the operator gave.
    Address,
    /// A broker, where it sends clients itself.
    Broker,
    /// The topic's description.
    Topic,
    /// A part of its log.
    Read,
    /// The group's coordinator.
    Coordinator,
    /// What the group has committed.
    Commits,
    /// Whether the group may be joined.
    Membership,
    /// AWS credentials.
    Credentials,
    /// A listing.
    List,
    /// A create-only put.
    Create,
    /// A second one, which has to be refused.
    Condition,
    /// Reading an object.
    Get,
    /// Reading an object's metadata.
    Metadata,
    /// Whose objects there are.
    Manifest,
    /// Alerts through SNS.
    Alerts,
    /// The address of metrics and probes.
    Http,
}

impl Kind {
    /// Its name, which stays.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Broker => "broker",
            Self::Topic => "topic",
            Self::Read => "read",
            Self::Coordinator => "coordinator",
            Self::Commits => "commits",
            Self::Membership => "membership",
            Self::Credentials => "credentials",
            Self::List => "list",
            Self::Create => "create",
            Self::Condition => "condition",
            Self::Get => "get",
            Self::Metadata => "metadata",
            Self::Manifest => "manifest",
            Self::Alerts => "alerts",
            Self::Http => "http",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A run can rely on it.
    Ok,
    /// It is worth knowing, and no fault.
    Note,
    /// A run would fail, or would not be what was wanted.
    Failed,
    /// It was not tried.
    Skipped,
}

impl Outcome {
    /// Its name, which stays.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One step of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was tried.
    pub kind: Kind,
    /// With what: an address, a topic, a key.
    pub about: String,
    /// What came of it.
    pub outcome: Outcome,
    /// In words.
    pub found: String,
    /// What to do, first things first; each may have several lines.
    pub advice: Vec<String>,
}

impl Step {
    fn new(kind: Kind, about: impl Into<String>, outcome: Outcome, found: impl Into<String>) -> Self {
        Self { kind, about: about.into(), outcome, found: found.into(), advice: Vec::new() }
    }

    /// It is as it must be.
    #[must_use]
    pub fn ok(kind: Kind, about: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(kind, about, Outcome::Ok, found)
    }

    /// It is no fault.
    #[must_use]
    pub fn note(kind: Kind, about: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(kind, about, Outcome::Note, found)
    }

    /// It is not as it must be.
    #[must_use]
    pub fn failed(kind: Kind, about: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(kind, about, Outcome::Failed, found)
    }

    /// It was not tried, and why.
    #[must_use]
    pub fn skipped(kind: Kind, about: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(kind, about, Outcome::Skipped, why)
    }

    /// And this is what to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }
}
