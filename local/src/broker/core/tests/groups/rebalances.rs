//! How generations come about: joining, syncing, waiting, time-outs, the coordinator's absence.

use super::*;

#[test]
fn everybody_joins_and_gets_a_share_of_what_the_leader_assigns() {
    let mut clients = Clients::new();
    let (first, generation) = clients.stable(1);
    let (second, waiting) = clients.join_new();
    assert_eq!(until(&waiting), clients.now_ms + SESSION_MS, "the first member's session");
    assert_eq!(clients.heartbeat(&first[0], generation), 27);

    let leader = joined(clients.join(&Joining::with_id(&first[0])));
    let follower = joined(clients.again(waiting));
    assert_eq!((leader.generation_id, follower.generation_id), (generation + 1, generation + 1));
    assert_eq!((leader.leader.as_str(), follower.leader.as_str()), (first[0].as_str(), first[0].as_str()));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));

    let waiting = clients.sync(&second, generation + 1, &[]);
    let own = clients.sync(&first[0], generation + 1, &[(&first[0], "a"), (&second, "b")]);
    assert_eq!((synced(own).assignment, synced(clients.again(waiting)).assignment), ("a".into(), "b".into()));
    let view = clients.core.group(G).unwrap();
    assert_eq!((view.state, view.generation), (GroupState::Stable, generation + 1));
    assert!(view.members.iter().all(|member| !member.assignment.is_empty()));
    assert_eq!(clients.core.groups().open_tickets(), 0);
}

#[test]
fn members_without_a_share_get_an_empty_one() {
    let mut clients = Clients::new();
    let place = joined(clients.join_new().1);
    let own = synced(clients.sync(&place.member_id, 1, &[("stranger", "x")]));
    assert_eq!((own.error_code, own.assignment), (0, Bytes::new()));
}

#[test]
fn sync_names_what_is_wrong() {
    let mut clients = Clients::new();
    assert_eq!(synced(clients.sync("m", 1, &[])).error_code, 25);
    let (ids, generation) = clients.stable(1);
    assert_eq!(synced(clients.sync("m", generation, &[])).error_code, 25);
    assert_eq!(synced(clients.sync(&ids[0], generation + 1, &[])).error_code, 22);
    let other = SyncGroupRequest::default()
        .with_group_id(group(G))
        .with_generation_id(generation)
        .with_member_id(text(&ids[0]))
        .with_protocol_name(Some(text("sticky")));
    assert_eq!(clients.ask(&other, 5).error_code, 23);
    clients.join_new();
    assert_eq!(synced(clients.sync(&ids[0], generation, &[])).error_code, 27);
}

#[test]
fn who_waits_for_an_assignment_is_sent_back_when_somebody_joins() {
    let mut clients = Clients::new();
    let (ids, generation) = clients.stable(2);
    let leader = clients.join(&Joining::with_id(&ids[0]));
    let follower = clients.join(&Joining::with_id(&ids[1]));
    assert_eq!(joined(clients.again(leader)).generation_id, generation + 1);
    joined(follower);
    let waiting = clients.sync(&ids[1], generation + 1, &[]);
    clients.join_new();
    assert_eq!(synced(clients.again(waiting)).error_code, 27);
}

#[test]
fn follower_that_joins_again_unchanged_stays_in_its_generation() {
    let mut clients = Clients::new();
    let (ids, generation) = clients.stable(2);
    let same = joined(clients.join(&Joining::with_id(&ids[1])));
    assert_eq!((same.generation_id, same.members.len()), (generation, 0));
    assert_eq!(clients.state(), (GroupState::Stable, generation, 2));
}

#[test]
fn leader_or_changed_follower_that_joins_again_brings_a_rebalance() {
    for changed in [false, true] {
        let mut clients = Clients::new();
        let (ids, generation) = clients.stable(2);
        let mut joining = Joining::with_id(&ids[usize::from(changed)]);
        if changed {
            joining.protocols = vec![("range", "other topics")];
        }
        until(&clients.join(&joining));
        assert_eq!(clients.state(), (GroupState::PreparingRebalance, generation, 2));
    }
}

