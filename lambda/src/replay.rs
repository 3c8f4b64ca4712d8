//! `bootstrap replay s3://bucket/prefix`: loads a bucket's history again, from a terminal.
//!
//! ```text
//! listing, in the order of keys --> a few objects at once, each as an event would have it --> both tables
//!                                     `--> progress on stderr, a summary on stdout
//! ```
//!
//! It skips what an event would skip, and says of every stop where to go on: `--from` the first key that is not known
//! to be done. Handling an object again is harmless. Nobody is alerted but whoever looks at the terminal.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use coinduit_common::{exit::Exit, report::Chain};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use object_store::{ObjectMeta, ObjectStore, path::Path};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use crate::{
    Clients, Summary,
    envelope::{self, ObjectRef},
    ingest::{IngestError, Report, ingest},
    object::ReadError,
    table::{Blame, Limits},
};

/// How long one object may take, throttled tables included.
const OBJECT_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How often to say how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// What to load again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The bucket's name.
    pub bucket: String,
    /// What the keys begin with; may be empty.
    pub prefix: String,
    /// The first key to handle.
    pub from: Option<String>,
    /// How many objects to handle at once.
    pub at_once: usize,
}

impl Settings {
    /// Reads `s3://bucket/prefix`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn source(text: &str) -> Result<(String, String), String> {
        const WANTED: &str = "write s3://bucket or s3://bucket/prefix";
        let place = text.strip_prefix("s3://").ok_or(WANTED)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(WANTED.to_owned());
        }
        if prefix.split('/').rev().skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(format!("{WANTED}, without empty, . or .. segments"));
        }
        Ok((bucket.to_owned(), prefix.to_owned()))
    }

    /// The command that goes on `from` a key.
    #[must_use]
    pub fn command(&self, from: &str) -> String {
        let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let source = format!("s3://{}/{}", self.bucket, self.prefix);
        format!("bootstrap replay {} --from {}", quote(&source), quote(from))
    }

    /// The folder to list, and what to list behind; both may take in more than is wanted.
    fn listing(&self) -> (Option<Path>, Option<Path>) {
        let folder = self.prefix.rsplit_once('/').and_then(|(folder, _)| Path::parse(folder).ok());
        let mut before = self.from.as_ref().unwrap_or(&self.prefix).clone();
        before.pop();
        (folder, Some(before).filter(|key| !key.is_empty()).and_then(|key| Path::parse(key).ok()))
    }

    fn place(&self, key: &str) -> Place {
        if self.from.as_deref().is_some_and(|from| key < from) || key < self.prefix.as_str() {
            Place::Before
        } else if key.starts_with(&self.prefix) {
            Place::Within
        } else {
            Place::Behind
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Before,
    Within,
    Behind,
}

/// How far a replay is. Keys come in their order, and are done in any.
#[derive(Debug, Default)]
struct Progress {
    under_way: BTreeSet<String>,
    failed: BTreeSet<String>,
    last: Option<String>,
}

impl Progress {
    fn begin(&mut self, key: &str) {
        self.under_way.insert(key.to_owned());
        self.last = Some(key.to_owned());
    }

    fn end(&mut self, key: &str, failed: bool) {
        self.under_way.remove(key);
        if failed {
            self.failed.insert(key.to_owned());
        }
    }

    /// The first key that is not known to be done; with all done the last one, which does no harm.
    fn checkpoint(&self) -> Option<&str> {
        let open = self.under_way.first().into_iter().chain(self.failed.first()).min();
        open.or(self.last.as_ref()).map(String::as_str)
    }
}

/// What a replay came to: its last line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// What was done.
    #[serde(flatten)]
    pub done: Summary,
    /// Objects that were not stored, or not wholly.
    pub failed: usize,
    /// Where to go on, unless all is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_from: Option<String>,
    /// Why it ended before the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The process's exit code.
    #[serde(skip)]
    pub exit: Exit,
}

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every object is stored.
    Done,
    /// Some are not, or it stopped before the end.
    Failed,
    /// It was told to stop.
    Interrupted,
}

/// Loads everything again, until `stop` is ready.
///
/// # Cancel safety
/// Dropping the future leaves objects half stored; handling them again is harmless.
pub async fn replay(settings: &Settings, clients: &Clients, stop: impl Future) -> Outcome {
    let store = match clients.stores.of(&settings.bucket) {
        Ok(store) => store,
        Err(error) => {
            let error = format!("make a client for bucket {}: {}", settings.bucket, Chain(&error));
            let done = Summary::default();
            let (status, exit) = (Status::Failed, Exit::Misconfigured);
            return Outcome { status, done, failed: 0, resume_from: None, error: Some(error), exit };
        }
    };
    let mut run = Run { settings, clients, progress: Progress::default(), done: Summary::default() };
    let ended = run.until(store, stop).await;
    run.outcome(ended)
}

