//! Waits until something works again, and tells people meanwhile: [`Trouble`]'s verdicts, carried out.

use coinduit_common::{
    alert::{Alert, AlertKind, Alerts},
    clock::{Clock, millis},
    report::Chain,
};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::trouble::Trouble;

/// One thing that is tried for ever.
#[derive(Debug)]
pub struct Patience<'a> {
    alerts: &'a Alerts,
    clock: &'a Clock,
    place: &'a str,
    trouble: Trouble,
}

/// What kind of failure it is, for people.
#[derive(Debug, Clone, Copy)]
pub struct Setback {
    /// Whether a person has to change something first.
    pub permanent: bool,
    /// What it is counted as.
    pub kind: AlertKind,
    /// What to do about it.
    pub advice: &'static str,
}

impl<'a> Patience<'a> {
    /// About something at `place`, that has not failed yet.
    #[must_use]
    pub fn new(alerts: &'a Alerts, clock: &'a Clock, place: &'a str) -> Self {
        Self { alerts, clock, place, trouble: Trouble::default() }
    }

    /// An attempt failed: returns when it is time for the next one.
    ///
    /// # Cancel safety
    /// Dropping the future ends the wait; the failure has been counted.
    pub async fn failed(
        &mut self,
        setback: Setback,
        error: &(dyn std::error::Error + Send + Sync + 'static),
    ) {
        let verdict = self.trouble.failed(self.clock.since_boot(), setback.permanent);
        let causes = Chain(error).to_string();
        warn!(place = self.place, error = causes, wait_ms = millis(verdict.wait), "failed, trying again");
        if verdict.tell {
            self.alerts.send(Alert::new(setback.kind, self.place, causes, setback.advice));
        }
        sleep(verdict.wait).await;
    }

    /// An attempt brought no answer, and that is no failure: returns when it is time for the next one.
    pub async fn again(&mut self) {
        sleep(self.trouble.failed(self.clock.since_boot(), false).wait).await;
    }

    /// It works.
    pub fn over(&mut self) {
        if let Some(lasted) = self.trouble.over(self.clock.since_boot()) {
            info!(place = self.place, seconds = lasted.as_secs(), "works again");
        }
    }
}
