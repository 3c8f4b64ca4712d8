//! One partition's chain of objects in the bucket: its end, and the next link.
//!
//! Every function here is one attempt. Who calls decides whether and when there is another.

use std::sync::Arc;

use coinduit_common::object_key::{self, Prefix};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    bucket::{Bucket, NewObject, StoreError},
    decide::{self, AfterCreate, Standing},
    metadata::{Link, NotALink, ObjectMetadata},
    misreading::Misreading,
    tail::{Search, Seen},
};
use crate::{
    batch::Sealed,
    layout::Layout,
    puts::Puts,
    quarantine::Quarantined,
    record_layout::{
        RecordObject,
        put::{self, PutError},
    },
};

/// What S3 returns at most for one listing.
const PAGE: usize = 1000;
/// How many quarantined records are stored at a time.
const QUARANTINE_PUTS: usize = 8;

/// The chain could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What stands there is not ours.
    #[error(transparent)]
    NotALink(#[from] NotALink),
    /// A record's names are taken.
    #[error(transparent)]
    Record(#[from] PutError),
}

impl ChainError {
    /// Whether a person has to change something before it can work.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::Store(error) => error.permanent,
            Self::NotALink(_) | Self::Record(PutError::Taken { .. }) => true,
            Self::Record(PutError::Store(error)) => error.permanent,
        }
    }
}

/// One partition's objects.
#[derive(Clone)]
pub struct Chain {
    bucket: Arc<dyn Bucket>,
    prefix: Arc<Prefix>,
    topic: Arc<str>,
    partition: i32,
    layout: Layout,
    puts: Puts,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}

impl Chain {
    /// The chain of `topic`/`partition` below `prefix`.
    #[must_use]
    pub fn new(bucket: Arc<dyn Bucket>, prefix: Arc<Prefix>, topic: Arc<str>, partition: i32) -> Self {
        Self { bucket, prefix, topic, partition, layout: Layout::default(), puts: Puts::default() }
    }

    /// The same, laid out otherwise; `puts` are all partitions'.
    #[must_use]
    pub fn laid_out(self, layout: Layout, puts: Puts) -> Self {
        Self { layout, puts, ..self }
    }

    /// How its objects are laid out.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The key of the object that continues from `tail`.
    #[must_use]
    pub fn key(&self, tail: i64) -> String {
        object_key::object(
            &self.prefix,
            &self.topic,
            self.partition,
            tail,
            self.layout.compression().extension(),
        )
    }

    /// The tail: the end of the object with the greatest name; `None` where there is no object. Names before `from`
    /// are not looked at: 0, or a tail that the chain is known to have had, as names only grow. Where each record is an
    /// object there is no chain.
    ///
    /// # Errors
    /// [`ChainError::NotALink`] where that object says nothing about its end, or is compressed otherwise than ours.
    pub async fn tail(&self, from: i64) -> Result<Option<i64>, ChainError> {
        if self.layout == Layout::Record {
            return Ok(None);
        }
        let Some((name, key)) = self.last_object(from).await? else { return Ok(None) };
        let compression = self.layout.compression();
        if key != self.key(name) {
            let problem =
                format!("its name is not that of an object with COMPRESSION={}", compression.name());
            return Err(NotALink { key, problem }.into());
        }
        match self.bucket.metadata(&key).await? {
            Some(metadata) => Ok(Some(Link::read(&key, name, &metadata)?.to_offset)),
            None => Err(NotALink { key, problem: "it was listed, and is gone".to_owned() }.into()),
        }
    }

    /// The puts of all partitions.
    #[must_use]
    pub const fn puts(&self) -> &Puts {
        &self.puts
    }

