//! What a shard is made of, and what comes out of it.

use std::collections::BTreeMap;

use logtide_format::{Mark, RegionNote};
use logtide_model::message::{ScanId, ScanRequest};
use logtide_model::{MemoryBudget, RegionFact, RegionId, TaskName, Ts};
use logtide_temp_file::{SealedSpool, SpoolError, SpoolRoom, TaskKeys};

/// What a [`Shard`](crate::Shard) is made of.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Its number.
    pub shard: usize,
    /// What spools may take, in memory and on the disk; shared with other shards.
    pub room: SpoolRoom,
    /// The keys of tasks that are encrypted.
    pub keys: TaskKeys,
    /// Plain bytes of a block of a spool.
    pub block_size: usize,
    /// What locks and queued lock changes may take, in bytes; shared with other shards. It is kept by giving up
    /// precision or scans, never by forgetting a lock.
    pub lock_memory: MemoryBudget,
}

/// What follows from a message.
#[derive(Debug)]
#[non_exhaustive]
pub enum ShardEvent {
    /// A scan is wanted.
    Scan(ScanRequest),
    /// A scan is not wanted any more; its steps would be ignored.
    CancelScan(ScanId),
    /// A generation is closed: the answer to a seal marker. There is one for every marker.
    Sealed(SealedShard),
    /// The open generation of a task is lost; its regions begin anew after the next seal.
    Poisoned {
        /// The task.
        task: TaskName,
        /// Why.
        error: SpoolError,
    },
    /// Something was applied that no log record can tell; a mark of it goes into the generation. See the crate's
    /// documentation.
    Unsupported {
        /// A task that it concerns.
        task: TaskName,
        /// The region.
        region_id: RegionId,
        /// The last index of the batch that had it; 0 for a record of a scan.
        index: u64,
        /// What it was.
        what: UnsupportedChange,
    },
}

/// What no log record can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnsupportedChange {
    /// A range of keys was removed past MVCC.
    DeleteRange,
    /// A file was ingested that has, or may have, versions at or below what the region stated.
    OldIngest,
    /// A key or value that is no MVCC record.
    BadRecord,
}

impl UnsupportedChange {
    /// A short name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            UnsupportedChange::DeleteRange => "delete-range",
            UnsupportedChange::OldIngest => "old-ingest",
            UnsupportedChange::BadRecord => "bad-record",
        }
    }
}

/// One shard's part of a sealed generation.
#[derive(Debug)]
pub struct SealedShard {
    /// The shard.
    pub shard: usize,
    /// The task.
    pub task: TaskName,
    /// The generation, as in the marker.
    pub generation: u64,
    /// What was appended since the last seal.
    pub spool: SealedSpool,
    /// What it proves, by range. They are true once the metadata of this generation *and of all earlier ones* is durable.
    pub facts: Vec<RegionFact>,
    /// The regions that stated something, for the metadata of their files.
    pub regions: BTreeMap<RegionId, SealedRegion>,
    /// What no record can tell, and was seen since the last seal that had marks. They stay true if the generation comes to
    /// nothing, but must not become durable before all earlier generations are. `before` is the barrier: a change may have
    /// come after it was taken, so who has all parts raises it to a ts that is taken then.
    pub marks: Vec<Mark>,
    /// Data of this generation was lost: there are no facts, and the regions begin anew.
    pub lost: bool,
}

/// A region in a sealed generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRegion {
    /// Its range (with what a split took from it since the last seal) and its epochs in this generation.
    pub note: RegionNote,
    /// Up to when everything of it is durable with this generation.
    pub resolved_ts: Ts,
}
