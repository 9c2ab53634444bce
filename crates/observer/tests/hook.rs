//! The hook as host, façade and shards see it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use logtide_model::message::{AppliedBatch, ShardMessage};
use logtide_model::{
    ApplyBatch, Cf, Compression, Incarnation, KeyRange, LocalRegion, MemoryBudget, Op, RaftObserver, Region,
    RegionChange, RegionEpoch, RegionId, Role, Task, TaskName, Term, Ts,
};
use logtide_observer::{BATCH_OVERHEAD, Observer, ObserverConfig, ObserverStats};

fn task(start: &'static str, end: &'static str) -> Arc<Task> {
    Arc::new(Task {
        name: TaskName::new("t").unwrap(),
        incarnation: Incarnation(1),
        storage: "memory://".to_owned(),
        start_ts: Ts::new(1),
        ranges: vec![KeyRange::new(start, end)],
        compression: Compression::Zstd,
        encryption: None,
    })
}

fn region(id: RegionId, start: &'static str, end: &'static str) -> Region {
    Region { id, epoch: RegionEpoch { conf_ver: 1, version: 1 }, range: KeyRange::new(start, end) }
}

fn put(value: &'static [u8]) -> Op {
    Op::Put { cf: Cf::Default, key: Bytes::from_static(b"key"), value: Bytes::from_static(value) }
}

fn batch(region_id: RegionId, index: u64, ops: &[Op]) -> ApplyBatch<'_> {
    let epoch = RegionEpoch { conf_ver: 1, version: 1 };
    ApplyBatch { region_id, epoch, term: 5, first_index: index, last_index: index, ops }
}

/// One shard, a task for everything, `bytes` of memory.
fn observer(bytes: usize) -> (Observer, Receiver<ShardMessage>) {
    let (observer, mut queues) = Observer::new(ObserverConfig { shards: 1, memory: MemoryBudget::new(bytes) });
    observer.set_tasks(vec![task("", "")]);
    (observer, queues.pop().unwrap())
}

fn applied(message: ShardMessage) -> AppliedBatch {
    match message {
        ShardMessage::Applied(batch) => batch,
        other => panic!("{other:?}"),
    }
}

/// The message in few characters.
fn short(message: &ShardMessage) -> String {
    match message {
        ShardMessage::Applied(batch) => format!("applied {} {}", batch.region_id, batch.first_index),
        ShardMessage::Lead(lead) => format!("lead {} {}", lead.region.id, lead.term),
        ShardMessage::Unlead { region_id, term } => format!("unlead {region_id} {term}"),
        ShardMessage::RegionChanged(RegionChange::Split { parent, .. }) => format!("split {}", parent.id),
        ShardMessage::RegionChanged(RegionChange::Merge { target, .. }) => format!("merge {}", target.id),
        ShardMessage::RegionChanged(RegionChange::EpochChange { region }) => format!("epoch {}", region.id),
        ShardMessage::RegionChanged(RegionChange::Destroy { region }) => format!("destroy {}", region.id),
        other => panic!("{other:?}"),
    }
}

fn shorts(queue: &Receiver<ShardMessage>) -> Vec<String> {
    queue.try_iter().map(|message| short(&message)).collect()
}

#[test]
fn only_led_regions_of_a_task_are_observed() {
    let (observer, queue) = observer(1 << 20);
    observer.set_tasks(vec![task("b", "c")]);
    for (id, start, end) in [(1, "a", "b"), (2, "b", "bb"), (3, "bb", "")] {
        observer.on_leadership(&region(id, start, end), 5, Role::Leader);
    }
    (1..=4).for_each(|id| observer.on_apply(&batch(id, 9, &[put(b"v")])));
    assert_eq!(shorts(&queue), ["lead 2 5", "lead 3 5", "applied 2 9", "applied 3 9"]);
    assert_eq!((observer.observed(), observer.stats().observed_regions), (vec![2, 3], 2));

    observer.on_leadership(&region(2, "b", "bb"), 6, Role::Follower);
    observer.set_tasks(vec![]);
    (1..=4).for_each(|id| observer.on_apply(&batch(id, 10, &[put(b"v")])));
    assert_eq!(shorts(&queue), ["unlead 2 6", "unlead 3 5"]);
    assert_eq!(observer.stats(), ObserverStats::default());

    observer.on_leadership(&region(3, "bb", ""), 6, Role::Leader);
    assert_eq!(shorts(&queue), Vec::<String>::new(), "no task wants it");
}

