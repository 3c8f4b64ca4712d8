//! A member at work: performs what [`Member`] asks for, commits what is on the [`Board`], and tells the service whose
//! turn it is.
//!
//! ```text
//! Coordinator <--requests, heartbeats-- Session --Turn--> service (starts and ends partitions)
//!             <--commits, one a second--   |  ^--released, stopping, leave--
//!                                        Lease, Board (shared with partitions)
//! ```
//!
//! At most one request, one heartbeat, one commit and one question for commits are under way, side by side.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use coinduit_common::{
    alert::{Alert, AlertKind, Alerts},
    clock::{Clock, millis},
    kafka::{
        error::KafkaError,
        group::{Committed as CommittedOffset, Identity, JoinAnswer, Offset},
    },
    report::Chain,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    board::Board,
    coordinator::Coordinator,
    event::{Action, Event, Lost},
    lease::Lease,
    member::{Member, Setting},
};
use crate::{
    error::Fatal,
    health::Stage,
    identity::{Confirm, IdentityError},
    ledger::{
        commit::{CommitMetadata, LedgerId},
        resume::Committed,
    },
    partition::progress::CommitPoint,
    patience::Patience,
    pending::{Pending, done},
    vitals::Vitals,
};

/// Commits that nobody waits for are collected for so long.
const COLLECT: Duration = Duration::from_secs(1);

/// What the service has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Begin with these partitions, from what the group knows of each. Perhaps none: the group has spread all of them.
    Assigned(Vec<(i32, Committed)>),
    /// Store what these hold, then call [`Session::released`].
    Revoked(Vec<i32>),
    /// Drop what all of them hold: they may be others' by now.
    Lost,
    /// The membership is over.
    Left,
}

/// What a session works with.
#[derive(Clone)]
pub struct Parts {
    /// Whom to ask.
    pub coordinator: Arc<dyn Coordinator>,
    /// Whether the topic is still the same.
    pub topic: Arc<dyn Confirm>,
    /// Which objects commits are about.
    pub ledger: LedgerId,
    /// What partitions want committed.
    pub board: Arc<Board>,
    /// What partitions look at before they put.
    pub lease: Arc<Lease>,
    /// What time it is.
    pub clock: Clock,
    /// Whom to tell.
    pub alerts: Alerts,
    /// Who shows how it stands.
    pub vitals: Arc<Vitals>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

/// One membership, from the first join to the end.
pub struct Session {
    parts: Parts,
    setting: Setting,
    member: Member,
    request: Pending<Event>,
    beat: Pending<Event>,
    commit: Pending<CommitAnswer>,
    wishes: watch::Receiver<u64>,
    /// Until then commits that nobody waits for are collected.
    collect_until: Duration,
    /// No commit before this: the last one failed.
    retry_commit_at: Duration,
    /// Assigned, but what is committed for them is not known yet.
    unknown: BTreeSet<i32>,
    committed: Pending<Result<Vec<CommittedOffset>, KafkaError>>,
    ask_committed_at: Duration,
    turns: VecDeque<Turn>,
    patience: Patience,
    commit_patience: Patience,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("member", &self.member).finish_non_exhaustive()
    }
}

/// What became of a commit.
struct CommitAnswer {
    identity: Identity,
    points: Vec<(i32, CommitPoint)>,
    outcome: Result<Vec<(i32, KafkaError)>, CommitError>,
}

#[derive(Debug, thiserror::Error)]
enum CommitError {
    #[error(transparent)]
    Topic(IdentityError),
    #[error(transparent)]
    Kafka(KafkaError),
}

impl Session {
    /// A session that has not begun.
    #[must_use]
    pub fn new(setting: Setting, parts: Parts) -> Self {
        let Parts { alerts, clock, vitals, .. } = &parts;
        let place = format!("group {}", setting.group);
        let patience = |stage| Patience::new(alerts, clock, &place, vitals.slot(stage));
        Self {
            patience: patience(Stage::Group),
            commit_patience: patience(Stage::Commit),
            member: Member::new(setting.clone()),
            setting,
            request: None,
            beat: None,
            commit: None,
            wishes: parts.board.wishes(),
            collect_until: Duration::ZERO,
            retry_commit_at: Duration::ZERO,
            unknown: BTreeSet::new(),
            committed: None,
            ask_committed_at: Duration::ZERO,
            turns: VecDeque::new(),
            parts,
        }
    }

