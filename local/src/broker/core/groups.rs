//! The coordinator of Kafka's classic consumer groups: all groups, their clocks, the calls that wait.
//!
//! ```text
//! join, sync ... --> Groups --> Group (state machine) --> Tickets (answers to waiting calls)
//!                      |            ^
//!                      `- pass_time: what is due, in the order in which it is due
//! ```
//!
//! Time passes when somebody looks: each call first lets happen what was due before it, each thing at its
//! own moment, so that the outcome does not depend on how often somebody looks.
//!
//! Source: Kafka 4.1's `GroupMetadataManager` (classic groups); KIP-394 for member ids, KIP-345 for static
//! members, KIP-814 for leaders that come back.

mod commits;
mod group;
mod member;
mod tickets;
mod view;

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use uuid::Uuid;

pub use self::commits::{Commits, Committed};
use self::group::Context;
pub(crate) use self::group::Group;
pub use self::tickets::Ticket;
use self::tickets::Tickets;
pub(crate) use self::tickets::{Answer, Joined, Refusal, Synced};
pub use self::view::{GroupState, GroupView, MemberView};
use super::Settings;

/// A waiting call is looked at again after this time, should its group have no deadline.
const LOOK_AGAIN_MS: u64 = 60_000;

/// What a JoinGroup says.
#[derive(Debug, Clone)]
pub(crate) struct JoinGroup {
    /// Empty for who has none yet.
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) session_ms: u64,
    pub(crate) rebalance_ms: u64,
    pub(crate) protocol_type: String,
    /// Name and metadata, the most wanted first.
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// The client joins again with the id that it is given (KIP-394).
    pub(crate) id_first: bool,
    /// The client knows `skip_assignment` (KIP-814).
    pub(crate) may_skip: bool,
}

/// What a SyncGroup says.
#[derive(Debug, Clone)]
pub(crate) struct SyncGroup {
    pub(crate) sender: Sender,
    /// `None` from clients that do not say.
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignments: BTreeMap<String, Bytes>,
}

/// Who a member says it is.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) generation: i32,
}

/// All groups.
#[derive(Debug)]
pub struct Groups {
    by_id: BTreeMap<String, Group>,
    tickets: Tickets,
    /// Member ids are made of it and of how many there were.
    seed: Uuid,
    members: u64,
    /// Never goes back, even if a caller's clock does.
    now_ms: u64,
    /// The coordinator is another broker's at the moment.
    lost: bool,
    revision: u64,
}

impl Groups {
    /// No groups. `seed` makes the member ids: with the same one they come again, so a broker takes
    /// another at each start.
    pub fn new(seed: Uuid) -> Self {
        Self::restore(seed, BTreeMap::new())
    }

    /// Groups without members, with these commits.
    pub fn restore(seed: Uuid, commits: BTreeMap<String, Commits>) -> Self {
        let by_id = commits.into_iter().map(|(id, commits)| (id, Group::with_commits(commits))).collect();
        Self { by_id, tickets: Tickets::default(), seed, members: 0, now_ms: 0, lost: false, revision: 0 }
    }

    /// The commits of every group that has some.
    pub fn commits(&self) -> impl Iterator<Item = (&str, &Commits)> {
        let all = self.by_id.iter().map(|(id, group)| (id.as_str(), group.commits()));
        all.filter(|(_, commits)| !commits.is_empty())
    }

    /// Changes whenever waiting calls may have an answer, or another deadline.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Lets happen what is due.
    pub(crate) fn pass_time(&mut self, settings: &Settings, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        if self.lost {
            return;
        }
        for group in self.by_id.values_mut() {
            while let Some(due_ms) = group.deadline_ms().filter(|due_ms| *due_ms <= self.now_ms) {
                group.fire(&mut Context { now_ms: due_ms, settings, tickets: &mut self.tickets });
                self.revision += 1;
            }
        }
    }

    /// What a waiting call is told, or when to look again; `None` if the ticket was used up or given up.
    pub(crate) fn look(&mut self, ticket: Ticket) -> Option<Result<Answer, u64>> {
        if let Some(answer) = self.tickets.take(ticket) {
            return Some(Ok(answer));
        }
        let group = self.by_id.get(self.tickets.group(ticket)?);
        let until_ms = group.and_then(Group::deadline_ms);
        Some(Err(until_ms.unwrap_or(self.now_ms.saturating_add(LOOK_AGAIN_MS))))
    }

    /// Nobody waits for this call any more; its member stays.
    pub(crate) fn give_up(&mut self, ticket: Ticket) {
        self.tickets.give_up(ticket);
    }

    /// A member joins; the answer is behind the ticket, at once or later.
    pub(crate) fn join(&mut self, settings: &Settings, id: &str, join: &JoinGroup) -> Ticket {
        let ticket = self.tickets.issue(id);
        let session = settings.group_min_session_ms..=settings.group_max_session_ms;
        let refused = if self.lost {
            Some(ResponseError::NotCoordinator)
        } else if id.is_empty() {
            Some(ResponseError::InvalidGroupId)
        } else if !session.contains(&join.session_ms) {
            Some(ResponseError::InvalidSessionTimeout)
        } else if !self.by_id.contains_key(id) && !join.member_id.is_empty() {
            Some(ResponseError::UnknownMemberId)
        } else {
            None
        };
        if let Some(error) = refused {
            self.tickets.refuse_join(ticket, error, &join.member_id);
            return ticket;
        }
        let member_id = if join.member_id.is_empty() { self.make_id(join) } else { join.member_id.clone() };
        self.by_id.entry(id.to_owned()).or_default();
        self.with(settings, id, |group, context| group.join(context, join, &member_id, ticket));
        ticket
    }

