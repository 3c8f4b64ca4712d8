//! Who owns which task, and the order of start and stop.
//!
//! ```text
//! start:   topic known -> folder claimed -> group joined -> a task for each partition that is assigned
//! revoked: no more fetching -> what is held is stored and committed -> released, all within DRAIN_TIMEOUT
//! lost:    tasks dropped at once
//! stop:    as revoked, for all; then the group is left
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use coinduit_common::{
    alert::{Alert, AlertKind, Alerts},
    clock::Clock,
    kafka::metadata::Topic,
    report::Chain as Causes,
};
use tokio::{
    sync::watch,
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tracing::{info, warn};

use crate::{
    budget::Budget,
    config::Config,
    error::{ConsumerError, Fatal},
    group::{
        board::Board,
        coordinator::Coordinator,
        lease::Lease,
        member::Setting as Membership,
        session::{self, Session, Turn},
    },
    health::{Phase, Stage},
    identity::{Confirm, IdentityError},
    ledger::{
        bucket::Bucket, chain::Chain, commit::LedgerId, manifest::Manifest, metadata::Closed,
        resume::Committed,
    },
    ownership::{self, OwnershipError},
    partition::{PartitionTask, progress::Setting},
    patience::{Patience, Setback},
    pending::{Pending, done},
    puts::Puts,
    reader::OpenReader,
    tiny::TinyObjects,
    vitals::Vitals,
};

/// What a partition costs by itself, beside its records; measured with a thousand of them.
const PARTITION: usize = 32 << 10;
/// How often the topic is looked at for partitions that are nobody's: added ones, and those that a round left over.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(30);
/// The coordinator waits for members in a rebalance for at least so long, and longer where draining may take longer.
const LEAST_REBALANCE: Duration = Duration::from_secs(60);
/// What giving up partitions may take beyond storing what they hold.
const REBALANCE_SLACK: Duration = Duration::from_secs(15);
/// How long leaving may take once everything is stored; DRAIN_TIMEOUT may be used up by then.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);
/// With `--exit-at-end`, a member that was given nothing waits so long for others to hand something over.
const NOTHING_TO_DO: Duration = Duration::from_secs(10);

/// What the service works with.
#[derive(Clone)]
pub struct Parts {
    /// Where objects go.
    pub bucket: Arc<dyn Bucket>,
    /// What the topic is.
    pub topic: Arc<dyn Confirm>,
    /// Where records come from.
    pub readers: Arc<dyn OpenReader>,
    /// The group's coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// Whom to tell.
    pub alerts: Alerts,
    /// Who shows how it stands.
    pub vitals: Arc<Vitals>,
    /// What time it is.
    pub clock: Clock,
    /// A name that no other process has or had.
    pub process: Arc<str>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("process", &self.process).finish_non_exhaustive()
    }
}

