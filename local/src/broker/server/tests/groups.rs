//! Members of a group on connections of their own: waiting, breaking off, faults.

use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, join_group_request,
    offset_commit_request,
};

use super::super::super::core::GroupState;
use super::*;

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str("g"))
}

/// A static member joins.
fn join(instance: &'static str, id: &StrBytes) -> JoinGroupRequest {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(Bytes::from_static(b"topics"));
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(1_800_000)
        .with_rebalance_timeout_ms(1_800_000)
        .with_member_id(id.clone())
        .with_group_instance_id(Some(StrBytes::from_static_str(instance)))
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol])
}

fn heartbeat(member: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group())
        .with_generation_id(member.generation_id)
        .with_member_id(member.member_id.clone())
}

/// Sends a JoinGroup that waits; returns once the group has the member.
async fn waiting_join(broker: &Broker, client: &mut Client, instance: &'static str) {
    client.send(&join(instance, &StrBytes::default()), 9).await;
    let has_it = || {
        let members = broker.group("g").unwrap().members;
        members.iter().any(|member| member.instance_id.as_deref() == Some(instance))
    };
    while !has_it() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn waiting_member_is_woken_by_what_concerns_it_and_by_nothing_else() {
    let broker = broker_with_topic().await;
    let (mut first, mut second) = (Client::connect(&broker).await, Client::connect(&broker).await);
    let leader = first.ask(&join("1", &StrBytes::default()), 9).await.unwrap();
    waiting_join(&broker, &mut second, "2").await;
    for _ in 0..3 {
        assert_eq!(first.ask(&heartbeat(&leader), 4).await.unwrap().error_code, 27);
        first.ask(&produce(-1), 9).await.unwrap();
    }
    assert_eq!(broker.group("g").unwrap().state, GroupState::PreparingRebalance);
    let again = first.ask(&join("1", &leader.member_id), 9).await.unwrap();
    let (_, follower) = second.receive::<JoinGroupRequest>(9).await.unwrap();
    assert_eq!((again.generation_id, follower.generation_id, again.members.len()), (2, 2, 2));
}

#[tokio::test]
async fn member_whose_connection_breaks_stays() {
    let broker = broker_with_topic().await;
    let leader = Client::connect(&broker).await.ask(&join("1", &StrBytes::default()), 9).await.unwrap();
    let mut second = Client::connect(&broker).await;
    waiting_join(&broker, &mut second, "2").await;
    broker.faults().drop_connections();
    assert!(second.is_hung_up().await);
    let again = Client::connect(&broker).await.ask(&join("1", &leader.member_id), 9).await.unwrap();
    assert_eq!((again.generation_id, again.members.len()), (2, 2));
}

#[tokio::test]
async fn lost_coordinator_sends_waiting_members_away() {
    let broker = broker_with_topic().await;
    let mut first = Client::connect(&broker).await;
    let leader = first.ask(&join("1", &StrBytes::default()), 9).await.unwrap();
    let mut second = Client::connect(&broker).await;
    waiting_join(&broker, &mut second, "2").await;
    broker.lose_coordinator();
    assert_eq!(second.receive::<JoinGroupRequest>(9).await.unwrap().1.error_code, 16);
    assert_eq!(first.ask(&heartbeat(&leader), 4).await.unwrap().error_code, 16);
    broker.regain_coordinator();
    assert_eq!(first.ask(&heartbeat(&leader), 4).await.unwrap().error_code, 27);
}

#[tokio::test]
async fn faults_are_for_group_calls_too() {
    let broker = broker_with_topic().await;
    broker.faults().inject(ApiKey::JoinGroup, Fault::Error(ResponseError::CoordinatorLoadInProgress), 1);
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.ask(&join("1", &StrBytes::default()), 9).await.unwrap().error_code, 14);
    assert_eq!(broker.group("g"), None);
    broker.faults().inject(ApiKey::JoinGroup, Fault::LoseReply, 1);
    assert!(client.ask(&join("1", &StrBytes::default()), 9).await.is_none());
    assert_eq!(broker.group("g").unwrap().members.len(), 1);
}

#[tokio::test]
async fn commit_is_in_the_folder_before_it_is_answered() {
    let dir = TempDir::new().unwrap();
    let config = BrokerConfig { data_dir: Some(dir.path().to_owned()), ..BrokerConfig::default() };
    let broker = Broker::start(config.clone()).await.unwrap();
    broker.create_topic("t", 1).unwrap();
    let partition = offset_commit_request::OffsetCommitRequestPartition::default()
        .with_committed_offset(42)
        .with_committed_metadata(Some(StrBytes::from_static_str("beside")));
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic())
        .with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![topic]);
    let answer = Client::connect(&broker).await.ask(&commit, 8).await.unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    assert!(std::fs::read_to_string(dir.path().join("groups.json")).unwrap().contains("beside"));
    broker.stop().await;

    let broker = Broker::start(config).await.unwrap();
    assert_eq!(broker.committed("g", "t", 0).map(|committed| committed.offset), Some(42));
    assert!(matches!(broker.reset_offset("g", "t", 9, 0, true), Err(BrokerError::Refused { .. })));
    broker.reset_offset("g", "t", 0, 7, false).unwrap();
    assert_eq!(broker.committed("g", "t", 0).map(|committed| committed.offset), Some(7));
    assert!(broker.expire_commits("g").unwrap());
    assert_eq!(broker.committed("g", "t", 0), None);
    broker.stop().await;
}
