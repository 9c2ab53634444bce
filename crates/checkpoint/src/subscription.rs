//! One task's view of one region: what a seal marker may state about it (I2, I3).
//!
//! ```text
//! Pending ── started (snapshot at A) ──▶ Scanning ── finished ──▶ Observing
//!    ▲                                      │                         │
//!    └── gap · new term · new range · failure · memory pressure ──────┘
//! ```
//!
//! Owns: the state, the raft indexes seen without a gap, the locks, the attempt whose scan steps count.
//! Does not own: the data (the caller appends it in every state), the numbers of attempts, waiting.
//!
//! # Why a statement is true
//! In *Observing*, [`Statement::Resolved`] says that every commit at or below it to the region's range is in what the
//! caller was given before (scan data, or applied batches). The snapshot at A gave the scan all commits above its start
//! ts; the batches from A + 1 on came without a gap up to `index`; a commit that is not in them is applied after `index`,
//! and either its lock is in the tracker (so it commits above the lock's start ts), or, since the host promises that after
//! the barrier every transaction not above T has its lock or write told (H2) and `index` is not below what was told when
//! the barrier was taken, it commits above T. The confirmed term and epoch version make sure that no other region or
//! leader could write to the range meanwhile.
//!
//! # Indexes
//! A batch has one first and one last index, and its changes have none of their own. A batch that the snapshot's index
//! cuts in two is applied whole: the last change of a key wins, so the locks at its end are right.

mod applied;
mod phase;
mod relief;
mod relook;
mod scan;
mod statement;

use logtide_model::message::GapFlag;
use logtide_model::planted::Bug;
use logtide_model::{Region, RegionEpoch, Term, Ts};

pub use phase::{Phase, Rescan};
pub use statement::{Silence, Statement};

use crate::LockTracker;
use crate::lock_queue::{Forgotten, LockQueue};
use relook::Relook;

/// The subscription of one task to one region.
#[derive(Debug)]
pub struct Subscription {
    region: Region,
    term: Term,
    gap: GapFlag,
    state: State,
    /// The attempt whose steps count.
    attempt: Option<u64>,
    /// An attempt that was given up and whose scanner was not told yet.
    given_up: Option<u64>,
    failures: u32,
    /// Why it began anew the last time.
    rescanned: Option<Rescan>,
    /// What the last marker asked for and had not been seen then.
    awaited: u64,
    relook: Relook,
}

#[derive(Debug)]
enum State {
    Pending(Pending),
    Scanning(Scanning),
    Observing(Observing),
}

/// Waiting for a snapshot, whose index is not known yet.
#[derive(Debug, Default)]
struct Pending {
    /// The entries seen without a gap, `[from, next)`.
    seen: Option<(u64, u64)>,
    queue: LockQueue,
    /// The older part of the queue, if it took too much memory.
    forgotten: Option<Forgotten>,
}

#[derive(Debug)]
struct Scanning {
    start_ts: Ts,
    /// The index after the last one that is in the snapshot or was seen.
    next: u64,
    locks: Locks,
}

#[derive(Debug)]
enum Locks {
    /// The scan sends the locks of its snapshot; changes after it wait. (In a collapsed tracker order plays no role.)
    Loading(LockTracker, LockQueue),
    /// They are exact at `next - 1`.
    Known(LockTracker),
}

#[derive(Debug)]
struct Observing {
    next: u64,
    locks: LockTracker,
}

impl Subscription {
    /// A subscription that waits for its first scan.
    pub fn new(region: Region, term: Term, gap: GapFlag) -> Self {
        Subscription {
            region,
            term,
            gap,
            state: State::Pending(Pending::default()),
            attempt: None,
            given_up: None,
            failures: 0,
            rescanned: None,
            awaited: 0,
            relook: Relook::default(),
        }
    }

