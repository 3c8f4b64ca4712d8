//! Calls that wait for a group: each has a ticket, and behind the ticket the answer once there is one.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

/// A waiting JoinGroup or SyncGroup. No two calls of one broker have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What a call that waited is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To a JoinGroup.
    Join(Result<Joined, Refusal>),
    /// To a SyncGroup.
    Sync(Result<Synced, ResponseError>),
}

/// A member's place in a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    /// For the leader: everybody, with what each said under the chosen protocol.
    pub(crate) members: Vec<JoinedMember>,
    /// The leader's assignment would be thrown away, and it can save the work. Source: KIP-814.
    pub(crate) skip_assignment: bool,
}

/// A member as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) metadata: Bytes,
}

/// Why a member has no place, and the id that it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) error: ResponseError,
    pub(crate) member_id: String,
}

/// A member's assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

/// All waiting calls of the broker.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    issued: u64,
    open: BTreeMap<Ticket, Open>,
}

#[derive(Debug)]
struct Open {
    group: String,
    answer: Option<Answer>,
}

impl Tickets {
    /// A ticket for a call about `group`.
    pub(crate) fn issue(&mut self, group: &str) -> Ticket {
        self.issued += 1;
        let ticket = Ticket(self.issued);
        self.open.insert(ticket, Open { group: group.to_owned(), answer: None });
        ticket
    }

    /// Puts an answer behind a ticket; the first one counts. Nobody hears of it if the ticket was given up.
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(open) = self.open.get_mut(&ticket) {
            open.answer.get_or_insert(answer);
        }
    }

    pub(crate) fn joined(&mut self, ticket: Ticket, joined: Joined) {
        self.answer(ticket, Answer::Join(Ok(joined)));
    }

    pub(crate) fn refuse_join(&mut self, ticket: Ticket, error: ResponseError, member_id: &str) {
        let refusal = Refusal { error, member_id: member_id.to_owned() };
        self.answer(ticket, Answer::Join(Err(refusal)));
    }

    pub(crate) fn synced(&mut self, ticket: Ticket, synced: Result<Synced, ResponseError>) {
        self.answer(ticket, Answer::Sync(synced));
    }

    /// Takes the answer, if there is one; the ticket is used up then.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<Answer> {
        let answer = self.open.get_mut(&ticket)?.answer.take()?;
        self.open.remove(&ticket);
        Some(answer)
    }

    /// The group that a ticket is about; `None` for one that was used up or given up.
    pub(crate) fn group(&self, ticket: Ticket) -> Option<&str> {
        self.open.get(&ticket).map(|open| open.group.as_str())
    }

    /// Forgets a ticket that nobody waits for any more.
    pub(crate) fn give_up(&mut self, ticket: Ticket) {
        self.open.remove(&ticket);
    }

    /// How many calls wait or have an answer that was not fetched.
    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }
}
