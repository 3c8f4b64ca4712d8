//! What Kafka's answers mean for a run.

use std::collections::BTreeMap;

use coinduit_common::kafka::{
    bootstrap::{Address, Bootstrap},
    error::KafkaError,
    group::{Committed, Coordinator},
    metadata::{Broker, Leader, Topic},
    record_batch::{Batch, Codec},
};
use coinduit_common::report::Chain;
use kafka_protocol::ResponseError;

use super::{
    grant::{self, Principal, Right},
    step::{Kind, Step},
};
use crate::{audit::handled::Commit, config::Reader, ledger::commit::LedgerId};

/// A call that did not bring what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// In words.
    pub said: String,
    /// What the broker refused with.
    pub code: Option<ResponseError>,
    /// Whether it is this client that is refused, whoever is asked.
    pub refuses: bool,
    /// What to do, where the words do not say it.
    pub hint: Option<&'static str>,
}

impl Trouble {
    /// In these words, and nothing more is known.
    #[must_use]
    pub fn new(said: impl Into<String>, hint: &'static str) -> Self {
        Self { said: said.into(), code: None, refuses: false, hint: Some(hint) }
    }
}

impl From<&KafkaError> for Trouble {
    fn from(error: &KafkaError) -> Self {
        let hint = match error {
            KafkaError::Unreachable { source, .. } => return Self::from(&**source),
            KafkaError::Connect { .. } => Some(
                "see that the broker runs, that host and port are right, and that no firewall is between",
            ),
            KafkaError::TimedOut { .. } => Some(
                "see that no firewall is between, that the port is that of a Kafka listener, and that the broker is not overloaded",
            ),
            KafkaError::Broken { .. } => Some(
                "see that KAFKA_SECURITY_PROTOCOL is that of this port's listener; the broker's log says why it hung up",
            ),
            KafkaError::NotKafka { .. } => Some("write the port of a Kafka listener"),
            KafkaError::Unsupported { .. } => Some("use brokers of Kafka 2.8 or newer"),
            // Their own words say what to change.
            KafkaError::Tls { .. } | KafkaError::LogIn { .. } | KafkaError::Token { .. } => None,
            KafkaError::Useless { .. } | KafkaError::Refused { .. } => None,
        };
        let refuses = matches!(error, KafkaError::LogIn { .. } | KafkaError::Token { .. });
        Self { said: Chain(error).to_string(), code: error.code(), refuses, hint }
    }
}

/// Who asks whom, for what is said about rights.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Who this client is.
    pub principal: &'a Principal,
    /// The addresses that the operator gave.
    pub brokers: &'a Bootstrap,
}

impl Asker<'_> {
    /// The step failed with this trouble; `right` is what is missing if a right is.
    fn failed(&self, kind: Kind, about: &str, trouble: &Trouble, right: Right<'_>) -> Step {
        let step = Step::failed(kind, about, &trouble.said);
        match (trouble.code, trouble.hint) {
            (Some(ResponseError::TopicAuthorizationFailed | ResponseError::GroupAuthorizationFailed), _) => {
                step.advise(grant::kafka(self.principal, self.brokers, right))
            }
            (Some(ResponseError::ClusterAuthorizationFailed), _) => step
                .advise("let this principal ask the cluster (kafka-acls.sh --operation Describe --cluster)"),
            (Some(code), _) if code.is_retriable() => {
                step.advise("the cluster may be about to change; run the check again in a minute")
            }
            (_, Some(hint)) => step.advise(hint),
            (_, None) => step.advise("see what the broker's log says about this client"),
        }
    }
}

/// What an address that the operator gave is good for.
#[must_use]
pub fn address(
    address: &Address,
    found: &[String],
    protocol: &str,
    reached: &Result<Vec<String>, Trouble>,
) -> Step {
    let about = address.to_string();
    match reached {
        Ok(lacking) if lacking.is_empty() => {
            let found = format!("is {}; lets this client in ({protocol})", found.join(", "));
            Step::ok(Kind::Address, about, found)
        }
        Ok(lacking) => {
            Step::failed(Kind::Address, about, lacking.join("; ")).advise("use brokers of Kafka 2.8 or newer")
        }
        Err(trouble) => unreached(Step::failed(Kind::Address, about, &trouble.said), trouble),
    }
}

fn unreached(step: Step, trouble: &Trouble) -> Step {
    match trouble.hint {
        Some(hint) => step.advise(hint),
        None => step,
    }
}

