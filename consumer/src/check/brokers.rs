//! Asks Kafka. Nothing is created, joined or committed.

use std::{collections::BTreeMap, future::Future, time::Duration};

use coinduit_common::{
    kafka::{
        bootstrap::Address,
        connection::Connection,
        error::KafkaError,
        fetch::{self, Fetch, Position},
        group::{Identity, committed, find_coordinator, heartbeat},
        list_offsets::{End, EndOf, list_offsets},
        metadata::{self, Broker, Leader, Topic},
        record_batch::Batches,
    },
    report::Chain,
    retry::{Attempt, RetryPolicy, retry},
};
use futures::{StreamExt, stream};
use kafka_protocol::messages::{
    FetchRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};

use super::{
    grant::Principal,
    kafka::{self, Asker, Described, Head, Look, Trouble},
    step::{Kind, Step},
};
use crate::{config::Config, ledger::commit::LedgerId};

/// One step has so long.
const LIMIT: Duration = Duration::from_secs(20);
/// For so long a coordinator is waited for: a new cluster makes one when it is first asked.
const COORDINATOR: Duration = Duration::from_secs(15);
const AGAIN: RetryPolicy = RetryPolicy { first: Duration::from_millis(250), most: Duration::from_secs(2) };
/// So many brokers are dialled at a time.
const DIALLED: usize = 16;
/// In so many partitions records are looked for.
const LOOKED_AT: usize = 8;
/// How much of a log is asked for; the first batch comes whole.
const READ_BYTES: i32 = 4096;
/// The most that one batch's records may take decompressed.
const MOST_BYTES: usize = 256 << 20;

const NO_BROKER: &str = "no broker lets this client in";

/// What Kafka has said.
#[derive(Debug)]
pub(super) struct Asked {
    pub steps: Vec<Step>,
    /// What the topic is, where that could be told.
    pub topic: Option<Topic>,
}

/// Asks one thing after the other, as a run would.
pub(super) async fn ask(config: &Config) -> Asked {
    let mut steps = Vec::new();
    let mut dialled: BTreeMap<String, Result<Vec<String>, Trouble>> = BTreeMap::new();
    let mut connection = None;
    let mut refused = None;
    for address in config.kafka.bootstrap.addresses() {
        if let Some(by) = &refused {
            // Wrong passwords lock accounts.
            let why = format!("not tried, as {by} refuses this client");
            steps.push(Step::skipped(Kind::Address, address.to_string(), why));
            continue;
        }
        let (found, reached) = resolve_and_dial(config, address).await;
        let reached = reached.map(|mut reached| {
            let lacking = lacking(&mut reached);
            connection.get_or_insert(reached);
            lacking
        });
        if reached.as_ref().is_err_and(|trouble| trouble.refuses) {
            refused = Some(address.to_string());
        }
        steps.push(kafka::address(address, &found, protocol(config), &reached));
        dialled.insert(address.to_string(), reached);
    }
    let Some(mut connection) = connection else { return without_a_broker(config, steps) };
    steps.extend(brokers(config, &mut connection, &dialled).await);

    let principal = Principal::of(&config.kafka.security);
    let asker = Asker { principal: &principal, brokers: &config.kafka.bootstrap };
    let name = &config.kafka.topic;
    let described = in_time(describe(config, connection)).await;
    steps.push(kafka::topic(name, asker, &described));
    let described = described.ok().flatten();
    match &described {
        Some((_, leaders)) => steps.push(read(config, asker, leaders).await),
        None => steps.push(Step::skipped(Kind::Read, name, "the topic could not be looked at")),
    }
    steps.extend(group(config, asker, described.as_ref().map(|(topic, _)| topic)).await);
    Asked { steps, topic: described.map(|(topic, _)| topic) }
}

fn without_a_broker(config: &Config, mut steps: Vec<Step>) -> Asked {
    let (topic, group) = (&config.kafka.topic, &config.group_id);
    for (kind, about) in [
        (Kind::Topic, topic),
        (Kind::Read, topic),
        (Kind::Coordinator, group),
        (Kind::Commits, group),
        (Kind::Membership, group),
    ] {
        steps.push(Step::skipped(kind, about, NO_BROKER));
    }
    Asked { steps, topic: None }
}

