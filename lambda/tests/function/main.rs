//! The function as a whole: events through `handle` into real tables, and the real binary under Lambda's
//! Runtime API. One program, because linking costs more than running.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod http;
mod pipeline;
mod runtime;
#[path = "../tables/suite.rs"]
mod suite;
mod tables;
