//! The state machine against a coordinator that is a list of answers.

use kafka_protocol::ResponseError as Code;

use super::*;
use crate::group::assignor::RANGE;

const SESSION: Duration = Duration::from_secs(45);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn refused(code: Code) -> KafkaError {
    KafkaError::refused(code.code(), "a request", "g")
}

fn broken() -> KafkaError {
    let source = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    KafkaError::Broken { address: "b:9092".to_owned(), request: "a request", source }
}

fn joined(generation: i32, protocol: &str, leader: &str) -> JoinAnswer {
    JoinAnswer::Joined(Joined {
        member_id: "m".to_owned(),
        generation,
        protocol: protocol.to_owned(),
        leader: leader.to_owned(),
        members: Vec::new(),
        skip_assignment: false,
    })
}

fn assignment(partitions: &[i32]) -> Bytes {
    encode_assignment(&BTreeMap::from([("t".to_owned(), partitions.to_vec())]))
}

/// A member and the time.
struct World {
    member: Member,
    now: Duration,
}

impl World {
    fn new(instance_id: Option<&str>) -> Self {
        let setting = Setting {
            group: "g".to_owned(),
            instance_id: instance_id.map(ToOwned::to_owned),
            topic: "t".to_owned(),
            session_timeout: SESSION,
            rebalance_timeout: at(60),
        };
        Self { member: Member::new(setting), now: at(1000) }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.member.on(event, self.now)
    }

    /// Waits until the member wants something, and returns what.
    fn wake(&mut self) -> Vec<Action> {
        self.now = self.now.max(self.member.wake_at().expect("it waits for nothing"));
        self.on(Event::Tick)
    }

    fn identity(&self) -> Identity {
        self.member.identity().clone()
    }

    fn beaten(&mut self, answer: Result<(), KafkaError>) -> Vec<Action> {
        let (identity, sent_at) = (self.identity(), self.now);
        self.on(Event::Beaten { identity, sent_at, answer })
    }

    /// A heartbeat goes out, and is answered so.
    fn beat(&mut self, answer: Result<(), KafkaError>) -> Vec<Action> {
        let actions = self.wake();
        assert!(matches!(actions[..], [Action::Beat(_)]), "{actions:?}");
        self.beaten(answer)
    }

    /// As a follower of generation 1 with these partitions.
    fn stable(protocol: &str, partitions: &[i32]) -> Self {
        let mut world = Self::new(None);
        assert_eq!(world.wake(), [Action::Find]);
        assert!(matches!(world.on(Event::Found(Ok(())))[..], [Action::Join(_)]));
        world.rejoined(1, protocol, partitions);
        world
    }

    /// The join under way ends in `generation` with these partitions; what synced says.
    fn rejoined(&mut self, generation: i32, protocol: &str, partitions: &[i32]) -> Vec<Action> {
        let actions = self.on(Event::Joined(Ok(joined(generation, protocol, "other"))));
        assert!(matches!(&actions[..], [Action::Sync(sync)] if sync.assignments.is_empty()), "{actions:?}");
        self.on(Event::Synced(Ok(assignment(partitions))))
    }
}