/// Why a replay ended.
enum Ended {
    AtTheEnd,
    Interrupted,
    /// Going on makes no sense.
    Stopped {
        error: String,
        exit: Exit,
    },
}

struct Run<'a> {
    settings: &'a Settings,
    clients: &'a Clients,
    progress: Progress,
    done: Summary,
}

impl Run<'_> {
    async fn until(&mut self, store: Arc<dyn ObjectStore>, stop: impl Future) -> Ended {
        let (clients, settings) = (self.clients, self.settings);
        let (folder, before) = settings.listing();
        let mut listing = match &before {
            Some(before) => store.list_with_offset(folder.as_ref(), before),
            None => store.list(folder.as_ref()),
        };
        let mut listed = false;
        let mut under_way = FuturesUnordered::new();
        let mut ticks = interval(PROGRESS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop.fuse());
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => return Ended::Interrupted,
                Some((object, report)) = under_way.next(), if !under_way.is_empty() => {
                    if let Some(ended) = self.account(&object, &report) {
                        return ended;
                    }
                }
                found = listing.next(), if !listed && under_way.len() < settings.at_once => match found {
                    Some(Ok(ObjectMeta { location, .. })) => match settings.place(location.as_ref()) {
                        Place::Before => {}
                        Place::Behind => listed = true,
                        Place::Within => if let Some(object) = self.next(location.as_ref()) {
                            under_way.push(async move {
                                let deadline = Instant::now() + OBJECT_LIMIT;
                                let limits = Limits { deadline, patience: OBJECT_LIMIT };
                                let report = ingest(&object, limits, clients).await;
                                (object, report)
                            });
                        }
                    },
                    Some(Err(error)) => return listing_failed(&settings.bucket, &error),
                    None => listed = true,
                },
                _ = ticks.tick() => self.tell(),
                else => return Ended::AtTheEnd,
            }
            if listed && under_way.is_empty() {
                return Ended::AtTheEnd;
            }
        }
    }

    /// The object `key`, unless an event about it would be ignored.
    fn next(&mut self, key: &str) -> Option<ObjectRef> {
        if let Some(reason) = envelope::skipped(key) {
            debug!(key, %reason, "object ignored");
            self.done.ignored += 1;
            return None;
        }
        self.progress.begin(key);
        Some(ObjectRef { bucket: self.settings.bucket.clone(), key: key.to_owned(), version: None })
    }

    /// Adds what became of `object`; an end where the next ones would fare no better.
    fn account(&mut self, object: &ObjectRef, report: &Report) -> Option<Ended> {
        let key = object.key.as_str();
        let Report { prices, coins, rejected, described, quarantine, broken, gone, .. } = report;
        self.done.rows += prices.rows;
        self.done.coins += coins.rows;
        self.done.stale += coins.stale;
        self.done.rejected += rejected;
        self.done.ignored += usize::from(*gone);
        if *rejected > 0 {
            warn!(
                key,
                rejected,
                lines = described.join("; "),
                "lines can't be rows, they are in the quarantine"
            );
        }
        let rows = prices.failed.iter().chain(&coins.failed);
        let mut reasons: Vec<String> = broken.iter().map(|error| Chain(error).to_string()).collect();
        reasons.extend(quarantine.iter().map(|error| Chain(error).to_string()));
        reasons.extend(rows.take(3).map(|error| Chain(error).to_string()));
        self.progress.end(key, !reasons.is_empty());
        if reasons.is_empty() {
            self.done.objects += usize::from(!gone);
            return None;
        }
        let problem = reasons.join("; ");
        error!(key, problem, "object not stored");
        let forbidden = matches!(broken, Some(IngestError::Read(ReadError::Forbidden(_))));
        let refused = [prices, coins]
            .iter()
            .any(|written| written.failed.iter().any(|error| error.blame() == Blame::Table));
        (forbidden || refused)
            .then(|| Ended::Stopped { error: format!("object {key}: {problem}"), exit: Exit::Misconfigured })
    }

    /// Says how far it is, and how to go on from here.
    fn tell(&self) {
        let Some(key) = self.progress.checkpoint() else { return };
        let Summary { objects, rows, coins, rejected, .. } = self.done;
        info!(objects, rows, coins, rejected, failed = self.progress.failed.len(), from = key, "replaying");
    }

    fn outcome(self, ended: Ended) -> Outcome {
        let failed = self.progress.failed.len();
        let (status, error, exit) = match ended {
            Ended::AtTheEnd if failed == 0 => (Status::Done, None, Exit::Done),
            Ended::AtTheEnd => (Status::Failed, None, Exit::Failed),
            Ended::Interrupted => (Status::Interrupted, None, Exit::Failed),
            Ended::Stopped { error, exit } => (Status::Failed, Some(error), exit),
        };
        let from = self.progress.checkpoint().map(ToOwned::to_owned).or_else(|| self.settings.from.clone());
        let resume_from = from.filter(|_| status != Status::Done);
        Outcome { status, done: self.done, failed, resume_from, error, exit }
    }
}

