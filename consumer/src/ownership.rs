//! Before anything is written: are the objects in this folder ours to continue, and does the store keep its word?
//!
//! ```text
//! read _coinduit.json --there--> compare -----------------------------------> put it again: must be refused
//!                     --absent-> any object there? stop. --> create --> read back, compare --^
//! ```

use coinduit_common::object_key::{self, Prefix};

use crate::ledger::{
    bucket::{Bucket, CreateAnswer, NewObject, StoreError, UserMetadata},
    manifest::{Manifest, OtherOwner},
};

/// Why nothing may be written here.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder belongs to another topic, cluster or layout.
    #[error(
        "{key} says that the objects beside it belong to something else: {problem}; choose another S3_PREFIX and another group, or, where only layout or compression differ, set OBJECT_LAYOUT and COMPRESSION to what stands there"
    )]
    Other {
        /// The file.
        key: String,
        /// What differs.
        problem: OtherOwner,
    },
    /// Objects without the file that says whose they are.
    #[error(
        "there are objects in {folder}, but {key} is missing; choose another S3_PREFIX, or put the file back"
    )]
    Unclaimed {
        /// The folder.
        folder: String,
        /// The file.
        key: String,
    },
    /// A second create-only put of the same key went through.
    #[error(
        "the store ignores conditions: it let {key} be created twice; exactly once needs a store that honours If-None-Match, as Amazon S3 does"
    )]
    IgnoresConditions {
        /// The file.
        key: String,
    },
}

/// The name in the file's user metadata that says how many partitions the topic had when it was made.
const PARTITIONS: &str = "partitions";

/// What a claimed folder says of its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// How many partitions the topic had. Those that were added since are read from their start, whatever
    /// `AUTO_OFFSET_RESET` says.
    pub first_partitions: i32,
}