    /// Puts the batch under the tail it continues from, once, and finds out what stands there.
    ///
    /// # Errors
    /// [`ChainError`]: nothing is known; it may be stored now, or later.
    ///
    /// # Cancel safety
    /// Dropping the future leaves at most one whole object, which [`Chain::tail`] finds.
    pub async fn put(&self, sealed: &Sealed) -> Result<Standing, ChainError> {
        let object = NewObject {
            key: self.key(name(&sealed.metadata)),
            body: sealed.body.clone(),
            content_type: "application/x-ndjson",
            metadata: sealed.metadata.to_user_metadata(),
        };
        let answer = self.bucket.create(&object).await;
        if decide::after_create(&answer) == AfterCreate::Stored {
            return Ok(Standing::Ours);
        }
        match (self.standing(sealed).await?, answer) {
            // It failed, and nothing stands there: the failure is what there is to say.
            (Standing::Absent, Err(error)) => Err(error.into()),
            (standing, _) => Ok(standing),
        }
    }

    /// Stores `records`, one object each, several at a time. What is left over was not stored, or nobody knows.
    pub async fn put_each<'a>(
        &self,
        records: Vec<&'a RecordObject>,
    ) -> (Vec<&'a RecordObject>, Option<ChainError>) {
        let (left, error) = put::each(&*self.bucket, &self.puts, records).await;
        (left, error.map(ChainError::from))
    }

    /// What stands under the batch's name.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn standing(&self, sealed: &Sealed) -> Result<Standing, ChainError> {
        let name = name(&sealed.metadata);
        let key = self.key(name);
        let metadata = self.bucket.metadata(&key).await?;
        Ok(decide::standing(&key, name, &sealed.metadata, metadata.as_ref())?)
    }

    /// Stores all `records`, whatever was there.
    ///
    /// # Errors
    /// The first [`ChainError`]; some may be stored.
    pub async fn quarantine(&self, records: &[Quarantined]) -> Result<(), ChainError> {
        // Collected first: a lazy map over borrowed records is not `Send` enough for a spawned task.
        let puts: Vec<_> = records.iter().map(|record| self.bucket.put(&record.object)).collect();
        stream::iter(puts)
            .buffer_unordered(QUARANTINE_PUTS)
            .try_collect::<()>()
            .await
            .map_err(ChainError::from)
    }

    async fn last_object(&self, from: i64) -> Result<Option<(i64, String)>, StoreError> {
        let folder = object_key::partition_folder(&self.prefix, &self.topic, self.partition);
        let mut search = Search::from(from);
        let mut last = None;
        while let Some(from) = search.next() {
            let mut start = object_key::before(&self.prefix, &self.topic, self.partition, from);
            let seen = loop {
                let page = self.bucket.keys_after(&folder, &start, PAGE).await?;
                let names =
                    page.keys.iter().filter_map(|key| Some((object_key::tail_of(&folder, key)?, key)));
                match (names.max(), page.keys.last()) {
                    (Some((name, key)), _) => {
                        last = Some((name, key.clone()));
                        break Seen { last: Some(name), more: page.more };
                    }
                    // A page of nothing but foreign keys.
                    (None, Some(end)) if page.more => start.clone_from(end),
                    (None, _) => break Seen { last: None, more: false },
                }
            };
            search.seen(from, seen);
        }
        Ok(last)
    }
}

