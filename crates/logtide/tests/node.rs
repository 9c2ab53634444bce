//! Log backup linked into a node: from the first write to a restore, and what happens when things go wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests, also in what tests share")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide::{Builder, Config, Executor};
use logtide_coordinator::{DirectoryStore, RawRange, TaskSpec, TaskState, Tasks};
use logtide_mock_raftstore::client::Client;
use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};
use logtide_model::{Compression, KeyRange, Task, TaskName, Ts};
use logtide_restore::{RestoreOptions, Silent, restore_point};
use prometheus::Registry;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    dir: TempDir,
    cluster: Cluster,
    registry: Registry,
}

impl World {
    fn new() -> Self {
        let cluster = Cluster::start(ClusterConfig {
            stores: 1,
            split_keys: vec![b"b".to_vec(), b"m".to_vec()],
            ..ClusterConfig::memory(Driver::Threads)
        });
        let world = World { dir: tempfile::tempdir().unwrap(), cluster: cluster.unwrap(), registry: Registry::new() };
        assert!(world.cluster.wait_ready(PATIENCE));
        world
    }

    fn start(&self, registry: &Registry, spool: &str) -> Executor {
        let config = Config {
            temp_path: self.dir.path().join(spool),
            max_flush_interval: Duration::from_millis(100),
            ..Config::default()
        };
        let builder = Builder::new(self.cluster.host(1), self.dir.path().join("coordinator"));
        let executor = builder.config(config).registry(registry).start().unwrap();
        self.cluster.add_observer(1, executor.observer()).unwrap();
        executor
    }

    fn tasks(&self) -> Tasks {
        Tasks::new(Arc::new(DirectoryStore::open(self.dir.path().join("coordinator")).unwrap()))
    }

    fn begin_task(&self, storage: &Path) -> Task {
        let spec = TaskSpec {
            name: TaskName::new("pitr").unwrap(),
            storage: format!("local://{}", storage.display()),
            start_ts: Ts::ZERO,
            ranges: vec![RawRange::default()],
            compression: Compression::Zstd,
            encryption: None,
        };
        self.tasks().create(&spec).unwrap()
    }

    fn put(&self, key: &str, value: &str) -> Ts {
        let mut txn = Client::new(self.cluster.rpc()).begin().unwrap();
        txn.put(key, value.to_owned());
        txn.commit().unwrap()
    }

