//! What is claimed about the pipeline, tried with the binaries that ship on a real Apache Kafka.
//!
//! ```text
//! Rig: a topic on the real Kafka + the embedded price API, S3, DynamoDB, SNS and Lambda host
//!        |                            (each test has its own)
//!        +--> Program: producer, consumer, as processes, with nothing else in their environment
//!        +--> Kafka, Bucket, Table: what is on the topic, in the bucket, in the tables
//! ```
//!
//! Kafka is found by address ([`kafka::Kafka::find`]); a test that finds none fails and says how to give it
//! one. Whatever else is missing makes a test fail too: nothing here is skipped. As this crate is
//! nothing but tests, its functions panic where a test would.

pub mod bucket;
pub mod careless_store;
pub mod chain;
pub mod cluster;
pub mod emulator;
pub mod group;
pub mod json;
pub mod kafka;
pub mod logs;
pub mod membership;
pub mod outside;
pub mod program;
pub mod raw;
pub mod rig;
pub mod secure;
pub mod table;
pub mod tally;
pub mod traffic;
pub mod transaction;
pub mod wait;
