//! A cluster on RocksDB with log backup linked into every store, and what is done to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use logtide::{Builder, Config, Executor};
use logtide_coordinator::{DirectoryStore, RawRange, TaskSpec, Tasks};
use logtide_mock_raftstore::client::Client;
use logtide_mock_raftstore::{Cluster, ClusterConfig};
use logtide_model::{Compression, RaftObserver, StoreId, Task, TaskName, Ts};
use prometheus::Registry;
use tempfile::TempDir;

use crate::load::{Load, patient};
use crate::proof::Stored;

/// Nothing takes so long, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long something that may get lost (a leader transfer) is waited for before it is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Waits for something; says what, if it does not come about.
pub(crate) fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come about in {PATIENCE:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// The log backup of a store, in one life.
struct Backup {
    executor: Executor,
    registry: Registry,
}

/// See the module.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) cluster: Cluster,
    backups: BTreeMap<StoreId, Backup>,
    /// Metrics of lives that are over.
    pub(crate) past: Vec<Registry>,
    lives: u64,
}

impl World {
    /// Stores, with log backup on each of them; no task yet.
    pub(crate) fn new(change: impl FnOnce(&mut ClusterConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ClusterConfig::rocksdb(dir.path().join("cluster"));
        config.tick = Duration::from_millis(20);
        config.split_keys = vec![b"key-110".to_vec(), b"left-".to_vec()];
        change(&mut config);
        std::fs::create_dir(dir.path().join("storage")).unwrap();
        let cluster = Cluster::start(config).unwrap();
        assert!(cluster.wait_ready(PATIENCE), "every region has a leader");
        let mut world = World { dir, cluster, backups: BTreeMap::new(), past: Vec::new(), lives: 0 };
        for store in world.cluster.stores() {
            let observer = world.start_backup(store);
            world.cluster.add_observer(store, observer).unwrap();
        }
        world
    }

    /// Starts the log backup of a store; the observer is for its raft store.
    fn start_backup(&mut self, store: StoreId) -> Arc<dyn RaftObserver> {
        self.lives += 1;
        let config = Config {
            temp_path: self.dir.path().join(format!("spool-{store}-{}", self.lives)),
            max_flush_interval: Duration::from_millis(300),
            confirm_timeout: Duration::from_secs(1),
            ..Config::default()
        };
        let registry = Registry::new();
        let builder = Builder::new(self.cluster.host(store), self.coordinator()).config(config);
        let executor = builder.registry(&registry).start().unwrap();
        let observer = executor.observer();
        self.backups.insert(store, Backup { executor, registry });
        observer
    }

    /// Ends the log backup of a store, with a last flush or (as when a process dies) without, and starts it again.
    pub(crate) fn restart_backup(&mut self, store: StoreId, flush: bool) {
        self.end_backup(store, flush);
        let observer = self.start_backup(store);
        self.cluster.add_observer(store, observer).unwrap();
    }

    fn end_backup(&mut self, store: StoreId, flush: bool) {
        let Backup { executor, registry } = self.backups.remove(&store).unwrap();
        if flush {
            executor.shutdown();
        } else {
            drop(executor);
        }
        self.past.push(registry);
    }

    /// A process dies: the store and the log backup that is linked into it.
    pub(crate) fn crash(&mut self, store: StoreId) {
        self.cluster.stop_store(store);
        self.end_backup(store, false);
    }

    /// It is started again.
    pub(crate) fn start_again(&mut self, store: StoreId) {
        let observer = self.start_backup(store);
        self.cluster.restart_store(store, vec![observer]).unwrap();
    }

    fn coordinator(&self) -> PathBuf {
        self.dir.path().join("coordinator")
    }

    /// The coordinator.
    pub(crate) fn tasks(&self) -> Tasks {
        Tasks::new(Arc::new(DirectoryStore::open(self.coordinator()).unwrap()))
    }

    fn storage(&self) -> String {
        format!("local://{}", self.dir.path().join("storage").display())
    }

    /// Begins the backup of everything.
    pub(crate) fn begin_task(&self) -> Task {
        let spec = TaskSpec {
            name: TaskName::new("lives").unwrap(),
            storage: self.storage(),
            start_ts: Ts::ZERO,
            ranges: vec![RawRange::default()],
            compression: Compression::Zstd,
            encryption: None,
        };
        self.tasks().create(&spec).unwrap()
    }

    /// A client of the whole cluster.
    pub(crate) fn client(&self) -> Client {
        patient(self.cluster.rpc())
    }

    /// A moment, between what was and what comes.
    pub(crate) fn moment(&self) -> Ts {
        self.client().timestamp().unwrap()
    }

    /// The metrics of the lives that go on, by store.
    pub(crate) fn registries(&self) -> Vec<Registry> {
        self.backups.values().map(|backup| backup.registry.clone()).collect()
    }

    /// Waits until that many more transactions are committed.
    pub(crate) fn wait_for_commits(&self, load: &Load, more: u64) {
        let wanted = load.commits() + more;
        wait("the next commits", || load.commits() >= wanted);
    }

    /// The storage.
    pub(crate) fn stored(&self) -> Stored {
        Stored::new(self.dir.path(), &self.storage())
    }

    /// Waits until the storage alone says that it holds everything at `ts`.
    pub(crate) fn wait_for_checkpoint(&self, task: &Task, ts: Ts) {
        let (begun, stored) = (Instant::now(), self.stored());
        while stored.checkpoint() < ts {
            let status = || self.tasks().status(&task.name);
            assert!(begun.elapsed() < PATIENCE, "the checkpoint did not reach {ts} in {PATIENCE:?}: {:?}", status());
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Has a region's leadership brought to a store, unless the region goes away.
    pub(crate) fn move_leader(&self, region_id: u64, to: StoreId) {
        wait("a leader transfer", || {
            drop(self.cluster.transfer_leader(region_id, to));
            let there = |all: &[(logtide_model::Region, StoreId, u64)]| {
                all.iter().find(|(region, ..)| region.id == region_id).is_none_or(|(_, leader, _)| *leader == to)
            };
            self.cluster.wait_regions(ASK_AGAIN, there)
        });
    }

    /// The end of a life: everything is flushed, then the stores stop.
    pub(crate) fn shutdown(self) {
        for backup in self.backups.into_values() {
            backup.executor.shutdown();
        }
        self.cluster.shutdown();
    }
}
