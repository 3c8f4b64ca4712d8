//! One member of a consumer group: the classic protocol as a state machine, (event, now) -> actions.
//!
//! ```text
//!          find            join             describe, sync
//! Joining ------> Joining -------> Syncing ---------------> Stable --heartbeat: rebalance--> Joining
//!                    ^                                        |
//!                    +---- released <---- Releasing <---------+  (what it has to give up comes first)
//! ```
//!
//! The assignor that the members agreed on decides how partitions change hands. With `range` (eager) a member
//! gives everything up before it joins again. With `cooperative-sticky` it joins with what it owns, is told what
//! to give up, gives it up, and joins once more, so that a partition moves only between two rounds
//! (KIP-429). Either way a partition counts as owned until whoever works on it has stored or dropped what it
//! holds ([`Event::Released`]); heartbeats go on meanwhile. That second round is up to whoever gave something up; should
//! it never come, the leader begins it ([`Member::has_to_share_again`]).
//!
//! The member's identity (member id and generation) outlives the coordinator: when that moves to another
//! broker, it is looked up again and everything goes on without a rebalance. An answer counts only if it is
//! about the identity that the member has now: a heartbeat of the old generation, answered in the middle of
//! the member's own join, says nothing.
//!
//! Source: Kafka's protocol guide, "Group Membership API"; KIP-345 (static members), KIP-394 (member ids), KIP-429
//! (cooperative rebalancing), KIP-792 (generations of claims).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use coinduit_common::{
    kafka::{
        error::KafkaError,
        group::{Identity, Join, JoinAnswer, Joined, Sync},
    },
    retry::RetryPolicy,
};
use kafka_protocol::ResponseError as Code;

use super::{
    assignor::{self, COOPERATIVE_STICKY, PREFERENCE},
    event::{Action, Event, GroupError, Lost},
    subscription::{Subscription, decode_assignment, encode_assignment},
};

/// Waits between attempts at what may pass.
const POLICY: RetryPolicy = RetryPolicy { first: Duration::from_millis(100), most: Duration::from_secs(5) };
/// The wait before another attempt at what a person has to change.
const EVERY_MINUTE: Duration = Duration::from_secs(60);
/// So many heartbeats go into one session time-out, and no two are further apart than this.
const BEATS: u32 = 15;
const SLOWEST_BEAT: Duration = Duration::from_secs(3);

/// What does not change while a member lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The group's name.
    pub group: String,
    /// The static member's name, if it is one (KIP-345).
    pub instance_id: Option<String>,
    /// The topic whose partitions are wanted.
    pub topic: String,
    /// After so long without a heartbeat the coordinator takes the member for dead.
    pub session_timeout: Duration,
    /// So long the coordinator waits for members to give up partitions and join again.
    pub rebalance_timeout: Duration,
}

/// What the member is at.
#[derive(Debug)]
enum Phase {
    /// To join, or waiting for the answer.
    Joining,
    /// A leader that has to know the topics' partitions first.
    Describing(Joined),
    /// To sync, or waiting for the answer. The request left at `sent_at`.
    Syncing { sync: Sync, sent_at: Duration },
    /// A member with an assignment.
    Stable,
    /// Partitions are being given up; then on with that.
    Releasing(Then),
    /// On the way out: nothing new is begun.
    Stopping,
    /// To leave, or waiting for the answer.
    Leaving,
    /// No member any more.
    Gone,
}

#[derive(Debug)]
enum Then {
    Join,
    /// The group changed to an eager assignor while this member held partitions.
    Sync(Joined),
}

/// A member of a group.
#[derive(Debug)]
pub struct Member {
    setting: Setting,
    identity: Identity,
    phase: Phase,
    /// The assignor of the generation, or the last one.
    protocol: String,
    owned: BTreeSet<i32>,
    /// What is to be given up of it, until it is.
    leaving: BTreeSet<i32>,
    /// No partition is taken any more.
    stopping: bool,
    /// How many partitions of the topic this member, as leader, has given to members; -1 where its place was another
    /// process's that did, and nobody here knows.
    given_out: Option<i32>,
    coordinator_known: bool,
    /// A request is under way.
    asking: bool,
    /// No request before this.
    retry_at: Duration,
    failures: u32,
    beating: bool,
    beat_at: Duration,
    /// Surely a member until then.
    until: Duration,
}