#[test]
fn a_task_that_comes_back_finds_the_same_term_again() {
    let (observer, queue) = observer(1 << 20);
    let local = LocalRegion { region: region(1, "", ""), term: 5, role: Role::Leader };
    observer.observe(&local);
    observer.set_tasks(vec![]);
    observer.set_tasks(vec![task("", "")]);
    observer.observe(&local);
    observer.observe(&local);
    assert_eq!(shorts(&queue), ["lead 1 5", "unlead 1 5", "lead 1 5", "lead 1 5"]);
}

#[test]
fn batches_come_whole_and_in_order() {
    let (observer, queue) = observer(1 << 20);
    observer.on_leadership(&region(1, "", ""), 5, Role::Leader);
    let ops = [
        put(b"value"),
        Op::Delete { cf: Cf::Lock, key: Bytes::from_static(b"key") },
        Op::DeleteRange { cf: Cf::Write, start: Bytes::from_static(b"a"), end: Bytes::from_static(b"b") },
        Op::IngestSst { cf: Cf::Write, path: "1.sst".to_owned(), min_ts: Ts::new(1) },
        Op::Admin,
    ];
    observer.on_apply(&ApplyBatch { last_index: 12, ..batch(1, 10, &ops) });
    observer.on_apply(&batch(1, 13, &[]));
    let messages: Vec<_> = queue.try_iter().skip(1).map(applied).collect();
    let seen: Vec<_> = messages.iter().map(|b| (b.first_index, b.last_index, b.term, b.version)).collect();
    assert_eq!(seen, [(10, 12, 5, 1), (13, 13, 5, 1)], "entries without data advance the index too");
    assert_eq!(messages[0].ops, ops);
    assert_eq!(observer.stats().skipped_ops, 2, "what goes past MVCC");
}

#[test]
fn a_batch_without_memory_is_dropped_and_its_region_marked_before_the_hook_returns() {
    let size = |ops: &[Op]| BATCH_OVERHEAD + size_of_val(ops) + "keyvalue".len();
    let ops = [put(b"value")];
    let (observer, queue) = observer(size(&ops));
    (1..=2).for_each(|id| observer.on_leadership(&region(id, "", ""), 5, Role::Leader));
    let gaps: Vec<_> = queue
        .try_iter()
        .map(|message| match message {
            ShardMessage::Lead(lead) => lead.gap,
            other => panic!("{other:?}"),
        })
        .collect();
    observer.on_apply(&batch(1, 1, &ops));
    observer.on_apply(&batch(1, 2, &ops));
    assert!(gaps[0].is_raised() && !gaps[1].is_raised());
    assert_eq!(observer.stats().dropped_batches, 1);

    let in_flight = applied(queue.try_recv().unwrap());
    assert_eq!((in_flight.first_index, in_flight.permit.bytes()), (1, size(&ops)));
    observer.on_apply(&batch(1, 3, &ops));
    drop(in_flight);
    observer.on_apply(&batch(1, 4, &ops));
    assert_eq!(shorts(&queue), ["applied 1 4"], "memory comes back with the message");
    assert!(gaps[0].is_raised(), "only a new snapshot clears it");

    drop(queue);
    observer.on_apply(&batch(2, 1, &ops));
    assert!(gaps[1].is_raised(), "a shard that is gone is a gap too");
}