/// One consumer, from start to stop.
pub struct Service {
    config: Config,
    parts: Parts,
    budget: Arc<Budget>,
    board: Arc<Board>,
    lease: Arc<Lease>,
    puts: Puts,
    tiny: Arc<Mutex<TinyObjects>>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Service {
    /// A service that has not begun. Opens nothing.
    #[must_use]
    pub fn new(config: Config, parts: Parts) -> Self {
        let budget = Budget::with_own(config.memory_budget, PARTITION);
        let lease = Arc::new(Lease::new(parts.clock.clone()));
        let tiny = Arc::new(Mutex::new(TinyObjects::new(config.limits)));
        let used = Arc::clone(&budget);
        parts.vitals.budget(config.memory_budget, move || used.used());
        Self { config, parts, budget, board: Arc::default(), lease, puts: Puts::default(), tiny }
    }

    /// Runs until `shutdown` comes, the end is reached (`--exit-at-end`), or nothing can help any more.
    ///
    /// # Errors
    /// [`ConsumerError`].
    pub async fn run(self, shutdown: impl Future<Output = &'static str>) -> Result<(), ConsumerError> {
        // Side by side in one task: the loop that stands still says no more that it turns.
        let result = tokio::select! {
            biased;
            result = self.start_and_serve(shutdown) => result,
            never = self.parts.vitals.beat() => match never {},
        };
        if let Err(ConsumerError::Fatal(fatal)) = &result {
            let advice = "the consumer has stopped, and will stop again until this is changed";
            self.parts.alerts.send(Alert::new(
                fatal.kind(),
                &self.config.kafka.topic,
                Causes(fatal).to_string(),
                advice,
            ));
        }
        result
    }

    async fn start_and_serve(
        &self,
        shutdown: impl Future<Output = &'static str>,
    ) -> Result<(), ConsumerError> {
        tokio::pin!(shutdown);
        let ledger = tokio::select! {
            biased;
            signal = &mut shutdown => {
                info!(signal, "stopped before anything was read");
                return Ok(());
            }
            ledger = self.start() => ledger?,
        };
        let mut crew = Crew::new(self, ledger);
        let ended = crew.serve(shutdown).await;
        if ended.is_err() {
            // The others need not wait until this member's session ends.
            crew.abandon().await;
        }
        ended
    }

    /// Waits for the topic, and claims its folder.
    async fn start(&self) -> Result<Ledger, Fatal> {
        let Parts { topic: identity, alerts, clock, bucket, vitals, .. } = &self.parts;
        let place = &self.config.kafka.topic;
        let mut patience = Patience::new(alerts, clock, place, vitals.slot(Stage::Topic));
        let topic = loop {
            match identity.describe().await {
                Ok(topic) => break topic,
                Err(error) => {
                    // A topic that is missing may be created any moment.
                    let setback = Setback { permanent: error.needs_a_person(), ..not_described(&error) };
                    patience.failed(setback, &error).await;
                }
            }
        };
        info!(
            topic = place,
            topic_id = topic.printed_id(),
            cluster_id = topic.cluster_id,
            partitions = topic.partitions.len(),
            "topic found"
        );
        patience.over();
        let manifest = Manifest::for_topic(&topic).laid_out(self.config.layout);
        vitals.phase(Phase::Claim);
        let mut patience = Patience::new(alerts, clock, &self.config.bucket, vitals.slot(Stage::Claim));
        loop {
            match ownership::claim(&**bucket, &self.config.prefix, place, &manifest, count(&topic)).await {
                Ok(claimed) => {
                    patience.over();
                    vitals.phase(Phase::Share);
                    return Ok(Ledger {
                        id: LedgerId::new(&self.config.bucket, &self.config.prefix, &topic.printed_id()),
                        first_partitions: claimed.first_partitions,
                    });
                }
                Err(OwnershipError::Store(error)) => {
                    let advice = "check S3_BUCKET, the endpoint, the credentials and their permissions (list, get, put); the consumer waits";
                    let setback =
                        Setback { permanent: error.permanent, kind: AlertKind::StoreFailed, advice };
                    patience.failed(setback, &error).await;
                }
                Err(error) => return Err(Fatal::Ownership(error)),
            }
        }
    }
}

/// The objects that this consumer continues.
#[derive(Debug, Clone, Copy)]
struct Ledger {
    id: LedgerId,
    /// How many partitions the topic had when the ledger began.
    first_partitions: i32,
}

/// What it means for people that the topic could not be looked up.
fn not_described(error: &IdentityError) -> Setback {
    if let IdentityError::Missing { .. } = error {
        Setback {
            permanent: true,
            kind: AlertKind::TopicChanged,
            advice: "create the topic, or set KAFKA_TOPIC; the consumer waits for it",
        }
    } else {
        Setback {
            permanent: error.needs_a_person(),
            kind: AlertKind::KafkaFailed,
            advice: "check KAFKA_BOOTSTRAP_SERVERS and what the message names, and that the brokers run and can be reached; the consumer waits for them",
        }
    }
}

fn count(topic: &Topic) -> i32 {
    i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)
}

/// The membership and the tasks of the partitions that it brought.
struct Crew<'a> {
    service: &'a Service,
    ledger: Ledger,
    session: Session,
    tasks: JoinSet<Result<(), Fatal>>,
    hands: BTreeMap<i32, Hand>,
    /// Partitions that are to be released together, by when.
    releasing: Option<Releasing>,
    /// How many partitions were ever begun: makes their writers' names.
    begun: u64,
    /// With `--exit-at-end`: end then, if nothing is held.
    idle_at: Option<Instant>,
    look: Pending<Result<Topic, IdentityError>>,
    look_patience: Patience,
}

/// One partition's task.
struct Hand {
    stop: watch::Sender<Option<Closed>>,
    task: AbortHandle,
}

struct Releasing {
    partitions: BTreeSet<i32>,
    deadline: Instant,
}

