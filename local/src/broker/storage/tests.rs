//! Restarts, torn writes, deleted topics, folders that cannot be used.

use kafka_protocol::records::Compression;
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::core::{Core, Settings, test_batch};
use super::*;

/// A core on a folder: every change is applied, as a connection does it.
struct Kept {
    core: Core,
    storage: Storage,
}

impl Kept {
    fn open(dir: &TempDir) -> Self {
        let (storage, topics, commits) = Storage::open(dir.path()).unwrap();
        let groups = Groups::restore(Uuid::nil(), commits);
        Self { core: Core::with_groups(Settings::default(), topics, groups), storage }
    }

    fn apply(&mut self) -> Result<(), StorageError> {
        self.storage.apply(&self.core.take_changes(), &self.core)
    }

    fn create(&mut self, topic: &str, partitions: i32) -> Uuid {
        let id = self.core.create_topic(topic, partitions).unwrap();
        self.apply().unwrap();
        id
    }

    /// Appends a batch of so many records at the end.
    fn append(&mut self, partition: i32, records: usize) -> Result<(), StorageError> {
        let next = self.core.topics().partition("t", partition).unwrap().next();
        let batch = test_batch(next, &vec![1_000; records], Compression::None);
        self.core.append_raw("t", partition, batch).unwrap();
        self.apply()
    }

    /// Everything that a reader sees of topic `t`.
    fn contents(&self) -> Vec<(i64, i64, Vec<Bytes>)> {
        let topic = self.core.topics().get("t").unwrap();
        let contents = topic.partitions().iter().map(|log| {
            let batches = log.read(log.start(), log.next(), usize::MAX, true);
            (log.start(), log.next(), batches.iter().map(|batch| batch.bytes().clone()).collect())
        });
        contents.collect()
    }
}

fn delete_before(kept: &mut Kept, partition: i32, offset: i64) {
    kept.core.delete_records("t", partition, offset).unwrap();
    kept.apply().unwrap();
}

fn log_file(dir: &TempDir, topic: Uuid, partition: i32) -> PathBuf {
    dir.path().join("logs").join(format!("{topic}-{partition}.log"))
}

#[test]
fn topics_ids_and_records_survive_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut kept = Kept::open(&dir);
    let id = kept.create("t", 2);
    kept.append(0, 3).unwrap();
    kept.append(1, 1).unwrap();
    kept.append(0, 2).unwrap();
    delete_before(&mut kept, 0, 4);
    let (contents, cluster) = (kept.contents(), kept.core.topics().cluster());
    drop(kept);

    let mut kept = Kept::open(&dir);
    assert_eq!(kept.contents(), contents);
    assert_eq!(contents[0].0..contents[0].1, 4..5);
    assert_eq!(kept.core.topics().get("t").unwrap().id(), id);
    assert_eq!(kept.core.topics().cluster(), cluster);
    assert_ne!(kept.create("other", 1), id);
}

#[test]
fn deleted_topic_is_gone_and_its_id_does_not_come_back() {
    let dir = TempDir::new().unwrap();
    let mut kept = Kept::open(&dir);
    let first = kept.create("t", 1);
    kept.append(0, 1).unwrap();
    kept.core.delete_topic("t").unwrap();
    kept.apply().unwrap();
    assert!(!log_file(&dir, first, 0).exists());
    drop(kept);

    let mut kept = Kept::open(&dir);
    assert_ne!(kept.create("t", 1), first);
    assert_eq!(kept.contents(), [(0, 0, vec![])]);
}

#[test]
fn everything_deleted_leaves_the_next_offset() {
    let dir = TempDir::new().unwrap();
    let mut kept = Kept::open(&dir);
    kept.create("t", 1);
    kept.append(0, 5).unwrap();
    delete_before(&mut kept, 0, 5);
    drop(kept);
    assert_eq!(Kept::open(&dir).contents(), [(5, 5, vec![])]);
}

#[test]
fn torn_append_is_cut_off_wherever_it_tore() {
    let dir = TempDir::new().unwrap();
    let mut kept = Kept::open(&dir);
    let id = kept.create("t", 1);
    kept.append(0, 2).unwrap();
    let before = kept.contents();
    let path = log_file(&dir, id, 0);
    let whole = fs::read(&path).unwrap();
    drop(kept);
    let torn = test_batch(2, &[1, 2, 3], Compression::None);
    for length in 1..torn.len() {
        fs::write(&path, [&whole, &torn[..length]].concat()).unwrap();
        let mut kept = Kept::open(&dir);
        assert_eq!(kept.contents(), before, "{length} bytes");
        assert_eq!(fs::read(&path).unwrap(), whole);
        kept.append(0, 1).unwrap();
    }
}

