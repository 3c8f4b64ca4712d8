//! Our own way of speaking to Kafka, beside rskafka.
//!
//! ```text
//! Bootstrap --dialer::Dialer (TCP, TLS, SASL)--> connection::Connection (ApiVersions, one request at a time)--> broker
//!                 ^ api::Api: what each request is called, its versions, the shape of its answer
//!                 ^ metadata::topic (ids of topic and cluster, partitions), metadata::leaders
//!                 ^ group: the requests of a consumer group's member
//!                 ^ list_offsets (where logs begin and end)
//!                 ^ produce: batches to several partitions, once each; create_topics
//!                 ^ fetch: bytes of several partitions --record_batch--> batches --> records
//!                                                                     `-- aborted: which of them to drop
//! ```
//!
//! rskafka reads, but it knows no groups and no topic ids, it creates a topic by asking for it, and it sends a batch
//! again whose answer was lost, or told it to slow down (see [`produce`]). What it leaves out is spoken here, one file per request, on the `kafka-protocol` codecs. No
//! version is ever taken from the codecs' own tables alone: each request names the versions that were
//! tried, and the broker's answer to ApiVersions limits them.

pub mod aborted;
pub mod api;
pub mod bootstrap;
mod by_topic;
pub mod connection;
pub mod create_topics;
pub mod dialer;
pub mod error;
pub mod fetch;
pub mod group;
pub mod list_offsets;
pub mod metadata;
pub mod produce;
pub mod record_batch;
pub mod rskafka;
pub mod sasl;
pub mod security;
pub mod settings;
pub mod shape;
pub mod stream;
pub mod tls;
pub mod varint;
