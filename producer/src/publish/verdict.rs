//! What a broker's word about a batch means: is it in the log, may it be, and what is to be done.

use coinduit_common::kafka::{error::KafkaError, produce::NotAcknowledged};
use kafka_protocol::ResponseError;

/// What is known about a batch that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in the log of all in-sync replicas.
    Appended,
    /// It is certainly not in the log, and may be sent again.
    NotAppended(String),
    /// It is certainly not in the log: it is larger than the topic allows.
    TooLarge(String),
    /// It is certainly not in the log, and no batch for this partition will be.
    Refused {
        /// What to do.
        problem: String,
        /// Whether running again may help.
        retryable: bool,
    },
    /// Nobody knows.
    Unknown(String),
}

/// What a broker's answer about a batch for `place` (topic and partition) means.
pub(super) fn of_answer(place: &str, answer: &NotAcknowledged) -> Verdict {
    use ResponseError as E;
    let error = ResponseError::try_from_code(answer.code);
    let name = error.map_or_else(|| format!("error {}", answer.code), |error| error.to_string());
    let says = answer.message.as_ref().map_or_else(|| name.clone(), |words| format!("{name}: {words}"));
    let refused =
        |advice: &str| Verdict::Refused { problem: format!("{place}: {says}; {advice}"), retryable: false };
    match error {
        // A leader that appended it, and is none any more: whether the new one has it, nobody knows.
        _ if answer.offset >= 0 => Verdict::Unknown(format!("{place}: {says}")),
        // The broker has seen this very batch before.
        Some(E::DuplicateSequenceNumber) => Verdict::Appended,
        Some(E::MessageTooLarge | E::RecordListTooLarge) => Verdict::TooLarge(says),
        Some(E::UnknownTopicOrPartition | E::UnknownTopicId) => Verdict::NotAppended(format!(
            "{place}: {says}; the topic was deleted, or its partitions are on their way to another broker"
        )),
        Some(E::NotEnoughReplicas) => Verdict::NotAppended(format!(
            "{place}: {says}; fewer replicas are in sync than the topic's min.insync.replicas asks for"
        )),
        Some(
            E::NotLeaderOrFollower
            | E::LeaderNotAvailable
            | E::FencedLeaderEpoch
            | E::UnknownLeaderEpoch
            | E::ThrottlingQuotaExceeded
            | E::CorruptMessage,
        ) => Verdict::NotAppended(format!("{place}: {says}")),
        Some(E::TopicAuthorizationFailed) => {
            refused("this client may not write to the topic: give its user the operation Write on it")
        }
        Some(E::ClusterAuthorizationFailed | E::TransactionalIdAuthorizationFailed) => refused(
            "this client's user lacks a permission on the cluster (IdempotentWrite, on brokers before 3.0)",
        ),
        Some(E::InvalidTimestamp) => refused(
            "the topic's message.timestamp limits refuse the time at which the prices were fetched; check this \
             machine's clock, or --fetched-at",
        ),
        Some(
            E::InvalidRecord
            | E::UnsupportedForMessageFormat
            | E::UnsupportedCompressionType
            | E::PolicyViolation,
        ) => refused("the topic takes no such records; look at its settings and at the broker's log"),
        Some(E::InvalidRequiredAcks | E::InvalidTopicException) => refused("look at the broker's log"),
        // Appended, but not by enough replicas, or not known by when; and whatever has no meaning here.
        _ => Verdict::Unknown(format!("{place}: {says}")),
    }
}

/// What a call means that brought no answer about `place`.
pub(super) fn of_failure(place: &str, error: &KafkaError, chain: String) -> Verdict {
    match error {
        // The request did not leave.
        KafkaError::Unsupported { .. } => {
            Verdict::Refused { problem: format!("{place}: {chain}"), retryable: false }
        }
        _ => Verdict::Unknown(format!("{place}: {chain}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(error: ResponseError) -> Verdict {
        of_answer("t/1", &NotAcknowledged { code: error.code(), message: None, offset: -1 })
    }

    #[test]
    fn what_may_have_been_appended_is_not_taken_for_certain() {
        for unknown in [
            ResponseError::RequestTimedOut,
            ResponseError::NotEnoughReplicasAfterAppend,
            ResponseError::UnknownServerError,
            ResponseError::NetworkException,
            ResponseError::KafkaStorageError,
            ResponseError::OutOfOrderSequenceNumber,
        ] {
            assert!(matches!(verdict(unknown), Verdict::Unknown(_)), "{unknown}");
        }
        let silent = KafkaError::TimedOut {
            address: "b:1".to_owned(),
            request: "Produce",
            limit: std::time::Duration::from_secs(1),
        };
        assert!(matches!(of_failure("t/1", &silent, silent.to_string()), Verdict::Unknown(_)));
        // A code that nobody has given out yet.
        let new = NotAcknowledged { code: 9_999, message: None, offset: -1 };
        assert!(matches!(of_answer("t/1", &new), Verdict::Unknown(_)));
    }

    #[test]
    fn a_leader_that_appended_and_lost_its_office_leaves_a_question() {
        let code = ResponseError::NotLeaderOrFollower.code();
        let before = NotAcknowledged { code, message: None, offset: -1 };
        assert!(matches!(of_answer("t/1", &before), Verdict::NotAppended(_)));
        let after = NotAcknowledged { offset: 42, ..before };
        assert!(matches!(of_answer("t/1", &after), Verdict::Unknown(_)));
    }

    #[test]
    fn a_batch_that_the_broker_knows_is_appended() {
        assert_eq!(verdict(ResponseError::DuplicateSequenceNumber), Verdict::Appended);
    }

    #[test]
    fn refusals_name_the_place_and_the_way_out() {
        for (error, way_out) in [
            (ResponseError::TopicAuthorizationFailed, "operation Write"),
            (ResponseError::InvalidTimestamp, "--fetched-at"),
            (ResponseError::InvalidRecord, "settings"),
        ] {
            let Verdict::Refused { problem, retryable: false } = verdict(error) else { panic!("{error}") };
            assert!(problem.starts_with("t/1: ") && problem.contains(way_out), "{problem}");
        }
        let Verdict::NotAppended(problem) = verdict(ResponseError::NotEnoughReplicas) else {
            panic!("NotEnoughReplicas")
        };
        assert!(problem.contains("min.insync.replicas"), "{problem}");
    }

    #[test]
    fn the_brokers_own_words_are_quoted() {
        let refusal = NotAcknowledged {
            code: ResponseError::InvalidRecord.code(),
            message: Some("no key".to_owned()),
            offset: -1,
        };
        let Verdict::Refused { problem, .. } = of_answer("t/1", &refusal) else { panic!("refused") };
        assert!(problem.contains("no key"), "{problem}");
    }
}
