//! The log backup of one store, as a process: it can crash, and be there twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use logtide::{Builder, Config, Stepped};
use logtide_mock_raftstore::Around;
use logtide_model::{MemoryBudget, RaftObserver, Random, RandomError, StoreId};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;

use super::World;
use crate::host::SimHost;
use crate::mortal::MortalCoordinator;
use crate::violation::Violation;

/// Bytes for events on their way, usually.
pub(crate) const MEMORY: usize = 256 << 10;
/// Bytes for events on their way when there is little: a batch or two.
pub(crate) const LITTLE_MEMORY: usize = 1500;

/// See [`SimNode::slack`].
const SPOOL_SLACK: usize = (1 << 20) + (512 << 10) + (160 << 10);
const UPLOAD_SLACK: usize = (64 << 10) + 4 * (16 << 10);

/// See the module.
pub(crate) struct SimNode {
    // Dropped first: a crash ends it before its runtime.
    pub(crate) stepped: Stepped,
    pub(crate) runtime: Runtime,
    config: Config,
    /// The largest limits so far of what memory is accounted for.
    limits: BTreeMap<&'static str, usize>,
}

impl SimNode {
    pub(crate) fn observer(&self) -> Arc<dyn RaftObserver> {
        self.stepped.observer()
    }

    /// Changes its settings while it runs.
    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut Config), now: Instant) {
        change(&mut self.config);
        self.stepped.configure(self.config.clone(), now);
        self.note_limits();
    }

    fn note_limits(&mut self) {
        for (name, budget) in self.stepped.budgets() {
            let largest = self.limits.entry(name).or_default();
            *largest = budget.limit().max(*largest);
        }
    }

    /// More memory than there ever might have been. `disk_failed`: what was to be on the disk may be in memory, and a seal
    /// puts together there what it has, if that is no more than as much again.
    pub(crate) fn over_budget(&self, disk_failed: bool) -> Option<String> {
        let over = |(name, budget): (&str, &MemoryBudget)| {
            let quota = self.limits.get(name)?;
            let twice = disk_failed && name == "spool";
            let limit = quota * (1 + usize::from(twice)) + self.slack(name);
            let peak = budget.peak();
            (peak > limit).then(|| format!("{name} took {peak} bytes of {limit}"))
        };
        self.stepped.budgets().into_iter().find_map(over)
    }

    /// What is taken whatever the limit is, for it is there already, or alone.
    fn slack(&self, name: &str) -> usize {
        match name {
            // Accounts of locks take pieces of 64 KiB, one for each shard at least.
            "locks" => (64 << 10) * self.stepped.shards(),
            // Each shard has a compressor, a buffer in front of its file, a slab for the tails of segments, and works on a
            // block. What is known of blocks on the disk is small, but some quotas here are smaller.
            "spool" => SPOOL_SLACK * self.stepped.shards(),
            // A data object that is alone, and the metadata of generations in flight.
            "upload" => UPLOAD_SLACK,
            _ => 0,
        }
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
    seed: u64,
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
            temp_file_memory_quota: ByteSize::kib(if tight || rng.random_bool(0.4) { 8 } else { 4096 }),
            block_size: ByteSize::b(rng.random_range(1..8) * 512),
            pending_memory_quota: ByteSize::b(MEMORY as u64),
            lock_memory_quota: ByteSize::b(if tight { 2048 } else { 1 << 20 }),
            initial_scan_rate_limit: ByteSize::b(u64::MAX),
            initial_scan_concurrency: rng.random_range(1..=4),
            generations_in_flight: rng.random_range(1..=4),
            upload_concurrency: rng.random_range(1..=4),
            upload_memory_quota: ByteSize::kib(if tight { 4 } else { 4096 }),
            metadata_merge_count: [0, 2, 3, 8][rng.random_range(0..4)],
            ..Config::default()
        };
        Settings { seed: rng.random(), dir: dir.to_owned(), config }
    }

    /// Other settings, of those that may change while a store runs. (A scan reads its snapshot in one step here, so it may
    /// wait for nothing: neither for its rate nor for memory.)
    pub(crate) fn redraw(config: &mut Config, squeezed: bool, rng: &mut SmallRng) {
        let bytes = |n: u64| ByteSize::b(n);
        config.max_flush_interval = Duration::from_millis(rng.random_range(200..1500));
        config.file_size_limit = bytes(rng.random_range(2..64) * 1024);
        config.temp_file_memory_quota = bytes(rng.random_range(4..64) * 1024);
        config.pending_memory_quota = bytes(if squeezed { LITTLE_MEMORY as u64 } else { MEMORY as u64 });
        config.lock_memory_quota = bytes(rng.random_range(1..256) * 1024);
        config.upload_memory_quota = bytes(rng.random_range(1..256) * 1024);
        config.initial_scan_rate_limit = bytes(if rng.random_bool(0.5) { u64::MAX } else { 1 << 50 });
        config.initial_scan_concurrency = rng.random_range(1..=4);
        config.generations_in_flight = rng.random_range(1..=4);
        config.metadata_merge_count = [0, 2, 3, 8][rng.random_range(0..4)];
    }
}

/// Random bytes that a seed stands for.
#[derive(Debug)]
struct Seeded(Mutex<SmallRng>);

impl Seeded {
    fn new(seed: u64) -> Self {
        Seeded(Mutex::new(SmallRng::seed_from_u64(seed)))
    }
}

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.0.lock().fill(bytes);
        Ok(())
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
        let host = SimHost { inner: cluster.host(store), faults, cluster };
        let mut config = self.settings.config.clone();
        // Every process has a directory of its own: a second one would else remove the spool of the first.
        let process_number = self.counts.advances + self.ticks;
        config.temp_path = self.settings.dir.join(format!("{store}-{process_number}-{}", self.zombies.len()));
        if self.squeezed {
            config.pending_memory_quota = ByteSize::b(LITTLE_MEMORY as u64);
        }
        let process = self.durable.process(store);
        let opener = self.task.opener(process.clone());
        let coordinator = MortalCoordinator { inner: Arc::new(self.coordinator.clone()), process };
        let stepped = Builder::new(Arc::new(Around(host)), PathBuf::new())
            .coordinator(Arc::new(coordinator))
            .config(config.clone())
            .random(Arc::new(Seeded::new(self.settings.seed ^ process_number << 8 ^ store)))
            .storages(opener)
            .spool_files(self.disks.mount(store))
            .stepped(runtime.handle().clone())
            .map_err(|e| Violation::broken(&e))?;
        let mut node = SimNode { stepped, runtime, config, limits: BTreeMap::new() };
        node.note_limits();
        Ok(node)
    }

    /// Starts the log backup of a store that runs.
    pub(crate) fn start_node(&mut self, store: StoreId) -> Result<(), Violation> {
        let node = self.make_node(store)?;
        self.cluster.add_observer(store, node.observer()).map_err(|e| Violation::broken(&e))?;
        self.nodes.insert(store, node);
        Ok(())
    }
}