/// Claims `topic`'s folder below `prefix` for what `manifest` says, or finds it claimed for just that. The topic has
/// `partitions` now.
///
/// # Errors
/// [`OwnershipError::Store`] may pass; anything else needs a person.
pub async fn claim(
    bucket: &dyn Bucket,
    prefix: &Prefix,
    topic: &str,
    manifest: &Manifest,
    partitions: i32,
) -> Result<Claim, OwnershipError> {
    let key = object_key::manifest(prefix, topic);
    let object = |body: Vec<u8>, partitions: i32| NewObject {
        key: key.clone(),
        body: body.into(),
        content_type: "application/json",
        metadata: UserMetadata::from([(PARTITIONS.to_owned(), partitions.to_string())]),
    };
    let mut stored = bucket.get(&key).await?;
    if stored.is_none() {
        let folder = object_key::topic_folder(prefix, topic);
        let partitions = format!("{folder}partition=");
        let objects = bucket.keys_after(&folder, &partitions, 1).await?;
        if objects.keys.iter().any(|key| key.starts_with(&partitions)) {
            // Another consumer may have claimed the folder and written since we looked.
            stored = bucket.get(&key).await?;
            if stored.is_none() {
                return Err(OwnershipError::Unclaimed { folder, key });
            }
        }
    }
    if stored.is_none() {
        // Whatever it answers: what counts is what stands there afterwards.
        let answer = bucket.create(&object(manifest.to_bytes(), partitions)).await;
        stored = bucket.get(&key).await?;
        if let (None, Err(error)) = (&stored, answer) {
            return Err(error.into());
        }
    }
    let Some(stored) = stored else {
        return Err(StoreError {
            attempted: format!("create object {key}"),
            permanent: false,
            source: "the store says that it exists, and that it does not".into(),
        }
        .into());
    };
    manifest.check(&stored).map_err(|problem| OwnershipError::Other { key: key.clone(), problem })?;
    let said = bucket.metadata(&key).await?.unwrap_or_default();
    // Whoever made the file by hand said nothing.
    let first_partitions = said.get(PARTITIONS).and_then(|text| text.parse().ok()).unwrap_or(partitions);
    // The same content, so that a store that does overwrite changes nothing.
    match bucket.create(&object(stored.to_vec(), first_partitions)).await? {
        CreateAnswer::Exists => Ok(Claim { first_partitions }),
        CreateAnswer::Created => Err(OwnershipError::IgnoresConditions { key }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compression::Compression,
        layout::Layout,
        testing::{Fault, MemoryBucket},
    };

    fn manifest(topic_id: &str) -> Manifest {
        Manifest {
            format: 1,
            cluster_id: "c".to_owned(),
            topic_id: topic_id.to_owned(),
            layout: "log".to_owned(),
            compression: "none".to_owned(),
        }
    }

    async fn claim_as(bucket: &MemoryBucket, topic_id: &str) -> Result<Claim, OwnershipError> {
        claim_with(bucket, topic_id, 4).await
    }

    async fn claim_with(
        bucket: &MemoryBucket,
        topic_id: &str,
        partitions: i32,
    ) -> Result<Claim, OwnershipError> {
        claim(bucket, &Prefix::default(), "t", &manifest(topic_id), partitions).await
    }

    #[tokio::test]
    async fn a_folder_is_claimed_once_and_stays_as_it_is() {
        let bucket = MemoryBucket::default();
        claim_as(&bucket, "a").await.unwrap();
        claim_as(&bucket, "a").await.unwrap();
        assert!(bucket.contains("t/_coinduit.json"));
        let error = claim_as(&bucket, "b").await.unwrap_err();
        assert!(
            matches!(error, OwnershipError::Other { .. })
                && error.to_string().contains("choose another S3_PREFIX"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn another_layout_or_compression_is_refused_with_both_ways_out() {
        let bucket = MemoryBucket::default();
        claim_as(&bucket, "a").await.unwrap();
        for layout in [Layout::Record, Layout::Log(Compression::Gzip)] {
            let other = manifest("a").laid_out(layout);
            let error = claim(&bucket, &Prefix::default(), "t", &other, 4).await.unwrap_err().to_string();
            assert!(
                error.contains("choose another S3_PREFIX") && error.contains("set OBJECT_LAYOUT"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn how_many_partitions_there_were_at_first_is_kept() {
        let bucket = MemoryBucket::default();
        assert_eq!(claim_with(&bucket, "a", 4).await.unwrap(), Claim { first_partitions: 4 });
        assert_eq!(claim_with(&bucket, "a", 9).await.unwrap(), Claim { first_partitions: 4 });
    }

    #[tokio::test]
    async fn objects_without_the_file_are_not_continued() {
        let bucket = MemoryBucket::default();
        bucket.insert("t/partition=0/00000000000000000000.jsonl", UserMetadata::new());
        assert!(matches!(claim_as(&bucket, "a").await, Err(OwnershipError::Unclaimed { .. })));
        bucket.remove("t/partition=0/00000000000000000000.jsonl");
        claim_as(&bucket, "a").await.unwrap();
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_found_out_and_nothing_is_changed() {
        let bucket = MemoryBucket::default();
        claim_as(&bucket, "a").await.unwrap();
        let before = bucket.below("t/");
        bucket.fail_next(Fault::IgnoreCondition);
        assert!(matches!(claim_as(&bucket, "a").await, Err(OwnershipError::IgnoresConditions { .. })));
        assert_eq!(bucket.below("t/"), before);
    }

    #[tokio::test]
    async fn a_first_put_whose_reply_is_lost_still_claims() {
        let bucket = MemoryBucket::default();
        bucket.fail_next(Fault::FailAfter);
        claim_as(&bucket, "a").await.unwrap();
        let other = MemoryBucket::default();
        other.fail_next(Fault::FailBefore);
        assert!(matches!(claim_as(&other, "a").await, Err(OwnershipError::Store(_))));
    }
}
