//! The core, call by call, through the codecs as a connection does it.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest,
    FetchResponse, ListOffsetsRequest, MetadataRequest, ProduceRequest, RequestHeader, ResponseHeader,
    TopicName, create_topics_request, delete_records_request, delete_topics_request, fetch_request,
    list_offsets_request, metadata_request, produce_request,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request as WireRequest, StrBytes};
use kafka_protocol::records::Compression;
use proptest::prelude::*;

use super::batch::Marker;
use super::batch::tests::{encoded, marker, transactional};
use super::wire::{FrameError, SUPPORTED};
use super::*;

mod group_requests;
mod groups;

const CORRELATION: i32 = 77;

fn core() -> Core {
    Core::new(Settings::default(), Topics::new(Uuid::from_u128(1)))
}

fn core_with(topics: &[(&str, i32)]) -> Core {
    let mut core = core();
    for (name, partitions) in topics {
        core.create_topic(name, *partitions).unwrap();
    }
    core.take_changes();
    core
}

fn moment(now_ms: u64) -> Moment {
    Moment { endpoint: Endpoint { host: "127.0.0.1".to_owned(), port: 9092 }, received_ms: 0, now_ms }
}

/// The frame a client sends, without its length.
fn frame<R: WireRequest>(request: &R, version: i16) -> Bytes {
    let mut frame = header::<R>(version);
    request.encode(&mut frame, version).unwrap();
    frame.freeze()
}

/// The frame without its body.
fn header<R: WireRequest>(version: i16) -> BytesMut {
    let mut frame = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(CORRELATION)
        .with_client_id(Some(StrBytes::from_static_str("test")))
        .encode(&mut frame, R::header_version(version))
        .unwrap();
    frame
}

/// What a client reads out of an answer.
fn response<R: WireRequest>(call: &Call, answer: &Response, version: i16) -> R::Response {
    let mut bytes = wire::encode(call, answer).unwrap();
    let length = bytes.split_to(4);
    assert_eq!(wire::frame_length(length[..].try_into().unwrap()), Ok(bytes.len()));
    let header = ResponseHeader::decode(&mut bytes, R::Response::header_version(version)).unwrap();
    assert_eq!(header.correlation_id, CORRELATION);
    let response = R::Response::decode(&mut bytes, version).unwrap();
    assert!(bytes.is_empty(), "undecoded bytes");
    response
}

fn step<R: WireRequest>(core: &mut Core, request: &R, version: i16, now_ms: u64) -> (Call, Step) {
    let call = wire::decode(frame(request, version)).unwrap();
    let step = core.handle(&call, &moment(now_ms));
    (call, step)
}

/// Sends `request` and reads the answer, which must come at once.
fn ask<R: WireRequest>(core: &mut Core, request: &R, version: i16) -> R::Response {
    match step(core, request, version, 0) {
        (call, Step::Answer(answer)) => response::<R>(&call, &answer, version),
        (_, other) => panic!("{other:?}"),
    }
}

fn name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn produce_request(topic: &str, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let partition =
        produce_request::PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = produce_request::TopicProduceData::default()
        .with_name(name(topic))
        .with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_topic_data(vec![topic])
}

/// Produces `records` records in one batch; error code and base offset.
fn produce(core: &mut Core, topic: &str, partition: i32, records: usize) -> (i16, i64) {
    let batch = encoded(&vec![1_000; records], Compression::None);
    let response = ask(core, &produce_request(topic, partition, -1, batch), 9);
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

fn fetch_request(topic: &str, from: &[(i32, i64)]) -> FetchRequest {
    let partitions = from.iter().map(|&(partition, offset)| {
        fetch_request::FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(i32::MAX)
    });
    let topic =
        fetch_request::FetchTopic::default().with_topic(name(topic)).with_partitions(partitions.collect());
    FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(i32::MAX)
        .with_topics(vec![topic])
}

/// Base offsets of the batches that each partition of an answer has.
fn bases(response: &FetchResponse) -> Vec<Vec<i64>> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|partition| {
            let mut records = partition.records.clone().unwrap_or_default();
            let mut bases = Vec::new();
            while !records.is_empty() {
                bases.push(Batch::split_first(&mut records).unwrap().base_offset());
            }
            bases
        })
        .collect()
}

