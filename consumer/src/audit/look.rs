//! Reads from the bucket what is to be judged.

use std::collections::BTreeSet;

use coinduit_common::object_key;
use futures::{StreamExt, TryStreamExt, stream};

use super::{compare::Place, examine::SeenObject, listing::Folder};
use crate::ledger::bucket::{Bucket, StoreError};

/// What S3 returns at most for one listing.
const PAGE: usize = 1000;
/// How many objects are asked for their metadata at a time.
const HEADS: usize = 16;
/// After so many of them progress is told.
const TELL: usize = 512;

/// All keys in `folder`, ascending.
async fn keys(bucket: &dyn Bucket, folder: &str, mut each: impl FnMut(String)) -> Result<(), StoreError> {
    let mut after = folder.to_owned();
    loop {
        let page = bucket.keys_after(folder, &after, PAGE).await?;
        match page.keys.last() {
            Some(last) if page.more => after.clone_from(last),
            _ => {
                page.keys.into_iter().for_each(each);
                return Ok(());
            }
        }
        page.keys.into_iter().for_each(&mut each);
    }
}

/// The topic's folder.
pub(super) async fn folder(bucket: &dyn Bucket, mut folder: Folder) -> Result<Folder, StoreError> {
    let path = folder.path().to_owned();
    keys(bucket, &path, |key| folder.add(key)).await?;
    Ok(folder)
}

/// What a partition has in quarantine: the records' offsets, and keys that name none.
pub(super) async fn quarantine(
    bucket: &dyn Bucket,
    place: Place<'_>,
) -> Result<(BTreeSet<i64>, Vec<String>), StoreError> {
    let folder = object_key::quarantine_folder(place.prefix, place.topic, place.partition);
    let (mut offsets, mut strangers) = (BTreeSet::new(), Vec::new());
    keys(bucket, &folder, |key| match object_key::quarantined_offset(&folder, &key) {
        Some(offset) => drop(offsets.insert(offset)),
        None => strangers.push(key),
    })
    .await?;
    Ok((offsets, strangers))
}

/// What the objects of one partition say of themselves.
pub(super) async fn heads(
    bucket: &dyn Bucket,
    objects: Vec<(i64, String)>,
    tell: impl Fn(usize),
) -> Result<Vec<SeenObject>, StoreError> {
    let mut seen = Vec::with_capacity(objects.len());
    let head = async |(name, key): (i64, String)| {
        let metadata = bucket.metadata(&key).await?;
        Ok(SeenObject { name, key, metadata })
    };
    let mut heads = stream::iter(objects).map(head).buffered(HEADS);
    while let Some(object) = heads.try_next().await? {
        seen.push(object);
        if seen.len() % TELL == 0 {
            tell(seen.len());
        }
    }
    Ok(seen)
}
