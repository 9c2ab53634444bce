//! The global checkpoint: what moves it, what may not (I1, I4, I9), and crashes between any two steps.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests fail by panicking")]

mod cluster;

use std::time::Duration;

use cluster::{Cluster, START, fact_of, name, spec};
use logtide_coordinator::store::Txn;
use logtide_coordinator::{Store, TaskPublisher, TaskState};
use logtide_model::{Diagnose, ErrorCode, KeyRange, Publication, PublishError, Publisher, Task, Ts};

const ALL: &[(&str, &str, u64)] = &[("a", "m", 0), ("n", "", 0)];

fn at(ts: u64) -> Vec<(&'static str, &'static str, u64)> {
    ALL.iter().map(|(start, end, _)| (*start, *end, ts)).collect()
}

fn started(cluster: &Cluster) -> (Task, u64) {
    let task = cluster.create("t");
    (task, cluster.tasks.boot_epoch(1).unwrap())
}

#[test]
fn the_global_checkpoint_is_the_minimum_over_the_tasks_ranges() {
    let cluster = Cluster::new();
    let (task, boot) = started(&cluster);
    let mut advancer = cluster.advancer(1);
    assert_eq!(cluster.tick(&mut advancer).tasks[0].checkpoint, START);
    cluster.publish(&task, (1, boot, 1), &[("a", "f", 200), ("f", "m", 180), ("n", "", 190)]).unwrap();
    let tick = &cluster.tick(&mut advancer).tasks[0];
    assert_eq!((tick.before, tick.checkpoint, tick.publications, tick.facts), (START, Ts::new(180), 1, 3));
    assert_eq!(cluster.global(&task), Some(Ts::new(180)));
    // Keys that are not backed up hold nothing back; facts of two stores add up.
    cluster.tasks.boot_epoch(2).unwrap();
    cluster.publish(&task, (2, 1, 1), &[("f", "n", 300)]).unwrap();
    assert_eq!(cluster.tick(&mut advancer).tasks[0].checkpoint, Ts::new(190));
}

#[test]
fn a_range_without_a_fact_holds_at_the_start_ts() {
    let cluster = Cluster::new();
    let (task, boot) = started(&cluster);
    let mut advancer = cluster.advancer(1);
    cluster.publish(&task, (1, boot, 1), &[("a", "m", 500), ("p", "", 500)]).unwrap();
    let tick = &cluster.tick(&mut advancer).tasks[0];
    assert_eq!(tick.checkpoint, START);
    let holder = tick.holder.clone().unwrap();
    assert_eq!((holder.range, holder.region), (KeyRange::from_raw(b"n", b"p"), None));
    // Somebody speaks for a part of it.
    cluster.clock.set_ms(77);
    cluster.publish(&task, (1, boot, 2), &[("n", "o", 400)]).unwrap();
    let holder = cluster.tick(&mut advancer).tasks[0].holder.clone().unwrap();
    assert_eq!((&holder.range, holder.region, holder.since_ms), (&KeyRange::from_raw(b"o", b"p"), None, 77));
    assert_eq!(cluster.tasks.status(&task.name).unwrap().holder, Some(holder));
    cluster.publish(&task, (1, boot, 3), &[("o", "p", 300)]).unwrap();
    let tick = &cluster.tick(&mut advancer).tasks[0];
    assert_eq!((tick.checkpoint, tick.holder.as_ref().unwrap().region), (Ts::new(300), Some((1, 1))));
}

#[test]
fn it_never_goes_down() {
    let cluster = Cluster::new();
    let (task, boot) = started(&cluster);
    let mut advancer = cluster.advancer(1);
    cluster.publish(&task, (1, boot, 1), &at(300)).unwrap();
    cluster.tick(&mut advancer);
    cluster.publish(&task, (1, boot, 2), &at(200)).unwrap();
    assert_eq!(cluster.tick(&mut advancer).tasks[0].checkpoint, Ts::new(300));
    // TiDB's advancer, or an operator, was further: it stays.
    let key = "/tidb/br-stream/checkpoint/t/central_global";
    cluster.store.commit(Txn::new().put(key, 900u64.to_be_bytes().to_vec())).unwrap();
    cluster.publish(&task, (1, boot, 3), &at(400)).unwrap();
    assert_eq!(cluster.tick(&mut advancer).tasks[0].checkpoint, Ts::new(900));
    assert_eq!(cluster.global(&task), Some(Ts::new(900)));
    let mut successor = cluster.advancer(2);
    advancer.resign().unwrap();
    assert_eq!(cluster.tick(&mut successor).tasks[0].checkpoint, Ts::new(900));
}

