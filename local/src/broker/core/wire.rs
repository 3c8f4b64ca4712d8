//! Frames: the bytes of a connection to requests, responses to bytes.
//!
//! ```text
//! request   length i32 | api i16, version i16, correlation id i32, client id, ... | body
//! response  length i32 | correlation id i32, ...                                  | body
//! ```
//!
//! The table below is the one place that says what this broker speaks.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, FetchRequest, FetchResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetchRequest, OffsetFetchResponse, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::shape;

/// Frames longer than this are refused, as Kafka's `socket.request.max.bytes` does by default.
pub const MAX_FRAME_BYTES: usize = 100 * 1024 * 1024;

/// Bytes of the length in front of a frame.
const LENGTH: usize = 4;

/// The versions of one API that this broker speaks, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supported {
    /// Which request.
    pub api: ApiKey,
    /// Oldest version.
    pub min: i16,
    /// Newest version.
    pub max: i16,
}

/// Makes the table of APIs into [`SUPPORTED`], [`Request`] and [`Response`].
macro_rules! apis {
    ($($(#[$doc:meta])* $api:ident($request:ident -> $response:ident, $min:literal..=$max:literal);)*) => {
        /// What this broker speaks: the answer to ApiVersions.
        pub const SUPPORTED: &[Supported] = &[$(Supported { api: ApiKey::$api, min: $min, max: $max }),*];

        /// A decoded request.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Request {
            $($(#[$doc])* $api($request),)*
        }

        /// An answer, to be encoded in the version of its request.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Response {
            $($(#[$doc])* $api($response),)*
        }

        impl Request {
            /// Which API it is a request of.
            pub fn api(&self) -> ApiKey {
                match self {
                    $(Self::$api(_) => ApiKey::$api,)*
                }
            }

            fn decode(api: ApiKey, version: i16, body: &mut Bytes) -> Result<Self, String> {
                match api {
                    $(ApiKey::$api => $request::decode(body, version).map(Self::$api),)*
                    _ => return Err("not in the table of supported requests".to_owned()),
                }
                .map_err(|error| error.to_string())
            }
        }

        impl Response {
            /// Which API it answers.
            pub fn api(&self) -> ApiKey {
                match self {
                    $(Self::$api(_) => ApiKey::$api,)*
                }
            }

            fn encode(&self, version: i16, into: &mut BytesMut) -> Result<(), String> {
                match self {
                    $(Self::$api(response) => response.encode(into, version),)*
                }
                .map_err(|error| error.to_string())
            }
        }
    };
}

apis! {
    /// Append record batches.
    Produce(ProduceRequest -> ProduceResponse, 3..=9);
    /// Read record batches; by topic name, so not beyond 12.
    Fetch(FetchRequest -> FetchResponse, 4..=12);
    /// Offsets of the start, the end, or a time.
    ListOffsets(ListOffsetsRequest -> ListOffsetsResponse, 1..=6);
    /// Brokers, topics, partitions, ids.
    Metadata(MetadataRequest -> MetadataResponse, 0..=12);
    /// What the broker speaks.
    ApiVersions(ApiVersionsRequest -> ApiVersionsResponse, 0..=3);
    /// Make topics.
    CreateTopics(CreateTopicsRequest -> CreateTopicsResponse, 2..=7);
    /// Delete topics, by name or id.
    DeleteTopics(DeleteTopicsRequest -> DeleteTopicsResponse, 1..=6);
    /// Move the start of a log.
    DeleteRecords(DeleteRecordsRequest -> DeleteRecordsResponse, 0..=2);
    /// Which broker coordinates a group.
    FindCoordinator(FindCoordinatorRequest -> FindCoordinatorResponse, 0..=6);
    /// A place in a group's next generation.
    JoinGroup(JoinGroupRequest -> JoinGroupResponse, 0..=9);
    /// An assignment in that generation.
    SyncGroup(SyncGroupRequest -> SyncGroupResponse, 0..=5);
    /// A sign of life.
    Heartbeat(HeartbeatRequest -> HeartbeatResponse, 0..=4);
    /// Give up a place, or several.
    LeaveGroup(LeaveGroupRequest -> LeaveGroupResponse, 0..=5);
    /// A group's place in partitions; by topic name, so not beyond 9.
    OffsetCommit(OffsetCommitRequest -> OffsetCommitResponse, 2..=9);
    /// What was committed; by topic name, so not beyond 9.
    OffsetFetch(OffsetFetchRequest -> OffsetFetchResponse, 1..=9);
    /// Groups with their members.
    DescribeGroups(DescribeGroupsRequest -> DescribeGroupsResponse, 0..=6);
    /// The names of all groups.
    ListGroups(ListGroupsRequest -> ListGroupsResponse, 0..=5);
}

/// A request with what its answer needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The client's number for it, to be sent back.
    pub correlation_id: i32,
    /// The version to answer in.
    pub version: i16,
    /// Whether the client asked ApiVersions in a version that is not spoken here: it is answered in
    /// version 0, with UNSUPPORTED_VERSION and the table, so that it can ask again. Source: KIP-511.
    pub version_unsupported: bool,
    /// What the client calls itself; empty if it does not.
    pub client_id: String,
    /// What is asked.
    pub request: Request,
}

/// Why a frame is not answered; the connection is closed then, as Kafka does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Larger than [`MAX_FRAME_BYTES`], or negative.
    #[error(
        "frame of {0} bytes, only 0 to {MAX_FRAME_BYTES} are accepted; does the client speak Kafka without TLS?"
    )]
    Length(i32),
    /// No room for an API key and a version.
    #[error("frame of {0} bytes has no request header")]
    Short(usize),
    /// A request this broker does not have.
    #[error("unsupported request: api key {api} ({name}), version {version}")]
    UnknownApi {
        /// The number on the wire.
        api: i16,
        /// Its name, where Kafka has one.
        name: String,
        /// The version.
        version: i16,
    },
    /// A version that ApiVersions does not offer.
    #[error("unsupported version {version} of {api:?}: only {min} to {max} are spoken here")]
    UnsupportedVersion {
        /// Which request.
        api: ApiKey,
        /// The version asked for.
        version: i16,
        /// Oldest spoken.
        min: i16,
        /// Newest spoken.
        max: i16,
    },
    /// The bytes are not such a request.
    #[error("{api:?} request, version {version}, cannot be decoded: {reason}")]
    Malformed {
        /// Which request.
        api: ApiKey,
        /// The version.
        version: i16,
        /// What is wrong.
        reason: String,
    },
    /// An answer that its version cannot express, such as a topic without a name before Metadata v12.
    #[error("answer to {api:?}, version {version}, cannot be encoded: {reason}")]
    Unencodable {
        /// Which request.
        api: ApiKey,
        /// The version.
        version: i16,
        /// What is wrong.
        reason: String,
    },
}

