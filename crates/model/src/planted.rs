//! Bugs on purpose: each was seen in the field, and the simulator has to find it. Only the feature `planted` can switch
//! one on, and then only for the thread that asked for it; without the feature there is nothing to switch.

/// A bug that can be planted; `docs/simulation.md` says where each was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// An upload that failed counts as done, and what it held is published.
    FailedFlushCounts,
    /// Facts are published before their generation is committed.
    PublishedTooEarly,
    /// Generations are committed as they come.
    FlushOutOfOrder,
    /// Names of objects have neither boot epoch nor generation.
    EqualNames,
    /// The end of a leadership overtakes the beginning of the next.
    StopOvertakesStart,
    /// A region that a split made is not observed.
    ChildUnobserved,
    /// Nobody asks a quorum whether a leader still leads.
    OldLeaderAdvances,
    /// After a split the parent speaks for the range of its children.
    ParentSpeaksForChild,
    /// After a merge the target goes on as if it had seen the source's writes.
    MergeInherits,
    /// A lock found by a scan that was given up is tracked.
    StaleScanLock,
    /// What was locked and unlocked during a scan is forgotten.
    ScanQueueLost,
    /// A region that is being scanned states the barrier.
    ScanNotWaitedFor,
    /// A scan ends early behind many locks in a row.
    ScanEndsAtLocks,
    /// A scan leaves out values that were written below its start.
    OldValuesLeftOut,
    /// A scan that failed three times is not tried again.
    ScanGivesUp,
    /// A catch-up from the raft log begins an entry too late.
    CatchUpSkipsEntry,
    /// A batch that was dropped for want of memory is not noticed.
    DropUnnoticed,
    /// A task that runs is registered again, and its open generation is wiped.
    ReRegistrationWipes,
    /// The barrier is taken from a clock that goes ahead.
    ClockForBarrier,
    /// The barrier does not look at commits in memory.
    InMemoryCommitsIgnored,
    /// Facts of an earlier life of a task are believed.
    OldLifeBelieved,
    /// What no record can tell is not marked in the storage.
    MarkForgotten,
    /// A mark ends at the barrier of its generation, though what it tells of may have come later.
    MarkEndTooEarly,
    /// A scan does not ask whether a range was deleted since its start.
    RangeDeleteUnseen,
    /// A record that finds no room in the spool is forgotten.
    NoRoomForgotten,
    /// An object whose blocks the disk does not give back counts as uploaded.
    LostBlockSkipped,
    /// A restore keeps the newest value of a key and drops the one that is committed.
    RestoreDropsValue,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 27] = [
        Bug::FailedFlushCounts,
        Bug::PublishedTooEarly,
        Bug::FlushOutOfOrder,
        Bug::EqualNames,
        Bug::StopOvertakesStart,
        Bug::ChildUnobserved,
        Bug::OldLeaderAdvances,
        Bug::ParentSpeaksForChild,
        Bug::MergeInherits,
        Bug::StaleScanLock,
        Bug::ScanQueueLost,
        Bug::ScanNotWaitedFor,
        Bug::ScanEndsAtLocks,
        Bug::OldValuesLeftOut,
        Bug::ScanGivesUp,
        Bug::CatchUpSkipsEntry,
        Bug::DropUnnoticed,
        Bug::ReRegistrationWipes,
        Bug::ClockForBarrier,
        Bug::InMemoryCommitsIgnored,
        Bug::OldLifeBelieved,
        Bug::MarkForgotten,
        Bug::MarkEndTooEarly,
        Bug::RangeDeleteUnseen,
        Bug::NoRoomForgotten,
        Bug::LostBlockSkipped,
        Bug::RestoreDropsValue,
    ];

    /// True if this thread planted it.
    #[inline]
    pub fn is_planted(self) -> bool {
        switch::is(self)
    }
}

#[cfg(feature = "planted")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub(super) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Plants a bug on this thread; `None` takes it out.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }
}

#[cfg(feature = "planted")]
pub use switch::plant;

#[cfg(not(feature = "planted"))]
mod switch {
    #[inline]
    pub(super) const fn is(_: super::Bug) -> bool {
        false
    }
}
