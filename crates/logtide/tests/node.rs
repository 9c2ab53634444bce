//! Log backup linked into a node: from the first write to a restore, and what happens when things go wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests, also in what tests share")]

#[path = "node/encrypted.rs"]
mod encrypted;
#[path = "node/held.rs"]
mod held;
#[path = "node/online.rs"]
mod online;
#[path = "node/world.rs"]
mod world;

use std::thread;
use std::time::{Duration, Instant};

use held::Held;
use logtide::Executor;
use logtide_coordinator::{Pause, TaskState, Tasks};
use logtide_model::Ts;
use prometheus::Registry;
use world::{PATIENCE, World, pair};

/// So long that a task flushes when it is asked to, and only then.
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn what_was_written_before_and_during_comes_back_and_shutdown_flushes() {
    let world = World::new();
    let storage = world.storage();
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
    world.wait_for_checkpoint_object(&task, second);
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
    // A store in memory reads nothing from a disk, nothing was changed past MVCC, and 0 is a task that runs.
    for at_rest in [
        "tikv_log_backup_initial_scan_disk_read",
        "tikv_log_backup_skip_kv_count",
        "tikv_log_backup_heap_memory",
        "tikv_log_backup_task_status",
        "tikv_log_backup_pending_initial_scan",
    ] {
        assert_eq!(value(at_rest), 0.0, "{at_rest}");
    }
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
    let storage = world.storage();
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
    // Nor does it come back when the task is paused and goes on: each process begins it anew.
    let life = |tasks: &Tasks| tasks.status(&task.name).unwrap().stores.get(&1).map(|store| store.boot);
    let before = life(&world.tasks());
    world.tasks().set_pause(&task, &Pause::default()).unwrap();
    let ended =
        |process: &Executor| process.flush_now(&task.name, PATIENCE).is_err_and(|error| error.contains("does not run"));
    world.wait("the pause", |_| ended(&zombie) && ended(&successor));
    world.tasks().clear_pause(&task).unwrap();
    let committed = world.put("key", "2");
    world.wait_for_checkpoint(&task, committed);
    world.wait("the next life", |tasks| life(tasks) > before);
    let boot = life(&world.tasks());
    world.wait("the zombie's second life", |_| {
        zombie.flush_now(&task.name, PATIENCE).is_err_and(|error| error.contains("has not begun"))
    });
    world.wait_for_checkpoint(&task, world.put("other", "3"));
    assert_eq!(life(&world.tasks()), boot, "the successor was superseded by the zombie");
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

#[test]
fn a_checkpoint_object_that_cannot_be_put_holds_nothing_up() {
    let world = World::new();
    let storage = world.storage();
    let url = format!("local://{}", storage.display());
    let held = Held::new(&url, Some("v1/global_checkpoint/"));
    let opened = held.clone();
    let opens = move |url: &str| Ok(opened.storage(url));
    let backup = world.start_with(&world.registry, "spool-1", Duration::from_millis(100), |b| b.storages(opens));
    let task = world.begin_task(&storage);
    world.wait_for_checkpoint(&task, world.put("key", "1"));
    world.wait("the put that never answers", |_| !held.seen().held.is_empty());
    let second = world.put("key", "2");
    backup.flush_now(&task.name, PATIENCE).unwrap();
    world.wait_for_checkpoint(&task, second);
    let last = world.put("key", "3");
    // On a thread of its own, so that one that never ends is noticed.
    let begun = Instant::now();
    let ending = thread::spawn(move || backup.shutdown());
    world.wait("the end of log backup", |_| ending.is_finished());
    ending.join().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?} to end", begun.elapsed());
    assert!(held.seen().put.iter().all(|name| !name.starts_with("v1/global_checkpoint/")));
    // Whoever comes next, with a storage that answers, brings the object up.
    let registry = Registry::new();
    let backup = world.start(&registry, "spool-2");
    world.wait_for_checkpoint_object(&task, last);
    backup.shutdown();
    assert_eq!(world.restored(&storage, Some(second)), [pair("key", "2")]);
    assert_eq!(world.restored(&storage, None), [pair("key", "3")]);
    world.cluster.shutdown();
}

