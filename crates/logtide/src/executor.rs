//! A running log backup of one store, and the order in which it ends.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use logtide_model::{RaftObserver, TaskName};
use tokio::runtime::Runtime;
use tracing::{info, warn};

use crate::node::Node;
use crate::online::Online;
use crate::scanners::Scanners;
use crate::supervisor::Supervisor;
use crate::{Config, ConfigError};

/// How long the runtime may take to end.
const RUNTIME_END: Duration = Duration::from_secs(5);

/// The log backup of one store, running. Dropping it ends it without a last flush (what was not flushed is caught up
/// after the next start); [`shutdown`](Self::shutdown) flushes first.
pub struct Executor {
    pub(crate) node: Node,
    pub(crate) online: Online,
    pub(crate) scanners: Scanners,
    pub(crate) threads: Vec<JoinHandle<()>>,
    pub(crate) supervisor: Option<Supervisor>,
    pub(crate) runtime: Option<Runtime>,
}

impl Executor {
    /// What the host registers with its raft store.
    pub fn observer(&self) -> Arc<dyn RaftObserver> {
        Arc::new(self.node.observer.clone())
    }

    /// Flushes a task now, and waits until what was observed before the call is in the storage and published.
    ///
    /// # Errors
    /// In words: that the task does not run here, or why its generation was not published within `limit`.
    pub fn flush_now(&self, task: &TaskName, limit: Duration) -> Result<(), String> {
        match &self.supervisor {
            Some(supervisor) => supervisor.board().flush(task, limit),
            None => Err("log backup is shut down".to_owned()),
        }
    }

    /// The configuration that is in force.
    pub fn config(&self) -> Config {
        (*self.node.config()).clone()
    }

    /// Changes the configuration while the store runs: at once for intervals, rates and the number of scans and uploads;
    /// limits of memory and sizes for what comes. `enable`, `num-threads`, `temp-path` and `block-size` cannot change.
    ///
    /// # Errors
    /// [`ConfigError`]; then nothing has changed.
    pub fn configure(&self, config: Config) -> Result<(), ConfigError> {
        let scans = config.initial_scan_concurrency;
        self.online.change(config, Instant::now())?;
        // With fewer threads than turns all goes on, slower.
        self.scanners.grow(scans).unwrap_or_else(|error| warn!(%error, "a scanner's thread could not be started"));
        Ok(())
    }

    /// Ends log backup: flushes every task, then ends the threads. Call it while the host still answers, and before the
    /// raft store is stopped.
    pub fn shutdown(mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.stop(&self.node.closing);
        }
        self.end();
        info!(store = self.node.host.store_id(), "log backup has ended");
    }

    /// Consumers outlive producers: tasks are over, so nobody waits for the shards any more.
    fn end(&mut self) {
        self.node.closing.raise();
        self.node.stop.raise();
        let scanners = self.scanners.close();
        for thread in scanners.into_iter().chain(self.threads.drain(..)) {
            if thread.join().is_err() {
                warn!("a thread of log backup panicked");
            }
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(RUNTIME_END);
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.abandon(&self.node.closing, &self.node.stop);
        }
        self.end();
    }
}
