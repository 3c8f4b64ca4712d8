//! What an audit can find, in words that stay the same, and what to do about each.

use std::fmt;

/// What is wrong. The names are part of the report's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Offsets between two objects belong to none.
    Gap,
    /// Offsets belong to two objects.
    Overlap,
    /// An object says that it begins elsewhere than its name.
    Name,
    /// An object's metadata can't be read.
    Metadata,
    /// Two objects of one name, with different extensions.
    Twins,
    /// One batch stands in two objects.
    Writer,
    /// An object's numbers contradict each other.
    Numbers,
    /// A skipped range lies outside of its object, or over records that it has.
    Skip,
    /// Fewer records lie in quarantine than an object has counted.
    Quarantine,
    /// A key that is no object of the chain.
    Stranger,
    /// The group's commit knows of objects behind the last one that is there.
    End,
    /// The file that says whose the objects are is missing, or can't be read.
    Manifest,
    /// The objects belong to another topic or cluster.
    Owner,
    /// The topic has no such partition.
    Partition,
    /// Records of the log that were to be handled are in no object.
    NotStored,
    /// Records that can't be lines are not in quarantine.
    NotQuarantined,
    /// A record is not the line that it should be.
    Line,
    /// Lines that no record of the log explains.
    ExtraLine,
    /// An object has another number of lines than it says.
    LineCount,
    /// An object was listed, and could not be read.
    Gone,
    /// The log ends before what was handled.
    LogEnd,
}

impl Kind {
    /// The word in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Overlap => "overlap",
            Self::Name => "name",
            Self::Metadata => "metadata",
            Self::Twins => "twins",
            Self::Writer => "writer",
            Self::Numbers => "numbers",
            Self::Skip => "skip",
            Self::Quarantine => "quarantine",
            Self::Stranger => "stranger",
            Self::End => "end",
            Self::Manifest => "manifest",
            Self::Owner => "owner",
            Self::Partition => "partition",
            Self::NotStored => "not-stored",
            Self::NotQuarantined => "not-quarantined",
            Self::Line => "line",
            Self::ExtraLine => "extra-line",
            Self::LineCount => "line-count",
            Self::Gone => "gone",
            Self::LogEnd => "log-end",
        }
    }

    /// What to do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Gap | Self::End => {
                "bring the missing object back from a version or a backup; else read the offsets again into another S3_PREFIX with another group, while Kafka has them"
            }
            Self::Overlap | Self::Writer => {
                "find out who wrote the second object (another program, a copy, a store that ignores conditions), and move it out of the folder; its records count twice meanwhile"
            }
            Self::Name | Self::Stranger | Self::Twins => {
                "move what the consumer did not write out of the folder: readers of the folder take it for data"
            }
            Self::Metadata | Self::Numbers | Self::Skip => {
                "somebody wrote or changed the object: bring it back from a version or a backup, with its metadata"
            }
            Self::Quarantine | Self::NotQuarantined => {
                "see whether somebody or a lifecycle rule deleted what lay in quarantine; Kafka may still have the records"
            }
            Self::Manifest => {
                "put the file back: without it the consumer does not start, and nothing says whose objects these are"
            }
            Self::Owner => {
                "check KAFKA_BOOTSTRAP_SERVERS, KAFKA_TOPIC and S3_PREFIX; a topic that was created again needs another prefix and another group"
            }
            Self::Partition => {
                "check that S3_PREFIX and KAFKA_TOPIC belong together; Kafka never takes partitions away"
            }
            Self::NotStored => {
                "if a lifecycle rule deleted the objects, let it keep them longer than the topic keeps records; else read the offsets again into another S3_PREFIX with another group, while Kafka has them"
            }
            Self::Line | Self::ExtraLine | Self::LineCount => {
                "somebody changed the object, or its upload was cut: bring it back from a version or a backup"
            }
            Self::Gone => {
                "run the audit again; if it stays so, somebody deletes objects, or this key may not be read"
            }
            Self::LogEnd => {
                "the cluster lost records (unclean leader election, or a restored backup): compare the log with the objects, then start with another S3_PREFIX and another group"
            }
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The objects' keys.
    pub keys: Vec<String>,
    /// The offsets that it is about, half-open, where it is about some.
    pub offsets: Option<(i64, i64)>,
    /// What exactly, in one sentence.
    pub problem: String,
}

impl Finding {
    /// About these objects.
    #[must_use]
    pub fn new(kind: Kind, keys: &[&str], problem: String) -> Self {
        Self { kind, keys: keys.iter().map(|key| (*key).to_owned()).collect(), offsets: None, problem }
    }

    /// Says which offsets, half-open.
    #[must_use]
    pub fn at(self, from: i64, to: i64) -> Self {
        Self { offsets: Some((from, to)), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.problem)
    }
}
