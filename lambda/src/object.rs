//! Reads an object as it comes, whatever its size.
//!
//! The bucket is known only when an event names it, so stores are made on demand, and kept, because a warm
//! function sees the same bucket again.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, path::Path};

use crate::{
    decompress::{Compression, decompress},
    envelope::ObjectRef,
};

/// How much is asked for at once, and held until it is made into rows: an exchange with S3 has a time limit, and a
/// table may be slow. The consumer's objects are not larger, unless it is told otherwise.
const PART_BYTES: u64 = 8 << 20;

type Open = dyn Fn(&str) -> Result<Arc<dyn ObjectStore>, object_store::Error> + Send + Sync;

/// The stores of buckets.
pub struct Stores {
    open: Box<Open>,
    opened: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").finish_non_exhaustive()
    }
}

/// Why an object was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// S3 knows such keys, object_store has no path for them.
    #[error("the key can't be asked for: it begins or ends with a slash, or has an empty, . or .. segment")]
    Key,
    /// Its bytes are not what its name says, or end too early.
    #[error("decompress the object; it is damaged, or its name says something else than it is")]
    Compressed(#[source] io::Error),
    /// Somebody has put another object in its place meanwhile.
    #[error("the object was replaced while it was read")]
    Replaced,
    /// The store refused.
    #[error(
        "get the object; allow s3:GetObject, and s3:ListBucket too: without it S3 says 403 for what is gone"
    )]
    Forbidden(#[source] object_store::Error),
    /// The store failed or was not reached.
    #[error("get the object")]
    Store(#[source] object_store::Error),
}

impl Stores {
    /// Stores made by `open`, which is called once for each bucket.
    #[must_use]
    pub fn new(
        open: impl Fn(&str) -> Result<Arc<dyn ObjectStore>, object_store::Error> + Send + Sync + 'static,
    ) -> Self {
        Self { open: Box::new(open), opened: Mutex::default() }
    }

    /// The store of `bucket`.
    ///
    /// # Errors
    /// When none can be made.
    pub fn of(&self, bucket: &str) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = opened.get(bucket) {
            return Ok(Arc::clone(store));
        }
        let store = (self.open)(bucket)?;
        opened.insert(bucket.to_owned(), Arc::clone(&store));
        Ok(store)
    }
}

/// The object's bytes, decompressed, in pieces; `None` where there is no object any more. Needs a tokio runtime.
///
/// # Errors
/// [`ReadError`], here or instead of a piece.
pub async fn open(
    store: Arc<dyn ObjectStore>,
    object: &ObjectRef,
) -> Result<Option<BoxStream<'static, Result<Bytes, ReadError>>>, ReadError> {
    let path = path(&object.key).ok_or(ReadError::Key)?;
    let options = GetOptions { version: object.version.clone(), ..GetOptions::default() };
    let first = match store.get_opts(&path, options).await {
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        found => found.map_err(read_error)?,
    };
    let meta = first.meta.clone();
    let first = part(first).await?;
    let from = length(&first);
    let version = object.version.clone();
    let rest = stream::try_unfold(from, move |from| {
        let (store, path, meta, version) = (Arc::clone(&store), path.clone(), meta.clone(), version.clone());
        async move {
            if from >= meta.size {
                return Ok(None);
            }
            let next = next_part(&*store, &path, version, &meta, from).await?;
            let end = from + length(&next);
            Ok(Some((next, end)))
        }
    });
    let parts = stream::iter([Ok(first)]).chain(rest).boxed();
    Ok(Some(match Compression::of(&object.key) {
        Some(compression) => decompress(compression, parts),
        None => parts,
    }))
}

/// The part that begins at `from`, of the same object.
async fn next_part(
    store: &dyn ObjectStore,
    path: &Path,
    version: Option<String>,
    meta: &ObjectMeta,
    from: u64,
) -> Result<Bytes, ReadError> {
    let range = GetRange::Bounded(from..meta.size.min(from + PART_BYTES));
    let options =
        GetOptions { version, range: Some(range), if_match: meta.e_tag.clone(), ..GetOptions::default() };
    match store.get_opts(path, options).await {
        Err(object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. }) => {
            Err(ReadError::Replaced)
        }
        found => part(found.map_err(read_error)?).await,
    }
}

/// The answer's bytes, but not more than a part.
async fn part(answer: GetResult) -> Result<Bytes, ReadError> {
    let most = usize::try_from(PART_BYTES).unwrap_or(usize::MAX);
    let size = usize::try_from(answer.range.end.saturating_sub(answer.range.start)).unwrap_or(most);
    let mut chunks = answer.into_stream();
    let Some(first) = chunks.try_next().await.map_err(ReadError::Store)? else { return Ok(Bytes::new()) };
    if first.len() >= most {
        return Ok(first.slice(..most));
    }
    let mut bytes = BytesMut::with_capacity(size.min(most));
    bytes.extend_from_slice(&first);
    while bytes.len() < most
        && let Some(chunk) = chunks.try_next().await.map_err(ReadError::Store)?
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(most - bytes.len())]);
    }
    Ok(bytes.freeze())
}

