//! Each topic's partitions in a row, cut into one piece per member.
//!
//! As Java's `RangeAssignor` does it, but for racks (KIP-881): it prefers to give a member partitions with a
//! replica in its rack, and we do not ask where replicas are.

use std::collections::BTreeMap;

use super::{Assignment, Member};

/// Gives the first members of each topic one partition more where they do not divide evenly.
pub(super) fn assign(members: &[Member], partitions: &BTreeMap<String, i32>) -> BTreeMap<String, Assignment> {
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted.sort_by_key(|member| place(member));
    let mut assignments: BTreeMap<String, Assignment> =
        members.iter().map(|member| (member.id.clone(), Assignment::new())).collect();
    for (topic, &count) in partitions {
        let readers: Vec<&&Member> =
            sorted.iter().filter(|member| member.subscription.topics.contains(topic)).collect();
        let mut next = 0..count;
        for (index, reader) in readers.iter().enumerate() {
            // What is left, divided among who is left, rounded up: the first get one more.
            let share = next.len().div_ceil(readers.len() - index);
            let piece: Vec<i32> = next.by_ref().take(share).collect();
            if !piece.is_empty() {
                assignments.entry(reader.id.clone()).or_default().insert(topic.clone(), piece);
            }
        }
    }
    assignments
}

/// As Java's `MemberInfo` is sorted: those with instance ids by them, then the others by their member ids.
fn place(member: &Member) -> (bool, &str) {
    let instance_id = member.instance_id.as_deref();
    (instance_id.is_none(), instance_id.unwrap_or(&member.id))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn the_first_members_get_one_more() {
        let members = [member("c1", &["t0", "t1"]), member("c0", &["t0", "t1"])];
        let assignments = assign(&members, &counts(&[("t0", 3), ("t1", 3)]));
        assert_eq!(assignments["c0"], assignment(&[("t0", &[0, 1]), ("t1", &[0, 1])]));
        assert_eq!(assignments["c1"], assignment(&[("t0", &[2]), ("t1", &[2])]));
    }

    #[test]
    fn pieces_differ_by_one_at_most() {
        let members = ["a", "b", "c", "d"].map(|id| member(id, &["t"]));
        let assignments = assign(&members, &counts(&[("t", 10)]));
        let pieces: Vec<&[i32]> = assignments.values().map(|assigned| &assigned["t"][..]).collect();
        assert_eq!(pieces, [&[0, 1, 2][..], &[3, 4, 5], &[6, 7], &[8, 9]]);
    }

    #[test]
    fn members_with_instance_ids_come_first() {
        let mut members = [member("a", &["t"]), member("b", &["t"]), member("c", &["t"])];
        members[2].instance_id = Some("i1".to_owned());
        members[1].instance_id = Some("i2".to_owned());
        let assignments = assign(&members, &counts(&[("t", 3)]));
        assert_eq!(assignments["c"], assignment(&[("t", &[0])]));
        assert_eq!(assignments["b"], assignment(&[("t", &[1])]));
        assert_eq!(assignments["a"], assignment(&[("t", &[2])]));
    }

    #[test]
    fn only_subscribers_get_a_topic_and_only_topics_that_exist_are_given() {
        let members = [member("a", &["t", "missing"]), member("b", &["u", "u"]), member("c", &[])];
        let assignments = assign(&members, &counts(&[("t", 2), ("u", 1), ("nobody's", 4)]));
        assert_eq!(assignments["a"], assignment(&[("t", &[0, 1])]));
        assert_eq!(assignments["b"], assignment(&[("u", &[0])]));
        assert_eq!(assignments["c"], Assignment::new());
    }

    #[test]
    fn more_members_than_partitions_leaves_some_with_nothing() {
        let members = ["a", "b", "c"].map(|id| member(id, &["t"]));
        let assignments = assign(&members, &counts(&[("t", 2)]));
        assert_eq!((assignments.len(), &assignments["c"]), (3, &Assignment::new()));
    }
}