#[test]
fn an_older_boot_cannot_publish() {
    let cluster = Cluster::new();
    let (task, old) = started(&cluster);
    cluster.publish(&task, (1, old, 1), &at(200)).unwrap();
    let new = cluster.tasks.boot_epoch(1).unwrap();
    let error = cluster.publish(&task, (1, old, 2), &at(300)).unwrap_err();
    assert!(matches!(error, PublishError::Superseded { store_id: 1, boot } if boot == old), "{error}");
    // Not even again what it published before.
    cluster.publish(&task, (1, old, 1), &at(200)).unwrap_err();
    cluster.publish(&task, (1, new, 1), &at(250)).unwrap();
    assert_eq!(cluster.tick(&mut cluster.advancer(1)).tasks[0].checkpoint, Ts::new(250));
}

#[test]
fn a_life_that_is_over_cannot_publish_and_is_not_read() {
    let cluster = Cluster::new();
    let (first, boot) = started(&cluster);
    let mut advancer = cluster.advancer(1);
    cluster.publish(&first, (1, boot, 1), &at(300)).unwrap();
    cluster.tick(&mut advancer);
    cluster.publish(&first, (1, boot, 2), &at(400)).unwrap();
    cluster.tasks.remove(&first.name).unwrap();
    let error = cluster.publish(&first, (1, boot, 3), &at(500)).unwrap_err();
    assert!(matches!(error, PublishError::TaskGone(_)), "{error}");
    let second = cluster.create("t");
    assert!(second.incarnation > first.incarnation);
    let error = cluster.publish(&first, (1, boot, 4), &at(600)).unwrap_err();
    assert!(matches!(error, PublishError::TaskGone(_)), "{error}");
    assert_eq!(cluster.tick(&mut advancer).tasks[0].checkpoint, START);
    // Nor if its records come back by some accident.
    let record =
        format!("/logtide/v1/task/t/{:016x}/fact/{:016x}/{boot:016x}/{:016x}/{:08x}", first.incarnation.0, 1, 5, 0);
    cluster.publish(&second, (1, boot, 5), &at(700)).unwrap();
    let published = cluster.store.list(b"/logtide/v1/task/t/").unwrap().0;
    let chunk = published.into_iter().find(|kv| kv.key.windows(6).any(|w| w == b"/fact/")).unwrap();
    cluster.store.commit(Txn::new().put(record, chunk.value.clone()).delete(chunk.key)).unwrap();
    assert_eq!(cluster.tick(&mut advancer).tasks[0].checkpoint, START);
}

#[test]
fn publishing_again_is_no_harm() {
    let cluster = Cluster::new();
    let (task, boot) = started(&cluster);
    let mut advancer = cluster.advancer(1);
    cluster.publish(&task, (1, boot, 1), &at(300)).unwrap();
    let before = cluster.contents("/logtide");
    cluster.publish(&task, (1, boot, 1), &at(300)).unwrap();
    assert_eq!(cluster.contents("/logtide"), before);
    cluster.tick(&mut advancer);
    cluster.publish(&task, (1, boot, 1), &at(300)).unwrap();
    assert_eq!(cluster.tick(&mut advancer).tasks[0].checkpoint, Ts::new(300));
    assert!(cluster.contents("/logtide/v1/task").iter().all(|(key, _)| !key.contains("/fact/")));
}

/// Many facts: a publication and a cover of several chunks.
fn large(ts: impl Fn(u64) -> u64) -> Vec<logtide_model::RegionFact> {
    let bound = |i: u64| format!("b{i:06}{}", "x".repeat(200));
    let mut facts: Vec<_> = (0..6_000).map(|i| fact_of(i, (&bound(i), &bound(i + 1), ts(i)))).collect();
    facts.push(fact_of(1, ("a", &bound(0), ts(1))));
    facts.push(fact_of(2, (&bound(6_000), "m", ts(1))));
    facts.push(fact_of(3, ("n", "", ts(1))));
    facts
}

