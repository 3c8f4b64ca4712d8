//! What members tell each other through the coordinator, which never looks inside: the subscription of each
//! to the leader, the leader's assignment to each.
//!
//! Both begin with a version. Newer versions than ours only append, and are read as the newest that we know,
//! as Java's clients do.
//!
//! Source: KIP-429 (owned partitions), KIP-792 (generation), KIP-881 (rack), and Kafka's
//! `ConsumerProtocolSubscription.json` and `ConsumerProtocolAssignment.json`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use coinduit_common::kafka::shape::{
    self, Field,
    Kind::{Blob, Fixed, Numbers, Structs, Text, Texts},
    field, since,
};
use kafka_protocol::{
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName,
        consumer_protocol_assignment::TopicPartition as Assigned,
        consumer_protocol_subscription::TopicPartition as Owned,
    },
    protocol::{Decodable, Encodable, StrBytes},
};

use super::assignor::COOPERATIVE_STICKY;

/// The newest version of both messages, which is what we write, as Java's clients do.
const NEWEST: i16 = 3;

const PARTITIONS: &[Field] = &[field(Text), field(Numbers(4))]; // topic, partitions
const SUBSCRIPTION: &[Field] = &[
    field(Texts),                  // topics
    field(Blob),                   // user data
    since(1, Structs(PARTITIONS)), // owned
    since(2, Fixed(4)),            // generation
    since(3, Text),                // rack
];
const ASSIGNMENT: &[Field] = &[
    field(Structs(PARTITIONS)), // assigned
    field(Blob),                // user data
];
/// The user data of sticky assignors that told what they own there: librdkafka's, and Java's before KIP-429.
const STICKY: &[Field] = &[
    field(Structs(PARTITIONS)), // owned
    field(Fixed(4)),            // generation
];

/// Partitions by topic, ascending and without repeats; a topic without any is left out.
pub type Assignment = BTreeMap<String, Vec<i32>>;

/// What one member wants, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The topics of which it wants partitions.
    pub topics: Vec<String>,
    /// What it still reads.
    pub owned: Assignment,
    /// The generation in which it got that; -1 where unknown.
    pub generation: i32,
    /// Where it stands, as `client.rack` names it.
    pub rack: Option<String>,
}

impl Subscription {
    /// The bytes that the leader gets if the group chooses `protocol`.
    ///
    /// For cooperative-sticky the generation is told twice: leaders older than KIP-792 look for it in
    /// the user data.
    #[must_use]
    pub fn encode(&self, protocol: &str) -> Bytes {
        let topics: BTreeSet<&String> = self.topics.iter().collect();
        let owned = self.owned.iter().filter(|(_, partitions)| !partitions.is_empty());
        let owned = owned.map(|(topic, partitions)| {
            Owned::default().with_topic(topic_name(topic)).with_partitions(partitions.clone())
        });
        let user_data =
            (protocol == COOPERATIVE_STICKY).then(|| Bytes::copy_from_slice(&self.generation.to_be_bytes()));
        let message = ConsumerProtocolSubscription::default()
            .with_topics(topics.into_iter().map(|topic| text(topic)).collect())
            .with_user_data(user_data)
            .with_owned_partitions(owned.collect())
            .with_generation_id(self.generation)
            .with_rack_id(self.rack.as_deref().map(text));
        encoded(&message)
    }

    /// Reads what a member sent; `None` where it is no subscription.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, mut body) = sound(SUBSCRIPTION, bytes)?;
        let message = ConsumerProtocolSubscription::decode(&mut body, version).ok()?;
        // As Java's leader: the field where there is one, else the user data.
        let generation = match message.generation_id {
            -1 => message.user_data.as_deref().and_then(generation).unwrap_or(-1),
            told => told,
        };
        let owned = message.owned_partitions.into_iter().map(|of| (of.topic, of.partitions));
        Some(Self {
            topics: message.topics.iter().map(ToString::to_string).collect(),
            owned: by_topic(owned),
            generation,
            rack: message.rack_id.map(|rack| rack.to_string()),
        })
    }
}

/// The bytes that a member gets.
#[must_use]
pub fn encode_assignment(assignment: &Assignment) -> Bytes {
    let assigned = assignment.iter().filter(|(_, partitions)| !partitions.is_empty());
    let assigned = assigned.map(|(topic, partitions)| {
        Assigned::default().with_topic(topic_name(topic)).with_partitions(partitions.clone())
    });
    encoded(&ConsumerProtocolAssignment::default().with_assigned_partitions(assigned.collect()))
}

/// Reads what the leader gave; `None` where it is no assignment. No bytes at all are nothing assigned: the
/// leader knew nothing of this member.
#[must_use]
pub fn decode_assignment(bytes: &[u8]) -> Option<Assignment> {
    if bytes.is_empty() {
        return Some(Assignment::new());
    }
    let (version, mut body) = sound(ASSIGNMENT, bytes)?;
    let message = ConsumerProtocolAssignment::decode(&mut body, version).ok()?;
    Some(by_topic(message.assigned_partitions.into_iter().map(|of| (of.topic, of.partitions))))
}

