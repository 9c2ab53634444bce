//! The generations of a flusher and what is known of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use logtide_checkpoint::{Generations, Uploading};
use logtide_format::Previous;
use logtide_model::{Incarnation, Permit, Publication, StoreId, TaskName};
use logtide_temp_file::SealedSpool;
use tokio::sync::oneshot;

use crate::plan::{Plan, as_previous};
use crate::{FlushError, Flushed, SealedGeneration, StageTimes};

#[derive(Default)]
pub(crate) struct State {
    pub(crate) generations: Generations<Job>,
    /// Metadata objects that are committed and that the boot's head does not name yet, nor anything after them.
    pub(crate) unnamed: Vec<Unnamed>,
    pub(crate) source: Option<Source>,
    pub(crate) replies: BTreeMap<u64, oneshot::Sender<Result<Flushed, FlushError>>>,
    pub(crate) published: u64,
    pub(crate) lost: Option<(u64, String)>,
    pub(crate) closed: Option<Closed>,
    pub(crate) cut_off: bool,
    /// The last submitted generation that has a metadata object.
    previous: Option<Previous>,
}

/// A metadata object that the head does not name yet.
pub(crate) struct Unnamed {
    pub(crate) path: String,
    pub(crate) bytes: u64,
}

/// The right to upload a generation, and what its metadata object says of the one before.
pub(crate) struct Accepted {
    pub(crate) uploading: Uploading,
    pub(crate) previous: Option<Previous>,
}

#[derive(Clone, Copy)]
pub(crate) enum Closed {
    Stopped,
    TaskGone,
    Superseded,
}

/// Where all generations of a flusher come from.
#[derive(Clone, PartialEq)]
pub(crate) struct Source {
    pub(crate) task: TaskName,
    incarnation: Incarnation,
    store_id: StoreId,
    boot: u64,
}

/// The generation was poisoned, or the flusher stopped; whoever waits was told.
#[derive(Debug)]
pub(crate) struct Discarded;

/// An uploaded generation.
pub(crate) struct Job {
    pub(crate) plan: Plan,
    pub(crate) publication: Arc<Publication>,
    pub(crate) spools: Arc<Vec<SealedSpool>>,
    pub(crate) took: StageTimes,
    pub(crate) submitted: Instant,
    pub(crate) uploaded: Instant,
    /// The objects that commit it, which are in memory from the plan to the commit.
    pub(crate) _metadata: Permit,
}

impl State {
    pub(crate) fn accept(&mut self, generation: &SealedGeneration) -> Result<Accepted, FlushError> {
        let source = Source {
            task: generation.task.name.clone(),
            incarnation: generation.task.incarnation,
            store_id: generation.store_id,
            boot: generation.boot,
        };
        if let Some(closed) = self.closed {
            return Err(closed.error(&source, generation.generation));
        }
        if let Some((poisoned, cause)) = &self.lost {
            return Err(poisoned_error(&source.task, generation.generation, *poisoned, cause));
        }
        if *self.source.get_or_insert_with(|| source.clone()) != source {
            let reason = "it comes from another task, store or boot than those before".to_owned();
            return Err(FlushError::Refused { generation: generation.generation, reason });
        }
        let uploading = self.generations.sealed(generation.generation).map_err(FlushError::refused)?;
        let previous = self.previous;
        self.previous = as_previous(generation).or(previous);
        Ok(Accepted { uploading, previous })
    }
}

impl Closed {
    pub(crate) fn error(self, source: &Source, generation: u64) -> FlushError {
        match self {
            Closed::Stopped => FlushError::Stopped { generation },
            Closed::TaskGone => FlushError::TaskGone(source.task.clone()),
            Closed::Superseded => FlushError::Superseded { store_id: source.store_id, boot: source.boot },
        }
    }
}

pub(crate) fn poisoned_error(task: &TaskName, generation: u64, poisoned: u64, cause: &str) -> FlushError {
    FlushError::Poisoned { task: task.clone(), generation, poisoned, cause: cause.to_owned() }
}
