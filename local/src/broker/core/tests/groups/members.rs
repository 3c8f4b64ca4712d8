//! Who is a member: ids, sessions, static members, leaving.

use super::*;

#[test]
fn new_member_is_given_an_id_and_must_join_with_it() {
    let mut clients = Clients::new();
    let told = joined(clients.join(&Joining::default()));
    assert_eq!((told.error_code, told.generation_id), (79, -1));
    assert!(told.member_id.starts_with("test-"), "{}", told.member_id.as_str());
    assert_eq!(clients.state(), (GroupState::Empty, 0, 0));

    let place = joined(clients.join(&Joining::with_id(&told.member_id)));
    assert_eq!((place.error_code, place.generation_id), (0, 1));
    assert_eq!((place.leader.as_str(), place.members.len()), (told.member_id.as_str(), 1));
    assert_eq!(place.members[0].metadata, "topics");
    assert_eq!(place.protocol_name.unwrap().as_str(), "range");
}

#[test]
fn old_clients_and_static_members_join_at_once() {
    for joining in [
        Joining { version: 0, ..Joining::default() },
        Joining { version: 3, ..Joining::default() },
        Joining::with_instance("i"),
    ] {
        let place = joined(Clients::new().join(&joining));
        assert_eq!((place.error_code, place.generation_id), (0, 1), "{joining:?}");
    }
}

#[test]
fn unused_id_is_forgotten_after_a_session_time_out() {
    let mut clients = Clients::new();
    let id = joined(clients.join(&Joining::default())).member_id.to_string();
    clients.later(SESSION_MS);
    assert_eq!(joined(clients.join(&Joining::with_id(&id))).error_code, 25);
}

#[test]
fn wrong_groups_sessions_and_protocols_are_refused() {
    let mut clients = Clients::new();
    let error = |clients: &mut Clients, joining: &Joining| joined(clients.join(joining)).error_code;
    assert_eq!(error(&mut clients, &Joining::with_id("stranger")), 25);
    for session_ms in [0, 5_999, 1_800_001] {
        assert_eq!(error(&mut clients, &Joining { session_ms, ..Joining::default() }), 26);
    }
    assert_eq!(error(&mut clients, &Joining { protocols: vec![], ..Joining::default() }), 23);
    clients.stable(1);
    let other = Joining { protocols: vec![("sticky", "topics")], ..Joining::default() };
    assert_eq!(error(&mut clients, &other), 23);

    let nameless = group_requests::join(9).with_group_id(group(""));
    assert_eq!(clients.ask(&nameless, 9).error_code, 24);
    let nameless = group_requests::heartbeat(4).with_group_id(group(""));
    assert_eq!(clients.ask(&nameless, 4).error_code, 24);
}

#[test]
fn session_limits_are_settings() {
    let settings = Settings { group_min_session_ms: 10, group_max_session_ms: 20, ..Settings::default() };
    let mut clients = Clients::with(settings);
    for (session_ms, error) in [(9, 26), (10, 79), (20, 79), (21, 26)] {
        assert_eq!(joined(clients.join(&Joining { session_ms, ..Joining::default() })).error_code, error);
    }
}

#[test]
fn silent_member_is_removed_at_the_end_of_its_session() {
    let mut clients = Clients::new();
    let (ids, generation) = clients.stable(2);
    clients.later(SESSION_MS - 1);
    assert_eq!(clients.heartbeat(&ids[0], generation), 0);
    assert_eq!(clients.state(), (GroupState::Stable, generation, 2));
    clients.later(1);
    assert_eq!(clients.state(), (GroupState::PreparingRebalance, generation, 1));
    assert_eq!(clients.heartbeat(&ids[1], generation), 25);
    assert_eq!(clients.heartbeat(&ids[0], generation), 27);
}

#[test]
fn last_member_that_falls_silent_leaves_an_empty_group() {
    let mut clients = Clients::new();
    let (ids, generation) = clients.stable(1);
    clients.later(SESSION_MS);
    assert_eq!(clients.state(), (GroupState::Empty, generation + 1, 0));
    assert_eq!(clients.heartbeat(&ids[0], generation), 25);
    assert_eq!(synced(clients.sync(&ids[0], generation, &[])).error_code, 25);
}

