//! s3s-fs, made right where it is not: an S3 on a directory that a pipeline can be tested against.
//!
//! Objects are plain files at `{root}/{bucket}/{key}`, which is what makes a demo worth looking into. On its own
//! s3s-fs has gaps that would make tests lie; each is closed here, and only here:
//!
//! | s3s-fs alone | here |
//! | --- | --- |
//! | looks whether a key is there, then writes: several creators of one key all succeed | one writer at a time for a key |
//! | answers 412 before it has read the body, which closes the connection under the client | reads the whole body first |
//! | finds a wrong checksum after the object was replaced | checks before |
//! | a put to a missing bucket makes the bucket; a get there says `NoSuchKey` | `NoSuchBucket` |
//! | a directory answers to HEAD like an object | `NoSuchKey` |
//! | a name that no file can have is a 500 after half of the work | a 4xx that says so, before it |
//! | If-Match of a missing key is a 412 | 404, as AWS |
//! | ignores conditions on GET and HEAD | 304 and 412 |
//! | claims to have URL-encoded a listing and has not | does not claim |
//! | a client that goes away in the middle leaves half of an object | work that has begun is finished |
//!
//! Limits that stay: a key is a path of at most about 155 bytes without empty, `.` or `..` segments, and no key
//! may be the directory of another. Listings carry no entity tags. Nothing is synced to the disk.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use s3s::crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::*;
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::sync::RwLock;

use crate::credentials;
use crate::event_queue::{EventQueue, Place};
use crate::s3_event::{CreatedBy, ObjectCreated};
use coinduit_common::clock::Clock;

/// Keys share this many locks; two keys that share one merely wait for each other.
const LOCKS: usize = 256;

/// The longest file name that file systems take, bytes.
const LONGEST_NAME: usize = 255;

/// The store. Clones are the same store.
#[derive(Clone)]
pub(super) struct Store(Arc<Inner>);

struct Inner {
    files: s3s_fs::FileSystem,
    root: PathBuf,
    locks: Vec<RwLock<()>>,
    events: Option<Arc<EventQueue>>,
    sequence: AtomicU64,
}

impl Store {
    /// Opens the directory `root`, which has to exist. Its new objects are told to `events`.
    pub(super) fn open(root: PathBuf, events: Option<Arc<EventQueue>>) -> std::io::Result<Self> {
        let files = s3s_fs::FileSystem::new(&root)
            .map_err(|error| std::io::Error::other(format!("open {}: {error:?}", root.display())))?;
        // A thousand numbers a millisecond: greater than all that an earlier run gave away.
        let first = u64::try_from(Clock::System.now().timestamp_millis()).unwrap_or(0) * 1000;
        Ok(Self(Arc::new(Inner {
            files,
            root,
            locks: (0..LOCKS).map(|_| RwLock::new(())).collect(),
            events,
            sequence: AtomicU64::new(first),
        })))
    }
}

impl Inner {
    fn lock(&self, bucket: &str, key: &str) -> &RwLock<()> {
        let mut hasher = DefaultHasher::new();
        (bucket, key).hash(&mut hasher);
        let lock = hasher.finish() % LOCKS as u64;
        &self.locks[usize::try_from(lock).expect("a remainder below 256 fits")]
    }

    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if self.root.join(bucket).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// Checks that bucket and object are there: a file, not the directory of other objects.
    fn check_object(&self, bucket: &str, key: &str) -> S3Result<()> {
        self.check_bucket(bucket)?;
        check_key(bucket, key)?;
        if self.root.join(bucket).join(key).is_file() { Ok(()) } else { Err(s3_error!(NoSuchKey)) }
    }

    /// Checks that an object can be written: its bucket is there, and no other object is in the way.
    fn check_writable(&self, bucket: &str, key: &str) -> S3Result<()> {
        self.check_bucket(bucket)?;
        check_key(bucket, key)?;
        let bucket = self.root.join(bucket);
        let path = bucket.join(key);
        let parents = path.ancestors().skip(1).take_while(|parent| *parent != bucket);
        if path.is_dir() || parents.into_iter().any(Path::is_file) {
            return Err(unsupported("one key is the directory of another"));
        }
        Ok(())
    }