    /// Works until the service has something to do.
    ///
    /// # Errors
    /// [`Fatal`].
    ///
    /// # Cancel safety
    /// What is under way stays so, and goes on with the next call.
    pub async fn next(&mut self) -> Result<Turn, Fatal> {
        loop {
            if let Some(turn) = self.turns.pop_front() {
                return Ok(turn);
            }
            let now = self.now();
            self.begin_commit(now);
            self.begin_committed(now);
            let wake_at = self.wake_at(now);
            tokio::select! {
                biased;
                event = done(&mut self.request) => {
                    self.request = None;
                    self.feed(event)?;
                }
                event = done(&mut self.beat) => {
                    self.beat = None;
                    self.feed(event)?;
                }
                answer = done(&mut self.commit) => {
                    self.commit = None;
                    self.committed_or_not(answer)?;
                }
                answer = done(&mut self.committed) => {
                    self.committed = None;
                    self.known(answer)?;
                }
                changed = self.wishes.changed() => changed.expect("the session holds the board"),
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => self.feed(Event::Tick)?,
            }
        }
    }

    /// Everything that the last [`Turn::Revoked`] named is stored or dropped.
    ///
    /// # Errors
    /// [`Fatal`].
    pub fn released(&mut self) -> Result<(), Fatal> {
        self.feed(Event::Released)
    }

    /// The topic has this many partitions now.
    ///
    /// # Errors
    /// [`Fatal`].
    pub fn partitions(&mut self, count: i32) -> Result<(), Fatal> {
        if self.member.has_to_share_again(count) {
            info!(
                group = self.setting.group,
                partitions = count,
                "not all partitions are somebody's: the group shares them again"
            );
        }
        self.feed(Event::Partitions(count))
    }

    /// The process ends soon: heartbeats and commits go on, partitions come and go no more.
    ///
    /// # Errors
    /// [`Fatal`].
    pub fn stopping(&mut self) -> Result<(), Fatal> {
        self.unknown.clear();
        self.committed = None;
        self.turns.retain(|turn| matches!(turn, Turn::Lost | Turn::Left));
        self.feed(Event::Stopping)
    }

    /// Leaves the group; [`Turn::Left`] follows.
    ///
    /// # Errors
    /// [`Fatal`].
    pub fn leave(&mut self) -> Result<(), Fatal> {
        self.feed(Event::Leave)
    }

    fn now(&self) -> Duration {
        self.parts.clock.since_boot()
    }

    fn wake_at(&self, now: Duration) -> Option<Instant> {
        let commit = (self.commit.is_none() && self.member.may_commit() && self.parts.board.has_wishes())
            .then(|| self.commit_at());
        let ask = (self.committed.is_none() && !self.unknown.is_empty()).then_some(self.ask_committed_at);
        let first = self.member.wake_at().into_iter().chain(commit).chain(ask).min()?;
        Some(Instant::now() + first.saturating_sub(now))
    }

    /// When the next commit may leave.
    fn commit_at(&self) -> Duration {
        if self.parts.board.is_urgent() {
            self.retry_commit_at
        } else {
            self.retry_commit_at.max(self.collect_until)
        }
    }

    /// Lets the member decide, and does what it says.
    fn feed(&mut self, event: Event) -> Result<(), Fatal> {
        let now = self.now();
        self.watch(&event);
        let actions = self.member.on(event, now);
        self.parts.lease.set(self.member.alive_until());
        self.parts.vitals.member(self.member.alive_until(), self.member.identity().generation);
        self.parts.board.close(self.member.releases_uncommitted());
        actions.into_iter().try_for_each(|action| self.perform(action))
    }

    /// Tells people when the coordinator is away for long.
    fn watch(&mut self, event: &Event) {
        if let Event::Joined(Ok(JoinAnswer::Joined(joined))) = event {
            self.parts.vitals.metrics().rebalanced();
            debug!(
                group = self.setting.group,
                generation = joined.generation,
                member = joined.member_id,
                leader = joined.leader,
                "joined"
            );
        }
        let error = match event {
            Event::Found(Err(error))
            | Event::Joined(Err(error))
            | Event::Described(Err(error))
            | Event::Synced(Err(error))
            | Event::Beaten { answer: Err(error), .. }
            | Event::Refused { error, .. } => error,
            Event::Joined(Ok(_)) | Event::Synced(Ok(_)) | Event::Beaten { .. } => {
                self.patience.over();
                return;
            }
            _ => return,
        };
        let expected = error.code().is_some_and(is_part_of_the_protocol);
        let causes = Chain(error).to_string();
        if expected {
            debug!(group = self.setting.group, answer = causes, "the coordinator says");
            return;
        }
        if error.code().is_some_and(is_a_move) {
            info!(group = self.setting.group, answer = causes, "the group's coordinator moves, trying again");
        } else {
            warn!(
                group = self.setting.group,
                error = causes,
                "the group's coordinator does not do its part, trying again"
            );
        }
        let advice = "check that the brokers run and can be reached, and that this user may read the group; it is tried again for ever, and nothing is lost";
        let place = format!("group {}", self.setting.group);
        // The member decides when.
        self.patience.begins();
        let _wait = self
            .patience
            .count_as(!error.is_retryable(), Alert::new(AlertKind::KafkaFailed, place, causes, advice));
    }

