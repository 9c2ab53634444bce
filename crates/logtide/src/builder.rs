//! Puts a store's log backup together: channels first, then threads, those that consume before those that produce.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use crossbeam_channel::Receiver;
use logtide_coordinator::{DirectoryStore, Store, Tasks};
use logtide_flusher::Blocking;
use logtide_initial_scan::{RateLimiter, Scanner, ThreadIo};
use logtide_model::message::ShardMessage;
use logtide_model::{Host, Kms, KmsError, KmsKey, Random};
use logtide_observer::{Observer, ObserverConfig};
use logtide_shard::{Shard, ShardConfig};
use logtide_storage::{Storage, StorageError};
use logtide_temp_file::{Files, SystemFiles, TaskKeys};
use prometheus::Registry;
use tokio::runtime::{Handle, Runtime};

use crate::budgets::Budgets;
use crate::encryption::Encryption;
use crate::executor::Executor;
use crate::flushing::{Flushing, Opener};
use crate::metrics::Metrics;
use crate::node::{Node, StopFlag};
use crate::online::Online;
use crate::scan_queue::ScanQueue;
use crate::scanners::Scanners;
use crate::shards::ShardWorker;
use crate::stepped::Stepped;
use crate::{Config, StartError, advance, heartbeat, supervisor};

/// Bytes of records in a batch of an initial scan.
const SCAN_BATCH: usize = 512 << 10;

/// Starts log backup on a store: give it the host, say where the coordinator is, and register the observer that the
/// [`Executor`] hands out.
pub struct Builder {
    host: Arc<dyn Host>,
    config: Config,
    registry: Registry,
    coordinator: Coordinator,
    opener: Opener,
    encryption: Encryption,
    files: Arc<dyn Files>,
}

enum Coordinator {
    Directory(PathBuf),
    Store(Arc<dyn Store>),
}

impl Coordinator {
    fn open(self) -> Result<Arc<dyn Store>, StartError> {
        match self {
            Coordinator::Store(store) => Ok(store),
            Coordinator::Directory(dir) => {
                let store = DirectoryStore::open(&dir).map_err(|e| StartError::Coordinator(e.to_string()))?;
                Ok(Arc::new(store))
            }
        }
    }
}

/// Makes the spool's directory, and removes what dead processes left there.
fn prepare_spool(dir: &Path) -> Result<(), StartError> {
    let failed = |e: std::io::Error| StartError::Spool { path: dir.display().to_string(), cause: e.to_string() };
    std::fs::create_dir_all(dir).map_err(failed)?;
    if let Err(error) = logtide_temp_file::remove_stale(dir) {
        tracing::warn!(%error, "files of dead processes stay in the spool's directory until the next start");
    }
    Ok(())
}

impl Builder {
    /// For the store that `host` is, with its tasks in the coordinator directory `coordinator`, which all stores of the
    /// cluster and the `logtide` command share.
    pub fn new(host: Arc<dyn Host>, coordinator: impl Into<PathBuf>) -> Self {
        let coordinator = Coordinator::Directory(coordinator.into());
        let opener: Opener = Arc::new(logtide_storage::open);
        let (config, registry, encryption) = (Config::default(), Registry::new(), Encryption::default());
        let files = Arc::new(SystemFiles);
        Builder { host, config, registry, coordinator, opener, encryption, files }
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

    /// Opens the storages of tasks in another way than by [`logtide_storage::open`].
    pub fn storages(mut self, open: impl Fn(&str) -> Result<Storage, StorageError> + Send + Sync + 'static) -> Self {
        self.opener = Arc::new(open);
        self
    }

    /// Where the master keys of tasks are that are encrypted with a key management service: `client` makes the client of
    /// one key. Default: [`logtide_storage::open_kms`], which has one for Amazon's and one for Google's.
    pub fn kms(mut self, client: impl Fn(&KmsKey) -> Result<Arc<dyn Kms>, KmsError> + Send + Sync + 'static) -> Self {
        self.encryption.kms = Arc::new(client);
        self
    }

    /// Where data keys and initialization vectors come from. Default: the operating system's randomness. Anything that
    /// can be guessed makes encryption void: only simulations set another one.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.encryption.random = random;
        self
    }

    /// Where the spool's files are kept, if not in files of the system below `temp-path`: for a host that has its own way
    /// to its disks, and for simulations. Files of dead processes are looked for in the directory all the same.
    pub fn spool_files(mut self, files: Arc<dyn Files>) -> Self {
        self.files = files;
        self
    }