fn join_of(actions: &[Action]) -> &Join {
    actions
        .iter()
        .find_map(|action| match action {
            Action::Join(join) => Some(join),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no join in {actions:?}"))
}

fn claims(join: &Join) -> Vec<i32> {
    let (_, metadata) = join.protocols.iter().find(|(name, _)| name == COOPERATIVE_STICKY).unwrap();
    Subscription::decode(metadata).unwrap().owned.remove("t").unwrap_or_default()
}

#[test]
fn a_first_join_takes_the_id_that_it_is_given() {
    let mut world = World::new(None);
    assert_eq!(world.wake(), [Action::Find]);
    let first = world.on(Event::Found(Ok(())));
    let names: Vec<&str> = join_of(&first).protocols.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((join_of(&first).identity.member_id.as_str(), names), ("", vec![COOPERATIVE_STICKY, RANGE]));
    let again = world.on(Event::Joined(Ok(JoinAnswer::MemberIdRequired("m-1".to_owned()))));
    assert_eq!(join_of(&again).identity.member_id, "m-1");
    assert_eq!(world.rejoined(1, COOPERATIVE_STICKY, &[0, 2]), [Action::Assign(vec![0, 2])]);
    assert_eq!((world.identity().member_id.as_str(), world.identity().generation), ("m", 1));
}

/// Generation 2, which the one who has sent `join` leads, beside a member `n` that wants `other`.
fn leads_beside(join: &Join, other: &Subscription) -> JoinAnswer {
    let member = |id: &str, metadata: Bytes| coinduit_common::kafka::group::JoinedMember {
        member_id: id.to_owned(),
        instance_id: None,
        metadata,
    };
    let members =
        vec![member("m", join.protocols[0].1.clone()), member("n", other.encode(COOPERATIVE_STICKY))];
    let JoinAnswer::Joined(answer) = joined(2, COOPERATIVE_STICKY, "m") else { unreachable!() };
    JoinAnswer::Joined(Joined { members, ..answer })
}

#[test]
fn the_leader_assigns_what_all_members_want() {
    let mut world = World::stable(COOPERATIVE_STICKY, &[]);
    let join = join_of(&world.beat(Err(refused(Code::RebalanceInProgress)))).clone();
    let other = Subscription {
        topics: vec!["t".to_owned(), "u".to_owned()],
        owned: BTreeMap::new(),
        generation: -1,
        rack: None,
    };
    let actions = world.on(Event::Joined(Ok(leads_beside(&join, &other))));
    assert_eq!(actions, [Action::Describe(vec!["t".to_owned(), "u".to_owned()])]);
    let counts = BTreeMap::from([("t".to_owned(), 4)]);
    let actions = world.on(Event::Described(Ok(counts)));
    let [Action::Sync(sync)] = &actions[..] else { panic!("{actions:?}") };
    let assigned: usize = sync
        .assignments
        .iter()
        .map(|(_, bytes)| decode_assignment(bytes).unwrap().values().map(Vec::len).sum::<usize>())
        .sum();
    assert_eq!((sync.assignments.len(), assigned), (2, 4));
    world.on(Event::Synced(Ok(assignment(&[0, 1]))));
    // Only the leader watches the topic grow.
    assert!(world.on(Event::Partitions(4)).is_empty());
    assert!(matches!(world.on(Event::Partitions(5))[..], [Action::Join(_)]));
    let mut follower = World::stable(COOPERATIVE_STICKY, &[0]);
    assert!(follower.on(Event::Partitions(5)).is_empty());
}

#[test]
fn a_leader_that_came_back_looks_once_whether_its_assignment_still_fits() {
    let mut world = World::new(Some("i"));
    world.wake();
    world.on(Event::Found(Ok(())));
    let JoinAnswer::Joined(answer) = joined(7, COOPERATIVE_STICKY, "m") else { unreachable!() };
    let actions = world.on(Event::Joined(Ok(JoinAnswer::Joined(Joined { skip_assignment: true, ..answer }))));
    assert!(matches!(&actions[..], [Action::Sync(sync)] if sync.assignments.is_empty()), "{actions:?}");
    world.on(Event::Synced(Ok(assignment(&[0]))));
    assert!(matches!(world.on(Event::Partitions(4))[..], [Action::Join(_)]));
}

/// A leader of generation 2 that has given these of four partitions to itself and another member, whose claims are
/// `others`.
fn leading(mine: &[i32], others: &[i32]) -> World {
    let mut world = World::stable(COOPERATIVE_STICKY, mine);
    let join = join_of(&world.beat(Err(refused(Code::RebalanceInProgress)))).clone();
    let other = Subscription {
        topics: vec!["t".to_owned()],
        owned: BTreeMap::from([("t".to_owned(), others.to_vec())]),
        generation: 1,
        rack: None,
    };
    world.on(Event::Joined(Ok(leads_beside(&join, &other))));
    world.on(Event::Described(Ok(BTreeMap::from([("t".to_owned(), 4)]))));
    world.on(Event::Synced(Ok(assignment(mine))));
    world
}

#[test]
fn a_partition_that_was_given_up_and_never_given_on_is_shared_again() {
    // The other has three, one of which it has to give up before this one can have it. Then it should join again.
    let mut world = leading(&[0], &[1, 2, 3]);
    assert!(matches!(world.on(Event::Partitions(4))[..], [Action::Join(_)]), "nobody has it");
    let mut world = leading(&[0, 1], &[2, 3]);
    assert!(world.on(Event::Partitions(4)).is_empty(), "everything is somebody's");
}

#[test]
fn a_leader_that_came_back_to_a_broker_that_does_not_say_so_looks_too() {
    for (leader, looks) in [
        ("i-3fae3b9b-9d1d-4cf6-9c86-0b4a3a2f1c11", true),
        ("i-2-3fae3b9b-9d1d-4cf6-9c86-0b4a3a2f1c11", false),
        ("ii-3fae3b9b-9d1d-4cf6-9c86-0b4a3a2f1c11", false),
        ("", false),
    ] {
        let mut world = World::new(Some("i"));
        world.wake();
        world.on(Event::Found(Ok(())));
        let actions = world.on(Event::Joined(Ok(joined(7, COOPERATIVE_STICKY, leader))));
        assert!(matches!(&actions[..], [Action::Sync(sync)] if sync.assignments.is_empty()), "{actions:?}");
        world.on(Event::Synced(Ok(assignment(&[0]))));
        assert_eq!(!world.on(Event::Partitions(4)).is_empty(), looks, "{leader}");
    }
}

#[test]
fn a_cooperative_member_keeps_what_it_has_and_gives_up_between_two_rounds() {
    let mut world = World::stable(COOPERATIVE_STICKY, &[0, 1, 2]);
    let actions = world.beat(Err(refused(Code::RebalanceInProgress)));
    assert_eq!(claims(join_of(&actions)), [0, 1, 2]);
    let actions = world.rejoined(2, COOPERATIVE_STICKY, &[0, 1]);
    assert_eq!(actions, [Action::Assign(vec![]), Action::Revoke(vec![2])]);
    // Heartbeats go on while it stores what the partition holds, and do not make it join.
    assert!(world.beat(Err(refused(Code::RebalanceInProgress))).is_empty());
    let actions = world.on(Event::Released);
    assert_eq!(claims(join_of(&actions)), [0, 1]);
    assert_eq!(world.rejoined(3, COOPERATIVE_STICKY, &[0, 1, 3]), [Action::Assign(vec![3])]);
}

#[test]
fn an_eager_member_gives_everything_up_before_it_joins() {
    let mut world = World::stable(RANGE, &[0, 1]);
    assert_eq!(world.beat(Err(refused(Code::RebalanceInProgress))), [Action::Revoke(vec![0, 1])]);
    let actions = world.on(Event::Released);
    assert!(claims(join_of(&actions)).is_empty());
    assert_eq!(world.rejoined(2, RANGE, &[1]), [Action::Assign(vec![1])]);
}

#[test]
fn a_group_that_turns_eager_gets_everything_before_the_sync() {
    let mut world = World::stable(COOPERATIVE_STICKY, &[0, 1]);
    world.beat(Err(refused(Code::RebalanceInProgress)));
    let actions = world.on(Event::Joined(Ok(joined(2, RANGE, "other"))));
    assert_eq!(actions, [Action::Revoke(vec![0, 1])]);
    assert!(matches!(world.on(Event::Released)[..], [Action::Sync(_)]));
    assert_eq!(world.on(Event::Synced(Ok(assignment(&[1])))), [Action::Assign(vec![1])]);
}

#[test]
fn the_membership_counts_from_the_sending_of_the_last_acknowledged_heartbeat() {
    let mut world = World::stable(COOPERATIVE_STICKY, &[0]);
    let synced = world.now;
    assert_eq!(world.member.alive_until(), synced + SESSION);
    assert!(matches!(world.wake()[..], [Action::Beat(_)]));
    let (sent_at, identity) = (world.now, world.identity());
    assert_eq!(sent_at, synced + at(3));
    world.now += at(9);
    let answer = Err(refused(Code::RebalanceInProgress));
    world.on(Event::Beaten { identity: identity.clone(), sent_at, answer });
    assert_eq!(world.member.alive_until(), sent_at + SESSION, "it is known, and waited for");
    // Nothing that failed makes it longer.
    let sent_at = world.now;
    world.on(Event::Beaten { identity, sent_at, answer: Err(broken()) });
    assert_eq!(world.member.alive_until(), synced + at(3) + SESSION);
}

#[test]
fn a_coordinator_that_moves_costs_neither_identity_nor_partitions() {
    for error in [refused(Code::NotCoordinator), refused(Code::CoordinatorNotAvailable), broken()] {
        let mut world = World::stable(COOPERATIVE_STICKY, &[0, 1]);
        let before = world.identity();
        assert!(world.beat(Err(error)).is_empty());
        assert!(!world.member.may_commit());
        assert_eq!(world.wake(), [Action::Find]);
        world.on(Event::Found(Err(refused(Code::CoordinatorNotAvailable))));
        assert_eq!(world.wake(), [Action::Find]);
        let actions = world.on(Event::Found(Ok(())));
        assert_eq!(actions, [Action::Beat(before.clone())], "the new one hears of it at once");
        world.beaten(Err(refused(Code::CoordinatorLoadInProgress)));
        assert!(world.beat(Ok(())).is_empty());
        assert_eq!(world.identity(), before);
    }
}

#[test]
fn a_coordinator_that_moves_during_a_join_is_asked_again_with_the_same_identity() {
    let mut world = World::stable(COOPERATIVE_STICKY, &[0]);
    world.beat(Err(refused(Code::RebalanceInProgress)));
    let before = world.identity();
    assert!(world.beat(Err(broken())).is_empty());
    assert_eq!(world.wake(), [Action::Find]);
    let actions = world.on(Event::Found(Ok(())));
    assert_eq!(join_of(&actions).identity, before);
    assert_eq!(claims(join_of(&actions)), [0]);
}

#[test]
fn being_forgotten_or_left_behind_loses_everything_and_joins_again() {
    for (code, lost, member_id) in
        [(Code::UnknownMemberId, Lost::Forgotten, ""), (Code::IllegalGeneration, Lost::LeftBehind, "m")]
    {
        let mut world = World::stable(COOPERATIVE_STICKY, &[0, 1]);
        let actions = world.beat(Err(refused(code)));
        assert_eq!(actions[0], Action::Lose(lost));
        let join = join_of(&actions);
        assert_eq!((join.identity.member_id.as_str(), claims(join)), (member_id, vec![]));
        assert_eq!(world.member.alive_until(), Duration::ZERO);
        assert!(!world.member.may_commit());
    }
}

#[test]
fn an_answer_about_an_earlier_generation_says_nothing() {
    let mut world = World::stable(COOPERATIVE_STICKY, &[0]);
    let earlier = world.identity();
    assert!(matches!(world.beat(Err(refused(Code::RebalanceInProgress)))[..], [Action::Join(_)]));
    // A heartbeat in the middle of the join: the coordinator has already gone on.
    assert!(world.beat(Err(refused(Code::IllegalGeneration))).is_empty());
    assert!(world.beat(Err(refused(Code::UnknownMemberId))).is_empty());
    world.rejoined(2, COOPERATIVE_STICKY, &[0]);
    for code in [Code::IllegalGeneration, Code::UnknownMemberId, Code::RebalanceInProgress] {
        let answer = Err(refused(code));
        let sent_at = world.now;
        assert!(
            world.on(Event::Beaten { identity: earlier.clone(), sent_at, answer }).is_empty(),
            "{code:?}"
        );
        let refusal = Event::Refused { identity: earlier.clone(), error: refused(code) };
        assert!(world.on(refusal).is_empty(), "{code:?}");
    }
    assert_eq!(world.identity().generation, 2);
}

#[test]
fn a_refused_commit_is_a_sign_too() {
    let mut world = World::stable(COOPERATIVE_STICKY, &[0]);
    let identity = world.identity();
    let actions = world.on(Event::Refused { identity, error: refused(Code::UnknownMemberId) });
    assert_eq!(actions[0], Action::Lose(Lost::Forgotten));
}

#[test]
fn a_round_that_another_overtakes_is_begun_again() {
    let mut world = World::stable(COOPERATIVE_STICKY, &[0]);
    world.beat(Err(refused(Code::RebalanceInProgress)));
    world.on(Event::Joined(Ok(joined(2, COOPERATIVE_STICKY, "other"))));
    let actions = world.on(Event::Synced(Err(refused(Code::RebalanceInProgress))));
    assert_eq!(join_of(&actions).identity.generation, 2);
}

#[test]
fn rounds_that_fail_one_after_the_other_are_no_busy_loop() {
    for code in [Code::UnknownMemberId, Code::RebalanceInProgress] {
        let mut world = World::new(None);
        world.wake();
        world.on(Event::Found(Ok(())));
        let begun = world.now;
        for _ in 0..20 {
            let actions = world.on(Event::Joined(Err(refused(code))));
            let again = if actions.is_empty() { world.wake() } else { actions };
            assert!(matches!(again[..], [Action::Join(_)]), "{again:?}");
        }
        assert!(world.now > begun + at(10), "{code:?}: 20 rounds in {:?}", world.now - begun);
    }
}

#[test]
fn what_a_person_has_to_change_ends_the_membership_with_a_reason() {
    let fails = |code, instance: Option<&str>| {
        let mut world = World::new(instance);
        world.wake();
        world.on(Event::Found(Ok(())));
        let actions = world.on(Event::Joined(Err(refused(code))));
        match &actions[..] {
            [Action::Fail(error)] => error.to_string(),
            _ => panic!("{code:?}: {actions:?}"),
        }
    };
    assert!(fails(Code::FencedInstanceId, Some("i")).contains("joined group g as i"));
    assert!(fails(Code::InvalidSessionTimeout, None).contains("KAFKA_SESSION_TIMEOUT"));
    assert!(fails(Code::InconsistentGroupProtocol, None).contains("cooperative-sticky, range"));
    assert!(fails(Code::InvalidGroupId, None).contains("KAFKA_GROUP_ID"));
}

#[test]
fn what_a_person_can_change_on_the_brokers_is_tried_every_minute() {
    for code in [Code::GroupAuthorizationFailed, Code::GroupMaxSizeReached] {
        let mut world = World::new(None);
        world.wake();
        world.on(Event::Found(Ok(())));
        assert!(world.on(Event::Joined(Err(refused(code)))).is_empty());
        assert_eq!(world.member.wake_at(), Some(world.now + EVERY_MINUTE), "{code:?}");
        assert!(matches!(world.wake()[..], [Action::Join(_)]));
    }
}

#[test]
fn a_fenced_member_stops_whatever_it_is_at() {
    let mut world = World::stable(COOPERATIVE_STICKY, &[0]);
    let actions = world.beat(Err(refused(Code::FencedInstanceId)));
    assert!(matches!(actions[..], [Action::Fail(GroupError::Fenced { .. })]), "{actions:?}");
}

#[test]
fn brokers_that_know_no_groups_are_no_use() {
    let mut world = World::new(None);
    world.wake();
    let unsupported = KafkaError::Unsupported {
        address: "b:9092".to_owned(),
        request: "FindCoordinator",
        broker: "none".to_owned(),
        ours: "0 to 6".to_owned(),
    };
    let actions = world.on(Event::Found(Err(unsupported)));
    assert!(matches!(actions[..], [Action::Fail(GroupError::Protocol { .. })]), "{actions:?}");
}

#[test]
fn a_member_that_stops_beats_on_joins_no_more_and_leaves() {
    let mut world = World::stable(COOPERATIVE_STICKY, &[0]);
    assert!(world.on(Event::Stopping).is_empty());
    assert!(world.member.may_commit());
    assert!(world.beat(Err(refused(Code::RebalanceInProgress))).is_empty());
    let actions = world.on(Event::Leave);
    assert_eq!(actions, [Action::Leave(world.identity())]);
    assert_eq!(world.on(Event::Left(Ok(()))), [Action::Gone]);
    assert_eq!(world.member.wake_at(), None);
}

#[test]
fn a_round_under_way_is_ended_before_stopping() {
    let mut world = World::stable(COOPERATIVE_STICKY, &[0, 1]);
    world.beat(Err(refused(Code::RebalanceInProgress)));
    world.on(Event::Stopping);
    assert!(world.member.may_commit(), "the old generation's commits are taken until the group has met");
    let actions = world.on(Event::Joined(Ok(joined(2, COOPERATIVE_STICKY, "other"))));
    assert!(matches!(actions[..], [Action::Sync(_)]) && !world.member.may_commit());
    assert!(
        world.on(Event::Synced(Ok(assignment(&[0, 5])))).is_empty(),
        "nothing is taken or given up any more"
    );
    assert!(world.member.may_commit());
}

#[test]
fn a_static_member_goes_without_a_word() {
    let mut world = World::new(Some("i"));
    world.wake();
    world.on(Event::Found(Ok(())));
    world.rejoined(1, COOPERATIVE_STICKY, &[0]);
    world.on(Event::Stopping);
    assert_eq!(world.on(Event::Leave), [Action::Gone]);
}

#[test]
fn before_anything_was_joined_there_is_nothing_to_leave() {
    let mut world = World::new(None);
    world.wake();
    assert_eq!(world.on(Event::Leave), [Action::Gone]);
}