fn list_offsets_request(topic: &str, timestamp: i64) -> ListOffsetsRequest {
    let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = list_offsets_request::ListOffsetsTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_topics(vec![topic])
}

/// Error code, offset and timestamp of partition 0.
fn list_offset(core: &mut Core, timestamp: i64, committed: bool) -> (i16, i64, i64) {
    let request = list_offsets_request("t", timestamp).with_isolation_level(i8::from(committed));
    let response = ask(core, &request, 6);
    let partition = &response.topics[0].partitions[0];
    (partition.error_code, partition.offset, partition.timestamp)
}

fn metadata_request(topics: Option<&[&str]>) -> MetadataRequest {
    let topic = |topic: &&str| metadata_request::MetadataRequestTopic::default().with_name(Some(name(topic)));
    MetadataRequest::default().with_topics(topics.map(|topics| topics.iter().map(topic).collect()))
}

fn create_request(topic: &str, partitions: i32) -> CreateTopicsRequest {
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    CreateTopicsRequest::default().with_topics(vec![topic])
}

fn delete_request(topic: &str) -> DeleteTopicsRequest {
    DeleteTopicsRequest::default().with_topic_names(vec![name(topic)])
}

fn delete_records_request(topic: &str, offset: i64) -> DeleteRecordsRequest {
    let partition = delete_records_request::DeleteRecordsPartition::default().with_offset(offset);
    let topic = delete_records_request::DeleteRecordsTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    DeleteRecordsRequest::default().with_topics(vec![topic])
}

/// Calls `$check` with a request of every API in every version that is spoken.
macro_rules! for_every_version {
    ($check:ident) => {
        for supported in SUPPORTED {
            for version in supported.min..=supported.max {
                let batch = encoded(&[1], Compression::None);
                match supported.api {
                    ApiKey::Produce => $check(&produce_request("t", 0, -1, batch), version),
                    ApiKey::Fetch => $check(&fetch_request("t", &[(0, 0), (1, 0)]), version),
                    ApiKey::ListOffsets => $check(&list_offsets_request("t", -1), version),
                    ApiKey::Metadata => $check(&metadata_request(Some(&["t", "other"])), version),
                    ApiKey::ApiVersions => $check(&ApiVersionsRequest::default(), version),
                    ApiKey::CreateTopics => $check(&create_request("new", 2), version),
                    ApiKey::DeleteTopics if version >= 6 => {
                        let topic =
                            delete_topics_request::DeleteTopicState::default().with_name(Some(name("t")));
                        $check(&DeleteTopicsRequest::default().with_topics(vec![topic]), version);
                    }
                    ApiKey::DeleteTopics => $check(&delete_request("t"), version),
                    ApiKey::DeleteRecords => $check(&delete_records_request("t", 0), version),
                    ApiKey::FindCoordinator => $check(&group_requests::find(version), version),
                    ApiKey::JoinGroup => $check(&group_requests::join(version), version),
                    ApiKey::SyncGroup => $check(&group_requests::sync(version), version),
                    ApiKey::Heartbeat => $check(&group_requests::heartbeat(version), version),
                    ApiKey::LeaveGroup => $check(&group_requests::leave(version), version),
                    ApiKey::OffsetCommit => $check(&group_requests::commit(version), version),
                    ApiKey::OffsetFetch => $check(&group_requests::fetch(version), version),
                    ApiKey::DescribeGroups => $check(&group_requests::describe(), version),
                    ApiKey::ListGroups => $check(&group_requests::list(version), version),
                    other => panic!("{other:?} is spoken and not tested"),
                }
            }
        }
    };
}

#[test]
fn every_version_of_every_request_is_answered() {
    fn check<R: WireRequest>(request: &R, version: i16) {
        let mut core = core_with(&[("t", 2)]);
        produce(&mut core, "t", 0, 1);
        ask(&mut core, request, version);
    }
    for_every_version!(check);
}