    /// A place for the event of a new object, before it is written.
    async fn reserve<T>(&self, request: &S3Request<T>) -> Option<Place> {
        let events = self.events.as_ref()?;
        let by_function = request
            .credentials
            .as_ref()
            .is_some_and(|caller| caller.access_key == credentials::FUNCTION.access_key);
        Some(if by_function { events.reserve_beyond_capacity() } else { events.reserve().await })
    }

    fn announce(&self, place: Option<Place>, object: Created<'_>) {
        if let (Some(events), Some(place)) = (&self.events, place) {
            let event = ObjectCreated {
                bucket: object.bucket.to_owned(),
                key: object.key.to_owned(),
                size: object.size,
                etag: object.etag.map(|tag| tag.value().to_owned()).unwrap_or_default(),
                sequencer: self.sequence.fetch_add(1, Ordering::Relaxed),
                at: Clock::System.now(),
                by: object.by,
            };
            events.push(event, place);
        }
    }

    /// Puts an object whose body is there and checked.
    async fn put(
        &self,
        request: S3Request<PutObjectInput>,
        size: u64,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let place = self.reserve(&request).await;
        let _writing = self.lock(&bucket, &key).write().await;
        self.check_writable(&bucket, &key)?;
        if request.input.if_match.is_some() {
            self.check_object(&bucket, &key)?;
        }
        let response = self.files.put_object(request).await?;
        let etag = response.output.e_tag.as_ref();
        self.announce(place, Created { bucket: &bucket, key: &key, size, etag, by: CreatedBy::Put });
        Ok(response)
    }

    async fn complete(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let place = self.reserve(&request).await;
        let _writing = self.lock(&bucket, &key).write().await;
        self.check_writable(&bucket, &key)?;
        let head = head_request(&request, &bucket, &key);
        let response = self.files.complete_multipart_upload(request).await?;
        self.announce_stored(place, head, CreatedBy::CompleteMultipartUpload).await?;
        Ok(response)
    }

    async fn copy(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        if let CopySource::Bucket { bucket, key, .. } = &request.input.copy_source {
            self.check_object(bucket, key)?;
        }
        let place = self.reserve(&request).await;
        // The source is not locked: two copies that cross would wait for each other.
        let _writing = self.lock(&bucket, &key).write().await;
        self.check_writable(&bucket, &key)?;
        let head = head_request(&request, &bucket, &key);
        let response = self.files.copy_object(request).await?;
        self.announce_stored(place, head, CreatedBy::Copy).await?;
        Ok(response)
    }

    /// Announces an object whose size and tag are only known to the store.
    async fn announce_stored(
        &self,
        place: Option<Place>,
        head: S3Request<HeadObjectInput>,
        by: CreatedBy,
    ) -> S3Result<()> {
        let (bucket, key) = (head.input.bucket.clone(), head.input.key.clone());
        let stored = self.files.head_object(head).await?.output;
        let size = stored.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        self.announce(place, Created { bucket: &bucket, key: &key, size, etag: stored.e_tag.as_ref(), by });
        Ok(())
    }

    async fn delete(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let _writing = self.lock(&bucket, &key).write().await;
        match self.check_object(&bucket, &key) {
            // Deleting what is not there is a success.
            Err(error) if *error.code() == S3ErrorCode::NoSuchKey => {
                Ok(S3Response::new(DeleteObjectOutput::default()))
            }
            Err(error) => Err(error),
            Ok(()) => self.files.delete_object(request).await,
        }
    }
}

/// A new object, for its event.
struct Created<'a> {
    bucket: &'a str,
    key: &'a str,
    size: u64,
    etag: Option<&'a ETag>,
    by: CreatedBy,
}

