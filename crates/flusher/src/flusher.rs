//! The façade: submit, drain, stop.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use logtide_model::Publisher;
use object_store::ObjectStore;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::in_flight::Core;
use crate::state::Closed;
use crate::{FlushConfig, FlushError, FlushEvent, Flushed, Merging, SealedGeneration};

/// Flushes the generations of one task in one boot of a store. Dropping it stops it.
pub struct Flusher {
    core: Arc<Core>,
}

/// What became of the generations that were submitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// The last generation that was published; zero if none was.
    pub published: u64,
    /// Generations that are still in flight.
    pub left: Vec<u64>,
    /// The first generation that was lost, if one was.
    pub lost: Option<u64>,
    /// True if the flusher was stopped, or the task ended, while generations were in flight.
    pub stopped: bool,
}

impl Drained {
    /// True if everything that was submitted is published.
    pub fn is_complete(&self) -> bool {
        self.left.is_empty() && self.lost.is_none() && !self.stopped
    }
}

impl Flusher {
    /// A flusher that works on `runtime` (with its time driver enabled). `events` is called from its threads: it must
    /// return fast and not panic.
    pub fn new(
        runtime: Handle,
        store: Arc<dyn ObjectStore>,
        publisher: Arc<dyn Publisher>,
        config: FlushConfig,
        events: impl Fn(FlushEvent) + Send + Sync + 'static,
    ) -> Self {
        let core = Arc::new(Core::new(runtime, store, publisher, config, Box::new(events)));
        core.runtime.spawn(core.clone().commit_in_order());
        core.runtime.spawn(core.clone().publish_in_order());
        Flusher { core }
    }

    /// Takes a generation: of the same task and boot as the ones before, the first is 1, none is left out. How many may be
    /// in flight is for the caller to bound. The answer comes when it is published, or certain not to be.
    pub fn submit(&self, generation: SealedGeneration) -> oneshot::Receiver<Result<Flushed, FlushError>> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.core.lock();
        match state.accept(&generation) {
            Ok(accepted) => {
                state.replies.insert(generation.generation, reply);
                drop(state);
                self.core.runtime.spawn(self.core.clone().upload(accepted, generation));
            }
            // Nobody has to listen.
            Err(e) => drop(reply.send(Err(e))),
        }
        answer
    }

    /// Changes the limits of [`FlushConfig`] that may change while it works: `file_size_limit` for generations that come,
    /// `upload_concurrency` for requests that come (more places are found within 20 ms).
    pub fn set_limits(&self, file_size_limit: u64, upload_concurrency: usize) {
        self.core.uploader.set_limits(file_size_limit, upload_concurrency);
    }

    /// Merges the metadata objects that this flusher commits.
    pub fn merging(&self) -> Merging {
        Merging::new(self.core.clone())
    }

    /// Generations in flight.
    pub fn in_flight(&self) -> usize {
        self.core.lock().replies.len()
    }

    /// Waits until nothing is in flight, at most as long as `patience`, and tells what became of it.
    pub async fn drain(&self, patience: Duration) -> Drained {
        // Too late is an answer too: it is in what is told.
        let _ = tokio::time::timeout(patience, self.core.idle()).await;
        let state = self.core.lock();
        Drained {
            published: state.published,
            left: state.replies.keys().copied().collect(),
            lost: state.lost.as_ref().map(|(generation, _)| *generation),
            stopped: state.cut_off,
        }
    }

    /// Ends everything in flight with [`FlushError::Stopped`] and takes no more: the task was stopped. To flush what is
    /// there, [`drain`](Self::drain) first.
    pub fn stop(&self) {
        self.core.close(Closed::Stopped);
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Flusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flusher").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