    fn wait(&self, what: &str, done: impl Fn(&Tasks) -> bool) {
        let (begun, tasks) = (Instant::now(), self.tasks());
        while !done(&tasks) {
            assert!(begun.elapsed() < PATIENCE, "{what} did not come about");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn wait_for_checkpoint(&self, task: &Task, ts: Ts) {
        self.wait("the checkpoint", |tasks| tasks.global_checkpoint(&task.name).unwrap().is_some_and(|c| c >= ts));
    }

    /// What the storage alone gives back.
    fn restored(&self, storage: &Path, ts: Option<Ts>) -> Vec<(String, String)> {
        let storage = logtide_storage::open(&format!("local://{}", storage.display())).unwrap();
        let target = tempfile::tempdir_in(self.dir.path()).unwrap();
        let options = RestoreOptions { restored_ts: ts, ..RestoreOptions::new(target.path().join("db")) };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let summary = runtime.block_on(restore_point(&storage, &options, &Silent)).unwrap();
        let mut pairs = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        logtide_restore::dump(&options.target, Ts::new(summary.restored_ts), &KeyRange::ALL, &mut |key, value| {
            pairs.push((text(key), text(value)));
            Ok(())
        })
        .unwrap();
        pairs
    }
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn what_was_written_before_and_during_comes_back_and_shutdown_flushes() {
    let world = World::new();
    let storage = world.dir.path().join("storage");
    std::fs::create_dir(&storage).unwrap();
    let long = "long ".repeat(100);
    world.put("a", "before the backup");
    world.put("c", &long);
    let backup = world.start(&world.registry, "spool");
    let task = world.begin_task(&storage);
    world.put("n", "during the backup");
    let first = world.put("a", "changed");
    world.wait_for_checkpoint(&task, first);
    let second = world.put("z", "after");
    backup.flush_now(&task.name, PATIENCE).unwrap();
    world.wait_for_checkpoint(&task, second);
    world.wait("the checkpoint object", |_| {
        let open = logtide_storage::open(&task.storage).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(logtide_storage::read_checkpoint(&open)).unwrap().is_some_and(|ts| ts >= second)
    });
    let all = [pair("a", "changed"), pair("c", &long), pair("n", "during the backup")];
    assert_eq!(world.restored(&storage, Some(first)), all);
    assert_eq!(world.restored(&storage, Some(second)), [&all[..], &[pair("z", "after")]].concat());
    metrics_are_live(&world.registry);
    backup.shutdown();
    assert!(std::fs::read_dir(world.dir.path().join("spool")).unwrap().next().is_none(), "the spool is left clean");
    world.cluster.shutdown();
}

/// The names of seed 002, and that a run moves them.
fn metrics_are_live(registry: &Registry) {
    let families = registry.gather();
    let value = |name: &str| -> f64 {
        let family = families.iter().find(|f| f.name() == name).unwrap_or_else(|| panic!("{name} is missing"));
        let of = |m: &prometheus::proto::Metric| {
            let histogram = m.get_histogram().get_sample_count() as f64;
            m.get_gauge().get_value() + m.get_counter().get_value() + histogram
        };
        family.get_metric().iter().map(of).sum()
    };
    for moved in [
        "tikv_log_backup_interal_actor_acting_duration_sec",
        "tikv_log_backup_initial_scan_reason",
        "tikv_log_backup_event_handle_duration_sec",
        "tikv_log_backup_handle_kv_batch",
        "tikv_log_backup_initial_scan_disk_read",
        "tikv_log_backup_incremental_scan_bytes",
        "tikv_log_backup_on_event_duration_seconds",
        "tikv_log_backup_store_checkpoint_ts",
        "tidb_log_backup_last_checkpoint",
        "tikv_log_backup_flush_duration_sec",
        "tikv_log_backup_flush_file_size",
        "tikv_log_backup_initial_scan_duration_sec",
        "tikv_log_backup_initial_scan_operations",
        "tikv_log_backup_enabled",
        "tikv_log_backup_observed_region",
        "logtide_flushed_objects",
        "logtide_memory_peak_bytes",
    ] {
        assert!(value(moved) > 0.0, "{moved} does not move");
    }
    for there in ["tikv_log_backup_skip_kv_count", "tikv_log_backup_heap_memory", "tikv_log_backup_task_status"] {
        assert!(value(there) >= 0.0);
    }
    assert_eq!(value("tikv_log_backup_pending_initial_scan"), 0.0);
}

#[test]
fn a_storage_that_is_away_degrades_the_task_until_it_is_back() {
    let world = World::new();
    let storage = world.dir.path().join("mount/storage");
    // A file where the directory should be: as good as a mount that is not there.
    std::fs::write(world.dir.path().join("mount"), "").unwrap();
    let backup = world.start(&world.registry, "spool");
    let task = world.begin_task(&storage);
    let committed = world.put("key", "value");
    world.wait("the error", |tasks| {
        let status = tasks.status(&task.name).unwrap();
        status.state == TaskState::Degraded && status.errors.contains_key(&1)
    });
    assert!(world.tasks().global_checkpoint(&task.name).unwrap().is_none_or(Ts::is_zero));
    std::fs::remove_file(world.dir.path().join("mount")).unwrap();
    std::fs::create_dir_all(&storage).unwrap();
    world.wait_for_checkpoint(&task, committed);
    world.wait("the all-clear", |tasks| tasks.status(&task.name).unwrap().state == TaskState::Running);
    backup.shutdown();
    assert_eq!(world.restored(&storage, Some(committed)), [pair("key", "value")]);
    world.cluster.shutdown();
}

#[test]
fn a_second_process_of_the_same_store_takes_over_and_the_first_keeps_still() {
    let world = World::new();
    let storage = world.dir.path().join("storage");
    std::fs::create_dir(&storage).unwrap();
    let zombie = world.start(&world.registry, "spool-1");
    let task = world.begin_task(&storage);
    world.wait_for_checkpoint(&task, world.put("key", "1"));
    let registry = Registry::new();
    let successor = world.start(&registry, "spool-2");
    world.wait("the zombie's error", |tasks| {
        let errors = tasks.last_errors(&task).unwrap();
        errors.get(&1).is_some_and(|e| e.error_message.contains("another process runs as store 1"))
    });
    // Whatever the zombie still holds, it cannot publish it.
    assert!(zombie.flush_now(&task.name, PATIENCE).is_err());
    let committed = world.put("key", "2");
    world.wait_for_checkpoint(&task, committed);
    zombie.shutdown();
    successor.shutdown();
    assert_eq!(world.restored(&storage, Some(committed)), [pair("key", "2")]);
    world.cluster.shutdown();
}

#[test]
fn a_task_that_is_stopped_and_begun_anew_starts_from_nothing() {
    let world = World::new();
    let (first, second) = (world.dir.path().join("first"), world.dir.path().join("second"));
    std::fs::create_dir(&first).unwrap();
    std::fs::create_dir(&second).unwrap();
    let backup = world.start(&world.registry, "spool");
    let task = world.begin_task(&first);
    world.wait_for_checkpoint(&task, world.put("key", "1"));
    world.tasks().remove(&task.name).unwrap();
    let again = world.begin_task(&second);
    assert_ne!(again.incarnation, task.incarnation);
    assert_eq!(
        world.tasks().global_checkpoint(&task.name).unwrap(),
        None,
        "what the first life reached does not count"
    );
    let committed = world.put("other", "2");
    world.wait_for_checkpoint(&again, committed);
    backup.shutdown();
    assert_eq!(world.restored(&second, Some(committed)), [pair("key", "1"), pair("other", "2")]);
    world.cluster.shutdown();
}
