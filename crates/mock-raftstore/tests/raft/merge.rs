//! Regions that are merged, on the step driver.

use std::time::Duration;

use logtide_mock_raftstore::rpc::{Command, KvRequest, KvResponse, RegionError};
use logtide_mock_raftstore::{Cluster, ClusterError};
use logtide_model::{Cf, HostError, KeyRange, Op, Region, StoreId};

use crate::life::contents;
use crate::recorder::Recorder;
use crate::steps::{cut_off, put, soon, start};
use crate::threads;

fn tick(cluster: &Cluster, n: usize) {
    for _ in 0..n {
        cluster.steps().unwrap().tick_all();
        cluster.steps().unwrap().settle();
    }
}

fn write(cluster: &Cluster, raw: &str) -> Result<KvResponse, RegionError> {
    cluster.rpc().call(cluster.rpc().locate(raw.as_bytes()).1, put(cluster, raw))
}

fn lead(cluster: &Cluster, region: &Region, store: StoreId) {
    tick(cluster, 4);
    cluster.transfer_leader(region.id, store).unwrap();
    let there = |all: &[(Region, StoreId, u64)]| all.iter().any(|(r, l, _)| r.id == region.id && *l == store);
    assert!(cluster.wait_regions(Duration::ZERO, there));
}

/// The two regions of a cluster that is split at `m`, led by stores 1 and 2.
fn two(cluster: &Cluster) -> (Region, Region) {
    let (left, right) = (cluster.rpc().locate(b"a").0, cluster.rpc().locate(b"z").0);
    lead(cluster, &left, 1);
    lead(cluster, &right, 2);
    (left, right)
}

/// The one region that is left holds the same everywhere, with a commit record for each of these keys.
fn assert_alike(cluster: &Cluster, region: &Region, raws: &[&str]) {
    tick(cluster, 60);
    let replicas: Vec<_> = (1..=3).map(|s| cluster.replica(s, region.id).unwrap()).collect();
    let wanted = contents(&*replicas[0]);
    for replica in &replicas {
        assert_eq!((replica.region(), contents(&**replica)), (region, wanted.clone()));
    }
    for raw in raws {
        let key = logtide_model::encode_raw_key(raw.as_bytes());
        let mut iter = replicas[0].iter(Cf::Write, &KeyRange::ALL).unwrap();
        assert!(iter.seek(&key).unwrap() && iter.key().starts_with(&key), "{raw} is lost");
    }
}

#[test]
fn either_neighbour_takes_a_region_over() {
    for (source_first, expected_id) in [(true, "right"), (false, "left")] {
        let (cluster, recorders) = start(&["m"]);
        let (left, right) = two(&cluster);
        write(&cluster, "a").unwrap();
        write(&cluster, "z").unwrap();
        let (source, target) = if source_first { (&left, &right) } else { (&right, &left) };
        let merged = cluster.merge_regions(source.id, target.id).unwrap();
        assert_eq!((merged.id, &merged.range), (target.id, &KeyRange::ALL), "{expected_id}");
        assert_eq!((merged.epoch.version, merged.epoch.conf_ver), (3, 1), "the source was at version 2 by then");
        assert_eq!(cluster.pd().regions().len(), 1);
        for raw in ["b", "y"] {
            write(&cluster, raw).unwrap();
        }
        assert_alike(&cluster, &merged, &["a", "b", "y", "z"]);
        for recorder in &recorders {
            recorder.assert_clean();
            assert_eq!(recorder.seen.lock().merges, 1);
            assert_eq!(recorder.ops(source.id).last(), Some(&Op::Admin), "the entry that prepares it is the last one");
        }
        let host = cluster.host(1);
        assert!(matches!(host.snapshot(source.id, source.epoch), Err(HostError::RegionNotFound(_))));
        assert_eq!(host.confirm_leadership(&[source.id], soon()), []);
        // The region goes on: it can be split and merged again, and stores that restart know all of it.
        cluster.split_region(b"k").unwrap();
        for store in 1..=3 {
            cluster.stop_store(store);
            cluster.restart_store(store, Vec::new()).unwrap();
            tick(&cluster, 60);
        }
        let (left, right) = (cluster.rpc().locate(b"a").0, cluster.rpc().locate(b"z").0);
        let merged = cluster.merge_regions(right.id, left.id).unwrap();
        assert_alike(&cluster, &merged, &["a", "b", "y", "z"]);
    }
}

