//! Scenes from the life of a region, on the step driver: its log is cut, its peers come and go.

use std::sync::Arc;
use std::time::Duration;

use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};
use logtide_model::Op;

use crate::recorder::{Recorder, Sequence};
use crate::steps::{put, start};

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
