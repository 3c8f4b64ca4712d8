//! The queue between S3 and the Lambda host: bounded, and it loses nothing.
//!
//! A writer reserves a place *before* its object is stored, so that an object is never there without its event
//! because there was no room. An event keeps its place until it is settled (handled, or a dead letter), retries
//! included: what waits is bounded all the way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::s3_event::ObjectCreated;

/// Events that were not yet taken, oldest first.
#[derive(Debug)]
pub struct EventQueue {
    events: Mutex<VecDeque<QueuedEvent>>,
    room: Arc<Semaphore>,
    arrived: Notify,
}

/// An event and its place in the queue, which others can have when this is dropped.
#[derive(Debug)]
pub struct QueuedEvent {
    /// What happened.
    pub event: ObjectCreated,
    place: Place,
}

/// A reserved place.
#[derive(Debug)]
pub struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

impl EventQueue {
    /// A queue for `capacity` events.
    pub fn new(capacity: usize) -> Self {
        Self {
            events: Mutex::new(VecDeque::new()),
            room: Arc::new(Semaphore::new(capacity)),
            arrived: Notify::new(),
        }
    }

    /// Waits for a place. After [`EventQueue::close`] there is always one.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the turn and reserves nothing.
    pub async fn reserve(&self) -> Place {
        Place { _permit: Arc::clone(&self.room).acquire_owned().await.ok() }
    }

    /// A place beyond the capacity, at once: for the writer that empties the queue and so must not wait for it.
    pub fn reserve_beyond_capacity(&self) -> Place {
        Place { _permit: None }
    }

    /// Puts an event on its place.
    pub fn push(&self, event: ObjectCreated, place: Place) {
        self.lock().push_back(QueuedEvent { event, place });
        self.arrived.notify_one();
    }

    /// The oldest event, as soon as there is one. For one consumer.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub async fn pop(&self) -> QueuedEvent {
        loop {
            if let Some(event) = self.try_pop() {
                return event;
            }
            // A push since the look above has left its permit, and this returns at once.
            self.arrived.notified().await;
        }
    }

    /// The oldest event, if there is one.
    pub fn try_pop(&self) -> Option<QueuedEvent> {
        self.lock().pop_front()
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets every writer through from now on: nobody will take events any more.
    pub fn close(&self) {
        self.room.close();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<QueuedEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueuedEvent {
    /// The event without its place, which is free from now on.
    pub fn into_event(self) -> ObjectCreated {
        let Self { event, place } = self;
        drop(place);
        event
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::s3_event::CreatedBy;

    fn event(key: &str) -> ObjectCreated {
        let at = "2026-11-23T10:05:00Z".parse().unwrap();
        let (bucket, etag) = ("b".to_owned(), String::new());
        ObjectCreated { bucket, key: key.into(), size: 0, etag, sequencer: 0, at, by: CreatedBy::Put }
    }

    #[tokio::test]
    async fn a_full_queue_makes_writers_wait_until_an_event_is_settled() {
        let queue = EventQueue::new(1);
        queue.push(event("a"), queue.reserve().await);
        let mut waiting = Box::pin(queue.reserve());
        assert!((&mut waiting).now_or_never().is_none());
        let taken = queue.pop().await;
        assert!((&mut waiting).now_or_never().is_none(), "taken, but not settled");
        drop(taken);
        assert!(waiting.now_or_never().is_some());
    }

    #[tokio::test]
    async fn the_function_does_not_wait_for_itself() {
        let queue = EventQueue::new(1);
        queue.push(event("a"), queue.reserve().await);
        queue.push(event("b"), queue.reserve_beyond_capacity());
        assert_eq!([queue.pop().await.event.key, queue.pop().await.event.key], ["a", "b"]);
    }

    #[tokio::test]
    async fn a_waiting_consumer_gets_the_next_event() {
        let queue = EventQueue::new(1);
        let mut pop = Box::pin(queue.pop());
        assert!((&mut pop).now_or_never().is_none());
        queue.push(event("a"), queue.reserve().await);
        assert_eq!(pop.await.event.key, "a");
    }

    #[tokio::test]
    async fn closing_lets_writers_through() {
        let queue = EventQueue::new(1);
        queue.push(event("a"), queue.reserve().await);
        queue.close();
        queue.push(event("b"), queue.reserve().await);
        assert_eq!(queue.len(), 2);
    }
}