/// A store that was away brings its source to the end from what the target's entry carries, then goes on.
#[test]
fn a_store_that_was_away_catches_up_over_the_merge() {
    for truncate in [false, true] {
        let (cluster, recorders) = start(&["m"]);
        let (left, right) = two(&cluster);
        cut_off(&cluster, 3);
        for raw in ["a1", "a2", "z1"] {
            write(&cluster, raw).unwrap();
        }
        let merged = cluster.merge_regions(left.id, right.id).unwrap();
        write(&cluster, "a3").unwrap();
        assert!(cluster.replica(3, left.id).is_ok() && cluster.replica(1, left.id).is_err());
        if truncate {
            // Then it gets the target by a snapshot, which takes the place of the source as well.
            cluster.truncate_log(right.id, 0).unwrap();
        }
        cluster.heal();
        assert_alike(&cluster, &merged, &["a1", "a2", "a3", "z1"]);
        recorders.iter().for_each(Recorder::assert_clean);
        assert!(cluster.replica(3, left.id).is_err());
        let seen = recorders[2].seen.lock();
        assert_eq!((seen.merges, seen.destroyed), (usize::from(!truncate), usize::from(truncate)));
        assert_eq!(cluster.stats().stores[&3].snapshots > 0, truncate);
    }
}

/// The entries that a store lacks are gone when the merge is prepared, and then nobody sends it a snapshot of the source: if
/// it leads the target, nobody would ever commit the merge.
#[test]
fn no_merge_is_prepared_while_entries_that_a_peer_lacks_are_being_truncated() {
    let (cluster, recorders) = start(&["m"]);
    let (left, right) = two(&cluster);
    lead(&cluster, &right, 3);
    cut_off(&cluster, 3);
    for raw in ["a1", "a2"] {
        write(&cluster, raw).unwrap();
    }
    let truncation = cluster.submit_truncate_log(left.id, 0).unwrap();
    let merge = cluster.submit_merge(left.id, right.id).unwrap();
    cluster.steps().unwrap().settle();
    truncation.take().unwrap().unwrap();
    let refused = merge.take().unwrap();
    assert!(matches!(&refused, Err(RegionError::Busy(why)) if why.contains("being truncated")), "{refused:?}");
    cluster.heal();
    tick(&cluster, 60);
    let merged = cluster.merge_regions(left.id, right.id).unwrap();
    assert_alike(&cluster, &merged, &["a1", "a2"]);
    recorders.iter().for_each(Recorder::assert_clean);
}

/// While a merge is prepared the source speaks for nobody: neither writes nor reads nor confirmations.
#[test]
fn a_region_that_is_about_to_be_merged_confirms_nothing() {
    let (cluster, recorders) = start(&["m"]);
    let steps = cluster.steps().unwrap();
    let (left, right) = two(&cluster);
    // The target has no quorum: the merge stays prepared.
    lead(&cluster, &right, 3);
    cut_off(&cluster, 3);
    let ticket = cluster.submit_merge(left.id, right.id).unwrap();
    steps.settle();
    assert!(ticket.take().is_none());
    let now = cluster.pd().region(left.id).unwrap().0;
    assert_eq!((now.epoch.version, now.epoch.conf_ver), (2, 2));
    let host = cluster.host(1);
    assert_eq!(host.confirm_leadership(&[left.id], soon()), []);
    let refused = host.snapshot(left.id, now.epoch).err().unwrap();
    assert!(
        matches!(&refused, HostError::Unavailable(why) if why.contains("can not read index due to merge")),
        "{refused}"
    );
    let get = Command::Get { key: b"a".to_vec(), ts: cluster.pd().tso().unwrap(), bypass: Vec::new() };
    let read = KvRequest { region_id: left.id, epoch: now.epoch, command: get };
    assert!(matches!(cluster.rpc().call(1, read), Err(RegionError::Busy(_))));
    assert!(matches!(write(&cluster, "a"), Err(RegionError::Busy(_))));
    assert!(matches!(cluster.split_region(b"c"), Err(ClusterError::Region(RegionError::Busy(_)))));
    // All restart in the middle of it: it is prepared still, and ends well.
    for store in 1..=3 {
        cluster.stop_store(store);
        cluster.restart_store(store, Vec::new()).unwrap();
    }
    assert!(matches!(ticket.take(), Some(Err(e)) if e.is_undetermined()));
    cluster.heal();
    assert!(cluster.wait_regions(Duration::ZERO, |all| all.len() == 1));
    write(&cluster, "a").unwrap();
    assert_alike(&cluster, &cluster.pd().regions()[0].0, &["a"]);
    recorders.iter().for_each(Recorder::assert_clean);
}

