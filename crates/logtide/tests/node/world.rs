//! A store in memory, with log backup linked in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide::{Builder, Config, Executor};
use logtide_coordinator::{DirectoryStore, RawRange, TaskSpec, Tasks};
use logtide_format::Keys;
use logtide_mock_raftstore::client::Client;
use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};
use logtide_model::{Compression, KeyRange, Task, TaskEncryption, TaskName, Ts};
use logtide_restore::{RestoreError, RestoreOptions, Silent, restore_point};
use prometheus::Registry;
use tempfile::TempDir;

/// Nothing takes so long, on however slow a machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A store, and a directory for everything.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) cluster: Cluster,
    pub(crate) registry: Registry,
}

impl World {
    pub(crate) fn new() -> Self {
        let cluster = Cluster::start(ClusterConfig {
            stores: 1,
            split_keys: vec![b"b".to_vec(), b"m".to_vec()],
            ..ClusterConfig::memory(Driver::Threads)
        });
        let world = World { dir: tempfile::tempdir().unwrap(), cluster: cluster.unwrap(), registry: Registry::new() };
        assert!(world.cluster.wait_ready(PATIENCE));
        world
    }

    /// The directory of a storage, empty.
    pub(crate) fn storage(&self) -> PathBuf {
        let storage = self.dir.path().join("storage");
        std::fs::create_dir(&storage).unwrap();
        storage
    }

    /// Starts the store's log backup.
    pub(crate) fn start(&self, registry: &Registry, spool: &str) -> Executor {
        self.start_with(registry, spool, Duration::from_millis(100), |builder| builder)
    }

    /// The same, with another interval between flushes and what else a builder takes.
    pub(crate) fn start_with(
        &self,
        registry: &Registry,
        spool: &str,
        max_flush_interval: Duration,
        change: impl FnOnce(Builder) -> Builder,
    ) -> Executor {
        let config = Config { temp_path: self.dir.path().join(spool), max_flush_interval, ..Config::default() };
        let builder = Builder::new(self.cluster.host(1), self.dir.path().join("coordinator"));
        let executor = change(builder.config(config).registry(registry)).start().unwrap();
        self.cluster.add_observer(1, executor.observer()).unwrap();
        executor
    }

    pub(crate) fn tasks(&self) -> Tasks {
        Tasks::new(Arc::new(DirectoryStore::open(self.dir.path().join("coordinator")).unwrap()))
    }

    pub(crate) fn begin_task(&self, storage: &Path) -> Task {
        self.begin_with(storage, None)
    }

    /// A task that encrypts, if that is said.
    pub(crate) fn begin_with(&self, storage: &Path, encryption: Option<TaskEncryption>) -> Task {
        let spec = TaskSpec {
            name: TaskName::new("pitr").unwrap(),
            storage: format!("local://{}", storage.display()),
            start_ts: Ts::ZERO,
            ranges: vec![RawRange::default()],
            // What is compressed would hide its text too.
            compression: if encryption.is_some() { Compression::None } else { Compression::Zstd },
            encryption,
        };
        self.tasks().create(&spec).unwrap()
    }

    pub(crate) fn put(&self, key: &str, value: &str) -> Ts {
        let mut txn = Client::new(self.cluster.rpc()).begin().unwrap();
        txn.put(key, value.to_owned());
        txn.commit().unwrap()
    }

    pub(crate) fn wait(&self, what: &str, done: impl Fn(&Tasks) -> bool) {
        let (begun, tasks) = (Instant::now(), self.tasks());
        while !done(&tasks) {
            assert!(begun.elapsed() < PATIENCE, "{what} did not come about");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    pub(crate) fn wait_for_checkpoint(&self, task: &Task, ts: Ts) {
        self.wait("the checkpoint", |tasks| tasks.global_checkpoint(&task.name).unwrap().is_some_and(|c| c >= ts));
    }

    /// Waits until the storage alone says that it holds everything at `ts`.
    pub(crate) fn wait_for_checkpoint_object(&self, task: &Task, ts: Ts) {
        let storage = logtide_storage::open(&task.storage).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        self.wait("the checkpoint object", |_| {
            runtime.block_on(logtide_storage::read_checkpoint(&storage)).unwrap().is_some_and(|held| held >= ts)
        });
    }

    /// What the storage alone gives back.
    pub(crate) fn restored(&self, storage: &Path, ts: Option<Ts>) -> Vec<(String, String)> {
        self.restored_with(storage, ts, Keys::NONE).unwrap()
    }

    /// The same of a backup that is encrypted.
    pub(crate) fn restored_with(
        &self,
        storage: &Path,
        ts: Option<Ts>,
        keys: Keys,
    ) -> Result<Vec<(String, String)>, RestoreError> {
        let storage = logtide_storage::open(&format!("local://{}", storage.display())).unwrap();
        let target = tempfile::tempdir_in(self.dir.path()).unwrap();
        let keys = Arc::new(keys);
        let options = RestoreOptions { restored_ts: ts, keys, ..RestoreOptions::new(target.path().join("db")) };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let summary = runtime.block_on(restore_point(&storage, &options, &Silent))?;
        let mut pairs = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        logtide_restore::dump(&options.target, Ts::new(summary.restored_ts), &KeyRange::ALL, &mut |key, value| {
            pairs.push((text(key), text(value)));
            Ok(())
        })
        .unwrap();
        Ok(pairs)
    }
}

pub(crate) fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}
