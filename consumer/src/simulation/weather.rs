//! What a seed decides before its history begins: how bad it gets, and what kinds of things happen in it at all.

use std::time::Duration;

use super::dice::Dice;
use crate::{batch::Limits, ledger::resume::Reset};

/// What kind of history it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A few minutes.
    Short,
    /// So long that objects expire, with two groups on one prefix, of which one may lose sight of the store for longer
    /// than objects live.
    Long,
    /// Beyond what the contract assumes: also a partition's newest object expires.
    EveryObjectExpires,
    /// Beyond what the contract assumes: commits expire also where no object is.
    CommitsExpireAlone,
}

/// One history's weather.
#[derive(Debug, Clone)]
pub(super) struct Weather {
    pub(super) kind: Kind,
    /// How long things happen before everything heals.
    pub(super) lasts: Duration,
    /// Partitions at first, and in the end.
    pub(super) partitions: (i32, i32),
    /// Where the log begins when the first consumer comes.
    pub(super) first_start: i64,
    pub(super) reset: Reset,
    /// How many processes run at a time.
    pub(super) most_processes: usize,
    /// Processes have instance ids.
    pub(super) is_static: bool,
    /// A consumer of another group works on the same prefix.
    pub(super) stranger: bool,
    /// Of a thousand calls of the store, so many go wrong.
    pub(super) store_faults: u64,
    /// Of a thousand calls of the brokers, so many go wrong.
    pub(super) network_faults: u64,
    /// Of a thousand records, so many can't be lines.
    pub(super) bad_records: u64,
    /// Objects older than this may go.
    pub(super) object_life: Option<Duration>,
    pub(super) retention: bool,
    pub(super) operator: bool,
    pub(super) commits_expire: bool,
    /// The topic is deleted and created again.
    pub(super) recreated: bool,
    /// From then on somebody has no store, for longer than objects live.
    pub(super) outage_at: Option<Duration>,
    /// The events' pace: between two of them at most so many milliseconds.
    pub(super) pace_ms: u64,
    /// How the processes cut objects: one of these each.
    pub(super) limits: Vec<Limits>,
}

impl Weather {
    pub(super) fn of(dice: &Dice, kind: Kind) -> Self {
        let long = matches!(kind, Kind::Long | Kind::EveryObjectExpires);
        let forgetful = kind == Kind::CommitsExpireAlone;
        let partitions = i32::try_from(dice.between(1..=3)).unwrap_or(1);
        let added = i32::from(dice.happens(150));
        Self {
            kind,
            lasts: if long { dice.seconds(1_200..=1_800) } else { dice.seconds(40..=200) },
            partitions: (partitions, partitions + added),
            first_start: if dice.happens(300) { dice.offset(1..=9) } else { 0 },
            reset: if forgetful || dice.happens(400) { Reset::Latest } else { Reset::Earliest },
            most_processes: if long { 1 } else { usize::try_from(dice.between(1..=3)).unwrap_or(1) },
            is_static: dice.happens(200),
            stranger: long || dice.happens(250),
            store_faults: *dice.one_of(&[0, 30, 150, 400]),
            network_faults: *dice.one_of(&[0, 0, 20, 100]),
            bad_records: *dice.one_of(&[0, 150, 150, 800]),
            object_life: long.then(|| Duration::from_secs(720)),
            retention: dice.happens(400),
            operator: dice.happens(300),
            commits_expire: forgetful || dice.happens(150),
            recreated: dice.happens(60),
            outage_at: long.then(|| dice.seconds(20..=300)),
            pace_ms: *dice.one_of(if long { &[30_000, 60_000, 90_000] } else { &[2_000, 8_000, 15_000] }),
            limits: (0..2)
                .map(|_| Limits {
                    records: dice.between(1..=9),
                    bytes: usize::try_from(dice.between(40..=400)).unwrap_or(400),
                    age: dice.millis(500..=20_000),
                })
                .collect(),
        }
    }
}