#[test]
fn a_flush_that_is_asked_for_waits_for_the_one_under_way() {
    let world = World::new();
    let storage = world.storage();
    let url = format!("local://{}", storage.display());
    let held = Held::new(&url, None);
    let opened = held.clone();
    let backup = world.start_with(&world.registry, "spool", HOUR, |b| b.storages(move |url| Ok(opened.storage(url))));
    let task = world.begin_task(&storage);
    let metadata = || held.seen().put.iter().filter(|name| name.ends_with(".meta")).count();
    world.put("key", "1");
    world.wait("the first flush", |_| backup.flush_now(&task.name, PATIENCE).is_ok() && metadata() > 0);
    let before = metadata();
    held.hold(Some("v1/backupmeta/"));
    world.put("key", "2");
    let last = thread::scope(|scope| {
        let first = scope.spawn(|| backup.flush_now(&task.name, PATIENCE));
        world.wait("the put that is held", |_| held.seen().held.len() == 1);
        let last = world.put("key", "3");
        let second = scope.spawn(|| backup.flush_now(&task.name, PATIENCE));
        // Neither this one nor those before are answered as long as the put is held.
        let answer = backup.flush_now(&task.name, Duration::from_millis(300)).unwrap_err();
        assert!(answer.contains("not flushed within"), "{answer}");
        assert!(!first.is_finished() && !second.is_finished(), "answered while a put is held");
        held.hold(None);
        second.join().unwrap().unwrap();
        assert!(metadata() >= before + 2, "both generations are in the storage: {:?}", held.seen().put);
        first.join().unwrap().unwrap();
        last
    });
    world.wait_for_checkpoint(&task, last);
    backup.shutdown();
    assert_eq!(world.restored(&storage, Some(last)), [pair("key", "3")]);
    world.cluster.shutdown();
}

#[test]
fn a_pause_flushes_what_was_observed_and_what_came_meanwhile_is_caught_up() {
    let world = World::new();
    let storage = world.storage();
    let backup = world.start_with(&world.registry, "spool", HOUR, |builder| builder);
    let task = world.begin_task(&storage);
    world.wait("the observation of all regions", |_| {
        let all = |tasks: &logtide_coordinator::Tasks| {
            let stores = tasks.status(&task.name).unwrap().stores;
            stores.values().map(|store| store.observed_regions).sum::<u64>() == 3
        };
        backup.flush_now(&task.name, PATIENCE).is_ok() && all(&world.tasks())
    });
    let before = world.put("before", "observed, and flushed by the pause alone");
    world.tasks().set_pause(&task, &Pause::default()).unwrap();
    world.wait_for_checkpoint(&task, before);
    world.wait("the end of the task's life", |_| {
        backup.flush_now(&task.name, PATIENCE).is_err_and(|e| e.contains("does not run"))
    });
    assert_eq!(world.tasks().status(&task.name).unwrap().state, TaskState::Paused);
    let uploaded = objects(&storage);
    let during = world.put("during", "seen by nobody");
    world.put("before", "changed while nobody looked");
    // Two heartbeats: everything that happens regularly has happened.
    let ts = |tasks: &logtide_coordinator::Tasks| tasks.nodes().unwrap().first().map_or(0, |node| node.ts);
    for _ in 0..2 {
        let told = ts(&world.tasks());
        world.wait("a heartbeat", |tasks| ts(tasks) > told);
    }
    assert_eq!(objects(&storage), uploaded, "nothing is uploaded while it is paused");
    assert!(world.tasks().global_checkpoint(&task.name).unwrap().is_some_and(|c| c < during));
    world.tasks().clear_pause(&task).unwrap();
    let after = world.put("after", "observed again, or caught up");
    world.wait("the checkpoint after the pause", |tasks| {
        let flushed = backup.flush_now(&task.name, PATIENCE).is_ok();
        flushed && tasks.global_checkpoint(&task.name).unwrap().is_some_and(|c| c >= after)
    });
    backup.shutdown();
    let [old, new] =
        ["observed, and flushed by the pause alone", "changed while nobody looked"].map(|v| pair("before", v));
    let [meanwhile, last] = [pair("during", "seen by nobody"), pair("after", "observed again, or caught up")];
    assert_eq!(world.restored(&storage, Some(before)), std::slice::from_ref(&old));
    assert_eq!(world.restored(&storage, Some(during)), [old, meanwhile.clone()]);
    assert_eq!(world.restored(&storage, Some(after)), [last, new, meanwhile]);
    world.cluster.shutdown();
}

/// The names of all objects of a storage.
fn objects(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path.display().to_string()) }
        }
    }
    found.sort();
    found
}
