//! What the ledger asks of an object store, and nothing more.
//!
//! The trait is the seam where tests put a store that fails before and after writes, lies with 409 and loses
//! replies. [`super::s3`] is the real one.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

/// User metadata: names in lower case, without hyphens.
pub type UserMetadata = BTreeMap<String, String>;

/// An object's content, in pieces that are never moved. Cheap to clone, for every attempt at a put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body(Arc<[Bytes]>);

impl Body {
    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        &self.0
    }

    /// All of it in one piece.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.0.concat()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new([Bytes::from(bytes)]))
    }
}

impl<B: Into<Bytes>> FromIterator<B> for Body {
    fn from_iter<I: IntoIterator<Item = B>>(pieces: I) -> Self {
        Self(pieces.into_iter().map(Into::into).collect())
    }
}

/// An object to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewObject {
    /// Where.
    pub key: String,
    /// The content.
    pub body: Body,
    /// Its type, such as `application/x-ndjson`.
    pub content_type: &'static str,
    /// What a reader learns without reading it.
    pub metadata: UserMetadata,
}

/// What a store says to a create-only put. Only [`CreateAnswer::Created`] is an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateAnswer {
    /// This put made the object.
    Created,
    /// 412, or 409: there is an object, or somebody tries to make one, perhaps we ourselves.
    Exists,
}

/// Some of a folder's keys, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<String>,
    /// Whether keys follow behind the last one.
    pub more: bool,
}

/// The store did not do what it was asked for, or did not say so.
#[derive(Debug, thiserror::Error)]
#[error("{attempted}")]
pub struct StoreError {
    /// What was attempted, with the key.
    pub attempted: String,
    /// Whether somebody has to change something (credentials, permissions, the bucket) before it can work.
    pub permanent: bool,
    /// The client's word.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A bucket.
#[async_trait]
pub trait Bucket: Send + Sync {
    /// Creates the object if its key is free.
    ///
    /// # Errors
    /// [`StoreError`]: it may be stored all the same, now or later.
    async fn create(&self, object: &NewObject) -> Result<CreateAnswer, StoreError>;

    /// Stores the object, whatever was there. For content that is a function of its key.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put(&self, object: &NewObject) -> Result<(), StoreError>;

    /// The object's user metadata; `None` where there is no object.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn metadata(&self, key: &str) -> Result<Option<UserMetadata>, StoreError>;

    /// The object's content; `None` where there is no object.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// The keys in `folder` (it ends in `/`) that sort behind `start_after`: the first `most` of them, at
    /// most 1,000, with nothing left out between them.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn keys_after(&self, folder: &str, start_after: &str, most: usize) -> Result<Page, StoreError>;
}
