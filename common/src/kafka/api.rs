//! What a connection has to know about a request, beyond its codec.

use std::ops::RangeInclusive;

use kafka_protocol::{
    messages::ApiVersionsRequest,
    protocol::{HeaderVersion, Request},
};

use super::shape::{
    Field,
    Kind::{Fixed, Structs},
    field, since,
};

/// A request that is spoken here. Each stands in a file of its own, beside the code that uses it.
pub trait Api: Request<Response: HeaderVersion> + HeaderVersion {
    /// Its name in Kafka's protocol guide.
    const NAME: &'static str;
    /// The versions that were tried. The broker's own highest one within them is used.
    const TRIED: RangeInclusive<i16>;
    /// The fields of its answer, as far as they decide about lengths.
    const ANSWER: &'static [Field];
}

/// The first request on every connection.
///
/// Source: KIP-35, and KIP-511 for version 3.
impl Api for ApiVersionsRequest {
    const NAME: &'static str = "ApiVersions";
    const TRIED: RangeInclusive<i16> = 0..=3;
    const ANSWER: &'static [Field] = &[
        field(Fixed(2)),                    // error
        field(Structs(&[field(Fixed(6))])), // API, lowest and highest version
        since(1, Fixed(4)),                 // throttle time
    ];
}
