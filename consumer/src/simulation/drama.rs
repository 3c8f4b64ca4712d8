//! What happens in a history, in the order that the seed wants; then everything heals.

use std::{sync::Arc, time::Duration};

use coinduit_common::kafka::group::{Identity, leave};
use coinduit_local::broker::core::wire::Request;
use tokio::time::{Instant, sleep};

use super::{
    broker::TOPIC,
    process::{Process, Setup},
    weather::Kind,
    world::World,
};

/// The group that has to store everything.
const GROUP: &str = "g";
/// Another one, on the same prefix.
const STRANGERS: &str = "stranger";
/// After so long in a healed world everything is handled, or will never be.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// The processes, and who lets things happen to them.
pub(super) struct Drama {
    world: Arc<World>,
    processes: Vec<Process>,
    started: u64,
    coordinator_back_at: Option<Instant>,
}

impl Drama {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { world, processes: Vec::new(), started: 0, coordinator_back_at: None }
    }

    /// Plays all of it.
    pub(super) async fn play(mut self) {
        let World { weather, dice, began, .. } = &*Arc::clone(&self.world);
        for partition in 0..self.world.partitions() {
            if weather.first_start > 0 {
                self.world.publish(partition, weather.first_start, 0);
                self.world.retain(partition, weather.first_start);
            }
            self.world.publish(partition, dice.offset(1..=5), 0);
        }
        self.start(GROUP);
        let end = *began + weather.lasts;
        let recreate_at = weather.recreated.then(|| *began + weather.lasts.mul_f64(0.7));
        let mut outage_at = weather.outage_at.map(|time| *began + time);
        while Instant::now() < end {
            sleep(dice.millis(20..=weather.pace_ms)).await;
            if outage_at.take_if(|at| *at <= Instant::now()).is_some() {
                self.somebody("has no store", |process, world| {
                    let time = world.dice.seconds(800..=1_200);
                    process.origin.store_goes_down(time);
                    world.is_restless_for(time);
                });
            }
            let is_time = recreate_at.is_some_and(|at| at <= Instant::now());
            if is_time && self.world.shelf.is_claimed() && !self.world.is_recreated() {
                self.recreate();
            } else {
                self.something_happens();
            }
            self.lifecycle();
            self.world.time_passes(&mut self.coordinator_back_at);
        }
        self.heal().await;
    }

    fn something_happens(&mut self) {
        let World { weather, dice, .. } = &*Arc::clone(&self.world);
        let partition = i32::try_from(dice.between(0..=2)).unwrap_or(0) % self.world.partitions();
        self.processes.retain(|process| !process.is_over());
        // Where objects are to expire under a process, it has to live long enough.
        let gentle = weather.kind == Kind::Long && !dice.happens(100);
        match dice.between(0..=99) {
            0..=4 | 53..=78 if gentle => {}
            0..=4 => self.remove_a_member(),
            5..=39 => {
                let count = dice.offset(1..=if dice.happens(200) { 20 } else { 6 });
                self.world.publish(partition, count, if dice.happens(100) { dice.offset(1..=4) } else { 0 });
            }
            40..=52 => {
                if weather.stranger && self.running(STRANGERS) == 0 {
                    self.start(STRANGERS);
                } else if self.running(GROUP) < weather.most_processes {
                    self.start(GROUP);
                }
            }
            53..=59 => self.somebody("crashes", |process, _| process.crash()),
            60..=67 => self.somebody("stands still", |process, world| {
                let time = world.dice.seconds(world.dice.one_of(&[1..=8, 20..=70, 60..=170]).clone());
                process.origin.gate.close_for(time);
                world.is_restless_for(time);
            }),
            68..=73 => self.somebody("is told to stop", |process, _| process.stop()),
            74..=78 => self.somebody("has no store", |process, world| {
                process.origin.store_goes_down(world.dice.seconds(5..=60));
            }),
            79..=81 if self.coordinator_back_at.is_none() => self.coordinator_moves(),
            82..=84 => self.world.lose_leader(partition, dice.seconds(1..=40)),
            85..=89 if weather.retention => {
                if let Some((start, end)) = self.world.broker.bounds(partition) {
                    let most = if dice.happens(300) { end } else { start + (end - start) / 2 };
                    self.world.retain(partition, dice.offset(start..=most));
                }
            }
            90..=92 if weather.operator => self.operator(partition),
            93..=94 if weather.commits_expire => self.commits_expire(),
            95..=97 => self.world.add_partitions(),
            _ => {}
        }
    }

    fn coordinator_moves(&mut self) {
        let World { dice, broker, .. } = &*self.world;
        let time = dice.seconds(1..=60);
        self.world.tell("cluster", format_args!("the coordinator is away for {time:?}"));
        broker.core().lose_coordinator(broker.now_ms());
        broker.changed();
        self.coordinator_back_at = Some(Instant::now() + time);
    }

    fn somebody(&mut self, what: &str, mut happens: impl FnMut(&mut Process, &World)) {
        let world = Arc::clone(&self.world);
        if self.processes.is_empty() {
            return;
        }
        let last = u64::try_from(self.processes.len()).unwrap_or(1) - 1;
        let at = usize::try_from(world.dice.between(0..=last)).unwrap_or(0);
        world.tell(&self.processes[at].origin.name, format_args!("{what}"));
        happens(&mut self.processes[at], &world);
    }

    fn running(&self, group: &str) -> usize {
        self.processes
            .iter()
            .filter(|process| process.origin.group == group && !process.is_stopping())
            .count()
    }

    fn start(&mut self, group: &str) {
        let World { weather, dice, .. } = &*Arc::clone(&self.world);
        self.started += 1;
        let taken = |name: &String| {
            self.processes
                .iter()
                .any(|process| process.instance_id.as_ref() == Some(name) && !process.is_over())
        };
        // Now and then two processes have one name.
        let instance_id = (weather.is_static && group == GROUP)
            .then(|| ["a", "b", "c"].map(ToOwned::to_owned).into_iter())
            .and_then(|mut names| names.find(|name| !taken(name) || dice.happens(50)));
        let setup = Setup {
            number: self.started,
            group: group.to_owned(),
            instance_id,
            session_timeout: dice.seconds(10..=45),
            limits: *dice.one_of(&weather.limits),
            drain_timeout: dice.seconds(1..=*dice.one_of(&[2, 25])),
            exit_at_end: !self.world.is_healed() && dice.happens(100),
            memory_budget: if dice.happens(100) { 2_000 } else { 64 << 20 },
        };
        self.processes.push(Process::start(&self.world, setup));
    }

    fn recreate(&self) {
        self.world.tell("cluster", format_args!("the topic is deleted and created again"));
        self.world.recreate_topic();
        for partition in 0..self.world.partitions() {
            for _ in 0..30 {
                self.world.publish(partition, 6, 0);
            }
        }
    }

    /// As `Admin.removeMembersFromConsumerGroup` does: the member learns that it is none, and comes back.
    fn remove_a_member(&self) {
        let Some(members) = self.world.broker.core().group(GROUP).map(|group| group.members) else { return };
        if members.is_empty() {
            return;
        }
        let member = self.world.dice.one_of(&members).clone();
        self.world.tell("operator", format_args!("removes {}", member.id));
        let identity = Identity {
            group: GROUP.to_owned(),
            member_id: member.id,
            instance_id: member.instance_id,
            generation: -1,
        };
        self.world.broker.command(5, Request::LeaveGroup(leave::request(&identity, 5)));
    }

    /// `kafka-consumer-groups --reset-offsets`.
    fn operator(&self, partition: i32) {
        let World { dice, broker, judge, .. } = &*self.world;
        let Some((_, end)) = broker.bounds(partition) else { return };
        let offset = dice.offset(0..=end + if dice.happens(200) { 10 } else { 0 });
        let force = dice.happens(500);
        if broker.core().reset_offset(GROUP, TOPIC, partition, offset, force).is_ok() {
            judge.operator_committed(GROUP, partition, offset);
            self.world.tell("operator", format_args!("resets {partition} to {offset}"));
        }
    }

    /// The contract assumes that commits outlive whatever has no object yet.
    fn commits_expire(&self) {
        let World { weather, broker, shelf, .. } = &*self.world;
        let all_have = (0..weather.partitions.1).all(|partition| shelf.has_objects(partition));
        if all_have || weather.kind == Kind::CommitsExpireAlone {
            broker.core().expire_commits(GROUP);
            self.world.tell("cluster", format_args!("the group's commits expire"));
        }
    }

    /// S3 removes what is old.
    fn lifecycle(&self) {
        let World { weather, shelf, .. } = &*self.world;
        let Some(life) = weather.object_life else { return };
        let Some(then) = self.world.now().checked_sub(life) else { return };
        for key in shelf.expire(then, weather.kind == Kind::EveryObjectExpires) {
            self.world.tell("s3", format_args!("{key} expires"));
        }
    }

    /// Faults end; whoever stands still goes on some time; somebody works until everything is handled.
    async fn heal(mut self) {
        let world = Arc::clone(&self.world);
        world.tell("world", format_args!("heals"));
        world.heal();
        self.coordinator_back_at = self.coordinator_back_at.map(|_| Instant::now());
        world.time_passes(&mut self.coordinator_back_at);
        if world.is_recreated() {
            return self.all_have_to_end().await;
        }
        let limit = Instant::now() + PATIENCE;
        let mut complete = false;
        while Instant::now() < limit && !complete && world.judge.verdicts().is_empty() {
            if !self.processes.iter().any(|it| it.origin.group == GROUP && !it.is_over() && !it.is_stopping())
            {
                self.start(GROUP);
            }
            sleep(Duration::from_secs(5)).await;
            complete = world.judge.is_complete(GROUP, world.partitions());
        }
        if !complete && world.judge.verdicts().is_empty() {
            world
                .judge
                .object_to(format!("stalled: not handled after {PATIENCE:?}: {}", world.judge.state()));
        }
        // Whoever still stands still goes on and does his worst; what is on the wire lands.
        world.calm().await;
        self.processes.iter_mut().for_each(Process::stop);
        let limit = Instant::now() + Duration::from_secs(100);
        while Instant::now() < limit && !self.processes.iter().all(Process::is_over) {
            sleep(Duration::from_secs(1)).await;
        }
        world.judge.last_look(complete);
    }

    /// Nobody may work on a topic that was created again.
    async fn all_have_to_end(self) {
        sleep(Duration::from_secs(600)).await;
        for process in self.processes.iter().filter(|process| !process.is_over()) {
            let name = &process.origin.name;
            self.world.judge.object_to(format!("stalled: {name} has not seen that the topic is another one"));
        }
        self.world.judge.last_look(false);
    }
}

impl World {
    /// Lets the coordinator come back when it is time.
    fn time_passes(&self, back_at: &mut Option<Instant>) {
        if back_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.broker.core().regain_coordinator(self.broker.now_ms());
            self.broker.changed();
            self.tell("cluster", format_args!("the coordinator is back"));
        }
    }
}
