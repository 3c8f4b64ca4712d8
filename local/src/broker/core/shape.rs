//! Does a request have the length that its own counts claim? Asked before it is decoded, because the
//! codecs trust the counts: see [`coinduit_common::kafka::shape`].

use coinduit_common::kafka::shape::{
    self, Field,
    Kind::{Blob, Fixed, Numbers, Structs, Text, Texts},
    between, field, since,
};
use kafka_protocol::messages::ApiKey;

const PRODUCE: &[Field] = &[
    field(Text),     // transactional id
    field(Fixed(6)), // acks, timeout
    field(Structs(&[field(Text), field(Structs(&[field(Fixed(4)), field(Blob)]))])),
];

const FETCH: &[Field] = &[
    field(Fixed(17)),   // replica, max wait, min bytes, max bytes, isolation
    since(7, Fixed(8)), // session id and epoch
    field(Structs(&[
        field(Text),
        field(Structs(&[
            field(Fixed(4)),     // partition
            since(9, Fixed(4)),  // leader epoch
            field(Fixed(8)),     // offset
            since(12, Fixed(4)), // last fetched epoch
            since(5, Fixed(8)),  // log start
            field(Fixed(4)),     // max bytes
        ])),
    ])),
    since(7, Structs(&[field(Text), field(Numbers(4))])), // forgotten topics
    since(11, Text),                                      // rack
];

const LIST_OFFSETS: &[Field] = &[
    field(Fixed(4)),    // replica
    since(2, Fixed(1)), // isolation
    field(Structs(&[
        field(Text),
        field(Structs(&[field(Fixed(4)), since(4, Fixed(4)), field(Fixed(8))])), // partition, epoch, time
    ])),
];

const METADATA: &[Field] = &[
    field(Structs(&[since(10, Fixed(16)), field(Text)])), // topic ids, names
    since(4, Fixed(1)),                                   // auto-creation
    between(8, 10, Fixed(1)),                             // authorized operations of the cluster
    since(8, Fixed(1)),                                   // and of topics
];

const API_VERSIONS: &[Field] = &[since(3, Text), since(3, Text)]; // client software: name, version

const CREATE_TOPICS: &[Field] = &[
    field(Structs(&[
        field(Text),
        field(Fixed(6)),                                       // partitions, replication factor
        field(Structs(&[field(Fixed(4)), field(Numbers(4))])), // assignments
        field(Structs(&[field(Text), field(Text)])),           // configs
    ])),
    field(Fixed(5)), // timeout, validate only
];

const DELETE_TOPICS: &[Field] = &[
    since(6, Structs(&[field(Text), field(Fixed(16))])), // names, ids
    between(0, 5, Texts),                                // names
    field(Fixed(4)),                                     // timeout
];

const DELETE_RECORDS: &[Field] = &[
    field(Structs(&[field(Text), field(Structs(&[field(Fixed(12))]))])), // partition, offset
    field(Fixed(4)),                                                     // timeout
];

const FIND_COORDINATOR: &[Field] = &[
    between(0, 3, Text), // key
    since(1, Fixed(1)),  // its type
    since(4, Texts),     // keys
];

const JOIN_GROUP: &[Field] = &[
    field(Text),                                 // group
    field(Fixed(4)),                             // session time-out
    since(1, Fixed(4)),                          // rebalance time-out
    field(Text),                                 // member
    since(5, Text),                              // instance
    field(Text),                                 // protocol type
    field(Structs(&[field(Text), field(Blob)])), // protocols
    since(8, Text),                              // reason
];

const SYNC_GROUP: &[Field] = &[
    field(Text),                                 // group
    field(Fixed(4)),                             // generation
    field(Text),                                 // member
    since(3, Text),                              // instance
    since(5, Text),                              // protocol type
    since(5, Text),                              // protocol
    field(Structs(&[field(Text), field(Blob)])), // assignments
];

const HEARTBEAT: &[Field] = &[
    field(Text),     // group
    field(Fixed(4)), // generation
    field(Text),     // member
    since(3, Text),  // instance
];

const LEAVE_GROUP: &[Field] = &[
    field(Text),                                                    // group
    between(0, 2, Text),                                            // member
    since(3, Structs(&[field(Text), field(Text), since(5, Text)])), // members, instances, reasons
];

const OFFSET_COMMIT: &[Field] = &[
    field(Text),             // group
    field(Fixed(4)),         // generation
    field(Text),             // member
    since(7, Text),          // instance
    between(2, 4, Fixed(8)), // retention
    field(Structs(&[
        field(Text),
        field(Structs(&[
            field(Fixed(12)),   // partition, offset
            since(6, Fixed(4)), // leader epoch
            field(Text),        // metadata
        ])),
    ])),
];

const OFFSET_FETCH: &[Field] = &[
    between(0, 7, Text), // group
    between(0, 7, Structs(&[field(Text), field(Numbers(4))])),
    since(
        8,
        Structs(&[
            field(Text),        // group
            since(9, Text),     // member
            since(9, Fixed(4)), // epoch
            field(Structs(&[field(Text), field(Numbers(4))])),
        ]),
    ),
    since(7, Fixed(1)), // only stable ones
];

const DESCRIBE_GROUPS: &[Field] = &[
    field(Texts),
    since(3, Fixed(1)), // authorized operations
];

const LIST_GROUPS: &[Field] = &[since(4, Texts), since(5, Texts)]; // states, types

/// Whether `body`, a request without its header, is as long as its counts say, to the byte.
///
/// `false` for an API without a description: a request that nobody described is not decoded.
pub(crate) fn is_sound(api: ApiKey, version: i16, body: &[u8]) -> bool {
    let fields = match api {
        ApiKey::Produce => PRODUCE,
        ApiKey::Fetch => FETCH,
        ApiKey::ListOffsets => LIST_OFFSETS,
        ApiKey::Metadata => METADATA,
        ApiKey::ApiVersions => API_VERSIONS,
        ApiKey::CreateTopics => CREATE_TOPICS,
        ApiKey::DeleteTopics => DELETE_TOPICS,
        ApiKey::DeleteRecords => DELETE_RECORDS,
        ApiKey::FindCoordinator => FIND_COORDINATOR,
        ApiKey::JoinGroup => JOIN_GROUP,
        ApiKey::SyncGroup => SYNC_GROUP,
        ApiKey::Heartbeat => HEARTBEAT,
        ApiKey::LeaveGroup => LEAVE_GROUP,
        ApiKey::OffsetCommit => OFFSET_COMMIT,
        ApiKey::OffsetFetch => OFFSET_FETCH,
        ApiKey::DescribeGroups => DESCRIBE_GROUPS,
        ApiKey::ListGroups => LIST_GROUPS,
        _ => return false,
    };
    // A flexible version has the header with tagged fields, version 2.
    let flexible = api.request_header_version(version) >= 2;
    shape::is_sound(fields, version, flexible, body)
}
