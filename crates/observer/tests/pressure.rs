//! Who loses when memory is short: the region with the largest backlog.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use logtide_model::message::{GapFlag, ShardMessage};
use logtide_model::{
    ApplyBatch, Cf, Compression, Incarnation, KeyRange, MemoryBudget, Op, RaftObserver, Region, RegionEpoch, RegionId,
    Role, Task, TaskName, Ts,
};
use logtide_observer::{Observer, ObserverConfig};

const MEMORY: usize = 1 << 20;

/// Regions 1 to `n`, their gap flags in that order.
fn observer(n: u64) -> (Observer, Receiver<ShardMessage>, MemoryBudget, Vec<GapFlag>) {
    let memory = MemoryBudget::new(MEMORY);
    let (observer, mut queues) = Observer::new(ObserverConfig { shards: 1, memory: memory.clone() });
    let task = Task {
        name: TaskName::new("t").unwrap(),
        incarnation: Incarnation(1),
        storage: "memory://".to_owned(),
        start_ts: Ts::new(1),
        ranges: vec![KeyRange::ALL],
        compression: Compression::Zstd,
        encryption: None,
    };
    observer.set_tasks(vec![Arc::new(task)]);
    for id in 1..=n {
        let range = KeyRange::new(id.to_be_bytes().to_vec(), (id + 1).to_be_bytes().to_vec());
        observer.on_leadership(&Region { id, epoch: RegionEpoch::default(), range }, 5, Role::Leader);
    }
    let queue = queues.pop().unwrap();
    let flag = |message| match message {
        ShardMessage::Lead(lead) => lead.gap,
        other => panic!("{other:?}"),
    };
    let flags = queue.try_iter().map(flag).collect();
    (observer, queue, memory, flags)
}

fn apply(observer: &Observer, region_id: RegionId, bytes: usize) {
    let value = Bytes::from(vec![b'v'; bytes]);
    let ops = [Op::Put { cf: Cf::Default, key: Bytes::from_static(b"key"), value }];
    let epoch = RegionEpoch::default();
    observer.on_apply(&ApplyBatch { region_id, epoch, term: 5, first_index: 7, last_index: 7, ops: &ops });
}

#[test]
fn the_region_with_the_largest_backlog_loses_and_the_others_find_room() {
    let (observer, _queue, memory, flags) = observer(20);
    for _ in 0..1000 {
        apply(&observer, 1, 4000);
    }
    assert!(flags[0].is_raised());
    assert!(memory.used() > MEMORY * 4 / 5, "one alone may use most of it: {}", memory.used());
    for round in 0..8 {
        (2..=20).for_each(|id| apply(&observer, id, 300));
        apply(&observer, 1, 4000);
        assert!(flags[1..].iter().all(|flag| !flag.is_raised()), "round {round}");
    }
    assert!(memory.peak() <= MEMORY);
}

#[test]
fn regions_that_are_all_busy_share() {
    let (observer, queue, memory, flags) = observer(10);
    for _ in 0..1000 {
        (1..=10).for_each(|id| apply(&observer, id, 1000));
    }
    assert!(flags.iter().all(GapFlag::is_raised) && memory.used() > MEMORY * 4 / 5 && memory.peak() <= MEMORY);
    let mut shares = [0usize; 11];
    for message in queue.try_iter() {
        let ShardMessage::Applied(batch) = message else { panic!() };
        shares[batch.region_id as usize] += batch.permit.bytes();
    }
    assert!(shares[1..].iter().all(|share| *share > MEMORY / 20), "{shares:?}");
    assert_eq!(memory.used(), 0);
}

#[test]
fn what_follows_a_drop_is_dropped_while_memory_is_short() {
    let (observer, queue, memory, flags) = observer(2);
    while !flags[0].is_raised() {
        apply(&observer, 1, 4000);
    }
    let dropped = observer.stats().dropped_batches;
    // Some of it is handled; still less than half is free.
    let handled: Vec<_> = queue.try_iter().take(60).collect();
    drop(handled);
    assert!(memory.room() > 200_000 && memory.room() < MEMORY / 2, "{}", memory.room());
    apply(&observer, 1, 10);
    assert_eq!(observer.stats().dropped_batches, dropped + 1, "a snapshot will have it");
    // The shard has to hear of the jump, so with room enough it goes on.
    let handled: Vec<_> = queue.try_iter().take(100).collect();
    drop(handled);
    assert!(memory.room() > MEMORY / 2);
    apply(&observer, 1, 10);
    assert_eq!((observer.stats().dropped_batches, flags[0].is_raised()), (dropped + 1, true));
    // A scan takes the flag down.
    flags[0].clear();
    apply(&observer, 1, 4000);
    assert!(!flags[0].is_raised());
}