#[test]
fn region_changes_are_told_in_order_and_end_what_they_end() {
    let (observer, queue) = observer(1 << 20);
    observer.set_tasks(vec![task("b", "d")]);
    for (id, start, end) in [(1, "a", "c"), (2, "c", "d"), (3, "cc", "d")] {
        observer.on_leadership(&region(id, start, end), 5, Role::Leader);
    }
    let apply = |id| observer.on_apply(&batch(id, 9, &[]));
    apply(1);
    observer.on_region_changed(&RegionChange::EpochChange { region: region(1, "a", "c") });
    apply(1);
    // What is left of the parent is of no task.
    let split = |parent| RegionChange::Split { parent, children: vec![], leader: true, term: 5 };
    observer.on_region_changed(&split(region(1, "a", "b")));
    apply(1);
    observer.on_region_changed(&RegionChange::Merge { target: region(2, "c", "d"), source: region(3, "cc", "d") });
    apply(2);
    apply(3);
    observer.on_region_changed(&RegionChange::Destroy { region: region(2, "c", "d") });
    observer.on_region_changed(&RegionChange::Destroy { region: region(9, "c", "d") });
    apply(2);
    let expected = [
        "lead 1 5",
        "lead 2 5",
        "lead 3 5",
        "applied 1 9",
        "epoch 1",
        "applied 1 9",
        "split 1",
        "unlead 1 5",
        "merge 2",
        "applied 2 9",
        "destroy 2",
    ];
    assert_eq!(shorts(&queue), expected);
    assert_eq!(observer.stats().observed_regions, 0);
}

#[test]
fn controls_reach_each_shard_in_order() {
    let (observer, queues) = Observer::new(ObserverConfig { shards: 3, memory: MemoryBudget::new(0) });
    let name = TaskName::new("t").unwrap();
    assert!(observer.broadcast(|_| ShardMessage::StartTask(task("", ""))));
    assert!(observer.send(1, ShardMessage::StopTask(name.clone())));
    assert!(!observer.send(3, ShardMessage::StopTask(name.clone())), "there is no such shard");
    assert_eq!(queues.iter().map(Receiver::len).collect::<Vec<_>>(), [1, 2, 1]);
    assert!((0..1000).all(|id| observer.shard_of(id) < 3));
    drop(queues);
    assert!(!observer.broadcast(|_| ShardMessage::StopTask(name.clone())));
}

/// An apply thread, and audits with old listings beside it: the shard must never see a batch outside of a leadership,
/// nor a leadership that is over, and in the end the two must agree on what is observed.
#[test]
fn audits_race_with_the_apply_thread() {
    const REGIONS: u64 = 4;
    const TERMS: Term = 3_000;
    let (observer, queue) = observer(usize::MAX);
    let local = |id, term, role| LocalRegion { region: region(id, "", ""), term, role };
    std::thread::scope(|scope| {
        for seed in 1..=2 {
            let observer = observer.clone();
            scope.spawn(move || {
                for term in 1..=TERMS {
                    // Behind, beside and ahead of the apply thread.
                    let heard = (term * seed).wrapping_mul(0x9e37_79b9) % TERMS;
                    (1..=REGIONS).for_each(|id| observer.observe(&local(id, heard, Role::Leader)));
                    if seed == 1 {
                        observer.set_tasks(vec![]);
                        observer.set_tasks(vec![task("", "")]);
                    }
                }
            });
        }
        for term in 1..=TERMS {
            for id in 1..=REGIONS {
                observer.on_leadership(&region(id, "", ""), term, Role::Leader);
                observer.on_apply(&batch(id, term, &[put(b"v")]));
                if term % 2 == 0 {
                    observer.on_leadership(&region(id, "", ""), term, Role::Follower);
                    observer.on_apply(&batch(id, term, &[]));
                }
            }
        }
    });
    let mut led: [Option<Term>; REGIONS as usize + 1] = Default::default();
    let mut index = [0; REGIONS as usize + 1];
    for message in queue.try_iter() {
        match message {
            ShardMessage::Lead(lead) => {
                let led = &mut led[lead.region.id as usize];
                assert!(led.is_none_or(|known| known <= lead.term), "terms of one leadership do not go down");
                *led = Some(lead.term);
            }
            ShardMessage::Unlead { region_id, term } => {
                let known = led[region_id as usize].take();
                assert!(known.is_some_and(|known| known <= term), "{region_id}: unlead {term} in {known:?}");
            }
            ShardMessage::Applied(batch) => {
                let id = batch.region_id as usize;
                assert!(led[id].is_some(), "a batch of region {id} without leadership");
                assert!(std::mem::replace(&mut index[id], batch.first_index) <= batch.first_index, "order is kept");
            }
            other => panic!("{other:?}"),
        }
    }
    let observed: Vec<_> = (1..=REGIONS).filter(|&id| led[id as usize].is_some()).collect();
    assert_eq!(observer.observed(), observed);
    assert_eq!(observer.stats().observed_regions, observed.len());
}