#[test]
fn every_version_of_every_request_can_be_refused() {
    fn check<R: WireRequest>(request: &R, version: i16) {
        let mut core = core_with(&[("t", 2)]);
        let call = wire::decode(frame(request, version)).unwrap();
        let refused = core.refuse(&call, ResponseError::NotController, &moment(0).endpoint);
        let Step::Answer(answer) = refused else { panic!("{refused:?}") };
        response::<R>(&call, &answer, version);
        assert_ne!(Step::Answer(answer), core.handle(&call, &moment(1_000)), "{call:?}");
        core.take_changes();
    }
    for_every_version!(check);
}

#[test]
fn refusing_changes_nothing_and_names_the_error() {
    let core = core_with(&[("t", 1)]);
    let call =
        wire::decode(frame(&produce_request("t", 0, -1, encoded(&[1], Compression::None)), 9)).unwrap();
    let refused = core.refuse(&call, ResponseError::NotLeaderOrFollower, &moment(0).endpoint);
    let Step::Answer(answer) = refused else { panic!("{refused:?}") };
    let response = response::<ProduceRequest>(&call, &answer, 9);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 6);
    assert_eq!(core.topics().partition("t", 0).unwrap().next(), 0);
}

#[test]
fn frames_cut_short_or_with_more_behind_are_malformed() {
    fn check<R: WireRequest>(request: &R, version: i16) {
        let whole = frame(request, version);
        for end in header::<R>(version).len()..whole.len() {
            let cut = wire::decode(whole.slice(..end));
            assert!(matches!(cut, Err(FrameError::Malformed { .. })), "v{version}, {end}: {cut:?}");
        }
        let mut more = BytesMut::from(&whole[..]);
        more.put_u8(0);
        assert!(matches!(wire::decode(more.freeze()), Err(FrameError::Malformed { .. })));
    }
    for_every_version!(check);
}

#[test]
fn array_that_is_not_there_is_refused_before_memory_is_reserved() {
    let mut legacy = header::<MetadataRequest>(1);
    legacy.put_i32(i32::MAX);
    let mut compact = header::<MetadataRequest>(9);
    compact.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    // As many as bytes, but more than any cluster has.
    let mut many = header::<DeleteTopicsRequest>(1);
    many.put_i32(300_000);
    many.put_bytes(0, 2 * 300_000 + 4);
    for hostile in [legacy, compact, many] {
        let decoded = wire::decode(hostile.freeze());
        assert!(matches!(decoded, Err(FrameError::Malformed { .. })), "{decoded:?}");
    }
}

#[test]
fn requests_that_are_not_spoken_are_named() {
    let unknown = |api: i16, version: i16| {
        let mut frame = BytesMut::new();
        frame.put_i16(api);
        frame.put_i16(version);
        frame.put_slice(&[0; 20]);
        wire::decode(frame.freeze()).unwrap_err().to_string()
    };
    assert_eq!(unknown(22, 0), "unsupported request: api key 22 (InitProducerId), version 0");
    assert_eq!(unknown(999, 1), "unsupported request: api key 999 (unknown), version 1");
    assert_eq!(unknown(1, 13), "unsupported version 13 of Fetch: only 4 to 12 are spoken here");
}

#[test]
fn frame_lengths_are_bounded() {
    assert_eq!(wire::frame_length([0, 0, 1, 0]), Ok(256));
    assert_eq!(wire::frame_length([0xff; 4]), Err(FrameError::Length(-1)));
    // "GET ", as a browser begins.
    assert_eq!(wire::frame_length(*b"GET "), Err(FrameError::Length(0x4745_5420)));
}

#[test]
fn client_that_is_too_new_is_told_what_is_spoken() {
    let mut core = core();
    let mut frame = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(ApiKey::ApiVersions as i16)
        .with_request_api_version(99)
        .with_correlation_id(CORRELATION)
        .encode(&mut frame, 2)
        .unwrap();
    frame.put_slice(b"a body of the future");
    let call = wire::decode(frame.freeze()).unwrap();
    let Step::Answer(answer) = core.handle(&call, &moment(0)) else { panic!("not answered") };
    let response = response::<ApiVersionsRequest>(&call, &answer, 0);
    assert_eq!(response.error_code, 35);
    assert_eq!(response.api_keys.len(), SUPPORTED.len());
    let fetch = response.api_keys.iter().find(|row| row.api_key == 1).unwrap();
    assert_eq!((fetch.min_version, fetch.max_version), (4, 12));
}

