//! One process: the real service, with the world around it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use coinduit_common::{
    alert::Alerts,
    aws::AwsSettings,
    clock::Clock,
    config::{Env, Faults},
    kafka::{aborted::Isolation, bootstrap::Bootstrap, security::Security, settings::KafkaSettings},
    object_key::Prefix,
    report::Chain,
    telemetry::LogSettings,
};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use super::{
    broker::TOPIC,
    cluster::{Cluster, Log, TopicId},
    gate::Gate,
    store::Client,
    world::World,
};
use crate::{
    batch::Limits,
    config::{Config, Reader},
    error::{ConsumerError, Fatal},
    layout::Layout,
    service::{Parts, Service},
    vitals::Vitals,
};

/// What the world knows of a process.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) name: String,
    pub(super) group: String,
    pub(super) gate: Gate,
    session_timeout: Duration,
    /// When its last heartbeat left that was acknowledged.
    alive_at: Mutex<Option<Duration>>,
    store_is_down_until: Mutex<Option<Instant>>,
}

impl Origin {
    pub(super) fn store_is_down(&self) -> bool {
        self.store_is_down_until.lock().unwrap().is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn store_goes_down(&self, time: Duration) {
        *self.store_is_down_until.lock().unwrap() = Some(Instant::now() + time);
    }

    /// A sign of life that left at `sent_at` was acknowledged.
    pub(super) fn is_alive(&self, sent_at: Duration) {
        let mut alive_at = self.alive_at.lock().unwrap();
        *alive_at = (*alive_at).max(Some(sent_at));
    }

    /// It begins to put a data object.
    pub(super) fn puts(&self, world: &World, key: &str) {
        let alive_at = *self.alive_at.lock().unwrap();
        let valid = alive_at.is_some_and(|at| world.now() < at + self.session_timeout);
        if !valid {
            world.judge.object_to(format!("lapsed: {} puts {key}, last alive at {alive_at:?}", self.name));
        }
    }
}

/// How a process is set up.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) number: u64,
    pub(super) group: String,
    pub(super) instance_id: Option<String>,
    pub(super) session_timeout: Duration,
    pub(super) limits: Limits,
    pub(super) drain_timeout: Duration,
    pub(super) memory_budget: usize,
    pub(super) exit_at_end: bool,
}

/// A process that was started.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) origin: Arc<Origin>,
    pub(super) instance_id: Option<String>,
    /// `None` once it was told.
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Process {
    pub(super) fn start(world: &Arc<World>, setup: Setup) -> Self {
        let origin = Arc::new(Origin {
            name: format!("p{}", setup.number),
            group: setup.group.clone(),
            gate: Gate::open(),
            session_timeout: setup.session_timeout,
            alive_at: Mutex::default(),
            store_is_down_until: Mutex::default(),
        });
        let clock = Clock::Tokio(world.began);
        let vitals = Vitals::new(TOPIC, setup.limits.age, clock.clone(), Alerts::logged_only());
        let parts = Parts {
            bucket: Arc::new(Client { world: Arc::clone(world), origin: Arc::clone(&origin) }),
            topic: Arc::new(TopicId::new(world, &origin)),
            readers: Arc::new(Log::new(world, &origin)),
            coordinator: Arc::new(Cluster::new(world, &origin)),
            alerts: Alerts::logged_only(),
            vitals,
            clock,
            process: origin.name.as_str().into(),
        };
        world.tell(&origin.name, format_args!("starts: {setup:?}"));
        let instance_id = setup.instance_id.clone();
        let service = Service::new(config(world, setup), parts);
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            match stopped.await {
                Ok(()) => "SIGTERM",
                Err(_) => std::future::pending().await,
            }
        };
        let (told, name) = (Arc::clone(world), origin.name.clone());
        let task = tokio::spawn(async move {
            let ended = service.run(shutdown).await;
            judge_end(&told, &name, &ended);
        });
        Self { origin, instance_id, stop: Some(stop), task }
    }

    pub(super) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// The power goes.
    pub(super) fn crash(&self) {
        self.task.abort();
    }

    /// SIGTERM.
    pub(super) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A process that is over does not hear it.
            let _heard: Result<(), ()> = stop.send(());
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_none()
    }
}

/// A process may end by itself only where the contract says so.
fn judge_end(world: &World, name: &str, ended: &Result<(), ConsumerError>) {
    match ended {
        Ok(()) => world.tell(name, format_args!("ends")),
        Err(error) => {
            world.tell(name, format_args!("ends: {}", Chain(error)));
            let expected = match error {
                ConsumerError::NotDrained { .. } => true,
                ConsumerError::Fatal(Fatal::TopicRecreated(_) | Fatal::Ownership(_)) => world.is_recreated(),
                ConsumerError::Fatal(Fatal::Group(_)) => world.weather.is_static,
                ConsumerError::Client { .. } | ConsumerError::Listen(_) | ConsumerError::Crashed(_) => false,
            };
            if !expected {
                world.judge.object_to(format!("ended: {name}: {}", Chain(error)));
            }
        }
    }
}

fn config(world: &World, setup: Setup) -> Config {
    let (env, mut faults) = (Env::default(), Faults::default());
    Config {
        kafka: KafkaSettings {
            bootstrap: Bootstrap::parse("broker:9092").unwrap(),
            topic: TOPIC.to_owned(),
            client_id: "c".to_owned(),
            security: Security::default(),
            warnings: Vec::new(),
        },
        group_id: setup.group,
        instance_id: setup.instance_id,
        session_timeout: setup.session_timeout,
        reset: world.weather.reset,
        reader: Reader::Auto,
        isolation: Isolation::ReadUncommitted,
        bucket: "b".to_owned(),
        prefix: Prefix::default(),
        layout: Layout::default(),
        limits: setup.limits,
        enrich: false,
        memory_budget: setup.memory_budget,
        worker_threads: 1,
        drain_timeout: setup.drain_timeout,
        exit_at_end: setup.exit_at_end,
        http_addr: None,
        sns_topic_arn: None,
        aws: AwsSettings::from_env(&env, &mut faults),
        log: LogSettings::from_env(&env, &mut faults),
    }
}
