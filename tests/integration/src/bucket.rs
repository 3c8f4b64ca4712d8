//! What is in the bucket.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectStore, ObjectStoreExt, PutOptions};

/// A bucket.
#[derive(Debug)]
pub struct Bucket(AmazonS3);

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Where it is.
    pub key: String,
    /// What is in it.
    pub body: String,
    /// Its Content-Type.
    pub content_type: Option<String>,
    /// Its own metadata.
    pub metadata: BTreeMap<String, String>,
}

impl Object {
    /// A metadata value.
    ///
    /// # Panics
    /// When the object has none of that name.
    pub fn meta(&self, name: &str) -> &str {
        self.metadata.get(name).unwrap_or_else(|| panic!("{} has no {name}: {:?}", self.key, self.metadata))
    }

    /// A metadata value that is a number.
    ///
    /// # Panics
    /// When the object has none of that name.
    pub fn number(&self, name: &str) -> i64 {
        self.meta(name).parse().unwrap_or_else(|_| panic!("{name} of {} is no number", self.key))
    }

    /// Its lines, without line breaks.
    ///
    /// # Panics
    /// When the last one has no line break.
    pub fn lines(&self) -> Vec<&str> {
        assert!(self.body.is_empty() || self.body.ends_with('\n'), "{} ends in the middle", self.key);
        self.body.lines().collect()
    }
}

impl Bucket {
    /// What `client` is tied to.
    pub const fn new(client: AmazonS3) -> Self {
        Self(client)
    }

    /// All keys below `folder`, in order.
    ///
    /// # Panics
    /// When they can't be listed.
    pub async fn keys(&self, folder: &str) -> Vec<String> {
        let listed = self.0.list(Some(&Path::from(folder))).map_ok(|object| object.location.to_string());
        let mut keys: Vec<String> = listed.try_collect().await.expect("list objects");
        keys.sort_unstable();
        keys
    }

    /// The object at `key`.
    ///
    /// # Panics
    /// When there is none.
    pub async fn object(&self, key: &str) -> Object {
        let found = self.0.get(&Path::parse(key).expect("keys of the contract are paths")).await;
        let found = found.unwrap_or_else(|error| panic!("get {key}: {error}"));
        let mut content_type = None;
        let mut metadata = BTreeMap::new();
        for (name, value) in &found.attributes {
            match name {
                Attribute::ContentType => content_type = Some(value.to_string()),
                Attribute::Metadata(name) => drop(metadata.insert(name.to_string(), value.to_string())),
                _ => {}
            }
        }
        let body = found.bytes().await.expect("read an object");
        let body = String::from_utf8(body.into()).expect("objects are text");
        Object { key: key.to_owned(), body, content_type, metadata }
    }

    /// What is in the object at `key`, text or not.
    ///
    /// # Panics
    /// When there is none.
    pub async fn bytes(&self, key: &str) -> Bytes {
        let found = self.0.get(&Path::parse(key).expect("keys of the contract are paths")).await;
        let found = found.unwrap_or_else(|error| panic!("get {key}: {error}"));
        found.bytes().await.expect("read an object")
    }

    /// Stores `object`, whatever was there.
    ///
    /// # Panics
    /// When that fails.
    pub async fn put(&self, object: &Object) {
        let mut attributes = Attributes::new();
        for (name, value) in &object.metadata {
            attributes.insert(Attribute::Metadata(name.clone().into()), value.clone().into());
        }
        let path = Path::parse(&object.key).expect("keys of the contract are paths");
        let options = PutOptions { attributes, ..PutOptions::default() };
        self.0.put_opts(&path, object.body.clone().into(), options).await.expect("put an object");
    }

    /// Deletes the object at `key`.
    ///
    /// # Panics
    /// When that fails.
    pub async fn delete(&self, key: &str) {
        let path = Path::parse(key).expect("keys of the contract are paths");
        self.0.delete(&path).await.unwrap_or_else(|error| panic!("delete {key}: {error}"));
    }

    /// All objects below `folder`, in the order of their keys.
    ///
    /// # Panics
    /// When they can't be read.
    pub async fn objects(&self, folder: &str) -> Vec<Object> {
        let mut objects = Vec::new();
        for key in self.keys(folder).await {
            objects.push(self.object(&key).await);
        }
        objects
    }

    /// A partition's objects, in order.
    ///
    /// # Panics
    /// When they can't be read.
    pub async fn chain(&self, topic: &str, partition: i32) -> Vec<Object> {
        self.objects(&format!("{topic}/partition={partition}")).await
    }

    /// Where a partition's chain ends: 0 where there is none.
    ///
    /// # Panics
    /// When it can't be read.
    pub async fn tail(&self, topic: &str, partition: i32) -> i64 {
        match self.keys(&format!("{topic}/partition={partition}")).await.last() {
            Some(key) => self.object(key).await.number("tooffset"),
            None => 0,
        }
    }
}