#[async_trait::async_trait]
impl S3 for Store {
    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let body = read_whole(request.input.body.take()).await?;
        claim_trailers(&mut request);
        check_claims(&request.input, &body)?;
        let size = body.len() as u64;
        request.input.body = Some(StreamingBlob::from(Body::from(body)));
        let inner = Arc::clone(&self.0);
        to_the_end(async move { inner.put(request, size).await }).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = &request.input;
        let conditions = Conditions {
            if_match: input.if_match.clone(),
            if_none_match: input.if_none_match.clone(),
            if_modified_since: input.if_modified_since.clone(),
            if_unmodified_since: input.if_unmodified_since.clone(),
        };
        let _reading = self.0.lock(&input.bucket, &input.key).read().await;
        self.0.check_object(&input.bucket, &input.key)?;
        // The open file stays the object it was, so the lock need not outlive this call.
        let response = self.0.files.get_object(request).await?;
        conditions.check(response.output.e_tag.as_ref(), response.output.last_modified.as_ref())?;
        Ok(response)
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = &request.input;
        let conditions = Conditions {
            if_match: input.if_match.clone(),
            if_none_match: input.if_none_match.clone(),
            if_modified_since: input.if_modified_since.clone(),
            if_unmodified_since: input.if_unmodified_since.clone(),
        };
        let _reading = self.0.lock(&input.bucket, &input.key).read().await;
        self.0.check_object(&input.bucket, &input.key)?;
        let response = self.0.files.head_object(request).await?;
        conditions.check(response.output.e_tag.as_ref(), response.output.last_modified.as_ref())?;
        Ok(response)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.delete(request).await
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let (bucket, wanted) = (request.input.bucket.clone(), request.input.delete.clone());
        let mut deleted = Vec::new();
        let mut errors = Vec::new();
        for object in wanted.objects {
            let key = object.key;
            let input = DeleteObjectInput { bucket: bucket.clone(), key: key.clone(), ..Default::default() };
            match self.0.delete(same_caller(&request, input)).await {
                Ok(_) => deleted.push(DeletedObject { key: Some(key), ..Default::default() }),
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    key: Some(key),
                    message: error.message().map(str::to_owned),
                    version_id: None,
                }),
            }
        }
        let quiet = wanted.quiet.unwrap_or(false);
        let output = DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            errors: (!errors.is_empty()).then_some(errors),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move { inner.copy(request).await }).await
    }

    async fn list_objects_v2(
        &self,
        mut request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.0.check_bucket(&request.input.bucket)?;
        request.input.encoding_type = None;
        self.0.files.list_objects_v2(request).await
    }

    async fn list_objects(
        &self,
        mut request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        self.0.check_bucket(&request.input.bucket)?;
        request.input.encoding_type = None;
        self.0.files.list_objects(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.0.check_writable(&request.input.bucket, &request.input.key)?;
        self.0.files.create_multipart_upload(request).await
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        self.0.files.upload_part(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move { inner.complete(request).await }).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.0.files.abort_multipart_upload(request).await
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        self.0.files.list_parts(request).await
    }

    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.0.files.create_bucket(request).await
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.0.files.head_bucket(request).await
    }

    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        self.0.files.list_buckets(request).await
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.0.files.get_bucket_location(request).await
    }
}

/// Does `work` to its end, also when the client goes away and the server drops the request's future: an object
/// is written in several steps, and its event comes last.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = S3Result<T>> + Send + 'static,
) -> S3Result<T> {
    tokio::spawn(work).await.map_err(S3Error::internal_error)?
}

async fn read_whole(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(mut body) = body else { return Ok(Bytes::new()) };
    let mut whole = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| {
            S3Error::with_message(S3ErrorCode::IncompleteBody, format!("the body could not be read: {error}"))
        })?;
        whole.extend_from_slice(&chunk);
    }
    Ok(Bytes::from(whole))
}

