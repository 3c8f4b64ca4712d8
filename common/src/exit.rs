//! The exit codes of every binary, as operators and Airflow read them.

use std::process::ExitCode;

/// Why a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked for is done.
    Done,
    /// It failed in a way where running again may help.
    Failed,
    /// A setting, a credential or the state of a service has to be changed by a person first.
    Misconfigured,
    /// `audit` or `check` found something.
    Finding,
    /// The producer deliberately did nothing; Airflow shows the task as skipped.
    Skipped,
}

impl Exit {
    /// The number that the operating system sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Misconfigured => 2,
            Self::Finding => 3,
            Self::Skipped => 99,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