#[test]
fn a_merge_whose_target_changes_is_taken_back() {
    let (cluster, recorders) = start(&["m"]);
    let steps = cluster.steps().unwrap();
    let (left, right) = two(&cluster);
    let split = cluster.submit_split(b"t").unwrap();
    let merge = cluster.submit_merge(left.id, right.id).unwrap();
    tick(&cluster, 60);
    assert!(split.take().unwrap().is_ok());
    let refused = merge.take().unwrap();
    assert!(matches!(&refused, Err(RegionError::Busy(why)) if why.contains("taken back")), "{refused:?}");
    let now = cluster.pd().region(left.id).unwrap().0;
    assert_eq!((now.epoch.version, &now.range), (3, &left.range));
    write(&cluster, "a").unwrap();
    assert_eq!(cluster.host(1).confirm_leadership(&[left.id], soon())[0].version, 3);
    steps.settle();
    let merged = cluster.merge_regions(left.id, right.id).unwrap();
    assert_alike(&cluster, &merged, &["a"]);
    recorders.iter().for_each(Recorder::assert_clean);
}

#[test]
fn what_cannot_be_merged_is_refused_and_nothing_changes() {
    let (cluster, _) = start(&["f", "p"]);
    let all: Vec<Region> = cluster.pd().regions().into_iter().map(|(r, ..)| r).collect();
    let busy = |source: usize, target: u64| {
        let refused = cluster.merge_regions(all[source].id, target);
        assert!(matches!(&refused, Err(ClusterError::Region(RegionError::Busy(_)))), "{refused:?}");
    };
    busy(0, all[2].id);
    busy(0, 999);
    busy(1, all[1].id);
    assert!(matches!(cluster.merge_regions(999, all[0].id), Err(ClusterError::NoSuchRegion(999))));
    assert!(cluster.pd().regions().iter().all(|(r, ..)| r.epoch.version == 1));
}

/// Chains: the target is itself the source of another merge.
#[test]
fn merges_at_the_same_time_end_one_way_or_the_other() {
    let (cluster, recorders) = start(&["f", "p"]);
    for raw in ["a", "g", "z"] {
        write(&cluster, raw).unwrap();
    }
    for _ in 0..10 {
        let ids: Vec<u64> = cluster.pd().regions().iter().map(|(r, ..)| r.id).collect();
        let tickets: Vec<_> = ids.windows(2).filter_map(|pair| cluster.submit_merge(pair[0], pair[1]).ok()).collect();
        tick(&cluster, 60);
        assert!(tickets.iter().all(|ticket| ticket.take().is_some()), "every merge ends");
        if cluster.pd().regions().len() == 1 {
            break;
        }
    }
    let (region, ..) = cluster.pd().regions().remove(0);
    assert_eq!(region.range, KeyRange::ALL);
    assert_alike(&cluster, &region, &["a", "g", "z"]);
    recorders.iter().for_each(Recorder::assert_clean);
}

