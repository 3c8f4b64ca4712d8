//! What each partition wants the group to know, and what the group has acknowledged.
//!
//! ```text
//! partition --Place::want--> Board --Board::wanted--> session --OffsetCommit--> coordinator
//!           <--Place::acknowledged--      <--Board::acknowledge--
//! ```
//!
//! A place that is dropped takes its wish along: nothing is committed for a partition that was given up, or
//! it would overwrite what its next owner says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::partition::progress::CommitPoint;

/// All partitions of this process.
#[derive(Debug, Default)]
pub struct Board {
    entries: Mutex<Entries>,
    /// Counts wishes that are new or urgent.
    wishes: watch::Sender<u64>,
    /// Tells of acknowledgements, in the order of waiting, which `watch` leaves to chance.
    answers: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    of: BTreeMap<i32, Entry>,
    /// How many places were ever given: a task that was dropped may end after its successor has begun.
    places: u64,
    /// Nothing is acknowledged for now.
    closed: bool,
}

#[derive(Debug, Default)]
struct Entry {
    place: u64,
    wanted: Option<CommitPoint>,
    acknowledged: Option<CommitPoint>,
    /// Somebody waits for it.
    urgent: bool,
}

impl Entry {
    fn is_open(&self) -> bool {
        match (&self.wanted, &self.acknowledged) {
            (Some(wanted), Some(acknowledged)) => !wanted.says_the_same(acknowledged),
            (wanted, _) => wanted.is_some(),
        }
    }
}

/// One partition's place on the board.
#[derive(Debug)]
pub struct Place {
    board: Arc<Board>,
    partition: i32,
    number: u64,
}

/// How it stands with a wish.
enum State {
    Acknowledged,
    Refused,
    Open,
}

impl Board {
    /// A place for `partition`; an earlier one counts no more.
    #[must_use]
    pub fn place(self: &Arc<Self>, partition: i32) -> Place {
        let mut entries = self.entries();
        entries.places += 1;
        let number = entries.places;
        entries.of.insert(partition, Entry { place: number, ..Entry::default() });
        Place { board: Arc::clone(self), partition, number }
    }

    /// What is wanted and not acknowledged.
    #[must_use]
    pub fn wanted(&self) -> Vec<(i32, CommitPoint)> {
        let entries = self.entries();
        let open = entries.of.iter().filter(|(_, entry)| entry.is_open());
        open.filter_map(|(partition, entry)| Some((*partition, entry.wanted.clone()?))).collect()
    }

    /// Whether there is something to commit.
    #[must_use]
    pub fn has_wishes(&self) -> bool {
        self.entries().of.values().any(Entry::is_open)
    }

    /// Whether somebody waits for an acknowledgement.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.entries().of.values().any(|entry| entry.urgent && entry.is_open())
    }

    /// The group has `point` for `partition`.
    pub fn acknowledge(&self, partition: i32, point: CommitPoint) {
        if let Some(entry) = self.entries().of.get_mut(&partition) {
            entry.acknowledged = Some(point);
            entry.urgent &= entry.is_open();
        }
        self.answers.notify_waiters();
    }

    /// Whether the group takes no commits before partitions are given up: nobody waits for one meanwhile.
    pub fn close(&self, closed: bool) {
        let mut entries = self.entries();
        if entries.closed != closed {
            entries.closed = closed;
            drop(entries);
            self.answers.notify_waiters();
        }
    }

    /// Counts up when there is something to commit that was not there before, or it became urgent.
    #[must_use]
    pub fn wishes(&self) -> watch::Receiver<u64> {
        self.wishes.subscribe()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn own<'a>(&self, entries: &'a mut Entries) -> Option<&'a mut Entry> {
        entries.of.get_mut(&self.partition).filter(|entry| entry.place == self.number)
    }

    /// How it stands with what was wanted last; where an answer can come, it is urgent from now on.
    fn state(&self) -> State {
        let mut entries = self.board.entries();
        let closed = entries.closed;
        match self.own(&mut entries).filter(|entry| entry.is_open()) {
            None => State::Acknowledged,
            Some(_) if closed => State::Refused,
            Some(entry) => {
                entry.urgent = true;
                State::Open
            }
        }
    }

    /// The group shall know `point`, soon.
    pub fn want(&self, point: CommitPoint) {
        let mut entries = self.board.entries();
        let Some(entry) = self.own(&mut entries) else { return };
        if entry.wanted.as_ref().is_some_and(|wanted| wanted.says_the_same(&point)) {
            return;
        }
        entry.wanted = Some(point);
        drop(entries);
        self.board.wishes.send_modify(|count| *count += 1);
    }

    /// Waits until the group has acknowledged what was wanted last; `false` where it takes no commits before this
    /// partition is given up ([`Board::close`]).
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing back.
    pub async fn acknowledged(&self) -> bool {
        loop {
            let answered = self.board.answers.notified();
            match self.state() {
                State::Acknowledged => return true,
                State::Refused => return false,
                State::Open => {}
            }
            self.board.wishes.send_modify(|count| *count += 1);
            answered.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut entries = self.board.entries();
        if self.own(&mut entries).is_some() {
            entries.of.remove(&self.partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn point(handled: i64, fetched_at: u64) -> CommitPoint {
        CommitPoint {
            handled,
            tail: 0,
            skipped: Vec::new(),
            quarantined: 0,
            leader_epoch: None,
            fetched_at: Duration::from_secs(fetched_at),
        }
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_the_acknowledgement_of_the_latest() {
        let board = Arc::new(Board::default());
        let place = board.place(3);
        assert!(place.acknowledged().await);
        place.want(point(10, 1));
        place.want(point(20, 2));
        assert_eq!(board.wanted(), [(3, point(20, 2))]);
        assert!(!board.is_urgent());
        let waiting = place.acknowledged();
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending() && board.is_urgent());
        board.acknowledge(3, point(10, 1));
        assert!(futures::poll!(&mut waiting).is_pending());
        board.acknowledge(3, point(20, 2));
        assert!(waiting.await);
        assert!(board.wanted().is_empty() && !board.is_urgent());
    }

    #[tokio::test]
    async fn nobody_waits_while_commits_are_refused() {
        let board = Arc::new(Board::default());
        let place = board.place(3);
        place.want(point(10, 1));
        let waiting = place.acknowledged();
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        board.close(true);
        assert!(!waiting.await);
        assert_eq!(board.wanted(), [(3, point(10, 1))], "it is still wanted");
        board.close(false);
        assert!(futures::poll!(Box::pin(place.acknowledged())).is_pending());
    }

    #[test]
    fn the_same_again_is_no_wish() {
        let board = Arc::new(Board::default());
        let place = board.place(0);
        place.want(point(10, 1));
        board.acknowledge(0, point(10, 1));
        place.want(point(10, 9));
        assert!(board.wanted().is_empty());
    }

    #[test]
    fn what_was_given_up_is_not_committed() {
        let board = Arc::new(Board::default());
        let place = board.place(0);
        place.want(point(10, 1));
        drop(place);
        assert!(board.wanted().is_empty());
        board.acknowledge(0, point(10, 1));
    }

    #[test]
    fn a_task_that_ends_late_leaves_its_successor_alone() {
        let board = Arc::new(Board::default());
        let earlier = board.place(0);
        let later = board.place(0);
        later.want(point(20, 2));
        earlier.want(point(10, 1));
        drop(earlier);
        assert_eq!(board.wanted(), [(0, point(20, 2))]);
    }
}
