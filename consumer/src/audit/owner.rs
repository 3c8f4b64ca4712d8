//! Whose objects a folder holds, as its `_coinduit.json` says, against the topic as the cluster describes it.

use coinduit_common::kafka::metadata::Topic;

use super::finding::{Finding, Kind};
use crate::{compression::Compression, ledger::manifest::Manifest};

/// What is known of the objects' topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// What is wrong with the file, or with the topic.
    pub findings: Vec<Finding>,
    /// Whether the topic's log can be held against the objects.
    pub comparable: bool,
}

/// The folder's objects keep no chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{key} says that the layout is {layout:?}, which keeps no chain: the group's offset says how far the topic was handled, each object names its place in the log, and nothing in the bucket proves that none is missing; there is nothing to audit"
)]
pub struct NoChain {
    /// The file.
    pub key: String,
    /// The layout.
    pub layout: String,
}

/// How the objects of the folder are compressed, as the `stored` file says.
#[must_use]
pub fn compression(stored: &[u8]) -> Option<Compression> {
    let manifest: Manifest = serde_json::from_slice(stored).ok()?;
    Compression::read(&manifest.compression)
}

/// Compares the `stored` file at `key` with the `topic`, where the cluster has described one.
///
/// # Errors
/// [`NoChain`].
pub fn judge(
    key: &str,
    stored: Option<&[u8]>,
    has_objects: bool,
    topic: Option<&Topic>,
) -> Result<Owner, NoChain> {
    let wrong = |kind, problem: String| Owner {
        findings: vec![Finding::new(kind, &[key], problem)],
        comparable: topic.is_some() && kind == Kind::Manifest,
    };
    let Some(stored) = stored else {
        if has_objects {
            return Ok(wrong(Kind::Manifest, format!("there are objects, and {key} is missing")));
        }
        return Ok(Owner { findings: Vec::new(), comparable: topic.is_some() });
    };
    let manifest: Manifest = match serde_json::from_slice(stored) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(wrong(Kind::Manifest, format!("{key} can't be read: {error}"))),
    };
    if manifest.layout != "log" {
        return Err(NoChain { key: key.to_owned(), layout: manifest.layout });
    }
    let Some(topic) = topic else { return Ok(Owner { findings: Vec::new(), comparable: false }) };
    let mut differs = Vec::new();
    for (name, stored, here) in [
        ("cluster_id", &manifest.cluster_id, &topic.cluster_id),
        ("topic_id", &manifest.topic_id, &topic.printed_id()),
    ] {
        if stored != here {
            differs.push(format!("{name} is {stored:?} there and {here:?} in Kafka"));
        }
    }
    if differs.is_empty() {
        return Ok(Owner { findings: Vec::new(), comparable: true });
    }
    Ok(wrong(
        Kind::Owner,
        format!("{key} says that the objects belong to something else: {}", differs.join(", ")),
    ))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn topic() -> Topic {
        Topic { cluster_id: "c".to_owned(), topic_id: Uuid::from_u128(7), partitions: vec![0] }
    }

    fn manifest() -> Manifest {
        Manifest::for_topic(&topic())
    }

    fn judged(stored: Option<&[u8]>, has_objects: bool, topic: Option<&Topic>) -> (Vec<Kind>, bool) {
        let owner = judge("k", stored, has_objects, topic).unwrap();
        assert!(owner.findings.iter().all(|finding| finding.keys == ["k"] && finding.problem.contains('k')));
        (owner.findings.iter().map(|finding| finding.kind).collect(), owner.comparable)
    }

    #[test]
    fn the_topics_own_folder_can_be_compared() {
        let stored = manifest().to_bytes();
        assert_eq!(judged(Some(&stored), true, Some(&topic())), (Vec::new(), true));
        assert_eq!(judged(Some(&stored), true, None), (Vec::new(), false));
        assert_eq!(judged(None, false, Some(&topic())), (Vec::new(), true));
    }

    #[test]
    fn another_topic_or_cluster_is_found_and_not_compared() {
        for other in [
            Manifest { cluster_id: "d".to_owned(), ..manifest() },
            Manifest { topic_id: "u".to_owned(), ..manifest() },
        ] {
            assert_eq!(judged(Some(&other.to_bytes()), true, Some(&topic())), (vec![Kind::Owner], false));
        }
    }

    #[test]
    fn a_file_that_is_missing_beside_objects_or_cannot_be_read_is_found() {
        assert_eq!(judged(None, true, Some(&topic())), (vec![Kind::Manifest], true));
        assert_eq!(judged(Some(b"{}"), false, Some(&topic())), (vec![Kind::Manifest], true));
        assert_eq!(judged(Some(b"{}"), false, None), (vec![Kind::Manifest], false));
    }

    #[test]
    fn a_layout_without_chains_is_refused() {
        let stored = Manifest { layout: "record".to_owned(), ..manifest() }.to_bytes();
        assert!(judge("k", Some(&stored), false, None).unwrap_err().to_string().contains("\"record\""));
    }
}