/// What the source answered to readers is not changed by the target: it commits above.
#[test]
fn the_target_commits_above_the_reads_of_the_source() {
    let (cluster, _) = start(&["m"]);
    let (left, right) = two(&cluster);
    let ts = cluster.pd().tso().unwrap();
    let get = Command::Get { key: b"a".to_vec(), ts, bypass: Vec::new() };
    let read = KvRequest { region_id: left.id, epoch: left.epoch, command: get };
    // Its start ts is before the read, and so is the smallest commit ts that it asks for.
    let early = put(&cluster, "a").command;
    assert_eq!(cluster.rpc().call(1, read), Ok(KvResponse::Get { value: None }));
    let Command::Prewrite(mut early) = early else { panic!("no prewrite") };
    early.start_ts = ts.prev();
    let merged = cluster.merge_regions(left.id, right.id).unwrap();
    let request = KvRequest { region_id: merged.id, epoch: merged.epoch, command: Command::Prewrite(early) };
    match cluster.rpc().call(2, request) {
        Ok(KvResponse::Prewrite { one_pc_commit_ts, .. }) => assert!(one_pc_commit_ts > ts, "{one_pc_commit_ts} {ts}"),
        other => panic!("{other:?}"),
    }
}

/// The version that a quorum confirms is the one after a merge that is committed, applied or not.
#[test]
fn the_target_is_confirmed_with_the_version_that_it_has() {
    let (cluster, recorders) = start(&["m"]);
    let (left, right) = two(&cluster);
    assert_eq!(cluster.host(2).confirm_leadership(&[right.id], soon())[0].version, 1);
    let merge = cluster.submit_merge(left.id, right.id).unwrap();
    let mut versions = Vec::new();
    for _ in 0..40 {
        cluster.steps().unwrap().turn();
        // Confirming runs the cluster on: what is confirmed is compared with what the observer knows right then.
        let confirmed = cluster.host(2).confirm_leadership(&[right.id], soon());
        versions.extend(confirmed.iter().map(|c| c.version));
        let merged = recorders[1].seen.lock().merges > 0;
        assert!(confirmed.iter().all(|c| (c.version == 3) == merged));
    }
    assert!(merge.take().unwrap().is_ok());
    assert_eq!(versions.last(), Some(&3));
}

#[test]
fn regions_split_and_merge_under_load_with_threads() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (cluster, recorders) =
        threads::start(logtide_mock_raftstore::ClusterConfig::memory(logtide_mock_raftstore::Driver::Threads));
    let client = logtide_mock_raftstore::client::Client::new(cluster.rpc());
    let stop = AtomicBool::new(false);
    let written: usize = std::thread::scope(|scope| {
        let (client, stop) = (&client, &stop);
        let writers: Vec<_> = (0..2u8)
            .map(|writer| {
                scope.spawn(move || {
                    let mut n = 0u16;
                    while !stop.load(Ordering::SeqCst) {
                        threads::put(client, &format!("key-{:02}-{writer}-{n:05}", n % 50), "value");
                        n += 1;
                    }
                    usize::from(n)
                })
            })
            .collect();
        let mut merges = 0;
        for round in 0..400 {
            let key = format!("key-{:02}", 5 + (round * 7) % 40);
            drop(cluster.split_region(key.as_bytes()));
            let all = cluster.pd().regions();
            if let Some(pair) = all.windows(2).nth(round % all.len().max(1)) {
                let (a, b) = (pair[0].0.id, pair[1].0.id);
                let (source, target) = if round % 2 == 0 { (a, b) } else { (b, a) };
                merges += usize::from(cluster.merge_regions(source, target).is_ok());
            }
            if merges >= 5 {
                break;
            }
        }
        stop.store(true, Ordering::SeqCst);
        assert!(merges >= 5, "{merges} merges");
        writers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    let pairs = client.snapshot(client.timestamp().unwrap()).scan(b"", b"", usize::MAX).unwrap();
    assert_eq!(pairs.len(), written);
    cluster.shutdown();
    recorders.iter().for_each(Recorder::assert_clean);
}
