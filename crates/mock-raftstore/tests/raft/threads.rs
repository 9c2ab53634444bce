//! Scenes with threads, through the client.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use logtide_mock_raftstore::client::Client;
use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};

use crate::recorder::{Recorder, Sequence};

const WAIT: Duration = Duration::from_secs(60);

pub(crate) fn start(mut config: ClusterConfig) -> (Cluster, Vec<Recorder>) {
    let sequence = Sequence::default();
    let recorders: Vec<_> = (1..=config.stores as u64).map(|s| Recorder::new(s, &sequence)).collect();
    config.observers = (1..).zip(&recorders).map(|(s, r)| (s, vec![Arc::new(r.clone()) as _])).collect();
    config.tick = Duration::from_millis(20);
    let cluster = Cluster::start(config).unwrap();
    assert!(cluster.wait_ready(WAIT));
    (cluster, recorders)
}

pub(crate) fn put(client: &Client, key: &str, value: &str) {
    let mut txn = client.begin().unwrap();
    txn.put(key.as_bytes(), Bytes::copy_from_slice(value.as_bytes()));
    txn.commit().unwrap();
}

fn get(client: &Client, key: &str) -> Option<Bytes> {
    client.snapshot(client.timestamp().unwrap()).get(key.as_bytes()).unwrap()
}

#[test]
fn reads_see_writes_through_leader_changes() {
    let (cluster, recorders) = start(ClusterConfig::memory(Driver::Threads));
    let client = Client::new(cluster.rpc());
    for round in 0..6u64 {
        put(&client, "key", &round.to_string());
        let (region, leader) = cluster.rpc().locate(b"key");
        let to = leader % 3 + 1;
        cluster.transfer_leader(region.id, to).unwrap();
        assert_eq!(get(&client, "key"), Some(Bytes::from(round.to_string())));
        // A transfer may fail; then it is asked for again.
        let moved = |_| cluster.wait_regions(Duration::from_secs(2), |all| all.iter().all(|(_, l, _)| *l == to));
        assert!((0..30).any(|n| moved(n) || cluster.transfer_leader(region.id, to).is_err()));
    }
    recorders.iter().for_each(Recorder::assert_clean);
    cluster.shutdown();
}

#[test]
fn a_leader_that_dies_is_replaced() {
    let (cluster, recorders) = start(ClusterConfig::memory(Driver::Threads));
    let client = Client::new(cluster.rpc());
    put(&client, "key", "before");
    let (_, leader) = cluster.rpc().locate(b"key");
    cluster.stop_store(leader);
    assert_eq!(get(&client, "key"), Some(Bytes::from("before")));
    put(&client, "key", "after");
    cluster.restart_store(leader, Vec::new()).unwrap();
    assert_eq!(get(&client, "key"), Some(Bytes::from("after")));
    recorders.iter().for_each(Recorder::assert_clean);
    cluster.shutdown();
}

#[test]
fn a_partition_heals() {
    let (cluster, recorders) = start(ClusterConfig::memory(Driver::Threads));
    let client = Client::new(cluster.rpc());
    put(&client, "key", "before");
    let (_, leader) = cluster.rpc().locate(b"key");
    let others: BTreeSet<_> = cluster.stores().into_iter().filter(|s| *s != leader).collect();
    cluster.partition(&[[leader].into(), others]);
    assert!(cluster.wait_regions(WAIT, |all| all.iter().all(|(_, l, _)| *l != leader)));
    put(&client, "key", "during");
    cluster.heal();
    put(&client, "key", "after");
    assert_eq!(get(&client, "key"), Some(Bytes::from("after")));
    recorders.iter().for_each(Recorder::assert_clean);
    cluster.shutdown();
}

#[test]
fn splits_and_transfers_under_load_lose_nothing() {
    let (cluster, recorders) = start(ClusterConfig::memory(Driver::Threads));
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let client = Client::new(cluster.rpc());
    std::thread::scope(|scope| {
        for writer in 0..3u64 {
            let (client, written, stop) = (client.clone(), &written, &stop);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::SeqCst) && n >= 100 {
                        return written.fetch_add(n, Ordering::SeqCst);
                    }
                    put(&client, &format!("key-{n:05}-{writer}"), &n.to_string());
                }
                0
            });
        }
        for i in 1..8u64 {
            let key = format!("key-{:05}", i * 10);
            while cluster.split_region(key.as_bytes()).is_err() && cluster.pd().regions().len() < 1 + i as usize {
                assert!(cluster.wait_ready(WAIT));
            }
            let (region, leader) = cluster.rpc().locate(key.as_bytes());
            cluster.transfer_leader(region.id, leader % 3 + 1).unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(cluster.stats().regions, 8);
    let pairs = client.snapshot(client.timestamp().unwrap()).scan(b"", b"", usize::MAX).unwrap();
    assert_eq!(pairs.len() as u64, written.load(Ordering::SeqCst));
    recorders.iter().for_each(Recorder::assert_clean);
    cluster.shutdown();
}

