//! What the ledger relies on in S3, asked of the embedded one through the client that the consumer uses.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

mod support;

use std::sync::Arc;

use coinduit_local::credentials::{Credentials, FUNCTION, USER};
use coinduit_local::event_queue::EventQueue;
use coinduit_local::s3::{PutFault, S3, S3Config};
use coinduit_local::s3_event::CreatedBy;
use futures::future::join_all;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetResult, MultipartUpload, ObjectStore, ObjectStoreExt,
    PutMode, PutOptions, PutPayload,
};
use tempfile::TempDir;

/// An S3 with the bucket `coinduit`, in a folder that goes when this goes.
struct Service {
    s3: S3,
    store: AmazonS3,
    folder: TempDir,
}

fn start() -> Service {
    start_with(None)
}

fn start_with(events: Option<Arc<EventQueue>>) -> Service {
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3::start(config(&folder, events)).unwrap();
    let store = support::store(&s3.url(), USER);
    Service { s3, store, folder }
}

fn config(folder: &TempDir, events: Option<Arc<EventQueue>>) -> S3Config {
    let directory = folder.path().join("s3");
    S3Config { address: support::any_port(), directory, buckets: vec!["coinduit".into()], events }
}

fn create() -> PutOptions {
    PutOptions::from(PutMode::Create)
}

