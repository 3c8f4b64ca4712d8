//! Sharing the topic's partitions with other consumers: Kafka's classic group protocol.

pub mod assignor;
pub mod subscription;