#[test]
fn a_publication_that_is_not_complete_does_not_count() {
    let cluster = Cluster::new();
    let (task, boot) = started(&cluster);
    let mut advancer = cluster.advancer(1);
    cluster.tick(&mut advancer);
    let (name, incarnation) = (task.name.clone(), task.incarnation);
    let publication =
        |generation, facts| Publication { task: name.clone(), incarnation, store_id: 1, boot, generation, facts };
    let publisher = TaskPublisher::new(cluster.store.clone());
    cluster.store.fail_from(1, false);
    let error = publisher.publish(&publication(1, large(|i| 200 + i % 7))).unwrap_err();
    assert!(matches!(error, PublishError::Unavailable { .. }), "{error}");
    cluster.store.heal();
    let tick = &cluster.tick(&mut advancer).tasks[0];
    assert_eq!((tick.checkpoint, tick.publications), (START, 0));
    // The rest of it: all of it counts.
    publisher.publish(&publication(1, large(|i| 200 + i % 7))).unwrap();
    let tick = &cluster.tick(&mut advancer).tasks[0];
    assert_eq!((tick.checkpoint, tick.publications), (Ts::new(200), 1));
    // One that is never completed goes when its store has published something later.
    cluster.store.fail_from(1, false);
    publisher.publish(&publication(2, large(|i| 300 + i % 7))).unwrap_err();
    cluster.store.heal();
    cluster.tick(&mut advancer);
    assert!(cluster.contents("/logtide/v1/task").iter().any(|(key, _)| key.contains("/fact/")));
    cluster.publish(&task, (1, boot, 3), &at(400)).unwrap();
    assert_eq!(cluster.tick(&mut advancer).tasks[0].checkpoint, Ts::new(400));
    assert!(cluster.contents("/logtide/v1/task").iter().all(|(key, _)| !key.contains("/fact/")));
}

/// A crash at each commit of a tick, with the commit done or not: the checkpoint is the old or the new one, never goes
/// down, nothing is lost, and the successor arrives at the same contents as an advancer that did not crash.
#[test]
fn a_crash_between_any_two_steps_of_a_tick_is_harmless() {
    let run = |crash: Option<(usize, bool)>| {
        let cluster = Cluster::new();
        let (task, boot) = started(&cluster);
        let publisher = TaskPublisher::new(cluster.store.clone());
        let publish = |generation, facts| {
            let (task, incarnation) = (task.name.clone(), task.incarnation);
            publisher.publish(&Publication { task, incarnation, store_id: 1, boot, generation, facts }).unwrap();
        };
        publish(1, large(|i| 200 + i % 7));
        let mut advancer = cluster.advancer(1);
        cluster.tick(&mut advancer);
        assert_eq!(cluster.global(&task), Some(Ts::new(200)));
        // Says nothing about the one region that holds at 201 then.
        let mut next = large(|i| 300 + i % 7);
        next.remove(1);
        publish(2, next);
        let mut crashed = false;
        if let Some((nth, done)) = crash {
            cluster.store.fail_from(nth, done);
            let _ = advancer.tick(cluster.now).unwrap();
            crashed = cluster.store.has_failed();
            cluster.store.heal();
        }
        drop(advancer);
        let checkpoint = cluster.global(&task).unwrap().get();
        assert!([200, 201].contains(&checkpoint), "{checkpoint} after {crash:?}");
        let region = KeyRange::from_raw(b"bx", b"by");
        assert!(cluster.tasks.start_ts(&task, &region).unwrap() >= Ts::new(200));
        // The successor comes when the lease has expired.
        let mut successor = cluster.advancer(2);
        cluster.clock.advance(Duration::from_secs(11));
        let tick = cluster.tick(&mut successor);
        assert!(tick.elected && tick.tasks[0].checkpoint >= Ts::new(checkpoint));
        assert_eq!(cluster.global(&task), Some(Ts::new(201)));
        assert_eq!(cluster.tasks.start_ts(&task, &KeyRange::from_raw(b"n", b"")).unwrap(), Ts::new(301));
        (crashed, contents(&cluster))
    };
    let (_, expected) = run(None);
    let mut steps = 0;
    while run(Some((steps, false))).0 {
        for done in [false, true] {
            let (_, contents) = run(Some((steps, done)));
            assert_eq!(contents, expected, "crash at {steps}, done: {done}");
        }
        steps += 1;
    }
    assert!(steps >= 3, "a tick with a large cover has several steps, not {steps}");
}