impl<'a> Crew<'a> {
    fn new(service: &'a Service, ledger: Ledger) -> Self {
        let Config { group_id, instance_id, session_timeout, drain_timeout, kafka, .. } = &service.config;
        let membership = Membership {
            group: group_id.clone(),
            instance_id: instance_id.clone(),
            topic: kafka.topic.clone(),
            session_timeout: *session_timeout,
            rebalance_timeout: LEAST_REBALANCE.max(*drain_timeout + REBALANCE_SLACK),
        };
        let parts = session::Parts {
            coordinator: Arc::clone(&service.parts.coordinator),
            topic: Arc::clone(&service.parts.topic),
            ledger: ledger.id,
            board: Arc::clone(&service.board),
            lease: Arc::clone(&service.lease),
            clock: service.parts.clock.clone(),
            alerts: service.parts.alerts.clone(),
            vitals: Arc::clone(&service.parts.vitals),
        };
        let Parts { alerts, clock, vitals, .. } = &service.parts;
        let look_patience = Patience::new(alerts, clock, &kafka.topic, vitals.slot(Stage::Topic));
        let mut crew = Self {
            service,
            ledger,
            session: Session::new(membership, parts),
            tasks: JoinSet::new(),
            hands: BTreeMap::new(),
            releasing: None,
            begun: 0,
            idle_at: None,
            look: None,
            look_patience,
        };
        crew.look_later();
        crew
    }

    async fn serve(&mut self, shutdown: impl Future<Output = &'static str>) -> Result<(), ConsumerError> {
        tokio::pin!(shutdown);
        loop {
            let release_by = self.releasing.as_ref().map(|releasing| releasing.deadline);
            tokio::select! {
                biased;
                signal = &mut shutdown => {
                    info!(signal, held_bytes = self.service.budget.used(), "stopping: storing what is held");
                    return self.stop().await;
                }
                turn = self.session.next() => self.take_turn(turn?)?,
                Some(ended) = self.tasks.join_next_with_id() => {
                    // What was dropped or given up has not come to its end: the next assignment says what is left.
                    let at_its_end = ended.is_ok() && self.releasing.is_none();
                    self.task_ended(ended)?;
                    if self.service.config.exit_at_end && at_its_end && self.hands.is_empty() {
                        self.idle_at = Some(Instant::now());
                    }
                }
                () = at(release_by) => self.give_up(),
                () = at(self.idle_at) => {
                    info!("everything up to the end is stored");
                    return self.stop().await;
                }
                topic = done(&mut self.look) => self.looked(topic)?,
            }
        }
    }

    fn take_turn(&mut self, turn: Turn) -> Result<(), Fatal> {
        match turn {
            Turn::Assigned(partitions) => {
                self.idle_at = None;
                for (partition, committed) in partitions {
                    self.begin(partition, committed);
                }
                if self.service.config.exit_at_end && self.hands.is_empty() {
                    self.idle_at = Some(Instant::now() + NOTHING_TO_DO);
                }
                Ok(())
            }
            Turn::Revoked(partitions) => {
                let held: BTreeSet<i32> = partitions
                    .into_iter()
                    .filter(|partition| self.stop_hand(*partition, Closed::Revoked))
                    .collect();
                let deadline = Instant::now() + self.service.config.drain_timeout;
                self.releasing = Some(Releasing { partitions: held, deadline });
                self.release()
            }
            Turn::Lost => {
                self.drop_all();
                Ok(())
            }
            Turn::Left => Ok(()),
        }
    }

    fn begin(&mut self, partition: i32, committed: Committed) {
        let Service { config, parts, budget, board, lease, puts, tiny } = self.service;
        let (topic, prefix): (Arc<str>, _) =
            (config.kafka.topic.as_str().into(), Arc::new(config.prefix.clone()));
        self.begun += 1;
        let (stop, stopped) = watch::channel(None);
        let task = PartitionTask {
            chain: Chain::new(Arc::clone(&parts.bucket), Arc::clone(&prefix), Arc::clone(&topic), partition)
                .laid_out(config.layout, puts.clone()),
            setting: Setting {
                topic,
                partition,
                prefix,
                layout: config.layout,
                limits: config.layout.limits(config.limits),
                enrich: config.enrich,
                writer: format!("{}-{}", parts.process, self.begun).into(),
            },
            reader: parts.readers.open(partition),
            identity: Arc::clone(&parts.topic),
            clock: parts.clock.clone(),
            alerts: parts.alerts.clone(),
            vitals: parts.vitals.partition(partition, self.begun),
            share: budget.share(),
            committed,
            reset: config.reset,
            appeared_later: partition >= self.ledger.first_partitions,
            place: board.place(partition),
            lease: Arc::clone(lease),
            tiny: Arc::clone(tiny),
            stop: stopped,
            exit_at_end: config.exit_at_end,
        };
        let task = self.tasks.spawn(task.run());
        self.hands.insert(partition, Hand { stop, task });
    }

