//! Single scenes on the step driver.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use logtide_mock_raftstore::rpc::{Command, KvRequest, KvResponse, Mutation, MutationKind, Prewrite, RegionError};
use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};
use logtide_model::{Cf, HostError, KeyRange, Role, StoreId, encode_raw_key};

use crate::recorder::{Recorder, Sequence};

pub(crate) fn start(split_keys: &[&str]) -> (Cluster, Vec<Recorder>) {
    let sequence = Sequence::default();
    let recorders: Vec<_> = (1..=3).map(|s| Recorder::new(s, &sequence)).collect();
    let mut config = ClusterConfig::memory(Driver::Steps);
    config.split_keys = split_keys.iter().map(|k| k.as_bytes().to_vec()).collect();
    config.observers = (1..).zip(&recorders).map(|(s, r)| (s, vec![Arc::new(r.clone()) as _])).collect();
    let cluster = Cluster::start(config).unwrap();
    assert!(cluster.wait_ready(Duration::ZERO));
    (cluster, recorders)
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

pub(crate) fn put(cluster: &Cluster, raw: &str) -> KvRequest {
    let (region, _) = cluster.rpc().locate(raw.as_bytes());
    let key = raw.as_bytes().to_vec();
    let kind = MutationKind::Put(Bytes::from_static(b"v"));
    let command = Command::Prewrite(Prewrite {
        mutations: vec![Mutation { key: key.clone(), kind, pessimistic: false }],
        primary: key,
        start_ts: cluster.pd().tso().unwrap(),
        ttl: 1000,
        txn_size: 1,
        one_pc: true,
        async_commit: true,
        ..Prewrite::default()
    });
    KvRequest { region_id: region.id, epoch: region.epoch, command }
}

pub(crate) fn cut_off(cluster: &Cluster, store: StoreId) {
    let others: BTreeSet<_> = (1..=3).filter(|s| *s != store).collect();
    cluster.partition(&[[store].into(), others]);
}

#[test]
fn a_cut_off_leader_confirms_nothing() {
    let (cluster, _) = start(&["m"]);
    let steps = cluster.steps().unwrap();
    let (region, old) = cluster.rpc().locate(b"a");
    let before = cluster.host(old).confirm_leadership(&[region.id], soon());
    assert_eq!((before.len(), before[0].version), (1, region.epoch.version));
    cut_off(&cluster, old);
    assert_eq!(cluster.host(old).confirm_leadership(&[region.id], soon()), []);
    assert!(matches!(cluster.host(old).snapshot(region.id, region.epoch), Err(HostError::Unavailable(_))));
    // The others elect one of them; the old one still thinks that it leads, until its own timeout.
    for _ in 0..60 {
        let others: Vec<_> = (1..=3).filter(|s| *s != old).collect();
        others.iter().for_each(|s| steps.tick(*s));
        steps.settle();
    }
    let listed = cluster.host(old).regions(&region.range);
    assert!(listed.iter().any(|r| r.region.id == region.id && r.role == Role::Leader), "the old one saw no tick");
    assert_eq!(cluster.host(old).confirm_leadership(&[region.id], soon()), []);
    let (_, new) = cluster.rpc().locate(b"a");
    assert_ne!(new, old);
    let after = cluster.host(new).confirm_leadership(&[region.id], soon());
    assert!(after[0].term > before[0].term);
    cluster.heal();
    steps.tick_all();
    steps.settle();
    assert_eq!(cluster.host(old).confirm_leadership(&[region.id], soon()), []);
    assert!(matches!(cluster.host(old).snapshot(region.id, region.epoch), Err(HostError::NotLeader(_))));
}

#[test]
fn leadership_is_confirmed_for_many_regions_at_once_with_what_was_told() {
    let (cluster, recorders) = start(&["b", "c", "d", "e", "f"]);
    let rpc = cluster.rpc();
    for raw in ["a1", "b1", "c1", "d1", "e1", "f1"] {
        let (_, leader) = rpc.locate(raw.as_bytes());
        rpc.call(leader, put(&cluster, raw)).unwrap();
    }
    let mut confirmed = 0;
    for store in 1..=3 {
        let all: Vec<_> = cluster.pd().regions().iter().map(|(r, ..)| r.id).collect();
        for c in cluster.host(store).confirm_leadership(&all, soon()) {
            let seen = recorders[store as usize - 1].seen.lock();
            assert_eq!((c.applied_index, c.term), (seen.last[&c.region_id], seen.leading[&c.region_id]));
            confirmed += 1;
        }
    }
    assert_eq!(confirmed, 6, "each region at exactly one store");
}

#[test]
fn a_split_is_told_everywhere_and_both_sides_go_on() {
    let (cluster, recorders) = start(&[]);
    let rpc = cluster.rpc();
    let (whole, leader) = rpc.locate(b"");
    rpc.call(leader, put(&cluster, "x")).unwrap();
    let (left, right) = cluster.split_region(b"m").unwrap();
    assert_eq!((left.id, &left.range.end), (whole.id, &right.range.start));
    assert_eq!((left.epoch.version, right.epoch.version), (whole.epoch.version + 1, whole.epoch.version + 1));
    assert!(cluster.wait_ready(Duration::ZERO));
    assert_eq!(rpc.locate(b"x"), (right.clone(), leader), "the child campaigns at the store of the parent's leader");
    for raw in ["a", "z"] {
        rpc.call(rpc.locate(raw.as_bytes()).1, put(&cluster, raw)).unwrap();
    }
    let stale = KvRequest { epoch: whole.epoch, ..put(&cluster, "a") };
    let refused = rpc.call(leader, stale);
    assert!(matches!(&refused, Err(RegionError::EpochNotMatch { current }) if current[0] == left), "{refused:?}");
    assert!(
        matches!(cluster.host(leader).snapshot(left.id, whole.epoch), Err(HostError::EpochNotMatch(r)) if r == left)
    );
    cluster.steps().unwrap().tick_all();
    cluster.steps().unwrap().tick_all();
    cluster.steps().unwrap().settle();
    for recorder in &recorders {
        recorder.assert_clean();
        assert_eq!(recorder.seen.lock().splits, 1);
        assert_eq!(recorder.ops(right.id), recorders[0].ops(right.id));
    }
    assert!(cluster.split_region(b"m").is_err(), "there is a region that begins there");
    let snapshot = cluster.host(leader).snapshot(right.id, right.epoch).unwrap();
    assert_eq!(snapshot.region(), &right);
    let mut iter = snapshot.iter(Cf::Write, &KeyRange::ALL).unwrap();
    assert!(iter.next().unwrap() && iter.key().starts_with(&encode_raw_key(b"x")));
}

/// A command that was computed for the region before its split, and comes after it in the log, does nothing.
#[test]
fn a_write_that_a_split_overtook_is_refused_at_apply() {
    let (cluster, recorders) = start(&[]);
    let (_, leader) = cluster.rpc().locate(b"z");
    let split = cluster.submit_split(b"m").unwrap();
    let write = cluster.submit(leader, put(&cluster, "z"));
    cluster.steps().unwrap().settle();
    let (left, _) = split.take().unwrap().unwrap();
    assert_eq!(write.take(), Some(Err(RegionError::EpochNotMatch { current: vec![left.clone()] })));
    let recorder = &recorders[leader as usize - 1];
    recorder.assert_clean();
    assert_eq!(recorder.ops(left.id).len(), 1, "the split itself");
}

/// H2: while a one-phase commit is in flight the barrier stays below it; once it is observed, it does not.
#[test]
fn the_barrier_waits_for_commits_in_flight() {
    let (cluster, recorders) = start(&[]);
    let steps = cluster.steps().unwrap();
    let (_, leader) = cluster.rpc().locate(b"a");
    let host = cluster.host(leader);
    let free = host.commit_barrier().unwrap();
    let ticket = cluster.submit(leader, put(&cluster, "a"));
    let in_flight = host.commit_barrier().unwrap();
    assert!(in_flight >= free);
    let later = host.commit_barrier().unwrap();
    assert_eq!(later, in_flight, "capped: it cannot pass the commit in flight");
    assert!(ticket.take().is_none());
    steps.settle();
    let Some(Ok(KvResponse::Prewrite { one_pc_commit_ts, .. })) = ticket.take() else { panic!("not committed") };
    assert!(one_pc_commit_ts > later);
    let after = host.commit_barrier().unwrap();
    assert!(after >= one_pc_commit_ts);
    let seen = recorders[leader as usize - 1].seen.lock();
    assert!(seen.commits.iter().any(|c| c.commit_ts == one_pc_commit_ts), "told before the barrier passed it");
}

/// What the leader before answered to readers is not changed by its successor.
#[test]
fn a_new_leader_commits_above_the_reads_of_the_old_one() {
    let (cluster, _) = start(&[]);
    let (region, old) = cluster.rpc().locate(b"a");
    let write = put(&cluster, "a");
    let ts = cluster.pd().tso().unwrap();
    let get = Command::Get { key: b"a".to_vec(), ts, bypass: Vec::new() };
    let read = KvRequest { region_id: region.id, epoch: region.epoch, command: get };
    assert_eq!(cluster.rpc().call(old, read), Ok(KvResponse::Get { value: None }));
    let new = old % 3 + 1;
    cluster.transfer_leader(region.id, new).unwrap();
    assert!(cluster.wait_regions(Duration::ZERO, |all| all.iter().all(|(_, l, _)| *l == new)));
    match cluster.rpc().call(new, write) {
        Ok(KvResponse::Prewrite { one_pc_commit_ts, .. }) => assert!(one_pc_commit_ts > ts),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_timestamps_there_is_no_barrier() {
    let (cluster, _) = start(&[]);
    cluster.pd().set_tso_available(false);
    assert!(matches!(cluster.host(1).commit_barrier(), Err(HostError::Unavailable(_))));
    assert!(matches!(cluster.host(1).timestamp(), Err(HostError::Unavailable(_))));
    cluster.pd().set_tso_available(true);
    assert!(cluster.host(1).commit_barrier().is_ok());
}

/// A write that a cut-off leader could not commit is refused for certain once it is overwritten, and is nowhere.
#[test]
fn an_overwritten_proposal_is_refused() {
    let (cluster, recorders) = start(&[]);
    let steps = cluster.steps().unwrap();
    let (region, old) = cluster.rpc().locate(b"a");
    cut_off(&cluster, old);
    let lost = cluster.submit(old, put(&cluster, "a-lost"));
    steps.settle();
    for _ in 0..60 {
        (1..=3).filter(|s| *s != old).for_each(|s| steps.tick(s));
        steps.settle();
    }
    assert!(lost.take().is_none(), "its outcome is not known yet");
    let (_, new) = cluster.rpc().locate(b"a");
    assert!(cluster.rpc().call(new, put(&cluster, "a-won")).is_ok());
    cluster.heal();
    for _ in 0..6 {
        steps.tick_all();
        steps.settle();
    }
    assert!(matches!(lost.take(), Some(Err(RegionError::NotLeader { .. }))));
    for recorder in &recorders {
        recorder.assert_clean();
        let ops = format!("{:?}", recorder.ops(region.id));
        assert!(ops.contains("a-won") && !ops.contains("a-lost"));
    }
}

#[test]
fn a_stopped_store_is_missed_and_comes_back() {
    let (cluster, _) = start(&[]);
    let (region, leader) = cluster.rpc().locate(b"a");
    let ticket = cluster.submit(leader, put(&cluster, "a"));
    cluster.stop_store(leader);
    assert!(matches!(ticket.take(), Some(Err(e)) if e.is_undetermined()));
    assert!(matches!(cluster.host(leader).commit_barrier(), Err(HostError::Unavailable(_))));
    assert!(cluster.wait_regions(Duration::ZERO, |all| all.iter().all(|(_, l, _)| *l != leader)));
    let (_, new) = cluster.rpc().locate(b"a");
    cluster.rpc().call(new, put(&cluster, "b")).unwrap();
    cluster.restart_store(leader, Vec::new()).unwrap();
    assert!(cluster.restart_store(leader, Vec::new()).is_err(), "it runs already");
    cluster.transfer_leader(region.id, leader).unwrap();
    assert!(cluster.wait_regions(Duration::ZERO, |all| all.iter().all(|(_, l, _)| *l == leader)));
    let snapshot = cluster.host(leader).snapshot(region.id, region.epoch).unwrap();
    let mut iter = snapshot.iter(Cf::Write, &KeyRange::ALL).unwrap();
    assert!(iter.seek(&encode_raw_key(b"b")).unwrap() && iter.key().starts_with(&encode_raw_key(b"b")));
}
