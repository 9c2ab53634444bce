//! Puts a store's log backup together: channels first, then threads, those that consume before those that produce.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use logtide_coordinator::{DirectoryStore, Store, Tasks};
use logtide_initial_scan::{RateLimiter, Scanner};
use logtide_model::{Host, MemoryBudget};
use logtide_observer::{Observer, ObserverConfig};
use logtide_shard::{Shard, ShardConfig};
use prometheus::Registry;
use tokio::runtime::Runtime;

use crate::executor::Executor;
use crate::flushing::Flushing;
use crate::metrics::Metrics;
use crate::node::{Node, StopFlag};
use crate::scan_queue::ScanQueue;
use crate::shards::ShardThread;
use crate::{Config, StartError, advance, heartbeat, scanners, supervisor};

/// Bytes of records in a batch of an initial scan.
const SCAN_BATCH: usize = 512 << 10;

/// Starts log backup on a store: give it the host, say where the coordinator is, and register the observer that the
/// [`Executor`] hands out.
pub struct Builder {
    host: Arc<dyn Host>,
    config: Config,
    registry: Registry,
    coordinator: Coordinator,
}

enum Coordinator {
    Directory(PathBuf),
    Store(Arc<dyn Store>),
}

/// The accounted memory of a store, by what it is for.
#[derive(Clone)]
pub(crate) struct Budgets {
    pub(crate) events: MemoryBudget,
    pub(crate) spool: MemoryBudget,
    pub(crate) locks: MemoryBudget,
    pub(crate) scan: MemoryBudget,
    pub(crate) upload: MemoryBudget,
}

impl Budgets {
    fn new(config: &Config) -> Self {
        let budget = |size: bytesize::ByteSize| MemoryBudget::new(usize::try_from(size.as_u64()).unwrap_or(usize::MAX));
        Budgets {
            events: budget(config.pending_memory_quota),
            spool: budget(config.temp_file_memory_quota),
            locks: budget(config.lock_memory_quota),
            scan: budget(config.initial_scan_pending_memory_quota),
            upload: budget(config.upload_memory_quota),
        }
    }

    /// With the names that metrics have for them.
    pub(crate) fn named(&self) -> [(&'static str, &MemoryBudget); 5] {
        [
            ("events", &self.events),
            ("spool", &self.spool),
            ("locks", &self.locks),
            ("scan", &self.scan),
            ("upload", &self.upload),
        ]
    }
}

impl Builder {
    /// For the store that `host` is, with its tasks in the coordinator directory `coordinator`, which all stores of the
    /// cluster and the `logtide` command share.
    pub fn new(host: Arc<dyn Host>, coordinator: impl Into<PathBuf>) -> Self {
        let coordinator = Coordinator::Directory(coordinator.into());
        Builder { host, config: Config::default(), registry: Registry::new(), coordinator }
    }

    /// Uses another kind of coordinator.
    pub fn coordinator(mut self, store: Arc<dyn Store>) -> Self {
        self.coordinator = Coordinator::Store(store);
        self
    }

    /// Sets the configuration.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where the metrics go.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = registry.clone();
        self
    }

    /// Starts the threads. Tasks that exist begin at once, others when they are created.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(self) -> Result<Executor, StartError> {
        self.config.validate()?;
        let spool = |e: &dyn std::fmt::Display| StartError::Spool {
            path: self.config.temp_path.display().to_string(),
            cause: e.to_string(),
        };
        std::fs::create_dir_all(&self.config.temp_path).map_err(|e| spool(&e))?;
        logtide_temp_file::remove_stale(&self.config.temp_path).map_err(|e| spool(&e))?;
        let unavailable = |e: &dyn std::fmt::Display| StartError::Coordinator(e.to_string());
        let store: Arc<dyn Store> = match &self.coordinator {
            Coordinator::Store(store) => store.clone(),
            Coordinator::Directory(dir) => Arc::new(DirectoryStore::open(dir).map_err(|e| unavailable(&e))?),
        };
        let metrics = Metrics::register(&self.registry)?;
        let budgets = Budgets::new(&self.config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("logtide-flush")
            .enable_all()
            .build()?;
        let observer_config = ObserverConfig { shards: self.config.num_threads, memory: budgets.events.clone() };
        let (observer, queues) = Observer::new(observer_config);
        let node = Node {
            host: self.host,
            observer,
            tasks: Arc::new(Tasks::new(store)),
            shards: Arc::default(),
            config: Arc::new(self.config),
            metrics,
            boot: Arc::default(),
            interest: Arc::default(),
            closing: StopFlag::default(),
            stop: StopFlag::default(),
        };
        if node.config.enable {
            node.metrics.enabled.inc();
        }
        let (stop, scans) = (node.stop.clone(), Arc::new(ScanQueue::default()));
        launch(node, budgets, queues, runtime, scans.clone()).inspect_err(|_| {
            stop.raise();
            scans.close();
        })
    }
}

fn launch(
    node: Node,
    budgets: Budgets,
    queues: Vec<crossbeam_channel::Receiver<logtide_model::message::ShardMessage>>,
    runtime: Runtime,
    scans: Arc<ScanQueue>,
) -> Result<Executor, StartError> {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for (number, queue) in queues.into_iter().enumerate() {
        let config = ShardConfig {
            shard: number,
            spool_dir: node.config.temp_path.clone(),
            spool_memory: budgets.spool.clone(),
            block_size: usize::try_from(node.config.block_size.as_u64()).unwrap_or(usize::MAX),
            lock_memory: budgets.locks.clone(),
        };
        let thread = ShardThread {
            number,
            shard: Shard::new(config),
            queue,
            board: node.shards.clone(),
            scans: scans.clone(),
            metrics: node.metrics.clone(),
            stop: node.stop.clone(),
        };
        threads.push(thread.start()?);
    }
    let limiter = RateLimiter::new(node.config.initial_scan_rate_limit.as_u64());
    let scanner = Scanner { limiter, memory: budgets.scan.clone(), batch_bytes: SCAN_BATCH };
    threads.extend(scanners::start(&node, &scanner, &scans)?);
    let flushing = Flushing { runtime: runtime.handle().clone(), memory: budgets.upload.clone() };
    let supervisor = supervisor::start(&node, flushing)?;
    threads.push(advance::start(&node)?);
    threads.push(heartbeat::start(&node, budgets, scans.clone(), supervisor.board())?);
    Ok(Executor { node, scans, threads, supervisor: Some(supervisor), runtime: Some(runtime) })
}