/// The generation in a sticky assignor's user data.
fn generation(user_data: &[u8]) -> Option<i32> {
    let own = shape::is_sound(&[field(Fixed(4))], 0, false, user_data);
    let sticky = shape::is_sound(STICKY, 0, false, user_data);
    let last = user_data.last_chunk::<4>().filter(|_| own || sticky)?;
    Some(i32::from_be_bytes(*last))
}

/// The version to read `bytes` in, and what follows it, once that has the lengths that it claims.
fn sound(fields: &[Field], bytes: &[u8]) -> Option<(i16, Bytes)> {
    let (version, body) = bytes.split_first_chunk::<2>()?;
    let version = i16::from_be_bytes(*version).min(NEWEST);
    let length = shape::sound_length(fields, version, false, body)?;
    (version >= 0).then(|| (version, Bytes::copy_from_slice(&body[..length])))
}

fn by_topic(owned: impl Iterator<Item = (TopicName, Vec<i32>)>) -> Assignment {
    let mut sets: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partitions) in owned.filter(|(_, partitions)| !partitions.is_empty()) {
        sets.entry(topic.to_string()).or_default().extend(partitions);
    }
    sets.into_iter().map(|(topic, partitions)| (topic, partitions.into_iter().collect())).collect()
}

fn encoded(message: &impl Encodable) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(NEWEST);
    message.encode(&mut bytes, NEWEST).expect("names of topics and racks have less than 32 KiB");
    bytes.freeze()
}

