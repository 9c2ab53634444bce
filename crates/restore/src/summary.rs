//! What a restore did, and how far it is.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A stage of a restore, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Listing and reading metadata, selecting what is needed. Bytes: of metadata.
    Plan,
    /// Reading and verifying data objects, sorting. Bytes: as stored.
    Fetch,
    /// Merging sorted runs into SST files. Bytes: of keys and values, about.
    Merge,
    /// Adding the SST files to the database. Bytes: of SST files.
    Ingest,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageProgress {
    /// The stage.
    pub stage: Stage,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes to do; may still grow while planning.
    pub bytes_total: u64,
    /// Records (metadata objects while planning) done.
    pub records: u64,
}

/// Who wants to know how far a restore is.
pub trait Progress: Send + Sync {
    /// Called at the begin of a stage, and now and then until it is done.
    fn report(&self, progress: &StageProgress);
}

/// Nobody.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _: &StageProgress) {}
}

/// Records that a restore read and did not write, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Committed above the restored ts (or, as a value, begun at or above it).
    pub after_restored_ts: u64,
    /// Committed at or below the start of the log.
    pub before_start: u64,
    /// Outside the asked key range.
    pub outside_range: u64,
    /// Delete-type entries: they tell of versions that were garbage collected later, and are never applied.
    pub delete_entries: u64,
    /// Copies of a record that was there already, and records that the conflict rule put behind another.
    pub duplicates: u64,
    /// Values that no commit up to the restored ts refers to.
    pub unreferenced_values: u64,
}

impl Dropped {
    /// Adds up.
    pub(crate) fn add(&mut self, other: &Dropped) {
        self.after_restored_ts += other.after_restored_ts;
        self.before_start += other.before_start;
        self.outside_range += other.outside_range;
        self.delete_entries += other.delete_entries;
        self.duplicates += other.duplicates;
        self.unreferenced_values += other.unreferenced_values;
    }
}

/// Records of a restore, in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records in the files that were read.
    pub read: u64,
    /// Records written to the write column family.
    pub writes: u64,
    /// Of these, commits of a value that a range delete had removed before it was backed up: their keys are restored as
    /// deleted at that commit. None unless an inexact restore is allowed.
    #[serde(default)]
    pub lost_values: u64,
    /// Records written to the default column family.
    pub values: u64,
    /// Bytes of keys and values written.
    pub bytes: u64,
    /// The rest.
    pub dropped: Dropped,
}

impl Counts {
    /// Adds up.
    pub(crate) fn add(&mut self, other: &Counts) {
        self.read += other.read;
        self.writes += other.writes;
        self.lost_values += other.lost_values;
        self.values += other.values;
        self.bytes += other.bytes;
        self.dropped.add(&other.dropped);
    }
}

/// How long the stages took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Took {
    /// See [`Stage::Plan`].
    pub plan: Duration,
    /// See [`Stage::Fetch`].
    pub fetch: Duration,
    /// See [`Stage::Merge`].
    pub merge: Duration,
    /// See [`Stage::Ingest`].
    pub ingest: Duration,
}

impl Took {
    /// All stages together.
    pub fn total(&self) -> Duration {
        self.plan + self.fetch + self.merge + self.ingest
    }
}

/// What a restore did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RestoreSummary {
    /// The ts that the target is at.
    pub restored_ts: u64,
    /// Where the log begins.
    pub start_ts: u64,
    /// The checkpoint of the storage when the restore began.
    pub checkpoint: u64,
    /// Where it was restored from.
    pub storage: String,
    /// The RocksDB directory that was made.
    pub target: PathBuf,
    /// What was selected.
    pub plan: crate::PlanSummary,
    /// What of it the log could not tell: empty unless that was allowed.
    pub inexact: crate::InexactRanges,
    /// Bytes read of data objects, as stored.
    pub bytes_read: u64,
    /// Bytes of records after decompression.
    pub plain_bytes: u64,
    /// Records.
    pub records: Counts,
    /// Bytes written to temporary files.
    pub spilled_bytes: u64,
    /// SST files made.
    pub ssts: u64,
    /// Their bytes.
    pub sst_bytes: u64,
    /// Time per stage.
    pub took: Took,
    /// Restored bytes (of keys and values written) a second, in 10⁶ bytes.
    pub mb_per_second: f64,
    /// The most memory that was accounted at once, in bytes.
    pub peak_memory: usize,
}
