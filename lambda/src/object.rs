//! Reads an object and cuts it into lines.
//!
//! The bucket is known only when an event names it, so stores are made on demand, and kept, because a warm
//! function sees the same bucket again.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};

/// The largest object that is read. The consumer's are 8 MiB unless it is told otherwise.
const MAX_OBJECT_BYTES: u64 = 128 << 20;

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
    /// Larger than anything that the consumer writes.
    #[error("the object has {0} bytes, {MAX_OBJECT_BYTES} are read at most")]
    TooLarge(u64),
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

/// The whole object `key`; `None` where there is none any more.
///
/// # Errors
/// [`ReadError`].
pub async fn read(store: &dyn ObjectStore, key: &str) -> Result<Option<Bytes>, ReadError> {
    let path = path(key).ok_or(ReadError::Key)?;
    let found = match store.get(&path).await {
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error @ object_store::Error::PermissionDenied { .. }) => return Err(ReadError::Forbidden(error)),
        found => found.map_err(ReadError::Store)?,
    };
    if found.meta.size > MAX_OBJECT_BYTES {
        return Err(ReadError::TooLarge(found.meta.size));
    }
    found.bytes().await.map(Some).map_err(ReadError::Store)
}

/// The path of exactly `key`. A path is more than a key: it has no empty segments, and no slash at its
/// ends, so that another object would be read.
#[must_use]
pub fn path(key: &str) -> Option<Path> {
    Path::parse(key).ok().filter(|path| path.as_ref() == key)
}

/// The lines of the object `key` with their numbers, from 1; blank ones are left out.
///
/// An object named `.json` is one record, however it is laid out.
pub fn lines<'a>(key: &str, content: &'a [u8]) -> impl Iterator<Item = (usize, &'a [u8])> {
    let whole = !key.ends_with(".jsonl");
    content
        .split(move |byte| !whole && *byte == b'\n')
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn texts(key: &str, content: &'static str) -> Vec<(usize, &'static str)> {
        lines(key, content.as_bytes()).map(|(at, line)| (at, std::str::from_utf8(line).unwrap())).collect()
    }

    #[test]
    fn lines_are_counted_with_the_blank_ones() {
        assert_eq!(
            texts("a.jsonl", "{\"a\":1}\r\n\n  \n{\"b\":2}\n{}"),
            [(1, "{\"a\":1}"), (4, "{\"b\":2}"), (5, "{}")]
        );
        assert_eq!(texts("a.jsonl", ""), []);
    }

    #[test]
    fn an_object_of_one_record_is_one_line() {
        assert_eq!(texts("BTC_1.json", "{\n \"a\": 1\n}\n"), [(1, "{\n \"a\": 1\n}")]);
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
        let store = InMemory::new();
        store.put(&path("a.jsonl").unwrap(), "{}\n".into()).await.unwrap();
        assert_eq!(read(&store, "a.jsonl").await.unwrap().as_deref(), Some(&b"{}\n"[..]));
        assert_eq!(read(&store, "b.jsonl").await.unwrap(), None);
        assert!(matches!(read(&store, "/a.jsonl").await, Err(ReadError::Key)));
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
