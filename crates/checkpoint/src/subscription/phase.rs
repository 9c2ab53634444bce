//! Where a subscription is, and why it went back.

/// Where a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waits for a scan.
    Pending,
    /// A snapshot was taken; its records are on the way.
    Scanning,
    /// Everything since the scan's start ts was seen.
    Observing,
}

/// Why a subscription went back to [`Phase::Pending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rescan {
    /// Entries were not seen.
    Gap,
    /// The attempt failed.
    Failed,
    /// Leadership in another term.
    Term,
    /// The range changed.
    Range,
    /// What was spooled was lost, or a change went past MVCC.
    Lost,
    /// Locks were dropped under memory pressure and are to be read anew.
    Locks,
    /// There was no room for what was applied, or for what a scan found.
    NoRoom,
}

impl Rescan {
    /// A short name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Rescan::Gap => "gap",
            Rescan::Failed => "failed",
            Rescan::Term => "term",
            Rescan::Range => "range",
            Rescan::Lost => "lost",
            Rescan::Locks => "locks",
            Rescan::NoRoom => "no-room",
        }
    }

    /// True if trying again at once may make it worse.
    pub(super) const fn is_failure(self) -> bool {
        matches!(self, Rescan::Gap | Rescan::Failed | Rescan::NoRoom)
    }
}