/// What counts of the contents: not the edition of the cover, which says how often it was written.
fn contents(cluster: &Cluster) -> Vec<(String, Vec<u8>)> {
    let without_edition = |(key, value): (String, Vec<u8>)| match key.split_once("/cover/") {
        Some((life, rest)) => (format!("{life}/cover/{}", &rest[17..]), value),
        None => (key, value),
    };
    let mut all: Vec<_> = cluster.contents("/logtide/v1/task").into_iter().map(without_edition).collect();
    all.retain(|(key, _)| !key.ends_with("/holder"));
    all.extend(cluster.contents("/tidb"));
    all
}

#[test]
fn one_advancer_is_elected_and_a_deposed_one_cannot_write() {
    let cluster = Cluster::new();
    let (task, boot) = started(&cluster);
    let (mut one, mut two) = (cluster.advancer(1), cluster.advancer(2));
    assert!(cluster.tick(&mut one).elected);
    assert!(!cluster.tick(&mut two).elected);
    // The first one hangs: its lease expires, and it does not know.
    cluster.clock.advance(Duration::from_secs(11));
    assert!(cluster.tick(&mut two).elected);
    cluster.publish(&task, (1, boot, 1), &at(300)).unwrap();
    let before = cluster.contents("");
    let report = one.tick(cluster.now).unwrap();
    assert!(!report.elected);
    assert!(report.tasks[0].error.is_some());
    assert_eq!(cluster.contents(""), before);
    assert_eq!(cluster.tick(&mut two).tasks[0].checkpoint, Ts::new(300));
    // It knows now, and takes over when the other one resigns.
    assert!(!cluster.tick(&mut one).elected);
    two.resign().unwrap();
    let report = cluster.tick(&mut one);
    assert!(report.elected);
    assert_eq!(report.tasks[0].checkpoint, Ts::new(300));
}

#[test]
fn two_advancers_by_turns_arrive_where_one_does() {
    let cluster = Cluster::new();
    let (task, boot) = started(&cluster);
    let mut advancers = [cluster.advancer(1), cluster.advancer(2)];
    for generation in 1..=20u64 {
        cluster.publish(&task, (1, boot, generation), &at(200 + generation)).unwrap();
        let elected: Vec<bool> = advancers.iter_mut().map(|a| a.tick(cluster.now).unwrap().elected).collect();
        assert!(elected.iter().filter(|e| **e).count() <= 1, "{elected:?}");
        if generation % 3 == 0 {
            cluster.clock.advance(Duration::from_secs(11));
        }
        advancers.reverse();
    }
    for advancer in &mut advancers {
        advancer.tick(cluster.now).unwrap();
    }
    assert_eq!(cluster.global(&task), Some(Ts::new(220)));
}

#[test]
fn a_kept_lease_stays_and_is_renewed_in_time() {
    let cluster = Cluster::new();
    let (mut one, mut two) = (cluster.advancer(1), cluster.advancer(2));
    let mut now = cluster.now;
    for _ in 0..60 {
        assert!(one.tick(now).unwrap().elected);
        assert!(!two.tick(now).unwrap().elected);
        now += Duration::from_secs(1);
        cluster.clock.advance(Duration::from_secs(1));
    }
}