#[test]
fn metadata_tells_broker_topics_and_ids() {
    let mut core = core_with(&[("a", 1), ("b", 3)]);
    for version in [0, 12] {
        let topics = if version == 0 { Some(&[][..]) } else { None };
        let response = ask(&mut core, &metadata_request(topics), version);
        let topics: Vec<_> = response.topics.iter().map(|topic| topic.partitions.len()).collect();
        assert_eq!(topics, [1, 3]);
        let broker = &response.brokers[0];
        assert_eq!((broker.host.as_str(), broker.port), ("127.0.0.1", 9092));
        assert_eq!(response.topics[1].partitions[2].leader_id, broker.node_id);
    }
    let response = ask(&mut core, &metadata_request(Some(&["b"])), 12);
    assert_eq!(response.controller_id, response.brokers[0].node_id);
    assert_eq!(response.cluster_id.unwrap().as_str(), "AAAAAAAAAAAAAAAAAAAAAQ");
    let id = response.topics[0].topic_id;
    assert_eq!(Some(id), core.topics().get("b").map(Topic::id));
    let none = ask(&mut core, &metadata_request(Some(&[])), 1);
    assert!(none.topics.is_empty());
}

#[test]
fn topic_is_found_by_id_until_it_is_deleted() {
    let mut core = core_with(&[("t", 1)]);
    let id = core.topics().get("t").unwrap().id();
    let by_id = metadata_request::MetadataRequestTopic::default().with_topic_id(id).with_name(None);
    let by_id = MetadataRequest::default().with_topics(Some(vec![by_id]));
    let found = ask(&mut core, &by_id, 12);
    assert_eq!(found.topics[0].name.as_ref().unwrap().as_str(), "t");
    ask(&mut core, &delete_request("t"), 5);
    ask(&mut core, &create_request("t", 1), 7);
    assert_eq!(ask(&mut core, &by_id, 12).topics[0].error_code, 100);
}

#[test]
fn asking_for_a_topic_creates_it_only_if_both_sides_want_that() {
    let ask_for = |auto: bool, allowed: bool| {
        let settings = Settings { auto_create_topics: auto, default_partitions: 2, ..Settings::default() };
        let mut core = Core::new(settings, Topics::new(Uuid::from_u128(1)));
        let request = metadata_request(Some(&["new"])).with_allow_auto_topic_creation(allowed);
        let response = ask(&mut core, &request, 4);
        (response.topics[0].error_code, response.topics[0].partitions.len(), core.take_changes().len())
    };
    assert_eq!(ask_for(true, true), (0, 2, 1));
    assert_eq!(ask_for(false, true), (3, 0, 0));
    assert_eq!(ask_for(true, false), (3, 0, 0));
}

#[test]
fn metadata_of_a_bad_name_creates_nothing() {
    let settings = Settings { auto_create_topics: true, ..Settings::default() };
    let mut core = Core::new(settings, Topics::new(Uuid::from_u128(1)));
    assert_eq!(ask(&mut core, &metadata_request(Some(&["no way"])), 9).topics[0].error_code, 17);
    assert_eq!(core.topics().iter().count(), 0);
}

