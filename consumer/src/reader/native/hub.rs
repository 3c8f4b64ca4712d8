//! One topic's brokers, and the questions of all partitions to them, many in one request.
//!
//! ```text
//! partition --Question--> lane "behind"  --one Fetch at a time--> broker
//! partition --Question--> lane "at end"  --one Fetch at a time--> broker   (waits there until something is published)
//! ```
//!
//! A broker holds a request that finds nothing until something comes. Whoever knows that his log goes on must not
//! stand in such a request, so there are two lanes to each broker, each a task with a connection of its own. What
//! comes while a request is under way goes into the next one together.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use coinduit_common::{
    clock::Clock,
    kafka::{
        aborted::Isolation,
        bootstrap::Address,
        connection::Connection,
        error::KafkaError,
        fetch::{self, Diverged, Fetch, Log, Position},
        list_offsets::{self, End, EndOf},
        metadata::Leader,
        settings::KafkaSettings,
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{
    super::Bounds,
    lane::{Lane, Question},
    leaders::{Leaders, NoLeader},
};

/// How long a broker may hold a request of those that are at the end.
const WAIT_AT_END: Duration = Duration::from_millis(500);
/// How long, where the log is known to go on: it answers at once, unless it knows less than we do.
const WAIT_BEHIND: Duration = Duration::from_millis(100);
/// How much one request asks for, of all its partitions together.
const REQUEST_BYTES: usize = 4 << 20;
/// So many questions wait for a broker; more wait for room in the line.
const QUESTIONS: usize = 1_024;

/// What a partition got of its broker.
#[derive(Debug)]
pub(super) struct Reply {
    /// A part of its log.
    pub(super) log: Log,
    /// The bytes of the whole answer, of which the log's records are a slice.
    pub(super) answer_bytes: usize,
}

/// Why it got nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReply {
    /// Nobody was asked.
    #[error(transparent)]
    Leader(#[from] NoLeader),
    /// The request failed, for all partitions in it or for this one.
    #[error(transparent)]
    Kafka(#[from] Arc<KafkaError>),
    /// The leader's log is another one than was read.
    #[error("the leader's log diverges at offset {}", .0.end)]
    Diverged(Diverged),
    /// The task of the lane is gone: a bug, or the process ends.
    #[error("the connection's task has ended")]
    Ended,
}

impl NoReply {
    pub(super) fn code(&self) -> Option<kafka_protocol::ResponseError> {
        match self {
            Self::Kafka(error) => error.code(),
            Self::Leader(_) | Self::Diverged(_) | Self::Ended => None,
        }
    }
}

struct Asked {
    question: Question,
    answer: oneshot::Sender<Result<Reply, NoReply>>,
}

/// The brokers of one topic.
#[derive(Debug)]
pub(super) struct Hub {
    settings: KafkaSettings,
    isolation: Isolation,
    clock: Clock,
    leaders: Leaders,
    brokers: Mutex<BTreeMap<i32, Arc<Broker>>>,
}

#[derive(Debug)]
struct Broker {
    address: Address,
    behind: mpsc::Sender<Asked>,
    at_end: mpsc::Sender<Asked>,
    /// For everything that is no fetch.
    aside: tokio::sync::Mutex<Option<Connection>>,
}

impl Hub {
    pub(super) fn new(settings: KafkaSettings, isolation: Isolation, clock: Clock) -> Self {
        let leaders = Leaders::new(settings.clone(), clock.clone());
        Self { settings, isolation, clock, leaders, brokers: Mutex::default() }
    }

    pub(super) const fn isolation(&self) -> Isolation {
        self.isolation
    }

    pub(super) fn topic(&self) -> &str {
        &self.settings.topic
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.since_boot()
    }

    /// Asks the leader of `partition`, who must be known later than `after`, for its log from `offset` on.
    pub(super) async fn fetch(
        &self,
        partition: i32,
        offset: i64,
        last_epoch: i32,
        max_bytes: usize,
        is_behind: bool,
        after: Option<Duration>,
    ) -> Result<Reply, NoReply> {
        let leader = self.leaders.of(partition, after).await?;
        let question = Question { partition, offset, leader_epoch: leader.epoch, last_epoch, max_bytes };
        let broker = self.broker(&leader);
        let lane = if is_behind { &broker.behind } else { &broker.at_end };
        let (answer, answered) = oneshot::channel();
        lane.send(Asked { question, answer }).await.map_err(|_| NoReply::Ended)?;
        answered.await.map_err(|_| NoReply::Ended)?
    }

    /// Where the log of `partition` begins and ends.
    pub(super) async fn bounds(&self, partition: i32, after: Option<Duration>) -> Result<Bounds, NoReply> {
        let leader = self.leaders.of(partition, after).await?;
        let broker = self.broker(&leader);
        let mut kept = broker.aside.lock().await;
        let mut connection = match kept.take().filter(Connection::is_usable) {
            Some(connection) => connection,
            None => dial(&self.settings, &broker.address).await?,
        };
        let mut ends = [0; 2];
        for (at, end) in ends.iter_mut().zip([End::Earliest, End::Latest]) {
            let topic = self.settings.topic.clone();
            let of = EndOf { topic, partition, leader_epoch: leader.epoch, end };
            let answer = list_offsets::list_offsets(&mut connection, self.isolation, &[of]).await;
            let listed = answer.and_then(|mut answers| answers.remove(0));
            *at = listed.map_err(Arc::new)?.offset;
        }
        *kept = Some(connection);
        Ok(Bounds { start: ends[0], end: ends[1] })
    }

    fn broker(&self, leader: &Leader) -> Arc<Broker> {
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = brokers.get(&leader.node).filter(|known| known.address == leader.address);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let lane = |wait| {
            let (sender, questions) = mpsc::channel(QUESTIONS);
            let (settings, address) = (self.settings.clone(), leader.address.clone());
            let line = Line { settings, isolation: self.isolation, address, wait, connection: None };
            tokio::spawn(line.serve(questions));
            sender
        };
        let broker = Arc::new(Broker {
            address: leader.address.clone(),
            behind: lane(WAIT_BEHIND),
            at_end: lane(WAIT_AT_END),
            aside: tokio::sync::Mutex::default(),
        });
        brokers.insert(leader.node, Arc::clone(&broker));
        broker
    }
}

async fn dial(settings: &KafkaSettings, address: &Address) -> Result<Connection, Arc<KafkaError>> {
    settings.dialer().to(address).await.map_err(Arc::new)
}

/// One connection to one broker, and who waits for it. Ends when nobody can ask any more.
struct Line {
    settings: KafkaSettings,
    isolation: Isolation,
    address: Address,
    wait: Duration,
    connection: Option<Connection>,
}

impl Line {
    async fn serve(mut self, mut questions: mpsc::Receiver<Asked>) {
        let mut lane = Lane::new(REQUEST_BYTES);
        loop {
            if lane.is_empty() {
                let Some(Asked { question, answer }) = questions.recv().await else { return };
                lane.push(question, answer);
            }
            while let Ok(Asked { question, answer }) = questions.try_recv() {
                lane.push(question, answer);
            }
            let mut request = lane.next_request();
            // Whose partition was given up meanwhile waits no more.
            request.retain(|(_, answer)| !answer.is_closed());
            if request.is_empty() {
                continue;
            }
            let asked: Vec<Question> = request.iter().map(|(question, _)| *question).collect();
            let answers = self.ask(&asked).await;
            let bytes = answers.iter().flatten();
            let answer_bytes = bytes.filter_map(|of| of.log.as_ref().ok()).map(|log| log.records.len()).sum();
            for ((question, whom), fetched) in request.into_iter().zip(answers) {
                let reply = fetched.map_err(NoReply::from).and_then(|fetched| match fetched {
                    fetch::Fetched { diverged: Some(diverged), .. } => Err(NoReply::Diverged(diverged)),
                    fetch::Fetched { log, .. } => Ok(log.map_err(Arc::new)?),
                });
                if reply.as_ref().is_ok_and(|log| !log.records.is_empty()) {
                    lane.brought(question.partition);
                }
                // Whose partition was given up meanwhile does not want it.
                drop(whom.send(reply.map(|log| Reply { log, answer_bytes })));
            }
        }
    }

    /// Asks on the kept connection or a new one; a failure of the whole is everybody's.
    async fn ask(&mut self, asked: &[Question]) -> Vec<Result<fetch::Fetched, Arc<KafkaError>>> {
        match self.try_to_ask(asked).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => asked.iter().map(|_| Err(Arc::clone(&error))).collect(),
        }
    }

    async fn try_to_ask(&mut self, asked: &[Question]) -> Result<Vec<fetch::Fetched>, Arc<KafkaError>> {
        let fetch = self.request(asked);
        if let Some(mut kept) = self.connection.take().filter(Connection::is_usable) {
            let answer = fetch::fetch(&mut kept, &fetch).await;
            self.connection = Some(kept);
            // Brokers close idle connections (connections.max.idle.ms); that is no trouble.
            if !matches!(answer, Err(KafkaError::Broken { .. })) {
                return answer.map_err(Arc::new);
            }
        }
        let mut fresh = dial(&self.settings, &self.address).await?;
        let answer = fetch::fetch(&mut fresh, &fetch).await;
        self.connection = Some(fresh);
        answer.map_err(Arc::new)
    }

    fn request(&self, asked: &[Question]) -> Fetch {
        let bytes = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        let position = |question: &Question| Position {
            topic: self.settings.topic.clone(),
            partition: question.partition,
            offset: question.offset,
            leader_epoch: question.leader_epoch,
            last_epoch: question.last_epoch,
            max_bytes: bytes(question.max_bytes),
        };
        Fetch {
            max_wait: self.wait,
            min_bytes: 1,
            max_bytes: bytes(asked.iter().map(|question| question.max_bytes).sum()),
            isolation: self.isolation,
            partitions: asked.iter().map(position).collect(),
        }
    }
}
