//! One group: who is in it, which generation, who waits for whom.
//!
//! ```text
//!          a member joins             all joined, or time is up           the leader's SyncGroup
//! Empty --------------------> PreparingRebalance ------------> CompletingRebalance ------------> Stable
//!   ^                          |    ^          a member joins, leaves or expires  |                |
//!   `---- nobody is left ------'    `---------------------------------------------'----------------'
//! ```

mod rebalance;
mod roster;

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;

use super::super::Settings;
use super::commits::Commits;
use super::member::Member;
use super::tickets::{Ticket, Tickets};
use super::view::GroupState;
use super::{JoinGroup, Sender, SyncGroup};

/// What a group may use when something happens to it.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now_ms: u64,
    pub(crate) settings: &'a Settings,
    pub(crate) tickets: &'a mut Tickets,
}

impl Context<'_> {
    fn after(&self, ms: u64) -> u64 {
        self.now_ms.saturating_add(ms)
    }
}

/// The coordinator's state of one group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    state: GroupState,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Ids that were given out and did not join yet.
    promised: BTreeMap<String, Promise>,
    /// Who has not sent SyncGroup in this generation.
    unsynced: BTreeSet<String>,
    /// While preparing a rebalance.
    phase: Option<JoinPhase>,
    /// When those of `unsynced` are removed.
    sync_until_ms: Option<u64>,
    commits: Commits,
}

#[derive(Debug)]
struct Promise {
    session_ms: u64,
    until_ms: u64,
}

#[derive(Debug)]
struct JoinPhase {
    until_ms: u64,
    first: Option<FirstPhase>,
}

/// The first join phase of an empty group lasts for a delay, which new members prolong.
#[derive(Debug)]
struct FirstPhase {
    delay_ms: u64,
    left_ms: u64,
    member_added: bool,
}

impl Group {
    pub(crate) fn with_commits(commits: Commits) -> Self {
        Self { commits, ..Self::default() }
    }

    pub(crate) fn commits(&self) -> &Commits {
        &self.commits
    }

    pub(crate) fn commits_mut(&mut self) -> &mut Commits {
        &mut self.commits
    }

