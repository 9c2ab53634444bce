//! Small metadata objects of a boot become fewer larger ones, in the background.
//!
//! A merge is a few durable steps, each of which may be the last one before a crash: the merged object is put, and read
//! back; its head is put, that says how far back it reaches; then what it replaces is deleted, the newest first. At any
//! moment every generation is in one object at least, and a reader that finds it in two counts it once. What a crash
//! leaves is two of something, never nothing; `restore`'s sweep finds it.
//!
//! Nobody else may rewrite metadata meanwhile, and nobody may read a listing and rely on it later, as a compaction
//! does: that is for the [`Exclusive`] to see to. A step that fails ends the attempt, and the next attempt goes on with
//! it; how soon, whoever calls decides. Nothing of it concerns flushing, which goes on meanwhile.

mod history;
mod steps;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use logtide_model::Permit;
use thiserror::Error;

pub use history::{Committed, History, Run};

use crate::in_flight::Core;
use crate::plan::ObjectPlan;
use crate::state::Unnamed;

/// Why the storage is not one's own.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotExclusive {
    /// Somebody else is at work there.
    #[error("{0}")]
    Busy(String),
    /// It could not be found out, or the right to it was lost.
    #[error("{0}")]
    Failed(String),
}

/// Keeps others from rewriting metadata, and from relying on what they listed.
pub trait Exclusive: Send + Sync {
    /// Begins, or goes on with what was not ended.
    fn acquire(&self) -> BoxFuture<'_, Result<(), NotExclusive>>;
    /// Fails if it is not certain any more.
    fn confirm(&self) -> BoxFuture<'_, Result<(), NotExclusive>>;
    /// Ends.
    fn release(&self) -> BoxFuture<'_, Result<(), NotExclusive>>;
}

/// Why a merge did not come to its end. All but what is given up is gone on with in the next attempt.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MergeError {
    /// Somebody else works on the metadata.
    #[error("metadata objects are not merged now: {0}")]
    Busy(String),
    /// Uploads need the memory.
    #[error("merging metadata objects of {bytes} bytes waits for memory")]
    NoMemory {
        /// Bytes of the objects.
        bytes: u64,
    },
    /// A request failed.
    #[error("merging metadata objects failed: {0}")]
    Failed(String),
    /// These objects cannot be merged; they are left alone.
    #[error("metadata objects are left as they are: {0}")]
    GivenUp(String),
    /// The flusher was stopped.
    #[error("merging metadata objects was stopped")]
    Stopped,
}

/// What a merge did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeDone {
    /// Objects that became one.
    pub objects: usize,
    /// Bytes of the one.
    pub bytes: u64,
    /// From the attempt that ended it.
    pub took: Duration,
}

/// How far a merge has come.
enum Job {
    /// Chosen.
    Chosen(Run),
    /// Made, and put or about to be.
    Made { run: Run, object: ObjectPlan, _memory: Permit },
    /// Durable; these are to be deleted, from the end.
    Clearing { objects: usize, bytes: u64, rest: Vec<String> },
}

/// What a flusher knows of its metadata objects.
#[derive(Default)]
pub(crate) struct Ledger {
    history: History,
    job: Option<Job>,
}

/// Merges the metadata objects of one flusher. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Merging {
    core: Arc<Core>,
}

impl fmt::Debug for Merging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merging").field("is_begun", &self.lock().job.is_some()).finish_non_exhaustive()
    }
}

impl Merging {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Merging { core }
    }

    /// True if there is something to do: `count` objects that can be merged, or a merge that did not come to its end.
    pub fn is_due(&self, count: usize) -> bool {
        let limit = self.limit();
        let mut ledger = self.lock();
        if ledger.job.is_none() {
            ledger.job = ledger.history.next_run(count, limit).map(Job::Chosen);
        }
        ledger.job.is_some()
    }

    /// True while a put of a merged object has an unknown end: others are kept away until it is known.
    pub fn is_open(&self) -> bool {
        matches!(self.lock().job, Some(Job::Made { .. }))
    }

    /// Bytes of a merged object: as configured, but no more than fits well into the memory for uploads.
    fn limit(&self) -> u64 {
        let config = &self.core.uploader.config;
        config.merged_size_limit.min(config.upload_memory.limit() as u64 / 16)
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Nothing panics while it holds the lock.
        self.core.merging.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Metadata objects are committed; the head names the last one.
    pub(crate) fn remember(&self, metadata: Vec<Unnamed>) {
        let mut ledger = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let committed = metadata.into_iter().filter_map(|object| Committed::of(&object.path, object.bytes));
        committed.for_each(|object| ledger.history.add(object));
    }
}

/// What `Core` has of it.
pub(crate) type Shared = Mutex<Ledger>;