    fn perform(&mut self, action: Action) -> Result<(), Fatal> {
        let coordinator = Arc::clone(&self.parts.coordinator);
        match action {
            Action::Find => {
                self.request = Some(Box::pin(async move { Event::Found(coordinator.find().await) }))
            }
            Action::Join(join) => {
                debug!(
                    group = self.setting.group,
                    generation = join.identity.generation,
                    reason = join.reason,
                    "joining"
                );
                self.request = Some(Box::pin(async move { Event::Joined(coordinator.join(&join).await) }));
            }
            Action::Describe(topics) => {
                self.request =
                    Some(Box::pin(async move { Event::Described(coordinator.partitions(&topics).await) }));
            }
            Action::Sync(sync) => {
                self.request = Some(Box::pin(async move { Event::Synced(coordinator.sync(&sync).await) }));
            }
            Action::Leave(identity) => {
                self.request = Some(Box::pin(async move { Event::Left(coordinator.leave(&identity).await) }));
            }
            Action::Beat(identity) => {
                let sent_at = self.now();
                self.beat = Some(Box::pin(async move {
                    let answer = coordinator.heartbeat(&identity).await;
                    Event::Beaten { identity, sent_at, answer }
                }));
            }
            Action::Assign(partitions) => {
                info!(
                    group = self.setting.group,
                    generation = self.member.identity().generation,
                    assignor = self.member.protocol(),
                    added = ?partitions,
                    "partitions assigned"
                );
                self.parts.vitals.in_group(true);
                if partitions.is_empty() {
                    self.turns.push_back(Turn::Assigned(Vec::new()));
                }
                self.unknown.extend(partitions);
                self.committed = None;
            }
            Action::Revoke(partitions) => {
                info!(
                    group = self.setting.group,
                    ?partitions,
                    "partitions to be given up: storing what they hold"
                );
                self.unknown.retain(|partition| !partitions.contains(partition));
                self.committed = None;
                self.turns.push_back(Turn::Revoked(partitions));
            }
            Action::Lose(why) => {
                self.parts.vitals.in_group(false);
                let why = match why {
                    Lost::Forgotten => "the coordinator took this member for dead",
                    Lost::LeftBehind => "the group went on without this member",
                };
                warn!(
                    group = self.setting.group,
                    why, "partitions lost: what they hold is dropped, and read again by whoever has them"
                );
                self.unknown.clear();
                self.committed = None;
                self.turns.push_back(Turn::Lost);
            }
            Action::Gone => {
                self.request = None;
                self.beat = None;
                self.turns.push_back(Turn::Left);
            }
            Action::Fail(error) => return Err(Fatal::Group(error)),
        }
        Ok(())
    }

    /// Asks what is committed for the partitions that were assigned.
    fn begin_committed(&mut self, now: Duration) {
        if self.committed.is_some() || self.unknown.is_empty() || now < self.ask_committed_at {
            return;
        }
        let coordinator = Arc::clone(&self.parts.coordinator);
        let partitions: Vec<i32> = self.unknown.iter().copied().collect();
        self.committed = Some(Box::pin(async move { coordinator.committed(&partitions).await }));
    }

    fn known(&mut self, answer: Result<Vec<CommittedOffset>, KafkaError>) -> Result<(), Fatal> {
        let now = self.now();
        match answer {
            Ok(found) => {
                let unknown = std::mem::take(&mut self.unknown);
                let assigned = unknown.into_iter().map(|partition| {
                    let commit = found.iter().find(|commit| commit.partition == partition);
                    (partition, commit.map_or(Committed::Nothing, |commit| self.read(commit)))
                });
                let turn = Turn::Assigned(assigned.collect());
                self.turns.push_back(turn);
                Ok(())
            }
            Err(error) => {
                self.ask_committed_at = now + self.patience.peek();
                self.feed(Event::Refused { identity: self.member.identity().clone(), error })
            }
        }
    }

    fn read(&self, commit: &CommittedOffset) -> Committed {
        let ours = CommitMetadata::read(&commit.metadata).ok();
        match ours.filter(|ours| ours.ledger == self.parts.ledger) {
            Some(CommitMetadata { tail, skipped, quarantined, .. }) => {
                let leader_epoch = Some(commit.leader_epoch).filter(|epoch| *epoch >= 0);
                Committed::Ours { handled: commit.offset, tail, skipped, quarantined, leader_epoch }
            }
            None => Committed::Foreign { offset: commit.offset },
        }
    }

