//! What became of a put: from what the store says to what is true.
//!
//! ```text
//! create --Created-----------------------------> Stored
//!        --Exists, error, time-out--> ask --> ours      -> Stored
//!                                         --> another's -> Superseded
//!                                         --> absent    -> put the same batch again
//! ```
//!
//! Why "exists" proves nothing: our own put may have been applied before a reply that was lost, or before a
//! 5xx that the client retried by itself; and a store answers 409 to all writers of a race, the later winner
//! among them.

use super::{
    bucket::{CreateAnswer, StoreError, UserMetadata},
    metadata::{Link, NotALink, ObjectMetadata},
    misreading::Misreading,
};

/// What to do after a create-only put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterCreate {
    /// It is stored, and it is ours.
    Stored,
    /// Nothing is known: read what stands there.
    Ask,
}

/// Reads the answer to a create-only put.
#[must_use]
pub fn after_create(answer: &Result<CreateAnswer, StoreError>) -> AfterCreate {
    match answer {
        Ok(CreateAnswer::Created) => AfterCreate::Stored,
        Ok(CreateAnswer::Exists) if Misreading::ExistsIsStored.is_made() => AfterCreate::Stored,
        Ok(CreateAnswer::Exists) | Err(_) => AfterCreate::Ask,
    }
}

/// What stands under a sealed batch's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The batch itself: it is stored.
    Ours,
    /// Another's object, even if this very process wrote it in another batch: what it holds from here on is
    /// dropped, and reading goes on at `tail`.
    Superseded {
        /// The stored end, the new tail.
        tail: i64,
    },
    /// Nothing: put the same batch again.
    Absent,
}

/// Reads what stands under the `name` of the batch that `ours` says everything about.
///
/// # Errors
/// [`NotALink`]: somebody else's object; nothing can go on until a person has looked.
pub fn standing(
    key: &str,
    name: i64,
    ours: &ObjectMetadata,
    metadata: Option<&UserMetadata>,
) -> Result<Standing, NotALink> {
    let Some(metadata) = metadata else { return Ok(Standing::Absent) };
    let link = Link::read(key, name, metadata)?;
    if link.writer == ours.writer
        || Misreading::OursByProcess.is_made() && same_process(&link.writer, &ours.writer)
    {
        Ok(Standing::Ours)
    } else if Misreading::WinnerEndsAsWe.is_made() {
        Ok(Standing::Superseded { tail: ours.to_offset })
    } else {
        Ok(Standing::Superseded { tail: link.to_offset })
    }
}

/// Whether two batches come from one process, which says nothing about whether they are the same batch.
fn same_process(one: &str, other: &str) -> bool {
    let process = |writer: &str| writer.rsplit_once('-').map(|(process, _)| process.to_owned());
    process(one) == process(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::metadata::Closed;

    fn batch(writer: &str) -> ObjectMetadata {
        ObjectMetadata {
            from_offset: 5,
            to_offset: 9,
            stored: None,
            records: 0,
            quarantined: 0,
            skipped: Vec::new(),
            writer: writer.to_owned(),
            closed: Closed::Age,
        }
    }

    fn object(writer: &str) -> UserMetadata {
        batch(writer).to_user_metadata()
    }

    #[test]
    fn only_created_is_an_answer() {
        assert_eq!(after_create(&Ok(CreateAnswer::Created)), AfterCreate::Stored);
        assert_eq!(after_create(&Ok(CreateAnswer::Exists)), AfterCreate::Ask);
        let error = StoreError { attempted: "put".to_owned(), permanent: true, source: "403".into() };
        assert_eq!(after_create(&Err(error)), AfterCreate::Ask);
    }

    #[test]
    fn lost_put_reply_is_recognised_as_our_own_write() {
        assert_eq!(standing("k", 5, &batch("p/2"), Some(&object("p/2"))), Ok(Standing::Ours));
    }

    #[test]
    fn an_earlier_batch_of_the_same_process_is_anothers() {
        assert_eq!(
            standing("k", 5, &batch("p/2"), Some(&object("p/1"))),
            Ok(Standing::Superseded { tail: 9 })
        );
    }

    #[test]
    fn a_conflict_that_nobody_won_is_put_again() {
        assert_eq!(standing("k", 5, &batch("p/2"), None), Ok(Standing::Absent));
    }

    #[test]
    fn a_foreign_object_stops_the_chain() {
        assert!(standing("k", 5, &batch("p/2"), Some(&UserMetadata::new())).is_err());
    }
}
