//! Committed offsets: who may commit, what is kept, what an operator may do.

use super::*;

/// Offset and metadata of partition 0 of `t`, as a client is told.
fn fetched(clients: &mut Clients, version: i16) -> (i64, String) {
    let request = group_requests::fetch(version);
    let response = clients.ask(&request, version);
    let (offset, metadata) = if version < 8 {
        let partition = &response.topics[0].partitions[0];
        (partition.committed_offset, partition.metadata.clone())
    } else {
        let partition = &response.groups[0].topics[0].partitions[0];
        (partition.committed_offset, partition.metadata.clone())
    };
    (offset, metadata.unwrap_or_default().to_string())
}

#[test]
fn commit_is_kept_with_its_metadata_and_persisted() {
    let mut clients = Clients::new();
    for version in 1..=9 {
        assert_eq!(fetched(&mut clients, version), (-1, String::new()));
    }
    let (ids, generation) = clients.stable(1);
    assert_eq!(clients.commit(&ids[0], generation, 42), 0);
    assert_eq!(clients.core.take_changes(), [Change::Commits]);
    for version in 1..=9 {
        assert_eq!(fetched(&mut clients, version), (42, "beside".to_owned()));
    }
    let committed = clients.core.committed(G, "t", 0).unwrap();
    assert_eq!(
        (committed.leader_epoch, committed.topic_id),
        (4, clients.core.topics().get("t").unwrap().id())
    );
}

#[test]
fn all_commits_are_fetched_without_naming_them() {
    let mut clients = Clients::new();
    for partition in [0, 2] {
        assert_eq!(clients.commit_as("", None, -1, ("t", partition), 7, ""), 0);
    }
    for version in [2, 7] {
        let all = OffsetFetchRequest::default().with_group_id(group(G)).with_topics(None);
        let response = clients.ask(&all, version);
        let partitions: Vec<_> =
            response.topics[0].partitions.iter().map(|one| one.partition_index).collect();
        assert_eq!(partitions, [0, 2]);
    }
    let one = |id| {
        offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(None)
    };
    let all = OffsetFetchRequest::default().with_groups(vec![one(G), one("nobody")]);
    let response = clients.ask(&all, 8);
    assert_eq!(response.groups[0].topics[0].partitions.len(), 2);
    assert_eq!((response.groups[1].error_code, response.groups[1].topics.len()), (0, 0));
}

#[test]
fn only_members_of_this_generation_commit() {
    let mut clients = Clients::new();
    assert_eq!(clients.commit("m", 0, 1), 22, "a group that nobody has heard of");
    let (ids, generation) = clients.stable(2);
    assert_eq!(clients.commit(&ids[1], generation - 1, 1), 22);
    assert_eq!(clients.commit("stranger", generation, 1), 25);
    assert_eq!(clients.commit("", -1, 1), 25);
    assert_eq!(clients.committed(), None);

    let _waiting = clients.join_new();
    assert_eq!(clients.commit(&ids[1], generation, 5), 0, "what was read before the rebalance");
    clients.join(&Joining::with_id(&ids[0]));
    clients.join(&Joining::with_id(&ids[1]));
    assert_eq!(clients.state().0, GroupState::CompletingRebalance);
    assert_eq!(clients.commit(&ids[1], generation + 1, 6), 27);
    assert_eq!(clients.commit(&ids[1], generation, 6), 22);
    assert_eq!(clients.committed(), Some(5));
}

#[test]
fn anybody_commits_while_the_group_is_empty() {
    let mut clients = Clients::new();
    assert_eq!(clients.commit("", -1, 8), 0);
    let (ids, generation) = clients.stable(1);
    assert_eq!(clients.commit("", -1, 9), 25);
    clients.leave(&[(&ids[0], None)]);
    assert_eq!(clients.commit(&ids[0], generation, 9), 25);
    assert_eq!(clients.commit("", -1, 10), 0);
    assert_eq!(clients.committed(), Some(10));
}

#[test]
fn commit_is_a_sign_of_life() {
    let mut clients = Clients::new();
    let (ids, generation) = clients.stable(1);
    for offset in 1..5 {
        clients.later(SESSION_MS - 1);
        assert_eq!(clients.commit(&ids[0], generation, offset), 0);
    }
    clients.later(SESSION_MS);
    assert_eq!(clients.commit(&ids[0], generation, 9), 25);
}

#[test]
fn each_partition_has_an_outcome_of_its_own() {
    let mut clients = Clients::new();
    let partition = |index| {
        offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(1)
            .with_committed_metadata((index == 1).then(|| text(&"x".repeat(4_097))))
    };
    let topic = |topic| {
        offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition(0), partition(1), partition(9)])
    };
    let request = OffsetCommitRequest::default()
        .with_group_id(group(G))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic("t"), topic("gone")]);
    let response = clients.ask(&request, 9);
    let codes: Vec<_> =
        response.topics.iter().flat_map(|topic| &topic.partitions).map(|one| one.error_code).collect();
    assert_eq!(codes, [0, 12, 3, 3, 3, 3]);
    assert_eq!(clients.core.take_changes(), [Change::Commits]);
    assert_eq!(clients.commit_as("", None, -1, ("t", 1), 1, &"x".repeat(4_096)), 0);
    assert_eq!(clients.commit_as("", None, -1, ("gone", 0), 1, ""), 3);
    assert_eq!(clients.core.take_changes(), [Change::Commits]);
}

#[test]
fn commits_go_with_their_topic_or_when_they_are_expired() {
    let mut clients = Clients::new();
    clients.commit("", -1, 3);
    clients.core.take_changes();
    assert!(clients.core.expire_commits(G));
    assert!(!clients.core.expire_commits(G) && !clients.core.expire_commits("nobody"));
    assert_eq!((clients.committed(), clients.core.take_changes()), (None, vec![Change::Commits]));

    clients.commit("", -1, 3);
    clients.core.delete_topic("t").unwrap();
    assert_eq!(clients.core.take_changes().last(), Some(&Change::Commits));
    clients.core.create_topic("t", 3).unwrap();
    assert_eq!(fetched(&mut clients, 9).0, -1);
}

#[test]
fn operator_sets_offsets_of_a_group_without_members_or_by_force() {
    let mut clients = Clients::new();
    clients.core.reset_offset(G, "t", 0, 1_000_000, false).unwrap();
    assert_eq!(fetched(&mut clients, 9), (1_000_000, String::new()));
    clients.stable(1);
    let refused = clients.core.reset_offset(G, "t", 0, 0, false);
    assert_eq!(refused, Err(ResponseError::NonEmptyGroup));
    clients.core.reset_offset(G, "t", 0, -5, true).unwrap();
    assert_eq!(clients.committed(), Some(-5));
    let nowhere = clients.core.reset_offset(G, "t", 9, 0, true);
    assert_eq!(nowhere, Err(ResponseError::UnknownTopicOrPartition));
}
