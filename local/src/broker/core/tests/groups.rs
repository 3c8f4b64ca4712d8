//! Classic consumer groups, rule by rule: calls as clients send them, answers as clients read them.

mod histories;
mod members;
mod offsets;
mod rebalances;

use kafka_protocol::messages::{
    FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
    join_group_request, leave_group_request, offset_commit_request, offset_fetch_request, sync_group_request,
};

use super::group_requests::{group, text};
use super::*;

/// The group of most tests.
const G: &str = "g";

const SESSION_MS: u64 = 10_000;
const REBALANCE_MS: u64 = 30_000;

/// A call that has its answer, or waits for it.
#[derive(Debug)]
enum Asked {
    Answered(Box<Response>),
    Parked(Box<Call>, Ticket, u64),
}

/// Clients of one core, with a clock.
struct Clients {
    core: Core,
    now_ms: u64,
}

/// How a member joins; the default is a consumer without an id.
#[derive(Debug, Clone)]
struct Joining {
    version: i16,
    id: String,
    instance: Option<&'static str>,
    session_ms: u64,
    rebalance_ms: u64,
    protocols: Vec<(&'static str, &'static str)>,
}

impl Default for Joining {
    fn default() -> Self {
        Self {
            version: 9,
            id: String::new(),
            instance: None,
            session_ms: SESSION_MS,
            rebalance_ms: REBALANCE_MS,
            protocols: vec![("range", "topics")],
        }
    }
}

impl Joining {
    fn with_id(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// A static member that does not know its id.
    fn with_instance(instance: &'static str) -> Self {
        Self { instance: Some(instance), ..Self::default() }
    }
}

impl Clients {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let mut core = Core::new(settings, Topics::new(Uuid::from_u128(1)));
        core.create_topic("t", 3).unwrap();
        core.take_changes();
        Self { core, now_ms: 1_000 }
    }

    fn later(&mut self, ms: u64) {
        self.now_ms += ms;
        self.core.pass_time(self.now_ms);
    }

    fn call<R: WireRequest>(&mut self, request: &R, version: i16) -> Asked {
        let call = wire::decode(frame(request, version)).unwrap();
        let step = self.core.handle(&call, &moment(self.now_ms));
        Self::asked(call, step)
    }

    fn asked(call: Call, step: Step) -> Asked {
        match step {
            Step::Answer(answer) => {
                wire::encode(&call, &answer).unwrap();
                Asked::Answered(Box::new(answer))
            }
            Step::Park { ticket, until_ms } => Asked::Parked(Box::new(call), ticket, until_ms),
            other => panic!("{other:?}"),
        }
    }

    /// Asks after a call that waited.
    fn again(&mut self, asked: Asked) -> Asked {
        match asked {
            Asked::Parked(call, ticket, _) => {
                let step = self.core.resume(&call, ticket, &moment(self.now_ms));
                Self::asked(*call, step)
            }
            answered => answered,
        }
    }

    fn ask<R: WireRequest>(&mut self, request: &R, version: i16) -> R::Response {
        let call = wire::decode(frame(request, version)).unwrap();
        match self.core.handle(&call, &moment(self.now_ms)) {
            Step::Answer(answer) => response::<R>(&call, &answer, version),
            other => panic!("{other:?}"),
        }
    }

    fn join(&mut self, joining: &Joining) -> Asked {
        let protocols = joining.protocols.iter().map(|(name, metadata)| {
            join_group_request::JoinGroupRequestProtocol::default()
                .with_name(text(name))
                .with_metadata(Bytes::from_static(metadata.as_bytes()))
        });
        let rebalance_ms =
            if joining.version == 0 { -1 } else { i32::try_from(joining.rebalance_ms).unwrap() };
        let request = JoinGroupRequest::default()
            .with_group_id(group(G))
            .with_member_id(text(&joining.id))
            .with_group_instance_id(joining.instance.map(text))
            .with_session_timeout_ms(i32::try_from(joining.session_ms).unwrap())
            .with_rebalance_timeout_ms(rebalance_ms)
            .with_protocol_type(text("consumer"))
            .with_protocols(protocols.collect());
        self.call(&request, joining.version)
    }

    /// Joins as a new dynamic member does: asks for an id, comes back with it.
    fn join_new(&mut self) -> (String, Asked) {
        let first = self.join(&Joining::default());
        let id = joined(first).member_id.to_string();
        let second = self.join(&Joining::with_id(&id));
        (id, second)
    }

