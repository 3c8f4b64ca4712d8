//! Waits until something works again, and tells people meanwhile: [`Trouble`]'s verdicts, carried out.

use std::time::Duration;

use coinduit_common::{
    alert::{Alert, AlertKind, Alerts},
    clock::{Clock, millis},
    report::Chain,
};
use tokio::time::sleep;
use tracing::warn;

use crate::{trouble::Trouble, vitals::Slot};

/// One thing that is tried for ever.
#[derive(Debug)]
pub struct Patience {
    alerts: Alerts,
    clock: Clock,
    place: String,
    slot: Slot,
    trouble: Trouble,
    told: Option<AlertKind>,
    begun: Duration,
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

impl Patience {
    /// About something at `place`, which begins now and has not failed yet; its state shows in `slot`.
    #[must_use]
    pub fn new(alerts: &Alerts, clock: &Clock, place: &str, slot: Slot) -> Self {
        Self {
            alerts: alerts.clone(),
            clock: clock.clone(),
            place: place.to_owned(),
            slot,
            trouble: Trouble::default(),
            told: None,
            begun: clock.since_boot(),
        }
    }

    /// An attempt begins: how long it hangs counts.
    pub fn begins(&mut self) {
        self.begun = self.clock.since_boot();
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
        let wait = self.count(setback, error);
        sleep(wait).await;
        self.begins();
    }

    /// An attempt failed: how long to wait before the next one.
    pub fn count(&mut self, setback: Setback, error: &(dyn std::error::Error + 'static)) -> Duration {
        let causes = Chain(error).to_string();
        let alert = Alert::new(setback.kind, &self.place, causes.as_str(), setback.advice);
        let wait = self.count_as(setback.permanent, alert);
        warn!(place = self.place, error = causes, wait_ms = millis(wait), "failed, trying again");
        wait
    }

    /// The same, where people are told `alert`, and nothing is logged.
    pub fn count_as(&mut self, permanent: bool, alert: Alert) -> Duration {
        let verdict = self.trouble.failed(self.begun, self.clock.since_boot(), permanent);
        self.slot.failed(&self.trouble, permanent, alert.what());
        if verdict.tell {
            self.told = Some(alert.kind());
            self.alerts.send(alert);
        }
        verdict.wait
    }

    /// How long to wait for something that fails with it, and is not counted.
    #[must_use]
    pub fn peek(&self) -> Duration {
        let now = self.clock.since_boot();
        self.trouble.clone().failed(now, now, false).wait
    }

    /// An attempt brought no answer, and that is no failure: returns when it is time for the next one.
    pub async fn again(&mut self) {
        sleep(self.trouble.again(self.clock.since_boot())).await;
        self.begins();
    }

    /// It works: whoever was told that it does not is told so.
    pub fn over(&mut self) {
        self.slot.over();
        let lasted = self.trouble.over(self.clock.since_boot());
        if let (Some(lasted), Some(kind)) = (lasted, self.told.take()) {
            self.alerts.over(kind, &self.place, self.slot.stage().in_words(), lasted);
        }
    }
}
