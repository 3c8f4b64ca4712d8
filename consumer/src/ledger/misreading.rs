//! The rules of the ledger, as the mistakes that break them. A consumer makes none of them; the simulation lets
//! it make one at a time, to show that it would notice.
//!
//! Each mistake stands beside the rule that it breaks: where [`Misreading::is_made`] is asked, the code
//! around it is what keeps a record from being lost or repeated.

/// One way to get the ledger wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misreading {
    /// An object is named by where it ends: two writers at one tail both succeed.
    EndInName,
    /// An object is named by its first record: what was stepped over before it makes another name.
    FirstRecordInName,
    /// "Already exists" is taken for "stored".
    ExistsIsStored,
    /// Another's object is taken to end where ours would have.
    WinnerEndsAsWe,
    /// An object of this process is taken for the very batch, though it is an earlier one.
    OursByProcess,
    /// What was read behind a batch is kept though another's object stands in its place.
    ReadAheadKept,
    /// A put goes on under the same name, however long ago its tail was read.
    StalePutGoesOn,
    /// What was read is committed, though it is not stored.
    ReadIsHandled,
    /// Another member's skips are forgotten: a commit of ours is taken for its offset alone.
    SkipsForgotten,
    /// A commit that is not ours is believed as if it were.
    ForeignCommitBelieved,
    /// Reading starts before its first answer is committed, so that `latest` may be asked twice.
    FirstAnswerNotCommitted,
    /// A commit carries no more than one of the skips that no object has recorded.
    OneSkipPerCommit,
    /// Records are quarantined after the object that steps over them.
    QuarantineAfterwards,
    /// Puts start on a membership that has lapsed.
    LapseIgnored,
    /// A put goes to a topic that may have been created again.
    TopicNotConfirmed,
}

impl Misreading {
    /// Whether it is made here and now.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "in tests the answer depends on it")]
    pub(crate) const fn is_made(self) -> bool {
        false
    }

    /// Whether it is made here and now.
    #[cfg(test)]
    pub(crate) fn is_made(self) -> bool {
        MADE.get() == Some(self)
    }

    /// Lets everything on this thread make that mistake, or none.
    #[cfg(test)]
    pub(crate) fn make(made: Option<Self>) {
        MADE.set(made);
    }
}

#[cfg(test)]
thread_local! {
    static MADE: std::cell::Cell<Option<Misreading>> = const { std::cell::Cell::new(None) };
}