/// How a client is let in, in words.
fn protocol(config: &Config) -> &'static str {
    let security = &config.kafka.security;
    match (security.tls().is_some(), security.sasl().is_some()) {
        (false, false) => "without TLS and login",
        (true, false) => "with TLS",
        (false, true) => "with a login, without TLS",
        (true, true) => "with TLS and a login",
    }
}

async fn resolve_and_dial(config: &Config, address: &Address) -> (Vec<String>, Result<Connection, Trouble>) {
    let looked_up = timeout(LIMIT, lookup_host((address.host(), address.port()))).await;
    let hint = "correct the name, or see this machine's name service (DNS, /etc/hosts)";
    let found = match looked_up {
        Ok(Ok(found)) => {
            let mut found: Vec<String> = found.map(|found| found.ip().to_string()).collect();
            found.dedup();
            found
        }
        Ok(Err(error)) => {
            let said = format!("the name {} can't be looked up: {error}", address.host());
            return (Vec::new(), Err(Trouble::new(said, hint)));
        }
        Err(_) => {
            let said = format!("the name {} was not looked up within {LIMIT:?}", address.host());
            return (Vec::new(), Err(Trouble::new(said, hint)));
        }
    };
    (found, in_time(async { config.kafka.dialer().to(address).await }).await)
}

/// What a run asks that this broker does not speak.
fn lacking(connection: &mut Connection) -> Vec<String> {
    let spoken = [
        connection.version_of::<MetadataRequest>(),
        connection.version_of::<ListOffsetsRequest>(),
        connection.version_of::<FetchRequest>(),
        connection.version_of::<FindCoordinatorRequest>(),
        connection.version_of::<OffsetFetchRequest>(),
        connection.version_of::<OffsetCommitRequest>(),
        connection.version_of::<JoinGroupRequest>(),
        connection.version_of::<SyncGroupRequest>(),
        connection.version_of::<HeartbeatRequest>(),
        connection.version_of::<LeaveGroupRequest>(),
    ];
    spoken.into_iter().filter_map(|spoken| spoken.err().map(|error| error.to_string())).collect()
}

/// Every broker, where it sends clients itself.
async fn brokers(
    config: &Config,
    connection: &mut Connection,
    dialled: &BTreeMap<String, Result<Vec<String>, Trouble>>,
) -> Vec<Step> {
    let cluster = match in_time(metadata::cluster(connection)).await {
        Ok(cluster) => cluster,
        Err(trouble) => return vec![Step::failed(Kind::Broker, "all", trouble.said)],
    };
    let dial = async |broker: Broker| {
        let address = Address::new(&broker.host, broker.port);
        let reached = match &address {
            None => Err(Trouble::new("that is no address", "")),
            Some(address) => match dialled.get(&address.to_string()) {
                Some(reached) if reached.is_ok() => reached.clone(),
                _ => resolve_and_dial(config, address).await.1.map(|mut reached| lacking(&mut reached)),
            },
        };
        kafka::broker(&broker, &reached)
    };
    stream::iter(cluster.brokers).map(dial).buffered(DIALLED).collect().await
}

async fn describe(config: &Config, mut connection: Connection) -> Result<Described, KafkaError> {
    let name = &config.kafka.topic;
    if !connection.is_usable() {
        connection = config.kafka.dialer().to_any(&config.kafka.bootstrap).await?;
    }
    let Some(topic) = metadata::topic(&mut connection, name).await? else { return Ok(None) };
    let Some(leaders) = metadata::leaders(&mut connection, name).await? else { return Ok(None) };
    Ok(Some((topic, leaders)))
}

/// Reads the head of the first partition that has records, of the first few; else of the first one.
async fn read(config: &Config, asker: Asker<'_>, leaders: &BTreeMap<i32, Option<Leader>>) -> Step {
    let name = &config.kafka.topic;
    let led = leaders.iter().filter_map(|(partition, leader)| Some((*partition, leader.as_ref()?)));
    let mut told = None;
    for (partition, leader) in led.take(LOOKED_AT) {
        let head = in_time(head(config, partition, leader)).await;
        let step = kafka::read(name, asker, config.reader, partition, &head);
        match head {
            // Another partition may have records, or a leader that can be reached.
            Ok(Head::Empty) => drop(told.get_or_insert(step)),
            Ok(_) | Err(_) => return step,
        }
    }
    told.unwrap_or_else(|| Step::skipped(Kind::Read, name, "no partition has a leader"))
}

