//! ApiVersions: what the broker speaks.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};

use super::super::wire::SUPPORTED;

/// The table of [`SUPPORTED`], with an error if there is one: a client that asked in too new a version
/// needs both (KIP-511).
pub(crate) fn table(error: Option<ResponseError>) -> ApiVersionsResponse {
    let rows = SUPPORTED.iter().map(|row| {
        ApiVersion::default().with_api_key(row.api as i16).with_min_version(row.min).with_max_version(row.max)
    });
    ApiVersionsResponse::default()
        .with_error_code(error.map_or(0, |error| error.code()))
        .with_api_keys(rows.collect())
}
