//! Where work that blocks is done.

use tokio::runtime::Handle;
use tokio::task::JoinError;

/// Where a runtime does work that blocks: reading the spool, publishing, removing files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blocking {
    /// On the runtime's threads for such work, so that uploads go on meanwhile.
    #[default]
    Threads,
    /// Where it is awaited: nothing happens at a time that depends on a thread. For simulation.
    InPlace,
}

impl Blocking {
    /// Does `work` and waits for it.
    ///
    /// # Errors
    /// If it panicked, or the runtime goes down.
    pub async fn run<T: Send + 'static>(
        self,
        runtime: &Handle,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match self {
            Blocking::Threads => runtime.spawn_blocking(work).await,
            Blocking::InPlace => Ok(work()),
        }
    }

    /// Does `work` without waiting for it.
    pub(crate) fn leave(self, runtime: &Handle, work: impl FnOnce() + Send + 'static) {
        match self {
            Blocking::Threads => drop(runtime.spawn_blocking(work)),
            Blocking::InPlace => work(),
        }
    }
}
