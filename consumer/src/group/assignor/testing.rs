//! Groups for tests.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Assignment, Member, Subscription};

/// A member that owns nothing.
pub(super) fn member(id: &str, topics: &[&str]) -> Member {
    let topics = topics.iter().map(ToString::to_string).collect();
    let subscription = Subscription { topics, owned: BTreeMap::new(), generation: -1, rack: None };
    Member { id: id.to_owned(), instance_id: None, subscription }
}

/// Partitions per topic.
pub(super) fn counts(of: &[(&str, i32)]) -> BTreeMap<String, i32> {
    of.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
}

/// Partitions by topic.
pub(super) fn assignment(of: &[(&str, &[i32])]) -> Assignment {
    of.iter().map(|(topic, partitions)| ((*topic).to_owned(), partitions.to_vec())).collect()
}

/// How many partitions these are.
pub(super) fn size(assignment: &Assignment) -> usize {
    assignment.values().map(Vec::len).sum()
}

/// The members when they join again after `assignments`, of `generation`: each owns what it was given.
pub(super) fn rejoin(
    members: &[Member],
    assignments: &BTreeMap<String, Assignment>,
    generation: i32,
) -> Vec<Member> {
    let mut members = members.to_vec();
    for member in &mut members {
        member.subscription.owned = assignments[&member.id].clone();
        member.subscription.generation = generation;
    }
    members
}

/// A group whose members claim whatever they like; all have the same subscription if `alike`.
pub(super) fn any_group(alike: bool) -> impl Strategy<Value = (Vec<Member>, BTreeMap<String, i32>)> {
    let topic = |number: usize| format!("t{number}");
    let claims = prop::collection::vec((0_usize..4, -1..9), 0..12);
    let members = prop::collection::vec((any::<u8>(), -1..3, claims, any::<bool>()), 1..7);
    let counts = prop::collection::vec(0..8, 1..4);
    (members, counts).prop_map(move |(members, counts)| {
        let mask = members[0].0;
        let members =
            members.into_iter().enumerate().map(|(number, (own, generation, claims, is_static))| {
                let wanted = if alike { mask } else { own };
                let topics = (0..4).filter(|number| wanted & (1 << number) != 0).map(topic).collect();
                let mut owned = BTreeMap::<String, Vec<i32>>::new();
                for (number, partition) in claims {
                    owned.entry(topic(number)).or_default().push(partition);
                }
                Member {
                    id: format!("m{number}"),
                    instance_id: is_static.then(|| format!("i{}", 9 - number)),
                    subscription: Subscription { topics, owned, generation, rack: None },
                }
            });
        let counts = counts.into_iter().enumerate().map(|(number, count)| (topic(number), count));
        (members.collect(), counts.collect())
    })
}
