//! What a sweep is asked, and what it tells.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// So many names of each row are shown.
const EXAMPLES: usize = 5;

/// How to sweep.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// Remove what is found. Otherwise it is only told.
    pub delete: bool,
    /// Milliseconds for which an object must not have changed. Default: 24 h.
    pub min_age_ms: u64,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
    /// How much memory to use, in bytes; at least twice [`crate::MIN_MEMORY`].
    pub memory: usize,
    /// Reads from the storage at once.
    pub concurrency: usize,
    /// Where temporary files go; `None` for the system's directory.
    pub temp_dir: Option<PathBuf>,
}

impl SweepOptions {
    /// Looks, with the defaults, at a time.
    pub fn at(now_ms: u64) -> Self {
        SweepOptions {
            delete: false,
            min_age_ms: 24 * 3_600_000,
            now_ms,
            memory: crate::DEFAULT_MEMORY,
            concurrency: crate::DEFAULT_CONCURRENCY,
            temp_dir: None,
        }
    }
}

/// Why something is removed. The order is that of removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SweepReason {
    /// A lock of ours that nobody gave back.
    Lock,
    /// What a task tries the storage with when it starts.
    Probe,
    /// What a killed process was writing into a local directory.
    TemporaryFile,
    /// A metadata object that was merged into another one, which is there.
    MergedMetadata,
    /// The head of a metadata object that was merged into another one.
    MergedHead,
    /// The checkpoint of a store that has nothing in the log, smaller than another one.
    StrayCheckpoint,
    /// Data of a generation that was never committed, of a former process.
    Uncommitted,
    /// Data that the metadata of its generation does not refer to.
    Unreferenced,
    /// Data with a name of another writer that no metadata refers to.
    Foreign,
}

impl SweepReason {
    pub(super) const ALL: [SweepReason; 9] = [
        SweepReason::Lock,
        SweepReason::Probe,
        SweepReason::TemporaryFile,
        SweepReason::MergedMetadata,
        SweepReason::MergedHead,
        SweepReason::StrayCheckpoint,
        SweepReason::Uncommitted,
        SweepReason::Unreferenced,
        SweepReason::Foreign,
    ];
}

impl fmt::Display for SweepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SweepReason::Lock => "a lock of logtide that was not given back",
            SweepReason::Probe => "left by the probe of a task's start",
            SweepReason::TemporaryFile => "left by a process that was killed while it wrote",
            SweepReason::MergedMetadata => "metadata that was merged into another object",
            SweepReason::MergedHead => "the head of metadata that was merged into another object",
            SweepReason::StrayCheckpoint => "an old checkpoint of a store that has nothing in the log",
            SweepReason::Uncommitted => "data that a former process did not commit",
            SweepReason::Unreferenced => "data that the metadata of its flush does not refer to",
            SweepReason::Foreign => "data of another writer that no metadata refers to",
        })
    }
}

/// Why something that could look superfluous is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// It changed less than the minimal age ago.
    Young,
    /// Data of a generation that may still be committed.
    InFlight,
    /// Data of a generation whose metadata object is gone: it may be all that is left of it.
    MetadataGone,
    /// A lock that others hold.
    LockOfOthers,
    /// It changed, or went, since it was found.
    Changed,
    /// Nothing that is known to belong into a log backup.
    Unknown,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kept::Young => "superfluous, but too young",
            Kept::InFlight => "data that may still be committed",
            Kept::MetadataGone => "data whose metadata object is gone",
            Kept::LockOfOthers => "a lock of others",
            Kept::Changed => "changed since it was found",
            Kept::Unknown => "unknown: nothing of a log backup",
        })
    }
}

/// How much there is of one sort.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepRow<R> {
    /// Why.
    pub reason: R,
    /// How many objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Some of their names.
    pub examples: Vec<String>,
}

/// What a sweep found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepReport {
    /// The storage.
    pub storage: String,
    /// Objects that were looked at.
    pub objects: u64,
    /// What is superfluous.
    pub found: Vec<SweepRow<SweepReason>>,
    /// What is left alone though nothing needs it.
    pub kept: Vec<SweepRow<Kept>>,
    /// True if it was to be removed.
    pub delete: bool,
    /// How many objects were removed.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
}

/// Adds an object to its row.
pub(super) fn count<R: Copy + Ord>(rows: &mut Vec<SweepRow<R>>, reason: R, name: &str, bytes: u64) {
    let at = rows.binary_search_by_key(&reason, |row| row.reason).unwrap_or_else(|at| {
        rows.insert(at, SweepRow { reason, objects: 0, bytes: 0, examples: Vec::new() });
        at
    });
    let row = &mut rows[at];
    row.objects += 1;
    row.bytes += bytes;
    if row.examples.len() < EXAMPLES {
        row.examples.push(name.to_owned());
    }
}
