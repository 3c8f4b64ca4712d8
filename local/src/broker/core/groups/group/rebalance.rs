//! Rebalances: how they begin, how they end, and what happens when time is up.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::super::member::Member;
use super::super::tickets::Tickets;
use super::super::view::GroupState;
use super::{Context, FirstPhase, Group, JoinPhase};

/// The least time between two looks at a join phase that nobody has come to: a rebalance time-out may be 0.
const MIN_POSTPONE_MS: u64 = 100;

impl Group {
    /// The next time at which something happens by itself.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        let members = self.members.values().filter_map(Member::expires_ms);
        let promises = self.promised.values().map(|promise| promise.until_ms);
        let phase = self.phase.as_ref().map(|phase| phase.until_ms);
        members.chain(promises).chain(phase).chain(self.sync_until_ms).min()
    }

    /// Does what is due at `context.now_ms`.
    pub(crate) fn fire(&mut self, context: &mut Context<'_>) {
        let now_ms = context.now_ms;
        let silent = |member: &Member| member.expires_ms().is_some_and(|until_ms| until_ms <= now_ms);
        while let Some(id) = self.members.iter().find(|(_, member)| silent(member)).map(|(id, _)| id.clone())
        {
            self.remove(context, &id);
            self.fewer_members(context);
        }
        let promises = self.promised.len();
        self.promised.retain(|_, promise| promise.until_ms > now_ms);
        let preparing = self.state == GroupState::PreparingRebalance;
        if self.promised.len() < promises && preparing && self.all_joined() {
            self.complete_join(context);
        }
        if self.phase.as_ref().is_some_and(|phase| phase.until_ms <= now_ms) {
            self.join_time_is_up(context);
        }
        if self.sync_until_ms.take_if(|until_ms| *until_ms <= now_ms).is_some() && !self.unsynced.is_empty() {
            for id in std::mem::take(&mut self.unsynced) {
                self.remove(context, &id);
            }
            self.prepare(context);
        }
    }

    /// After somebody has gone without a word.
    fn fewer_members(&mut self, context: &mut Context<'_>) {
        match self.state {
            GroupState::Empty => {}
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare(context),
            GroupState::PreparingRebalance if self.all_joined() => self.complete_join(context),
            GroupState::PreparingRebalance => {}
        }
    }

    fn all_joined(&self) -> bool {
        self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    /// After somebody has joined or left.
    pub(super) fn rebalance(&mut self, context: &mut Context<'_>) {
        if self.state == GroupState::PreparingRebalance {
            self.complete_if_all_joined(context);
        } else {
            self.prepare(context);
        }
    }

    pub(super) fn complete_if_all_joined(&mut self, context: &mut Context<'_>) {
        let first = self.phase.as_ref().is_some_and(|phase| phase.first.is_some());
        if self.state == GroupState::PreparingRebalance && !first && self.all_joined() {
            self.complete_join(context);
        }
    }

    /// Begins a join phase.
    pub(super) fn prepare(&mut self, context: &mut Context<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.members.values_mut().for_each(|member| member.assignment = Bytes::new());
            self.answer_syncs(context, Some(ResponseError::RebalanceInProgress));
        }
        self.unsynced.clear();
        self.sync_until_ms = None;
        let rebalance_ms = self.rebalance_ms();
        let before = std::mem::replace(&mut self.state, GroupState::PreparingRebalance);
        if before == GroupState::Empty {
            let delay_ms = context.settings.group_initial_delay_ms;
            let left_ms = rebalance_ms.saturating_sub(delay_ms);
            let first = FirstPhase { delay_ms, left_ms, member_added: false };
            self.phase = Some(JoinPhase { until_ms: context.after(delay_ms), first: Some(first) });
        } else {
            self.phase = Some(JoinPhase { until_ms: context.after(rebalance_ms), first: None });
            if self.all_joined() {
                self.complete_join(context);
            }
        }
    }

    fn join_time_is_up(&mut self, context: &mut Context<'_>) {
        let initial_ms = context.settings.group_initial_delay_ms;
        let now_ms = context.now_ms;
        if let Some(phase) = &mut self.phase
            && let Some(first) = &mut phase.first
            && first.member_added
            && first.left_ms > 0
        {
            let delay_ms = initial_ms.min(first.left_ms);
            first.left_ms = first.left_ms.saturating_sub(first.delay_ms);
            first.delay_ms = delay_ms;
            first.member_added = false;
            phase.until_ms = now_ms.saturating_add(delay_ms);
        } else {
            self.complete_join(context);
        }
    }

    /// Ends the join phase: those who came make the next generation, and static members who may still come.
    fn complete_join(&mut self, context: &mut Context<'_>) {
        let absent = |member: &Member| member.joining.is_none() && member.instance_id.is_none();
        while let Some(id) = self.members.iter().find(|(_, member)| absent(member)).map(|(id, _)| id.clone())
        {
            self.remove(context, &id);
        }
        if !self.elect_leader() && !self.members.is_empty() {
            let until_ms = context.after(self.rebalance_ms().max(MIN_POSTPONE_MS));
            self.phase = Some(JoinPhase { until_ms, first: None });
            return;
        }
        self.phase = None;
        self.unsynced.clear();
        self.generation = self.generation.saturating_add(1);
        self.protocol = self.choose_protocol();
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            return;
        }
        self.state = GroupState::CompletingRebalance;
        self.unsynced = self.members.keys().cloned().collect();
        self.sync_until_ms = Some(context.after(self.rebalance_ms()));
        for id in &self.unsynced.clone() {
            let joined = self.joined(id, self.leader.as_ref() == Some(id));
            let Some(member) = self.members.get_mut(id) else { continue };
            member.is_alive(context.now_ms);
            member.is_new = false;
            if let Some(ticket) = member.joining.take() {
                context.tickets.joined(ticket, joined);
            }
        }
    }

    /// A leader that did not come is replaced by one who did, if there is one.
    fn elect_leader(&mut self) -> bool {
        let came = |id: &String| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.leader.as_ref().is_some_and(came)
            && let Some(id) = self.members.keys().find(|id| came(id))
        {
            self.leader = Some(id.clone());
        }
        self.leader
            .as_ref()
            .is_some_and(|id| self.members.get(id).is_some_and(|member| member.joining.is_some()))
    }

    /// Answers every SyncGroup that waits: with the assignment, or with an error.
    pub(super) fn answer_syncs(&mut self, context: &mut Context<'_>, error: Option<ResponseError>) {
        let waiting: Vec<_> =
            self.members.iter().filter_map(|(id, member)| Some((id.clone(), member.syncing?))).collect();
        for (id, ticket) in waiting {
            let synced = error.map_or_else(|| Ok(self.synced(&id)), Err);
            context.tickets.synced(ticket, synced);
            if let Some(member) = self.members.get_mut(&id) {
                member.syncing = None;
                member.is_alive(context.now_ms);
            }
        }
    }

    /// Another broker's now: nobody waits here.
    pub(crate) fn hand_over(&mut self, tickets: &mut Tickets) {
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.joining.take() {
                tickets.refuse_join(ticket, ResponseError::NotCoordinator, id);
            }
            if let Some(ticket) = member.syncing.take() {
                tickets.synced(ticket, Err(ResponseError::NotCoordinator));
                self.unsynced.insert(id.clone());
            }
        }
    }

    /// Ours again: everybody has all its time.
    pub(crate) fn take_over(&mut self, now_ms: u64) {
        let rebalance_until_ms = now_ms.saturating_add(self.rebalance_ms());
        for member in self.members.values_mut() {
            member.is_new = false;
            member.is_alive(now_ms);
        }
        for promise in self.promised.values_mut() {
            promise.until_ms = now_ms.saturating_add(promise.session_ms);
        }
        if self.phase.is_some() {
            self.phase = Some(JoinPhase { until_ms: rebalance_until_ms, first: None });
        }
        if !self.unsynced.is_empty() {
            self.sync_until_ms = Some(rebalance_until_ms);
        }
    }
}