/// Moves checksums that came behind the body to where those stand that came before it.
fn claim_trailers(request: &mut S3Request<PutObjectInput>) {
    let trailers = request.trailing_headers.take().and_then(|trailers| trailers.take()).unwrap_or_default();
    let claim = |name: &str| Some(trailers.get(name)?.to_str().ok()?.to_owned());
    let input = &mut request.input;
    input.checksum_crc32 = input.checksum_crc32.take().or_else(|| claim("x-amz-checksum-crc32"));
    input.checksum_crc32c = input.checksum_crc32c.take().or_else(|| claim("x-amz-checksum-crc32c"));
    input.checksum_sha1 = input.checksum_sha1.take().or_else(|| claim("x-amz-checksum-sha1"));
    input.checksum_sha256 = input.checksum_sha256.take().or_else(|| claim("x-amz-checksum-sha256"));
    input.checksum_crc64nvme = input.checksum_crc64nvme.take().or_else(|| claim("x-amz-checksum-crc64nvme"));
    // The checksums that are there say which algorithms to use; an algorithm without one has nothing to check.
    input.checksum_algorithm = None;
}

/// Checks the body against every checksum that the request claims for it.
fn check_claims(input: &PutObjectInput, body: &[u8]) -> S3Result<()> {
    check_claim::<Md5>("Content-MD5", input.content_md5.as_deref(), body)?;
    check_claim::<Crc32>("CRC32", input.checksum_crc32.as_deref(), body)?;
    check_claim::<Crc32c>("CRC32C", input.checksum_crc32c.as_deref(), body)?;
    check_claim::<Sha1>("SHA1", input.checksum_sha1.as_deref(), body)?;
    check_claim::<Sha256>("SHA256", input.checksum_sha256.as_deref(), body)?;
    check_claim::<Crc64Nvme>("CRC64NVME", input.checksum_crc64nvme.as_deref(), body)
}

fn check_claim<C: Checksum>(name: &str, claimed: Option<&str>, body: &[u8]) -> S3Result<()> {
    let Some(claimed) = claimed else { return Ok(()) };
    let actual = BASE64_STANDARD.encode(C::checksum(body));
    if actual == claimed {
        Ok(())
    } else {
        let message = format!("{name} of the body is {actual}, the request says {claimed}");
        Err(S3Error::with_message(S3ErrorCode::BadDigest, message))
    }
}

/// The conditions of a GET or HEAD.
struct Conditions {
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    /// Source: RFC 9110, section 13.2.2 (a tag, where there is one, decides instead of the time).
    fn check(&self, etag: Option<&ETag>, modified: Option<&Timestamp>) -> S3Result<()> {
        let is = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(wanted) => etag.is_some_and(|etag| etag.weak_cmp(wanted)),
        };
        let since = |time: &Timestamp| modified.is_some_and(|modified| modified > time);
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) if !is(condition) => return Err(s3_error!(PreconditionFailed)),
            (None, Some(time)) if since(time) => return Err(s3_error!(PreconditionFailed)),
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) if is(condition) => Err(s3_error!(NotModified)),
            (None, Some(time)) if !since(time) => Err(s3_error!(NotModified)),
            _ => Ok(()),
        }
    }
}

/// Checks that files can have this key's names: its own, and the one that s3s-fs gives to its attributes.
fn check_key(bucket: &str, key: &str) -> S3Result<()> {
    if key.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(unsupported("a key's segments are not empty, . or .."));
    }
    let encoded = |name: &str| name.len().div_ceil(3) * 4;
    let attributes = ".bucket-.object-.metadata.json".len() + encoded(bucket) + encoded(key);
    if attributes > LONGEST_NAME {
        let message = "the embedded store keeps objects in files, whose names limit keys to about 155 bytes";
        return Err(S3Error::with_message(S3ErrorCode::KeyTooLongError, message));
    }
    Ok(())
}

fn unsupported(why: &str) -> S3Error {
    let message = format!("the embedded store keeps objects in files: {why}");
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
}

