//! A store with threads whose storage is away while several times the disk quota of its spool is written: it stays within its
//! quotas, says what is the matter, and comes back by itself, to the last byte.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests, also in what tests share")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use logtide::{Builder, Config, Executor};
use logtide_coordinator::{Degraded, DirectoryStore, RawRange, TaskSpec, Tasks};
use logtide_mock_raftstore::client::Client;
use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};
use logtide_model::{Compression, KeyRange, Task, TaskName, Ts};
use logtide_restore::{MemorySink, RestoreOptions, Silent, restore_to};

const PATIENCE: Duration = Duration::from_secs(240);
const QUOTA: u64 = 64 << 20;
/// With the storage away.
const MIB_WRITTEN: u64 = 192;
const VALUE: usize = 64 << 10;
/// Regions are split at these; nobody writes to the last one.
const SPLITS: [&str; 4] = ["b", "c", "d", "x"];

struct World {
    home: tempfile::TempDir,
    cluster: Cluster,
    executor: Option<Executor>,
    task: Task,
    n: u64,
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let split_keys = SPLITS.map(|key| key.as_bytes().to_vec()).into();
        let config = ClusterConfig { stores: 1, split_keys, log_keep: 100, ..ClusterConfig::memory(Driver::Threads) };
        let cluster = Cluster::start(config).unwrap();
        assert!(cluster.wait_ready(PATIENCE));
        let config = Config {
            temp_path: home.path().join("spool"),
            temp_file_memory_quota: ByteSize::mib(8),
            temp_file_disk_quota: ByteSize::b(QUOTA),
            max_flush_interval: Duration::from_millis(200),
            file_size_limit: ByteSize::mib(16),
            num_threads: 2,
            ..Config::default()
        };
        let executor = Builder::new(cluster.host(1), home.path().join("coordinator")).config(config).start().unwrap();
        cluster.add_observer(1, executor.observer()).unwrap();
        std::fs::create_dir(home.path().join("storage")).unwrap();
        let spec = TaskSpec {
            name: TaskName::new("t").unwrap(),
            storage: format!("local://{}", home.path().join("storage").display()),
            start_ts: Ts::ZERO,
            ranges: vec![RawRange::default()],
            compression: Compression::Zstd,
            encryption: None,
        };
        let task = tasks(home.path()).create(&spec).unwrap();
        World { home, cluster, executor: Some(executor), task, n: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The storage is away: its place is taken by something that is none.
    fn take_away(&self) {
        std::fs::rename(self.path("storage"), self.path("away")).unwrap();
        std::fs::write(self.path("storage"), b"").unwrap();
    }

    fn bring_back(&self) {
        std::fs::remove_file(self.path("storage")).unwrap();
        std::fs::rename(self.path("away"), self.path("storage")).unwrap();
    }

    /// A megabyte that cannot be compressed, over three regions; keys come again, and some are deleted.
    fn write(&mut self) -> Ts {
        let mut txn = Client::new(self.cluster.rpc()).begin().unwrap();
        for _ in 0..16 {
            self.n += 1;
            let key = format!("{}{:04}", ["a", "b", "c"][self.n as usize % 3], self.n * 7 % 700);
            if self.n.is_multiple_of(11) { txn.delete(key) } else { txn.put(key, noise(self.n)) }
        }
        txn.commit().unwrap()
    }

    fn moment(&self) -> Ts {
        Client::new(self.cluster.rpc()).timestamp().unwrap()
    }

    fn degraded(&self) -> Option<Degraded> {
        tasks(self.home.path()).stores(&self.task).unwrap().remove(&1).and_then(|status| status.degraded)
    }

    fn checkpoint(&self) -> Ts {
        tasks(self.home.path()).global_checkpoint(&self.task.name).unwrap().unwrap_or(Ts::ZERO)
    }

    fn on_disk(&self) -> u64 {
        let files = std::fs::read_dir(self.path("spool")).unwrap();
        // A file may go while it is looked at.
        files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum()
    }

    /// What the storage alone gives back at `ts` is what a reader of the cluster sees.
    fn prove(&self, ts: Ts) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let storage = logtide_storage::open(&self.task.storage).unwrap();
        let options = RestoreOptions { restored_ts: Some(ts), ..RestoreOptions::for_sink() };
        let (_, state) = runtime.block_on(restore_to(&storage, &options, MemorySink, &Silent)).unwrap();
        let mut restored = BTreeMap::new();
        state
            .dump(ts, &KeyRange::ALL, &mut |key, value| {
                restored.insert(key.to_vec(), value.to_vec());
                Ok(())
            })
            .unwrap();
        let held = Client::new(self.cluster.rpc()).snapshot(ts).scan(b"", b"", usize::MAX).unwrap();
        let held: BTreeMap<_, _> = held.into_iter().map(|(key, value)| (key, value.to_vec())).collect();
        assert!(held.len() > 100, "{} keys", held.len());
        assert_eq!(restored.keys().collect::<Vec<_>>(), held.keys().collect::<Vec<_>>());
        assert!(restored == held, "a value differs at {ts}");
    }
}

fn tasks(home: &Path) -> Tasks {
    Tasks::new(Arc::new(DirectoryStore::open(home.join("coordinator")).unwrap()))
}

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..VALUE).map(|_| next()).collect()
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_storage_that_is_away_for_long_costs_no_more_than_the_quotas() {
    let mut world = World::new();
    for _ in 0..40 {
        world.write();
    }
    let before = world.moment();
    wait("the first checkpoint", || world.checkpoint() >= before);

    world.take_away();
    let mut most = 0;
    let mut during = Ts::ZERO;
    for n in 0..MIB_WRITTEN {
        let written = world.write();
        if n == MIB_WRITTEN / 2 {
            during = written;
        }
        most = most.max(world.on_disk());
    }
    // Every transaction was answered: nothing waits for the spool.
    let released = |what: &str| ["1 regions", "2 regions", "3 regions"].iter().any(|n| what.contains(n));
    wait("the state", || {
        let degraded = world.degraded();
        degraded.is_some_and(|d| d.code == "KV:LogBackup:OutOfQuota" && released(&d.what))
    });
    let degraded = world.degraded().unwrap();
    assert!(degraded.what.contains("temp-file-disk-quota") && degraded.what.contains("besides"), "{}", degraded.what);
    assert!(most > QUOTA / 2 && most <= QUOTA, "{most} bytes on the disk, of {QUOTA}");
    let held = world.checkpoint();

    world.bring_back();
    for _ in 0..10 {
        world.write();
    }
    let after = world.moment();
    wait("the present", || world.checkpoint() >= after);
    wait("the end of the trouble", || world.degraded().is_none());
    for ts in [before, held, during, after] {
        world.prove(ts);
    }
    let executor = world.executor.take().unwrap();
    executor.shutdown();
    assert_eq!(world.on_disk(), 0);
    world.cluster.shutdown();
    println!("{MIB_WRITTEN} MiB written with the storage away, at most {} MiB on the disk", most >> 20);
}
