//! Why a generation was not flushed.

use logtide_checkpoint::SealRefused;
use logtide_model::{Class, Diagnose, ErrorCode, StoreId, TaskName};
use thiserror::Error;

/// The end of a generation that was not published. Faults of the storage or the coordinator that pass are not among
/// them: those are retried.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum FlushError {
    /// It, or an earlier one, cannot be made durable: it was discarded. Whether it was durable does not matter, its facts
    /// are not published.
    #[error("generation {generation} of task {task} was discarded because generation {poisoned} was lost: {cause}")]
    Poisoned {
        /// The task.
        task: TaskName,
        /// The generation.
        generation: u64,
        /// The first one that was lost.
        poisoned: u64,
        /// Why that was lost.
        cause: String,
    },
    /// The flusher was stopped first. What of the generation is in the storage stays there and does no harm.
    #[error("flushing was stopped before generation {generation} was published")]
    Stopped {
        /// The generation.
        generation: u64,
    },
    /// This life of the task is over.
    #[error("task {0} is gone")]
    TaskGone(TaskName),
    /// A newer process of this store has taken over: this one can publish nothing any more, and should end.
    #[error("a newer process of store {store_id} has taken over from boot epoch {boot}")]
    Superseded {
        /// The store.
        store_id: StoreId,
        /// The boot epoch that is not the newest any more.
        boot: u64,
    },
    /// Generations of one flusher come from one task and boot, numbered from 1 without a gap: one that was sealed and not
    /// handed over takes data with it, so nothing that comes after it may be published.
    #[error("generation {generation} was not taken: {reason}")]
    Refused {
        /// The generation.
        generation: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl FlushError {
    pub(crate) fn refused(refused: SealRefused) -> Self {
        let (SealRefused::Missing { generation, .. } | SealRefused::Poisoned { generation, .. }) = refused;
        FlushError::Refused { generation, reason: refused.to_string() }
    }
}

impl Diagnose for FlushError {
    fn code(&self) -> ErrorCode {
        match self {
            FlushError::Poisoned { .. } => ErrorCode::Io,
            FlushError::Stopped { .. } => ErrorCode::ObserveCancel,
            FlushError::TaskGone(_) => ErrorCode::NoSuchTask,
            FlushError::Superseded { .. } => ErrorCode::Coordinator,
            FlushError::Refused { .. } => ErrorCode::Unknown,
        }
    }

    fn class(&self) -> Class {
        match self {
            // The regions are caught up from their last published checkpoint, in a new boot epoch.
            FlushError::Poisoned { .. } => Class::Retry,
            FlushError::Stopped { .. } | FlushError::TaskGone(_) => Class::Cancelled,
            FlushError::Superseded { .. } | FlushError::Refused { .. } => Class::Fatal,
        }
    }

    fn remedy(&self) -> String {
        match self {
            FlushError::Poisoned { .. } => {
                "none needed: the regions are caught up again; check the disk of the spool, and that nobody else writes \
                 to the storage, if it repeats"
                    .to_owned()
            }
            _ => String::new(),
        }
    }
}