    fn sync(&mut self, id: &str, generation: i32, shares: &[(&str, &'static str)]) -> Asked {
        let shares = shares.iter().map(|(member, share)| {
            sync_group_request::SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::from_static(share.as_bytes()))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(group(G))
            .with_generation_id(generation)
            .with_member_id(text(id))
            .with_assignments(shares.collect());
        self.call(&request, 5)
    }

    fn heartbeat_as(&mut self, id: &str, instance: Option<&str>, generation: i32) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group(G))
            .with_generation_id(generation)
            .with_member_id(text(id))
            .with_group_instance_id(instance.map(text));
        self.ask(&request, 4).error_code
    }

    fn heartbeat(&mut self, id: &str, generation: i32) -> i16 {
        self.heartbeat_as(id, None, generation)
    }

    /// Error codes: of the call, of each member.
    fn leave(&mut self, leaving: &[(&str, Option<&str>)]) -> (i16, Vec<i16>) {
        let members = leaving.iter().map(|(id, instance)| {
            leave_group_request::MemberIdentity::default()
                .with_member_id(text(id))
                .with_group_instance_id(instance.map(text))
        });
        let request = LeaveGroupRequest::default().with_group_id(group(G)).with_members(members.collect());
        let response = self.ask(&request, 5);
        (response.error_code, response.members.iter().map(|member| member.error_code).collect())
    }

    /// Commits for partition 0 of `t`.
    fn commit(&mut self, id: &str, generation: i32, offset: i64) -> i16 {
        self.commit_as(id, None, generation, ("t", 0), offset, "beside")
    }

    fn commit_as(
        &mut self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        (topic, partition): (&str, i32),
        offset: i64,
        metadata: &str,
    ) -> i16 {
        let partition = offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(4)
            .with_committed_metadata(Some(text(metadata)));
        let topic = offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group(G))
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(id))
            .with_group_instance_id(instance.map(text))
            .with_topics(vec![topic]);
        self.ask(&request, 8).topics[0].partitions[0].error_code
    }

    fn committed(&self) -> Option<i64> {
        self.core.committed(G, "t", 0).map(|committed| committed.offset)
    }

    fn state(&self) -> (GroupState, i32, usize) {
        let view = self.core.group(G).unwrap();
        (view.state, view.generation, view.members.len())
    }

    /// A stable group of so many members, the leader first; each has its number for an assignment.
    fn stable(&mut self, members: usize) -> (Vec<String>, i32) {
        const SHARES: [&str; 4] = ["0", "1", "2", "3"];
        let mut ids = Vec::new();
        let mut waiting = Vec::new();
        for _ in 0..members {
            // Everybody who is there already joins again.
            let (id, asked) = self.join_new();
            ids.push(id);
            waiting.push(asked);
            if waiting.len() > 1 {
                for id in &ids[..ids.len() - 1] {
                    waiting.push(self.join(&Joining::with_id(id)));
                }
            }
        }
        for asked in waiting {
            self.again(asked);
        }
        let view = self.core.group(G).unwrap();
        assert_eq!((view.state, view.members.len()), (GroupState::CompletingRebalance, members));
        let leader = view.leader.unwrap();
        ids.sort_by_key(|id| *id != leader);
        let shares: Vec<_> = ids.iter().map(String::as_str).zip(SHARES).collect();
        for (id, share) in &shares {
            let asked = self.sync(id, view.generation, &shares);
            assert_eq!(synced(asked).assignment, *share);
        }
        (ids, view.generation)
    }
}

fn joined(asked: Asked) -> JoinGroupResponse {
    match asked {
        Asked::Answered(answer) => match *answer {
            Response::JoinGroup(joined) => joined,
            other => panic!("{other:?}"),
        },
        parked => panic!("{parked:?}"),
    }
}

fn synced(asked: Asked) -> SyncGroupResponse {
    match asked {
        Asked::Answered(answer) => match *answer {
            Response::SyncGroup(synced) => synced,
            other => panic!("{other:?}"),
        },
        parked => panic!("{parked:?}"),
    }
}

fn until(asked: &Asked) -> u64 {
    match asked {
        Asked::Parked(_, _, until_ms) => *until_ms,
        Asked::Answered(answer) => panic!("{answer:?}"),
    }
}