    /// A member asks for its assignment, or a leader brings everybody's.
    pub(crate) fn sync(&mut self, settings: &Settings, id: &str, sync: &SyncGroup) -> Ticket {
        let ticket = self.tickets.issue(id);
        let checked = self.check(id);
        if let Err(error) = checked {
            self.tickets.synced(ticket, Err(error));
        } else if self.with(settings, id, |group, context| group.sync(context, sync, ticket)).is_none() {
            self.tickets.synced(ticket, Err(ResponseError::UnknownMemberId));
        }
        ticket
    }

    pub(crate) fn heartbeat(
        &mut self,
        settings: &Settings,
        id: &str,
        sender: &Sender,
    ) -> Result<(), ResponseError> {
        self.check(id)?;
        self.with(settings, id, |group, context| group.heartbeat(context, sender))
            .unwrap_or(Err(ResponseError::UnknownMemberId))
    }

    /// Removes members, each named by its id or by its instance id; each has an outcome of its own.
    pub(crate) fn leave(
        &mut self,
        settings: &Settings,
        id: &str,
        leaving: &[(String, Option<String>)],
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        self.check(id)?;
        let left = self.with(settings, id, |group, context| group.leave(context, leaving));
        Ok(left.unwrap_or_else(|| vec![Err(ResponseError::UnknownMemberId); leaving.len()]))
    }

    /// Whether `sender` may commit now; to be called before [`commit`](Self::commit). A member's commit is
    /// a sign of life.
    pub(crate) fn admit_commit(
        &mut self,
        settings: &Settings,
        id: &str,
        sender: &Sender,
    ) -> Result<(), ResponseError> {
        if self.lost {
            return Err(ResponseError::NotCoordinator);
        }
        if !self.by_id.contains_key(id) {
            if sender.generation >= 0 {
                return Err(ResponseError::IllegalGeneration);
            }
            self.by_id.insert(id.to_owned(), Group::default());
        }
        self.with(settings, id, |group, context| group.admit_commit(context, sender))
            .unwrap_or(Err(ResponseError::UnknownMemberId))
    }

    pub(crate) fn commit(&mut self, id: &str, topic: &str, partition: i32, committed: Committed) {
        let commits = self.by_id.entry(id.to_owned()).or_default().commits_mut();
        commits.entry(topic.to_owned()).or_default().insert(partition, committed);
    }

    /// A group's commits, for a client; none where there is no such group.
    pub(crate) fn fetch(&self, id: &str) -> Result<Option<&Commits>, ResponseError> {
        if self.lost {
            return Err(ResponseError::NotCoordinator);
        }
        Ok(self.by_id.get(id).map(Group::commits))
    }

    /// Every group, for a client.
    pub(crate) fn list(&self) -> Result<impl Iterator<Item = (&str, &Group)>, ResponseError> {
        if self.lost {
            return Err(ResponseError::NotCoordinator);
        }
        Ok(self.by_id.iter().map(|(id, group)| (id.as_str(), group)))
    }

    /// One group.
    pub(crate) fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id)
    }

    /// Removes a group's commits; says whether there were any.
    pub(crate) fn expire(&mut self, id: &str) -> bool {
        let Some(group) = self.by_id.get_mut(id) else { return false };
        !std::mem::take(group.commits_mut()).is_empty()
    }

    /// Removes the commits for a topic from all groups; says whether there were any.
    pub(crate) fn forget_topic(&mut self, topic: &str) -> bool {
        let mut any = false;
        for group in self.by_id.values_mut() {
            any |= group.commits_mut().remove(topic).is_some();
        }
        any
    }

    /// The coordinator goes to another broker: who waits is told so.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
        self.revision += 1;
        for group in self.by_id.values_mut() {
            group.hand_over(&mut self.tickets);
        }
    }

    /// The coordinator comes back with everything it had; all time-outs begin anew.
    pub(crate) fn regain(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        if std::mem::take(&mut self.lost) {
            self.revision += 1;
            self.by_id.values_mut().for_each(|group| group.take_over(self.now_ms));
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    #[cfg(test)]
    pub(crate) fn open_tickets(&self) -> usize {
        self.tickets.open()
    }

    /// What holds for each call of a member.
    fn check(&self, id: &str) -> Result<(), ResponseError> {
        if self.lost {
            Err(ResponseError::NotCoordinator)
        } else if id.is_empty() {
            Err(ResponseError::InvalidGroupId)
        } else {
            Ok(())
        }
    }

    /// Works on a group, if there is one, and lets happen what is due at once after that.
    fn with<T>(
        &mut self,
        settings: &Settings,
        id: &str,
        work: impl FnOnce(&mut Group, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let group = self.by_id.get_mut(id)?;
        let done = work(group, &mut Context { now_ms: self.now_ms, settings, tickets: &mut self.tickets });
        self.revision += 1;
        self.pass_time(settings, self.now_ms);
        Some(done)
    }

    /// A new member id, as Kafka writes them; the UUID is a function of the seed and of how many there were.
    fn make_id(&mut self, join: &JoinGroup) -> String {
        let uuid = Uuid::new_v5(&self.seed, &self.members.to_be_bytes());
        self.members += 1;
        format!("{}-{uuid}", join.instance_id.as_ref().unwrap_or(&join.client_id))
    }
}