#[test]
fn heartbeat_names_what_is_wrong() {
    let mut clients = Clients::new();
    assert_eq!(clients.heartbeat("m", 1), 25);
    let (ids, generation) = clients.stable(1);
    assert_eq!(clients.heartbeat(&ids[0], generation - 1), 22);
    assert_eq!(clients.heartbeat(&ids[0], generation + 1), 22);
    assert_eq!(clients.heartbeat_as(&ids[0], Some("nobody"), generation), 25);
}

#[test]
fn static_member_that_comes_back_takes_its_place_without_a_rebalance() {
    let mut clients = Clients::new();
    let first = joined(clients.join(&Joining::with_instance("i")));
    synced(clients.sync(&first.member_id, 1, &[(&first.member_id, "all")]));

    let back = joined(clients.join(&Joining::with_instance("i")));
    assert_ne!(back.member_id, first.member_id);
    assert_eq!((back.generation_id, back.leader.as_str()), (1, back.member_id.as_str()));
    assert!(back.skip_assignment);
    assert_eq!(back.members.len(), 1);
    assert_eq!(clients.state(), (GroupState::Stable, 1, 1));
    assert_eq!(synced(clients.sync(&back.member_id, 1, &[])).assignment, "all");
    for instance in [Some("i"), None] {
        let fenced = if instance.is_some() { 82 } else { 25 };
        assert_eq!(clients.heartbeat_as(&first.member_id, instance, 1), fenced);
        assert_eq!(clients.commit_as(&first.member_id, instance, 1, ("t", 0), 1, ""), fenced);
    }
    assert_eq!(clients.heartbeat_as(&back.member_id, Some("i"), 1), 0);
}

#[test]
fn leader_that_cannot_skip_does_not_learn_that_it_leads() {
    let mut clients = Clients::new();
    let first = joined(clients.join(&Joining::with_instance("i")));
    synced(clients.sync(&first.member_id, 1, &[]));
    let back = joined(clients.join(&Joining { version: 8, ..Joining::with_instance("i") }));
    assert_eq!((back.leader, back.members.len()), (first.member_id, 0));
}

#[test]
fn static_member_with_another_protocol_brings_a_rebalance() {
    let mut clients = Clients::new();
    let two = vec![("range", "topics"), ("sticky", "topics")];
    let first = joined(clients.join(&Joining { protocols: two, ..Joining::with_instance("i") }));
    assert_eq!(first.protocol_name.unwrap().as_str(), "range");
    synced(clients.sync(&first.member_id, 1, &[]));
    let changed = Joining { protocols: vec![("sticky", "topics")], ..Joining::with_instance("i") };
    let back = joined(clients.join(&changed));
    assert_eq!((back.generation_id, back.protocol_name.unwrap().as_str()), (2, "sticky"));
}

#[test]
fn static_member_taken_over_while_it_waits_is_fenced() {
    let mut clients = Clients::new();
    clients.stable(1);
    let waiting = clients.join(&Joining::with_instance("i"));
    let taken = clients.join(&Joining::with_instance("i"));
    assert_eq!(joined(clients.again(waiting)).error_code, 82);
    until(&taken);
}

#[test]
fn members_leave_by_id_and_by_instance_id() {
    let mut clients = Clients::new();
    let id = joined(clients.join(&Joining::with_instance("i"))).member_id.to_string();
    assert_eq!(
        clients.leave(&[("other", Some("i")), (&id, Some("x")), ("other", None)]),
        (0, vec![82, 25, 25])
    );
    assert_eq!(clients.leave(&[("", Some("i")), ("", Some("i")), ("", None)]), (0, vec![0, 25, 25]));
    assert_eq!(clients.state(), (GroupState::Empty, 2, 0));

    let (ids, generation) = clients.stable(2);
    assert_eq!(clients.leave(&[(&ids[0], None)]), (0, vec![0]));
    assert_eq!(clients.state(), (GroupState::PreparingRebalance, generation, 1));
    let old = LeaveGroupRequest::default().with_group_id(group(G)).with_member_id(text(&ids[0]));
    assert_eq!(clients.ask(&old, 2).error_code, 25);
}

#[test]
fn member_that_leaves_while_it_waits_is_told() {
    let mut clients = Clients::new();
    clients.stable(1);
    let (id, waiting) = clients.join_new();
    clients.leave(&[(&id, None)]);
    assert_eq!(joined(clients.again(waiting)).error_code, 25);
}
