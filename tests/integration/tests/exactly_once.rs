//! The crash test: every record once, in order, whatever happens to the members of a group and to their puts.
//!
//! Several arenas run side by side, each with its own topic, group and bucket, traffic that never rests, and three
//! members. By one seed members are killed, stand still for longer than their sessions, are told to stop, and
//! come back with other settings, while puts fail in every way. What the choices meet is up to the clock.

use std::ops::Range;
use std::time::Duration;

use coinduit_integration::membership::owned;
use coinduit_integration::program::Program;
use coinduit_integration::rig::Rig;
use coinduit_integration::tally::Tally;
use coinduit_integration::traffic::{Traffic, is_line};
use coinduit_local::s3::PutFault;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, sleep_until};

/// Kills and pauses in all; `COINDUIT_CRASHES` sets another number.
const CRASHES: u64 = 20;
/// One in so many of them is a pause.
const PAUSES: u64 = 4;
/// One in so many pauses begins in the middle of puts.
const IN_THE_PUT: u64 = 6;
/// So many kills and pauses later an arena ends: the embedded store slows down with tens of thousands of objects.
const MOST_IN_AN_ARENA: u64 = 50;
/// Arenas at the same time.
const AT_ONCE: u64 = 6;
const PARTITIONS: i32 = 4;
/// Members 0 and 1 are static, and are back before their sessions end.
const MEMBERS: usize = 3;
const STATIC: usize = 2;
/// The shortest session that brokers allow.
const SESSION: Duration = Duration::from_secs(6);
/// Settings of a member, which read with either reader: records, bytes, age. Some cut small objects, so that there are many puts to be interrupted;
/// some hold what they read, so that others can be faster.
const LIMITS: [(&str, &str, &str); 6] = [
    ("20", "8MiB", "1s"),
    ("50000", "512B", "1s"),
    ("100", "4KiB", "50ms"),
    ("50000", "8MiB", "200ms"),
    ("50000", "8MiB", "3s"),
    ("50000", "8MiB", "3s"),
];
/// The age of objects of those.
const SLOW: Duration = Duration::from_secs(3);
/// From so many crashes on, races for one name must have been lost.
const MANY: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn kills_pauses_and_faulty_puts_neither_lose_nor_repeat_a_record() {
    let (seed, crashes) = (number("COINDUIT_SEED", rand::random()), number("COINDUIT_CRASHES", CRASHES));
    println!("COINDUIT_SEED={seed} COINDUIT_CRASHES={crashes} repeats the choices of this run");
    let begun = Instant::now();
    let total = LocalSet::new().run_until(arenas(seed, crashes)).await;
    println!("COINDUIT_SEED={seed}: {total}, {} s", begun.elapsed().as_secs());
    assert_eq!(total.killed_static + total.killed_dynamic + total.paused, crashes);
    assert!(
        crashes < MANY || total.races_lost > 0,
        "no two members ever wanted one name: this proves little"
    );
}

