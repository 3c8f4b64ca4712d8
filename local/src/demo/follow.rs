//! How far the prices have come, looked at again and again while the pipeline works.
//!
//! Each look asks only for what is new since the last one, so that a demo without an end can go on looking.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Attribute, GetOptions, ObjectStore};

use super::collect::{self, records_from};
use super::evidence::text;
use super::services::{LookError, Services};

/// How many rows BatchGetItem takes.
const ROWS_AT_ONCE: usize = 100;

/// What has arrived where, since the stack was new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Records on the topic.
    pub(super) records: usize,
    /// Objects with lines.
    pub(super) objects: usize,
    /// Lines in them, as their metadata counts them.
    pub(super) lines: usize,
    /// Rows in `prices`.
    pub(super) prices: usize,
    /// Rows in `coins`.
    pub(super) coins: usize,
    /// Rows in `coins` that are of the newest run.
    pub(super) newest_coins: usize,
}

impl Arrived {
    /// Whether every record is a line.
    pub(super) fn stored(&self) -> bool {
        self.lines >= self.records
    }

    /// Whether every record is a row of `prices`, and each coin's newest a row of `coins`.
    pub(super) fn complete(&self) -> bool {
        self.stored() && self.prices >= self.records && self.newest_coins >= self.coins && self.coins > 0
    }
}

/// Looks, and remembers where it has looked.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    services: &'a Services,
    places: Vec<Place>,
    /// Keys of `prices` rows that are not there yet: code and timestamp.
    awaited: BTreeSet<(String, String)>,
    newest: String,
    arrived: Arrived,
}

/// How far a partition was looked at.
#[derive(Debug)]
struct Place {
    next_offset: i64,
    /// Where its objects are.
    folder: Path,
    /// The last object that was counted; at first the folder, which sorts before all of them.
    last_key: Path,
}

impl<'a> Follower<'a> {
    /// Follows from the beginning.
    pub(super) fn new(services: &'a Services) -> Self {
        let place = |(number, _): &(i32, _)| {
            let folder = Path::from(format!("{}/partition={number}", services.topic));
            Place { next_offset: 0, last_key: folder.clone(), folder }
        };
        Self {
            services,
            places: services.partitions.iter().map(place).collect(),
            awaited: BTreeSet::new(),
            newest: String::new(),
            arrived: Arrived::default(),
        }
    }

    /// What has arrived by now.
    ///
    /// # Errors
    /// [`LookError`].
    pub(super) async fn look(&mut self) -> Result<Arrived, LookError> {
        for index in 0..self.places.len() {
            self.look_at_records(index).await?;
            self.look_at_objects(index).await?;
        }
        self.look_at_prices().await?;
        let coins = collect::rows(self.services, &self.services.coins).await?;
        self.arrived.coins = coins.len();
        self.arrived.newest_coins =
            coins.iter().filter(|coin| text(coin, "updatedAt") == Some(&self.newest)).count();
        Ok(self.arrived)
    }

    async fn look_at_records(&mut self, index: usize) -> Result<(), LookError> {
        let (number, partition) = &self.services.partitions[index];
        let place = &mut self.places[index];
        let records = records_from(partition, place.next_offset).await;
        let records = records.map_err(LookError::at(format!("look at partition {number}")))?;
        for found in records {
            let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let code = utf8(found.record.key.as_deref().unwrap_or_default());
            let fetched_at = found.record.headers.get("fetched_at").map(|at| utf8(at)).unwrap_or_default();
            if fetched_at > self.newest {
                self.newest.clone_from(&fetched_at);
            }
            self.awaited.insert((code, fetched_at));
            self.arrived.records += 1;
            place.next_offset = found.offset + 1;
        }
        Ok(())
    }

    async fn look_at_objects(&mut self, index: usize) -> Result<(), LookError> {
        let Place { folder, last_key, .. } = &mut self.places[index];
        let failed = || LookError::at(format!("look at objects in {folder}"));
        let mut keys: Vec<Path> = self
            .services
            .bucket
            .list_with_offset(Some(folder), last_key)
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(failed())?;
        keys.sort();
        for key in keys {
            let options = GetOptions { head: true, ..GetOptions::default() };
            let object = self.services.bucket.get_opts(&key, options).await.map_err(failed())?;
            let records = object.attributes.get(&Attribute::Metadata("records".into()));
            self.arrived.lines += records.and_then(|records| records.parse::<usize>().ok()).unwrap_or(0);
            self.arrived.objects += 1;
            *last_key = key;
        }
        Ok(())
    }

    async fn look_at_prices(&mut self) -> Result<(), LookError> {
        let table = &self.services.prices;
        let awaited: Vec<_> = self.awaited.iter().cloned().collect();
        for keys in awaited.chunks(ROWS_AT_ONCE) {
            let what = format!("look at table {table}");
            let keys = keys.iter().map(|(code, timestamp)| {
                HashMap::from([
                    ("code".to_owned(), AttributeValue::S(code.clone())),
                    ("timestamp".to_owned(), AttributeValue::S(timestamp.clone())),
                ])
            });
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(keys.collect()))
                .consistent_read(true)
                .build()
                .map_err(LookError::at(what.clone()))?;
            let answer = self.services.tables.batch_get_item().request_items(table, wanted).send().await;
            let found = answer.map_err(LookError::at(what))?.responses.unwrap_or_default();
            for row in found.get(table).into_iter().flatten() {
                let key = |name| text(row, name).unwrap_or_default().to_owned();
                if self.awaited.remove(&(key("code"), key("timestamp"))) {
                    self.arrived.prices += 1;
                }
            }
        }
        Ok(())
    }
}
