//! Whether the process lives, and whether it gets on: decided from what its tasks said last.
//!
//! Ready means progress. A partition stands still when there is something to store and nothing of it was for longer than
//! an object may take (`MAX_OBJECT_AGE`, and a minute for the way into the bucket). That time is counted from when
//! something of it was handled last, or from when the first unstored record was seen, whichever is later: a backlog
//! that is worked through is no standstill, however old its records are. (Their age is a metric.)
//! What needs a person makes a partition unready at once, and so does a broker that can't be read for as long as people
//! are told of it.

use std::{collections::BTreeMap, time::Duration};

use coinduit_common::clock;
use serde::Serialize;

/// What may be stored later than `MAX_OBJECT_AGE`.
pub const GRACE: Duration = Duration::from_secs(60);
/// How often a main loop that turns says so.
pub(crate) const BEAT: Duration = Duration::from_secs(5);
/// A main loop that did not say so for as long does not turn.
const STUCK: Duration = Duration::from_secs(30);

/// What is done and tried again: what metrics and reasons are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Asking what the topic is.
    Topic,
    /// Claiming the folder in the bucket.
    Claim,
    /// Being a member of the group.
    Group,
    /// Committing offsets.
    Commit,
    /// Finding out where a partition goes on.
    Locate,
    /// Reading records.
    Fetch,
    /// Making sure that the topic is still the same.
    Confirm,
    /// Storing what can't be a line.
    Quarantine,
    /// Storing objects.
    Put,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Topic,
        Self::Claim,
        Self::Group,
        Self::Commit,
        Self::Locate,
        Self::Fetch,
        Self::Confirm,
        Self::Quarantine,
        Self::Put,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Claim => "claim",
            Self::Group => "group",
            Self::Commit => "commit",
            Self::Locate => "locate",
            Self::Fetch => "fetch",
            Self::Confirm => "confirm",
            Self::Quarantine => "quarantine",
            Self::Put => "put",
        }
    }

    /// What works again when it does.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Topic => "looking up the topic",
            Self::Claim => "claiming the folder in the bucket",
            Self::Group => "the membership in the group",
            Self::Commit => "committing offsets",
            Self::Locate => "finding out where to go on",
            Self::Fetch => "reading",
            Self::Confirm => "confirming that the topic is still the same",
            Self::Quarantine => "storing what can't be a line",
            Self::Put => "storing objects",
        }
    }

    /// Whether the partition, or the process, gets on without it for a while.
    const fn can_wait(self) -> bool {
        matches!(self, Self::Commit | Self::Quarantine | Self::Put)
    }
}

/// Something is tried again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance {
    /// Since when (since boot).
    pub since: Duration,
    /// A person has to change something.
    pub permanent: bool,
    /// It has lasted so long that people were told.
    pub told: bool,
    /// What the last attempt came to.
    pub why: String,
}

/// How far the process has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// The topic is looked up.
    #[default]
    Topic,
    /// The folder is claimed.
    Claim,
    /// Partitions are shared with the group.
    Share,
    /// What is held is stored.
    Stop,
}

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// The end of its chain of objects.
    pub tail: i64,
    /// Everything below it is stored, quarantined, skipped on record, or nothing.
    pub handled: i64,
    /// The log's end, as far as it may be read.
    pub end: i64,
    /// The timestamp of the oldest record that is held and not stored, in milliseconds since the epoch.
    pub oldest_ms: Option<i64>,
}

/// One partition.
#[derive(Debug, Clone)]
pub struct PartitionHealth {
    /// Tells it from an earlier assignment.
    pub(crate) number: u64,
    begun_at: Duration,
    offsets: Option<Offsets>,
    waiting_since: Option<Duration>,
    troubles: BTreeMap<Stage, Hindrance>,
}

impl PartitionHealth {
    /// Assigned at `now`; where it stands is not known yet.
    #[must_use]
    pub const fn new(number: u64, now: Duration) -> Self {
        Self { number, begun_at: now, offsets: None, waiting_since: None, troubles: BTreeMap::new() }
    }