    /// Commits what partitions want, once the topic was shown to be the same later than what that rests on.
    fn begin_commit(&mut self, now: Duration) {
        let board = &self.parts.board;
        if self.commit.is_some() || !self.member.may_commit() || now < self.commit_at() {
            return;
        }
        let points = board.wanted();
        let Some(newest) = points.iter().map(|(_, point)| point.fetched_at).max() else { return };
        let offsets: Vec<Offset> =
            points.iter().map(|(partition, point)| self.offset(*partition, point)).collect();
        let (topic, coordinator) = (Arc::clone(&self.parts.topic), Arc::clone(&self.parts.coordinator));
        let identity = self.member.identity().clone();
        self.commit_patience.begins();
        let timing = self.parts.vitals.metrics().begin(Stage::Commit);
        self.commit = Some(Box::pin(async move {
            let outcome = match topic.confirm(newest).await {
                Ok(()) => coordinator.commit(&identity, &offsets).await.map_err(CommitError::Kafka),
                Err(error) => Err(CommitError::Topic(error)),
            };
            timing.done();
            CommitAnswer { identity, points, outcome }
        }));
    }

    fn offset(&self, partition: i32, point: &CommitPoint) -> Offset {
        let metadata = CommitMetadata {
            ledger: self.parts.ledger,
            tail: point.tail,
            skipped: point.skipped.clone(),
            quarantined: point.quarantined,
        };
        let leader_epoch = point.leader_epoch.unwrap_or(-1);
        Offset { partition, offset: point.handled, leader_epoch, metadata: metadata.to_string() }
    }

    fn committed_or_not(&mut self, answer: CommitAnswer) -> Result<(), Fatal> {
        let now = self.now();
        let CommitAnswer { identity, points, outcome } = answer;
        let refused = match outcome {
            Ok(refused) => refused,
            Err(CommitError::Topic(error @ IdentityError::Recreated { .. })) => {
                return Err(Fatal::TopicRecreated(error));
            }
            Err(error) => {
                self.commit_failed(&error, false, now);
                return match error {
                    CommitError::Kafka(error) => self.feed(Event::Refused { identity, error }),
                    CommitError::Topic(_) => Ok(()),
                };
            }
        };
        for (partition, point) in points {
            if refused.iter().all(|(refused, _)| *refused != partition) {
                debug!(partition, offset = point.handled, tail = point.tail, "offset committed");
                self.parts.board.acknowledge(partition, point);
            }
        }
        match refused.into_iter().next() {
            None => {
                self.collect_until = now + COLLECT;
                self.commit_patience.over();
                Ok(())
            }
            Some((_, error)) => {
                self.commit_failed(&error, !error.is_retryable(), now);
                self.feed(Event::Refused { identity, error })
            }
        }
    }

    /// Tells people when commits fail for long. Nothing is lost by that: the bucket is the truth.
    fn commit_failed(&mut self, error: &(dyn std::error::Error + 'static), permanent: bool, now: Duration) {
        let permanent = permanent && !self.is_rebalancing(error);
        let causes = Chain(error).to_string();
        let place = format!("group {}", self.setting.group);
        let advice = "objects are stored all the same, and nothing is lost; lag is shown too large until commits work. Check that the brokers run, and that this user may commit for the group";
        let alert = Alert::new(AlertKind::KafkaFailed, place, causes.as_str(), advice);
        let wait = self.commit_patience.count_as(permanent, alert);
        self.retry_commit_at = now + wait;
        debug!(
            group = self.setting.group,
            error = causes,
            wait_ms = millis(wait),
            "not committed, trying again"
        );
    }

    /// Whether it is an answer that every rebalance brings.
    fn is_rebalancing(&self, error: &(dyn std::error::Error + 'static)) -> bool {
        error.downcast_ref::<KafkaError>().and_then(KafkaError::code).is_some_and(is_part_of_the_protocol)
    }
}

/// Whether a broker says so while a group goes from one to another, or is made.
const fn is_a_move(code: kafka_protocol::ResponseError) -> bool {
    use kafka_protocol::ResponseError as Code;
    matches!(code, Code::CoordinatorLoadInProgress | Code::CoordinatorNotAvailable | Code::NotCoordinator)
}

/// Whether a coordinator says that in the normal course of things.
const fn is_part_of_the_protocol(code: kafka_protocol::ResponseError) -> bool {
    use kafka_protocol::ResponseError as Code;
    matches!(
        code,
        Code::RebalanceInProgress | Code::IllegalGeneration | Code::UnknownMemberId | Code::MemberIdRequired
    )
}