    /// The region as subscribed.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The term as subscribed.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Pending(_) => Phase::Pending,
            State::Scanning(_) => Phase::Scanning,
            State::Observing(_) => Phase::Observing,
        }
    }

    /// True if a scan has to be requested: the caller should, after everything that it told this subscription.
    pub fn wants_scan(&self) -> bool {
        self.attempt.is_none() && self.phase() == Phase::Pending
    }

    /// A scan is requested now, as `attempt`, a number that this subscription never had before. Answers how many attempts
    /// failed before, for the backoff.
    pub fn request_scan(&mut self, attempt: u64) -> u32 {
        self.attempt = Some(attempt);
        self.failures
    }

    /// Why it began anew the last time; `None` if it never did.
    pub fn rescanned(&self) -> Option<Rescan> {
        self.rescanned
    }

    /// How many attempts failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// An attempt that was given up, once: its scanner should be told.
    pub fn take_given_up(&mut self) -> Option<u64> {
        self.given_up.take()
    }

    /// The subscription ends: the attempt to cancel, if there is one.
    pub fn end(self) -> Option<u64> {
        self.attempt.or(self.given_up)
    }

    /// Back to the beginning: nothing seen so far counts.
    pub fn rescan(&mut self, why: Rescan) {
        if let Some(attempt) = self.attempt.take() {
            self.given_up = Some(attempt);
        }
        self.rescanned = Some(why);
        if why.is_failure() {
            self.failures = self.failures.saturating_add(1);
        }
        self.awaited = 0;
        self.state = State::Pending(Pending::default());
    }

    /// Back to the beginning because of what the entries up to `index` did: a snapshot without them is of no use.
    pub fn rescan_after(&mut self, index: u64, why: Rescan) {
        self.rescan(why);
        if let State::Pending(pending) = &mut self.state {
            let next = index.saturating_add(1);
            pending.seen = Some((next, next));
        }
    }

    /// The caller could not keep what the entries up to `index` did. An attempt that has no snapshot yet goes on, for it may
    /// take one that has them; so a region that is told this again and again costs nothing.
    pub fn missed(&mut self, index: u64) {
        let waiting = self.phase() == Phase::Pending;
        let before = (self.attempt, self.given_up, self.failures);
        self.rescan_after(index, Rescan::NoRoom);
        if waiting {
            (self.attempt, self.given_up, self.failures) = before;
        }
    }

    /// Leadership in `term` (again), with the region's gap flag.
    pub fn lead(&mut self, term: Term, gap: GapFlag) {
        let dropped = self.gap.is_raised();
        self.gap = gap;
        if term != self.term {
            self.term = term;
            self.rescan(Rescan::Term);
        } else if dropped && self.phase() != Phase::Pending {
            self.rescan(Rescan::Gap);
        }
    }

    /// Only the membership changed: that says nothing about keys.
    pub fn set_conf_ver(&mut self, epoch: RegionEpoch) {
        self.region.epoch.conf_ver = epoch.conf_ver;
    }

    /// The region gave a part of its range away and goes on with the rest; what was seen of the rest still counts.
    ///
    /// `region.range` must lie in the old range and must not have been elsewhere in between: if not, it begins anew.
    pub fn shrink(&mut self, region: Region) {
        if Bug::ParentSpeaksForChild.is_planted() {
            self.region.epoch = region.epoch;
            return;
        }
        if self.phase() == Phase::Pending || !self.region.range.covers(&region.range) {
            return self.replace(region);
        }
        self.region = region;
        let range = &self.region.range;
        match &mut self.state {
            State::Pending(_) => {}
            // The queue is restricted when it is replayed.
            State::Scanning(Scanning { locks: Locks::Loading(locks, _) | Locks::Known(locks), .. })
            | State::Observing(Observing { locks, .. }) => locks.restrict(range),
        }
    }

    /// The range changed: it has to be caught up as a whole.
    pub fn replace(&mut self, region: Region) {
        let grown = region.range.covers(&self.region.range);
        self.region = region;
        if grown && Bug::MergeInherits.is_planted() {
            return;
        }
        self.rescan(Rescan::Range);
    }
}
