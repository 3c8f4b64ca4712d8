//! Does a request have the length that its own counts claim? Asked before it is decoded.
//!
//! The codecs of kafka-protocol reserve memory for as many array elements as a request says it has, before
//! they look whether there are any: sixteen hostile bytes end the process with "out of memory". So each
//! request is walked first, by a description of its fields, and only one whose arrays are really there is
//! decoded.
//!
//! A description has only what decides about lengths; everything of fixed size is [`Kind::Fixed`]. From the
//! first flexible version on, lengths are varints and every structure ends in tagged fields (KIP-482).
//! Source: the JSON schemas in Kafka's `clients/src/main/resources/common/message`.

use kafka_protocol::messages::ApiKey;

use super::varint;

/// Array elements of a whole request, at most: ten times what the largest cluster asks for.
const MAX_ELEMENTS: usize = 200_000;

/// One field of a request, in the versions that have it.
#[derive(Debug, Clone, Copy)]
struct Field {
    kind: Kind,
    since: i16,
    until: i16,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A number, a flag, a UUID: this many bytes.
    Fixed(usize),
    /// A string, perhaps null.
    Text,
    /// Bytes, perhaps null.
    Blob,
    /// An array of numbers of this many bytes each.
    Numbers(usize),
    /// An array of strings.
    Texts,
    /// An array of structures, perhaps null.
    Structs(&'static [Field]),
}

const fn field(kind: Kind) -> Field {
    since(0, kind)
}

const fn since(version: i16, kind: Kind) -> Field {
    Field { kind, since: version, until: i16::MAX }
}

const fn between(since: i16, until: i16, kind: Kind) -> Field {
    Field { kind, since, until }
}

use Kind::{Blob, Fixed, Numbers, Structs, Text, Texts};

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
        _ => return false,
    };
    // A flexible version has the header with tagged fields, version 2.
    let flexible = api.request_header_version(version) >= 2;
    let mut walk = Walk { rest: body, version, flexible, elements_left: MAX_ELEMENTS };
    walk.structure(fields).is_some() && walk.rest.is_empty()
}

/// A position in a request. Every step is `None` when the bytes do not have what they claim.
struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements_left: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &[Field]) -> Option<()> {
        for field in fields {
            if (field.since..=field.until).contains(&self.version) {
                self.field(field.kind)?;
            }
        }
        if self.flexible {
            for _ in 0..varint::take_unsigned(&mut self.rest)? {
                let _tag = varint::take_unsigned(&mut self.rest)?;
                let size = varint::take_unsigned(&mut self.rest)?;
                self.skip(usize::try_from(size).ok()?)?;
            }
        }
        Some(())
    }

    fn field(&mut self, kind: Kind) -> Option<()> {
        match kind {
            Fixed(size) => self.skip(size),
            Text => {
                let length = self.length(2)?;
                self.skip(length)
            }
            Blob => {
                let length = self.length(4)?;
                self.skip(length)
            }
            Numbers(size) => {
                let count = self.count()?;
                self.skip(count.checked_mul(size)?)
            }
            Texts => {
                for _ in 0..self.count()? {
                    self.field(Text)?;
                }
                Some(())
            }
            Structs(fields) => {
                for _ in 0..self.count()? {
                    self.structure(fields)?;
                }
                Some(())
            }
        }
    }

    /// The length of an array, charged to the request's allowance.
    fn count(&mut self) -> Option<usize> {
        let count = self.length(4)?;
        self.elements_left = self.elements_left.checked_sub(count)?;
        Some(count)
    }

    /// A length of `width` bytes where -1 is null, or a varint of the length plus one where 0 is null.
    /// Null counts as nothing.
    fn length(&mut self, width: usize) -> Option<usize> {
        if self.flexible {
            let plus_one = varint::take_unsigned(&mut self.rest)?;
            return usize::try_from(plus_one.saturating_sub(1)).ok();
        }
        let bytes = self.rest.split_off(..width)?;
        let length = match *bytes {
            [a, b] => i32::from(i16::from_be_bytes([a, b])),
            [a, b, c, d] => i32::from_be_bytes([a, b, c, d]),
            _ => return None,
        };
        if length == -1 { Some(0) } else { usize::try_from(length).ok() }
    }

    fn skip(&mut self, size: usize) -> Option<()> {
        self.rest.split_off(..size).map(|_| ())
    }
}
