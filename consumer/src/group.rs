//! Sharing a topic's partitions with other consumers: Kafka's classic group protocol.
//!
//! ```text
//! coordinator (connections) <-> session (one membership at work) <-> service
//!                                 |  member: the state machine, event: its words
//!                                 |  assignor, subscription: who gets what, and how it is written
//!                                 |  lease: may puts start?    board: what shall be committed?
//! ```
//!
//! A group spreads work and nothing more: that no record is lost or stored twice does not rest on it. The
//! [`ledger`](crate::ledger) holds whoever believes to own a partition.

pub mod assignor;
pub mod board;
pub mod coordinator;
pub mod event;
pub mod lease;
pub mod member;
pub mod session;
pub mod subscription;
