//! A bucket in memory that fails as it is told: before a write, after it, or with a conflict that nobody won.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::ledger::bucket::{Bucket, CreateAnswer, NewObject, Page, StoreError, UserMetadata};

/// What happens to one create-only put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and was not applied.
    FailBefore,
    /// It fails and was applied: the reply was lost.
    FailAfter,
    /// 409 though nobody wrote.
    ConflictBefore,
    /// 412 because it was applied, and then sent again by the client.
    ConflictAfter,
    /// The store does not look at the condition.
    IgnoreCondition,
}

#[derive(Debug, Default)]
pub(crate) struct MemoryBucket {
    objects: Mutex<BTreeMap<String, (Bytes, UserMetadata)>>,
    faults: Mutex<VecDeque<Fault>>,
}

impl MemoryBucket {
    pub(crate) fn insert(&self, key: &str, metadata: UserMetadata) {
        self.objects.lock().unwrap().insert(key.to_owned(), (Bytes::new(), metadata));
    }

    pub(crate) fn remove(&self, key: &str) {
        self.objects.lock().unwrap().remove(key);
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.objects.lock().unwrap().contains_key(key)
    }

    pub(crate) fn fail_next(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    /// All objects below `folder`, in order.
    pub(crate) fn below(&self, folder: &str) -> Vec<(String, Bytes, UserMetadata)> {
        let objects = self.objects.lock().unwrap();
        objects
            .iter()
            .filter(|(key, _)| key.starts_with(folder))
            .map(|(key, (body, metadata))| (key.clone(), body.clone(), metadata.clone()))
            .collect()
    }
}

fn lost(attempted: &str) -> StoreError {
    StoreError { attempted: attempted.to_owned(), permanent: false, source: "the connection broke".into() }
}

#[async_trait]
impl Bucket for MemoryBucket {
    async fn create(&self, object: &NewObject) -> Result<CreateAnswer, StoreError> {
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            Some(Fault::FailBefore) => return Err(lost("create")),
            Some(Fault::ConflictBefore) => return Ok(CreateAnswer::Exists),
            _ => {}
        }
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(&object.key) && fault != Some(Fault::IgnoreCondition) {
            return Ok(CreateAnswer::Exists);
        }
        objects.insert(object.key.clone(), (object.body.to_vec().into(), object.metadata.clone()));
        match fault {
            Some(Fault::FailAfter) => Err(lost("create")),
            Some(Fault::ConflictAfter) => Ok(CreateAnswer::Exists),
            _ => Ok(CreateAnswer::Created),
        }
    }

    async fn put(&self, object: &NewObject) -> Result<(), StoreError> {
        self.objects
            .lock()
            .unwrap()
            .insert(object.key.clone(), (object.body.to_vec().into(), object.metadata.clone()));
        Ok(())
    }

    async fn metadata(&self, key: &str) -> Result<Option<UserMetadata>, StoreError> {
        Ok(self.objects.lock().unwrap().get(key).map(|(_, metadata)| metadata.clone()))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.objects.lock().unwrap().get(key).map(|(body, _)| body.clone()))
    }

    async fn keys_after(&self, folder: &str, start_after: &str, most: usize) -> Result<Page, StoreError> {
        let objects = self.objects.lock().unwrap();
        let mut keys = objects.keys().filter(|key| key.starts_with(folder) && key.as_str() > start_after);
        let page = keys.by_ref().take(most).cloned().collect();
        Ok(Page { keys: page, more: keys.next().is_some() })
    }
}