#[test]
fn gc_is_held_right_below_the_persisted_checkpoint() {
    let cluster = Cluster::new();
    let (task, boot) = started(&cluster);
    let mut advancer = cluster.advancer(1);
    let owner = format!("logtide-t-{}", task.incarnation.0);
    let held = || cluster.gc.held.lock().get(&owner).copied();
    cluster.tick(&mut advancer);
    assert_eq!(held(), Some(START.prev()));
    cluster.publish(&task, (1, boot, 1), &at(300)).unwrap();
    cluster.tick(&mut advancer);
    assert_eq!(held(), Some(Ts::new(299)));
    // Not moved for a checkpoint that could not be persisted.
    cluster.publish(&task, (1, boot, 2), &at(400)).unwrap();
    cluster.store.fail_from(0, false);
    assert!(advancer.tick(cluster.now).unwrap().tasks[0].error.is_some());
    assert_eq!(held(), Some(Ts::new(299)));
    cluster.store.heal();
    cluster.tick(&mut advancer);
    assert_eq!(held(), Some(Ts::new(399)));
    // Let go when the task is over, also by one who was not elected before; the next life has its own hold.
    advancer.resign().unwrap();
    cluster.tasks.remove(&task.name).unwrap();
    let again = cluster.create("t");
    cluster.tick(&mut cluster.advancer(2));
    let owners: Vec<String> = cluster.gc.held.lock().keys().cloned().collect();
    assert_eq!(owners, [format!("logtide-t-{}", again.incarnation.0)]);
    assert_eq!(cluster.contents("/logtide/v1/gc/").len(), 1);
}

#[test]
fn a_passed_gc_puts_the_task_in_error_once() {
    let cluster = Cluster::new();
    let (task, _) = started(&cluster);
    let mut advancer = cluster.advancer(1);
    *cluster.gc.passed.lock() = Some(Ts::new(150));
    let report = advancer.tick(cluster.now).unwrap();
    assert_eq!(report.tasks[0].gc.as_ref().unwrap().code(), ErrorCode::GcPassed);
    let status = cluster.tasks.status(&task.name).unwrap();
    assert_eq!(status.state, TaskState::Error);
    assert_eq!(status.errors[&1].error_code, "KV:LogBackup:GcPassed");
    let before = cluster.contents("");
    advancer.tick(cluster.now).unwrap();
    assert_eq!(cluster.contents(""), before);
}

#[test]
fn a_task_that_cannot_be_read_does_not_keep_the_others_back() {
    let cluster = Cluster::new();
    let (task, boot) = started(&cluster);
    let other = cluster.create("u");
    let mut advancer = cluster.advancer(1);
    let junk = format!("/logtide/v1/task/t/{:016x}/cover/{:016x}/{:08x}", task.incarnation.0, 1, 0);
    cluster.store.commit(Txn::new().put(junk.clone(), vec![1, 0, 1, 9])).unwrap();
    cluster.store.commit(Txn::new().put("/tidb/br-stream/info/zzz", "no task")).unwrap();
    cluster.publish(&other, (1, boot, 1), &at(300)).unwrap();
    let report = advancer.tick(cluster.now).unwrap();
    let error = report.tasks[0].error.as_ref().unwrap().to_string();
    assert!(error.contains(&junk), "{error}");
    assert_eq!((report.tasks.len(), report.tasks[1].checkpoint), (2, Ts::new(300)));
}

#[test]
fn regions_start_from_what_is_known_of_their_range() {
    let cluster = Cluster::new();
    let (task, boot) = started(&cluster);
    let mut advancer = cluster.advancer(1);
    let start = |from: &str, to: &str| {
        cluster.tasks.start_ts(&task, &KeyRange::from_raw(from.as_bytes(), to.as_bytes())).unwrap().get()
    };
    assert_eq!(start("a", "c"), 100);
    cluster.publish(&task, (1, boot, 1), &[("a", "d", 300), ("d", "m", 200)]).unwrap();
    cluster.tick(&mut advancer);
    assert_eq!((start("a", "c"), start("c", "e"), start("e", "f"), start("x", "y")), (300, 200, 200, 100));
    // A part that is not backed up does not count; nor does the region's part outside.
    assert_eq!((start("", "c"), start("l", "n"), start("m", "n")), (300, 200, 100));
    cluster.publish(&task, (1, boot, 2), &[("n", "", 250)]).unwrap();
    cluster.tick(&mut advancer);
    assert_eq!((start("a", "c"), start("e", "f"), start("x", "y"), start("", "")), (300, 200, 250, 200));
    cluster.tasks.remove(&task.name).unwrap();
    cluster.tasks.create(&spec("t")).unwrap();
    let error = cluster.tasks.start_ts(&task, &KeyRange::ALL).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoSuchTask);
    let again = cluster.tasks.require(&name("t")).unwrap();
    assert_eq!(cluster.tasks.start_ts(&again, &KeyRange::ALL).unwrap(), START);
}