async fn arenas(seed: u64, crashes: u64) -> Tally {
    let arenas = crashes.div_ceil(MOST_IN_AN_ARENA).max(AT_ONCE.min(crashes));
    // As even as can be.
    let mut waiting =
        (0..arenas).map(|arena| (arena, crashes / arenas + u64::from(arena < crashes % arenas)));
    let mut running = JoinSet::new();
    let mut total = Tally::default();
    loop {
        while running.len() < usize::try_from(AT_ONCE).expect("a small number")
            && let Some((arena, crashes)) = waiting.next()
        {
            running.spawn_local(async move {
                Arena::start(seed.wrapping_add(arena)).await.run(arena, crashes).await
            });
        }
        match running.join_next().await {
            Some(Ok(tally)) => total.add(&tally),
            Some(Err(error)) => {
                // The logs of the others are of no interest.
                running.shutdown().await;
                std::panic::resume_unwind(error.into_panic());
            }
            None => return total,
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("the variable holds a whole number"))
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT when the session is over.
    Pause,
    /// The same, with puts on the wire that reach the store when others have taken over.
    PauseInThePut,
    /// SIGTERM.
    Drain,
}

/// One of the places for a member.
enum Slot {
    Running(Program),
    Paused { program: Program, until: Instant },
    Down { until: Instant },
}

/// A topic, its group, and a bucket.
struct Arena {
    rig: Rig,
    random: StdRng,
    slots: Vec<Slot>,
    tally: Tally,
}

impl Arena {
    async fn start(seed: u64) -> Self {
        let rig = Rig::start("exactly-once", PARTITIONS).await;
        let now = Instant::now();
        let slots = (0..MEMBERS).map(|_| Slot::Down { until: now }).collect();
        Self { rig, random: StdRng::seed_from_u64(seed), slots, tally: Tally::default() }
    }

    async fn run(mut self, arena: u64, crashes: u64) -> Tally {
        let traffic =
            Traffic::start(&self.rig.kafka, &self.rig.topic, PARTITIONS, self.random.random()).await;
        for event in self.plan(crashes) {
            self.order_faults();
            if matches!(event, Event::PauseInThePut) {
                self.settled().await;
            }
            let victim = self.victim().await;
            if self.random.random_bool(0.5) {
                self.stored_more().await;
            }
            sleep(self.within(Duration::ZERO, Duration::from_millis(400))).await;
            self.happen(event, victim).await;
        }
        self.all_run().await;
        traffic.stop().await;
        for partition in 0..PARTITIONS {
            self.rig.stored_to_the_end(partition).await;
        }
        for slot in std::mem::take(&mut self.slots) {
            let Slot::Running(program) = slot else { unreachable!("all of them run") };
            program.signal(Signal::TERM);
            self.tally.read(&program.ended().await.expect_code(0).log);
        }
        let objects = self.rig.holds_everything_once(PARTITIONS, is_line).await;
        self.tally.objects = u64::try_from(objects).unwrap_or(u64::MAX);
        eprintln!("arena {arena}: {}", self.tally);
        self.rig.finish().await;
        self.tally
    }

    /// So many kills and pauses, and some members that are told to stop, in any order.
    fn plan(&mut self, crashes: u64) -> Vec<Event> {
        let pauses = crashes.div_ceil(PAUSES);
        let in_the_put = pauses.div_ceil(IN_THE_PUT);
        let counts = [
            (Event::PauseInThePut, in_the_put),
            (Event::Pause, pauses - in_the_put),
            (Event::Kill, crashes - pauses),
            (Event::Drain, crashes.div_ceil(6)),
        ];
        let mut plan: Vec<Event> =
            counts.into_iter().flat_map(|(event, count)| (0..count).map(move |_| event)).collect();
        plan.shuffle(&mut self.random);
        plan
    }

    async fn happen(&mut self, event: Event, victim: usize) {
        let now = Instant::now();
        // Static members are back within their sessions; of the others some.
        let most = if victim < STATIC { SESSION / 6 } else { SESSION };
        let until = now + self.within(Duration::ZERO, most);
        let Slot::Running(program) = std::mem::replace(&mut self.slots[victim], Slot::Down { until }) else {
            unreachable!("victims run")
        };
        match event {
            Event::Kill => {
                let count = if victim < STATIC {
                    &mut self.tally.killed_static
                } else {
                    &mut self.tally.killed_dynamic
                };
                *count += 1;
                self.tally.read(&program.kill().await.log);
            }
            Event::Pause | Event::PauseInThePut => {
                self.tally.paused += 1;
                let in_the_put = matches!(event, Event::PauseInThePut);
                if in_the_put {
                    self.hold_puts(PARTITIONS, SESSION + SLOW..SESSION + 2 * SLOW);
                    sleep(self.within(SLOW / 6, SLOW)).await;
                }
                program.signal(Signal::STOP);
                if in_the_put {
                    // Those of the successors: late enough for the others to come first.
                    let share = i32::try_from(owned(&program.log()).len()).unwrap_or(PARTITIONS);
                    self.hold_puts(share, SLOW..2 * SLOW);
                }
                let until = Instant::now() + self.within(SESSION, SESSION + 2 * SLOW);
                self.slots[victim] = Slot::Paused { program, until };
                if in_the_put {
                    // Nothing else happens until that is decided.
                    sleep_until(until).await;
                }
            }
            Event::Drain => {
                self.tally.drained += 1;
                program.signal(Signal::TERM);
                let ended = program.ended().await;
                match ended.code {
                    Some(0) => {}
                    Some(1) => {
                        self.tally.not_drained += 1;
                        eprintln!("not drained: {}", ended.log.lines().last().unwrap_or_default());
                    }
                    code => panic!("exit code {code:?} of a member that was told to stop:\n{}", ended.log),
                }
                self.tally.read(&ended.log);
            }
        }
    }

    /// A member that runs and has partitions; after a while of waiting for one, any that runs.
    async fn victim(&mut self) -> usize {
        let patience = Instant::now() + SESSION / 2;
        loop {
            self.come_back();
            let running = self.slots.iter().enumerate().filter_map(|(slot, state)| match state {
                Slot::Running(program) => Some((slot, owned(&program.log()).is_empty())),
                Slot::Paused { .. } | Slot::Down { .. } => None,
            });
            let (idle, busy): (Vec<_>, Vec<_>) = running.partition(|(_, idle)| *idle);
            let late = Instant::now() >= patience;
            let any = if late { idle.choose(&mut self.random) } else { None };
            if let Some((victim, _)) = busy.choose(&mut self.random).or(any) {
                return *victim;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until all members run and share everything, though not for ever.
    async fn settled(&mut self) {
        self.all_run().await;
        let patience = Instant::now() + SESSION;
        let everything = usize::try_from(PARTITIONS).expect("a small number");
        let held = |slots: &[Slot]| {
            let shares = slots.iter().map(|slot| match slot {
                Slot::Running(program) => owned(&program.log()).len(),
                Slot::Paused { .. } | Slot::Down { .. } => 0,
            });
            shares.sum::<usize>()
        };
        while held(&self.slots) != everything && Instant::now() < patience {
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn all_run(&mut self) {
        loop {
            self.come_back();
            if self.slots.iter().all(|slot| matches!(slot, Slot::Running(_))) {
                return;
            }
            sleep_until(self.next_return()).await;
        }
    }

    fn next_return(&self) -> Instant {
        let returns = self.slots.iter().filter_map(|slot| match slot {
            Slot::Running(_) => None,
            Slot::Paused { until, .. } | Slot::Down { until } => Some(*until),
        });
        returns.min().expect("somebody is away")
    }

    /// Lets those go on, and starts those again, whose time has come.
    fn come_back(&mut self) {
        let now = Instant::now();
        for slot in 0..MEMBERS {
            let back = match std::mem::replace(&mut self.slots[slot], Slot::Down { until: now }) {
                Slot::Running(mut program) => {
                    assert!(!program.has_ended(), "a member has ended by itself:\n{}", program.log());
                    Slot::Running(program)
                }
                Slot::Paused { program, until } if until <= now => {
                    program.signal(Signal::CONT);
                    Slot::Running(program)
                }
                Slot::Down { until } if until <= now => Slot::Running(self.member(slot)),
                away => away,
            };
            self.slots[slot] = back;
        }
    }

    /// Starts a member, with small objects, so that there are many puts to be interrupted.
    fn member(&mut self, slot: usize) -> Program {
        self.tally.started += 1;
        let instance = format!("member-{slot}");
        let (records, bytes, age) = *LIMITS.choose(&mut self.random).expect("there are choices");
        let reader = if self.random.random_bool(0.5) { "auto" } else { "native" };
        let mut changes = vec![
            ("KAFKA_READER", reader),
            ("KAFKA_SESSION_TIMEOUT", "6s"),
            ("ENRICH", "off"),
            ("MAX_OBJECT_RECORDS", records),
            ("MAX_OBJECT_BYTES", bytes),
            ("MAX_OBJECT_AGE", age),
        ];
        if slot < STATIC {
            changes.push(("KAFKA_GROUP_INSTANCE_ID", &instance));
        }
        self.rig.consumer(&changes)
    }

    /// Some of the things that can happen to a put.
    fn order_faults(&mut self) {
        let delay = self.within(Duration::from_millis(1), Duration::from_millis(300));
        let faults = [
            PutFault::ErrorBeforeWrite,
            PutFault::ErrorAfterWrite,
            PutFault::Conflict,
            PutFault::DropBeforeWrite,
            PutFault::DropAfterWrite,
            PutFault::DelayBeforeWrite(delay),
            PutFault::DelayAfterWrite(delay),
        ];
        for _ in 0..self.random.random_range(0..6) {
            let fault = *faults.choose(&mut self.random).expect("there are faults");
            self.order(fault);
        }
    }

    /// The next puts take so long to reach the store.
    fn hold_puts(&mut self, count: i32, delay: Range<Duration>) {
        for _ in 0..count {
            let delay = self.within(delay.start, delay.end);
            self.order(PutFault::DelayBeforeWrite(delay));
        }
    }

    fn within(&mut self, least: Duration, most: Duration) -> Duration {
        self.random.random_range(least..most)
    }

    fn order(&mut self, fault: PutFault) {
        self.tally.faults += 1;
        self.rig.stack.s3.order_fault(fault);
    }

    /// Waits until the bucket has a few more objects, though not for ever: nobody may be there to store any.
    async fn stored_more(&mut self) {
        let more = self.random.random_range(1..4);
        let patience = Instant::now() + SESSION / 2;
        let count = async || self.rig.bucket.keys(&self.rig.topic).await.len();
        let before = count().await;
        while count().await < before + more && Instant::now() < patience {
            sleep(Duration::from_millis(20)).await;
        }
    }
}
