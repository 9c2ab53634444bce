//! What may be stated at a seal marker (I3).

use logtide_model::planted::Bug;
use logtide_model::{Confirmed, Ts};

use super::{Observing, Rescan, State, Subscription};

/// What a subscription says at a seal marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Nothing: the region is left out, and holds the global checkpoint back.
    Nothing(Silence),
    /// A scan is on its way from this checkpoint, which is durable already. It must not go with an index.
    Scanning(Ts),
    /// Everything committed at or below `checkpoint` was given to the caller, and so were all entries up to `index`.
    Resolved {
        /// Up to when.
        checkpoint: Ts,
        /// The last entry seen.
        index: u64,
    },
}

/// Why there is nothing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Silence {
    /// No snapshot yet.
    Pending,
    /// A batch was dropped.
    Gap,
    /// No quorum confirmed that this store leads the region.
    NotConfirmed,
    /// It leads it in another term.
    OtherTerm,
    /// It leads it with another range.
    OtherVersion,
    /// Entries that were told before the barrier have not been seen.
    Behind,
    /// A lock cannot be read.
    UnreadableLock,
}

impl Silence {
    /// A short name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Silence::Pending => "pending",
            Silence::Gap => "gap",
            Silence::NotConfirmed => "not-confirmed",
            Silence::OtherTerm => "other-term",
            Silence::OtherVersion => "other-version",
            Silence::Behind => "behind",
            Silence::UnreadableLock => "unreadable-lock",
        }
    }
}

impl Subscription {
    /// What may be stated at a marker with that barrier and that confirmation of leadership (taken after the barrier).
    ///
    /// A gap that shows here sends it back to [`Phase::Pending`](crate::Phase::Pending).
    pub fn state_at(&mut self, barrier: Ts, confirmed: Option<&Confirmed>) -> Statement {
        let start_ts = match &self.state {
            State::Pending(_) => return Statement::Nothing(Silence::Pending),
            State::Scanning(scanning) => Some(scanning.start_ts),
            State::Observing(_) => None,
        };
        if self.gap.is_raised() && !Bug::DropUnnoticed.is_planted() {
            self.rescan(Rescan::Gap);
            return Statement::Nothing(Silence::Gap);
        }
        match start_ts {
            Some(_) if Bug::ScanNotWaitedFor.is_planted() => Statement::Resolved { checkpoint: barrier, index: 0 },
            Some(start_ts) => Statement::Scanning(start_ts),
            None => self.resolve(barrier, confirmed).unwrap_or_else(Statement::Nothing),
        }
    }

    fn resolve(&mut self, barrier: Ts, confirmed: Option<&Confirmed>) -> Result<Statement, Silence> {
        let State::Observing(Observing { next, locks }) = &self.state else { return Err(Silence::Pending) };
        let (region_id, term, version) = (self.region.id, self.term, self.region.epoch.version);
        let believed = Confirmed { region_id, term, version, applied_index: 0 };
        let confirmed = if Bug::OldLeaderAdvances.is_planted() { Some(&believed) } else { confirmed };
        let confirmed = confirmed.ok_or(Silence::NotConfirmed)?;
        if confirmed.term != self.term {
            return Err(Silence::OtherTerm);
        }
        if confirmed.version != self.region.epoch.version {
            return Err(Silence::OtherVersion);
        }
        let index = next.saturating_sub(1);
        if index < confirmed.applied_index {
            self.fall_behind(index, confirmed.applied_index);
            return Err(Silence::Behind);
        }
        self.awaited = 0;
        let checkpoint = locks.min_start_ts().map_or(barrier, |held| held.min(barrier));
        if self.relook.is_due(locks) {
            self.rescan(Rescan::Locks);
        }
        if checkpoint.is_zero() {
            return Err(Silence::UnreadableLock);
        }
        self.failures = 0;
        Ok(Statement::Resolved { checkpoint, index })
    }

    /// Entries told before the barrier should be here. A second marker that misses those that the first one missed is
    /// proof of a drop whose flag another task's scan took down; waiting for it spares a scan where a host is late.
    fn fall_behind(&mut self, index: u64, applied_index: u64) {
        if index < self.awaited {
            self.rescan(Rescan::Gap);
        } else {
            self.awaited = applied_index;
        }
    }
}
