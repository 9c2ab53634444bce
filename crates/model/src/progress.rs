//! Checkpoints of regions on their way from a sealed generation to the coordinator.

use std::time::Duration;

use thiserror::Error;

use crate::{Class, Diagnose, ErrorCode, Incarnation, KeyRange, RegionId, StoreId, TaskName, Term, Ts};

/// A fact (invariant I4): every commit at or below `checkpoint` to a key in `range` is in the generation that carries
/// the fact, or in an earlier one of some store. It stays true whatever happens to the region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionFact {
    /// The region that stated it.
    pub region_id: RegionId,
    /// The version of its epoch then.
    pub version: u64,
    /// The keys that it is about.
    pub range: KeyRange,
    /// Up to when they are covered.
    pub checkpoint: Ts,
    /// The last raft index that the generation holds of the region; 0 for none (see [`Self::log_index`]).
    pub index: u64,
    /// The term in which the store led the region.
    pub term: Term,
}

impl RegionFact {
    /// The index up to which what all raft entries of the region did is durable with this fact, so that a catch-up
    /// may continue behind it. `None` for a region under scan: what was applied is there, but not what is yet to be read.
    pub fn log_index(&self) -> Option<u64> {
        (self.index > 0).then_some(self.index)
    }
}

/// All that one store states with one committed generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The task.
    pub task: TaskName,
    /// Which life of the task; publishing is refused if it is over.
    pub incarnation: Incarnation,
    /// The store.
    pub store_id: StoreId,
    /// The store's boot epoch.
    pub boot: u64,
    /// The number of the generation in this boot, from 1.
    pub generation: u64,
    /// The facts, by range.
    pub facts: Vec<RegionFact>,
}

/// Where committed generations are made known.
pub trait Publisher: Send + Sync {
    /// Makes the facts known, durably, all or nothing; again with the same content is no harm.
    ///
    /// # Errors
    /// [`PublishError::TaskGone`] if that life of the task is over: the generation may be dropped;
    /// [`PublishError::Superseded`] if a newer process of the store is there: likewise, and this one should end;
    /// [`PublishError::Unavailable`]: to be tried again, its outcome unknown.
    fn publish(&self, publication: &Publication) -> Result<(), PublishError>;
}

/// Why facts could not be published.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The task was stopped, or stopped and started anew.
    #[error("task {0} is gone")]
    TaskGone(TaskName),
    /// A newer process of the same store has taken a boot epoch: this one can publish nothing any more.
    #[error("a newer process of store {store_id} has taken over from boot epoch {boot}")]
    Superseded {
        /// The store.
        store_id: StoreId,
        /// The boot epoch that is not the newest any more.
        boot: u64,
    },
    /// The coordinator did not do it, or its answer was lost.
    #[error("the coordinator is not available: {cause}")]
    Unavailable {
        /// What it said.
        cause: String,
        /// When to try again at the earliest, if it said so.
        retry_after: Option<Duration>,
    },
}

impl Diagnose for PublishError {
    fn code(&self) -> ErrorCode {
        match self {
            PublishError::TaskGone(_) => ErrorCode::NoSuchTask,
            PublishError::Superseded { .. } | PublishError::Unavailable { .. } => ErrorCode::Coordinator,
        }
    }

    fn class(&self) -> Class {
        match self {
            PublishError::TaskGone(_) => Class::Cancelled,
            PublishError::Superseded { .. } => Class::Fatal,
            PublishError::Unavailable { .. } => Class::Retry,
        }
    }
}
