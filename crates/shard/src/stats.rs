//! How a shard is.

use std::collections::BTreeMap;

use logtide_model::TaskName;

/// Counts of a shard; those without "now" only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Plain bytes in the open generation of each task, now.
    pub open: BTreeMap<TaskName, u64>,
    /// Regions that are led, now.
    pub regions: usize,
    /// Subscriptions that wait for a scan, now.
    pub pending: usize,
    /// Subscriptions that are scanned, now.
    pub scanning: usize,
    /// Subscriptions that see everything, now.
    pub observing: usize,
    /// Subscriptions that found no room in the spool and wait to be caught up, now.
    pub released: usize,
    /// Locks known by key, now.
    pub locks: usize,
    /// Bytes of locks and queued lock changes, now.
    pub lock_bytes: usize,
    /// Records appended.
    pub appended: u64,
    /// Records of scans among them.
    pub scanned: u64,
    /// Batches of regions that are not led.
    pub unobserved: u64,
    /// Batches that had been seen before.
    pub repeated: u64,
    /// Jumps of the index.
    pub gaps: u64,
    /// Messages about an older term, version or attempt.
    pub stale: u64,
    /// Ingested files: each sent its region back to be scanned.
    pub ingestions: u64,
    /// Changes and records that no log record can tell.
    pub unsupported: u64,
    /// Times memory of locks had to be given back.
    pub relieved: u64,
    /// Times a batch or a scan found no room in the spool.
    pub releases: u64,
    /// Generations that were lost.
    pub lost: u64,
}

impl ShardStats {
    /// Plain bytes in the open generation of a task.
    pub fn open_bytes(&self, task: &TaskName) -> u64 {
        self.open.get(task).copied().unwrap_or(0)
    }
}
