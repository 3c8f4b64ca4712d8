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
    let permanent = match &error {
        Error::NotFound { .. }
        | Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::NotImplemented { .. }
        | Error::NotSupported { .. }
        | Error::InvalidPath { .. }
        | Error::UnknownConfigurationKey { .. } => true,
        Error::Generic { source, .. } => status(&**source).is_some_and(is_permanent),
        _ => false,
    };
    StoreError { attempted, permanent, source: Box::new(error) }
}

/// Whether a person has to change something before the same request can be answered otherwise.
fn is_permanent(status: u16) -> bool {
    // Time-outs, conflicts and throttling pass.
    (400..500).contains(&status) && !matches!(status, 408 | 409 | 429)
}

/// The HTTP status in a failure that the client does not classify, as it does with failed listings: its type is
/// not public, its words are.
fn status(error: &(dyn std::error::Error + 'static)) -> Option<u16> {
    const WORDS: &str = "status code: ";
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if let Some((_, after)) = text.split_once(WORDS) {
            return after.get(..3).and_then(|digits| digits.parse().ok());
        }
        next = error.source();
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("Error performing list request")]
    struct Outer(#[source] Inner);
    #[derive(Debug, thiserror::Error)]
    #[error("Server returned non-2xx status code: {0}: <Error><Code>NoSuchBucket</Code></Error>")]
    struct Inner(&'static str);

    #[test]
    fn a_failed_listing_is_told_by_its_status() {
        let is_permanent = |status| {
            let source = Box::new(Outer(Inner(status)));
            failed("list".to_owned(), Error::Generic { store: "S3", source }).permanent
        };
        assert!(is_permanent("404 Not Found") && is_permanent("403 Forbidden"));
        assert!(!is_permanent("503 Service Unavailable") && !is_permanent("429 Too Many Requests"));
        assert!(!is_permanent("?"));
    }
}
