//! Everybody keeps what it has, as far as the shares stay even; what must move is given up first.
//!
//! What comes out is what Java's `CooperativeStickyAssignor` promises, not always the same partitions:
//!
//! 1. **Claims.** A member claims what it owns. Of several claims to a partition that of the newest
//!    generation holds; two of that generation are both void, as one of them must be wrong.
//! 2. **Filling.** What nobody has a claim to goes to the member that can read it and has the least.
//! 3. **Balance.** As long as one member has at least two more than another that it could pass a partition
//!    to, perhaps by way of others, it does. What was filled in moves first, claims only when that is not
//!    enough: so the second round of a rebalance, where the claims are what the first one left, moves
//!    nothing.
//! 4. **Giving up.** A partition that a living member still reads is in nobody else's assignment yet.
//!
//! Racks (KIP-881) are not looked at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Assignment, Member};

type Partition<'a> = (&'a str, i32);
type Held<'a> = BTreeMap<&'a str, BTreeSet<i32>>;

/// Which of a member's partitions may move.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moving {
    Filled,
    Claimed,
}

/// What one member gets.
#[derive(Default)]
struct Share<'a> {
    claimed: Held<'a>,
    filled: Held<'a>,
    size: usize,
}

impl<'a> Share<'a> {
    fn fill(&mut self, (topic, partition): Partition<'a>) {
        self.filled.entry(topic).or_default().insert(partition);
        self.size += 1;
    }

    /// The topics of which it could pass a partition on.
    fn topics(&self, moving: Moving) -> impl Iterator<Item = &'a str> {
        let claimed = self.claimed.iter().filter(move |_| moving == Moving::Claimed);
        self.filled.iter().chain(claimed).filter(|(_, held)| !held.is_empty()).map(|(topic, _)| *topic)
    }

    /// Takes a partition of `topic`, a claimed one only where no other is left.
    fn take(&mut self, topic: &'a str) -> Option<Partition<'a>> {
        let filled = self.filled.get_mut(topic).and_then(BTreeSet::pop_last);
        let partition = filled.or_else(|| self.claimed.get_mut(topic)?.pop_last())?;
        self.size -= 1;
        Some((topic, partition))
    }
}

/// The whole plan; members are known by their places in the order of their ids.
struct Plan<'a> {
    shares: Vec<Share<'a>>,
    readers: BTreeMap<&'a str, Vec<usize>>,
}

/// Balanced, and as near to what is owned as that allows.
pub(super) fn assign(members: &[Member], partitions: &BTreeMap<String, i32>) -> BTreeMap<String, Assignment> {
    let members: BTreeMap<&str, &Member> =
        members.iter().map(|member| (member.id.as_str(), member)).collect();
    let members: Vec<&Member> = members.into_values().collect();
    let (holders, claimants) = claims(&members);

    let mut plan = Plan::new(&members, partitions);
    plan.fill(partitions, &holders);
    plan.balance(Moving::Filled);
    plan.balance(Moving::Claimed);

    let given_up_first = |index: usize, partition: &Partition<'_>| {
        holders.get(partition) != Some(&index)
            && claimants.get(partition).is_some_and(|claimants| claimants.iter().any(|&other| other != index))
    };
    let share = |index: usize, share: Share<'_>| {
        let mut assignment = Assignment::new();
        for (topic, held) in share.claimed.into_iter().chain(share.filled) {
            let now = held.into_iter().filter(|partition| !given_up_first(index, &(topic, *partition)));
            assignment.entry(topic.to_owned()).or_default().extend(now);
        }
        assignment.retain(|_, partitions| !partitions.is_empty());
        assignment.values_mut().for_each(|partitions| partitions.sort_unstable());
        assignment
    };
    let shares = plan.shares.into_iter().enumerate();
    members.iter().zip(shares).map(|(member, (index, of))| (member.id.clone(), share(index, of))).collect()
}

