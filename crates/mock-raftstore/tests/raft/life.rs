//! Scenes from the life of a region, on the step driver: its log is cut, its peers come and go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use logtide_mock_raftstore::transport::Faults;
use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};
use logtide_model::{Cf, HostError, KeyRange, KvSnapshot, Op, RegionId, StoreId};
use raft::eraftpb::MessageType;

use crate::recorder::{Recorder, Sequence};
use crate::steps::{cut_off, put, soon, start};

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
        let done = |_| {
            let (_, leader) = cluster.rpc().locate(raw.as_bytes());
            let outcome = cluster.rpc().call(leader, put(cluster, &raw));
            if outcome.is_err() {
                catch_up(cluster);
            }
            outcome.is_ok()
        };
        assert!((0..200).any(done), "{raw} cannot be written");
    }
    catch_up(cluster);
}

/// Lets followers hear what is committed.
pub(crate) fn catch_up(cluster: &Cluster) {
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

/// Four stores, and three peers of each region.
fn four(split_keys: &[&str]) -> (Cluster, Vec<Recorder>) {
    let sequence = Sequence::default();
    let recorders: Vec<_> = (1..=4).map(|s| Recorder::new(s, &sequence)).collect();
    let mut config = ClusterConfig { stores: 4, replicas: Some(3), ..ClusterConfig::memory(Driver::Steps) };
    config.split_keys = split_keys.iter().map(|k| k.as_bytes().to_vec()).collect();
    config.observers = (1..).zip(&recorders).map(|(s, r)| (s, vec![Arc::new(r.clone()) as _])).collect();
    let cluster = Cluster::start(config).unwrap();
    assert!(cluster.wait_ready(Duration::ZERO));
    (cluster, recorders)
}

/// The store without a peer of a region.
fn outsider(cluster: &Cluster, region_id: RegionId) -> StoreId {
    let members = cluster.pd().peer_stores(region_id);
    cluster.stores().into_iter().find(|s| !members.contains(s)).unwrap()
}

#[test]
fn regions_are_spread_over_stores_and_splits_stay_with_their_parent() {
    let (cluster, _) = four(&["b", "c", "d", "e", "f", "g", "h"]);
    let spread: Vec<_> = cluster.pd().regions().iter().map(|(r, ..)| cluster.pd().peer_stores(r.id)).collect();
    assert_eq!(spread[..4], [vec![1, 2, 3], vec![2, 3, 4], vec![1, 3, 4], vec![1, 2, 4]]);
    assert_eq!(spread[..4], spread[4..]);
    assert!(cluster.stats().stores.values().all(|s| (s.regions, s.leaders) == (6, 2)));
    let (left, right) = cluster.split_region(b"b5").unwrap();
    assert_eq!(cluster.pd().peer_stores(left.id), cluster.pd().peer_stores(right.id));
}

#[test]
fn a_peer_moves_to_another_store_and_back() {
    let (cluster, recorders) = four(&[]);
    let (region, leader) = cluster.rpc().locate(b"key");
    write(&cluster, 10);
    let (home, away) = (leader % 3 + 1, outsider(&cluster, region.id));
    let added = cluster.add_peer(region.id, away).unwrap();
    assert_eq!((added.epoch.conf_ver, added.epoch.version), (region.epoch.conf_ver + 1, region.epoch.version));
    catch_up(&cluster);
    assert_equal(&cluster, region.id, 1..=4);
    assert_eq!(recorders[away as usize - 1].seen.lock().shapes[&region.id], added.epoch);
    let removed = cluster.remove_peer(region.id, home).unwrap();
    assert_eq!(removed.epoch.conf_ver, added.epoch.conf_ver + 1);
    catch_up(&cluster);
    assert!(matches!(cluster.replica(home, region.id), Err(HostError::RegionNotFound(_))));
    assert_eq!(recorders[home as usize - 1].seen.lock().destroyed, 1);
    assert_eq!(recorders[leader as usize - 1].seen.lock().shapes[&region.id], removed.epoch);
    assert!(cluster.host(home).regions(&KeyRange::ALL).is_empty());
    // It comes back as another peer.
    cluster.transfer_leader(region.id, away).unwrap();
    assert!(cluster.wait_regions(Duration::ZERO, |all| all[0].1 == away));
    write(&cluster, 5);
    cluster.add_peer(region.id, home).unwrap();
    catch_up(&cluster);
    write(&cluster, 5);
    assert_equal(&cluster, region.id, 1..=4);
    for store in 1..=4 {
        cluster.stop_store(store);
        cluster.restart_store(store, vec![]).unwrap();
    }
    assert!(cluster.wait_regions(Duration::ZERO, |all| all[0].2 > 6));
    write(&cluster, 5);
    assert_equal(&cluster, region.id, 1..=4);
    recorders.iter().for_each(Recorder::assert_clean);
}

#[test]
fn leadership_is_confirmed_by_the_members_there_are() {
    let (cluster, _) = four(&[]);
    let (region, leader) = cluster.rpc().locate(b"key");
    let away = outsider(&cluster, region.id);
    let confirms = || cluster.host(leader).confirm_leadership(&[region.id], soon()).len();
    let others: Vec<_> = cluster.pd().peer_stores(region.id).into_iter().filter(|s| *s != leader).collect();
    cluster.partition(&[[leader, others[0]].into(), [others[1], away].into()]);
    assert_eq!(confirms(), 1, "two of three");
    cluster.add_peer(region.id, away).unwrap();
    assert_eq!(confirms(), 0, "two of four");
    cluster.heal();
    catch_up(&cluster);
    assert_eq!(confirms(), 1);
    cluster.partition(&[[leader, away].into(), others.iter().copied().collect()]);
    assert_eq!(confirms(), 0, "two of four");
    cluster.heal();
    catch_up(&cluster);
    cluster.remove_peer(region.id, others[0]).unwrap();
    cluster.partition(&[[leader, away].into(), others.iter().copied().collect()]);
    assert_eq!(confirms(), 1, "two of three");
}

#[test]
fn a_leader_does_not_remove_itself_nor_the_last_but_one() {
    let (cluster, _) = four(&[]);
    let (region, leader) = cluster.rpc().locate(b"key");
    let refusal = |store| cluster.remove_peer(region.id, store).unwrap_err().to_string();
    assert!(refusal(leader).contains("transfer the leadership first"));
    assert!(refusal(outsider(&cluster, region.id)).contains("has no peer on store"));
    assert!(cluster.add_peer(region.id, leader).unwrap_err().to_string().contains("already"));
    let first = cluster.submit_remove_peer(region.id, leader % 3 + 1).unwrap();
    let second = cluster.submit_add_peer(region.id, 4).unwrap();
    cluster.steps().unwrap().settle();
    assert!(matches!(second.take(), Some(Err(_))), "one change at a time");
    assert_eq!(first.take().unwrap().unwrap().epoch.conf_ver, region.epoch.conf_ver + 1);
    assert!(refusal((leader + 1) % 3 + 1).contains("add one first"));
}

/// Whoever was away when it was removed hears of it from nobody; and old messages for it must not call it back.
#[test]
fn a_removed_peer_that_was_away_goes_and_stays_away() {
    let (cluster, recorders) = four(&[]);
    let (region, leader) = cluster.rpc().locate(b"key");
    let (gone, steps) = (leader % 3 + 1, cluster.steps().unwrap());
    write(&cluster, 3);
    let others: BTreeSet<_> = (1..=4).filter(|s| *s != gone).collect();
    // What is sent to it now arrives when it is gone.
    cluster.network().set_faults(Faults { delay: 1.0, max_delay: 500, ..Faults::default() });
    steps.tick(leader);
    steps.tick(leader);
    steps.step(leader);
    assert!(steps.flying().iter().any(|f| f.to == gone && f.kind == MessageType::MsgHeartbeat));
    cluster.heal();
    cluster.partition(&[[gone].into(), others]);
    cluster.remove_peer(region.id, gone).unwrap();
    assert!(cluster.replica(gone, region.id).is_ok(), "it does not know yet");
    for _ in 0..100 {
        steps.settle();
        steps.tick_all();
    }
    assert!(matches!(cluster.replica(gone, region.id), Err(HostError::RegionNotFound(_))));
    assert_eq!(recorders[gone as usize - 1].seen.lock().destroyed, 1);
    cluster.stop_store(gone);
    cluster.restart_store(gone, vec![]).unwrap();
    cluster.heal();
    while steps.deliver(0) {
        steps.step(gone);
    }
    assert!(matches!(cluster.replica(gone, region.id), Err(HostError::RegionNotFound(_))));
    assert_eq!(cluster.log_bounds(gone, region.id), None);
    cluster.add_peer(region.id, gone).unwrap();
    catch_up(&cluster);
    assert_equal(&cluster, region.id, cluster.pd().peer_stores(region.id));
    recorders.iter().for_each(Recorder::assert_clean);
}

/// Who proposed it and then got it in a snapshot cannot tell whether it is in there: it must not say that it is not.
#[test]
fn the_fate_of_a_proposal_that_a_snapshot_swallowed_is_unknown() {
    let (cluster, _) = start(&[]);
    let steps = cluster.steps().unwrap();
    let (region, old) = cluster.rpc().locate(b"key");
    let (next, third) = (old % 3 + 1, (old + 1) % 3 + 1);
    catch_up(&cluster);
    let ticket = cluster.submit(old, put(&cluster, "key"));
    steps.step(old);
    cluster.partition(&[[old].into(), [next, third].into()]);
    // What was sent already arrives; the answers do not.
    while steps.deliver(0) {
        for store in [next, third] {
            steps.step(store);
        }
    }
    assert!(cluster.wait_regions(Duration::ZERO, |all| all[0].1 != old));
    write(&cluster, 2);
    cluster.truncate_log(region.id, 0).unwrap();
    write(&cluster, 1);
    assert!(ticket.take().is_none());
    cluster.heal();
    for _ in 0..10 {
        catch_up(&cluster);
    }
    assert_equal(&cluster, region.id, 1..=3);
    assert_eq!(cluster.stats().stores[&old].snapshots, 1);
    assert!(matches!(ticket.take(), Some(Err(error)) if error.is_undetermined()));
}
