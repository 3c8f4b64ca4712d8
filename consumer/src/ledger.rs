//! Exactly once: the argument, and where each part of it is kept.
//!
//! Three numbers per partition: the **tail** (the `tooffset` of its last object; it names the next one), the
//! **handled** offset (everything below it is stored, quarantined, skipped on record, or nothing), and the
//! **high watermark**.
//!
//! 1. An object is created, never overwritten, and its name is the tail it continues from, whatever offset
//!    its first record has. Two writers at one tail want one name: one wins, and the other reads the winner's
//!    end and goes on from there. With the end or the first record's offset in the name both would succeed.
//! 2. The chain has one root. Without objects the tail is what our own commit says, else 0, even where the log starts
//!    later. Where *reading* starts is another number ([`resume`]); what is stepped over stands in the next object's
//!    `skipped`. Where nobody knows, `AUTO_OFFSET_RESET` is asked once: its answer is committed and acknowledged
//!    before the first fetch, or a crash would ask `latest` again and step over what came meanwhile.
//! 3. The bucket is the truth: the tail is the end of the object with the greatest name ([`tail`]), read
//!    from its [`metadata`]. The group's offset is a hint. A [`commit`] of ours carries which ledger it is about, the
//!    tail, and every skip that no object has recorded; anybody else's is obeyed forward only, and on record.
//! 4. A batch is sealed at its first attempt ([`crate::batch::Sealed`]): the same bytes and bounds until it is
//!    decided. "Already exists" is a question, never an answer ([`decide`]): our own put may have been
//!    applied before its reply was lost, and a store says 409 also when nobody has won yet.
//! 5. One put in flight per partition ([`crate::partition`]). No put starts on a membership that has lapsed by our own
//!    clock ([`crate::group::lease`]). A put whose tail was known longer than five minutes ago starts again at
//!    reading it: what others have put under its name meanwhile may have expired, and would refuse nothing. That
//!    counts from when the tail was known, not from the first attempt, which may itself have waited. No put and no
//!    commit before the topic's id was confirmed later than the batch's last fetch ([`crate::identity`]): ids never
//!    come back, names do.
//! 6. Bytes are a function of the log and of the batch's bounds; bounds may depend on the clock. Two writers
//!    may cut differently, and still no record is lost or repeated, because only the winner's object exists
//!    and the next one continues from its end.
//!
//! Assumptions, which nothing cheap removes: a partition's newest object outlives its longest silence, every stop of the
//! group and the retention of commits; no process stays frozen with a put on the wire for longer than objects
//! live; the store's conditional creates are atomic and its listing is consistent.
//!
//! Each rule has the mistake that breaks it in `misreading.rs`, asked beside the code that keeps it; the simulation
//! makes each of them, and notices.

pub mod bucket;
pub mod chain;
pub mod commit;
pub mod decide;
pub mod manifest;
pub mod metadata;
pub(crate) mod misreading;
mod number;
pub mod resume;
pub mod s3;
mod skip;
pub mod tail;