    /// It stands there at `now`.
    pub fn stands(&mut self, offsets: Offsets, now: Duration) {
        let has_moved = self.offsets.is_none_or(|before| before.handled != offsets.handled);
        let waits = offsets.handled < offsets.end;
        self.waiting_since = waits.then(|| self.waiting_since.filter(|_| !has_moved).unwrap_or(now));
        self.offsets = Some(offsets);
    }

    /// Where it stands, once that is known.
    #[must_use]
    pub const fn offsets(&self) -> Option<&Offsets> {
        self.offsets.as_ref()
    }

    /// For how long there has been something to handle of which nothing was.
    #[must_use]
    pub fn waiting(&self, now: Duration) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    fn troubles(&self) -> impl Iterator<Item = (Stage, &Hindrance)> {
        self.troubles.iter().map(|(stage, hindrance)| (*stage, hindrance))
    }

    /// Why it does not get on, if it does not.
    fn standstill(&self, now: Duration, limit: Duration) -> Option<(Duration, String)> {
        let at_once =
            |(stage, trouble): &(Stage, &Hindrance)| trouble.permanent || (trouble.told && !stage.can_wait());
        if let Some((stage, trouble)) = self.troubles().find(at_once) {
            return Some((trouble.since, said(stage, trouble)));
        }
        let since = if self.offsets.is_some() { self.waiting_since? } else { self.begun_at };
        if now.saturating_sub(since) <= limit {
            return None;
        }
        let trouble = self.troubles().next().map(|(stage, trouble)| said(stage, trouble));
        let why = trouble.unwrap_or_else(|| {
            "nothing fails, but nothing was stored for too long: a slow store, a memory budget that other partitions use up, or a membership that has lapsed".to_owned()
        });
        Some((since, why))
    }
}

fn said(stage: Stage, trouble: &Hindrance) -> String {
    format!("{} fails: {}", stage.in_words(), trouble.why)
}

/// What the process's tasks said last. Times are since boot.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// How far it has come.
    pub phase: Phase,
    /// Since when it is there, or the membership is what it is.
    pub phase_at: Duration,
    /// When the main loop turned last.
    pub turned_at: Duration,
    /// Whether the group has spread its partitions over its members, this one among them.
    pub in_group: bool,
    /// The membership is valid until then.
    pub member_until: Duration,
    /// The group's generation.
    pub generation: i32,
    /// Each partition that is this process's.
    pub partitions: BTreeMap<i32, PartitionHealth>,
    troubles: BTreeMap<Stage, Hindrance>,
}

/// Something that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// `topic/partition`, or what else it is about.
    pub place: String,
    /// What is not handled yet begins there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Since when, RFC 3339.
    pub since: String,
    /// For how long.
    pub seconds: u64,
    /// What stands in the way.
    pub why: String,
}

/// The answer of `/readyz` and `/livez`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// All is well.
    pub ok: bool,
    /// Why it is not.
    pub reasons: Vec<Reason>,
    /// What fails, but does not stand in the way yet.
    pub notes: Vec<Reason>,
}

/// An instant, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since boot.
    pub since_boot: Duration,
    /// Milliseconds since the epoch.
    pub ms: i64,
}

impl Now {
    fn reason(self, place: &str, offset: Option<i64>, since: Duration, why: String) -> Reason {
        let lasted = self.since_boot.saturating_sub(since);
        let ago = i64::try_from(lasted.as_millis()).unwrap_or(i64::MAX);
        let since = clock::rfc3339_ms(self.ms.saturating_sub(ago));
        Reason { place: place.to_owned(), offset, since, seconds: lasted.as_secs(), why }
    }
}