#[test]
fn lost_answer_to_a_join_is_given_again() {
    let mut clients = Clients::new();
    let (id, first) = clients.join_new();
    let again = joined(clients.join(&Joining::with_id(&id)));
    assert_eq!(joined(first), again);
}

#[test]
fn most_wanted_protocol_that_all_support_is_chosen() {
    let mut clients = Clients::new();
    let wants = |instance, names: &[&'static str]| Joining {
        protocols: names.iter().map(|name| (*name, "topics")).collect(),
        ..Joining::with_instance(instance)
    };
    let first = wants("1", &["only-me", "a", "b"]);
    let id = joined(clients.join(&first)).member_id.to_string();
    let waiting = [clients.join(&wants("2", &["b", "a"])), clients.join(&wants("3", &["b", "a"]))];
    let leader = joined(clients.join(&Joining { id, ..first }));
    assert_eq!(leader.protocol_name.unwrap().as_str(), "b");
    let instances: Vec<_> =
        leader.members.iter().filter_map(|member| member.group_instance_id.clone()).collect();
    assert_eq!(instances.len(), 3);
    for waiting in waiting {
        assert_eq!(joined(clients.again(waiting)).protocol_name.unwrap().as_str(), "b");
    }
}

#[test]
fn join_ends_at_the_longest_rebalance_time_out_without_who_is_late() {
    let mut clients = Clients::new();
    let (ids, generation) = clients.stable(2);
    let (new, waiting) = clients.join_new();
    for _ in 0..5 {
        clients.later(REBALANCE_MS / 6);
        // Alive, and busy with something else.
        assert_eq!(clients.heartbeat(&ids[0], generation), 27);
        assert_eq!(clients.heartbeat(&ids[1], generation), 27);
    }
    let joining = clients.join(&Joining::with_id(&ids[1]));
    clients.later(REBALANCE_MS / 6 - 1);
    until(&joining);
    clients.later(1);
    let (new_place, place) = (joined(clients.again(waiting)), joined(clients.again(joining)));
    assert_eq!((new_place.generation_id, place.generation_id), (generation + 1, generation + 1));
    // The leader was late: another one leads.
    assert_eq!(new_place.leader, place.leader);
    assert!([new.as_str(), ids[1].as_str()].contains(&place.leader.as_str()));
    assert_eq!(clients.heartbeat(&ids[0], generation), 25);
}

#[test]
fn late_static_member_stays_until_its_session_ends() {
    let mut clients = Clients::new();
    let first = joined(clients.join(&Joining { session_ms: 60_000, ..Joining::with_instance("i") }));
    synced(clients.sync(&first.member_id, 1, &[]));
    let waiting = clients.join(&Joining::with_instance("j"));
    clients.later(REBALANCE_MS);
    let place = joined(clients.again(waiting));
    assert_eq!((place.generation_id, place.members.len(), place.leader), (2, 2, place.member_id));
    assert_eq!(clients.state(), (GroupState::CompletingRebalance, 2, 2));
}

#[test]
fn who_does_not_sync_in_time_is_removed() {
    let mut clients = Clients::new();
    let (ids, generation) = clients.stable(2);
    clients.join(&Joining::with_id(&ids[0]));
    clients.join(&Joining::with_id(&ids[1]));
    let follower = clients.sync(&ids[1], generation + 1, &[]);
    for _ in 0..4 {
        until(&follower);
        clients.later(REBALANCE_MS / 4);
        // At the end its time to sync is over, although it is alive.
        clients.heartbeat(&ids[0], generation + 1);
    }
    assert_eq!(synced(clients.again(follower)).error_code, 27);
    assert_eq!(clients.heartbeat(&ids[0], generation + 1), 25);
    assert_eq!(clients.heartbeat(&ids[1], generation + 1), 27);
}

