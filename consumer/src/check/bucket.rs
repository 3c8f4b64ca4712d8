//! Asks the store.

use std::{future::Future, time::Duration};

use coinduit_common::{
    kafka::metadata::Topic,
    object_key::{self, Prefix},
    report::Chain,
};
use tokio::time::timeout;

use super::{
    grant::BucketName,
    step::{Kind, Step},
    store::{self, Answer, Probed},
};
use crate::{
    layout::Layout,
    ledger::bucket::{Bucket, CreateAnswer, StoreError},
};

/// The store has so long for one answer. The client has given up before, mostly.
const LIMIT: Duration = Duration::from_secs(30);

/// Where objects are to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub name: BucketName<'a>,
    pub prefix: &'a Prefix,
    pub topic: &'a str,
    pub layout: Layout,
}

/// What the bucket has said, before anybody knows what Kafka says.
#[derive(Debug)]
pub(super) struct Asked {
    pub steps: Vec<Step>,
    /// The manifest, and whether objects are there; `None` where that was not asked.
    manifest: Option<(Answer<Option<bytes::Bytes>>, bool)>,
}

/// Asks for a listing and, where that works, for all the rest.
pub(super) async fn ask(bucket: &dyn Bucket, place: Place<'_>) -> Asked {
    let folder = object_key::topic_folder(place.prefix, place.topic);
    let listed = in_time(bucket.keys_after(&folder, &format!("{folder}partition="), 1)).await;
    let step = store::list(&folder, place.name, &listed);
    // Who may not list may still write, so that all that is missing is said at once. Where nobody answers, or nothing is
    // there, it would be the same answer again and again.
    let denied = |said: &String| said.contains("AccessDenied") || said.contains("ignores start-after");
    let mut steps = vec![step];
    if listed.as_ref().is_err_and(|said| !denied(said)) {
        steps.extend(skipped(place, &format!("{folder} could not be listed")));
        return Asked { steps, manifest: None };
    }
    for key in probes(place) {
        steps.extend(store::put(&key, place.name, &put(bucket, &key).await));
    }
    let stored = in_time(bucket.get(&object_key::manifest(place.prefix, place.topic))).await;
    let objects = listed.is_ok_and(|page| store::has_objects(&folder, &page));
    Asked { steps, manifest: Some((stored, objects)) }
}

/// Nothing could be asked.
pub(super) fn not_asked(place: Place<'_>) -> Asked {
    const WHY: &str = "there is nobody to ask as";
    let folder = object_key::topic_folder(place.prefix, place.topic);
    let list = Step::skipped(Kind::List, folder, WHY);
    Asked { steps: [vec![list], skipped(place, WHY)].concat(), manifest: None }
}

/// Everything behind the listing.
fn skipped(place: Place<'_>, why: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for key in probes(place) {
        let kinds = [Kind::Create, Kind::Condition, Kind::Get, Kind::Metadata];
        steps.extend(kinds.map(|kind| Step::skipped(kind, &key, why)));
    }
    steps.push(Step::skipped(Kind::Manifest, object_key::manifest(place.prefix, place.topic), why));
    steps
}

impl Asked {
    /// All steps, with the one about whose objects there are.
    pub(super) fn finish(mut self, place: Place<'_>, topic: Option<&Topic>) -> Vec<Step> {
        if let Some((stored, objects)) = self.manifest {
            let key = object_key::manifest(place.prefix, place.topic);
            self.steps.push(store::manifest(&key, place.name, &stored, objects, topic, place.layout));
        }
        self.steps
    }
}

/// Every place that a run writes to, as policies may tell them apart.
fn probes(place: Place<'_>) -> Vec<String> {
    let topic = object_key::topic_folder(place.prefix, place.topic);
    let mut folders = vec![topic.clone()];
    if place.layout == Layout::Record {
        folders.push(place.prefix.to_string());
    }
    folders.push(format!("{}quarantine/{}/", place.prefix, place.topic));
    folders.iter().map(|folder| object_key::probe(folder)).collect()
}

async fn put(bucket: &dyn Bucket, key: &str) -> Probed {
    let object = store::probe(key);
    let first = in_time(bucket.create(&object)).await;
    let second = match first {
        Ok(CreateAnswer::Created) => Some(in_time(bucket.create(&object)).await),
        _ => None,
    };
    let (content, metadata) = match first {
        Ok(_) => (Some(in_time(bucket.get(key)).await), Some(in_time(bucket.metadata(key)).await)),
        Err(_) => (None, None),
    };
    Probed { first, second, content, metadata }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Answer<T> {
    match timeout(LIMIT, answer).await {
        Ok(answer) => answer.map_err(|error| Chain(&error).to_string()),
        Err(_) => Err(format!("no answer within {LIMIT:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::step::Outcome,
        testing::{Fault, MemoryBucket},
    };

    async fn steps(bucket: &MemoryBucket, layout: Layout) -> Vec<Step> {
        let prefix = Prefix::new("p").unwrap();
        let name = BucketName { name: "b", prefix: &prefix, region: None };
        let place = Place { name, prefix: &prefix, topic: "t", layout };
        ask(bucket, place).await.finish(place, None)
    }

    #[tokio::test]
    async fn a_second_check_finds_what_the_first_left_and_changes_nothing() {
        let bucket = MemoryBucket::default();
        for layout in [Layout::default(), Layout::Record] {
            let first = steps(&bucket, layout).await;
            let left = bucket.below("");
            let second = steps(&bucket, layout).await;
            assert!(
                first.iter().chain(&second).all(|step| step.outcome == Outcome::Ok),
                "{first:?} {second:?}"
            );
            assert_eq!(bucket.below(""), left);
        }
        let keys: Vec<String> = bucket.below("").into_iter().map(|(key, ..)| key).collect();
        assert_eq!(
            keys,
            [
                "p/_check=1/_coinduit.json",
                "p/quarantine/t/_check=1/_coinduit.json",
                "p/t/_check=1/_coinduit.json"
            ]
        );
    }

    #[tokio::test]
    async fn a_careless_store_is_found_out_by_every_check() {
        let bucket = MemoryBucket::default();
        for _ in 0..2 {
            // As a store that never looks at conditions answers: both puts make the object.
            bucket.remove("p/t/_check=1/_coinduit.json");
            bucket.fail_next(Fault::IgnoreCondition);
            bucket.fail_next(Fault::IgnoreCondition);
            let steps = steps(&bucket, Layout::default()).await;
            let failed: Vec<Kind> =
                steps.iter().filter(|step| step.outcome == Outcome::Failed).map(|step| step.kind).collect();
            assert_eq!(failed, [Kind::Condition]);
        }
    }

    #[tokio::test]
    async fn what_a_check_leaves_is_no_object_of_the_chain() {
        let bucket = MemoryBucket::default();
        drop(steps(&bucket, Layout::default()).await);
        let again = steps(&bucket, Layout::default()).await;
        assert_eq!(again[0].found, "there are no objects yet");
    }
}