impl Health {
    /// Of a process that begins at `now`.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { phase_at: now, turned_at: now, generation: -1, ..Self::default() }
    }

    /// Something fails, or (`None`) does no more: `partition`'s, or the process's.
    pub fn set(&mut self, partition: Option<(i32, u64)>, stage: Stage, hindrance: Option<Hindrance>) {
        let troubles = match partition {
            None => &mut self.troubles,
            Some((partition, number)) => {
                match self.partitions.get_mut(&partition).filter(|known| known.number == number) {
                    Some(known) => &mut known.troubles,
                    None => return,
                }
            }
        };
        match hindrance {
            Some(hindrance) => drop(troubles.insert(stage, hindrance)),
            None => drop(troubles.remove(&stage)),
        }
    }

    /// Whether the main loop turns.
    #[must_use]
    pub fn liveness(&self, now: Now) -> Report {
        let stuck = now.since_boot.saturating_sub(self.turned_at) > STUCK;
        let why = || now.reason("process", None, self.turned_at, "the main loop does not turn".to_owned());
        Report { ok: !stuck, reasons: stuck.then(why).into_iter().collect(), notes: Vec::new() }
    }

    /// Whether `topic` gets on; a partition may be at one thing for `limit`.
    #[must_use]
    pub fn readiness(&self, topic: &str, now: Now, limit: Duration) -> Report {
        let mut reasons = Vec::new();
        let mut notes = Vec::new();
        for (stage, trouble) in &self.troubles {
            let blocks = trouble.permanent || (trouble.told && !stage.can_wait());
            let reason = now.reason(topic, None, trouble.since, said(*stage, trouble));
            if blocks && *stage != Stage::Commit { reasons.push(reason) } else { notes.push(reason) }
        }
        let since =
            if self.phase == Phase::Share && self.in_group { self.member_until } else { self.phase_at };
        let waits = match self.phase {
            Phase::Topic => Some("the topic has not been found yet"),
            Phase::Claim => Some("the folder in the bucket has not been claimed yet"),
            Phase::Stop => Some("the process is stopping: what is held is being stored"),
            Phase::Share if !self.in_group => {
                Some("not in the group yet: it has not spread its partitions over its members")
            }
            Phase::Share if now.since_boot >= self.member_until => Some(
                "the membership in the group has lapsed: no heartbeat was acknowledged for KAFKA_SESSION_TIMEOUT, and nothing is stored before one is",
            ),
            Phase::Share => None,
        };
        reasons.extend(waits.map(|why| now.reason(topic, None, since, why.to_owned())));
        for (partition, health) in &self.partitions {
            let place = format!("{topic}/{partition}");
            let offset = health.offsets.map(|offsets| offsets.handled);
            match health.standstill(now.since_boot, limit) {
                Some((since, why)) => reasons.push(now.reason(&place, offset, since, why)),
                None => {
                    notes.extend(health.troubles().map(|(stage, trouble)| {
                        now.reason(&place, offset, trouble.since, said(stage, trouble))
                    }))
                }
            }
        }
        Report { ok: reasons.is_empty(), reasons, notes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(120);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn now(seconds: u64) -> Now {
        Now { since_boot: at(seconds), ms: i64::try_from(seconds * 1_000).unwrap() }
    }

    /// A member that has been given `partitions` at 0.
    fn sharing(partitions: i32) -> Health {
        Health {
            phase: Phase::Share,
            in_group: true,
            member_until: at(1_000_000),
            partitions: (0..partitions)
                .map(|partition| (partition, PartitionHealth::new(0, at(0))))
                .collect(),
            ..Health::default()
        }
    }

    fn stands(health: &mut Health, partition: i32, handled: i64, end: i64, at_second: u64) {
        let offsets = Offsets { tail: handled, handled, end, oldest_ms: None };
        health.partitions.get_mut(&partition).unwrap().stands(offsets, at(at_second));
    }

    fn trouble(since: u64, permanent: bool, told: bool) -> Option<Hindrance> {
        Some(Hindrance { since: at(since), permanent, told, why: "no".to_owned() })
    }

    fn unready(health: &Health, seconds: u64) -> Vec<String> {
        let report = health.readiness("t", now(seconds), LIMIT);
        assert_eq!(report.ok, report.reasons.is_empty());
        report.reasons.into_iter().map(|reason| format!("{}: {}", reason.place, reason.why)).collect()
    }

    #[test]
    fn a_start_is_unready_until_the_group_has_spread_its_partitions() {
        let mut health = Health::default();
        for phase in [Phase::Topic, Phase::Claim, Phase::Share, Phase::Stop] {
            health.phase = phase;
            assert_eq!(unready(&health, 1).len(), 1, "{phase:?}");
        }
        let mut health = sharing(0);
        assert!(unready(&health, 1).is_empty(), "a member with no partitions is ready");
        health.member_until = at(10);
        assert!(unready(&health, 9).is_empty());
        assert!(unready(&health, 10)[0].contains("lapsed"));
        assert_eq!(health.readiness("t", now(25), LIMIT).reasons[0].seconds, 15);
    }

    #[test]
    fn a_partition_that_stands_still_is_named_with_its_offset() {
        let mut health = sharing(2);
        stands(&mut health, 0, 7, 7, 0);
        stands(&mut health, 1, 12, 20, 5);
        stands(&mut health, 1, 12, 25, 100);
        assert!(unready(&health, 125).is_empty());
        let report = health.readiness("t", now(126), LIMIT);
        assert_eq!(report.reasons.len(), 1);
        let reason = &report.reasons[0];
        assert_eq!(
            (reason.place.as_str(), reason.offset, reason.seconds, reason.since.as_str()),
            ("t/1", Some(12), 121, "1970-01-01T00:00:05.000Z")
        );
        stands(&mut health, 1, 25, 25, 127);
        assert!(unready(&health, 10_000).is_empty(), "with nothing to store nothing can be late");
    }

    #[test]
    fn a_backlog_that_is_worked_through_is_no_standstill() {
        let mut health = sharing(1);
        for second in 0..1_000 {
            stands(&mut health, 0, i64::try_from(second).unwrap(), 1 << 40, second);
            assert!(unready(&health, second).is_empty());
        }
        assert_eq!(unready(&health, 999 + 121).len(), 1);
    }

    #[test]
    fn a_partition_is_late_from_when_its_first_record_was_seen() {
        let mut health = sharing(1);
        stands(&mut health, 0, 5, 5, 0);
        stands(&mut health, 0, 5, 5, 500);
        stands(&mut health, 0, 5, 6, 501);
        assert!(unready(&health, 501 + 120).is_empty());
        assert_eq!(unready(&health, 501 + 121).len(), 1);
    }

    #[test]
    fn what_needs_a_person_is_unready_at_once_and_what_may_pass_is_not() {
        for (stage, permanent, told, expected) in [
            (Stage::Put, true, true, 1),
            (Stage::Put, false, true, 0),
            (Stage::Quarantine, false, true, 0),
            (Stage::Fetch, false, false, 0),
            (Stage::Fetch, false, true, 1),
            (Stage::Fetch, true, true, 1),
            (Stage::Confirm, false, true, 1),
            (Stage::Locate, true, true, 1),
        ] {
            let mut health = sharing(1);
            stands(&mut health, 0, 5, 6, 0);
            health.set(Some((0, 0)), stage, trouble(0, permanent, told));
            let report = health.readiness("t", now(10), LIMIT);
            assert_eq!(report.reasons.len(), expected, "{stage:?} {permanent} {told}");
            assert_eq!(report.reasons.len() + report.notes.len(), 1, "it is said all the same");
            assert!(
                unready(&health, 121)[0].contains("fails: no"),
                "a late partition says what it waits for"
            );
            health.set(Some((0, 0)), stage, None);
            assert!(unready(&health, 10).is_empty());
        }
    }

    #[test]
    fn commits_that_fail_are_a_note_and_a_group_that_fails_is_a_reason() {
        let mut health = sharing(0);
        health.set(None, Stage::Commit, trouble(0, true, true));
        assert!(
            health.readiness("t", now(9), LIMIT).ok && health.readiness("t", now(9), LIMIT).notes.len() == 1
        );
        health.set(None, Stage::Group, trouble(0, false, true));
        assert_eq!(unready(&health, 9).len(), 1);
    }

    #[test]
    fn a_trouble_of_an_earlier_assignment_is_nobodys() {
        let mut health = sharing(1);
        health.set(Some((0, 9)), Stage::Put, trouble(0, true, true));
        health.set(Some((4, 0)), Stage::Put, trouble(0, true, true));
        assert!(unready(&health, 1).is_empty());
    }

    #[test]
    fn a_partition_whose_place_is_never_found_is_late_too() {
        let health = sharing(1);
        assert!(unready(&health, 120).is_empty());
        assert_eq!(unready(&health, 121).len(), 1);
    }

    #[test]
    fn a_main_loop_that_stands_still_is_not_live() {
        let health = Health { turned_at: at(100), ..Health::default() };
        assert!(health.liveness(now(130)).ok);
        let report = health.liveness(now(131));
        assert!(!report.ok && report.reasons[0].seconds == 31);
    }
}
