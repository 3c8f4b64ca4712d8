//! The real producer binary, from its settings to its exit: against the embedded broker, price API and SNS, and
//! against an API that answers whatever a test wrote down.
//!
//! One program, because linking costs more than running. What every run owes its reader (one last line, no
//! secret anywhere) is checked where a run ends, in [`world::Outcome`].

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod answers;
mod credits;
mod faults;
mod kafka;
mod modes;
mod paging;
mod records;
mod scripted;
mod settings;
mod signals;
mod world;
