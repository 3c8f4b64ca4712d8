//! Whose objects a topic's folder holds: `_coinduit.json`, created once, never changed.
//!
//! Two clusters, two topics of one name, or two layouts in one folder would each be a chain that continues
//! from the other's tail. So before anything is written, the file is created or compared; and it is put a second
//! time, which the store must refuse: one that does not ignores conditions, and there is no exactly-once on it.

use coinduit_common::kafka::metadata::Topic;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of names, lines and metadata.
    pub format: u32,
    /// The Kafka cluster's id.
    pub cluster_id: String,
    /// The topic's id, as Kafka's tools print it.
    pub topic_id: String,
    /// How objects are laid out: `log` or `record`.
    pub layout: String,
    /// How they are compressed: `none`, `gzip` or `zstd`.
    pub compression: String,
}

impl Manifest {
    /// The file for `topic` as a consumer writes it that is told nothing.
    #[must_use]
    pub fn for_topic(topic: &Topic) -> Self {
        Self {
            format: 1,
            cluster_id: topic.cluster_id.clone(),
            topic_id: topic.printed_id(),
            layout: Layout::default().name().to_owned(),
            compression: Layout::default().compression().name().to_owned(),
        }
    }

    /// The same, of objects that are laid out otherwise.
    #[must_use]
    pub fn laid_out(self, layout: Layout) -> Self {
        Self { layout: layout.name().to_owned(), compression: layout.compression().name().to_owned(), ..self }
    }

    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("strings and numbers are written to memory");
        text.push(b'\n');
        text
    }

    /// Compares the `stored` file with this one.
    ///
    /// # Errors
    /// [`OtherOwner`]: every member that differs, by name.
    pub fn check(&self, stored: &[u8]) -> Result<(), OtherOwner> {
        let read: Self = serde_json::from_slice(stored)
            .map_err(|error| OtherOwner(format!("it can't be read ({error})")))?;
        let mut differs = Vec::new();
        let mut compare = |name: &str, stored: &str, ours: &str| {
            if stored != ours {
                differs.push(format!("{name} is {stored:?} there and {ours:?} here"));
            }
        };
        compare("format", &read.format.to_string(), &self.format.to_string());
        compare("cluster_id", &read.cluster_id, &self.cluster_id);
        compare("topic_id", &read.topic_id, &self.topic_id);
        compare("layout", &read.layout, &self.layout);
        compare("compression", &read.compression, &self.compression);
        if differs.is_empty() { Ok(()) } else { Err(OtherOwner(differs.join(", "))) }
    }
}

/// The folder's objects belong to something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OtherOwner(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: 1,
            cluster_id: "c".to_owned(),
            topic_id: "t".to_owned(),
            layout: "log".to_owned(),
            compression: "none".to_owned(),
        }
    }

    #[test]
    fn its_own_file_is_accepted() {
        assert_eq!(manifest().check(&manifest().to_bytes()), Ok(()));
    }

    #[test]
    fn every_difference_is_named() {
        let other = Manifest { topic_id: "u".to_owned(), compression: "gzip".to_owned(), ..manifest() };
        let error = manifest().check(&other.to_bytes()).unwrap_err().to_string();
        assert_eq!(
            error,
            "topic_id is \"u\" there and \"t\" here, compression is \"gzip\" there and \"none\" here"
        );
        assert!(manifest().check(b"{}").unwrap_err().to_string().starts_with("it can't be read"));
    }
}
