//! How a topic's objects are laid out, as `OBJECT_LAYOUT` and `COMPRESSION` say.

use std::time::Duration;

use crate::{batch::Limits, compression::Compression};

/// The layout of all objects of one topic below one prefix; it never changes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One object per batch, in a chain per partition.
    Log(Compression),
    /// One object per record ([`crate::record_layout`]), never compressed.
    Record,
}

/// With [`Layout::Record`]: so many records, and so many bytes, are stored before the group is told.
const RECORDS: u64 = 1_000;
const BYTES: usize = 1 << 20;

impl Default for Layout {
    fn default() -> Self {
        Self::Log(Compression::None)
    }
}

impl Layout {
    /// The word in `OBJECT_LAYOUT` and in `_coinduit.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log(_) => "log",
            Self::Record => "record",
        }
    }

    /// How objects are compressed.
    #[must_use]
    pub const fn compression(self) -> Compression {
        match self {
            Self::Log(compression) => compression,
            Self::Record => Compression::None,
        }
    }

    /// When a batch is closed, where the operator wants `limits`. Objects of one record wait for nothing.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Limits {
        match self {
            Self::Log(_) => limits,
            Self::Record => Limits {
                records: limits.records.min(RECORDS),
                bytes: limits.bytes.min(BYTES),
                age: Duration::ZERO,
            },
        }
    }
}
