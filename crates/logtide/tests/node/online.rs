//! Settings that change, and flushes that are asked for, while the store runs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytesize::ByteSize;
use logtide::{Builder, Config, ConfigError};
use logtide_coordinator::{FlushAnswer, StoreStatus, Tasks};
use logtide_mock_raftstore::{Around, HostLayer};
use logtide_model::{Host, HostError, KvSnapshot, LogEntries, RegionEpoch, RegionId, Task};

use crate::HOUR;
use crate::held::Held;
use crate::world::{PATIENCE, World, pair};

fn status(tasks: &Tasks, task: &Task) -> StoreStatus {
    tasks.status(&task.name).unwrap().stores.remove(&1).unwrap_or_default()
}

#[test]
fn an_interval_and_targets_that_change_count_at_once() {
    let world = World::new();
    let storage = world.storage();
    let backup = world.start_with(&world.registry, "spool", HOUR, |builder| builder);
    let task = world.begin_task(&storage);
    let bound_by = |tasks: &Tasks| status(tasks, &task).flush_bound_by;
    let first = world.put("key", "1");
    world.wait("the first flush", |tasks| {
        backup.flush_now(&task.name, PATIENCE).is_ok() && tasks.global_checkpoint(&task.name).unwrap() >= Some(first)
    });
    world.wait("the status", |tasks| bound_by(tasks).as_deref() == Some("max-flush-interval"));
    let second = world.put("key", "2");
    // An hour would pass; now it is a moment.
    let max_flush_interval = Duration::from_millis(100);
    backup.configure(Config { max_flush_interval, ..backup.config() }).unwrap();
    world.wait_for_checkpoint(&task, second);
    backup.configure(Config { rpo_target: Some(Duration::from_secs(2)), ..backup.config() }).unwrap();
    world.wait("the target", |tasks| bound_by(tasks).as_deref() == Some("rpo-target"));
    let third = world.put("key", "3");
    world.wait_for_checkpoint(&task, third);
    backup.configure(Config { max_objects_per_hour: Some(1), ..backup.config() }).unwrap();
    world.wait("the limit", |tasks| bound_by(tasks).as_deref() == Some("max-objects-per-hour"));
    let fourth = world.put("key", "4");
    assert!(status(&world.tasks(), &task).flush_interval_ms > Some(3_600_000), "two objects an hour are too many");
    backup.flush_now(&task.name, PATIENCE).unwrap();
    world.wait_for_checkpoint(&task, fourth);
    backup.shutdown();
    assert_eq!(world.restored(&storage, Some(third)), [pair("key", "3")]);
    assert_eq!(world.restored(&storage, Some(fourth)), [pair("key", "4")]);
    world.cluster.shutdown();
}

#[test]
fn what_is_wrong_or_fixed_is_refused_by_name_and_changes_nothing() {
    let world = World::new();
    let backup = world.start(&world.registry, "spool");
    let before = backup.config();
    let threads = before.num_threads + 1;
    let error = backup.configure(Config { num_threads: threads, ..before.clone() }).unwrap_err();
    assert!(matches!(error, ConfigError::Fixed { key: "num-threads", .. }), "{error}");
    let temp_path = world.dir.path().join("elsewhere");
    let error = backup.configure(Config { temp_path, ..before.clone() }).unwrap_err();
    assert!(matches!(error, ConfigError::Fixed { key: "temp-path", .. }), "{error}");
    let wrong = Config { upload_concurrency: 0, initial_scan_concurrency: 3, ..before.clone() };
    let error = backup.configure(wrong).unwrap_err().to_string();
    assert!(error.contains("upload-concurrency is 0"), "{error}");
    assert_eq!(backup.config(), before);
    let other = Config { file_size_limit: ByteSize::mib(3), lock_memory_quota: ByteSize::mib(2), ..before };
    backup.configure(other.clone()).unwrap();
    assert_eq!(backup.config(), other);
    backup.shutdown();
    world.cluster.shutdown();
}

/// A host whose snapshots wait until they may go on.
struct Slow {
    host: Arc<dyn Host>,
    waiting: AtomicUsize,
    free: (Mutex<bool>, Condvar),
}

impl HostLayer for Slow {
    fn below(&self) -> &dyn Host {
        &*self.host
    }

