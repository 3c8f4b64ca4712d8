//! What stands under a record's name, and what that means for the record.

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The record itself, whoever stored it.
    Same,
    /// Something else, for ever.
    Other,
    /// Nothing.
    Absent,
}

/// Compares what was `found` with the record's `line`.
#[must_use]
pub fn standing(found: Option<&[u8]>, line: &[u8]) -> Standing {
    match found {
        Some(found) if found == line => Standing::Same,
        Some(_) => Standing::Other,
        None => Standing::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_are_the_same_record() {
        assert_eq!(standing(Some(b"{}\n"), b"{}\n"), Standing::Same);
        assert_eq!(standing(Some(b"{}"), b"{}\n"), Standing::Other);
        assert_eq!(standing(Some(b""), b"{}\n"), Standing::Other);
        assert_eq!(standing(None, b"{}\n"), Standing::Absent);
    }
}