    /// Starts the threads. Tasks that exist begin at once, others when they are created.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(self) -> Result<Executor, StartError> {
        self.config.validate()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("logtide-flush")
            .enable_all()
            .build()?;
        let parts = self.build(runtime.handle().clone(), Blocking::Threads)?;
        let (stop, scans) = (parts.node.stop.clone(), parts.scans.clone());
        launch(parts, runtime).inspect_err(|_| {
            stop.raise();
            scans.close();
        })
    }

    /// Builds a store's log backup that does nothing by itself, for simulations: see [`Stepped`]. What is asynchronous
    /// runs on `runtime`, which should have one thread; limits are not checked, so that they can be tight.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn stepped(self, runtime: Handle) -> Result<Stepped, StartError> {
        Ok(Stepped::new(self.build(runtime, Blocking::InPlace)?))
    }

    /// All parts that do not run by themselves.
    fn build(self, runtime: Handle, blocking: Blocking) -> Result<Parts, StartError> {
        prepare_spool(&self.config.temp_path)?;
        let store = self.coordinator.open()?;
        let metrics = Metrics::register(&self.registry)?;
        let budgets = Budgets::new(&self.config, self.files);
        let observer_config = ObserverConfig { shards: self.config.num_threads, memory: budgets.events.clone() };
        let (observer, queues) = Observer::new(observer_config);
        let node = Node {
            room: budgets.spool.clone(),
            host: self.host,
            observer,
            tasks: Arc::new(Tasks::new(store)),
            shards: Arc::default(),
            settings: Arc::new(ArcSwap::from_pointee(self.config)),
            metrics,
            boot: Arc::default(),
            interest: Arc::default(),
            closing: StopFlag::default(),
            stop: StopFlag::default(),
        };
        let config = node.config();
        if config.enable {
            node.metrics.enabled.inc();
        }
        let scans = Arc::new(ScanQueue::new(config.initial_scan_concurrency, node.room.clone()));
        let keys = self.encryption.tasks.clone();
        let workers =
            queues.into_iter().enumerate().map(|(n, queue)| worker(&node, &budgets, &scans, &keys, (n, queue)));
        let limiter = RateLimiter::new(config.initial_scan_rate_limit.as_u64()).counting(Arc::new(ThreadIo));
        let scanner = Scanner { limiter, memory: budgets.scan.clone(), batch_bytes: SCAN_BATCH };
        let (memory, opener, encryption) = (budgets.upload.clone(), self.opener, self.encryption);
        let flushing = Flushing { runtime, memory, blocking, opener, encryption };
        Ok(Parts { workers: workers.collect(), node, budgets, scans, scanner, flushing })
    }
}

/// A store's log backup before anything runs.
pub(crate) struct Parts {
    pub(crate) node: Node,
    pub(crate) budgets: Budgets,
    pub(crate) workers: Vec<ShardWorker>,
    pub(crate) scans: Arc<ScanQueue>,
    pub(crate) scanner: Scanner,
    pub(crate) flushing: Flushing,
}

fn worker(
    node: &Node,
    budgets: &Budgets,
    scans: &Arc<ScanQueue>,
    keys: &TaskKeys,
    (number, queue): (usize, Receiver<ShardMessage>),
) -> ShardWorker {
    let config = node.config();
    let config = ShardConfig {
        shard: number,
        room: node.room.clone(),
        keys: keys.clone(),
        block_size: usize::try_from(config.block_size.as_u64()).unwrap_or(usize::MAX),
        lock_memory: budgets.locks.clone(),
    };
    ShardWorker {
        number,
        shard: Shard::new(config),
        queue,
        board: node.shards.clone(),
        scans: scans.clone(),
        tasks: node.tasks.clone(),
        metrics: node.metrics.clone(),
        disk: node.room.disk.clone(),
    }
}

/// Threads: those that consume before those that produce.
fn launch(parts: Parts, runtime: Runtime) -> Result<Executor, StartError> {
    let Parts { node, budgets, workers, scans, scanner, flushing } = parts;
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for worker in workers {
        threads.push(worker.start(node.stop.clone())?);
    }
    let scanners = Scanners::start(&node, &scanner, &scans)?;
    let supervisor = supervisor::start(&node, flushing)?;
    threads.push(advance::start(&node)?);
    threads.push(heartbeat::start(&node, budgets.clone(), scans.clone(), supervisor.board())?);
    let online = Online { settings: node.settings.clone(), budgets, scans, limiter: scanner.limiter };
    Ok(Executor { node, online, scanners, threads, supervisor: Some(supervisor), runtime: Some(runtime) })
}
