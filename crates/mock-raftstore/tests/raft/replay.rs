//! [`logtide_model::Host::raft_log`] against what observers were told when the entries were applied.

use logtide_mock_raftstore::Cluster;
use logtide_mock_raftstore::rpc::RegionError;
use logtide_model::{HostError, Op, RegionId, StoreId};

use crate::recorder::Recorder;
use crate::steps::{cut_off, put, start};

/// The first entry of every log.
const FIRST: u64 = 6;

fn tick(cluster: &Cluster, n: usize) {
    for _ in 0..n {
        cluster.steps().unwrap().tick_all();
        cluster.steps().unwrap().settle();
    }
}

/// What the log says, checked to be contiguous; `None` if it says nothing.
fn replayed(cluster: &Cluster, store: StoreId, region: RegionId, version: u64, range: (u64, u64)) -> Option<Vec<Op>> {
    let (mut next, mut ops) = (range.0, Vec::new());
    for batch in cluster.host(store).raft_log(region, version, range.0, range.1).unwrap()? {
        let batch = batch.unwrap();
        assert_eq!(batch.first_index, next);
        assert!(batch.last_index >= next);
        next = batch.last_index + 1;
        ops.extend(batch.ops);
    }
    assert_eq!(next, range.1 + 1);
    Some(ops)
}

/// What an observer was told of the entries of a range that begins and ends with a batch.
fn told(recorder: &Recorder, region: RegionId, range: (u64, u64)) -> Vec<Op> {
    let seen = recorder.seen.lock();
    let within = seen.batches.iter().filter(|b| b.0 == region && b.1 >= range.0 && b.2 <= range.1);
    within.flat_map(|b| b.3.clone()).filter(|op| *op != Op::Admin).collect()
}

fn last_told(recorder: &Recorder, region: RegionId) -> u64 {
    recorder.seen.lock().last[&region]
}

#[test]
fn every_peer_tells_what_was_applied_and_nothing_that_was_overwritten() {
    let (cluster, recorders) = start(&[]);
    let steps = cluster.steps().unwrap();
    let (region, old) = cluster.rpc().locate(b"a");
    for n in 0..300 {
        cluster.rpc().call(old, put(&cluster, &format!("a-{n}"))).unwrap();
    }
    cut_off(&cluster, old);
    let lost = cluster.submit(old, put(&cluster, "a-lost"));
    for _ in 0..60 {
        (1..=3).filter(|s| *s != old).for_each(|s| steps.tick(s));
        steps.settle();
    }
    let (_, new) = cluster.rpc().locate(b"a");
    assert_ne!(new, old, "a follower became leader");
    cluster.rpc().call(new, put(&cluster, "a-won")).unwrap();
    cluster.heal();
    tick(&cluster, 6);
    assert!(matches!(lost.take(), Some(Err(RegionError::NotLeader { .. }))));
    for store in 1..=3 {
        let recorder = &recorders[store as usize - 1];
        let range = (FIRST, last_told(recorder, region.id));
        let ops = replayed(&cluster, store, region.id, 1, range).unwrap();
        assert_eq!(ops, told(recorder, region.id, range));
        let text = format!("{ops:?}");
        assert!(text.contains("a-299") && text.contains("a-won") && !text.contains("a-lost"));
    }
    // The engine alone answers, so it is the same after a restart, and in parts.
    let last = last_told(&recorders[0], region.id);
    let whole = replayed(&cluster, 1, region.id, 1, (FIRST, last)).unwrap();
    cluster.stop_store(1);
    assert!(matches!(cluster.host(1).raft_log(region.id, 1, FIRST, last), Err(HostError::Unavailable(_))));
    cluster.restart_store(1, Vec::new()).unwrap();
    let parts = [(FIRST, FIRST + 6), (FIRST + 7, last), (last + 1, last)];
    let parts: Vec<Op> =
        parts.into_iter().flat_map(|range| replayed(&cluster, 1, region.id, 1, range).unwrap()).collect();
    assert_eq!(parts, whole);
}

#[test]
fn a_split_ends_what_can_be_told_and_what_it_overtook_did_nothing() {
    let (cluster, recorders) = start(&[]);
    let (region, leader) = cluster.rpc().locate(b"z");
    let recorder = &recorders[leader as usize - 1];
    cluster.rpc().call(leader, put(&cluster, "a-before")).unwrap();
    let at = last_told(recorder, region.id) + 1;
    let split = cluster.submit_split(b"m").unwrap();
    let overtaken = cluster.submit(leader, put(&cluster, "a-overtaken"));
    cluster.steps().unwrap().settle();
    split.take().unwrap().unwrap();
    assert!(matches!(overtaken.take(), Some(Err(RegionError::EpochNotMatch { .. }))));
    cluster.rpc().call(leader, put(&cluster, "a-after")).unwrap();
    let last = last_told(recorder, region.id);
    assert_eq!(last, at + 2);
    let host = cluster.host(leader);
    let none = |version, from| host.raft_log(region.id, version, from, last).unwrap().is_none();
    assert!(none(1, FIRST) && none(1, at + 1), "the version is gone");
    assert!(none(2, FIRST) && none(2, at), "the split was applied in the version before");
    let ops = replayed(&cluster, leader, region.id, 2, (at + 1, last)).unwrap();
    assert_eq!(ops, told(recorder, region.id, (at + 1, last)));
    let text = format!("{ops:?}");
    assert!(text.contains("a-after") && !text.contains("a-overtaken") && !text.contains("a-before"));
    // The child has a log of its own.
    let (child, child_leader) = cluster.rpc().locate(b"z");
    cluster.rpc().call(child_leader, put(&cluster, "z-child")).unwrap();
    let range = (FIRST, last_told(&recorders[child_leader as usize - 1], child.id));
    let ops = replayed(&cluster, child_leader, child.id, 2, range).unwrap();
    assert!(format!("{ops:?}").contains("z-child"));
}

#[test]
fn what_the_log_does_not_hold_is_not_told() {
    let (cluster, recorders) = start(&[]);
    let (region, leader) = cluster.rpc().locate(b"a");
    for n in 0..10 {
        cluster.rpc().call(leader, put(&cluster, &format!("a-{n}"))).unwrap();
    }
    let last = last_told(&recorders[leader as usize - 1], region.id);
    let host = cluster.host(leader);
    assert!(matches!(host.raft_log(region.id, 1, FIRST, last + 1), Err(HostError::Unavailable(_))), "not applied yet");
    assert!(matches!(host.raft_log(99, 1, FIRST, last), Err(HostError::RegionNotFound(99))));
    // What is being read stays, though the log is truncated meanwhile.
    let reading = host.raft_log(region.id, 1, FIRST, last).unwrap().unwrap();
    cluster.truncate_log(region.id, 3).unwrap();
    assert!(host.raft_log(region.id, 1, FIRST, last).unwrap().is_none());
    assert!(host.raft_log(region.id, 1, last - 3, last).unwrap().is_none());
    assert_eq!(replayed(&cluster, leader, region.id, 1, (last - 2, last)).unwrap().len(), 3);
    assert_eq!(reading.map(|batch| batch.unwrap().ops.len()).sum::<usize>(), 10);
}