async fn head(config: &Config, partition: i32, leader: &Leader) -> Result<Head, KafkaError> {
    let topic = config.kafka.topic.clone();
    let mut connection = config.kafka.dialer().to(&leader.address).await?;
    let earliest = EndOf { topic: topic.clone(), partition, leader_epoch: -1, end: End::Earliest };
    let mut listed = list_offsets(&mut connection, config.isolation, &[earliest]).await?;
    let offset = listed.pop().transpose()?.map_or(0, |listed| listed.offset);
    let position =
        Position { topic, partition, offset, leader_epoch: -1, last_epoch: -1, max_bytes: READ_BYTES };
    let question = Fetch {
        max_wait: Duration::ZERO,
        min_bytes: 0,
        max_bytes: READ_BYTES,
        isolation: config.isolation,
        partitions: vec![position],
    };
    let mut fetched = fetch::fetch(&mut connection, &question).await?;
    let Some(fetched) = fetched.pop() else { return Ok(Head::Empty) };
    Ok(match Batches::new(fetched.log?.records).next() {
        None => Head::Empty,
        Some(Ok(batch)) => Head::Batch(Look::at(&batch, MOST_BYTES)),
        Some(Err(error)) => Head::Unreadable(Chain(&error).to_string()),
    })
}

async fn group(config: &Config, asker: Asker<'_>, topic: Option<&Topic>) -> Vec<Step> {
    let group = &config.group_id;
    let find = retry(AGAIN, "find the group's coordinator", Some(Instant::now() + COORDINATOR), |_| async {
        let found = async {
            let mut any = config.kafka.dialer().to_any(&config.kafka.bootstrap).await?;
            let found = find_coordinator::find(&mut any, group).await?;
            let connection = config.kafka.dialer().to(&found.address).await?;
            Ok((found, connection))
        };
        match found.await {
            Ok(found) => Attempt::Done(found),
            Err(error @ KafkaError::Refused { .. }) if error.is_retryable() => {
                Attempt::Again { error, after: None }
            }
            Err(error) => Attempt::Final(error),
        }
    });
    let (found, mut connection) = match in_time(find).await {
        Ok((found, connection)) => (Ok(found), connection),
        Err(trouble) => {
            let why = "the group's coordinator could not be asked";
            return vec![
                kafka::coordinator(group, asker, &Err(trouble)),
                Step::skipped(Kind::Commits, group, why),
                Step::skipped(Kind::Membership, group, why),
            ];
        }
    };
    let mut steps = vec![kafka::coordinator(group, asker, &found)];
    match topic {
        None => steps.push(Step::skipped(Kind::Commits, group, "the topic could not be looked at")),
        Some(topic) => {
            let name = &config.kafka.topic;
            let committed =
                in_time(committed::committed(&mut connection, group, name, &topic.partitions)).await;
            let ledger = LedgerId::new(&config.bucket, &config.prefix, &topic.printed_id());
            steps.push(kafka::commits(group, asker, ledger, &committed));
        }
    }
    // Of nobody's: the coordinator looks at rights first, and finds no such member then.
    let nobody = Identity {
        group: group.clone(),
        member_id: "coinduit-check".to_owned(),
        instance_id: None,
        generation: 0,
    };
    let answer = in_time(heartbeat::heartbeat(&mut connection, &nobody)).await;
    steps.push(kafka::membership(group, asker, &answer));
    steps
}

async fn in_time<T>(answer: impl Future<Output = Result<T, KafkaError>>) -> Result<T, Trouble> {
    match timeout(LIMIT, answer).await {
        Ok(answer) => answer.map_err(|error| Trouble::from(&error)),
        Err(_) => Err(Trouble::new(
            format!("no answer within {LIMIT:?}"),
            "see that the brokers can be reached from here and are not overloaded",
        )),
    }
}