fn listing_failed(bucket: &str, error: &object_store::Error) -> Ended {
    let lasting = match error {
        object_store::Error::NotFound { .. }
        | object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => true,
        _ => status(error).is_some_and(|status| matches!(status, 400..=499) && !matches!(status, 408 | 429)),
    };
    let exit = if lasting { Exit::Misconfigured } else { Exit::Failed };
    Ended::Stopped { error: format!("list bucket {bucket}: {}", Chain(error)), exit }
}

/// The HTTP status that a failed listing was answered with. object_store has no kind for it, only words in the chain.
fn status(error: &(dyn std::error::Error + 'static)) -> Option<u16> {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    chain.find_map(|error| error.to_string().split_once("status code: ")?.1.get(..3)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(prefix: &str, from: Option<&str>) -> Settings {
        let from = from.map(ToOwned::to_owned);
        Settings { bucket: "b".to_owned(), prefix: prefix.to_owned(), from, at_once: 1 }
    }

    #[test]
    fn a_source_is_a_bucket_and_what_keys_begin_with() {
        let source = |text: &str| Settings::source(text).map(|(bucket, prefix)| format!("{bucket} {prefix}"));
        for (text, read) in [
            ("s3://b", "b "),
            ("s3://b/", "b "),
            ("s3://b/a/t/", "b a/t/"),
            ("s3://b/a/partition=1/0000", "b a/partition=1/0000"),
        ] {
            assert_eq!(source(text).as_deref(), Ok(read), "{text}");
        }
        for wrong in ["b/a", "s3://", "s3:///a", "s3://b/a//b", "s3://b//", "s3://b/../a", "https://b/a"] {
            assert!(source(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_listing_takes_in_everything_that_is_wanted() {
        for (prefix, from, key) in [
            ("", None, "a.jsonl"),
            ("a", None, "a"),
            ("a/", None, "a/0.jsonl"),
            ("a/0", None, "a/0.jsonl"),
            ("a/", Some("a/0.jsonl"), "a/0.jsonl"),
            ("", Some("ä"), "ä"),
        ] {
            let settings = settings(prefix, from);
            let (folder, before) = settings.listing();
            let folder = folder.map(|folder| format!("{folder}/")).unwrap_or_default();
            assert!(key.starts_with(&folder), "{prefix} {key}");
            assert!(before.is_none_or(|before| key > before.as_ref()), "{prefix} {key}");
            assert_eq!(settings.place(key), Place::Within, "{prefix} {key}");
        }
        assert_eq!(settings("b/", None).place("a/z"), Place::Before);
        assert_eq!(settings("b/", Some("b/2")).place("b/1"), Place::Before);
        assert_eq!(settings("b/", None).place("b0"), Place::Behind);
    }

    #[test]
    fn the_checkpoint_is_the_first_key_that_is_not_done() {
        let mut progress = Progress::default();
        assert_eq!(progress.checkpoint(), None);
        for key in ["a", "b", "c"] {
            progress.begin(key);
        }
        progress.end("b", false);
        assert_eq!(progress.checkpoint(), Some("a"));
        progress.end("a", false);
        assert_eq!(progress.checkpoint(), Some("c"));
        progress.end("c", false);
        assert_eq!(progress.checkpoint(), Some("c"));
        progress.begin("d");
        progress.end("d", true);
        progress.begin("e");
        assert_eq!(progress.checkpoint(), Some("d"));
    }

    #[test]
    fn the_command_to_go_on_with_can_be_pasted() {
        assert_eq!(
            settings("a b/", None).command("a b/it's.jsonl"),
            r"bootstrap replay 's3://b/a b/' --from 'a b/it'\''s.jsonl'"
        );
    }
}