    /// Whether nobody is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.state == GroupState::Empty
    }

    /// A JoinGroup. `member_id` is the one in the request, or a new one if that has none.
    pub(crate) fn join(
        &mut self,
        context: &mut Context<'_>,
        join: &JoinGroup,
        member_id: &str,
        ticket: Ticket,
    ) {
        if !self.can_take(join) {
            let error = ResponseError::InconsistentGroupProtocol;
            context.tickets.refuse_join(ticket, error, &join.member_id);
        } else if join.member_id.is_empty() {
            self.join_as_new(context, join, member_id, ticket);
        } else if self.promised.contains_key(member_id) {
            self.add(context, join, member_id, ticket);
        } else {
            self.join_again(context, join, ticket);
        }
    }

    fn join_as_new(&mut self, context: &mut Context<'_>, join: &JoinGroup, member_id: &str, ticket: Ticket) {
        let held_by = join.instance_id.as_ref().and_then(|instance| self.static_id(instance));
        if let Some(old) = held_by.map(str::to_owned) {
            self.replace_static(context, join, &old, member_id, ticket);
        } else if join.id_first && join.instance_id.is_none() {
            let until_ms = context.after(join.session_ms);
            let promise = Promise { session_ms: join.session_ms, until_ms };
            self.promised.insert(member_id.to_owned(), promise);
            context.tickets.refuse_join(ticket, ResponseError::MemberIdRequired, member_id);
        } else {
            self.add(context, join, member_id, ticket);
        }
    }

    /// A JoinGroup of a member that is known already, or should be.
    fn join_again(&mut self, context: &mut Context<'_>, join: &JoinGroup, ticket: Ticket) {
        let id = &join.member_id;
        let member = match self.find(id, join.instance_id.as_deref()) {
            Ok(member) => member,
            Err(error) => return context.tickets.refuse_join(ticket, error, id),
        };
        let unchanged = member.protocols == join.protocols;
        let is_leader = self.leader.as_ref() == Some(id);
        match self.state {
            GroupState::Empty => context.tickets.refuse_join(ticket, ResponseError::UnknownMemberId, id),
            // It may have missed the answer: it gets it again.
            GroupState::CompletingRebalance if unchanged => {
                context.tickets.joined(ticket, self.joined(id, is_leader));
            }
            // The leader asks for a rebalance by joining; the others need one only with other metadata.
            GroupState::Stable if unchanged && !is_leader => {
                context.tickets.joined(ticket, self.joined(id, false));
            }
            _ => {
                self.wait_for_generation(context, join, id, ticket);
                self.rebalance(context);
            }
        }
    }

    fn add(&mut self, context: &mut Context<'_>, join: &JoinGroup, id: &str, ticket: Ticket) {
        if let Some(first) = self.phase.as_mut().and_then(|phase| phase.first.as_mut()) {
            first.member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| id.to_owned());
        self.promised.remove(id);
        self.members.insert(id.to_owned(), Member::new(join, context.now_ms));
        self.wait_for_generation(context, join, id, ticket);
        self.rebalance(context);
    }

    /// A static member that has been restarted takes its own place, with another id; the old id is fenced.
    fn replace_static(
        &mut self,
        context: &mut Context<'_>,
        join: &JoinGroup,
        old: &str,
        id: &str,
        ticket: Ticket,
    ) {
        let Some(mut member) = self.members.remove(old) else { return };
        if let Some(waiting) = member.joining.take() {
            context.tickets.refuse_join(waiting, ResponseError::FencedInstanceId, old);
        }
        if let Some(waiting) = member.syncing.take() {
            context.tickets.synced(waiting, Err(ResponseError::FencedInstanceId));
        }
        member.client_id.clone_from(&join.client_id);
        member.is_new = false;
        member.is_alive(context.now_ms);
        self.members.insert(id.to_owned(), member);
        let leader = self.leader.clone().unwrap_or_default();
        let was_leader = leader == old;
        if was_leader {
            self.leader = Some(id.to_owned());
        }
        self.wait_for_generation(context, join, id, ticket);
        match self.state {
            GroupState::Stable if self.protocol == self.choose_protocol() => {
                if let Some(member) = self.members.get_mut(id) {
                    member.joining = None;
                }
                let mut joined = self.joined(id, was_leader && join.may_skip);
                if join.may_skip {
                    joined.skip_assignment = was_leader;
                } else {
                    // Who does not know of skipping must not take itself for the leader: a stable group
                    // throws its assignment away.
                    joined.leader = leader;
                }
                context.tickets.joined(ticket, joined);
            }
            // The leader may be assigning to the old id.
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare(context),
            GroupState::Empty | GroupState::PreparingRebalance => self.complete_if_all_joined(context),
        }
    }

    /// Notes what the member says now, and that it waits. An earlier JoinGroup of it that still waits came
    /// over another connection, which its client has given up; Kafka never answers it.
    fn wait_for_generation(&mut self, context: &mut Context<'_>, join: &JoinGroup, id: &str, ticket: Ticket) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.update(join);
        if let Some(earlier) = member.joining.replace(ticket) {
            context.tickets.refuse_join(earlier, ResponseError::RebalanceInProgress, id);
        }
    }

    pub(crate) fn sync(&mut self, context: &mut Context<'_>, sync: &SyncGroup, ticket: Ticket) {
        let id = &sync.sender.member_id;
        if let Err(error) = self.check_sync(sync) {
            return context.tickets.synced(ticket, Err(error));
        }
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            self.sync_until_ms = None;
        }
        if self.state == GroupState::Stable {
            let synced = self.synced(id);
            return context.tickets.synced(ticket, Ok(synced));
        }
        if let Some(earlier) = self.members.get_mut(id).and_then(|member| member.syncing.replace(ticket)) {
            context.tickets.synced(earlier, Err(ResponseError::RebalanceInProgress));
        }
        if self.leader.as_ref() == Some(id) {
            for (id, member) in &mut self.members {
                member.assignment = sync.assignments.get(id).cloned().unwrap_or_default();
            }
            self.state = GroupState::Stable;
            self.answer_syncs(context, None);
        }
    }

    fn check_sync(&self, sync: &SyncGroup) -> Result<(), ResponseError> {
        let differs = |theirs: &Option<String>, ours: &Option<String>| {
            theirs.is_some() && ours.is_some() && theirs != ours
        };
        if self.is_empty() {
            return Err(ResponseError::UnknownMemberId);
        }
        self.authenticate(&sync.sender)?;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        if self.state == GroupState::PreparingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        Ok(())
    }

    pub(crate) fn heartbeat(
        &mut self,
        context: &mut Context<'_>,
        sender: &Sender,
    ) -> Result<(), ResponseError> {
        self.authenticate(sender)?;
        self.sign_of_life(context, &sender.member_id);
        match self.state {
            GroupState::Empty => Err(ResponseError::UnknownMemberId),
            GroupState::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    pub(crate) fn leave(
        &mut self,
        context: &mut Context<'_>,
        leaving: &[(String, Option<String>)],
    ) -> Vec<Result<(), ResponseError>> {
        let mut any = false;
        let outcomes = leaving.iter().map(|(id, instance)| {
            let id = self.leaver(id, instance.as_deref())?;
            any = true;
            if self.promised.remove(&id).is_none() {
                self.remove(context, &id);
            }
            Ok(())
        });
        let outcomes = outcomes.collect();
        if any && !self.is_empty() {
            self.rebalance(context);
        }
        outcomes
    }

    /// The id of who leaves. An operator may remove a static member without knowing its id.
    fn leaver(&self, id: &str, instance: Option<&str>) -> Result<String, ResponseError> {
        if let (true, Some(instance)) = (id.is_empty(), instance) {
            return self.static_id(instance).map(str::to_owned).ok_or(ResponseError::UnknownMemberId);
        }
        if self.promised.contains_key(id) {
            return Ok(id.to_owned());
        }
        self.find(id, instance).map(|_| id.to_owned())
    }

    /// Whether `sender` may commit; if a member, it is alive.
    pub(crate) fn admit_commit(
        &mut self,
        context: &mut Context<'_>,
        sender: &Sender,
    ) -> Result<(), ResponseError> {
        if sender.generation < 0 && self.is_empty() {
            return Ok(());
        }
        // Without a name, as an operator does it: not while there are members.
        if sender.generation < 0 && sender.member_id.is_empty() && sender.instance_id.is_none() {
            return Err(ResponseError::UnknownMemberId);
        }
        self.authenticate(sender)?;
        if self.state == GroupState::CompletingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        self.sign_of_life(context, &sender.member_id);
        Ok(())
    }

    fn sign_of_life(&mut self, context: &Context<'_>, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.is_alive(context.now_ms);
        }
    }

    /// Removes a member, and tells it if it waits.
    fn remove(&mut self, context: &mut Context<'_>, id: &str) {
        let Some(mut member) = self.members.remove(id) else { return };
        if let Some(ticket) = member.joining.take() {
            context.tickets.refuse_join(ticket, ResponseError::UnknownMemberId, "");
        }
        if let Some(ticket) = member.syncing.take() {
            context.tickets.synced(ticket, Err(ResponseError::UnknownMemberId));
        }
        self.unsynced.remove(id);
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }
}