#[test]
fn flipped_bit_ends_the_log_there() {
    let dir = TempDir::new().unwrap();
    let mut kept = Kept::open(&dir);
    let id = kept.create("t", 1);
    for _ in 0..3 {
        kept.append(0, 2).unwrap();
    }
    drop(kept);
    let path = log_file(&dir, id, 0);
    let mut bytes = fs::read(&path).unwrap();
    let second = bytes.len() / 3 + 80;
    bytes[second] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(Kept::open(&dir).contents()[0].1, 2);
}

#[test]
fn logs_of_unknown_topics_are_removed_and_other_files_are_not() {
    let dir = TempDir::new().unwrap();
    drop(Kept::open(&dir));
    let orphan = log_file(&dir, Uuid::from_u128(5), 3);
    let other = dir.path().join("logs").join("notes.log");
    fs::write(&orphan, "").unwrap();
    fs::write(&other, "").unwrap();
    drop(Kept::open(&dir));
    assert!(!orphan.exists() && other.exists());
}

#[test]
fn folder_in_use_is_refused_until_it_is_free() {
    let dir = TempDir::new().unwrap();
    let kept = Kept::open(&dir);
    assert!(matches!(Storage::open(dir.path()), Err(StorageError::Locked(_))));
    drop(kept);
    assert!(Storage::open(dir.path()).is_ok());
}

#[test]
fn catalog_of_another_kind_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    drop(Kept::open(&dir));
    let path = dir.path().join("broker.json");
    let good = fs::read_to_string(&path).unwrap();
    for bad in ["", "{}", &good.replace("\"format\": 1", "\"format\": 2")] {
        fs::write(&path, bad).unwrap();
        let refused = Storage::open(dir.path()).unwrap_err();
        assert!(matches!(refused, StorageError::Catalog { .. }), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
    }
}

#[test]
fn commits_survive_a_restart_and_go_with_their_topic() {
    let dir = TempDir::new().unwrap();
    let mut kept = Kept::open(&dir);
    for topic in ["t", "other"] {
        kept.create(topic, 2);
        kept.core.reset_offset("group \u{1F4B0}/\n", topic, 1, 42, false).unwrap();
        kept.apply().unwrap();
    }
    drop(kept);

    let mut kept = Kept::open(&dir);
    let offset = |kept: &Kept, topic: &str| {
        kept.core.committed("group \u{1F4B0}/\n", topic, 1).map(|committed| committed.offset)
    };
    assert_eq!((offset(&kept, "t"), offset(&kept, "other")), (Some(42), Some(42)));
    kept.core.delete_topic("t").unwrap();
    kept.apply().unwrap();
    assert!(kept.core.expire_commits("group \u{1F4B0}/\n"));
    kept.apply().unwrap();
    drop(kept);
    let kept = Kept::open(&dir);
    assert_eq!((offset(&kept, "t"), offset(&kept, "other")), (None, None));
}

#[test]
fn commits_of_a_topic_that_was_deleted_meanwhile_do_not_come_back() {
    let dir = TempDir::new().unwrap();
    let mut kept = Kept::open(&dir);
    kept.create("t", 1);
    kept.core.reset_offset("g", "t", 0, 7, false).unwrap();
    kept.apply().unwrap();
    let groups = dir.path().join("groups.json");
    let before = fs::read(&groups).unwrap();
    kept.core.delete_topic("t").unwrap();
    kept.apply().unwrap();
    kept.create("t", 1);
    drop(kept);
    // As if the process had been killed before it wrote this file.
    fs::write(&groups, before).unwrap();
    assert_eq!(Kept::open(&dir).core.committed("g", "t", 0), None);
}

#[test]
fn nothing_is_written_after_a_failed_write() {
    let dir = TempDir::new().unwrap();
    let mut kept = Kept::open(&dir);
    let id = kept.create("t", 2);
    // A folder where the file should be.
    fs::create_dir(log_file(&dir, id, 0)).unwrap();
    assert!(matches!(kept.append(0, 1), Err(StorageError::Io { .. })));
    assert!(matches!(kept.append(1, 1), Err(StorageError::Failed(_))));
    assert!(!log_file(&dir, id, 1).exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn restarted_broker_has_the_same_logs(
        steps in proptest::collection::vec((0_i32..3, 1_usize..4, proptest::option::weighted(0.2, 0_i64..20)), 0..20),
    ) {
        let dir = TempDir::new().unwrap();
        let mut kept = Kept::open(&dir);
        kept.create("t", 3);
        for (partition, records, delete) in steps {
            kept.append(partition, records).unwrap();
            if let Some(offset) = delete {
                let next = kept.core.topics().partition("t", partition).unwrap().next();
                delete_before(&mut kept, partition, offset.min(next));
            }
            let before = kept.contents();
            drop(kept);
            kept = Kept::open(&dir);
            prop_assert_eq!(kept.contents(), before);
        }
    }
}