/// The length in front of a frame, checked.
///
/// # Errors
/// [`FrameError::Length`].
pub fn frame_length(length: [u8; LENGTH]) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(length);
    usize::try_from(length).ok().filter(|&length| length <= MAX_FRAME_BYTES).ok_or(FrameError::Length(length))
}

/// Decodes a frame, without its length.
///
/// # Errors
/// [`FrameError`]; arbitrary bytes never panic.
pub fn decode(mut frame: Bytes) -> Result<Call, FrameError> {
    let head = frame.get(..4).ok_or(FrameError::Short(frame.len()))?;
    let (key, mut version) = ((&head[..2]).get_i16(), (&head[2..]).get_i16());
    let known = ApiKey::try_from(key).ok();
    let Some(&Supported { api, min, max }) = SUPPORTED.iter().find(|row| Some(row.api) == known) else {
        let name = known.map_or_else(|| "unknown".to_owned(), |api| format!("{api:?}"));
        return Err(FrameError::UnknownApi { api: key, name, version });
    };
    let supported = (min..=max).contains(&version);
    if !supported && api != ApiKey::ApiVersions {
        return Err(FrameError::UnsupportedVersion { api, version, min, max });
    }
    let malformed = |version, reason| FrameError::Malformed { api, version, reason };
    let header = RequestHeader::decode(&mut frame, api.request_header_version(version))
        .map_err(|error| malformed(version, error.to_string()))?;
    let request = if supported {
        if !shape::is_sound(api, version, &frame) {
            return Err(malformed(version, "its lengths are wrong".to_owned()));
        }
        Request::decode(api, version, &mut frame).map_err(|reason| malformed(version, reason))?
    } else {
        version = 0;
        Request::ApiVersions(ApiVersionsRequest::default())
    };
    let request = all_topics_of_version_0(request, version);
    let correlation_id = header.correlation_id;
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    Ok(Call { correlation_id, version, version_unsupported: !supported, client_id, request })
}

/// Metadata v0 cannot say "null", and means all topics by none.
fn all_topics_of_version_0(request: Request, version: i16) -> Request {
    match request {
        Request::Metadata(metadata)
            if version == 0 && metadata.topics.as_ref().is_some_and(Vec::is_empty) =>
        {
            Request::Metadata(metadata.with_topics(None))
        }
        other => other,
    }
}

/// Encodes the answer to `call`, with its length.
///
/// # Errors
/// [`FrameError::Unencodable`].
pub fn encode(call: &Call, response: &Response) -> Result<Bytes, FrameError> {
    let (api, version) = (response.api(), call.version);
    let unencodable = |reason| FrameError::Unencodable { api, version, reason };
    let mut out = BytesMut::new();
    out.put_i32(0);
    ResponseHeader::default()
        .with_correlation_id(call.correlation_id)
        .encode(&mut out, api.response_header_version(version))
        .map_err(|error| unencodable(error.to_string()))?;
    response.encode(version, &mut out).map_err(unencodable)?;
    let length = i32::try_from(out.len() - LENGTH).map_err(|error| unencodable(error.to_string()))?;
    out[..LENGTH].copy_from_slice(&length.to_be_bytes());
    Ok(out.freeze())
}
