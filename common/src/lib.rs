//! Words and tools that at least two of Coinduit's binaries need.
//!
//! What is here: the vocabulary of the pipeline ([`object_key`], [`mod@line`], [`event_id`]), what every
//! binary does the same way ([`config`], [`telemetry`], [`shutdown`], [`retry`], [`exit`]) and the
//! connections that more than one of them opens ([`kafka`], [`aws`], [`alert`]).
//!
//! What may not be here: anything that only one binary needs, and any decision about *when* to fetch,
//! publish, store or write a row. Those live with the binary that takes them.

pub mod alert;
pub mod aws;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod event_id;
pub mod exit;
pub mod kafka;
pub mod line;
pub mod object_key;
pub mod report;
pub mod retry;
pub mod shutdown;
pub mod telemetry;

/// musl's own allocator costs four to five times the CPU of any other one on this work (parsing and
/// copying small values); this one is pure Rust and gives memory back.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;
