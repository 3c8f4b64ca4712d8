//! A topic's folder, as it is listed: which keys are objects of which partition's chain, and which are none.

use std::collections::BTreeMap;

use coinduit_common::object_key::{self, Prefix};

/// The keys in a topic's folder.
#[derive(Debug, PartialEq, Eq)]
pub struct Folder {
    path: String,
    manifest_key: String,
    /// What `consumer check` leaves behind.
    probe_key: String,
    /// By partition.
    pub partitions: BTreeMap<i32, Listed>,
    /// Keys outside of every partition's folder.
    pub strangers: Vec<String>,
}

/// The keys in a partition's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Objects of the chain: name and key.
    pub objects: Vec<(i64, String)>,
    /// Anything else.
    pub strangers: Vec<String>,
}

impl Folder {
    /// The empty folder of `topic` below `prefix`.
    #[must_use]
    pub fn new(prefix: &Prefix, topic: &str) -> Self {
        Self {
            path: object_key::topic_folder(prefix, topic),
            manifest_key: object_key::manifest(prefix, topic),
            probe_key: object_key::probe(&object_key::topic_folder(prefix, topic)),
            partitions: BTreeMap::new(),
            strangers: Vec::new(),
        }
    }

    /// Its path, which ends in `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The key of the file that says whose it is.
    #[must_use]
    pub fn manifest_key(&self) -> &str {
        &self.manifest_key
    }

    /// Takes in one key.
    pub fn add(&mut self, key: String) {
        if let Some(partition) = object_key::partition_of(&self.path, &key) {
            let listed = self.partitions.entry(partition).or_default();
            match object_key::tail_of(&format!("{}partition={partition}/", self.path), &key) {
                Some(name) => listed.objects.push((name, key)),
                None => listed.strangers.push(key),
            }
        } else if key != self.manifest_key && key != self.probe_key {
            self.strangers.push(key);
        }
    }

    /// Whether any object is there.
    #[must_use]
    pub fn has_objects(&self) -> bool {
        self.partitions.values().any(|listed| !listed.objects.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_place() {
        let mut folder = Folder::new(&Prefix::new("p").unwrap(), "t");
        let object = "p/t/partition=1/00000000000000000007.jsonl.gz";
        for key in [
            "p/t/_coinduit.json",
            "p/t/_check=1/_coinduit.json",
            object,
            "p/t/partition=1/notes.txt",
            "p/t/partition=x/00000000000000000007.jsonl",
            "p/t/readme",
        ] {
            folder.add(key.to_owned());
        }
        let listed = Listed {
            objects: vec![(7, object.to_owned())],
            strangers: vec!["p/t/partition=1/notes.txt".to_owned()],
        };
        assert_eq!(folder.partitions, BTreeMap::from([(1, listed)]));
        assert_eq!(folder.strangers, ["p/t/partition=x/00000000000000000007.jsonl", "p/t/readme"]);
        assert!(folder.has_objects());
    }
}
