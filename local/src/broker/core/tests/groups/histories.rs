//! What holds in every history of a group, whatever its members do and when.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Members that act, each over a connection of its own.
const SLOTS: usize = 4;

/// The longest rebalance time-out in these histories.
const LONGEST_MS: u64 = 40_000;

#[derive(Debug, Clone)]
enum Act {
    /// Joins with what it knows; the flag changes its metadata.
    Join(usize, bool),
    Sync(usize),
    Heartbeat(usize),
    /// Commits for its generation, or for the one before.
    Commit(usize, bool),
    Leave(usize),
    /// Forgets who it was, as after a crash; its connection breaks.
    Crash(usize),
    Later(u64),
    Lose,
    Regain,
}

#[derive(Debug, Default)]
struct Slot {
    id: String,
    generation: i32,
    waits: Option<(Asked, u64)>,
}

struct History {
    clients: Clients,
    slots: Vec<Slot>,
    /// Members of each generation, as their leader was told.
    members: BTreeMap<i32, BTreeSet<String>>,
    generation: i32,
    log: Vec<String>,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let slot = 0..SLOTS;
    let act = prop_oneof![
        8 => (slot.clone(), proptest::bool::weighted(0.2)).prop_map(|(slot, changed)| Act::Join(slot, changed)),
        8 => slot.clone().prop_map(Act::Sync),
        4 => slot.clone().prop_map(Act::Heartbeat),
        4 => (slot.clone(), any::<bool>()).prop_map(|(slot, stale)| Act::Commit(slot, stale)),
        1 => slot.clone().prop_map(Act::Leave),
        1 => slot.prop_map(Act::Crash),
        4 => (0_u64..15_000).prop_map(Act::Later),
        1 => Just(Act::Lose),
        2 => Just(Act::Regain),
    ];
    proptest::collection::vec(act, 1..120)
}

impl History {
    fn new() -> Self {
        Self {
            clients: Clients::new(),
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            members: BTreeMap::new(),
            generation: 0,
            log: Vec::new(),
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Join(slot, changed) if self.slots[*slot].waits.is_none() => self.join(*slot, *changed),
            Act::Sync(slot) if self.slots[*slot].waits.is_none() => {
                let Slot { id, generation, .. } = &self.slots[*slot];
                let (id, generation) = (id.clone(), *generation);
                let everybody: Vec<_> =
                    self.members.get(&generation).into_iter().flatten().cloned().collect();
                let shares: Vec<_> = everybody.iter().map(|member| (member.as_str(), "share")).collect();
                let asked = self.clients.sync(&id, generation, &shares);
                self.wait(*slot, asked);
            }
            Act::Heartbeat(slot) => {
                let Slot { id, generation, .. } = &self.slots[*slot];
                let (id, generation) = (id.clone(), *generation);
                let code = self.clients.heartbeat(&id, generation);
                self.log.push(format!("heartbeat {code}"));
            }
            Act::Commit(slot, stale) => self.commit(*slot, *stale),
            Act::Leave(slot) => {
                let id = self.slots[*slot].id.clone();
                let left = self.clients.leave(&[(&id, None)]);
                self.log.push(format!("leave {left:?}"));
            }
            Act::Crash(slot) => {
                if let Some((Asked::Parked(_, ticket, _), _)) = std::mem::take(&mut self.slots[*slot]).waits {
                    self.clients.core.give_up(ticket);
                }
            }
            Act::Later(ms) => self.clients.later(*ms),
            Act::Lose => self.clients.core.lose_coordinator(self.clients.now_ms),
            Act::Regain => self.clients.core.regain_coordinator(self.clients.now_ms),
            Act::Join(..) | Act::Sync(_) => {}
        }
        for slot in 0..SLOTS {
            if let Some((asked, since_ms)) = self.slots[slot].waits.take() {
                let asked = self.clients.again(asked);
                self.settle(slot, asked, since_ms);
            }
        }
        self.check();
    }

    fn join(&mut self, slot: usize, changed: bool) {
        // Half of them are static.
        let instance = [Some("i"), Some("j"), None, None][slot];
        let id = self.slots[slot].id.clone();
        let metadata = if changed { "other topics" } else { "topics" };
        let rebalance_ms = [10_000, 20_000, 30_000, LONGEST_MS][slot];
        let joining = Joining {
            id,
            instance,
            rebalance_ms,
            protocols: vec![("range", metadata)],
            ..Joining::default()
        };
        let asked = self.clients.join(&joining);
        self.wait(slot, asked);
    }

