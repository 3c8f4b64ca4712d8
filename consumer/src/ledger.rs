//! Exactly once: the argument, and where each part of it is kept.
//!
//! Three numbers per partition: the **tail** (the `tooffset` of its last object; it names the next one), the
//! **handled** offset (everything below it is stored, quarantined, skipped on record, or nothing), and the
//! **high watermark**.
//!
//! 1. An object is created, never overwritten, and its name is the tail it continues from, whatever offset
//!    its first record has. Two writers at one tail want one name: one wins, and the other reads the winner's
//!    end and goes on from there. With the end or the first record's offset in the name both would succeed.
//! 2. The chain has one root. Without objects the tail is 0, even where the log starts later. Where reading
//!    starts is another number; what is stepped over stands in the first object's `skipped`.
//! 3. The bucket is the truth: the tail is the end of the object with the greatest name ([`tail`]), read
//!    from its [`metadata`].
//! 4. A batch is sealed at its first attempt ([`crate::batch::Sealed`]): the same bytes and bounds until it is
//!    decided. "Already exists" is a question, never an answer ([`decide`]): our own put may have been
//!    applied before its reply was lost, and a store says 409 also when nobody has won yet.
//! 5. One put in flight per partition ([`crate::partition`]). A put whose tail was known longer than five minutes
//!    ago starts again at reading it: what others have put under its name may have expired, and would refuse
//!    nothing. That counts from the tail, and not from the first attempt, which may itself have waited. No put before the topic's id was confirmed later than the
//!    batch's last fetch ([`crate::identity`]): ids never come back, names do.
//! 6. Bytes are a function of the log and of the batch's bounds; bounds may depend on the clock. Two writers
//!    may cut differently, and still no record is lost or repeated, because only the winner's object exists
//!    and the next one continues from its end.
//!
//! The group's committed offsets will be a hint beside it, never a second truth; what stands beside an offset
//! says which ledger it is about ([`commit`]).

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
