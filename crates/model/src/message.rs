//! What is sent to a shard: the thread that owns some regions, their lock trackers and their part of each spool.
//!
//! A shard has one queue. Applied batches and scan batches carry the memory permit that bounds it; everything else is
//! small, is never dropped, and keeps its place in the queue.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Cf, Confirmed, HostError, Op, Permit, Region, RegionChange, RegionId, Task, TaskName, Term, Ts};

/// A message to a shard.
#[derive(Debug)]
pub enum ShardMessage {
    /// Raft applied something.
    Applied(AppliedBatch),
    /// This store became leader of a region that some task wants (or was asked to look again): subscribe.
    Lead(Lead),
    /// This store stopped leading: unsubscribe, unless a later term is subscribed already.
    Unlead {
        /// The region.
        region_id: RegionId,
        /// The term it knows of.
        term: Term,
    },
    /// A region's shape changed.
    RegionChanged(RegionChange),
    /// A task began on this store.
    StartTask(Arc<Task>),
    /// A task ended on this store: drop what is spooled for it. (Seal before for a lossless end.)
    StopTask(TaskName),
    /// A step of an initial scan.
    Scan(ScanStep),
    /// Close the open generation of a task.
    Seal(Arc<SealMarker>),
}

/// A batch of applied entries, owned.
#[derive(Debug)]
pub struct AppliedBatch {
    /// The region.
    pub region_id: RegionId,
    /// The version of its epoch.
    pub version: u64,
    /// The term that they were applied in.
    pub term: Term,
    /// Index of the first entry.
    pub first_index: u64,
    /// Index of the last entry.
    pub last_index: u64,
    /// The changes, in order.
    pub ops: Vec<Op>,
    /// The bytes that the batch is accounted with.
    pub permit: Permit,
}

/// Leadership of a region, with the gap flag that the observer raises when it has to drop a batch.
#[derive(Clone, Debug)]
pub struct Lead {
    /// The region.
    pub region: Region,
    /// The term.
    pub term: Term,
    /// The region's gap flag.
    pub gap: GapFlag,
}

/// Sticky flag of a region (I2, and amendment 2 of the design): raised before `on_apply` returns when a batch is
/// dropped, read at every marker, cleared only right before a new snapshot is taken.
#[derive(Clone, Debug, Default)]
pub struct GapFlag(Arc<std::sync::atomic::AtomicBool>);

impl GapFlag {
    /// Raises it.
    pub fn raise(&self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Lowers it: only before a new snapshot.
    pub fn clear(&self) {
        self.0.store(false, std::sync::atomic::Ordering::SeqCst);
    }

    /// True if a batch was dropped since the last clear.
    pub fn is_raised(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// Identifies one attempt to scan one region for one task; a step of another attempt is stale.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScanId {
    /// The task.
    pub task: TaskName,
    /// The region.
    pub region_id: RegionId,
    /// Grows with every attempt on this shard.
    pub attempt: u64,
}

/// What a shard asks the scanners for.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// The attempt.
    pub id: ScanId,
    /// The region as subscribed.
    pub region: Region,
    /// The term as subscribed.
    pub term: Term,
    /// To be cleared before the snapshot is taken.
    pub gap: GapFlag,
    /// The task.
    pub task: Arc<Task>,
    /// How many attempts failed before, for the backoff.
    pub failures: u32,
    /// Why it is wanted.
    pub reason: ScanReason,
}

/// Why a scan is wanted, in the words of TiKV's metric `tikv_log_backup_initial_scan_reason`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScanReason {
    /// The store began to lead the region, or leads it in another term.
    #[default]
    LeaderChanged,
    /// The region's range changed.
    RegionChanged,
    /// What was seen before does not count any more: an attempt failed, a batch was dropped, a generation was lost.
    Retry,
}

impl ScanReason {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            ScanReason::LeaderChanged => "leader-changed",
            ScanReason::RegionChanged => "region-changed",
            ScanReason::Retry => "retry",
        }
    }
}

/// From where a region has to be caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartPoint {
    /// Everything committed at or below it is durable.
    pub ts: Ts,
    /// The effects of all raft entries before this index are durable, whatever they committed at: what the entries from
    /// it on did is all that is missing. `None` if no such index is known: then only a scan tells what is missing.
    pub log_from: Option<u64>,
}

/// A step of a scan, in this order: `Started`, `Locks`*, `LocksDone`, `Data`* or `Replayed`* (or both, if the log broke
/// off), `Finished`; or `Failed` at any point.
#[derive(Debug)]
pub struct ScanStep {
    /// The attempt.
    pub id: ScanId,
    /// What happened.
    pub event: ScanEvent,
}

/// What happened in a scan.
#[derive(Debug)]
pub enum ScanEvent {
    /// A snapshot was taken; the scan reads what is committed above `start_ts`, and all locks.
    Started {
        /// The checkpoint that the scan continues from.
        start_ts: Ts,
        /// The last entry in the snapshot.
        applied_index: u64,
    },
    /// Locks of the snapshot.
    Locks {
        /// Encoded key and start ts of each.
        locks: Vec<(Bytes, Ts)>,
        /// The bytes that the batch is accounted with.
        permit: Permit,
    },
    /// All locks were sent.
    LocksDone,
    /// Records of the snapshot.
    Data {
        /// The records, as puts.
        entries: Vec<ScanEntry>,
        /// The bytes that the batch is accounted with.
        permit: Permit,
    },
    /// What raft entries at or below the snapshot's index did, in the order in which they did it; or range deletes, where
    /// one was done and a snapshot does not tell of which keys.
    Replayed {
        /// The last entry of which something is here.
        index: u64,
        /// Changes of [`Cf::Write`] and [`Cf::Default`].
        ops: Vec<Op>,
        /// The bytes that the batch is accounted with.
        permit: Permit,
    },
    /// All records were sent.
    Finished,
    /// The attempt is over without result.
    Failed(HostError),
}

/// A record that a scan found: a put into [`Cf::Write`] or [`Cf::Default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanEntry {
    /// Where.
    pub cf: Cf,
    /// The encoded key with its timestamp.
    pub key: Bytes,
    /// The value of the column family.
    pub value: Bytes,
}

/// Closes a generation (I3): made after the barrier was taken and leadership was confirmed, then sent to every shard.
#[derive(Debug)]
pub struct SealMarker {
    /// The task.
    pub task: TaskName,
    /// The number of the generation in this boot, from 1.
    pub generation: u64,
    /// T: see [`crate::Host::commit_barrier`].
    pub barrier: Ts,
    /// Leaderships confirmed after T.
    pub confirmed: HashMap<RegionId, Confirmed>,
}