/// What a broker is good for where it sends clients itself.
#[must_use]
pub fn broker(broker: &Broker, reached: &Result<Vec<String>, Trouble>) -> Step {
    let about = advertised(broker);
    let trouble = match reached {
        Ok(lacking) if lacking.is_empty() => {
            return Step::ok(Kind::Broker, about, "can be reached where it says");
        }
        Ok(lacking) => {
            return Step::failed(Kind::Broker, about, lacking.join("; "))
                .advise("use brokers of Kafka 2.8 or newer");
        }
        Err(trouble) => trouble,
    };
    let Broker { node, host, port } = broker;
    let found = format!(
        "broker {node} sends clients to {host}:{port}, and that can't be reached from here: {}",
        trouble.said
    );
    let advice = format!(
        "set advertised.listeners of broker {node} to an address that this machine can reach, or make {host}:{port} reachable from here (name service, network, firewall); all records of the partitions that it leads come from there"
    );
    Step::failed(Kind::Broker, about, found).advise(advice)
}

fn advertised(broker: &Broker) -> String {
    format!("{} at {}:{}", broker.node, broker.host, broker.port)
}

/// The topic, and who leads its partitions.
pub type Described = Option<(Topic, BTreeMap<i32, Option<Leader>>)>;

/// What the topic is.
#[must_use]
pub fn topic(name: &str, asker: Asker<'_>, described: &Result<Described, Trouble>) -> Step {
    let (topic, leaders) = match described {
        Err(trouble) => return asker.failed(Kind::Topic, name, trouble, Right::Topic(name)),
        Ok(None) => {
            return Step::failed(Kind::Topic, name, format!("the cluster has no topic {name}"))
                .advise(format!(
                    "correct KAFKA_TOPIC, or create it:\nkafka-topics.sh --bootstrap-server {} --create --topic {name} --partitions 4\n(or let the producer do it: producer --create-topic)",
                    asker.brokers
                ))
                .advise(format!(
                    "where it does exist, {}",
                    grant::kafka(asker.principal, asker.brokers, Right::Topic(name))
                ));
        }
        Ok(Some(described)) => described,
    };
    let without: Vec<String> = leaders
        .iter()
        .filter(|(_, leader)| leader.is_none())
        .map(|(partition, _)| partition.to_string())
        .collect();
    if !without.is_empty() {
        return Step::failed(
            Kind::Topic,
            name,
            format!("nobody leads partition {}: they can't be read", without.join(", ")),
        )
        .advise("start the brokers that hold these partitions (kafka-topics.sh --describe names them)");
    }
    let mut nodes: Vec<i32> = leaders.values().flatten().map(|leader| leader.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let nodes = nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (id, count) = (topic.printed_id(), topic.partitions.len());
    Step::ok(
        Kind::Topic,
        name,
        format!("id {id}, cluster {}, {count} partitions, led by broker {nodes}", topic.cluster_id),
    )
}

/// What stands at the beginning of a partition's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// No records.
    Empty,
    /// The first batch.
    Batch(Look),
    /// Bytes that are no batch.
    Unreadable(String),
}

/// A batch, as far as readers differ about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Its first offset.
    pub offset: i64,
    /// How it is compressed, in words.
    pub codec: String,
    /// What rskafka can't do about it, if anything.
    pub beyond_rskafka: Vec<&'static str>,
    /// How many records were read, or why not.
    pub records: Result<usize, String>,
}

impl Look {
    /// Looks at `batch`; `most_bytes` is the most that its records may take.
    #[must_use]
    pub fn at(batch: &Batch, most_bytes: usize) -> Self {
        let codec = batch.codec();
        let mut beyond_rskafka = Vec::new();
        if batch.is_control() {
            beyond_rskafka.push("a control batch");
        } else if batch.is_transactional() {
            beyond_rskafka.push("a transaction, which ends with a control batch");
        }
        if matches!(codec, Ok(Codec::Lz4 | Codec::Zstd)) {
            beyond_rskafka.push("its codec");
        }
        if batch.is_log_append_time() {
            beyond_rskafka.push("timestamps of the broker (LogAppendTime)");
        }
        let records = batch
            .records(most_bytes)
            .and_then(|records| records.collect::<Result<Vec<_>, _>>())
            .map(|records| records.len())
            .map_err(|error| Chain(&error).to_string());
        Self {
            offset: batch.base_offset(),
            codec: codec.map_or_else(|error| error.to_string(), |codec| codec.to_string()),
            beyond_rskafka,
            records,
        }
    }
}

