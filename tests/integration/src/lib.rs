//! What is claimed about the pipeline, tried with the binaries that ship on a real Apache Kafka.
//!
//! ```text
//! Rig: a topic on the real Kafka + the embedded price API, S3, DynamoDB, SNS and Lambda host
//!        |                            (each test has its own)
//!        +--> Program: producer, consumer, as processes, with nothing else in their environment
//!        +--> Kafka, Bucket, Table: what is on the topic, in the bucket, in the tables
//! ```
//!
//! Services are where the environment says, or else in containers that are started and removed again:
//!
//! ```text
//! KAFKA_BOOTSTRAP_SERVERS              the Kafka of most tests                     else apache/kafka
//! KAFKA_ZOOKEEPER_BOOTSTRAP_SERVERS    the same with KAFKA_MODE=zookeeper          else cp-zookeeper and cp-kafka
//! KAFKA_UP                             a script that starts brokers to stop        else apache/kafka
//! AWS_EMULATOR_URL                     ministack with the serverless transform     else ministackorg/ministack
//! DYNAMODB_LOCAL_URL                   Amazon's DynamoDB                           else amazon/dynamodb-local
//! CFN_LINT                             the linter of templates                     else cfn-lint of the PATH
//! ```
//!
//! A test that finds none and can't start one fails, and says how to give it one: nothing here is skipped. As this
//! crate is nothing but tests, its functions panic where a test would.

pub mod broker;
pub mod bucket;
pub mod careless_store;
pub mod chain;
pub mod cluster;
mod containers;
pub mod emulator;
pub mod group;
pub mod image;
pub mod json;
pub mod kafka;
pub mod logs;
pub mod membership;
pub mod outside;
pub mod program;
pub mod raw;
pub mod rig;
pub mod secure;
pub mod services;
pub mod table;
pub mod tally;
pub mod traffic;
pub mod transaction;
pub mod wait;