/// Everything at once: members move around, logs are cut short, a store dies and comes back.
#[test]
fn members_move_under_load_and_lose_nothing() {
    let mut config =
        ClusterConfig { stores: 4, replicas: Some(3), log_keep: 20, ..ClusterConfig::memory(Driver::Threads) };
    config.split_keys = vec![b"key-00020".to_vec()];
    let (cluster, recorders) = start(config);
    let client = Client::new(cluster.rpc());
    let stop = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 0u64;
            while !stop.load(Ordering::SeqCst) || n < 60 {
                put(&client, &format!("key-{n:05}"), &n.to_string());
                n += 1;
            }
            n
        });
        for _ in 0..6 {
            for (region, leader, _) in cluster.pd().regions() {
                let members = cluster.pd().peer_stores(region.id);
                for store in cluster.stores().into_iter().filter(|s| !members.contains(s)) {
                    // A leader that just changed refuses; the next round asks again.
                    drop(cluster.add_peer(region.id, store));
                }
                let other = members.into_iter().find(|s| *s != leader).unwrap();
                drop(cluster.remove_peer(region.id, other));
            }
        }
        cluster.stop_store(1);
        assert!(cluster.wait_regions(WAIT, |all| all.iter().all(|(_, l, _)| *l != 1)));
        cluster.restart_store(1, Vec::new()).unwrap();
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap()
    });
    let pairs = client.snapshot(client.timestamp().unwrap()).scan(b"", b"", usize::MAX).unwrap();
    assert_eq!(pairs.len() as u64, written);
    let changes: u64 = cluster.pd().regions().iter().map(|(r, ..)| r.epoch.conf_ver - 1).sum();
    assert!(changes > 4, "{changes} changes of members");
    recorders.iter().for_each(Recorder::assert_clean);
    cluster.shutdown();
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_cluster_on_disk_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ClusterConfig::rocksdb(dir.path());
    config.split_keys = vec![b"m".to_vec()];
    let (cluster, _) = start(config.clone());
    let client = Client::new(cluster.rpc());
    put(&client, "a", "1");
    put(&client, "z", "1");
    let (_, leader) = cluster.rpc().locate(b"z");
    cluster.stop_store(leader);
    put(&client, "z", "2");
    cluster.restart_store(leader, Vec::new()).unwrap();
    cluster.split_region(b"t").unwrap();
    let last = client.timestamp().unwrap();
    cluster.shutdown();
    drop((client, cluster));
    let names: BTreeSet<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["store-1", "store-2", "store-3"].map(Into::into).into());
    let wrong = ClusterConfig { cluster_id: 2, ..config.clone() };
    assert!(Cluster::start(wrong).err().unwrap().to_string().contains("belongs to cluster 1"));
    let (cluster, _) = start(config);
    let client = Client::new(cluster.rpc());
    assert!(client.timestamp().unwrap() > last);
    assert_eq!((get(&client, "a"), get(&client, "z")), (Some(Bytes::from("1")), Some(Bytes::from("2"))));
    assert_eq!(cluster.stats().regions, 3);
    let (left, right) = cluster.split_region(b"x").unwrap();
    assert!(cluster.pd().regions().iter().filter(|(r, ..)| r.id == right.id).count() == 1 && left.id != right.id);
    cluster.shutdown();
}

#[cfg(feature = "rocksdb")]
#[test]
fn stores_on_disk_restart_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, _) = start(ClusterConfig::rocksdb(dir.path()));
    let client = Client::new(cluster.rpc());
    let done = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 0u64;
            while !done.load(Ordering::SeqCst) || n < 50 {
                put(&client, &format!("key-{n:05}"), &n.to_string());
                n += 1;
            }
            n
        });
        for store in cluster.stores() {
            cluster.stop_store(store);
            assert!(cluster.wait_regions(WAIT, |all| all.iter().all(|(_, l, _)| *l != store)));
            cluster.restart_store(store, Vec::new()).unwrap();
        }
        done.store(true, Ordering::SeqCst);
        writer.join().unwrap()
    });
    let pairs = client.snapshot(client.timestamp().unwrap()).scan(b"", b"", usize::MAX).unwrap();
    assert_eq!(pairs.len() as u64, written);
    cluster.shutdown();
}