/// Whose claim to each partition holds, and who has one at all.
fn claims<'a>(
    members: &[&'a Member],
) -> (BTreeMap<Partition<'a>, usize>, BTreeMap<Partition<'a>, Vec<usize>>) {
    let mut claimants: BTreeMap<Partition<'a>, Vec<usize>> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for (topic, partitions) in &member.subscription.owned {
            for &partition in partitions {
                let of_this = claimants.entry((topic.as_str(), partition)).or_default();
                if of_this.last() != Some(&index) {
                    of_this.push(index);
                }
            }
        }
    }
    let generation = |index: &usize| members[*index].subscription.generation;
    let mut holders = BTreeMap::new();
    for (partition, of_this) in &claimants {
        let newest = of_this.iter().map(generation).max();
        let mut holding = of_this.iter().filter(|index| Some(generation(index)) == newest);
        if let (Some(holder), None) = (holding.next(), holding.next()) {
            holders.insert(*partition, *holder);
        }
    }
    (holders, claimants)
}

impl<'a> Plan<'a> {
    fn new(members: &[&'a Member], partitions: &'a BTreeMap<String, i32>) -> Self {
        let wants = |index: usize, topic: &String| members[index].subscription.topics.contains(topic);
        let readers = |topic| (0..members.len()).filter(|&index| wants(index, topic)).collect();
        Self {
            shares: members.iter().map(|_| Share::default()).collect(),
            readers: partitions.keys().map(|topic| (topic.as_str(), readers(topic))).collect(),
        }
    }

    /// Gives each partition to its holder, or else to the reader with the least; topics with few readers first,
    /// as there is least choice.
    fn fill(&mut self, partitions: &'a BTreeMap<String, i32>, holders: &BTreeMap<Partition<'a>, usize>) {
        let mut topics: Vec<(&str, i32)> =
            partitions.iter().map(|(topic, count)| (topic.as_str(), *count)).collect();
        topics.sort_by_key(|(topic, _)| self.readers[topic].len());
        let mut unclaimed = Vec::new();
        for partition in topics.into_iter().flat_map(|(topic, count)| (0..count).map(move |n| (topic, n))) {
            match holders.get(&partition).filter(|holder| self.readers[partition.0].contains(holder)) {
                Some(&holder) => {
                    let share = &mut self.shares[holder];
                    share.claimed.entry(partition.0).or_default().insert(partition.1);
                    share.size += 1;
                }
                None => unclaimed.push(partition),
            }
        }
        for partition in unclaimed {
            let least = self.readers[partition.0].iter().min_by_key(|&&index| self.shares[index].size);
            if let Some(&index) = least {
                self.shares[index].fill(partition);
            }
        }
    }

    /// Passes partitions on until no share can be made more even that way. Each pass makes the sum of the
    /// squares of all sizes smaller, so this ends.
    fn balance(&mut self, moving: Moving) {
        while let Some(path) = self.path(moving) {
            for (from, topic, to) in path {
                if let Some(partition) = self.shares[from].take(topic) {
                    self.shares[to].fill(partition);
                }
            }
        }
    }

    /// The shortest way from a member with much to the one with the least that has at least two less, as
    /// steps (from, topic, to), the last one first.
    fn path(&self, moving: Moving) -> Option<Vec<(usize, &'a str, usize)>> {
        let size = |index: usize| self.shares[index].size;
        let least = (0..self.shares.len()).map(size).min()?;
        let mut sources: Vec<usize> =
            (0..self.shares.len()).filter(|&index| size(index) >= least + 2).collect();
        sources.sort_by_key(|&index| std::cmp::Reverse(size(index)));
        for source in sources {
            let came = self.reach(source, moving);
            let end = came.keys().copied().min_by_key(|&index| size(index));
            let Some(mut end) = end.filter(|&end| size(end) + 2 <= size(source)) else { continue };
            let mut path = Vec::new();
            while end != source {
                let (from, topic) = came[&end];
                path.push((from, topic, end));
                end = from;
            }
            return Some(path);
        }
        None
    }

    /// To whom partitions can come from `source`, and from whom they would directly.
    fn reach(&self, source: usize, moving: Moving) -> BTreeMap<usize, (usize, &'a str)> {
        let mut came = BTreeMap::new();
        let mut topics_seen = BTreeSet::new();
        let mut queue = VecDeque::from([source]);
        while let Some(from) = queue.pop_front() {
            for topic in self.shares[from].topics(moving) {
                // Who reads a topic is reached by the first member that has something of it to pass on.
                if !topics_seen.insert(topic) {
                    continue;
                }
                for &to in self.readers[topic].iter().filter(|&&to| to != source) {
                    came.entry(to).or_insert_with(|| {
                        queue.push_back(to);
                        (from, topic)
                    });
                }
            }
        }
        came
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn owner(id: &str, generation: i32, owned: &[(&str, &[i32])]) -> Member {
        let mut member = member(id, &["t"]);
        (member.subscription.generation, member.subscription.owned) = (generation, assignment(owned));
        member
    }

    #[test]
    fn a_new_member_gets_its_share_when_the_others_have_given_it_up() {
        let members = [owner("a", 3, &[("t", &[0, 1, 2, 3])]), owner("b", -1, &[])];
        let first = assign(&members, &counts(&[("t", 4)]));
        assert_eq!(first["a"], assignment(&[("t", &[0, 1])]));
        assert_eq!(first["b"], Assignment::new());
        let second = assign(&rejoin(&members, &first, 4), &counts(&[("t", 4)]));
        assert_eq!((&second["a"], &second["b"]), (&first["a"], &assignment(&[("t", &[2, 3])])));
    }

    #[test]
    fn the_newer_claim_holds() {
        let members = [owner("a", 3, &[("t", &[0, 1])]), owner("b", 4, &[("t", &[1, 0])])];
        let assignments = assign(&members, &counts(&[("t", 2)]));
        // One of b's moves to a, which must give up its own idea of it first.
        assert_eq!((size(&assignments["a"]), size(&assignments["b"])), (0, 1));
        let assignments = assign(&members, &counts(&[("t", 1)]));
        assert_eq!(assignments["b"], assignment(&[("t", &[0])]));
    }

    #[test]
    fn two_claims_of_one_generation_are_both_void() {
        let members = [owner("a", 3, &[("t", &[0, 1])]), owner("b", 3, &[("t", &[0])])];
        let assignments = assign(&members, &counts(&[("t", 2)]));
        assert_eq!(assignments["a"], assignment(&[("t", &[1])]));
        assert_eq!(assignments["b"], Assignment::new());
    }

    #[test]
    fn what_is_no_longer_wanted_or_there_is_not_assigned() {
        let mut members = [owner("a", 3, &[("t", &[0, 7]), ("gone", &[0])]), owner("b", 3, &[])];
        let assignments = assign(&members, &counts(&[("t", 1)]));
        assert_eq!(assignments["a"], assignment(&[("t", &[0])]));
        members[0].subscription.topics.clear();
        let assignments = assign(&members, &counts(&[("t", 1)]));
        assert_eq!((size(&assignments["a"]), size(&assignments["b"])), (0, 0), "a has to give it up first");
    }

    #[test]
    fn partitions_are_passed_on_by_way_of_others() {
        // a reads t, b reads t and u, c reads u: one each needs b to pass t to a and c to pass u to b.
        let mut members = [member("a", &["t"]), member("b", &["t", "u"]), member("c", &["u"])];
        members[1].subscription.owned = assignment(&[("t", &[0])]);
        members[2].subscription.owned = assignment(&[("u", &[0, 1])]);
        let counts = counts(&[("t", 1), ("u", 2)]);
        let first = assign(&members, &counts);
        assert_eq!((size(&first["a"]), size(&first["b"]), size(&first["c"])), (0, 0, 1));
        let second = assign(&rejoin(&members, &first, 1), &counts);
        assert_eq!((size(&second["a"]), size(&second["b"]), size(&second["c"])), (1, 1, 1));
    }

    #[test]
    fn many_members_and_partitions_take_no_time_to_speak_of() {
        let alone = [owner("m", 1, &[("t", &(0..3_000).collect::<Vec<_>>())])];
        let mut members = alone.to_vec();
        members.extend((0..99).map(|number| member(&format!("n{number}"), &["t"])));
        let counts = counts(&[("t", 3_000)]);
        let first = assign(&members, &counts);
        let second = assign(&rejoin(&members, &first, 2), &counts);
        assert!(second.values().all(|assignment| size(assignment) == 30));
    }
}