#[test]
fn topics_are_created_checked_and_refused() {
    let mut core = core();
    let created = ask(&mut core, &create_request("t", 2), 7);
    assert_eq!((created.topics[0].error_code, created.topics[0].num_partitions), (0, 2));
    assert_eq!(core.topics().get("t").map(Topic::id), Some(created.topics[0].topic_id));
    assert_eq!(core.take_changes(), [Change::Catalog]);

    let mut refused = |change: &dyn Fn(&mut create_topics_request::CreatableTopic)| {
        let mut request = create_request("new", 1);
        change(&mut request.topics[0]);
        ask(&mut core, &request, 7).topics[0].error_code
    };
    assert_eq!(refused(&|topic| topic.name = name("t")), 36);
    assert_eq!(refused(&|topic| topic.name = name("a/b")), 17);
    assert_eq!(refused(&|topic| topic.num_partitions = 0), 37);
    assert_eq!(refused(&|topic| topic.replication_factor = 3), 38);
    assert_eq!(refused(&|topic| topic.replication_factor = 0), 38);
    assert_eq!(refused(&|topic| topic.assignments = vec![Default::default()]), 39);
    assert_eq!(refused(&|topic| topic.configs = vec![Default::default()]), 40);

    let only_checked = create_request("new", 1).with_validate_only(true);
    assert_eq!(ask(&mut core, &only_checked, 7).topics[0].error_code, 0);
    assert_eq!(ask(&mut core, &create_request("t", 1).with_validate_only(true), 7).topics[0].error_code, 36);
    assert_eq!((core.topics().iter().count(), core.take_changes()), (1, vec![]));
    assert_eq!(ask(&mut core, &create_request("new", -1), 5).topics[0].num_partitions, 1);
}

#[test]
fn deleting_a_topic_by_name_or_id_drops_its_logs() {
    let mut core = core_with(&[("a", 2), ("b", 1)]);
    let (a, b) = (core.topics().get("a").unwrap().id(), core.topics().get("b").unwrap().id());
    assert_eq!(ask(&mut core, &delete_request("a"), 1).responses[0].error_code, 0);
    assert_eq!(core.take_changes(), [Change::Catalog, Change::Dropped { topic: a, partitions: 2 }]);
    assert_eq!(ask(&mut core, &delete_request("a"), 1).responses[0].error_code, 3);

    let by_id = delete_topics_request::DeleteTopicState::default().with_topic_id(b);
    let by_id = DeleteTopicsRequest::default().with_topics(vec![by_id]);
    let deleted = ask(&mut core, &by_id, 6);
    assert_eq!(deleted.responses[0].name.as_ref().unwrap().as_str(), "b");
    assert_eq!(ask(&mut core, &by_id, 6).responses[0].error_code, 100);
}

