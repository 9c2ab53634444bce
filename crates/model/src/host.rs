//! The seam: what the host calls in logtide, and what logtide calls in the host.

use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use crate::{
    ApplyBatch, Cf, Class, Diagnose, ErrorCode, KeyRange, Op, Region, RegionChange, RegionEpoch, RegionId, Role,
    StoreId, Term, Ts,
};

/// What the host calls: register one with the raft store, on the threads that apply entries.
///
/// # Contract H1
/// * [`on_apply`](Self::on_apply) is called once for every applied entry (in batches as they come), in index order
///   within a region, **before the write is acknowledged to its proposer**. Entries without data are told too:
///   they move the indexes.
/// * [`on_leadership`](Self::on_leadership) with [`Role::Leader`] is called after the new leader applied an entry of
///   its own term; with [`Role::Follower`] as soon as the peer knows that it does not lead any more.
/// * All calls about one region come from one thread at a time, in the order in which things were applied.
///
/// # Threading
/// Implementations return fast, never block, and never call back into the raft store.
pub trait RaftObserver: Send + Sync {
    /// Entries were applied.
    fn on_apply(&self, batch: &ApplyBatch<'_>);
    /// This store's peer of `region` became or stopped being leader, in `term`.
    fn on_leadership(&self, region: &Region, term: Term, role: Role);
    /// A region's shape changed.
    fn on_region_changed(&self, change: &RegionChange);
}

/// What logtide asks of the storage node that embeds it.
///
/// Methods may block up to the deadline that they are given (or a few seconds); logtide calls them from its own
/// threads, never from the apply thread.
pub trait Host: Send + Sync {
    /// Which cluster this is: a backup belongs to exactly one.
    fn cluster_id(&self) -> u64;

    /// Which store this is.
    fn store_id(&self) -> StoreId;

    /// The regions that have a peer on this store and overlap `range`.
    fn regions(&self, range: &KeyRange) -> Vec<LocalRegion>;

    /// A consistent view of the region's keys at some applied index, on the leader.
    ///
    /// # Errors
    /// [`HostError::RegionNotFound`], [`HostError::NotLeader`], [`HostError::EpochNotMatch`] if `epoch.version` is
    /// not the region's; [`HostError::Unavailable`] for what passes by waiting.
    fn snapshot(&self, region_id: RegionId, epoch: RegionEpoch) -> Result<Box<dyn KvSnapshot>, HostError>;

    /// Confirms by a quorum round begun after the call (as read-index does) which of `regions` this store leads, in
    /// which term and with which epoch version. What cannot be confirmed by `deadline` is left out.
    fn confirm_leadership(&self, regions: &[RegionId], deadline: Instant) -> Vec<Confirmed>;

    /// # Contract H2
    /// After it returned T, for every transaction that this store takes part in and that is not to commit above T,
    /// [`RaftObserver::on_apply`] has *returned* for its lock or its write. (A fresh timestamp, capped by the smallest
    /// commit timestamp that an async-commit or one-phase transaction in flight may still take.)
    ///
    /// # Errors
    /// [`HostError::Unavailable`] while the timestamp service is away.
    fn commit_barrier(&self) -> Result<Ts, HostError>;

    /// A fresh timestamp of the cluster.
    ///
    /// # Errors
    /// [`HostError::Unavailable`] while the timestamp service is away.
    fn timestamp(&self) -> Result<Ts, HostError>;

    /// Keeps the garbage collector from passing `ts` on behalf of `owner`, for `ttl`; `None` lets go.
    ///
    /// # Errors
    /// [`HostError::GcPassed`] if it is too late; [`HostError::Unavailable`].
    fn hold_gc(&self, owner: &str, ts: Option<Ts>, ttl: Duration) -> Result<(), HostError>;

    /// What the entries `from..=through` of a region's raft log did when they were applied, for a catch-up without a scan.
    ///
    /// Effects only: an entry that was refused at apply (or never applied, or overwritten) yields no ops, and advances
    /// the index. The batches are contiguous from `from` to `through`; all of them were applied while the region had
    /// `version`. `Ok(None)` where that cannot be promised: the host keeps no such log, it begins after `from`, the
    /// region has another version, or had one when `from` was applied. (Then the caller scans.)
    ///
    /// # Errors
    /// [`HostError::RegionNotFound`]; [`HostError::Unavailable`] if the log cannot be read now.
    fn raft_log(
        &self,
        _region_id: RegionId,
        _version: u64,
        _from: u64,
        _through: u64,
    ) -> Result<Option<Box<dyn LogEntries>>, HostError> {
        Ok(None)
    }
}

/// Applied entries, in index order; see [`Host::raft_log`]. An error ends them: what came before it stands.
pub trait LogEntries: Iterator<Item = Result<LogBatch, HostError>> + Send {}

impl<T: Iterator<Item = Result<LogBatch, HostError>> + Send> LogEntries for T {}

/// What consecutive applied entries did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    /// Index of the first entry.
    pub first_index: u64,
    /// Index of the last entry.
    pub last_index: u64,
    /// The changes, in order.
    pub ops: Vec<Op>,
}

