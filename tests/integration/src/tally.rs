//! What happened in a crash test.

use crate::membership::{ASSIGNED, LOST};
use crate::program::events;

/// The consumer's word for a put that another writer has won.
pub const LOST_RACE: &str = "another writer's object stands there";

/// What happened in one arena, or in all of them.
#[derive(Debug, Default)]
pub struct Tally {
    /// Static members that were killed.
    pub killed_static: u64,
    /// Other members that were killed.
    pub killed_dynamic: u64,
    /// Members that stood still for longer than a session.
    pub paused: u64,
    /// Members that were told to stop.
    pub drained: u64,
    /// Told to stop, and could not store in time what they held: their membership was lost, for example.
    pub not_drained: u64,
    /// Members that were started.
    pub started: u64,
    /// Faults in the way of puts that were ordered.
    pub faults: u64,
    /// Puts whose name another writer's object had.
    pub races_lost: u64,
    /// Memberships that ended without the member.
    pub memberships_lost: u64,
    /// The groups' last generations.
    pub generations: u64,
    /// Objects at the end.
    pub objects: u64,
}

impl Tally {
    /// Adds what happened elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.killed_static += other.killed_static;
        self.killed_dynamic += other.killed_dynamic;
        self.paused += other.paused;
        self.drained += other.drained;
        self.not_drained += other.not_drained;
        self.started += other.started;
        self.faults += other.faults;
        self.races_lost += other.races_lost;
        self.memberships_lost += other.memberships_lost;
        self.generations += other.generations;
        self.objects += other.objects;
    }

    /// Takes in what one process has logged.
    ///
    /// # Panics
    /// When that is not a consumer's log.
    pub fn read(&mut self, log: &str) {
        let count = |phrase| u64::try_from(log.matches(phrase).count()).unwrap_or(u64::MAX);
        self.races_lost += count(LOST_RACE);
        self.memberships_lost += count(LOST);
        let generations = events(log, ASSIGNED).into_iter().filter_map(|event| event["generation"].as_u64());
        self.generations = self.generations.max(generations.max().unwrap_or(0));
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} kills ({} of static members), {} pauses, {} drains ({} not in time), {} starts, {} faulty puts, \
             {} generations, {} memberships lost, {} races lost, {} objects",
            self.killed_static + self.killed_dynamic,
            self.killed_static,
            self.paused,
            self.drained,
            self.not_drained,
            self.started,
            self.faults,
            self.generations,
            self.memberships_lost,
            self.races_lost,
            self.objects
        )
    }
}
