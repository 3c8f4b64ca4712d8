//! Who reads what: decided by the group's leader, one of its members, for all.
//!
//! ```text
//! members (ids, subscriptions) + partitions per topic --assign--> an assignment for each member
//! ```
//!
//! The result depends on what is given alone, not on its order.

use std::collections::BTreeMap;

pub use super::subscription::Assignment;
use super::subscription::Subscription;

mod cooperative_sticky;
mod range;
#[cfg(test)]
mod testing;

/// The assignor that every client has, as Java's clients name it.
pub const RANGE: &str = "range";
/// The assignor that lets members go on reading what they keep (KIP-429).
pub const COOPERATIVE_STICKY: &str = "cooperative-sticky";
/// The assignors that are known here, best first.
pub const PREFERENCE: [&str; 2] = [COOPERATIVE_STICKY, RANGE];

/// A member, as the leader knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The id that the coordinator gave it.
    pub id: String,
    /// Its operator's name for it.
    pub instance_id: Option<String>,
    /// What it wants and has.
    pub subscription: Subscription,
}

/// Gives `partitions` (how many each topic has) to `members`; each member is in the result, perhaps with
/// nothing. `None` where `protocol` is not known here.
///
/// With [`COOPERATIVE_STICKY`] a partition that has to be given up first is in nobody's assignment: it is assigned
/// when its reader has joined again without it.
#[must_use]
pub fn assign(
    protocol: &str,
    members: &[Member],
    partitions: &BTreeMap<String, i32>,
) -> Option<BTreeMap<String, Assignment>> {
    match protocol {
        RANGE => Some(range::assign(members, partitions)),
        COOPERATIVE_STICKY => Some(cooperative_sticky::assign(members, partitions)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{testing::*, *};

    /// Every partition that some member subscribes to.
    fn wanted(members: &[Member], counts: &BTreeMap<String, i32>) -> BTreeSet<(String, i32)> {
        let wanted = |topic: &String| members.iter().any(|member| member.subscription.topics.contains(topic));
        let topics = counts.iter().filter(|(topic, _)| wanted(topic));
        topics.flat_map(|(topic, &count)| (0..count).map(move |number| (topic.clone(), number))).collect()
    }

    /// All that is assigned, once it is sure that it is to one member each, and to a subscriber.
    fn assigned(members: &[Member], assignments: &BTreeMap<String, Assignment>) -> BTreeSet<(String, i32)> {
        let mut all = BTreeSet::new();
        assert_eq!(assignments.len(), members.len());
        for member in members {
            for (topic, partitions) in &assignments[&member.id] {
                assert!(member.subscription.topics.contains(topic), "{topic} is not for {}", member.id);
                assert!(!partitions.is_empty() && partitions.is_sorted());
                for &number in partitions {
                    assert!(all.insert((topic.clone(), number)), "{topic}/{number} is assigned twice");
                }
            }
        }
        all
    }

    fn cooperate(members: &[Member], counts: &BTreeMap<String, i32>) -> BTreeMap<String, Assignment> {
        assign(COOPERATIVE_STICKY, members, counts).unwrap()
    }

    /// The group after a rebalance of two rounds.
    fn settled(members: &[Member], counts: &BTreeMap<String, i32>) -> Vec<Member> {
        let members = rejoin(members, &cooperate(members, counts), 10);
        rejoin(&members, &cooperate(&members, counts), 11)
    }

    #[test]
    fn a_protocol_that_is_not_known_assigns_nothing() {
        assert!(PREFERENCE.iter().all(|name| assign(name, &[], &counts(&[])).is_some()));
        assert_eq!(assign("sticky", &[], &counts(&[])), None);
    }

    proptest! {
        #[test]
        fn range_assigns_everything_once((members, counts) in any_group(false)) {
            let assignments = assign(RANGE, &members, &counts).unwrap();
            prop_assert_eq!(assigned(&members, &assignments), wanted(&members, &counts));
        }

        #[test]
        fn the_order_of_members_means_nothing((members, counts) in any_group(false), turn in 0_usize..6) {
            let mut turned = members.clone();
            turned.rotate_left(turn % members.len());
            turned.reverse();
            for protocol in PREFERENCE {
                prop_assert_eq!(assign(protocol, &members, &counts), assign(protocol, &turned, &counts));
            }
        }

        #[test]
        fn nothing_is_given_while_another_still_reads_it((members, counts) in any_group(false)) {
            let assignments = cooperate(&members, &counts);
            assert!(assigned(&members, &assignments).is_subset(&wanted(&members, &counts)));
            let claims = |member: &Member, topic: &String, number| {
                member.subscription.owned.get(topic).is_some_and(|owned| owned.contains(&number))
            };
            for member in &members {
                for (topic, partitions) in &assignments[&member.id] {
                    for &number in partitions {
                        let older = |other: &Member| {
                            claims(member, topic, number)
                                && other.subscription.generation < member.subscription.generation
                        };
                        let others = members.iter().filter(|other| other.id != member.id);
                        let allowed = |other: &Member| !claims(other, topic, number) || older(other);
                        prop_assert!(others.into_iter().all(allowed), "{topic}/{number}");
                    }
                }
            }
        }

        #[test]
        fn the_second_round_completes_the_first_and_moves_nothing((members, counts) in any_group(false)) {
            let first = cooperate(&members, &counts);
            let rejoined = rejoin(&members, &first, 10);
            let second = cooperate(&rejoined, &counts);
            prop_assert_eq!(assigned(&members, &second), wanted(&members, &counts));
            for (id, kept) in &first {
                for (topic, partitions) in kept {
                    prop_assert!(partitions.iter().all(|number| second[id][topic].contains(number)));
                }
            }
            prop_assert_eq!(&cooperate(&rejoin(&rejoined, &second, 11), &counts), &second, "a stable group moves");
        }

        #[test]
        fn shares_differ_by_one_among_members_that_want_the_same((members, counts) in any_group(true)) {
            let sizes: Vec<usize> =
                settled(&members, &counts).iter().map(|member| size(&member.subscription.owned)).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        }

        #[test]
        fn nobody_could_pass_a_partition_to_one_with_much_less((members, counts) in any_group(false)) {
            let members = settled(&members, &counts);
            for (from, to) in members.iter().flat_map(|from| members.iter().map(move |to| (from, to))) {
                let could = from.subscription.owned.keys().any(|topic| to.subscription.topics.contains(topic));
                let (much, less) = (size(&from.subscription.owned), size(&to.subscription.owned));
                prop_assert!(!could || much <= less + 1, "{} has {much}, {} has {less}", from.id, to.id);
            }
        }

        #[test]
        fn who_leaves_moves_only_what_it_had((members, counts) in any_group(true), who in 0_usize..6) {
            let mut members = settled(&members, &counts);
            members.remove(who % members.len());
            let after = cooperate(&members, &counts);
            prop_assert_eq!(assigned(&members, &after), wanted(&members, &counts));
            for member in &members {
                for (topic, kept) in &member.subscription.owned {
                    prop_assert!(kept.iter().all(|number| after[&member.id][topic].contains(number)));
                }
            }
        }

        #[test]
        fn who_joins_moves_only_what_it_gets((members, counts) in any_group(true)) {
            let mut before = settled(&members, &counts);
            let mut joining = before[0].clone();
            (joining.id, joining.instance_id) = ("new".to_owned(), None);
            joining.subscription.owned.clear();
            before.push(joining);
            for member in &settled(&before, &counts)[..before.len() - 1] {
                let had = &before.iter().find(|old| old.id == member.id).unwrap().subscription.owned;
                for (topic, has) in &member.subscription.owned {
                    prop_assert!(has.iter().all(|number| had[topic].contains(number)));
                }
            }
        }
    }
}