    fn snapshot(&self, region_id: RegionId, epoch: RegionEpoch) -> Result<Box<dyn KvSnapshot>, HostError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let free = self.free.1.wait_while(self.free.0.lock().unwrap(), |free| !*free).unwrap();
        drop(free);
        self.host.snapshot(region_id, epoch)
    }

    fn raft_log(&self, _: RegionId, _: u64, _: u64, _: u64) -> Result<Option<Box<dyn LogEntries>>, HostError> {
        Ok(None)
    }
}

/// Lets snapshots go on when it is dropped: a test that fails has to end too.
struct Opens(Arc<Around<Slow>>);

impl Drop for Opens {
    fn drop(&mut self) {
        let Slow { free: (is_free, changed), .. } = &self.0.0;
        *is_free.lock().unwrap() = true;
        changed.notify_all();
    }
}

#[test]
fn more_scans_run_when_more_may() {
    let world = World::new();
    let storage = world.storage();
    let host =
        Arc::new(Around(Slow { host: world.cluster.host(1), waiting: AtomicUsize::new(0), free: Default::default() }));
    let config = Config {
        temp_path: world.dir.path().join("spool"),
        max_flush_interval: Duration::from_millis(100),
        initial_scan_concurrency: 1,
        ..Config::default()
    };
    let builder = Builder::new(host.clone(), world.dir.path().join("coordinator"));
    let backup = builder.config(config.clone()).registry(&world.registry).start().unwrap();
    let opens = Opens(host.clone());
    world.cluster.add_observer(1, backup.observer()).unwrap();
    let task = world.begin_task(&storage);
    let committed = world.put("key", "value");
    world.wait("the first scan", |_| host.0.waiting.load(Ordering::SeqCst) == 1);
    // Two heartbeats later there is still one: three regions wait for the only turn.
    let told = status(&world.tasks(), &task).at_ms;
    world.wait("heartbeats", |tasks| status(tasks, &task).at_ms > told + 1000);
    assert_eq!(host.0.waiting.load(Ordering::SeqCst), 1);
    backup.configure(Config { initial_scan_concurrency: 3, ..config }).unwrap();
    world.wait("the others", |_| host.0.waiting.load(Ordering::SeqCst) == 3);
    drop(opens);
    world.wait_for_checkpoint(&task, committed);
    backup.shutdown();
    assert_eq!(world.restored(&storage, Some(committed)), [pair("key", "value")]);
    world.cluster.shutdown();
}

#[test]
fn a_flush_asked_for_through_the_coordinator_is_answered_when_it_is_published() {
    let world = World::new();
    let storage = world.storage();
    let url = format!("local://{}", storage.display());
    let held = Held::new(&url, None);
    let opened = held.clone();
    let backup = world.start_with(&world.registry, "spool", HOUR, |b| b.storages(move |url| Ok(opened.storage(url))));
    let task = world.begin_task(&storage);
    let ask = || -> FlushAnswer {
        let ticket = world.tasks().request_flush(&task).unwrap();
        let answers = |tasks: &Tasks| tasks.flush_answers(&task, ticket).unwrap();
        world.wait("the answer", |tasks| !answers(tasks).is_empty());
        answers(&world.tasks()).remove(&1).unwrap()
    };
    let first = world.put("key", "1");
    // Before the task has begun here the answer is an error; before its regions are observed a flush covers nothing.
    world.wait("the first flush", |tasks| {
        let answer = ask();
        assert_eq!(answer.generation.is_some(), answer.error.is_none());
        answer.generation.is_some() && tasks.global_checkpoint(&task.name).unwrap() >= Some(first)
    });
    held.hold(Some("v1/backupmeta/"));
    let second = world.put("key", "2");
    let ticket = world.tasks().request_flush(&task).unwrap();
    world.wait("the put that is held", |_| held.seen().held.len() == 1);
    let told = status(&world.tasks(), &task).at_ms;
    world.wait("heartbeats", |tasks| status(tasks, &task).at_ms > told + 1000);
    assert!(world.tasks().flush_answers(&task, ticket).unwrap().is_empty(), "answered while a put is held");
    held.hold(None);
    world.wait("the answer", |tasks| tasks.flush_answers(&task, ticket).unwrap().contains_key(&1));
    world.wait_for_checkpoint(&task, second);
    backup.shutdown();
    assert_eq!(world.restored(&storage, Some(second)), [pair("key", "2")]);
    world.cluster.shutdown();
}