impl Member {
    /// A member that has not begun: the first [`Event::Tick`] begins.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        let identity = Identity {
            group: setting.group.clone(),
            member_id: String::new(),
            instance_id: setting.instance_id.clone(),
            generation: -1,
        };
        Self {
            setting,
            identity,
            phase: Phase::Joining,
            protocol: String::new(),
            owned: BTreeSet::new(),
            leaving: BTreeSet::new(),
            stopping: false,
            given_out: None,
            coordinator_known: false,
            asking: false,
            retry_at: Duration::ZERO,
            failures: 0,
            beating: false,
            beat_at: Duration::ZERO,
            until: Duration::ZERO,
        }
    }

    /// Who it is to the coordinator.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Until when the coordinator surely takes it for alive: a session time-out after the sending of the last
    /// heartbeat that was acknowledged, on the clock of `now`.
    #[must_use]
    pub const fn alive_until(&self) -> Duration {
        self.until
    }

    /// Whether commits can be accepted now: it has an identity, the coordinator is known, and no sync is
    /// under way.
    #[must_use]
    pub const fn may_commit(&self) -> bool {
        self.identity.generation >= 0
            && self.coordinator_known
            && !matches!(self.phase, Phase::Describing(_) | Phase::Syncing { .. } | Phase::Gone)
            && !self.releases_uncommitted()
    }

    /// Whether it gives partitions up in the midst of a round: the group has changed to an eager assignor while it
    /// held them, and takes no commits before it has synced.
    #[must_use]
    pub const fn releases_uncommitted(&self) -> bool {
        matches!(self.phase, Phase::Releasing(Then::Sync(_)))
    }

    /// The assignor of its generation; empty before the first.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        let request = (!self.asking && self.wants_to_ask()).then_some(self.retry_at);
        let beat = (!self.beating && self.beats()).then_some(self.beat_at);
        request.into_iter().chain(beat).min()
    }

    /// Takes in what happened; returns what has to be done, in that order.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = match event {
            Event::Tick => Vec::new(),
            Event::Found(answer) => self.found(answer, now),
            Event::Joined(answer) => self.joined(answer, now),
            Event::Described(answer) => self.described(answer, now),
            Event::Synced(answer) => self.synced(answer, now),
            Event::Beaten { identity, sent_at, answer } => self.beaten(&identity, sent_at, answer, now),
            Event::Refused { identity, error } => self.sign(&identity, &error, now),
            Event::Released => self.released(),
            Event::Partitions(count) => self.partitions(count),
            Event::Stopping => self.stopping(),
            Event::Leave => self.leave(),
            Event::Left(_) => self.gone(),
        };
        if !actions.iter().any(|action| matches!(action, Action::Fail(_))) {
            actions.extend(self.ask(now));
            actions.extend(self.beat(now));
        }
        actions
    }

    /// The request that the phase asks for, if none is under way and it is time.
    fn ask(&mut self, now: Duration) -> Option<Action> {
        if self.asking || now < self.retry_at || !self.wants_to_ask() {
            return None;
        }
        let action = if self.coordinator_known {
            match &mut self.phase {
                Phase::Joining => Action::Join(self.join()),
                Phase::Describing(joined) => Action::Describe(topics_of(joined)),
                Phase::Syncing { sync, sent_at } => {
                    *sent_at = now;
                    Action::Sync(sync.clone())
                }
                Phase::Leaving => Action::Leave(self.identity.clone()),
                Phase::Stable | Phase::Releasing(_) | Phase::Stopping | Phase::Gone => return None,
            }
        } else {
            Action::Find
        };
        self.asking = true;
        Some(action)
    }

    fn wants_to_ask(&self) -> bool {
        match self.phase {
            Phase::Joining | Phase::Describing(_) | Phase::Syncing { .. } | Phase::Leaving => true,
            Phase::Stable | Phase::Releasing(_) | Phase::Stopping => !self.coordinator_known,
            Phase::Gone => false,
        }
    }

    fn beat(&mut self, now: Duration) -> Option<Action> {
        if self.beating || now < self.beat_at || !self.beats() {
            return None;
        }
        self.beating = true;
        Some(Action::Beat(self.identity.clone()))
    }

    fn beats(&self) -> bool {
        self.identity.generation >= 0
            && self.coordinator_known
            && !matches!(self.phase, Phase::Leaving | Phase::Gone)
    }

    fn join(&self) -> Join {
        let owned = &self.owned - &self.leaving;
        let protocols = PREFERENCE.iter().map(|name| {
            let claims = !owned.is_empty() && *name == COOPERATIVE_STICKY;
            let owned = claims.then(|| (self.setting.topic.clone(), owned.iter().copied().collect()));
            let subscription = Subscription {
                topics: vec![self.setting.topic.clone()],
                owned: owned.into_iter().collect(),
                generation: self.identity.generation,
                rack: None,
            };
            ((*name).to_owned(), subscription.encode(name))
        });
        Join {
            identity: self.identity.clone(),
            session_timeout: self.setting.session_timeout,
            rebalance_timeout: self.setting.rebalance_timeout,
            protocols: protocols.collect(),
            reason: if owned.is_empty() { "joining".to_owned() } else { "rebalance".to_owned() },
        }
    }

    fn found(&mut self, answer: Result<(), KafkaError>, now: Duration) -> Vec<Action> {
        self.asking = false;
        match answer {
            Ok(()) => {
                self.coordinator_known = true;
                self.failures = 0;
                // What the old coordinator has not heard, the new one hears at once.
                self.beat_at = now;
                Vec::new()
            }
            Err(error) => self.failed(&error, now),
        }
    }

    fn joined(&mut self, answer: Result<JoinAnswer, KafkaError>, now: Duration) -> Vec<Action> {
        if !matches!(self.phase, Phase::Joining) {
            return Vec::new();
        }
        self.asking = false;
        let joined = match answer {
            Ok(JoinAnswer::MemberIdRequired(member_id)) => {
                if !self.identity.member_id.is_empty() {
                    self.again(now);
                }
                self.identity.member_id = member_id;
                return Vec::new();
            }
            Ok(JoinAnswer::Joined(joined)) => joined,
            Err(error) => return self.own_request_failed(&error, now),
        };
        self.identity.member_id.clone_from(&joined.member_id);
        self.identity.generation = joined.generation;
        self.protocol.clone_from(&joined.protocol);
        self.beat_at = now + self.beat_interval();
        if !self.is_cooperative() && !self.owned.is_empty() {
            // The group has changed to an assignor that may give these to others at once.
            return self.revoke(self.owned.clone(), Then::Sync(joined));
        }
        self.go_on_to_sync(joined, now);
        Vec::new()
    }

    fn go_on_to_sync(&mut self, joined: Joined, now: Duration) {
        let leads = joined.leader == joined.member_id;
        self.given_out = (leads || self.led_before(&joined)).then_some(-1);
        if leads && !joined.skip_assignment {
            self.phase = Phase::Describing(joined);
        } else {
            self.phase = Phase::Syncing { sync: self.sync(Vec::new()), sent_at: now };
        }
    }

    /// Whether an earlier process of this static member leads: an answer before version 9, which can't say that the
    /// assignment stands, names that process and not this one, so that nobody assigns (KAFKA-7728).
    ///
    /// Source: `GroupMetadata.generateMemberId` of Kafka: a static member's id is its name, `-`, and a UUID.
    fn led_before(&self, joined: &Joined) -> bool {
        const UUID_CHARS: usize = 36;
        let name = self.setting.instance_id.as_deref();
        let rest = name.and_then(|name| joined.leader.strip_prefix(name)?.strip_prefix('-'));
        rest.is_some_and(|rest| rest.len() == UUID_CHARS)
    }

    fn sync(&self, assignments: Vec<(String, Bytes)>) -> Sync {
        Sync { identity: self.identity.clone(), protocol: self.protocol.clone(), assignments }
    }

    fn described(&mut self, answer: Result<BTreeMap<String, i32>, KafkaError>, now: Duration) -> Vec<Action> {
        self.asking = false;
        let Phase::Describing(joined) = &self.phase else { return Vec::new() };
        let partitions = match answer {
            Ok(partitions) => partitions,
            Err(error) => return self.failed(&error, now),
        };
        let Some(assigned) = assignor::assign(&joined.protocol, &members_of(joined), &partitions) else {
            let group = self.setting.group.clone();
            return vec![Action::Fail(GroupError::NoCommonAssignor { group })];
        };
        let assignments = assigned
            .iter()
            .map(|(member, assignment)| (member.clone(), encode_assignment(assignment)))
            .collect();
        let of_the_topic = assigned.values().filter_map(|assignment| assignment.get(&self.setting.topic));
        let given_out = of_the_topic.map(Vec::len).sum::<usize>();
        self.given_out = Some(i32::try_from(given_out).unwrap_or(i32::MAX));
        self.phase = Phase::Syncing { sync: self.sync(assignments), sent_at: now };
        Vec::new()
    }

    fn synced(&mut self, answer: Result<Bytes, KafkaError>, now: Duration) -> Vec<Action> {
        let Phase::Syncing { sent_at, .. } = self.phase else { return Vec::new() };
        self.asking = false;
        let assignment = match answer.map(|bytes| decode_assignment(&bytes)) {
            Ok(Some(assignment)) => assignment,
            Ok(None) => {
                let group = self.setting.group.clone();
                let problem = "what its leader assigned is not in Kafka's consumer protocol".to_owned();
                return vec![Action::Fail(GroupError::Protocol { group, problem })];
            }
            Err(error) => return self.own_request_failed(&error, now),
        };
        self.failures = 0;
        self.alive(sent_at);
        if self.stopping {
            self.phase = Phase::Stopping;
            return Vec::new();
        }
        let ours: BTreeSet<i32> =
            assignment.get(&self.setting.topic).into_iter().flatten().copied().collect();
        let revoked: BTreeSet<i32> = &self.owned - &ours;
        let added: Vec<i32> = (&ours - &self.owned).into_iter().collect();
        self.owned.extend(&added);
        self.phase = Phase::Stable;
        let mut actions = vec![Action::Assign(added)];
        if !revoked.is_empty() {
            actions.extend(self.revoke(revoked, Then::Join));
        }
        actions
    }

    fn beaten(
        &mut self,
        identity: &Identity,
        sent_at: Duration,
        answer: Result<(), KafkaError>,
        now: Duration,
    ) -> Vec<Action> {
        self.beating = false;
        self.beat_at = sent_at + self.beat_interval();
        match answer {
            Ok(()) => {
                if *identity == self.identity {
                    self.alive(sent_at);
                }
                Vec::new()
            }
            Err(error) if error.code() == Some(Code::RebalanceInProgress) => {
                if *identity != self.identity {
                    return Vec::new();
                }
                // The coordinator knows us, and waits for us to join again.
                self.alive(sent_at);
                if matches!(self.phase, Phase::Stable) { self.rejoin() } else { Vec::new() }
            }
            Err(error) => self.sign(identity, &error, now),
        }
    }

    /// An error in the answer to something else than the request under way.
    fn sign(&mut self, identity: &Identity, error: &KafkaError, now: Duration) -> Vec<Action> {
        match error.code() {
            Some(Code::FencedInstanceId) if identity.member_id == self.identity.member_id => {
                vec![Action::Fail(self.fenced())]
            }
            // The answer to the join or sync under way will say the same, or something newer.
            Some(Code::UnknownMemberId | Code::IllegalGeneration)
                if *identity != self.identity
                    || matches!(
                        self.phase,
                        Phase::Joining | Phase::Describing(_) | Phase::Syncing { .. } | Phase::Leaving
                    ) =>
            {
                Vec::new()
            }
            Some(Code::UnknownMemberId) => self.lose(Lost::Forgotten),
            Some(Code::IllegalGeneration) => self.lose(Lost::LeftBehind),
            Some(Code::RebalanceInProgress)
                if *identity == self.identity && matches!(self.phase, Phase::Stable) =>
            {
                self.rejoin()
            }
            Some(Code::NotCoordinator | Code::CoordinatorNotAvailable) => {
                self.coordinator_lost(now);
                Vec::new()
            }
            // Loading ends by itself; so does whatever else has a code.
            Some(_) => Vec::new(),
            None if is_hopeless(error) => vec![Action::Fail(self.protocol_error(error))],
            None => {
                self.coordinator_lost(now);
                Vec::new()
            }
        }
    }

    /// The join or sync under way brought an error.
    fn own_request_failed(&mut self, error: &KafkaError, now: Duration) -> Vec<Action> {
        let group = self.setting.group.clone();
        match error.code() {
            Some(Code::UnknownMemberId) => {
                self.again(now);
                self.lose(Lost::Forgotten)
            }
            Some(Code::IllegalGeneration) => {
                self.again(now);
                self.lose(Lost::LeftBehind)
            }
            // Another rebalance began before this one was complete.
            Some(Code::RebalanceInProgress) => {
                self.again(now);
                self.phase = if self.stopping { Phase::Stopping } else { Phase::Joining };
                Vec::new()
            }
            Some(Code::FencedInstanceId) => vec![Action::Fail(self.fenced())],
            Some(Code::InvalidSessionTimeout) => {
                let session_timeout = self.setting.session_timeout;
                vec![Action::Fail(GroupError::SessionTimeout { session_timeout })]
            }
            Some(Code::InconsistentGroupProtocol) => {
                vec![Action::Fail(GroupError::NoCommonAssignor { group })]
            }
            Some(Code::InvalidGroupId) => vec![Action::Fail(GroupError::InvalidName { group })],
            _ => self.failed(error, now),
        }
    }

    /// The next round begins at once, unless rounds fail one after the other.
    fn again(&mut self, now: Duration) {
        if self.failures > 0 {
            self.retry_at = now + POLICY.wait_at(self.failures, now);
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// A request failed in a way that may pass, or that a person can end without restarting this process.
    fn failed(&mut self, error: &KafkaError, now: Duration) -> Vec<Action> {
        self.failures = self.failures.saturating_add(1);
        let mut wait = POLICY.wait_at(self.failures, now);
        match error.code() {
            Some(Code::NotCoordinator | Code::CoordinatorNotAvailable) => self.coordinator_known = false,
            Some(Code::CoordinatorLoadInProgress) => {}
            // GROUP_AUTHORIZATION_FAILED, GROUP_MAX_SIZE_REACHED and the like.
            Some(_) if !error.is_retryable() => wait = EVERY_MINUTE,
            Some(_) => {}
            None if is_hopeless(error) => return vec![Action::Fail(self.protocol_error(error))],
            None => self.coordinator_known = false,
        }
        self.retry_at = now + wait;
        Vec::new()
    }

    fn coordinator_lost(&mut self, now: Duration) {
        if self.coordinator_known {
            self.coordinator_known = false;
            // Whatever was asked there is asked again of the new one.
            self.asking = false;
            self.failures = self.failures.saturating_add(1);
            self.retry_at = now + POLICY.wait_at(self.failures, now);
        }
    }

    fn released(&mut self) -> Vec<Action> {
        for partition in std::mem::take(&mut self.leaving) {
            self.owned.remove(&partition);
        }
        if let Phase::Releasing(then) = std::mem::replace(&mut self.phase, Phase::Joining) {
            match then {
                Then::Join => {}
                Then::Sync(joined) => self.go_on_to_sync(joined, Duration::ZERO),
            }
        }
        Vec::new()
    }

    /// Joins again, after giving up what has to be given up first.
    fn rejoin(&mut self) -> Vec<Action> {
        if self.is_cooperative() || self.owned.is_empty() {
            self.phase = Phase::Joining;
            return Vec::new();
        }
        self.revoke(self.owned.clone(), Then::Join)
    }

    fn revoke(&mut self, partitions: BTreeSet<i32>, then: Then) -> Vec<Action> {
        self.phase = Phase::Releasing(then);
        self.leaving.clone_from(&partitions);
        vec![Action::Revoke(partitions.into_iter().collect())]
    }

    fn lose(&mut self, why: Lost) -> Vec<Action> {
        if why == Lost::Forgotten {
            self.identity.member_id.clear();
        }
        self.identity.generation = -1;
        self.until = Duration::ZERO;
        let had = std::mem::take(&mut self.owned);
        self.leaving.clear();
        if !matches!(self.phase, Phase::Leaving | Phase::Gone) {
            self.phase = if self.stopping { Phase::Stopping } else { Phase::Joining };
        }
        if had.is_empty() { Vec::new() } else { vec![Action::Lose(why)] }
    }

    fn partitions(&mut self, count: i32) -> Vec<Action> {
        if self.has_to_share_again(count) { self.rejoin() } else { Vec::new() }
    }

    /// Whether this member has to let the group share the topic's `count` partitions again, because not just so many were
    /// given out. Some may have been added. Or one had to be given up first, and whoever had it never joined again for
    /// that: a static member that dies then and is back before its session ends is given its old place without a
    /// round, minus what it was to give up, and a partition stays with nobody while all hearts beat.
    #[must_use]
    pub fn has_to_share_again(&self, count: i32) -> bool {
        self.given_out.is_some_and(|given_out| given_out != count) && matches!(self.phase, Phase::Stable)
    }

    fn stopping(&mut self) -> Vec<Action> {
        self.stopping = true;
        match &self.phase {
            // A round that has begun is ended: the others wait for it, and commits are refused in its midst.
            Phase::Joining if self.asking => {}
            Phase::Describing(_) | Phase::Syncing { .. } | Phase::Leaving | Phase::Gone => {}
            Phase::Releasing(Then::Sync(_)) => return self.released(),
            Phase::Joining | Phase::Stable | Phase::Releasing(Then::Join) | Phase::Stopping => {
                self.phase = Phase::Stopping;
            }
        }
        Vec::new()
    }

    fn leave(&mut self) -> Vec<Action> {
        // A static member keeps its place until its session ends: it may be back before.
        if self.identity.member_id.is_empty() || self.identity.instance_id.is_some() {
            return self.gone();
        }
        self.phase = Phase::Leaving;
        self.asking = false;
        self.retry_at = Duration::ZERO;
        Vec::new()
    }

    fn gone(&mut self) -> Vec<Action> {
        self.phase = Phase::Gone;
        self.until = Duration::ZERO;
        vec![Action::Gone]
    }

    fn alive(&mut self, sent_at: Duration) {
        self.until = self.until.max(sent_at + self.setting.session_timeout);
    }

    fn is_cooperative(&self) -> bool {
        self.protocol == COOPERATIVE_STICKY
    }

    fn beat_interval(&self) -> Duration {
        (self.setting.session_timeout / BEATS).min(SLOWEST_BEAT)
    }

    fn fenced(&self) -> GroupError {
        GroupError::Fenced {
            group: self.setting.group.clone(),
            instance_id: self.setting.instance_id.clone().unwrap_or_default(),
        }
    }

    fn protocol_error(&self, error: &KafkaError) -> GroupError {
        GroupError::Protocol { group: self.setting.group.clone(), problem: error.to_string() }
    }
}

/// Whether no broker of that cluster will ever answer better.
fn is_hopeless(error: &KafkaError) -> bool {
    match error {
        KafkaError::Unsupported { .. } => true,
        KafkaError::Unreachable { source, .. } => is_hopeless(source),
        _ => false,
    }
}

/// The members as an assignor wants them. One whose subscription can't be read wants nothing.
fn members_of(joined: &Joined) -> Vec<assignor::Member> {
    let members = joined.members.iter().filter_map(|member| {
        let subscription = Subscription::decode(&member.metadata)?;
        Some(assignor::Member {
            id: member.member_id.clone(),
            instance_id: member.instance_id.clone(),
            subscription,
        })
    });
    members.collect()
}

/// All topics that the members want.
fn topics_of(joined: &Joined) -> Vec<String> {
    let topics: BTreeSet<String> =
        members_of(joined).into_iter().flat_map(|member| member.subscription.topics).collect();
    topics.into_iter().collect()
}

#[cfg(test)]
mod tests;
