//! What a store's answers mean for a run.

use bytes::Bytes;
use coinduit_common::kafka::metadata::Topic;

use super::{
    grant::BucketName,
    step::{Kind, Step},
};
use crate::{
    layout::Layout,
    ledger::{
        bucket::{CreateAnswer, NewObject, Page, UserMetadata},
        manifest::Manifest,
    },
};

/// An answer, or why there is none, in the store's own words.
pub type Answer<T> = Result<T, String>;

/// What a probe's content is, for people who find it.
const CONTENT: &str =
    "{\"what\":\"consumer check made this object to see whether it can; it may be deleted\"}\n";

/// The object that is made at `key`: the same always, so that another check finds it as it is.
#[must_use]
pub fn probe(key: &str) -> NewObject {
    NewObject {
        key: key.to_owned(),
        body: CONTENT.as_bytes().to_vec().into(),
        content_type: "application/json",
        metadata: UserMetadata::from([("writer".to_owned(), "consumer check".to_owned())]),
    }
}

/// What a store did with a probe. What was not asked is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The first create-only put.
    pub first: Answer<CreateAnswer>,
    /// The second one, where the first one made the object.
    pub second: Option<Answer<CreateAnswer>>,
    /// The content then.
    pub content: Option<Answer<Option<Bytes>>>,
    /// The metadata then.
    pub metadata: Option<Answer<Option<UserMetadata>>>,
}

/// What a person has to do about a failure that is told in these words.
fn way_out(said: &str, bucket: BucketName<'_>, grant: &dyn Fn() -> String) -> String {
    let says = |any: &[&str]| any.iter().any(|word| said.contains(word));
    if says(&["NoSuchBucket"]) {
        format!("create the bucket {}, or correct S3_BUCKET", bucket.name)
    } else if says(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"]) {
        "correct the AWS credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, or the role's)".to_owned()
    } else if says(&["RequestTimeTooSkewed"]) {
        "set this machine's clock; the store's differs by too much".to_owned()
    } else if says(&[
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraint",
        "301 ",
    ]) {
        format!("set AWS_REGION to the region of the bucket {}", bucket.name)
    } else if says(&["AccessDenied", "403 "]) {
        grant()
    } else if says(&["NotImplemented", "501 ", "not implemented", "ignores start-after"]) {
        "use another store: exactly once needs listings that begin where they are told to, and conditional puts (If-None-Match), as Amazon S3 has them".to_owned()
    } else {
        "see that the store is up and can be reached from here (AWS_ENDPOINT_URL_S3, AWS_REGION, proxies, firewalls, TLS), and run the check again".to_owned()
    }
}

/// Whether objects of a chain are in the topic's `folder`, and whether that could be told.
#[must_use]
pub fn list(folder: &str, bucket: BucketName<'_>, listed: &Answer<Page>) -> Step {
    match listed {
        Ok(page) if has_objects(folder, page) => Step::ok(Kind::List, folder, "there are objects"),
        Ok(_) => Step::ok(Kind::List, folder, "there are no objects yet"),
        Err(said) => Step::failed(Kind::List, folder, said).advise(way_out(said, bucket, &|| bucket.list())),
    }
}

/// Whether `page`, the first one behind `{folder}partition=`, shows objects.
#[must_use]
pub fn has_objects(folder: &str, page: &Page) -> bool {
    page.keys.iter().any(|key| key.starts_with(&format!("{folder}partition=")))
}

