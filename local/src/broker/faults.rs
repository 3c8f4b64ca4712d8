//! Bad weather on demand: what a running broker shall do wrong, how often, and to which requests.
//!
//! Faults are counted and taken in the order in which they were asked for, one a request, so a test knows
//! which request meets which fault. Nothing is random.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use tokio::sync::watch;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed instead of an answer; the request did nothing.
    Drop,
    /// The request is carried out, then the connection is closed instead of the answer: after a Produce
    /// the batch *is* in the log.
    LoseReply,
    /// The request is carried out at once; its answer is sent this much later.
    Delay(Duration),
    /// The request does nothing; each topic or partition in it is answered with this error.
    Error(ResponseError),
}

/// A handle on the faults of a running broker; clones are the same handle.
#[derive(Debug, Clone)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
    frozen: watch::Sender<bool>,
    /// How often all connections were dropped.
    dropped: watch::Sender<u64>,
}

impl Faults {
    /// No faults.
    pub(crate) fn new() -> Self {
        Self { plan: Arc::default(), frozen: watch::Sender::new(false), dropped: watch::Sender::new(0) }
    }

    /// Does `fault` to the next `times` requests of `api` that no earlier fault is meant for.
    pub fn inject(&self, api: ApiKey, fault: Fault, times: u32) {
        self.plan().rules.push_back(Rule { api, fault, left: times });
    }

    /// Forgets the faults that have not happened yet.
    pub fn clear(&self) {
        self.plan().rules.clear();
    }

    /// How many faults are still to happen.
    pub fn pending(&self) -> u32 {
        self.plan().rules.iter().map(|rule| rule.left).sum()
    }

    /// How many requests of `api` have come in, whatever happened to them; a frozen broker counts, too.
    pub fn seen(&self, api: ApiKey) -> u64 {
        self.plan().seen.get(&(api as i16)).copied().unwrap_or(0)
    }

    /// Closes every connection there is now. New ones are accepted.
    pub fn drop_connections(&self) {
        self.dropped.send_modify(|count| *count += 1);
    }

    /// From now on accepts connections and answers nothing, as a broker that was sent SIGSTOP does.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    /// Ends [`freeze`](Self::freeze): what arrived meanwhile is carried out and answered now, even when
    /// its client has given up and sent it again.
    pub fn unfreeze(&self) {
        self.frozen.send_replace(false);
    }

    /// Counts a request; returns what shall happen to it.
    pub(crate) fn next(&self, api: ApiKey) -> Option<Fault> {
        self.plan().next(api)
    }

    /// Returns when the broker is not frozen.
    pub(crate) async fn thawed(&self) {
        let mut frozen = self.frozen.subscribe();
        frozen.wait_for(|frozen| !frozen).await.expect("the sender lives in self");
    }

    /// Changes when the connections there are now shall be closed.
    pub(crate) fn dropped(&self) -> watch::Receiver<u64> {
        self.dropped.subscribe()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().expect("nothing panics while it holds the plan")
    }
}

/// The faults to come and the requests so far.
#[derive(Debug, Default)]
struct Plan {
    rules: VecDeque<Rule>,
    /// By the number of the API.
    seen: BTreeMap<i16, u64>,
}

#[derive(Debug)]
struct Rule {
    api: ApiKey,
    fault: Fault,
    left: u32,
}

impl Plan {
    fn next(&mut self, api: ApiKey) -> Option<Fault> {
        *self.seen.entry(api as i16).or_default() += 1;
        self.rules.retain(|rule| rule.left > 0);
        let rule = self.rules.iter_mut().find(|rule| rule.api == api)?;
        rule.left -= 1;
        Some(rule.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_happen_in_order_and_as_often_as_asked() {
        let faults = Faults::new();
        faults.inject(ApiKey::Produce, Fault::Drop, 2);
        faults.inject(ApiKey::Fetch, Fault::LoseReply, 1);
        faults.inject(ApiKey::Produce, Fault::Error(ResponseError::NotLeaderOrFollower), 1);
        assert_eq!(faults.pending(), 4);
        assert_eq!(faults.next(ApiKey::Metadata), None);
        assert_eq!(faults.next(ApiKey::Produce), Some(Fault::Drop));
        assert_eq!(faults.next(ApiKey::Fetch), Some(Fault::LoseReply));
        assert_eq!(faults.next(ApiKey::Produce), Some(Fault::Drop));
        assert_eq!(faults.next(ApiKey::Produce), Some(Fault::Error(ResponseError::NotLeaderOrFollower)));
        assert_eq!(faults.next(ApiKey::Produce), None);
        assert_eq!((faults.pending(), faults.seen(ApiKey::Produce)), (0, 4));
    }

    #[test]
    fn cleared_and_zero_faults_never_happen() {
        let faults = Faults::new();
        faults.inject(ApiKey::Produce, Fault::Drop, 0);
        assert_eq!(faults.next(ApiKey::Produce), None);
        faults.inject(ApiKey::Produce, Fault::Drop, 9);
        faults.clear();
        assert_eq!(faults.next(ApiKey::Produce), None);
    }
}
