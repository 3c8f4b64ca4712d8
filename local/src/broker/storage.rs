//! The broker's folder: what is there after a restart.
//!
//! ```text
//! broker.json              cluster id, topics, their ids, where each log starts; replaced as a whole
//! groups.json              what groups have committed; replaced as a whole
//! logs/{topic id}-{n}.log  the batches of partition n, as they are stored and sent, appended only
//! lock                     held by the one process that uses the folder
//! ```
//!
//! A batch is handed to the operating system before its producer gets an answer, so a killed process loses
//! nothing that was acknowledged; nor does it lose a commit. It is not synced to the disk: a power cut may lose the last records, as
//! with Kafka's defaults on one broker.
//!
//! A process killed in the middle of an append leaves a torn batch, which nobody was told about: it is cut
//! off at the next start. The first failed write ends all writing, because what comes after a lost batch
//! would hide that it is lost.

mod commits;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use uuid::Uuid;

use self::commits::StoredGroups;
use super::core::{AppendError, Batch, Change, Commits, Core, Groups, PartitionLog, Topic, Topics};

/// The layout described above.
const FORMAT: u32 = 1;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// Two brokers would destroy each other's logs.
    #[error("folder {} is used by another process: stop it, or use another folder", .0.display())]
    Locked(PathBuf),
    /// Not written by this program, or by another version of it.
    #[error("{} is not a file of format {FORMAT}: use another folder, or delete this one", path.display())]
    Catalog {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// An earlier write failed.
    #[error("nothing is written to {} since a write failed: restart the broker", .0.display())]
    Failed(PathBuf),
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Storage {
    dir: PathBuf,
    failed: bool,
    /// Locked as long as it is open.
    _lock: File,
}

impl Storage {
    /// Opens or makes a folder and reads what is in it.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed, except that torn ends of logs may have been cut off.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Topics, BTreeMap<String, Commits>), StorageError> {
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).map_err(failed("create folder", &logs))?;
        let lock = lock(dir)?;
        let storage = Self { dir: dir.to_owned(), failed: false, _lock: lock };
        let topics = match read_json(&storage.catalog_path())? {
            Some(catalog) => storage.restore(catalog)?,
            None => {
                let topics = Topics::new(Uuid::new_v4());
                storage.write_catalog(&topics)?;
                topics
            }
        };
        storage.remove_orphans(&topics)?;
        let groups: Option<StoredGroups> = read_json(&storage.groups_path())?;
        let commits = groups.map(|groups| groups.restore(&topics)).unwrap_or_default();
        Ok((storage, topics, commits))
    }

    /// Writes what changed, in order; `core` has the state after all of it.
    ///
    /// # Errors
    /// [`StorageError`], from then on at every call.
    pub(crate) fn apply(&mut self, changes: &[Change], core: &Core) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Failed(self.dir.clone()));
        }
        for change in changes {
            let done = match change {
                Change::Catalog => self.write_catalog(core.topics()),
                Change::Commits => self.write_commits(core.groups()),
                Change::Appended { topic, partition, batch } => self.append(*topic, *partition, batch),
                Change::Dropped { topic, partitions } => self.remove_logs(*topic, *partitions),
            };
            done.inspect_err(|_| self.failed = true)?;
        }
        Ok(())
    }

    /// Opens the file for each append: a thousand partitions then need no thousand open files.
    fn append(&self, topic: Uuid, partition: i32, batch: &[u8]) -> Result<(), StorageError> {
        let path = self.log_path(topic, partition);
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(batch))
            .map_err(failed("append to", &path))
    }

    fn write_catalog(&self, topics: &Topics) -> Result<(), StorageError> {
        replace_json(&self.catalog_path(), &Catalog::of(topics))
    }

    fn write_commits(&self, groups: &Groups) -> Result<(), StorageError> {
        replace_json(&self.groups_path(), &StoredGroups::of(groups))
    }

    fn remove_logs(&self, topic: Uuid, partitions: usize) -> Result<(), StorageError> {
        for partition in (0..).take(partitions) {
            remove(&self.log_path(topic, partition))?;
        }
        Ok(())
    }

    /// Removes the logs of topics that are not in the catalog: the process was killed while it deleted
    /// them. Files of other names are left alone.
    fn remove_orphans(&self, topics: &Topics) -> Result<(), StorageError> {
        let known: BTreeSet<Uuid> = topics.iter().map(|(_, topic)| topic.id()).collect();
        let logs = self.dir.join("logs");
        for entry in fs::read_dir(&logs).map_err(failed("list", &logs))? {
            let path = entry.map_err(failed("list", &logs))?.path();
            let topic = path.file_name().and_then(|name| topic_of(name.to_str()?));
            if topic.is_some_and(|topic| !known.contains(&topic)) {
                info!(path = %path.display(), "log of a deleted topic removed");
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn restore(&self, catalog: Catalog) -> Result<Topics, StorageError> {
        let mut by_name = BTreeMap::new();
        for (name, stored) in catalog.topics {
            let logs = (0..)
                .zip(stored.log_starts)
                .map(|(partition, start)| self.read_log(stored.id.0, partition, start))
                .collect::<Result<_, _>>()?;
            by_name.insert(name, Topic::restore(stored.id.0, logs));
        }
        Ok(Topics::restore(catalog.cluster.0, catalog.topics_created, by_name))
    }

    /// Reads a partition's log up to its last whole valid batch, and cuts off what follows.
    fn read_log(&self, topic: Uuid, partition: i32, start: i64) -> Result<PartitionLog, StorageError> {
        let path = self.log_path(topic, partition);
        let mut rest = match fs::read(&path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Bytes::new(),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let mut log = PartitionLog::default();
        let mut kept = 0;
        while !rest.is_empty() {
            let size = rest.len();
            let appended = Batch::split_first(&mut rest).map_err(AppendError::from);
            if let Err(reason) = appended.and_then(|batch| log.append(batch).map(drop)) {
                warn!(path = %path.display(), kept, cut = size, %reason, "torn end of a log cut off");
                OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .and_then(|file| file.set_len(kept))
                    .map_err(failed("cut off the torn end of", &path))?;
                break;
            }
            kept += u64::try_from(size - rest.len()).expect("a length fits");
        }
        log.start_at(start);
        Ok(log)
    }

    fn catalog_path(&self) -> PathBuf {
        self.dir.join("broker.json")
    }

    fn groups_path(&self) -> PathBuf {
        self.dir.join("groups.json")
    }

    fn log_path(&self, topic: Uuid, partition: i32) -> PathBuf {
        self.dir.join("logs").join(format!("{topic}-{partition}.log"))
    }
}

/// `broker.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalog {
    format: Format,
    cluster: Id,
    topics_created: u64,
    topics: BTreeMap<String, StoredTopic>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredTopic {
    id: Id,
    /// One for each partition.
    log_starts: Vec<i64>,
}

/// A UUID as text.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Id(Uuid);

/// [`FORMAT`]; reading any other number is an error.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
struct Format;

impl Catalog {
    fn of(topics: &Topics) -> Self {
        let stored = |topic: &Topic| StoredTopic {
            id: Id(topic.id()),
            log_starts: topic.partitions().iter().map(PartitionLog::start).collect(),
        };
        Self {
            format: Format,
            cluster: Id(topics.cluster()),
            topics_created: topics.created(),
            topics: topics.iter().map(|(name, topic)| (name.to_owned(), stored(topic))).collect(),
        }
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0.to_string()
    }
}

impl TryFrom<String> for Id {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<Self, uuid::Error> {
        Uuid::parse_str(&text).map(Self)
    }
}

impl From<Format> for u32 {
    fn from(_: Format) -> Self {
        FORMAT
    }
}

impl TryFrom<u32> for Format {
    type Error = String;

    fn try_from(format: u32) -> Result<Self, String> {
        if format == FORMAT { Ok(Self) } else { Err(format!("format {format} is not supported")) }
    }
}

fn replace_json(path: &Path, content: &impl Serialize) -> Result<(), StorageError> {
    let json = serde_json::to_vec_pretty(content)
        .map_err(|source| StorageError::Catalog { path: path.to_owned(), source })?;
    let new = path.with_extension("json.new");
    fs::write(&new, json).map_err(failed("write", &new))?;
    fs::rename(&new, path).map_err(failed("replace", path))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StorageError> {
    let json = match fs::read(path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|source| StorageError::Catalog { path: path.to_owned(), source })
}

fn lock(dir: &Path) -> Result<File, StorageError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(failed("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
    }
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The topic id in the name of a log file.
fn topic_of(file_name: &str) -> Option<Uuid> {
    let (id, partition) = file_name.strip_suffix(".log")?.rsplit_once('-')?;
    partition.parse::<u32>().ok()?;
    Uuid::parse_str(id).ok()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