/// The four steps of a probe at `key`.
#[must_use]
pub fn put(key: &str, bucket: BucketName<'_>, probed: &Probed) -> Vec<Step> {
    let refused = |kind, said: &String| {
        Step::failed(kind, key, said).advise(way_out(said, bucket, &|| bucket.objects()))
    };
    let rest = [Kind::Condition, Kind::Get, Kind::Metadata];
    let created = match &probed.first {
        Err(said) => {
            let skipped = rest.map(|kind| Step::skipped(kind, key, "the object could not be created"));
            return [vec![refused(Kind::Create, said)], skipped.to_vec()].concat();
        }
        Ok(CreateAnswer::Created) => Step::ok(Kind::Create, key, "created, and it stays"),
        Ok(CreateAnswer::Exists) => Step::ok(Kind::Create, key, "it is there, from a check before"),
    };
    let condition = match (&probed.first, &probed.second) {
        (Ok(CreateAnswer::Exists), _) | (_, Some(Ok(CreateAnswer::Exists))) => {
            Step::ok(Kind::Condition, key, "the store refuses to create it again")
        }
        (_, Some(Ok(CreateAnswer::Created))) => Step::failed(
            Kind::Condition,
            key,
            "the store ignores conditions: it let the object be created twice",
        )
        .advise("use a store that honours If-None-Match, as Amazon S3 does: on this one two consumers would overwrite each other's objects, and run refuses it"),
        (_, Some(Err(said))) => refused(Kind::Condition, said),
        (_, None) => Step::skipped(Kind::Condition, key, "not tried"),
    };
    let object = probe(key);
    let content = match &probed.content {
        Some(Ok(Some(content))) if content[..] == object.body.to_vec()[..] => {
            Step::ok(Kind::Get, key, "it reads as it was written")
        }
        Some(Ok(Some(content))) => {
            Step::failed(Kind::Get, key, format!("{} bytes that no check has written", content.len()))
                .advise("delete the object, and run the check again")
        }
        Some(Ok(None)) => gone(Kind::Get, key),
        Some(Err(said)) => refused(Kind::Get, said),
        None => Step::skipped(Kind::Get, key, "not tried"),
    };
    let metadata = match &probed.metadata {
        Some(Ok(Some(metadata))) if *metadata == object.metadata => {
            Step::ok(Kind::Metadata, key, "it comes back as it was put")
        }
        Some(Ok(Some(metadata))) => Step::failed(
            Kind::Metadata,
            key,
            format!("put with {:?}, it came back with {metadata:?}", object.metadata),
        )
        .advise("use a store that keeps user metadata (x-amz-meta-...): the bounds of each object stand there; where only this object has other ones, delete it and run the check again"),
        Some(Ok(None)) => gone(Kind::Metadata, key),
        Some(Err(said)) => refused(Kind::Metadata, said),
        None => Step::skipped(Kind::Metadata, key, "not tried"),
    };
    vec![created, condition, content, metadata]
}

fn gone(kind: Kind, key: &str) -> Step {
    Step::failed(kind, key, "the store says that it exists, and that it does not")
        .advise("run the check again; if it stays, use a store whose reads show what was written")
}

/// Whether the folder is this topic's to write to. `has_objects`: whether objects of a chain are there; `topic`: what
/// Kafka says.
#[must_use]
pub fn manifest(
    key: &str,
    bucket: BucketName<'_>,
    stored: &Answer<Option<Bytes>>,
    has_objects: bool,
    topic: Option<&Topic>,
    layout: Layout,
) -> Step {
    let stored = match stored {
        Err(said) => {
            return Step::failed(Kind::Manifest, key, said)
                .advise(way_out(said, bucket, &|| bucket.objects()));
        }
        Ok(None) if has_objects => {
            return Step::failed(Kind::Manifest, key, "there are objects beside it, and it is missing")
                .advise("choose another S3_PREFIX, or put the file back");
        }
        Ok(None) => return Step::ok(Kind::Manifest, key, "not there yet; the first run makes it"),
        Ok(Some(stored)) => stored,
    };
    let Some(topic) = topic else {
        return Step::skipped(
            Kind::Manifest,
            key,
            "it is there, and not compared: Kafka has not described the topic",
        );
    };
    match Manifest::for_topic(topic).laid_out(layout).check(stored) {
        Ok(()) => Step::ok(Kind::Manifest, key, "the objects are this topic's, laid out as these settings say"),
        Err(problem) => Step::failed(
            Kind::Manifest,
            key,
            format!("the objects beside it belong to something else: {problem}"),
        )
        .advise("choose another S3_PREFIX and another KAFKA_GROUP_ID; where only layout or compression differ, set OBJECT_LAYOUT and COMPRESSION to what stands there"),
    }
}

#[cfg(test)]
mod tests {
    use coinduit_common::object_key::Prefix;
    use uuid::Uuid;

    use super::*;
    use crate::check::step::Outcome::{self, Failed, Ok as Fine, Skipped};

    const KEY: &str = "t/_check=1/_coinduit.json";

