//! The order of a seal (I3): the barrier, then leadership, and no checkpoint without both.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests, also in what tests share")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use logtide::{Builder, Config};
use logtide_coordinator::{DirectoryStore, RawRange, TaskSpec, Tasks};
use logtide_mock_raftstore::client::Client;
use logtide_mock_raftstore::{Around, Cluster, ClusterConfig, Driver, HostLayer};
use logtide_model::{Compression, Confirmed, Host, HostError, RegionId, TaskName, Ts};

const PATIENCE: Duration = Duration::from_secs(60);

/// A host that notes the order of a seal's calls, and may find no quorum.
struct Noting {
    host: Arc<dyn Host>,
    calls: Mutex<Vec<&'static str>>,
    cut_off: AtomicBool,
}

impl HostLayer for Noting {
    fn below(&self) -> &dyn Host {
        &*self.host
    }

    fn confirm_leadership(&self, regions: &[RegionId], deadline: Instant) -> Vec<Confirmed> {
        self.calls.lock().unwrap().push("leadership");
        match self.cut_off.load(Ordering::SeqCst) {
            true => Vec::new(),
            false => self.host.confirm_leadership(regions, deadline),
        }
    }

    fn commit_barrier(&self) -> Result<Ts, HostError> {
        self.calls.lock().unwrap().push("barrier");
        self.host.commit_barrier()
    }
}

#[test]
fn no_checkpoint_moves_without_a_quorum_that_was_asked_after_the_barrier() {
    let dir = tempfile::tempdir().unwrap();
    let (coordinator, storage) = (dir.path().join("coordinator"), dir.path().join("storage"));
    std::fs::create_dir(&storage).unwrap();
    let cluster = Cluster::start(ClusterConfig { stores: 1, ..ClusterConfig::memory(Driver::Threads) }).unwrap();
    assert!(cluster.wait_ready(PATIENCE));
    let host =
        Arc::new(Around(Noting { host: cluster.host(1), calls: Mutex::default(), cut_off: AtomicBool::new(true) }));
    let config = Config {
        temp_path: dir.path().join("spool"),
        max_flush_interval: Duration::from_millis(100),
        ..Config::default()
    };
    let backup = Builder::new(host.clone(), &coordinator).config(config).start().unwrap();
    cluster.add_observer(1, backup.observer()).unwrap();
    let tasks = Tasks::new(Arc::new(DirectoryStore::open(&coordinator).unwrap()));
    let name = TaskName::new("pitr").unwrap();
    let spec = TaskSpec {
        name: name.clone(),
        storage: format!("local://{}", storage.display()),
        start_ts: Ts::ZERO,
        ranges: vec![RawRange::default()],
        compression: Compression::Zstd,
        encryption: None,
    };
    tasks.create(&spec).unwrap();
    let mut txn = Client::new(cluster.rpc()).begin().unwrap();
    txn.put("key", "value");
    let committed = txn.commit().unwrap();

    // Flushes go on, and with them the data; the checkpoint does not move.
    let flushed = || tasks.status(&name).unwrap().stores.values().any(|s| s.objects > 0 && s.observed_regions > 0);
    wait("a flush", flushed);
    for _ in 0..3 {
        backup.flush_now(&name, PATIENCE).unwrap();
    }
    assert!(tasks.global_checkpoint(&name).unwrap().is_none_or(Ts::is_zero));

    host.0.cut_off.store(false, Ordering::SeqCst);
    wait("the checkpoint", || tasks.global_checkpoint(&name).unwrap().is_some_and(|c| c >= committed));
    backup.shutdown();
    cluster.shutdown();
    let calls = host.0.calls.lock().unwrap();
    assert!(calls.len() >= 8);
    assert!(calls.chunks(2).all(|seal| seal == ["barrier", "leadership"]), "{calls:?}");
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
