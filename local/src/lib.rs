//! The embedded stack: what the pipeline needs around it, in one process, on loopback.
//!
//! [`stack::Stack`] starts it for tests and for the program `coinduit-local`. Each service is a module that can be
//! started by itself, inside a tokio runtime:
//!
//! | module | plays |
//! | --- | --- |
//! | [`broker`] | a Kafka broker, on a folder |
//! | [`price_api`] | LiveCoinWatch's API, from recorded answers |
//! | [`s3`] | Amazon S3, on a folder |
//! | [`dynamodb`] | Amazon DynamoDB, in memory or on a file |
//! | [`sns`] | Amazon SNS, as a recorder |
//! | [`lambda_host`] | AWS Lambda, with the real `bootstrap` |
//!
//! [`demo`] runs the shipped binaries on that stack and proves what came out of them.

pub mod broker;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod dynamodb;
pub mod event_queue;
pub mod lambda_host;
pub mod price_api;
pub mod s3;
pub mod s3_event;
pub mod sns;
pub mod stack;

mod server;