/// An object's name: the tail that it continues from, so that two writers at one tail want one name.
fn name(metadata: &ObjectMetadata) -> i64 {
    if Misreading::EndInName.is_made() {
        return metadata.to_offset;
    }
    if Misreading::FirstRecordInName.is_made() {
        return metadata.stored.map_or(metadata.from_offset, |stored| stored.first_offset);
    }
    metadata.from_offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compression::Compression,
        ledger::{bucket::UserMetadata, metadata::Closed},
        testing::{Fault, MemoryBucket},
    };

    fn sealed(from: i64, to: i64, writer: &str) -> Sealed {
        Sealed {
            metadata: ObjectMetadata {
                from_offset: from,
                to_offset: to,
                stored: None,
                records: 0,
                quarantined: 0,
                skipped: Vec::new(),
                writer: writer.to_owned(),
                closed: Closed::Age,
            },
            body: format!("{writer}\n").into_bytes().into(),
            each: Vec::new(),
            line_bytes: 0,
            quarantined_ahead: 0,
            fetched_at: std::time::Duration::ZERO,
            held_bytes: 0,
        }
    }

    fn chain() -> (Arc<MemoryBucket>, Chain) {
        let bucket = Arc::new(MemoryBucket::default());
        (Arc::clone(&bucket), Chain::new(bucket, Arc::default(), "t".into(), 0))
    }

    #[tokio::test]
    async fn the_tail_is_the_end_of_the_last_object() {
        let (bucket, chain) = chain();
        assert_eq!(chain.tail(0).await.unwrap(), None);
        for n in 0..2_500 {
            assert_eq!(chain.put(&sealed(n * 3, n * 3 + 3, "w/1")).await.unwrap(), Standing::Ours);
        }
        bucket.insert("t/partition=0/zzz", UserMetadata::new());
        assert_eq!(chain.tail(0).await.unwrap(), Some(7_500));
    }

    #[tokio::test]
    async fn of_two_writers_at_one_tail_one_wins() {
        let (_, chain) = chain();
        assert_eq!(chain.put(&sealed(0, 5, "a/1")).await.unwrap(), Standing::Ours);
        assert_eq!(chain.put(&sealed(0, 9, "b/1")).await.unwrap(), Standing::Superseded { tail: 5 });
        assert_eq!(chain.tail(0).await.unwrap(), Some(5));
    }

    #[tokio::test]
    async fn whatever_happens_to_a_put_the_truth_is_found() {
        for (fault, standing, stored) in [
            (Fault::FailBefore, None, false),
            (Fault::FailAfter, Some(Standing::Ours), true),
            (Fault::ConflictBefore, Some(Standing::Absent), false),
            (Fault::ConflictAfter, Some(Standing::Ours), true),
        ] {
            let (bucket, chain) = chain();
            bucket.fail_next(fault);
            assert_eq!(chain.put(&sealed(0, 5, "a/1")).await.ok(), standing, "{fault:?}");
            assert_eq!(bucket.contains("t/partition=0/00000000000000000000.jsonl"), stored, "{fault:?}");
            assert_eq!(chain.put(&sealed(0, 5, "a/1")).await.unwrap(), Standing::Ours, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn an_object_that_says_nothing_about_its_end_stops_the_chain() {
        let (bucket, chain) = chain();
        bucket.insert("t/partition=0/00000000000000000007.jsonl", UserMetadata::new());
        let error = chain.tail(0).await.unwrap_err();
        assert!(error.is_permanent() && error.to_string().contains("00000000000000000007.jsonl"), "{error}");
    }

    #[tokio::test]
    async fn a_chain_is_followed_in_its_own_compression_only() {
        let bucket = Arc::new(MemoryBucket::default());
        let chain = |layout| {
            Chain::new(Arc::clone(&bucket) as _, Arc::default(), "t".into(), 0)
                .laid_out(layout, Puts::default())
        };
        let [plain, gzip, zstd] = [Compression::None, Compression::Gzip, Compression::Zstd].map(Layout::Log);
        for n in 0..1_100 {
            chain(gzip).put(&sealed(n * 3, n * 3 + 3, "w/1")).await.unwrap();
        }
        assert_eq!(chain(gzip).tail(0).await.unwrap(), Some(3_300));
        assert_eq!(
            chain(gzip).put(&sealed(3_297, 4_000, "w/2")).await.unwrap(),
            Standing::Superseded { tail: 3_300 }
        );
        for other in [plain, zstd] {
            let error = chain(other).tail(0).await.unwrap_err();
            let expected = format!("not that of an object with COMPRESSION={}", other.compression().name());
            assert!(error.is_permanent() && error.to_string().contains(&expected), "{error}");
        }
        assert_eq!(chain(Layout::Record).tail(0).await.unwrap(), None);
    }
}
