//! What a member says in its log about its share of a group.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::program::{Program, events};
use crate::wait::until;

/// The consumer's word for partitions that it was given.
pub const ASSIGNED: &str = "partitions assigned";
/// The consumer's word for partitions that it has to give up.
pub const REVOKED: &str = "partitions to be given up: storing what they hold";
/// The consumer's word for a membership that ended without it.
pub const LOST: &str = "partitions lost: what they hold is dropped, and read again by whoever has them";

/// The partitions that a member with this log has now.
///
/// # Panics
/// When the log is not a consumer's.
pub fn owned(log: &str) -> BTreeSet<i32> {
    let mut owned = BTreeSet::new();
    for line in log.lines().filter(|line| line.contains("partitions ")) {
        let event: Value = serde_json::from_str(line).expect("a line of a log is JSON");
        match event["message"].as_str() {
            Some(ASSIGNED) => owned.extend(numbers(&event["added"])),
            Some(REVOKED) => owned.retain(|partition| !numbers(&event["partitions"]).contains(partition)),
            Some(LOST) => owned.clear(),
            _ => {}
        }
    }
    owned
}

/// A list of numbers, as it stands in a log: `[1, 2]`.
fn numbers(list: &Value) -> BTreeSet<i32> {
    let list = list.as_str().expect("a list in a log").trim_matches(['[', ']']);
    list.split(", ").filter(|word| !word.is_empty()).map(|word| word.parse().expect("a number")).collect()
}

/// The generation of the group in which a member with this log was assigned something last.
///
/// # Panics
/// When there is none.
pub fn generation(log: &str) -> i64 {
    events(log, ASSIGNED).last().and_then(|event| event["generation"].as_i64()).expect("an assignment")
}

/// How often a member with this log had to do with a change in its group.
pub fn changes(log: &str) -> usize {
    [ASSIGNED, REVOKED, LOST].iter().map(|message| log.matches(message).count()).sum()
}

/// Waits until these members have all `partitions`, each as many as the others or one more.
///
/// # Panics
/// When that does not come to pass.
pub async fn shared(members: &[&Program], partitions: i32) {
    let all: BTreeSet<i32> = (0..partitions).collect();
    until(&format!("{} members share {partitions} partitions", members.len()), async || {
        let shares: Vec<BTreeSet<i32>> = members.iter().map(|member| owned(&member.log())).collect();
        let sizes = || shares.iter().map(BTreeSet::len);
        let fair = sizes().max().zip(sizes().min()).is_some_and(|(most, least)| most <= least + 1);
        fair && sizes().sum::<usize>() == all.len()
            && shares.iter().flatten().copied().collect::<BTreeSet<i32>>() == all
    })
    .await;
}
