//! Which of the waiting questions go into a broker's next request, and in which order.
//!
//! A broker fills an answer from the front until it has the bytes that were asked for, and only the first batch of
//! the first partition that has one comes whole (KIP-74): who stands behind others may come away empty-handed, and
//! with a large batch does so each time. So who got something longest ago stands first.

use std::collections::BTreeMap;

/// What one partition wants of its broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Of the leader, as Metadata tells it.
    pub(super) leader_epoch: i32,
    /// Of the batch that ends at the offset; -1 where it is not known.
    pub(super) last_epoch: i32,
    pub(super) max_bytes: usize,
}

/// Questions that wait, each with `T`, whom to answer.
#[derive(Debug)]
pub(super) struct Lane<T> {
    most_bytes: usize,
    waiting: Vec<(Question, T)>,
    /// By partition: the number of the request that last brought it something.
    served: BTreeMap<i32, u64>,
    requests: u64,
}

impl<T> Lane<T> {
    /// Nobody waits. A request asks for `most_bytes` at most, unless one question alone is larger.
    pub(super) const fn new(most_bytes: usize) -> Self {
        Self { most_bytes, waiting: Vec::new(), served: BTreeMap::new(), requests: 0 }
    }

    /// Whether nobody waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Somebody waits. A partition asks again only when it was answered, or has given up its earlier question.
    pub(super) fn push(&mut self, question: Question, whom: T) {
        self.waiting.retain(|(earlier, _)| earlier.partition != question.partition);
        self.waiting.push((question, whom));
    }

    /// Those of the next request, in order; the others go on waiting.
    pub(super) fn next_request(&mut self) -> Vec<(Question, T)> {
        self.requests += 1;
        let served = &self.served;
        self.waiting
            .sort_by_key(|(question, _)| served.get(&question.partition).copied().unwrap_or_default());
        let mut bytes: usize = 0;
        let fit = self.waiting.iter().take_while(|(question, _)| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(question.max_bytes.max(1));
            first || bytes <= self.most_bytes
        });
        let count = fit.count();
        self.waiting.drain(..count).collect()
    }

    /// The last request brought `partition` something.
    pub(super) fn brought(&mut self, partition: i32) {
        self.served.insert(partition, self.requests);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(partition: i32, max_bytes: usize) -> Question {
        Question { partition, offset: 0, leader_epoch: 0, last_epoch: -1, max_bytes }
    }

    fn partitions(request: &[(Question, ())]) -> Vec<i32> {
        request.iter().map(|(question, ())| question.partition).collect()
    }

    #[test]
    fn a_request_holds_what_fits_and_the_others_wait() {
        let mut lane = Lane::new(10);
        for partition in 0..3 {
            lane.push(question(partition, 4), ());
        }
        assert_eq!(partitions(&lane.next_request()), [0, 1]);
        assert_eq!(partitions(&lane.next_request()), [2]);
        assert!(lane.is_empty() && lane.next_request().is_empty());
    }

    #[test]
    fn a_question_that_is_larger_than_a_request_is_asked_alone() {
        let mut lane = Lane::new(10);
        lane.push(question(0, 40), ());
        lane.push(question(1, 1), ());
        assert_eq!(partitions(&lane.next_request()), [0]);
        assert_eq!(partitions(&lane.next_request()), [1]);
    }

    #[test]
    fn who_came_away_empty_handed_stands_first() {
        let mut lane = Lane::new(100);
        for partition in 0..3 {
            lane.push(question(partition, 1), ());
        }
        lane.next_request();
        lane.brought(0);
        lane.brought(1);
        for partition in 0..3 {
            lane.push(question(partition, 1), ());
        }
        assert_eq!(partitions(&lane.next_request()), [2, 0, 1]);
    }

    #[test]
    fn who_asks_again_has_given_up_the_earlier_question() {
        let mut lane = Lane::new(100);
        lane.push(question(0, 1), ());
        lane.push(question(0, 2), ());
        assert_eq!(lane.next_request(), [(question(0, 2), ())]);
    }

    proptest! {
        #[test]
        fn everybody_is_first_once_in_as_many_requests_as_there_are(count in 1i32..20, most in 1usize..30, sizes in prop::collection::vec(1usize..10, 20)) {
            let mut lane = Lane::new(most);
            let mut firsts = std::collections::BTreeSet::new();
            for _ in 0..count {
                for partition in 0..count {
                    lane.push(question(partition, sizes[usize::try_from(partition).unwrap()]), ());
                }
                // Only the first is sure to get something.
                let first = lane.next_request()[0].0.partition;
                lane.brought(first);
                firsts.insert(first);
            }
            prop_assert_eq!(firsts.len(), usize::try_from(count).unwrap());
        }
    }
}