#[test]
fn produce_assigns_offsets_and_says_what_to_persist() {
    let mut core = core_with(&[("t", 2)]);
    assert_eq!(produce(&mut core, "t", 1, 3), (0, 0));
    assert_eq!(produce(&mut core, "t", 1, 2), (0, 3));
    assert_eq!(produce(&mut core, "t", 0, 1), (0, 0));
    let appended: Vec<_> = core
        .take_changes()
        .into_iter()
        .map(|change| match change {
            Change::Appended { partition, mut batch, .. } => {
                (partition, Batch::split_first(&mut batch).unwrap().base_offset())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(appended, [(1, 0), (1, 3), (0, 0)]);
}

#[test]
fn produce_says_what_is_wrong() {
    let mut core = core_with(&[("t", 1)]);
    let good = encoded(&[1], Compression::None);
    let mut corrupt = BytesMut::from(&good[..]);
    corrupt[65] ^= 1;
    let mut error = |topic, partition, acks, records| {
        let response = ask(&mut core, &produce_request(topic, partition, acks, records), 8);
        response.responses[0].partition_responses[0].error_code
    };
    assert_eq!(error("t", 1, -1, good.clone()), 3);
    assert_eq!(error("other", 0, -1, good.clone()), 3);
    assert_eq!(error("t", 0, 2, good.clone()), 21);
    assert_eq!(error("t", 0, -1, corrupt.freeze()), 2);
    assert_eq!(error("t", 0, -1, Bytes::new()), 2);
    assert_eq!(error("t", 0, -1, Bytes::from([&good[..], &good[..]].concat())), 87);
    assert_eq!(core.take_changes(), []);
}

#[test]
fn produce_without_acks_is_silent_or_closes_the_connection() {
    let mut core = core_with(&[("t", 1)]);
    let good = produce_request("t", 0, 0, encoded(&[1], Compression::None));
    assert_eq!(step(&mut core, &good, 9, 0).1, Step::Silence);
    assert_eq!(core.topics().partition("t", 0).unwrap().next(), 1);
    let bad = produce_request("t", 7, 0, encoded(&[1], Compression::None));
    assert!(matches!(step(&mut core, &bad, 9, 0).1, Step::Close { .. }));
}

#[test]
fn batch_limit_is_that_of_the_settings() {
    let batch = encoded(&[1], Compression::None);
    let settings = Settings { max_batch_bytes: batch.len() - 1, ..Settings::default() };
    let mut core = Core::new(settings, Topics::new(Uuid::from_u128(1)));
    core.create_topic("t", 1).unwrap();
    assert_eq!(produce(&mut core, "t", 0, 1), (10, -1));
}

#[test]
fn fetch_begins_with_the_batch_that_contains_the_offset() {
    let mut core = core_with(&[("t", 1)]);
    produce(&mut core, "t", 0, 3);
    produce(&mut core, "t", 0, 3);
    for version in 4..=12 {
        let response = ask(&mut core, &fetch_request("t", &[(0, 4)]), version);
        assert_eq!(bases(&response), [[3]]);
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.high_watermark, partition.last_stable_offset), (6, 6));
    }
}

#[test]
fn fetch_returns_one_batch_at_least_and_no_more_than_asked() {
    let mut core = core_with(&[("t", 2)]);
    for partition in [0, 0, 0, 1] {
        produce(&mut core, "t", partition, 1);
    }
    let size = encoded(&[1_000], Compression::None).len();
    let limit = |batches: usize| i32::try_from(batches * size).unwrap();
    let mut fetched = |request: &FetchRequest| bases(&ask(&mut core, request, 12));
    let both = fetch_request("t", &[(0, 0), (1, 0)]);
    assert_eq!(fetched(&both), [vec![0, 1, 2], vec![0]]);
    assert_eq!(fetched(&both.clone().with_max_bytes(1)), [vec![0], vec![]]);
    assert_eq!(fetched(&both.clone().with_max_bytes(limit(2))), [vec![0, 1], vec![]]);
    assert_eq!(fetched(&both.clone().with_max_bytes(limit(4) - 1)), [vec![0, 1, 2], vec![]]);
    let mut small_partition = both;
    small_partition.topics[0].partitions[0].partition_max_bytes = limit(1);
    assert_eq!(fetched(&small_partition), [[0], [0]]);
}

#[test]
fn fetch_waits_for_bytes_until_its_time_is_over() {
    let mut core = core_with(&[("t", 1)]);
    let request = fetch_request("t", &[(0, 0)]);
    assert_eq!(step(&mut core, &request, 12, 499).1, Step::Wait { until_ms: 500 });
    let (call, late) = step(&mut core, &request, 12, 500);
    let Step::Answer(answer) = late else { panic!("{late:?}") };
    assert_eq!(bases(&response::<FetchRequest>(&call, &answer, 12)), [[0; 0]]);

    produce(&mut core, "t", 0, 1);
    assert_eq!(bases(&ask(&mut core, &request, 12)), [[0]]);
    let more = request.with_min_bytes(10_000);
    assert_eq!(step(&mut core, &more, 12, 10).1, Step::Wait { until_ms: 500 });
    assert_eq!(core.take_changes().len(), 1, "a waiting fetch changes nothing");
}

#[test]
fn fetch_reports_errors_at_once() {
    let mut core = core_with(&[("t", 1)]);
    produce(&mut core, "t", 0, 2);
    ask(&mut core, &delete_records_request("t", 1), 2);
    let mut error = |request: &FetchRequest| {
        let response = ask(&mut core, request, 12);
        let partition = &response.responses[0].partitions[0];
        (partition.error_code, partition.high_watermark)
    };
    assert_eq!(error(&fetch_request("t", &[(0, 0)])), (1, -1));
    assert_eq!(error(&fetch_request("t", &[(0, 3)])), (1, -1));
    assert_eq!(error(&fetch_request("t", &[(0, -1)])), (1, -1));
    assert_eq!(error(&fetch_request("t", &[(1, 0), (0, 2)])), (3, -1));
    assert_eq!(error(&fetch_request("other", &[(0, 0)])), (3, -1));
    let mut later_epoch = fetch_request("t", &[(0, 1)]);
    later_epoch.topics[0].partitions[0].current_leader_epoch = 1;
    assert_eq!(error(&later_epoch), (75, -1));
}

#[test]
fn fetch_sessions_are_declined() {
    let mut core = core_with(&[("t", 1)]);
    produce(&mut core, "t", 0, 1);
    let wants_one = ask(&mut core, &fetch_request("t", &[(0, 0)]).with_session_epoch(0), 12);
    assert_eq!((wants_one.session_id, bases(&wants_one)), (0, vec![vec![0]]));
    let has_one = fetch_request("t", &[]).with_session_id(5).with_session_epoch(1);
    assert_eq!(ask(&mut core, &has_one, 12).error_code, 70);
    let odd = fetch_request("t", &[]).with_session_epoch(3);
    assert_eq!(ask(&mut core, &odd, 12).error_code, 71);
}

#[test]
fn readers_of_committed_records_are_told_what_was_aborted() {
    let mut core = core_with(&[("t", 1)]);
    let at = |bytes: Bytes, offset| Batch::split_first(&mut bytes.clone()).unwrap().at(offset).unwrap();
    let raw = |core: &mut Core, batch: Batch| core.append_raw("t", 0, batch.bytes().clone()).unwrap();
    produce(&mut core, "t", 0, 1);
    assert_eq!(raw(&mut core, at(transactional(7, 2), 1)), 3);

    let committed = fetch_request("t", &[(0, 0)]).with_isolation_level(1);
    let response = ask(&mut core, &committed, 12);
    assert_eq!(bases(&response), [[0]]);
    assert_eq!(response.responses[0].partitions[0].last_stable_offset, 1);
    assert_eq!(list_offset(&mut core, -1, true), (0, 1, -1));
    assert_eq!(list_offset(&mut core, -1, false), (0, 3, -1));

    assert_eq!(raw(&mut core, at(marker(7, Marker::Abort), 3)), 4);
    let response = ask(&mut core, &committed, 12);
    assert_eq!(bases(&response), [[0, 1, 3]]);
    let aborted = response.responses[0].partitions[0].aborted_transactions.as_ref().unwrap();
    assert_eq!((aborted[0].producer_id.0, aborted[0].first_offset, aborted.len()), (7, 1, 1));

    let uncommitted = ask(&mut core, &fetch_request("t", &[(0, 0)]), 12);
    assert_eq!(bases(&uncommitted), [[0, 1, 3]]);
    assert_eq!(uncommitted.responses[0].partitions[0].aborted_transactions, None);
}

#[test]
fn raw_batches_are_kept_as_they_are() {
    let mut core = core_with(&[("t", 1)]);
    let at = |offset| {
        let mut bytes = encoded(&[1, 2], Compression::None);
        Batch::split_first(&mut bytes).unwrap().at(offset).unwrap().bytes().clone()
    };
    let two = Bytes::from([&at(5)[..], &at(50)[..]].concat());
    assert_eq!(core.append_raw("t", 0, two.clone()), Ok(52));
    let fetched = ask(&mut core, &fetch_request("t", &[(0, 0)]), 12);
    assert_eq!(fetched.responses[0].partitions[0].records, Some(two));
    assert_eq!(core.take_changes().len(), 2);

    let back = core.append_raw("t", 0, at(50)).unwrap_err();
    assert_eq!(back.to_string(), "append to t/0");
    let nowhere = core.append_raw("t", 3, at(90)).unwrap_err();
    assert_eq!(nowhere.to_string(), "there is no partition 3 of topic t: create the topic first");
}

#[test]
fn offsets_are_listed_by_place_and_time() {
    let mut core = core_with(&[("t", 1)]);
    assert_eq!(list_offset(&mut core, -2, false), (0, 0, -1));
    assert_eq!(list_offset(&mut core, -1, false), (0, 0, -1));
    for (timestamps, codec) in [(&[100, 200][..], Compression::Gzip), (&[150, 300][..], Compression::None)] {
        ask(&mut core, &produce_request("t", 0, -1, encoded(timestamps, codec)), 9);
    }
    assert_eq!(list_offset(&mut core, 0, false), (0, 0, 100));
    assert_eq!(list_offset(&mut core, 101, false), (0, 1, 200));
    assert_eq!(list_offset(&mut core, 201, false), (0, 3, 300));
    assert_eq!(list_offset(&mut core, 301, false), (0, -1, -1));
    assert_eq!(list_offset(&mut core, -3, false), (35, -1, -1));
    ask(&mut core, &delete_records_request("t", 2), 0);
    assert_eq!(list_offset(&mut core, -2, false), (0, 2, -1));
    assert_eq!(list_offset(&mut core, 0, false), (0, 2, 150));
}

#[test]
fn unreadable_codec_is_an_error_when_a_time_is_asked_for() {
    let mut core = core_with(&[("t", 1)]);
    let mut lz4 = encoded(&[100], Compression::None).to_vec();
    lz4[22] |= 3;
    let lz4 = batch::tests::rechecked(&lz4);
    ask(&mut core, &produce_request("t", 0, -1, lz4), 9);
    assert_eq!(list_offset(&mut core, 50, false), (76, -1, -1));
    assert_eq!(list_offset(&mut core, 101, false), (0, -1, -1));
}

#[test]
fn records_are_deleted_up_to_an_offset_or_all() {
    let mut core = core_with(&[("t", 1)]);
    produce(&mut core, "t", 0, 5);
    core.take_changes();
    let mut delete = |offset| {
        let response = ask(&mut core, &delete_records_request("t", offset), 2);
        let partition = &response.topics[0].partitions[0];
        (partition.error_code, partition.low_watermark, core.take_changes().len())
    };
    assert_eq!(delete(2), (0, 2, 1));
    assert_eq!(delete(1), (0, 2, 0));
    assert_eq!(delete(6), (1, -1, 0));
    assert_eq!(delete(-2), (1, -1, 0));
    assert_eq!(delete(-1), (0, 5, 1));
    assert_eq!(ask(&mut core, &delete_records_request("other", 0), 2).topics[0].partitions[0].error_code, 3);
}

proptest! {
    #[test]
    fn arbitrary_frames_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(call) = wire::decode(Bytes::from(bytes)) {
            core_with(&[("t", 1)]).handle(&call, &moment(0));
        }
    }

    /// Behind a header that is right, too.
    #[test]
    fn arbitrary_bodies_never_panic(
        supported in proptest::sample::select(SUPPORTED),
        version in 0_i16..13,
        body in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xff), any::<u8>()], 0..60),
    ) {
        let version = version.clamp(supported.min, supported.max);
        let mut frame = BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(supported.api as i16)
            .with_request_api_version(version)
            .encode(&mut frame, supported.api.request_header_version(version))
            .unwrap();
        frame.put_slice(&body);
        if let Ok(call) = wire::decode(frame.freeze()) {
            let mut core = core_with(&[("t", 1)]);
            if let Step::Answer(answer) = core.handle(&call, &moment(i64::MAX.cast_unsigned())) {
                wire::encode(&call, &answer).unwrap();
            }
        }
    }

    /// What producers were told is where readers find it, whatever the order of the requests.
    #[test]
    fn acknowledged_offsets_are_dense_and_can_be_read(
        writes in proptest::collection::vec((0_i32..3, 1_usize..4), 1..30),
    ) {
        let mut core = core_with(&[("t", 3)]);
        let mut ends = [0_i64; 3];
        for (partition, records) in writes {
            let (error, base) = produce(&mut core, "t", partition, records);
            let end = &mut ends[usize::try_from(partition).unwrap()];
            prop_assert_eq!((error, base), (0, *end));
            *end += i64::try_from(records).unwrap();
            let read = ask(&mut core, &fetch_request("t", &[(partition, base)]), 12);
            prop_assert_eq!(bases(&read)[0][0], base);
        }
    }
}
