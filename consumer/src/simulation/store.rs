//! An S3 in memory that all processes share, and how it fails: before an effect, after it, with conflicts that
//! nobody won, and with puts that arrive when nobody waits for them any more.
//!
//! A put that was begun is on the wire: it belongs to the world, and not to the process, which may be dead when it
//! lands.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{process::Origin, world::World};
use crate::ledger::bucket::{Bucket, CreateAnswer, NewObject, Page, StoreError, UserMetadata};

/// So long a client waits for an answer, its own attempts included.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Kept {
    body: Bytes,
    metadata: UserMetadata,
    since: Duration,
}

/// What is stored.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<BTreeMap<String, Kept>>);

impl Shelf {
    /// Stores `object`; create-only refuses where there is one.
    fn put(&self, object: &NewObject, create_only: bool, now: Duration) -> CreateAnswer {
        let mut kept = self.0.lock().unwrap();
        if create_only && kept.contains_key(&object.key) {
            return CreateAnswer::Exists;
        }
        let body = object.body.to_vec().into();
        kept.insert(object.key.clone(), Kept { body, metadata: object.metadata.clone(), since: now });
        CreateAnswer::Created
    }

    /// Whether somebody has begun the ledger.
    pub(super) fn is_claimed(&self) -> bool {
        self.0.lock().unwrap().contains_key(&format!("{}/_coinduit.json", super::broker::TOPIC))
    }

    /// Whether a partition has a data object.
    pub(super) fn has_objects(&self, partition: i32) -> bool {
        let folder = format!("{}/partition={partition}/", super::broker::TOPIC);
        self.0.lock().unwrap().keys().any(|key| key.starts_with(&folder))
    }

    /// Removes data objects that were stored before `then`, and keeps each partition's newest unless `all`.
    pub(super) fn expire(&self, then: Duration, all: bool) -> Vec<String> {
        let mut kept = self.0.lock().unwrap();
        let folder = format!("{}/partition=", super::broker::TOPIC);
        let keys: Vec<String> = kept.keys().filter(|key| key.starts_with(&folder)).cloned().collect();
        let partition = |key: &str| key.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let mut gone = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let is_newest = keys.get(at + 1).is_none_or(|next| partition(next) != partition(key));
            if kept[key].since < then && (all || !is_newest) {
                kept.remove(key);
                gone.push(key.clone());
            }
        }
        gone
    }
}

/// What becomes of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    FailBefore,
    FailAfter,
    ConflictBefore,
    /// It was applied, sent again by the client, and refused.
    ConflictAfter,
    /// It fails now, and is applied later.
    Late(Duration),
    /// Nothing is heard of it, and it is applied later.
    Silent(Duration),
}

/// One process's client.
pub(super) struct Client {
    pub(super) world: Arc<World>,
    pub(super) origin: Arc<Origin>,
}

fn failed(attempted: &str, key: &str) -> StoreError {
    let attempted = format!("{attempted} {key}");
    StoreError { attempted, permanent: false, source: "the connection broke".into() }
}

impl Client {
    fn fate(&self) -> Fate {
        let World { dice, .. } = &*self.world;
        if self.origin.store_is_down() {
            return Fate::FailBefore;
        }
        if !dice.happens(self.world.store_faults()) {
            return Fate::Done;
        }
        let later = || dice.millis(200..=*dice.one_of(&[2_000, 20_000, 90_000]));
        match dice.between(0..=6) {
            0 => Fate::FailBefore,
            1 => Fate::FailAfter,
            2 => Fate::ConflictBefore,
            3 => Fate::ConflictAfter,
            4 => Fate::Late(later()),
            _ => Fate::Silent(later()),
        }
    }

