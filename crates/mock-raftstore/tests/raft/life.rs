//! Scenes from the life of a region, on the step driver: its log is cut, its peers come and go.

use std::sync::Arc;
use std::time::Duration;

use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};
use logtide_model::{Cf, KeyRange, KvSnapshot, Op, RegionId, StoreId};

use crate::recorder::{Recorder, Sequence};
use crate::steps::{cut_off, put, start};

/// All that a replica holds.
pub(crate) fn contents(replica: &dyn KvSnapshot) -> Vec<(Cf, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for cf in [Cf::Default, Cf::Lock, Cf::Write] {
        let mut iter = replica.iter(cf, &KeyRange::ALL).unwrap();
        while iter.next().unwrap() {
            all.push((cf, iter.key().to_vec(), iter.value().to_vec()));
        }
    }
    all
}

/// Checks that stores have a region at the same index with the same contents.
fn assert_equal(cluster: &Cluster, region_id: RegionId, stores: impl IntoIterator<Item = StoreId>) {
    let replicas: Vec<_> = stores.into_iter().map(|s| cluster.replica(s, region_id).unwrap()).collect();
    for other in &replicas[1..] {
        assert_eq!((replicas[0].region(), replicas[0].applied_index()), (other.region(), other.applied_index()));
        assert_eq!(contents(&*replicas[0]), contents(&**other));
    }
}

/// A store that neither leads the region of a key nor is needed for a quorum.
fn follower(cluster: &Cluster) -> StoreId {
    cluster.rpc().locate(b"key").1 % 3 + 1
}

/// Writes `n` keys, whatever leads.
fn write(cluster: &Cluster, n: usize) {
    for i in 0..n {
        let raw = format!("key {i}");
        let (_, leader) = cluster.rpc().locate(raw.as_bytes());
        cluster.rpc().call(leader, put(cluster, &raw)).unwrap();
    }
    catch_up(cluster);
}

/// Lets followers hear what is committed.
fn catch_up(cluster: &Cluster) {
    for _ in 0..4 {
        cluster.steps().unwrap().tick_all();
        cluster.steps().unwrap().settle();
    }
}

#[test]
fn a_log_is_truncated_everywhere_and_told_as_an_entry_without_data() {
    let (cluster, recorders) = start(&[]);
    let (region, leader) = cluster.rpc().locate(b"key");
    write(&cluster, 20);
    let (first, last) = cluster.log_bounds(leader, region.id).unwrap();
    assert!(first == 6 && last >= 26, "{first}..={last}");
    assert_eq!(cluster.truncate_log(region.id, 3).unwrap(), region);
    catch_up(&cluster);
    for store in 1..=3 {
        assert_eq!(
            cluster.log_bounds(store, region.id),
            Some((last - 2, last + 1)),
            "the truncation is an entry itself"
        );
    }
    cluster.truncate_log(region.id, 100).unwrap();
    assert_eq!(cluster.log_bounds(leader, region.id), Some((last - 2, last + 1)), "there was nothing to do");
    for recorder in &recorders {
        recorder.assert_clean();
        assert_eq!(recorder.seen.lock().last[&region.id], last + 1);
        assert_eq!(recorder.ops(region.id).last(), Some(&Op::Admin));
    }
    for store in 1..=3 {
        cluster.stop_store(store);
        cluster.restart_store(store, Vec::new()).unwrap();
        assert_eq!(cluster.log_bounds(store, region.id), Some((last - 2, last + 1)));
    }
    assert!(cluster.wait_regions(Duration::ZERO, |all| all[0].2 > 6), "a leader of a later term");
    write(&cluster, 2);
}

#[test]
fn a_leader_truncates_a_log_that_has_grown_long() {
    let sequence = Sequence::default();
    let recorder = Recorder::new(1, &sequence);
    let mut config = ClusterConfig { log_keep: 5, ..ClusterConfig::memory(Driver::Steps) };
    config.observers.insert(1, vec![Arc::new(recorder.clone())]);
    let cluster = Cluster::start(config).unwrap();
    assert!(cluster.wait_ready(Duration::ZERO));
    let (region, leader) = cluster.rpc().locate(b"key");
    for _ in 0..10 {
        write(&cluster, 6);
        for store in 1..=3 {
            let (first, last) = cluster.log_bounds(store, region.id).unwrap();
            assert!(last - first <= 20, "store {store} holds {first}..={last}");
        }
    }
    let (first, _) = cluster.log_bounds(leader, region.id).unwrap();
    assert!(first > 50);
    recorder.assert_clean();
}

#[test]
fn a_follower_that_is_too_far_behind_gets_a_snapshot() {
    let (cluster, recorders) = start(&[]);
    let (region, follower) = (cluster.rpc().locate(b"key").0, follower(&cluster));
    write(&cluster, 3);
    cut_off(&cluster, follower);
    write(&cluster, 30);
    cluster.truncate_log(region.id, 0).unwrap();
    write(&cluster, 2);
    let behind = cluster.replica(follower, region.id).unwrap().applied_index();
    cluster.heal();
    catch_up(&cluster);
    assert_equal(&cluster, region.id, 1..=3);
    let (first, _) = cluster.log_bounds(follower, region.id).unwrap();
    assert!(first > behind + 1, "the log begins behind the snapshot");
    let recorder = &recorders[follower as usize - 1];
    recorder.assert_clean();
    assert!(recorder.seen.lock().last[&region.id] <= behind, "a snapshot is not told entry by entry");
    cluster.stop_store(follower);
    cluster.restart_store(follower, vec![Arc::new(recorder.clone())]).unwrap();
    cluster.transfer_leader(region.id, follower).unwrap();
    assert!(cluster.wait_regions(Duration::ZERO, |all| all[0].1 == follower));
    write(&cluster, 3);
    assert_equal(&cluster, region.id, 1..=3);
    recorder.assert_clean();
    assert_eq!(recorder.seen.lock().jumps, 1);
}

/// The parent's snapshot makes room for the child's: before, its peer here owns the keys of both.
#[test]
fn a_follower_that_missed_a_split_gets_snapshots_of_both_sides() {
    let (cluster, recorders) = start(&[]);
    let (region, follower) = (cluster.rpc().locate(b"key").0, follower(&cluster));
    write(&cluster, 12);
    cut_off(&cluster, follower);
    let (left, right) = cluster.split_region(b"key 5").unwrap();
    assert!(cluster.wait_ready(Duration::ZERO));
    write(&cluster, 12);
    for region in [&left, &right] {
        cluster.truncate_log(region.id, 0).unwrap();
    }
    cluster.heal();
    for _ in 0..20 {
        catch_up(&cluster);
    }
    assert_equal(&cluster, left.id, 1..=3);
    assert_equal(&cluster, right.id, 1..=3);
    let recorder = &recorders[follower as usize - 1];
    recorder.assert_clean();
    assert_eq!(recorder.seen.lock().splits, 0, "it has never applied the split");
    assert_eq!(recorder.seen.lock().shapes, [(left.id, left.epoch), (right.id, right.epoch)].into());
    assert_eq!(region.id, left.id);
}