fn create_with(metadata: &[(&'static str, &str)]) -> PutOptions {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, "application/x-ndjson".into());
    for (name, value) in metadata {
        attributes.insert(Attribute::Metadata((*name).into()), (*value).to_owned().into());
    }
    PutOptions { attributes, ..create() }
}

fn attribute(found: &GetResult, name: Attribute) -> Option<&str> {
    found.attributes.get(&name).map(AsRef::as_ref)
}

async fn body(store: &AmazonS3, key: &str) -> String {
    let bytes = store.get(&key.into()).await.unwrap().bytes().await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_key_is_created_once() {
    let Service { store, s3: _s3, folder: _folder } = start();
    let key = Path::from("crypto_prices/partition=0/00000000000000000000.jsonl");
    store.put_opts(&key, "first".into(), create()).await.unwrap();
    let again = store.put_opts(&key, "second".into(), create()).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(body(&store, key.as_ref()).await, "first");
    store.put(&key, "third".into()).await.unwrap();
    assert_eq!(body(&store, key.as_ref()).await, "third");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_creators_one_wins_with_body_and_metadata() {
    let Service { store, s3: _s3, folder: _folder } = start();
    for round in 0..20 {
        let key = Path::from(format!("race/{round:020}.jsonl"));
        let attempts = (0..16).map(|writer: usize| {
            let (store, key) = (store.clone(), key.clone());
            async move {
                // Different lengths: a mixture of two bodies would show.
                let body = PutPayload::from(format!("{writer};").repeat(1000 + writer * 997));
                let options = create_with(&[("writer", &writer.to_string())]);
                (writer, store.put_opts(&key, body, options).await)
            }
        });
        let mut winners = Vec::new();
        for (writer, result) in join_all(attempts.map(tokio::spawn)).await.into_iter().map(Result::unwrap) {
            match result {
                Ok(_) => winners.push(writer),
                Err(Error::AlreadyExists { .. }) => {}
                Err(error) => panic!("round {round}, writer {writer}: {error}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let winner = winners[0];
        assert_eq!(body(&store, key.as_ref()).await, format!("{winner};").repeat(1000 + winner * 997));
        let head = store.get_opts(&key, GetOptions { head: true, ..GetOptions::default() }).await.unwrap();
        assert_eq!(attribute(&head, Attribute::Metadata("writer".into())), Some(winner.to_string().as_str()));
    }
}

#[tokio::test]
async fn metadata_and_content_type_come_back_from_head_and_get() {
    let Service { store, s3: _s3, folder: _folder } = start();
    let key = Path::from("crypto_prices/partition=3/00000000000000000020.jsonl");
    let metadata = [("fromoffset", "20"), ("skipped", "20-50:reset,60-80:retention"), ("writer", "a b/7")];
    store.put_opts(&key, "{}\n".into(), create_with(&metadata)).await.unwrap();
    for head in [true, false] {
        let found = store.get_opts(&key, GetOptions { head, ..GetOptions::default() }).await.unwrap();
        assert_eq!(found.meta.size, 3);
        assert_eq!(attribute(&found, Attribute::ContentType), Some("application/x-ndjson"));
        for (name, value) in metadata {
            assert_eq!(attribute(&found, Attribute::Metadata(name.into())), Some(value));
        }
    }
    // A new object of the same name has nothing of the old one's.
    store.put(&key, "{}\n".into()).await.unwrap();
    let found = store.get_opts(&key, GetOptions { head: true, ..GetOptions::default() }).await.unwrap();
    assert_eq!(attribute(&found, Attribute::Metadata("writer".into())), None);
}

#[tokio::test]
async fn listings_begin_after_a_key_and_come_in_order() {
    let Service { store, s3: _s3, folder: _folder } = start();
    for number in [7, 3, 12, 0, 5] {
        let key = Path::from(format!("crypto_prices/partition=0/{number:020}.jsonl"));
        store.put(&key, "x".into()).await.unwrap();
    }
    store.put(&"crypto_prices/partition=00/other.jsonl".into(), "x".into()).await.unwrap();
    let prefix = Path::from("crypto_prices/partition=0");
    let after = Path::from(format!("crypto_prices/partition=0/{:020}.jsonl", 3));
    let found: Vec<_> = store
        .list_with_offset(Some(&prefix), &after)
        .map_ok(|object| object.location)
        .try_collect()
        .await
        .unwrap();
    let names: Vec<_> = found.iter().filter_map(|path| path.filename()).collect();
    assert_eq!(names, [5, 7, 12].map(|number| format!("{number:020}.jsonl")));
}

#[tokio::test]
async fn listings_come_in_pages() {
    let Service { store, s3: _s3, folder: _folder } = start();
    let keys: Vec<String> = (0..25).map(|number| format!("p/{number:020}.jsonl")).collect();
    for key in &keys {
        store.put(&key.as_str().into(), "x".into()).await.unwrap();
    }
    let mut found = Vec::new();
    let mut page_token = None;
    let mut pages = 0;
    loop {
        let options = PaginatedListOptions { max_keys: Some(10), page_token, ..Default::default() };
        let page = store.list_paginated(Some("p/"), options).await.unwrap();
        pages += 1;
        found.extend(page.result.objects.into_iter().map(|object| object.location.to_string()));
        page_token = page.page_token;
        if page_token.is_none() {
            break;
        }
    }
    assert_eq!((pages, found), (3, keys));
}

#[tokio::test]
async fn common_prefixes_are_found() {
    let Service { store, s3: _s3, folder: _folder } = start();
    for key in ["t/partition=0/a", "t/partition=1/a", "t/_coinduit.json"] {
        store.put(&key.into(), "x".into()).await.unwrap();
    }
    let found = store.list_with_delimiter(Some(&"t".into())).await.unwrap();
    assert_eq!(found.common_prefixes, ["t/partition=0", "t/partition=1"].map(Path::from));
    assert_eq!(found.objects[0].location.as_ref(), "t/_coinduit.json");
}

#[tokio::test]
async fn a_directory_is_no_object() {
    let Service { store, s3: _s3, folder: _folder } = start();
    store.put(&"a/b".into(), "x".into()).await.unwrap();
    assert!(matches!(store.head(&"a".into()).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.get(&"a".into()).await, Err(Error::NotFound { .. })));
    store.delete(&"a".into()).await.unwrap();
    assert_eq!(body(&store, "a/b").await, "x");
    assert!(store.put(&"a".into(), "y".into()).await.is_err());
    assert!(store.put(&"a/b/c".into(), "y".into()).await.is_err());
}

#[tokio::test]
async fn a_deleted_key_can_be_created_again() {
    let Service { store, s3: _s3, folder: _folder } = start();
    let keys = ["a", "b", "c"].map(Path::from);
    for key in &keys {
        store.put_opts(key, "x".into(), create()).await.unwrap();
    }
    let locations = futures::stream::iter(keys.clone().map(Ok)).boxed();
    let deleted: Vec<Path> = store.delete_stream(locations).try_collect().await.unwrap();
    assert_eq!(deleted, keys);
    for key in &keys {
        store.put_opts(key, "y".into(), create()).await.unwrap();
    }
}

#[tokio::test]
async fn conditions_on_reads_hold() {
    let Service { store, s3: _s3, folder: _folder } = start();
    let key = Path::from("k");
    let etag = store.put(&key, "x".into()).await.unwrap().e_tag.unwrap();
    let same = GetOptions { if_none_match: Some(etag.clone()), ..GetOptions::default() };
    assert!(matches!(store.get_opts(&key, same).await, Err(Error::NotModified { .. })));
    let right = GetOptions { if_match: Some(etag), ..GetOptions::default() };
    assert!(store.get_opts(&key, right).await.is_ok());
    let wrong = GetOptions { if_match: Some("\"no\"".into()), ..GetOptions::default() };
    assert!(matches!(store.get_opts(&key, wrong).await, Err(Error::Precondition { .. })));
}

#[tokio::test]
async fn a_missing_bucket_and_a_wrong_secret_are_refused() {
    let Service { s3, folder, .. } = start();
    std::fs::remove_dir(folder.path().join("s3/coinduit")).unwrap();
    let store = support::store(&s3.url(), USER);
    let put = store.put(&"k".into(), "x".into()).await.unwrap_err();
    assert!(format!("{put:?}").contains("NoSuchBucket"), "{put:?}");
    assert!(!folder.path().join("s3/coinduit").exists(), "a put made the bucket");

    let forged = support::store(&s3.url(), Credentials { secret_key: "guess", ..USER });
    let put = forged.put(&"k".into(), "x".into()).await;
    assert!(matches!(put, Err(Error::PermissionDenied { .. } | Error::Unauthenticated { .. })), "{put:?}");
}

#[tokio::test]
async fn a_key_that_no_file_can_have_is_refused_before_anything_is_stored() {
    let Service { store, s3: _s3, folder: _folder } = start();
    let key = Path::from(format!("{}_1.json", "X".repeat(250)));
    let put = store.put(&key, "x".into()).await.unwrap_err();
    assert!(format!("{put:?}").contains("KeyTooLongError"), "{put:?}");
    assert!(store.list(None).next().await.is_none());
}

#[tokio::test]
async fn objects_outlive_the_service() {
    let Service { s3, store, folder } = start();
    store.put_opts(&"k".into(), "x".into(), create_with(&[("writer", "me")])).await.unwrap();
    s3.stop().await;
    let s3 = S3::start(config(&folder, None)).unwrap();
    let store = support::store(&s3.url(), USER);
    let found = store.get(&"k".into()).await.unwrap();
    assert_eq!(attribute(&found, Attribute::Metadata("writer".into())), Some("me"));
    assert!(matches!(
        store.put_opts(&"k".into(), "y".into(), create()).await,
        Err(Error::AlreadyExists { .. })
    ));
}

#[tokio::test]
async fn faults_strike_before_or_after_the_write() {
    let Service { s3, store, folder: _folder } = start();
    let exists = async |key: &str| store.head(&key.into()).await.is_ok();
    let put = async |key: &str| store.put_opts(&key.into(), "x".into(), create()).await;

    s3.order_fault(PutFault::ErrorBeforeWrite);
    s3.order_fault(PutFault::ErrorAfterWrite);
    s3.order_fault(PutFault::Conflict);
    s3.order_fault(PutFault::DropBeforeWrite);
    s3.order_fault(PutFault::DropAfterWrite);
    assert!(put("before").await.is_err() && !exists("before").await);
    assert!(put("after").await.is_err() && exists("after").await);
    // The client's reading of a 409: nothing may be inferred from it.
    assert!(matches!(put("conflict").await, Err(Error::AlreadyExists { .. })));
    assert!(!exists("conflict").await);
    assert!(put("dropped before").await.is_err() && !exists("dropped before").await);
    assert!(put("dropped after").await.is_err() && exists("dropped after").await);

    put("no fault is left").await.unwrap();
}

#[tokio::test]
async fn a_delayed_reply_comes_after_the_write() {
    let Service { s3, store, folder: _folder } = start();
    s3.order_fault(PutFault::DelayAfterWrite(std::time::Duration::from_secs(3600)));
    let (key, options) = (Path::from("k"), create());
    let mut put = std::pin::pin!(store.put_opts(&key, "x".into(), options));
    support::until("the object is there, its reply is not", async || {
        assert!((&mut put).now_or_never().is_none());
        store.head(&key).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn each_new_object_is_announced_and_nothing_else_is() {
    let events = Arc::new(EventQueue::new(10));
    let Service { store, s3: _s3, folder: _folder } = start_with(Some(Arc::clone(&events)));
    let key = Path::from("crypto_prices/partition=0/1.jsonl");
    let etag = store.put_opts(&key, "first".into(), create()).await.unwrap().e_tag.unwrap();
    store.put_opts(&key, "second".into(), create()).await.unwrap_err();
    store.copy(&key, &"copied".into()).await.unwrap();
    let mut upload = store.put_multipart(&"parts".into()).await.unwrap();
    upload.put_part("a part".into()).await.unwrap();
    upload.complete().await.unwrap();
    store.delete(&key).await.unwrap();

    let seen: Vec<_> = std::iter::from_fn(|| events.try_pop()).map(|queued| queued.into_event()).collect();
    let facts: Vec<_> = seen.iter().map(|event| (event.key.as_str(), event.size, event.by)).collect();
    assert_eq!(
        facts,
        [
            (key.as_ref(), 5, CreatedBy::Put),
            ("copied", 5, CreatedBy::Copy),
            ("parts", 6, CreatedBy::CompleteMultipartUpload),
        ]
    );
    assert_eq!(format!("\"{}\"", seen[0].etag), etag);
    assert!(seen.windows(2).all(|pair| pair[0].sequencer < pair[1].sequencer));
}

#[tokio::test]
async fn a_full_event_queue_makes_writers_wait_but_not_the_function() {
    let events = Arc::new(EventQueue::new(1));
    let Service { s3, store, folder: _folder } = start_with(Some(Arc::clone(&events)));
    store.put(&"first".into(), "x".into()).await.unwrap();
    let key = Path::from("second");
    let mut waiting = std::pin::pin!(store.put(&key, "x".into()));

    let function = support::store(&s3.url(), FUNCTION);
    function.put(&"quarantine/line.json".into(), "x".into()).await.unwrap();
    assert!((&mut waiting).now_or_never().is_none());
    assert!(matches!(store.head(&key).await, Err(Error::NotFound { .. })));

    drop(events.pop().await);
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_a_whole_object_and_its_event() {
    let events = Arc::new(EventQueue::new(1));
    let Service { s3: _s3, store, folder: _folder } = start_with(Some(Arc::clone(&events)));
    store.put(&"first".into(), "x".into()).await.unwrap();
    let key = Path::from("second");
    {
        let options = create_with(&[("writer", "me")]);
        let mut put = std::pin::pin!(store.put_opts(&key, "x".into(), options));
        // The put is on its way and waits for a place; listings through the same service come back meanwhile.
        for _ in 0..20 {
            assert!((&mut put).now_or_never().is_none());
            store.list(None).next().await.unwrap().unwrap();
        }
    }
    // The service has seen that the connection is gone when it has answered others for a while.
    for _ in 0..20 {
        store.list(None).next().await.unwrap().unwrap();
    }
    drop(events.pop().await);
    support::until("the event is there", async || !events.is_empty()).await;
    assert_eq!(events.pop().await.event.key, "second");
    let found = store.get_opts(&key, GetOptions { head: true, ..GetOptions::default() }).await.unwrap();
    assert_eq!(attribute(&found, Attribute::Metadata("writer".into())), Some("me"));
}
