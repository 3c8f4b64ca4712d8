//! Partitions as requests and answers have them: a list of topics, each with a list of partitions.

use std::collections::BTreeMap;

use kafka_protocol::messages::TopicName;

use super::{error::KafkaError, group::text};

/// Puts neighbours of one topic together. The order stays, as brokers serve what comes first first.
pub(super) fn grouped<T, P>(
    asked: &[T],
    topic: impl Fn(&T) -> &str,
    part: impl Fn(&T) -> P,
) -> Vec<(TopicName, Vec<P>)> {
    asked
        .chunk_by(|one, next| topic(one) == topic(next))
        .map(|same| (TopicName(text(topic(&same[0]))), same.iter().map(&part).collect()))
        .collect()
}

/// What an answer says, by topic and partition.
pub(super) struct Told<P> {
    request: &'static str,
    parts: BTreeMap<(String, i32), P>,
}

impl<P> Told<P> {
    pub(super) fn new(request: &'static str, parts: impl Iterator<Item = (TopicName, i32, P)>) -> Self {
        let parts = parts.map(|(topic, partition, part)| ((topic.to_string(), partition), part));
        Self { request, parts: parts.collect() }
    }

    /// Takes what it says about that partition.
    ///
    /// # Errors
    /// [`KafkaError::Useless`] where it says nothing.
    pub(super) fn take(&mut self, topic: &str, partition: i32) -> Result<P, KafkaError> {
        self.parts.remove(&(topic.to_owned(), partition)).ok_or_else(|| {
            let problem = "it does not mention the partition";
            KafkaError::useless(self.request, format!("{topic}/{partition}"), problem)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_a_topic_are_put_together_and_the_order_stays() {
        let asked = [("a", 2), ("a", 0), ("b", 1), ("a", 1)];
        let grouped = grouped(&asked, |it| it.0, |it| it.1);
        let plain: Vec<_> = grouped.iter().map(|(topic, parts)| (topic.as_str(), &parts[..])).collect();
        assert_eq!(plain, [("a", &[2, 0][..]), ("b", &[1]), ("a", &[1])]);
    }

    #[test]
    fn what_is_not_mentioned_is_named() {
        let parts = [(TopicName(text("a")), 1, 'x')];
        let mut told = Told::new("Fetch", parts.into_iter());
        assert_eq!(told.take("a", 1).unwrap(), 'x');
        assert_eq!(
            told.take("a", 2).unwrap_err().to_string(),
            "Kafka's answer to Fetch about a/2 can't be used: it does not mention the partition"
        );
    }
}
