//! The simulation that tries to break exactly once: whole consumers in a world that fails, in virtual time, by a seed.
//!
//! ```text
//!            Service (the real one) ... several processes, some of them zombies
//!           /        |            \
//!   Cluster, Log,  Client        Gate (stands still)
//!   TopicId          |
//!       |            |
//!     Broker       Shelf          Dice, Weather: what happens, and when      Drama: lets it happen
//!  (its real core)  (an S3)
//!       \____________/
//!             |
//!           Judge: every record, every object, every commit
//! ```
//!
//! One seed is one history, on one thread with paused time: the same seed gives the same history, line by line. First
//! bad things happen ([`drama`]) with the seed's own weather ([`weather`]); then all faults end, somebody runs until
//! everything is handled, and whoever stood still goes on with what he believed. What is promised, and what is held
//! against a history, stands in [`judge`].
//!
//! It is worth what it notices. So each [`Misreading`] of the ledger's rules is made in its turn, and must be seen to
//! lose or repeat records; and so must histories beyond what the contract assumes ([`weather::Kind`]).
//!
//! The world keeps to the assumptions of the contract: creates are atomic and conditional, listings are consistent, a
//! partition's newest object stays, and objects live longer than five minutes and the longest standstills together.
//! What it has not: unclean elections, transactions, restored clusters, the record layout, and the sockets, decoders and
//! time limits of the real readers and connections, which have tests of their own.

use std::sync::Arc;

use tokio::runtime::Builder;

use crate::ledger::misreading::Misreading;

mod broker;
mod chronicle;
mod cluster;
mod dice;
mod drama;
mod gate;
mod judge;
mod process;
mod store;
mod tests;
mod weather;
mod world;

use self::{
    dice::Dice,
    drama::Drama,
    weather::{Kind, Weather},
    world::World,
};

/// How one history went.
#[derive(Debug)]
struct History {
    seed: u64,
    /// What was wrong.
    verdicts: Vec<String>,
    /// What happened.
    log: String,
}

/// Plays the history of `seed`, perhaps with one mistake in the code.
fn play(seed: u64, kind: Kind, mistake: Option<Misreading>) -> History {
    Misreading::make(mistake);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = runtime.block_on(async {
        let dice = Dice::new(seed);
        let weather = Weather::of(&dice, kind);
        let world = Arc::new(World::new(dice, weather));
        world.tell("world", format_args!("seed {seed}: {:?}", world.weather));
        Drama::new(Arc::clone(&world)).play().await;
        world
    });
    drop(runtime);
    Misreading::make(None);
    History { seed, verdicts: world.judge.verdicts(), log: world.chronicle.text() }
}
