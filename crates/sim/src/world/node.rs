//! The log backup of one store, as a process: it can crash, and be there twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use logtide::{Builder, Config, Stepped};
use logtide_model::{RaftObserver, StoreId};
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::runtime::Runtime;

use super::World;
use crate::host::SimHost;
use crate::mortal::MortalCoordinator;
use crate::violation::Violation;

/// Bytes for events on their way, usually.
pub(crate) const MEMORY: usize = 256 << 10;
/// Bytes for events on their way when there is little: a batch or two.
pub(crate) const LITTLE_MEMORY: usize = 1500;

/// See the module.
pub(crate) struct SimNode {
    // Dropped first: a crash ends it before its runtime.
    pub(crate) stepped: Stepped,
    pub(crate) runtime: Runtime,
}

impl SimNode {
    pub(crate) fn observer(&self) -> Arc<dyn RaftObserver> {
        self.stepped.observer()
    }

    /// Lets what is asynchronous go on, without time passing.
    pub(crate) fn settle(&mut self) {
        self.runtime.block_on(async {
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Lets time pass for what is asynchronous.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(ms)).await });
    }
}

/// What all log backups of a simulation are set to.
pub(crate) struct Settings {
    dir: PathBuf,
    config: Config,
}

impl Settings {
    pub(crate) fn draw(rng: &mut SmallRng, dir: &Path) -> Self {
        let tight = rng.random_bool(0.3);
        let config = Config {
            num_threads: rng.random_range(1..=2),
            max_flush_interval: Duration::from_millis(rng.random_range(200..1500)),
            file_size_limit: ByteSize::b(rng.random_range(2..64) * 1024),
            temp_file_memory_quota: ByteSize::kib(if tight { 8 } else { 4096 }),
            block_size: ByteSize::b(rng.random_range(1..8) * 512),
            pending_memory_quota: ByteSize::b(MEMORY as u64),
            lock_memory_quota: ByteSize::b(if tight { 2048 } else { 1 << 20 }),
            initial_scan_rate_limit: ByteSize::b(u64::MAX),
            initial_scan_concurrency: rng.random_range(1..=4),
            generations_in_flight: rng.random_range(1..=4),
            upload_concurrency: rng.random_range(1..=4),
            ..Config::default()
        };
        Settings { dir: dir.to_owned(), config }
    }
}

impl World {
    /// A process of the log backup of a store.
    pub(crate) fn make_node(&mut self, store: StoreId) -> Result<SimNode, Violation> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|e| Violation::broken(&e))?;
        let (cluster, faults) = (self.cluster.clone(), self.host_faults.clone());
        let host = SimHost { inner: cluster.host(store), faults, cluster, hold: Arc::default() };
        let mut config = self.settings.config.clone();
        // Every process has a directory of its own: a second one would else remove the spool of the first.
        let process = self.counts.advances + self.ticks;
        config.temp_path = self.settings.dir.join(format!("{store}-{process}-{}", self.zombies.len()));
        if self.squeezed {
            config.pending_memory_quota = ByteSize::b(LITTLE_MEMORY as u64);
        }
        let process = self.durable.process(store);
        let opener = self.task.opener(process.clone());
        let coordinator = MortalCoordinator { inner: Arc::new(self.coordinator.clone()), process };
        let stepped = Builder::new(Arc::new(host), PathBuf::new())
            .coordinator(Arc::new(coordinator))
            .config(config)
            .storages(opener)
            .stepped(runtime.handle().clone())
            .map_err(|e| Violation::broken(&e))?;
        Ok(SimNode { stepped, runtime })
    }

    /// Starts the log backup of a store that runs.
    pub(crate) fn start_node(&mut self, store: StoreId) -> Result<(), Violation> {
        let node = self.make_node(store)?;
        self.cluster.add_observer(store, node.observer()).map_err(|e| Violation::broken(&e))?;
        self.nodes.insert(store, node);
        Ok(())
    }
}