fn head_request<T>(request: &S3Request<T>, bucket: &str, key: &str) -> S3Request<HeadObjectInput> {
    same_caller(
        request,
        HeadObjectInput { bucket: bucket.to_owned(), key: key.to_owned(), ..Default::default() },
    )
}

/// Another operation on behalf of the one who sent `request`.
fn same_caller<T, U>(request: &S3Request<T>, input: U) -> S3Request<U> {
    S3Request {
        input,
        method: request.method.clone(),
        uri: request.uri.clone(),
        headers: request.headers.clone(),
        extensions: request.extensions.clone(),
        credentials: request.credentials.clone(),
        region: request.region.clone(),
        service: request.service.clone(),
        trailing_headers: None,
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn store() -> (Store, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bucket")).unwrap();
        (Store::open(folder.path().to_owned(), None).unwrap(), folder)
    }

    fn request<T>(input: T) -> S3Request<T> {
        S3Request {
            input,
            method: hyper::Method::PUT,
            uri: hyper::Uri::from_static("/"),
            headers: hyper::HeaderMap::new(),
            extensions: hyper::http::Extensions::new(),
            credentials: None,
            region: None,
            service: None,
            trailing_headers: None,
        }
    }

    fn put(key: &str, body: &'static str) -> PutObjectInput {
        PutObjectInput {
            bucket: "bucket".to_owned(),
            key: key.to_owned(),
            body: Some(StreamingBlob::from(Body::from(Bytes::from_static(body.as_bytes())))),
            ..Default::default()
        }
    }

    async fn code(store: &Store, input: PutObjectInput) -> S3ErrorCode {
        match store.put_object(request(input)).await {
            Ok(_) => panic!("the put succeeded"),
            Err(error) => error.code().clone(),
        }
    }

    #[tokio::test]
    async fn a_body_that_is_not_what_was_claimed_replaces_nothing() {
        let (store, folder) = store();
        store.put_object(request(put("k", "old"))).await.unwrap();
        // CRC32C and MD5 of "123456789", the check values of both algorithms' catalogues.
        let (crc32c, md5) = ("4waSgw==", "JfnnlDI7RTiF9RgfG2JNCw==");
        let claims = |body| PutObjectInput {
            checksum_crc32c: Some(crc32c.to_owned()),
            content_md5: Some(md5.to_owned()),
            ..put("k", body)
        };
        assert_eq!(code(&store, claims("12345678?")).await, S3ErrorCode::BadDigest);
        assert_eq!(std::fs::read_to_string(folder.path().join("bucket/k")).unwrap(), "old");
        store.put_object(request(claims("123456789"))).await.unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("bucket/k")).unwrap(), "123456789");
    }

    #[tokio::test]
    async fn if_match_of_a_missing_key_is_not_found() {
        let (store, _folder) = store();
        let input = PutObjectInput { if_match: Some(ETagCondition::Any), ..put("k", "x") };
        assert_eq!(code(&store, input).await, S3ErrorCode::NoSuchKey);
    }

    #[tokio::test]
    async fn keys_that_are_no_paths_are_refused() {
        let (store, folder) = store();
        for key in ["a//b", "a/../../b", "./a", "a/"] {
            assert_eq!(code(&store, put(key, "x")).await, S3ErrorCode::InvalidArgument, "{key}");
        }
        assert_eq!(std::fs::read_dir(folder.path().join("bucket")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn the_longest_key_has_room_for_its_attributes() {
        let (store, _folder) = store();
        let fits =
            (0..1000).take_while(|length| check_key("bucket", &"k".repeat(*length + 1)).is_ok()).count();
        store.put_object(request(put(&"k".repeat(fits), "x"))).await.unwrap();
        assert_eq!(code(&store, put(&"k".repeat(fits + 1), "x")).await, S3ErrorCode::KeyTooLongError);
        assert!(fits >= 150, "{fits}");
    }
}