/// A region of this store, as [`Host::regions`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRegion {
    /// The region.
    pub region: Region,
    /// Its current term.
    pub term: Term,
    /// What this store's peer is.
    pub role: Role,
}

/// A leadership that a quorum confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The region.
    pub region_id: RegionId,
    /// The term in which this store leads it.
    pub term: Term,
    /// The version of its epoch that the quorum agreed to.
    pub version: u64,
    /// An index that this store had applied *and told the observer* when the barrier before was taken, or later.
    pub applied_index: u64,
}

/// How long a range delete may be on its way, in the time of timestamps: from when its timestamp
/// ([`KvSnapshot::last_range_delete`]) was chosen until it is applied on the store that leads the region. A thousand times
/// what raft takes as a rule. Not minutes: garbage collection deletes ranges every few minutes where tables are dropped, and a
/// task that begins right after would be marked for nothing.
pub const RANGE_DELETE_ON_ITS_WAY: Duration = Duration::from_secs(10);

/// A consistent view of one region.
pub trait KvSnapshot: Send {
    /// The region as it was.
    fn region(&self) -> &Region;
    /// The last entry whose effects are in it.
    fn applied_index(&self) -> u64;
    /// The value of an encoded key.
    ///
    /// # Errors
    /// [`HostError::Unavailable`] if the engine cannot read.
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, HostError>;
    /// An iterator over the part of a column family that lies in `range` (and in the region), before its first entry.
    ///
    /// # Errors
    /// [`HostError::Unavailable`] if the engine cannot read.
    fn iter<'a>(&'a self, cf: Cf, range: &KeyRange) -> Result<Box<dyn KvIter + 'a>, HostError>;
    /// Bytes that the engine has read from disk so far for the calling thread, if it counts them (as RocksDB's perf
    /// context does); for the rate limit of scans where the kernel does not tell.
    fn read_bytes(&self) -> Option<u64> {
        None
    }
    /// A timestamp of the last range delete in [`Cf::Write`] or [`Cf::Default`] among the entries that are in the snapshot, or
    /// among those of any region that this one was split from or took over; `None` if there never was one. Without it,
    /// what was removed before a scan would be missed in silence.
    ///
    /// The timestamp is chosen as the commit timestamp of a one-phase transaction is: above every
    /// [`Host::commit_barrier`] that returned, on any store that led the region, before
    /// [`RaftObserver::on_apply`] had returned for the delete there. A host without range deletes answers `None`.
    ///
    /// Timestamps that are no barriers it may be below: what is read at or above it, as a full backup, can miss the delete
    /// while that is on its way. Only what is read [`RANGE_DELETE_ON_ITS_WAY`] or more above it is taken to have it.
    fn last_range_delete(&self) -> Option<Ts>;
}

/// Walks over keys in ascending order. `key` and `value` may be called only after a move returned true.
pub trait KvIter {
    /// Moves to the first entry at or above `key`.
    ///
    /// # Errors
    /// [`HostError::Unavailable`] if the engine cannot read.
    fn seek(&mut self, key: &[u8]) -> Result<bool, HostError>;
    /// Moves to the next entry (to the first one at the beginning).
    ///
    /// # Errors
    /// [`HostError::Unavailable`] if the engine cannot read.
    fn next(&mut self) -> Result<bool, HostError>;
    /// The encoded key here, without `z`.
    fn key(&self) -> &[u8];
    /// The value here.
    fn value(&self) -> &[u8];
}

/// Why the host could not do what it was asked.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// The store has no peer of that region.
    #[error("region {0} is not on this store")]
    RegionNotFound(RegionId),
    /// The store does not lead that region.
    #[error("this store does not lead region {0}")]
    NotLeader(RegionId),
    /// The region's range changed.
    #[error("region {} has epoch {} now", .0.id, .0.epoch)]
    EpochNotMatch(Region),
    /// The garbage collector is ahead of a timestamp that was to be kept.
    #[error("garbage collection has passed {ts}: its safepoint is {safepoint}")]
    GcPassed {
        /// What was to be kept.
        ts: Ts,
        /// What the collector may delete below.
        safepoint: Ts,
    },
    /// It does not work now and may work later.
    #[error("{0}")]
    Unavailable(String),
}

impl Diagnose for HostError {
    fn code(&self) -> ErrorCode {
        match self {
            HostError::GcPassed { .. } => ErrorCode::GcPassed,
            _ => ErrorCode::RaftReq,
        }
    }

    fn class(&self) -> Class {
        match self {
            HostError::GcPassed { .. } => Class::Fatal,
            _ => Class::Retry,
        }
    }
}
