//! The requests of a group's member, in their highest versions, as a real coordinator answers them.

use std::collections::BTreeMap;
use std::time::Duration;

use coinduit_common::kafka::api::Api;
use coinduit_common::kafka::bootstrap::{Address, Bootstrap};
use coinduit_common::kafka::connection::Connection;
use coinduit_common::kafka::dialer::Dialer;
use coinduit_common::kafka::group::{
    Committed, Identity, Join, JoinAnswer, Joined, Offset, Sync, commit, committed, find_coordinator,
    heartbeat, join, leave, sync,
};
use coinduit_common::kafka::metadata;
use coinduit_common::kafka::security::Security;
use coinduit_consumer::group::assignor::{self, Member};
use coinduit_consumer::group::subscription::{Subscription, decode_assignment, encode_assignment};
use coinduit_integration::kafka::Kafka;
use coinduit_integration::wait::until;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest,
};

async fn connect(address: &Address) -> Connection {
    Dialer::new("coinduit-test", Security::default()).to(address).await.expect("connect to a broker")
}

/// A connection to the broker that keeps `group`. A new cluster's first group has none for a while.
async fn coordinator(kafka: &Kafka, group: &str) -> Connection {
    let bootstrap = Bootstrap::parse(kafka.bootstrap()).expect("these addresses have been used");
    let mut connection = connect(&bootstrap.addresses()[0]).await;
    let mut found = None;
    until("the group has a coordinator", async || {
        let answer = find_coordinator::find(&mut connection, group).await;
        assert!(!answer.as_ref().is_err_and(|error| !error.is_retryable()), "{answer:?}");
        found = answer.ok();
        found.is_some()
    })
    .await;
    assert_highest::<FindCoordinatorRequest>(&connection);
    connect(&found.expect("it has been found").address).await
}

fn assert_highest<R: Api>(connection: &Connection) {
    let version = connection.version_of::<R>().expect("a version in common");
    assert_eq!(version, *R::TRIED.end(), "{}", R::NAME);
}

/// Joins as often as it takes: the coordinator may still be loading, and gives a new member its id first.
async fn joined(connection: &mut Connection, mut wish: Join) -> Joined {
    let mut answered = None;
    until("the group has a generation", async || {
        match join::join(connection, &wish).await {
            Ok(JoinAnswer::Joined(joined)) => answered = Some(joined),
            Ok(JoinAnswer::MemberIdRequired(id)) => wish.identity.member_id = id,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        answered.is_some()
    })
    .await;
    answered.expect("it has been answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_assigns_commits_and_leaves() {
    let kafka = Kafka::find().await;
    let (topic, group) = (Kafka::unused_name("group"), Kafka::unused_name("group"));
    kafka.create(&topic, 3).await;
    let mut connection = coordinator(&kafka, &group).await;

    let topics = [topic.clone(), Kafka::unused_name("missing")];
    let counts = metadata::topics(&mut connection, &topics).await.expect("count partitions");
    assert_eq!(counts, BTreeMap::from([(topic.clone(), 3)]));

    let subscription =
        Subscription { topics: vec![topic.clone()], owned: BTreeMap::new(), generation: -1, rack: None };
    let nobody =
        Identity { group: group.clone(), member_id: String::new(), instance_id: None, generation: -1 };
    let wish = Join {
        identity: nobody.clone(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(20),
        protocols: assignor::PREFERENCE.map(|name| (name.to_owned(), subscription.encode(name))).to_vec(),
        reason: "a test".to_owned(),
    };
    let Joined { member_id, generation, protocol, leader, members, .. } = joined(&mut connection, wish).await;
    assert_eq!((&leader, protocol.as_str()), (&member_id, assignor::COOPERATIVE_STICKY));
    let members: Vec<Member> = members
        .into_iter()
        .map(|member| Member {
            id: member.member_id,
            instance_id: member.instance_id,
            subscription: Subscription::decode(&member.metadata).expect("our own subscription"),
        })
        .collect();
    assert_eq!(members.iter().map(|member| &member.subscription).collect::<Vec<_>>(), [&subscription]);

    let assigned = assignor::assign(&protocol, &members, &counts).expect("a protocol of ours");
    let member = Identity { member_id, generation, ..nobody.clone() };
    let assignments = assigned.iter().map(|(id, of)| (id.clone(), encode_assignment(of))).collect();
    let wish = Sync { identity: member.clone(), protocol, assignments };
    let assignment = sync::sync(&mut connection, &wish).await.expect("synchronise");
    assert_eq!(decode_assignment(&assignment), Some(BTreeMap::from([(topic.clone(), vec![0, 1, 2])])));

    heartbeat::heartbeat(&mut connection, &member).await.expect("a heartbeat");
    let stale = Identity { generation: generation - 1, ..member.clone() };
    let refused = heartbeat::heartbeat(&mut connection, &stale).await.unwrap_err();
    assert_eq!(refused.code(), Some(ResponseError::IllegalGeneration));

    let offset = |partition, offset| Offset {
        partition,
        offset,
        leader_epoch: 0,
        metadata: format!("coinduit/1 {partition}"),
    };
    let offsets = [offset(0, 40), offset(2, 1 << 40)];
    let refused = commit::commit(&mut connection, &member, &topic, &offsets).await.expect("commit");
    assert!(refused.is_empty(), "{refused:?}");
    let refused = commit::commit(&mut connection, &stale, &topic, &offsets).await.unwrap_err();
    assert_eq!(refused.code(), Some(ResponseError::IllegalGeneration));
    let refused =
        commit::commit(&mut connection, &member, &topics[1], &[offset(0, 1)]).await.expect("commit");
    assert_eq!(refused[0].1.code(), Some(ResponseError::UnknownTopicOrPartition));

    let has =
        committed::committed(&mut connection, &group, &topic, &[0, 1, 2]).await.expect("what is committed");
    let words = |of: &Offset| Committed {
        partition: of.partition,
        offset: of.offset,
        leader_epoch: of.leader_epoch,
        metadata: of.metadata.clone(),
    };
    assert_eq!(has, offsets.each_ref().map(words));

    leave::leave(&mut connection, &member).await.expect("leave");
    let refused = heartbeat::heartbeat(&mut connection, &member).await.unwrap_err();
    assert_eq!(refused.code(), Some(ResponseError::UnknownMemberId));
    // From outside, as the group is empty now.
    let refused = commit::commit(&mut connection, &nobody, &topic, &[offset(1, 7)]).await.expect("commit");
    assert!(refused.is_empty(), "{refused:?}");

    assert_highest::<JoinGroupRequest>(&connection);
    assert_highest::<SyncGroupRequest>(&connection);
    assert_highest::<HeartbeatRequest>(&connection);
    assert_highest::<OffsetCommitRequest>(&connection);
    assert_highest::<OffsetFetchRequest>(&connection);
    assert_highest::<LeaveGroupRequest>(&connection);
    kafka.delete(&topic).await;
}
