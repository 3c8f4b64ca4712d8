//! Who is in a group, and what its members have in common.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;

use super::super::member::Member;
use super::super::tickets::{Joined, JoinedMember, Synced};
use super::super::view::{GroupView, MemberView};
use super::super::{JoinGroup, Sender};
use super::Group;

impl Group {
    pub(crate) fn view(&self) -> GroupView {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| MemberView {
            id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            metadata: member.metadata(protocol),
            assignment: member.assignment.clone(),
        });
        GroupView {
            state: self.state,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: members.collect(),
        }
    }

    /// The member that holds an instance id.
    pub(super) fn static_id(&self, instance: &str) -> Option<&str> {
        let holds = |member: &Member| member.instance_id.as_deref() == Some(instance);
        self.members.iter().find(|(_, member)| holds(member)).map(|(id, _)| id.as_str())
    }

    /// A member, which holds that instance id if one is named.
    pub(super) fn find(&self, id: &str, instance: Option<&str>) -> Result<&Member, ResponseError> {
        if let Some(instance) = instance {
            let holder = self.static_id(instance).ok_or(ResponseError::UnknownMemberId)?;
            if holder != id {
                return Err(ResponseError::FencedInstanceId);
            }
        }
        self.members.get(id).ok_or(ResponseError::UnknownMemberId)
    }

    /// Whether it is a member of this generation.
    pub(super) fn authenticate(&self, sender: &Sender) -> Result<(), ResponseError> {
        self.find(&sender.member_id, sender.instance_id.as_deref())?;
        if sender.generation == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    /// Whether there is a protocol that everybody, and who joins, can speak.
    pub(super) fn can_take(&self, join: &JoinGroup) -> bool {
        if self.is_empty() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| self.is_common(name))
    }

    fn is_common(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.supports(protocol))
    }

    /// Each member votes for the one it wants most of those that all support. Of equals, the first name.
    pub(super) fn choose_protocol(&self) -> Option<String> {
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            let mut names = member.protocols.iter().map(|(name, _)| name.as_str());
            if let Some(name) = names.find(|name| self.is_common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max()?;
        votes.iter().find(|(_, count)| *count == most).map(|(name, _)| (*name).to_owned())
    }

    /// The longest rebalance time-out of all members.
    pub(super) fn rebalance_ms(&self) -> u64 {
        self.members.values().map(|member| member.rebalance_ms).max().unwrap_or(0)
    }

    pub(super) fn joined(&self, id: &str, with_members: bool) -> Joined {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |(id, member): (&String, &Member)| JoinedMember {
            id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.to_owned(),
            members: if with_members { self.members.iter().map(member).collect() } else { Vec::new() },
            skip_assignment: false,
        }
    }

    pub(super) fn synced(&self, id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }
}