/// What a read of a partition of the topic `name` brought.
#[must_use]
pub fn read(
    name: &str,
    asker: Asker<'_>,
    reader: Reader,
    partition: i32,
    head: &Result<Head, Trouble>,
) -> Step {
    let about = format!("{name}/{partition}");
    let look = match head {
        Err(trouble) => return asker.failed(Kind::Read, &about, trouble, Right::Topic(name)),
        Ok(Head::Empty) => return Step::ok(Kind::Read, about, "may be read; no records were found"),
        Ok(Head::Unreadable(problem)) => {
            return Step::failed(Kind::Read, about, format!("what it begins with can't be read: {problem}"))
                .advise("a run would stop there and alert; see the broker's log, and kafka-dump-log.sh");
        }
        Ok(Head::Batch(look)) => look,
    };
    let Look { offset, codec, beyond_rskafka, records } = look;
    let records = match records {
        Ok(records) => records,
        Err(problem) => {
            return Step::failed(
                Kind::Read,
                about,
                format!("the batch at offset {offset} ({codec}) can't be read: {problem}"),
            )
            .advise("a run would stop there and alert; see the broker's log, and kafka-dump-log.sh");
        }
    };
    let beyond = beyond_rskafka.join(", ");
    if reader == Reader::Rskafka && !beyond.is_empty() {
        return Step::failed(
            Kind::Read,
            about,
            format!("the batch at offset {offset} has what rskafka can't do: {beyond}"),
        )
        .advise("set KAFKA_READER to auto or native");
    }
    let by = match (reader, beyond.is_empty()) {
        (Reader::Auto, false) => format!("; auto reads it with native, because of {beyond}"),
        _ => String::new(),
    };
    let found = format!(
        "may be read; the batch at offset {offset} has {records} records, compressed with {codec}{by}"
    );
    Step::ok(Kind::Read, about, found)
}

/// Where the group is kept.
#[must_use]
pub fn coordinator(group: &str, asker: Asker<'_>, found: &Result<Coordinator, Trouble>) -> Step {
    match found {
        Ok(found) => {
            Step::ok(Kind::Coordinator, group, format!("is broker {} at {}", found.node, found.address))
        }
        Err(trouble) => asker.failed(Kind::Coordinator, group, trouble, Right::Group(group)),
    }
}

/// What the group has committed of its topic.
#[must_use]
pub fn commits(
    group: &str,
    asker: Asker<'_>,
    ledger: LedgerId,
    found: &Result<Vec<Committed>, Trouble>,
) -> Step {
    let found = match found {
        Ok(found) => found,
        Err(trouble) => return asker.failed(Kind::Commits, group, trouble, Right::Group(group)),
    };
    let (mut ours, mut foreign) = (0_usize, Vec::new());
    for commit in found {
        match Commit::judge(commit.offset, &commit.metadata, ledger) {
            Commit::Ours { .. } => ours += 1,
            Commit::Foreign { offset, problem } => {
                foreign.push(format!("partition {} at offset {offset} ({problem})", commit.partition));
            }
            Commit::None | Commit::Unknown => {}
        }
    }
    match foreign.as_slice() {
        [] if ours == 0 => Step::ok(Kind::Commits, group, "may be read; there are none yet"),
        [] => Step::ok(Kind::Commits, group, format!("may be read; {ours} partitions have one, all about these objects")),
        [first, ..] => Step::note(
            Kind::Commits,
            group,
            format!("{} partitions have one that is not about these objects, such as {first}", foreign.len()),
        )
        .advise("a run goes on at these offsets and steps over what is before them, on record; choose another KAFKA_GROUP_ID to read what is before them"),
    }
}

/// What a heartbeat of somebody who is no member was answered. It changes nothing for those who are.
#[must_use]
pub fn membership(group: &str, asker: Asker<'_>, answer: &Result<(), Trouble>) -> Step {
    let fine = || {
        Step::ok(
            Kind::Membership,
            group,
            "may be joined (asked without joining, which would interrupt a running group)",
        )
    };
    match answer {
        Ok(()) => fine(),
        Err(trouble) => match trouble.code {
            // Rights are looked at first.
            Some(
                ResponseError::UnknownMemberId
                | ResponseError::IllegalGeneration
                | ResponseError::RebalanceInProgress
                | ResponseError::GroupIdNotFound,
            ) => fine(),
            Some(ResponseError::InvalidGroupId) => {
                Step::failed(Kind::Membership, group, &trouble.said).advise("choose another KAFKA_GROUP_ID")
            }
            _ => asker.failed(Kind::Membership, group, trouble, Right::Group(group)),
        },
    }
}

#[cfg(test)]
mod tests {
    use coinduit_common::object_key::Prefix;
    use uuid::Uuid;

    use super::*;
    use crate::check::step::Outcome;