    /// Puts on the wire what lands even when the caller is gone, or, then, perhaps does not.
    async fn send(&self, object: &NewObject, create_only: bool) -> Result<CreateAnswer, StoreError> {
        self.origin.gate.pass().await;
        let fate = self.fate();
        if let Fate::Late(later) | Fate::Silent(later) = fate {
            self.world.is_restless_for(later + LIMIT);
        }
        let delay = self.world.dice.millis(5..=if self.world.is_healed() { 50 } else { 900 });
        let (answer, answered) = oneshot::channel();
        let (world, object) = (Arc::clone(&self.world), object.clone());
        let (key, who) = (object.key.clone(), self.origin.name.clone());
        tokio::spawn(async move {
            sleep(delay).await;
            let lost = || Err(failed("put", &object.key));
            let apply = || world.apply(&who, &object, create_only);
            let said = match fate {
                Fate::Done if answer.is_closed() && world.dice.happens(500) => {
                    let later = world.dice.millis(0..=15_000);
                    world.is_restless_for(later);
                    sleep(later).await;
                    apply();
                    return;
                }
                Fate::Done => Ok(apply()),
                Fate::FailBefore => lost(),
                Fate::FailAfter => {
                    apply();
                    lost()
                }
                Fate::ConflictBefore if create_only => Ok(CreateAnswer::Exists),
                Fate::ConflictBefore => lost(),
                Fate::ConflictAfter => {
                    apply();
                    if create_only { Ok(CreateAnswer::Exists) } else { lost() }
                }
                Fate::Late(later) => {
                    drop(answer.send(lost()));
                    sleep(later).await;
                    apply();
                    return;
                }
                Fate::Silent(later) => {
                    sleep(later).await;
                    apply();
                    // The caller's patience is over before he could hear of it.
                    sleep(LIMIT).await;
                    return;
                }
            };
            drop(answer.send(said));
        });
        let said = match timeout(LIMIT, answered).await {
            Ok(Ok(said)) => said,
            Ok(Err(_)) | Err(_) => Err(failed("put", &key)),
        };
        self.origin.gate.pass().await;
        said
    }

    /// Something that has no effect.
    async fn look<T>(
        &self,
        key: &str,
        look: impl FnOnce(&BTreeMap<String, Kept>) -> T,
    ) -> Result<T, StoreError> {
        self.origin.gate.pass().await;
        sleep(self.world.dice.millis(2..=if self.world.is_healed() { 20 } else { 300 })).await;
        let fails = self.origin.store_is_down() || self.world.dice.happens(self.world.store_faults() / 2);
        let seen =
            if fails { Err(failed("read", key)) } else { Ok(look(&self.world.shelf.0.lock().unwrap())) };
        self.origin.gate.pass().await;
        seen
    }
}

impl World {
    /// A put lands.
    fn apply(&self, who: &str, object: &NewObject, create_only: bool) -> CreateAnswer {
        let answer = self.shelf.put(object, create_only, self.now());
        if answer == CreateAnswer::Exists {
            self.tell(who, format_args!("put {}: it exists", object.key));
            return answer;
        }
        let said = |name: &str| object.metadata.get(name).map_or("", String::as_str);
        self.tell(
            who,
            format_args!(
                "stored {} to {} records {} writer {} {}",
                object.key,
                said("tooffset"),
                said("records"),
                said("writer"),
                said("skipped")
            ),
        );
        self.saw_landing(object);
        answer
    }
}

#[async_trait]
impl Bucket for Client {
    async fn create(&self, object: &NewObject) -> Result<CreateAnswer, StoreError> {
        if object.key.contains("/partition=") {
            self.origin.puts(&self.world, &object.key);
        }
        self.send(object, true).await
    }

    async fn put(&self, object: &NewObject) -> Result<(), StoreError> {
        self.send(object, false).await.map(drop)
    }

    async fn metadata(&self, key: &str) -> Result<Option<UserMetadata>, StoreError> {
        self.look(key, |kept| kept.get(key).map(|kept| kept.metadata.clone())).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.look(key, |kept| kept.get(key).map(|kept| kept.body.clone())).await
    }

    async fn keys_after(&self, folder: &str, start_after: &str, most: usize) -> Result<Page, StoreError> {
        let most = if self.world.dice.happens(300) { most.min(2) } else { most };
        self.look(folder, |kept| {
            let mut keys = kept.keys().filter(|key| key.starts_with(folder) && key.as_str() > start_after);
            let page = keys.by_ref().take(most).cloned().collect();
            Page { keys: page, more: keys.next().is_some() }
        })
        .await
    }
}