    /// Tells a partition's task to store what it holds and end; `false` where there is none.
    fn stop_hand(&self, partition: i32, why: Closed) -> bool {
        self.hands.get(&partition).is_some_and(|hand| {
            hand.stop.send_replace(Some(why));
            true
        })
    }

    fn task_ended(&mut self, ended: Result<(Id, Result<(), Fatal>), JoinError>) -> Result<(), ConsumerError> {
        let id = match ended {
            Ok((id, outcome)) => {
                outcome?;
                id
            }
            // Dropped by ourselves.
            Err(error) if error.is_cancelled() => error.id(),
            Err(error) => return Err(ConsumerError::Crashed(error)),
        };
        self.hands.retain(|_, hand| hand.task.id() != id);
        Ok(self.release()?)
    }

    /// Reports that everything is given up which was to be, once it is.
    fn release(&mut self) -> Result<(), Fatal> {
        let hands = &self.hands;
        let is_released = self
            .releasing
            .take_if(|releasing| !releasing.partitions.iter().any(|partition| hands.contains_key(partition)))
            .is_some();
        if is_released { self.session.released() } else { Ok(()) }
    }

    /// Time is up for what was to be given up: it is dropped, and read again by its next owner.
    fn give_up(&mut self) {
        let Some(releasing) = &mut self.releasing else { return };
        // Not again before the tasks have ended.
        releasing.deadline += LEAST_REBALANCE;
        for partition in &releasing.partitions {
            if let Some(hand) = self.hands.get(partition) {
                warn!(
                    partition,
                    "not stored within DRAIN_TIMEOUT: given up all the same, and read again by its next owner"
                );
                hand.task.abort();
            }
        }
    }

    fn drop_all(&mut self) {
        for hand in std::mem::take(&mut self.hands).into_values() {
            hand.task.abort();
        }
        self.releasing = None;
    }

    fn look_later(&mut self) {
        let topic = Arc::clone(&self.service.parts.topic);
        self.look = Some(Box::pin(async move {
            sleep(LOOK_FOR_PARTITIONS).await;
            topic.describe().await
        }));
        self.look_patience.begins();
    }

    fn looked(&mut self, topic: Result<Topic, IdentityError>) -> Result<(), Fatal> {
        self.look_later();
        match topic {
            Ok(topic) => {
                self.look_patience.over();
                self.session.partitions(count(&topic))
            }
            Err(error @ IdentityError::Recreated { .. }) => Err(Fatal::TopicRecreated(error)),
            Err(error) => {
                // It is looked at again in its time, whatever came.
                let _wait = self.look_patience.count(not_described(&error), &error);
                Ok(())
            }
        }
    }

    /// Stores what is held, commits, leaves the group.
    async fn stop(&mut self) -> Result<(), ConsumerError> {
        let deadline = Instant::now() + self.service.config.drain_timeout;
        self.releasing = None;
        self.service.parts.vitals.phase(Phase::Stop);
        self.session.stopping()?;
        for partition in self.hands.keys() {
            self.stop_hand(*partition, Closed::Shutdown);
        }
        let mut lost = 0;
        while !self.hands.is_empty() {
            tokio::select! {
                biased;
                turn = self.session.next() => if turn? == Turn::Lost {
                    lost = self.hands.len();
                    self.drop_all();
                },
                Some(ended) = self.tasks.join_next_with_id() => self.task_ended(ended)?,
                () = sleep_until(deadline) => break,
            }
        }
        let partitions = self.hands.len() + lost;
        self.leave(deadline).await;
        if partitions > 0 {
            return Err(ConsumerError::NotDrained { partitions });
        }
        info!("everything that was held is stored");
        Ok(())
    }

    /// Leaves without storing anything.
    async fn abandon(&mut self) {
        self.drop_all();
        if self.session.stopping().is_ok() {
            self.leave(Instant::now()).await;
        }
    }

    async fn leave(&mut self, deadline: Instant) {
        if self.session.leave().is_err() {
            return;
        }
        let left = async { while !matches!(self.session.next().await, Ok(Turn::Left) | Err(_)) {} };
        let limit = deadline.max(Instant::now() + LEAVE_LIMIT);
        if timeout_at(limit, left).await.is_err() {
            warn!("the group does not answer; it will notice by itself that this member is gone");
        }
    }
}

/// Waits until then; for ever where there is no such time.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
