//! `OBJECT_LAYOUT=record`: one object per record, named by what the record says.
//!
//! ```text
//! record --line, name--> RecordObject --create-only--> {prefix}{code}_{id}.json
//!        \--no name--> quarantine            | other bytes stand there
//!                                            v
//!                             {prefix}{code}_{id}_{partition}-{offset}.json
//! ```
//!
//! It keeps no chain: progress is the group's offset alone. Each record is stored exactly once all the same:
//!
//! 1. Names and bytes are functions of the record ([`name`]), so every attempt, of whichever process, wants the same.
//! 2. Objects are created, never overwritten: what stands under a name never changes. An attempt that finds its own bytes
//!    there is done, whoever put them there ([`decide`]); so is a record that was published twice.
//! 3. A record goes to its second name only where the first one has other bytes. It has them for ever, so no later
//!    attempt of this record, not even one that was sent earlier and arrives late, can succeed there: a record is never
//!    under both names. The second name is this record's alone, as no other has its place in the log.
//! 4. The group is told of an offset only when everything below it is stored or quarantined
//!    ([`crate::partition::progress`]: a batch of records is settled as a whole). Whoever dies in between leaves records
//!    behind that are stored and not committed; they are read again, and rule 2 ends it.
//!
//! It assumes that objects outlive the time between their put and the commit behind them, that creates are atomic, and
//! that no other topic with the same codes and ids is written below the same prefix; where one is, a record whose two
//! names are both taken stops its partition with an alert, and nothing is lost.
//!
//! What it gives up: what was skipped stands in no object (it is logged, alerted, and in the group's commit), and nothing
//! in the bucket proves that no object is missing.

use std::collections::HashSet;

use bytes::Bytes;
use coinduit_common::{clock, line::NotALine, object_key::Prefix};

use crate::{
    ledger::{
        bucket::{NewObject, UserMetadata},
        metadata::FORMAT,
    },
    reader::Record,
};

pub mod decide;
pub mod name;
pub mod put;

/// One record, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordObject {
    /// Where it goes.
    pub key: String,
    /// Where it goes if something else stands there.
    pub second_key: String,
    /// Its line.
    pub line: Bytes,
    /// Its place.
    pub partition: i32,
    /// Its place.
    pub offset: i64,
    /// The Kafka record's timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// An earlier record of the same batch has the same first name: it goes first.
    pub repeats: bool,
}

impl RecordObject {
    /// What is stored under `key`, one of its two.
    #[must_use]
    pub fn object(&self, key: &str) -> NewObject {
        NewObject {
            key: key.to_owned(),
            body: vec![self.line.clone()].into_iter().collect(),
            content_type: "application/json",
            metadata: UserMetadata::from([
                ("format".to_owned(), FORMAT.to_owned()),
                ("partition".to_owned(), self.partition.to_string()),
                ("offset".to_owned(), self.offset.to_string()),
                ("timestamp".to_owned(), clock::rfc3339_ms(self.timestamp_ms)),
            ]),
        }
    }

    fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.line.len() + self.key.capacity() + self.second_key.capacity()
    }
}

/// The records of a batch.
#[derive(Debug, Default)]
pub struct Each {
    objects: Vec<RecordObject>,
    keys: HashSet<String>,
    bytes: usize,
    held: usize,
}

impl Each {
    /// Adds the object of `record`, whose line `write` gives, unless that would make more than `most` bytes; returns
    /// whether it was kept.
    ///
    /// # Errors
    /// What `write` gives, or that the record has no name.
    pub fn append(
        &mut self,
        place: &name::Place<'_>,
        record: &Record,
        most: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), NotALine>,
    ) -> Result<bool, NotALine> {
        let mut line = Vec::new();
        write(&mut line)?;
        let (key, second_key) = name::keys(place, record, &line)?;
        if self.bytes + line.len() > most {
            return Ok(false);
        }
        self.bytes += line.len();
        let object = RecordObject {
            repeats: !self.keys.insert(key.clone()),
            key,
            second_key,
            line: line.into_boxed_slice().into(),
            partition: place.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
        };
        self.held += object.held_bytes() + object.key.len();
        self.objects.push(object);
        Ok(true)
    }

    /// How many bytes the lines have.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The bytes that they occupy.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held
    }

    /// The records, in the log's order.
    #[must_use]
    pub fn into_objects(self) -> Vec<RecordObject> {
        self.objects
    }
}

/// Where one partition's record objects go.
#[must_use]
pub const fn place<'a>(prefix: &'a Prefix, topic: &'a str, partition: i32) -> name::Place<'a> {
    name::Place { prefix, topic, partition }
}
