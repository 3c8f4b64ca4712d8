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
//! With the feature `stack` off there is only the price API, which the program `coinduit-price-api` serves.
//!
//! [`demo`] runs the shipped binaries on that stack and proves what came out of them.

#[cfg(feature = "stack")]
pub mod broker;
#[cfg(feature = "stack")]
pub mod config;
#[cfg(feature = "stack")]
pub mod credentials;
#[cfg(feature = "stack")]
pub mod demo;
#[cfg(feature = "stack")]
pub mod dynamodb;
#[cfg(feature = "stack")]
pub mod event_queue;
#[cfg(feature = "stack")]
pub mod lambda_host;
pub mod price_api;
#[cfg(feature = "stack")]
pub mod s3;
#[cfg(feature = "stack")]
pub mod s3_event;
#[cfg(feature = "stack")]
pub mod sns;
#[cfg(feature = "stack")]
pub mod stack;

mod server;