#[test]
fn members_that_wait_do_not_expire() {
    let mut clients = Clients::new();
    let (ids, generation) = clients.stable(2);
    let waiting = clients.join(&Joining::with_id(&ids[0]));
    for _ in 0..2 {
        clients.later(SESSION_MS - 1);
        clients.heartbeat(&ids[1], generation);
    }
    until(&waiting);
    assert_eq!(clients.state(), (GroupState::PreparingRebalance, generation, 2));
}

#[test]
fn new_member_that_waits_for_its_first_answer_is_dropped_after_five_minutes() {
    let mut clients = Clients::new();
    let slow = Joining { session_ms: 1_000_000, rebalance_ms: 1_000_000, ..Joining::default() };
    let id = joined(clients.join(&slow)).member_id.to_string();
    joined(clients.join(&Joining { id, ..slow }));
    let (_, waiting) = clients.join_new();
    clients.later(299_999);
    until(&waiting);
    clients.later(1);
    let told = joined(clients.again(waiting));
    assert_eq!((told.error_code, told.member_id.as_str()), (25, ""));
}

#[test]
fn first_join_waits_for_more_members_if_it_is_set_to() {
    let mut clients = Clients::with(Settings { group_initial_delay_ms: 3_000, ..Settings::default() });
    let (_, first) = clients.join_new();
    assert_eq!(until(&first), clients.now_ms + 3_000);
    clients.later(2_000);
    let (_, second) = clients.join_new();
    // The second one prolonged the delay.
    clients.later(1_000);
    let (first, second) = (clients.again(first), clients.again(second));
    assert_eq!(until(&second), clients.now_ms + 3_000);
    clients.later(3_000);
    assert_eq!(joined(clients.again(first)).generation_id, 1);
    assert_eq!(joined(clients.again(second)).generation_id, 1);
}

#[test]
fn join_sent_again_over_another_connection_takes_the_place_of_the_first() {
    let mut clients = Clients::new();
    let (ids, generation) = clients.stable(2);
    let first = clients.join(&Joining::with_id(&ids[0]));
    let second = clients.join(&Joining::with_id(&ids[0]));
    assert_eq!(joined(clients.again(first)).error_code, 27);
    clients.join(&Joining::with_id(&ids[1]));
    assert_eq!(joined(clients.again(second)).generation_id, generation + 1);
}

#[test]
fn call_that_was_given_up_leaves_its_member_in_the_group() {
    let mut clients = Clients::new();
    let (ids, generation) = clients.stable(2);
    let Asked::Parked(call, ticket, _) = clients.join(&Joining::with_id(&ids[0])) else { panic!("answered") };
    clients.core.give_up(ticket);
    let gone = clients.core.resume(&call, ticket, &moment(clients.now_ms));
    assert!(matches!(gone, Step::Close { .. }), "{gone:?}");
    assert_eq!(joined(clients.join(&Joining::with_id(&ids[1]))).generation_id, generation + 1);
    assert_eq!(clients.state(), (GroupState::CompletingRebalance, generation + 1, 2));
    assert_eq!(clients.core.groups().open_tickets(), 0);
    clients.later(SESSION_MS);
    assert_eq!(clients.state().2, 0, "nobody gave a sign of life");
}

#[test]
fn what_time_does_is_the_same_however_late_somebody_looks() {
    let run = |step_ms: u64| {
        let mut clients = Clients::new();
        let (_, generation) = clients.stable(3);
        let (_, waiting) = clients.join_new();
        for _ in 0..120_000 / step_ms {
            clients.later(step_ms);
        }
        (clients.state(), generation, joined(clients.again(waiting)))
    };
    assert_eq!(run(1_000), run(120_000));
}