fn read_error(error: object_store::Error) -> ReadError {
    match error {
        object_store::Error::PermissionDenied { .. } => ReadError::Forbidden(error),
        other => ReadError::Store(other),
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The path of exactly `key`. A path is more than a key: it has no empty segments, and no slash at its
/// ends, so that another object would be read.
#[must_use]
pub fn path(key: &str) -> Option<Path> {
    Path::parse(key).ok().filter(|path| path.as_ref() == key)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use object_store::{ObjectStoreExt, memory::InMemory};

    use super::*;

    fn object(key: &str) -> ObjectRef {
        ObjectRef { bucket: "b".to_owned(), key: key.to_owned(), version: None }
    }

    async fn read(store: &Arc<InMemory>, key: &str) -> Result<Option<Vec<u8>>, ReadError> {
        let store = Arc::clone(store) as Arc<dyn ObjectStore>;
        let Some(pieces) = open(store, &object(key)).await? else { return Ok(None) };
        let all = pieces.try_fold(Vec::new(), async |mut all: Vec<u8>, piece| {
            all.extend_from_slice(&piece);
            Ok(all)
        });
        all.await.map(Some)
    }

    #[test]
    fn only_the_very_key_is_a_path() {
        for key in ["a/partition=3/0.jsonl", "a b+c%20.json", "_IMX_₿.json", "a/#?*.json"] {
            assert_eq!(path(key).unwrap().as_ref(), key);
        }
        for other in ["/a.json", "a//b.json", "a/../b.json", "./a.json"] {
            assert_eq!(path(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn an_object_is_read_and_a_missing_one_is_none() {
        let store = Arc::new(InMemory::new());
        store.put(&path("a.jsonl").unwrap(), "{}\n".into()).await.unwrap();
        store.put(&path("empty.jsonl").unwrap(), "".into()).await.unwrap();
        assert_eq!(read(&store, "a.jsonl").await.unwrap().as_deref(), Some(&b"{}\n"[..]));
        assert_eq!(read(&store, "empty.jsonl").await.unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(read(&store, "b.jsonl").await.unwrap(), None);
        assert!(matches!(read(&store, "/a.jsonl").await, Err(ReadError::Key)));
    }

    #[tokio::test]
    async fn a_large_object_is_read_part_by_part() {
        let store = Arc::new(InMemory::new());
        let numbers: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
        for size in [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 20_000_000] {
            let content = &numbers[..usize::try_from(size).unwrap()];
            store.put(&path("a.jsonl").unwrap(), content.to_vec().into()).await.unwrap();
            assert!(read(&store, "a.jsonl").await.unwrap().unwrap() == content, "{size}");
        }
    }

    #[tokio::test]
    async fn an_object_that_is_replaced_in_the_middle_is_not_mixed_up() {
        let store = Arc::new(InMemory::new());
        let content = vec![b'a'; 20_000_000];
        store.put(&path("a.jsonl").unwrap(), content.into()).await.unwrap();
        let mut pieces = open(Arc::clone(&store) as _, &object("a.jsonl")).await.unwrap().unwrap();
        assert!(pieces.next().await.unwrap().is_ok());
        store.put(&path("a.jsonl").unwrap(), vec![b'b'; 20_000_000].into()).await.unwrap();
        assert!(matches!(pieces.next().await, Some(Err(ReadError::Replaced))));
    }

    #[tokio::test]
    async fn a_compressed_object_is_decompressed_by_its_name() {
        let store = Arc::new(InMemory::new());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"{}\n").unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd =
            ruzstd::encoding::compress_to_vec(&b"{}\n"[..], ruzstd::encoding::CompressionLevel::Fastest);
        store.put(&path("a.jsonl.gz").unwrap(), gzip.into()).await.unwrap();
        store.put(&path("a.jsonl.zst").unwrap(), zstd.clone().into()).await.unwrap();
        store.put(&path("b.jsonl.gz").unwrap(), zstd.into()).await.unwrap();
        for key in ["a.jsonl.gz", "a.jsonl.zst"] {
            assert_eq!(read(&store, key).await.unwrap().as_deref(), Some(&b"{}\n"[..]));
        }
        assert!(matches!(read(&store, "b.jsonl.gz").await, Err(ReadError::Compressed(_))));
    }

    #[test]
    fn a_buckets_store_is_made_once() {
        let made = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&made);
        let stores = Stores::new(move |bucket| {
            seen.lock().unwrap().push(bucket.to_owned());
            Ok(Arc::new(InMemory::new()))
        });
        for bucket in ["a", "b", "a"] {
            stores.of(bucket).unwrap();
        }
        assert_eq!(*made.lock().unwrap(), ["a", "b"]);
    }
}