    fn with_asker(judge: impl FnOnce(Asker<'_>) -> Step) -> Step {
        judge(Asker {
            principal: &Principal::User("u".to_owned()),
            brokers: &Bootstrap::parse("a:1").unwrap(),
        })
    }

    fn refused(code: ResponseError) -> Trouble {
        Trouble::from(&KafkaError::refused(code.code(), "Fetch", "t"))
    }

    #[test]
    fn a_wrong_advertised_listener_names_broker_and_address() {
        let one = Broker { node: 7, host: "kafka".to_owned(), port: 9092 };
        let step = broker(&one, &Err(Trouble::new("no such name", "")));
        assert_eq!((step.outcome, step.about.as_str()), (Outcome::Failed, "7 at kafka:9092"));
        assert!(step.found.contains("broker 7 sends clients to kafka:9092"), "{}", step.found);
        assert!(step.advice[0].contains("advertised.listeners of broker 7"), "{:?}", step.advice);
        assert_eq!(broker(&one, &Ok(Vec::new())).outcome, Outcome::Ok);
    }

    #[test]
    fn a_missing_topic_can_be_created_or_seen() {
        let step = with_asker(|asker| topic("t", asker, &Ok(None)));
        assert!(step.outcome == Outcome::Failed && step.found.contains("no topic t"));
        assert!(step.advice[0].contains("--create --topic t"), "{:?}", step.advice);
    }

    #[test]
    fn partitions_that_nobody_leads_are_named() {
        let described =
            Topic { cluster_id: "c".to_owned(), topic_id: Uuid::from_u128(1), partitions: vec![0, 1] };
        let address = Address::new("a", 1).unwrap();
        let leader = Leader { node: 3, address, epoch: 0 };
        let mut leaders = BTreeMap::from([(0, Some(leader.clone())), (1, None)]);
        let step = with_asker(|asker| topic("t", asker, &Ok(Some((described.clone(), leaders.clone())))));
        assert!(step.outcome == Outcome::Failed && step.found.contains("partition 1"), "{}", step.found);
        leaders.insert(1, Some(leader));
        let step = with_asker(|asker| topic("t", asker, &Ok(Some((described, leaders)))));
        assert!(
            step.outcome == Outcome::Ok && step.found.ends_with("2 partitions, led by broker 3"),
            "{}",
            step.found
        );
    }

    #[test]
    fn a_missing_right_comes_with_the_command_that_grants_it() {
        let trouble = refused(ResponseError::TopicAuthorizationFailed);
        let step = with_asker(|asker| read("t", asker, Reader::Auto, 0, &Err(trouble)));
        assert!(step.advice[0].contains("--allow-principal 'User:u' --operation Read --topic 't'"));
        let trouble = refused(ResponseError::GroupAuthorizationFailed);
        let step = with_asker(|asker| membership("g", asker, &Err(trouble)));
        assert!(step.advice[0].contains("--operation Read --group 'g'"), "{:?}", step.advice);
    }

    #[test]
    fn who_is_no_member_may_join() {
        for code in [ResponseError::UnknownMemberId, ResponseError::IllegalGeneration] {
            let step = with_asker(|asker| membership("g", asker, &Err(refused(code))));
            assert_eq!(step.outcome, Outcome::Ok);
        }
        let step = with_asker(|asker| membership("g", asker, &Err(refused(ResponseError::NotCoordinator))));
        assert_eq!(step.outcome, Outcome::Failed);
    }

    #[test]
    fn what_rskafka_can_not_read_matters_where_it_alone_reads() {
        let look =
            Look { offset: 5, codec: "zstd".to_owned(), beyond_rskafka: vec!["its codec"], records: Ok(2) };
        let head = Ok(Head::Batch(look));
        let step = with_asker(|asker| read("t", asker, Reader::Rskafka, 0, &head));
        assert!(step.outcome == Outcome::Failed && step.advice[0].contains("KAFKA_READER"));
        let step = with_asker(|asker| read("t", asker, Reader::Auto, 0, &head));
        assert!(step.outcome == Outcome::Ok && step.found.contains("native"), "{}", step.found);
    }

    #[test]
    fn a_commit_of_somebody_else_is_told() {
        let ledger = LedgerId::new("b", &Prefix::default(), "t");
        let commit = |metadata: &str| {
            vec![Committed { partition: 2, offset: 9, leader_epoch: -1, metadata: metadata.to_owned() }]
        };
        let step = with_asker(|asker| commits("g", asker, ledger, &Ok(commit(""))));
        assert!(
            step.outcome == Outcome::Note && step.found.contains("partition 2 at offset 9"),
            "{}",
            step.found
        );
        let ours = format!("coinduit/1 ledger={ledger} tail=9");
        assert_eq!(with_asker(|asker| commits("g", asker, ledger, &Ok(commit(&ours)))).outcome, Outcome::Ok);
    }

    #[test]
    fn an_old_broker_and_one_that_is_down_have_their_own_way_out() {
        let at = Address::new("a", 1).unwrap();
        let step = address(&at, &[], "PLAINTEXT", &Ok(vec!["speaks no Fetch".to_owned()]));
        assert!(step.outcome == Outcome::Failed && step.advice[0].contains("2.8"));
        let down = KafkaError::Connect { address: "a:1".to_owned(), source: std::io::Error::other("no") };
        let step = address(&at, &[], "PLAINTEXT", &Err(Trouble::from(&down)));
        assert!(step.advice[0].contains("firewall") && step.found.contains("a:1"));
    }
}