#[test]
fn lost_coordinator_answers_nobody_and_comes_back_with_everything() {
    let mut clients = Clients::new();
    let (ids, generation) = clients.stable(2);
    let find = |clients: &mut Clients| {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(G)]);
        let found = clients.ask(&request, 6).coordinators.remove(0);
        (found.error_code, found.node_id.0, found.port)
    };
    assert_eq!(find(&mut clients), (0, 1, 9092));
    let waiting = clients.join(&Joining::with_id(&ids[0]));
    clients.core.lose_coordinator(clients.now_ms);
    assert_eq!(joined(clients.again(waiting)).error_code, 16);
    assert_eq!(find(&mut clients), (15, -1, -1));
    assert_eq!(clients.heartbeat(&ids[1], generation), 16);
    assert_eq!(joined(clients.join(&Joining::default())).error_code, 16);
    assert_eq!(synced(clients.sync(&ids[1], generation, &[])).error_code, 16);
    assert_eq!(clients.commit(&ids[1], generation, 1), 16);
    assert_eq!(clients.leave(&[(&ids[1], None)]).0, 16);
    assert_eq!(clients.ask(&group_requests::fetch(9), 9).groups[0].error_code, 16);
    assert_eq!(clients.ask(&group_requests::fetch(7), 7).error_code, 16);
    assert_eq!(clients.ask(&group_requests::describe(), 5).groups[0].error_code, 16);

    clients.later(10 * SESSION_MS);
    clients.core.regain_coordinator(clients.now_ms);
    assert_eq!(find(&mut clients).0, 0);
    clients.later(SESSION_MS - 1);
    assert_eq!(clients.heartbeat(&ids[1], generation), 27);
    assert_eq!(clients.state(), (GroupState::PreparingRebalance, generation, 2));
    clients.join(&Joining::with_id(&ids[0]));
    assert_eq!(joined(clients.join(&Joining::with_id(&ids[1]))).generation_id, generation + 1);
}

#[test]
fn coordinator_lost_in_the_middle_of_a_sync_finishes_it_later() {
    let mut clients = Clients::new();
    let (ids, _) = clients.stable(2);
    clients.join(&Joining::with_id(&ids[0]));
    let generation = joined(clients.join(&Joining::with_id(&ids[1]))).generation_id;
    let waiting = clients.sync(&ids[1], generation, &[]);
    clients.core.lose_coordinator(clients.now_ms);
    assert_eq!(synced(clients.again(waiting)).error_code, 16);
    clients.core.regain_coordinator(clients.now_ms);
    let waiting = clients.sync(&ids[1], generation, &[]);
    synced(clients.sync(&ids[0], generation, &[(&ids[1], "all")]));
    assert_eq!(synced(clients.again(waiting)).assignment, "all");
}

#[test]
fn groups_are_described_and_listed() {
    let mut clients = Clients::new();
    let (ids, _) = clients.stable(1);
    for version in [0, 5, 6] {
        let described = clients.ask(&group_requests::describe(), version).groups;
        assert_eq!(
            (described[0].group_state.as_str(), described[0].protocol_data.as_str()),
            ("Stable", "range")
        );
        let member = &described[0].members[0];
        assert_eq!((member.member_id.as_str(), member.client_id.as_str()), (ids[0].as_str(), "test"));
        assert_eq!((&member.member_metadata[..], &member.member_assignment[..]), (&b"topics"[..], &b"0"[..]));
        assert_eq!(described[1].group_state.as_str(), "Dead");
        assert_eq!(described[1].error_code, if version == 6 { 69 } else { 0 });
    }
    let list = |clients: &mut Clients, states: &[&str], types: &[&str]| {
        let filter = |wanted: &[&str]| wanted.iter().map(|wanted| text(wanted)).collect();
        let request =
            ListGroupsRequest::default().with_states_filter(filter(states)).with_types_filter(filter(types));
        clients.ask(&request, 5).groups.len()
    };
    assert_eq!(list(&mut clients, &[], &[]), 1);
    assert_eq!(list(&mut clients, &["stable"], &["Classic"]), 1);
    assert_eq!(list(&mut clients, &["Empty"], &[]) + list(&mut clients, &[], &["consumer"]), 0);
}