    fn commit(&mut self, slot: usize, stale: bool) {
        let Slot { id, generation, .. } = &self.slots[slot];
        let (id, generation) = (id.clone(), generation - i32::from(stale));
        if id.is_empty() {
            return;
        }
        let offset = i64::try_from(self.log.len()).unwrap();
        let before = self.clients.committed();
        let code = self.clients.commit(&id, generation.max(0), offset);
        self.log.push(format!("commit {code}"));
        let current = self.clients.core.group(G).map(|view| view.generation);
        if code == 0 {
            assert_eq!((Some(generation), self.clients.committed()), (current, Some(offset)));
        } else {
            assert_eq!(self.clients.committed(), before);
        }
    }

    fn wait(&mut self, slot: usize, asked: Asked) {
        let now_ms = self.clients.now_ms;
        self.settle(slot, asked, now_ms);
    }

    /// Reads an answer, or goes on waiting.
    fn settle(&mut self, slot: usize, asked: Asked, since_ms: u64) {
        let answer = match asked {
            Asked::Answered(answer) => answer,
            parked => {
                let waited_ms = self.clients.now_ms - since_ms;
                assert!(until(&parked) > self.clients.now_ms, "a deadline in the past");
                // One time-out for the join phase, or one for the sync phase.
                assert!(waited_ms <= LONGEST_MS, "waits for {waited_ms} ms");
                self.slots[slot].waits = Some((parked, since_ms));
                return;
            }
        };
        self.log.push(format!("{answer:?}"));
        let own = &mut self.slots[slot];
        match *answer {
            Response::JoinGroup(joined) => match joined.error_code {
                0 => {
                    own.id = joined.member_id.to_string();
                    own.generation = joined.generation_id;
                    if !joined.members.is_empty() {
                        let ids = joined.members.iter().map(|member| member.member_id.to_string());
                        self.members.insert(joined.generation_id, ids.collect());
                    }
                }
                79 => own.id = joined.member_id.to_string(),
                25 | 82 => *own = Slot::default(),
                27 | 16 => {}
                other => panic!("join: error {other}"),
            },
            Response::SyncGroup(synced) => {
                if synced.error_code == 0 {
                    let view = self.clients.core.group(G).unwrap();
                    assert!(own.generation <= view.generation);
                    if !synced.assignment.is_empty() && !self.members[&own.generation].contains(&own.id) {
                        // Only a static member may come into a generation later, in the place of another.
                        assert!(slot < 2, "an assignment for a stranger");
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn check(&mut self) {
        let Some(view) = self.clients.core.group(G) else { return };
        assert!(view.generation >= self.generation, "the generation went back");
        self.generation = view.generation;
        match view.state {
            GroupState::Empty => assert!(view.members.is_empty()),
            GroupState::Stable | GroupState::CompletingRebalance => {
                let leader = view.leader.unwrap();
                assert!(view.members.iter().any(|member| member.id == leader), "the leader is a stranger");
            }
            GroupState::PreparingRebalance => {}
        }
        let instances: Vec<_> = view.members.iter().filter_map(|member| member.instance_id.clone()).collect();
        let distinct: BTreeSet<_> = instances.iter().collect();
        assert_eq!(distinct.len(), instances.len(), "two members hold one instance id");
        let waiting = self.slots.iter().filter(|slot| slot.waits.is_some()).count();
        assert_eq!(self.clients.core.groups().open_tickets(), waiting, "answers that nobody fetches");
    }
}

proptest! {
    #[test]
    fn invariants_hold_in_every_history(acts in acts()) {
        let mut history = History::new();
        acts.iter().for_each(|act| history.act(act));
        // When all is quiet, everybody is gone.
        history.act(&Act::Regain);
        history.slots.iter_mut().for_each(|slot| slot.waits = None);
        history.clients.later(3_600_000);
        if let Some(view) = history.clients.core.group(G) {
            prop_assert_eq!((view.state, view.members), (GroupState::Empty, vec![]));
        }
    }

    #[test]
    fn two_cores_give_the_same_answers_to_the_same_calls(acts in acts()) {
        let run = || {
            let mut history = History::new();
            acts.iter().for_each(|act| history.act(act));
            (history.log, history.clients.core.group(G))
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn clocks_that_go_back_and_odd_time_outs_do_no_harm(
        calls in proptest::collection::vec((any::<i32>(), any::<i32>(), any::<u64>(), any::<bool>()), 1..20),
    ) {
        let mut core = core();
        for (session, rebalance, now_ms, named) in calls {
            let request = group_requests::join(if named { 9 } else { 3 })
                .with_session_timeout_ms(session.checked_rem(2_000_000).unwrap_or(0).abs())
                .with_rebalance_timeout_ms(rebalance);
            let (_, step) = step(&mut core, &request, if named { 9 } else { 3 }, now_ms);
            prop_assert!(matches!(step, Step::Answer(_) | Step::Park { .. }), "{:?}", step);
        }
    }
}