    fn with_bucket<T>(ask: impl FnOnce(BucketName<'_>) -> T) -> T {
        ask(BucketName { name: "b", prefix: &Prefix::default(), region: None })
    }

    fn good() -> Probed {
        let object = probe(KEY);
        Probed {
            first: Ok(CreateAnswer::Created),
            second: Some(Ok(CreateAnswer::Exists)),
            content: Some(Ok(Some(object.body.to_vec().into()))),
            metadata: Some(Ok(Some(object.metadata))),
        }
    }

    fn outcomes(probed: &Probed) -> Vec<Outcome> {
        with_bucket(|bucket| put(KEY, bucket, probed)).iter().map(|step| step.outcome).collect()
    }

    #[test]
    fn a_store_that_does_its_part_passes_the_first_time_and_later() {
        assert_eq!(outcomes(&good()), [Fine; 4]);
        let later = Probed { first: Ok(CreateAnswer::Exists), second: None, ..good() };
        assert_eq!(outcomes(&later), [Fine; 4]);
    }

    #[test]
    fn a_store_that_ignores_conditions_is_found_out() {
        let careless = Probed { second: Some(Ok(CreateAnswer::Created)), ..good() };
        assert_eq!(outcomes(&careless), [Fine, Failed, Fine, Fine]);
        let step = with_bucket(|bucket| put(KEY, bucket, &careless)).remove(1);
        assert!(step.found.contains("ignores conditions") && step.advice[0].contains("If-None-Match"));
    }

    #[test]
    fn what_can_not_be_created_can_not_be_read() {
        let refused = Probed {
            first: Err("create: 403 Forbidden: AccessDenied".to_owned()),
            second: None,
            content: None,
            metadata: None,
        };
        assert_eq!(outcomes(&refused), [Failed, Skipped, Skipped, Skipped]);
        let step = with_bucket(|bucket| put(KEY, bucket, &refused)).remove(0);
        assert!(step.advice[0].contains("s3:PutObject") && step.advice[0].contains("arn:aws:s3:::b/*"));
    }

    #[test]
    fn lost_metadata_other_content_and_an_object_that_is_none_are_failures() {
        let lost = Probed { metadata: Some(Ok(Some(UserMetadata::new()))), ..good() };
        assert_eq!(outcomes(&lost), [Fine, Fine, Fine, Failed]);
        let other = Probed { content: Some(Ok(Some(Bytes::from_static(b"x")))), ..good() };
        assert_eq!(outcomes(&other), [Fine, Fine, Failed, Fine]);
        let gone = Probed { content: Some(Ok(None)), metadata: Some(Ok(None)), ..good() };
        assert_eq!(outcomes(&gone), [Fine, Fine, Failed, Failed]);
    }

    #[test]
    fn each_way_of_being_refused_has_its_way_out() {
        for (said, words) in [
            ("404 Not Found: <Code>NoSuchBucket</Code>", "create the bucket b"),
            ("403 Forbidden: <Code>InvalidAccessKeyId</Code>", "AWS_ACCESS_KEY_ID"),
            ("403 Forbidden: <Code>RequestTimeTooSkewed</Code>", "clock"),
            ("301 Moved Permanently: <Code>PermanentRedirect</Code>", "AWS_REGION"),
            ("403 Forbidden: <Code>AccessDenied</Code>", "s3:ListBucket"),
            ("501 Not Implemented", "another store"),
            ("connection refused", "AWS_ENDPOINT_URL_S3"),
        ] {
            let step = with_bucket(|bucket| list("t/", bucket, &Err(said.to_owned())));
            assert!(step.outcome == Failed && step.advice[0].contains(words), "{said}: {:?}", step.advice);
        }
    }

    #[test]
    fn a_folder_is_ours_free_or_somebody_elses() {
        let topic =
            |id| Topic { cluster_id: "c".to_owned(), topic_id: Uuid::from_u128(id), partitions: vec![0] };
        let (ours, other) = (topic(1), topic(2));
        let stored = Ok(Some(Manifest::for_topic(&ours).to_bytes().into()));
        let judge = |stored: &Answer<_>, objects, topic| {
            with_bucket(|bucket| {
                manifest("t/_coinduit.json", bucket, stored, objects, topic, Layout::default())
            })
        };
        assert_eq!(judge(&Ok(None), false, Some(&ours)).outcome, Fine);
        assert_eq!(judge(&Ok(None), true, Some(&ours)).outcome, Failed);
        assert_eq!(judge(&stored, true, Some(&ours)).outcome, Fine);
        assert_eq!(judge(&stored, true, None).outcome, Skipped);
        let step = judge(&stored, true, Some(&other));
        assert!(step.outcome == Failed && step.found.contains("topic_id is"), "{}", step.found);
        assert!(step.advice[0].contains("another S3_PREFIX"));
    }
}
