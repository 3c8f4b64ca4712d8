//! Amazon S3, or what speaks its language, as a [`Bucket`].

use async_trait::async_trait;
use bytes::Bytes;
use object_store::{
    Attribute, Attributes, Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    aws::AmazonS3,
    list::{PaginatedListOptions, PaginatedListStore},
    path::Path,
};

use super::bucket::{Bucket, CreateAnswer, NewObject, Page, StoreError, UserMetadata};

/// A bucket on S3.
#[derive(Debug)]
pub struct S3Bucket(AmazonS3);

impl S3Bucket {
    /// Wraps a client that is tied to one bucket.
    #[must_use]
    pub const fn new(client: AmazonS3) -> Self {
        Self(client)
    }

    async fn store(&self, object: &NewObject, mode: PutMode) -> Result<(), Error> {
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, object.content_type.into());
        for (name, value) in &object.metadata {
            attributes.insert(Attribute::Metadata(name.clone().into()), value.clone().into());
        }
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        self.0
            .put_opts(
                &path(&object.key)?,
                object.body.pieces().iter().cloned().collect::<PutPayload>(),
                options,
            )
            .await
            .map(drop)
    }
}

/// The store does not begin a listing where it was told to.
#[derive(Debug, thiserror::Error)]
#[error(
    "the store lists {0}, which lies before the place where the listing was to start; it ignores start-after"
)]
struct IgnoresStartAfter(String);

fn path(key: &str) -> Result<Path, Error> {
    Path::parse(key).map_err(Error::from)
}

fn failed(attempted: String, error: Error) -> StoreError {
    let permanent = matches!(
        error,
        Error::NotFound { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::NotImplemented { .. }
            | Error::NotSupported { .. }
            | Error::InvalidPath { .. }
            | Error::UnknownConfigurationKey { .. }
    );
    StoreError { attempted, permanent, source: Box::new(error) }
}

#[async_trait]
impl Bucket for S3Bucket {
    async fn create(&self, object: &NewObject) -> Result<CreateAnswer, StoreError> {
        match self.store(object, PutMode::Create).await {
            Ok(()) => Ok(CreateAnswer::Created),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(CreateAnswer::Exists),
            Err(error) => Err(failed(format!("create object {}", object.key), error)),
        }
    }

    async fn put(&self, object: &NewObject) -> Result<(), StoreError> {
        self.store(object, PutMode::Overwrite)
            .await
            .map_err(|error| failed(format!("put object {}", object.key), error))
    }

    async fn metadata(&self, key: &str) -> Result<Option<UserMetadata>, StoreError> {
        let attempted = || format!("read the metadata of object {key}");
        // `head` would drop the metadata.
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.0.get_opts(&path(key).map_err(|error| failed(attempted(), error))?, options).await {
            Ok(answer) => Ok(Some(user_metadata(&answer.attributes))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(attempted(), error)),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let read = async { self.0.get(&path(key)?).await?.bytes().await };
        match read.await {
            Ok(content) => Ok(Some(content)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(format!("read object {key}"), error)),
        }
    }

    async fn keys_after(&self, folder: &str, start_after: &str, most: usize) -> Result<Page, StoreError> {
        let attempted = || format!("list objects in {folder}");
        let options = PaginatedListOptions {
            offset: Some(start_after.to_owned()),
            max_keys: Some(most),
            ..PaginatedListOptions::default()
        };
        let answer =
            self.0.list_paginated(Some(folder), options).await.map_err(|error| failed(attempted(), error))?;
        let mut keys: Vec<String> =
            answer.result.objects.into_iter().map(|object| object.location.to_string()).collect();
        keys.sort_unstable();
        if let Some(first) = keys.first().filter(|first| first.as_str() <= start_after) {
            return Err(StoreError {
                attempted: attempted(),
                permanent: true,
                source: Box::new(IgnoresStartAfter(first.clone())),
            });
        }
        Ok(Page { keys, more: answer.page_token.is_some() })
    }
}

fn user_metadata(attributes: &Attributes) -> UserMetadata {
    let entries = attributes.iter().filter_map(|(name, value)| match name {
        Attribute::Metadata(name) => Some((name.to_ascii_lowercase(), value.to_string())),
        _ => None,
    });
    entries.collect()
}