fn text(words: &str) -> StrBytes {
    StrBytes::from_string(words.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subscription() -> Subscription {
        Subscription {
            topics: vec!["a".to_owned(), "b".to_owned()],
            owned: [("a".to_owned(), vec![0, 1])].into(),
            generation: 7,
            rack: Some("r".to_owned()),
        }
    }

    #[test]
    fn a_lying_length_is_no_subscription() {
        // Version 1, no topics, no user data, and two billion owned topics.
        let lie = [0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff];
        assert_eq!(Subscription::decode(&lie), None);
        assert_eq!(decode_assignment(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(Subscription::decode(&[0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]), None, "version -1");
    }

    #[test]
    fn every_version_is_read() {
        for version in 0..=NEWEST {
            let owned = Owned::default().with_topic(topic_name("a")).with_partitions(if version > 0 {
                vec![1, 0]
            } else {
                vec![]
            });
            let message = ConsumerProtocolSubscription::default()
                .with_topics(vec![text("a"), text("b")])
                .with_user_data(Some(Bytes::from_static(&[0, 0, 0, 7])))
                .with_owned_partitions(if version > 0 { vec![owned] } else { vec![] })
                .with_generation_id(if version > 1 { 7 } else { -1 })
                .with_rack_id((version > 2).then(|| text("r")));
            let mut bytes = BytesMut::new();
            bytes.put_i16(version);
            message.encode(&mut bytes, version).unwrap();
            let mut expected = subscription();
            expected.owned.retain(|_, _| version > 0);
            expected.rack = expected.rack.filter(|_| version > 2);
            assert_eq!(Subscription::decode(&bytes), Some(expected), "{version}");
        }
    }

    #[test]
    fn newer_versions_are_read_as_the_newest_known() {
        for version in [4_i16, i16::MAX] {
            let mut bytes = subscription().encode(COOPERATIVE_STICKY).to_vec();
            bytes[..2].copy_from_slice(&version.to_be_bytes());
            bytes.extend_from_slice(b"what is new");
            assert_eq!(Subscription::decode(&bytes), Some(subscription()));
            let owned = subscription().owned;
            let mut bytes = encode_assignment(&owned).to_vec();
            bytes[..2].copy_from_slice(&version.to_be_bytes());
            bytes.extend_from_slice(b"what is new");
            assert_eq!(decode_assignment(&bytes), Some(owned));
        }
    }

    /// Two topics, `wire-a` and `wire-b`, as they stood in real members' messages to a broker of Kafka 4.1.
    fn real(owned: &[(&str, &[i32])], generation: i32, rack: Option<&str>) -> Subscription {
        Subscription {
            topics: vec!["wire-a".to_owned(), "wire-b".to_owned()],
            owned: partitions(owned),
            generation,
            rack: rack.map(ToOwned::to_owned),
        }
    }

    fn partitions(of: &[(&str, &[i32])]) -> Assignment {
        of.iter().map(|(topic, partitions)| ((*topic).to_owned(), partitions.to_vec())).collect()
    }

    #[test]
    fn javas_bytes_are_ours() {
        // kafka-clients 4.1.0, cooperative-sticky: before its first generation, and after its second.
        let first = b"\0\x03\0\0\0\x02\0\x06wire-a\0\x06wire-b\0\0\0\x04\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\0\x02r1";
        assert_eq!(real(&[], -1, Some("r1")).encode(COOPERATIVE_STICKY), first[..]);
        assert_eq!(Subscription::decode(first), Some(real(&[], -1, Some("r1"))));
        let second = b"\0\x03\0\0\0\x02\0\x06wire-a\0\x06wire-b\0\0\0\x04\0\0\0\x02\0\0\0\x02\
            \0\x06wire-a\0\0\0\x02\0\0\0\0\0\0\0\x01\0\x06wire-b\0\0\0\x01\0\0\0\0\0\0\0\x02\0\x02r1";
        let owner = real(&[("wire-a", &[0, 1]), ("wire-b", &[0])], 2, Some("r1"));
        assert_eq!(owner.encode(COOPERATIVE_STICKY), second[..]);
        assert_eq!(Subscription::decode(second), Some(owner));
        // The same, range.
        let range = b"\0\x03\0\0\0\x01\0\x06wire-b\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff";
        let mut plain = real(&[], -1, None);
        plain.topics.remove(0);
        assert_eq!(plain.encode(super::super::assignor::RANGE), range[..]);
        assert_eq!(Subscription::decode(range), Some(plain));
        // Its leader's assignment.
        let assignment = b"\0\x03\0\0\0\x01\0\x06wire-b\0\0\0\x02\0\0\0\x01\0\0\0\x02\xff\xff\xff\xff";
        let given = partitions(&[("wire-b", &[1, 2])]);
        assert_eq!(encode_assignment(&given), assignment[..]);
        assert_eq!(decode_assignment(assignment), Some(given));
    }

    #[test]
    fn librdkafkas_bytes_are_understood() {
        // librdkafka 2.0.2, cooperative-sticky: user data of its own, without a generation outside of it.
        let first = b"\0\x01\0\0\0\x02\0\x06wire-a\0\x06wire-b\0\0\0\0\0\0\0\0";
        assert_eq!(Subscription::decode(first), Some(real(&[], -1, None)));
        let second = b"\0\x01\0\0\0\x02\0\x06wire-a\0\x06wire-b\0\0\0\x20\
            \0\0\0\x01\0\x06wire-b\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x02\
            \0\0\0\x01\0\x06wire-b\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x02";
        assert_eq!(Subscription::decode(second), Some(real(&[("wire-b", &[0, 1, 2])], 2, None)));
        let nothing_owned = b"\0\x01\0\0\0\x02\0\x06wire-a\0\x06wire-b\0\0\0\x08\0\0\0\0\0\0\0\x02\0\0\0\0";
        assert_eq!(Subscription::decode(nothing_owned), Some(real(&[], 2, None)));
        let assignment =
            b"\0\0\0\0\0\x01\0\x06wire-a\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x02";
        assert_eq!(decode_assignment(assignment), Some(partitions(&[("wire-a", &[0, 1])])));
    }

    #[test]
    fn no_bytes_are_nothing_assigned() {
        assert_eq!(decode_assignment(&[]), Some(Assignment::new()));
        assert_eq!(decode_assignment(&[0]), None);
    }

    fn any_partitions() -> impl Strategy<Value = Assignment> {
        let partitions = prop::collection::btree_set(any::<i32>(), 1..5);
        prop::collection::btree_map("[a-z]{1,9}", partitions, 0..4).prop_map(|owned| {
            owned.into_iter().map(|(topic, partitions)| (topic, partitions.into_iter().collect())).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_told_is_understood(
            topics in prop::collection::btree_set("[a-z]{1,9}", 0..4),
            owned in any_partitions(),
            generation in -1..i32::MAX,
            rack in prop::option::of("[a-z]{0,9}"),
            protocol in prop::sample::select(super::super::assignor::PREFERENCE.to_vec()),
        ) {
            let told = Subscription { topics: topics.into_iter().collect(), owned, generation, rack };
            prop_assert_eq!(Subscription::decode(&told.encode(protocol)), Some(told));
        }

        #[test]
        fn an_assignment_is_understood(assignment in any_partitions()) {
            prop_assert_eq!(decode_assignment(&encode_assignment(&assignment)), Some(assignment));
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..120),
            version in prop::option::of(0..5_u8),
        ) {
            if let (Some(version), true) = (version, bytes.len() > 2) {
                bytes[..2].copy_from_slice(&[0, version]);
            }
            let subscription = Subscription::decode(&bytes);
            prop_assert!(subscription.is_none() || bytes.len() >= 10);
            prop_assert!(decode_assignment(&bytes).is_none() || bytes.is_empty() || bytes.len() >= 10);
        }

        #[test]
        fn what_changed_bytes_are_read_as_can_be_told(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut bytes = subscription().encode(COOPERATIVE_STICKY).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Some(mut read) = Subscription::decode(&bytes) {
                read.topics.sort_unstable();
                read.topics.dedup();
                prop_assert_eq!(Subscription::decode(&read.encode(COOPERATIVE_STICKY)), Some(read));
            }
        }
    }
}
