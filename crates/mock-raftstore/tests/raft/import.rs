//! Sorted files that are ingested, and ranges that are removed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use logtide_mock_raftstore::client::Client;
use logtide_mock_raftstore::rpc::{Command, KeyError, KvRequest, KvResponse, RegionError};
use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};
use logtide_model::{Cf, Host, HostError, KeyRange, Op, StoreId, Ts, encode_raw_key, split_ts};
use parking_lot::Mutex;

use crate::recorder::Recorder;
use crate::steps::{put, start};
use crate::threads;

type Records = Vec<(Cf, Bytes, Bytes)>;

/// The value of a raw key that is too long for a write record, or the key itself.
fn value(raw: &str) -> Bytes {
    if raw.ends_with("long") { Bytes::from(vec![7; 100]) } else { Bytes::copy_from_slice(raw.as_bytes()) }
}

fn pairs(raws: &[&str]) -> Vec<(Vec<u8>, Bytes)> {
    raws.iter().map(|raw| (raw.as_bytes().to_vec(), value(raw))).collect()
}

fn ingest(cluster: &Cluster, raws: &[&str]) -> KvRequest {
    let (region, _) = cluster.rpc().locate(raws[0].as_bytes());
    let start_ts = cluster.pd().tso().unwrap();
    let command = Command::Ingest { pairs: pairs(raws), start_ts, min_commit_ts: start_ts.next() };
    KvRequest { region_id: region.id, epoch: region.epoch, command }
}

fn catch_up(cluster: &Cluster) {
    for _ in 0..4 {
        cluster.steps().unwrap().tick_all();
        cluster.steps().unwrap().settle();
    }
}

/// Has an observer read every file that it is told of, on the spot.
fn read_files(recorder: &Recorder, cluster: &Cluster, store: StoreId) -> Arc<Mutex<Records>> {
    let all = Arc::new(Mutex::new(Records::new()));
    let (out, cluster) = (all.clone(), cluster.clone());
    recorder.set_hook(move |ops| {
        for op in ops {
            let Op::IngestSst { cf, path, .. } = op else { continue };
            let records = cluster.ingested_file(store, path).unwrap();
            assert!(records.is_sorted_by(|a, b| a.0 < b.0));
            out.lock().extend(records.iter().map(|(k, v)| (*cf, k.clone(), v.clone())));
        }
    });
    all
}

/// What a column family of a store's peer holds below a raw prefix.
fn held(host: &dyn Host, raw: &str, cf: Cf) -> Vec<(Bytes, Bytes)> {
    let region =
        host.regions(&KeyRange::ALL).into_iter().find(|r| r.region.range.contains(&encode_raw_key(raw.as_bytes())));
    let region = region.unwrap().region;
    let snapshot = host.snapshot(region.id, region.epoch).unwrap();
    let mut iter = snapshot.iter(cf, &KeyRange::ALL).unwrap();
    let mut all = Vec::new();
    while iter.next().unwrap() {
        all.push((Bytes::copy_from_slice(iter.key()), Bytes::copy_from_slice(iter.value())));
    }
    all
}

#[test]
fn a_file_is_told_and_readable_everywhere_and_its_records_are_there() {
    let (cluster, recorders) = start(&[]);
    let read: Vec<_> = (1..=3).zip(&recorders).map(|(s, r)| read_files(r, &cluster, s)).collect();
    let client = Client::new(cluster.rpc());
    let at = client.ingest(pairs(&["b", "a", "c-long"])).unwrap();
    catch_up(&cluster);
    let commit_ts = at[&b"a"[..]];
    assert!(at.len() == 3 && at.values().all(|ts| *ts == commit_ts));
    for (recorder, read) in recorders.iter().zip(&read) {
        recorder.assert_clean();
        let records = read.lock().clone();
        let of =
            |cf: Cf| records.iter().filter(|r| r.0 == cf).map(|(_, k, v)| (k.clone(), v.clone())).collect::<Vec<_>>();
        let (write, default) = (of(Cf::Write), of(Cf::Default));
        assert_eq!((write.len(), default.len()), (3, 1));
        assert!(write.iter().all(|(key, _)| split_ts(key).unwrap().1 == commit_ts));
        assert!(split_ts(&default[0].0).unwrap().1 < commit_ts && default[0].1 == value("c-long"));
        let ops = format!("{:?}", recorder.ops(1));
        assert!(ops.contains("IngestSst { cf: Default, path: \"ingest-"), "{ops}");
    }
    let region = cluster.pd().regions()[0].0.id;
    let Some(Op::IngestSst { path, .. }) =
        recorders[0].ops(region).into_iter().find(|op| matches!(op, Op::IngestSst { .. }))
    else {
        panic!("not told")
    };
    assert!(matches!(cluster.ingested_file(1, &path), Err(HostError::Unavailable(_))), "the file is gone then");
    // Whoever leads has it all, a store that was restarted too.
    for store in 1..=3 {
        cluster.stop_store(store);
        assert!(cluster.wait_regions(Duration::ZERO, |all| all[0].1 != store));
        cluster.restart_store(store, Vec::new()).unwrap();
        catch_up(&cluster);
        cluster.transfer_leader(region, store).unwrap();
        assert!(cluster.wait_regions(Duration::ZERO, |all| all[0].1 == store));
        assert_eq!(held(&*cluster.host(store), "a", Cf::Write).len(), 3);
        let snapshot = client.snapshot(commit_ts).get(b"c-long").unwrap();
        assert_eq!(snapshot, Some(value("c-long")));
        assert_eq!(client.snapshot(commit_ts.prev()).get(b"c-long").unwrap(), None);
    }
}

/// H2: a barrier that is given while an ingestion is in flight stays below it.
#[test]
fn the_barrier_waits_for_an_ingestion_in_flight() {
    let (cluster, recorders) = start(&[]);
    let (_, leader) = cluster.rpc().locate(b"a");
    let host = cluster.host(leader);
    let before = host.commit_barrier().unwrap();
    let ticket = cluster.submit(leader, ingest(&cluster, &["a", "b-long"]));
    let in_flight = host.commit_barrier().unwrap();
    assert_eq!(host.commit_barrier().unwrap(), in_flight, "capped");
    let told = Arc::new(Mutex::new(None));
    let (at_apply, out) = (cluster.host(leader), told.clone());
    recorders[leader as usize - 1].set_hook(move |ops| {
        if ops.iter().any(|op| matches!(op, Op::IngestSst { .. })) {
            *out.lock() = Some(at_apply.commit_barrier().unwrap());
        }
    });
    cluster.steps().unwrap().settle();
    let Some(Ok(KvResponse::Commit { commit_ts })) = ticket.take() else { panic!("not ingested") };
    assert!(before < commit_ts && in_flight < commit_ts);
    assert!(told.lock().unwrap() < commit_ts, "while the observer is told, the barrier is still below it");
    assert!(host.commit_barrier().unwrap() >= commit_ts, "and it goes on then");
}

/// A reader at or above the commit ts of an ingestion in flight meets it, and those below are not disturbed by it.
#[test]
fn an_ingestion_commits_above_every_read() {
    let (cluster, _) = start(&[]);
    let (region, leader) = cluster.rpc().locate(b"a");
    let get = |ts: Ts| {
        let command = Command::Get { key: b"a".to_vec(), ts, bypass: Vec::new() };
        cluster.submit(leader, KvRequest { region_id: region.id, epoch: region.epoch, command })
    };
    let request = ingest(&cluster, &["a"]);
    let ts = cluster.pd().tso().unwrap();
    let early = get(ts);
    let ticket = cluster.submit(leader, request.clone());
    let late = get(cluster.pd().tso().unwrap());
    assert!(matches!(late.take(), Some(Ok(KvResponse::Errors(e))) if matches!(e[..], [KeyError::Locked(_)])));
    cluster.steps().unwrap().settle();
    assert!(matches!(early.take(), Some(Ok(KvResponse::Get { value: None }))));
    let Some(Ok(KvResponse::Commit { commit_ts })) = ticket.take() else { panic!("not ingested") };
    assert!(commit_ts > ts);
    let again = cluster.rpc().call(leader, request).unwrap();
    assert!(
        matches!(&again, KvResponse::Errors(e) if matches!(e[..], [KeyError::Committed { commit_ts: at, .. }] if at == commit_ts)),
        "{again:?}"
    );
}

#[test]
fn an_ingestion_that_cannot_be_everywhere_is_nowhere() {
    let (cluster, recorders) = start(&[]);
    let (region, leader) = cluster.rpc().locate(b"a");
    // A split overtakes it: the files are gone, and nothing is told of them.
    let split = cluster.submit_split(b"m").unwrap();
    let ticket = cluster.submit(leader, ingest(&cluster, &["a", "z"]));
    catch_up(&cluster);
    assert!(split.take().unwrap().is_ok());
    assert!(matches!(ticket.take(), Some(Err(RegionError::EpochNotMatch { .. }))));
    // A store of the region is stopped: it cannot take the file.
    let down = leader % 3 + 1;
    cluster.stop_store(down);
    let refused = cluster.rpc().call(leader, ingest(&cluster, &["a"]));
    assert!(matches!(refused, Err(RegionError::Busy(_))), "{refused:?}");
    cluster.rpc().call(leader, put(&cluster, "a")).unwrap();
    for recorder in &recorders {
        assert!(!format!("{:?}", recorder.ops(region.id)).contains("IngestSst"));
    }
    for store in (1..=3).filter(|s| *s != down) {
        for id in 0..20 {
            for cf in [Cf::Default, Cf::Write] {
                let path = format!("ingest-{id}-{}", cf.name());
                assert!(cluster.ingested_file(store, &path).is_err(), "{path} is left on store {store}");
            }
        }
    }
}

/// The log cannot tell what an ingestion did: its file is gone.
#[test]
fn the_log_is_told_from_behind_an_ingestion_only() {
    let (cluster, recorders) = start(&[]);
    let (region, leader) = cluster.rpc().locate(b"a");
    cluster.rpc().call(leader, ingest(&cluster, &["a"])).unwrap();
    let at = recorders[leader as usize - 1].seen.lock().last[&region.id];
    cluster.rpc().call(leader, put(&cluster, "b")).unwrap();
    let host = cluster.host(leader);
    assert!(host.raft_log(region.id, region.epoch.version, at, at + 1).unwrap().is_none());
    assert_eq!(host.raft_log(region.id, region.epoch.version, at + 1, at + 1).unwrap().unwrap().count(), 1);
}

#[test]
fn a_range_is_removed_region_by_region_and_told() {
    let (cluster, recorders) = start(&["f", "p"]);
    let client = Client::new(cluster.rpc());
    for raw in ["a", "e", "g", "o", "q", "z"] {
        cluster.rpc().call(cluster.rpc().locate(raw.as_bytes()).1, put(&cluster, raw)).unwrap();
    }
    client.delete_range(&[Cf::Default, Cf::Write], b"e", b"q").unwrap();
    catch_up(&cluster);
    let mut left = client.snapshot(client.timestamp().unwrap());
    let keys: Vec<_> = left.scan(b"", b"", 100).unwrap().into_iter().map(|(k, _)| k).collect();
    assert_eq!(keys, [b"a", b"q", b"z"]);
    for recorder in &recorders {
        recorder.assert_clean();
        let told: Vec<_> = cluster.pd().regions().iter().flat_map(|(r, ..)| recorder.ops(r.id)).collect();
        let told = told.into_iter().filter_map(|op| match op {
            Op::DeleteRange { cf: Cf::Write, start, end } => Some(KeyRange { start, end }),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        let pieces = [("e", "f"), ("f", "p"), ("p", "q")];
        assert_eq!(told, pieces.map(|(a, b)| KeyRange::from_raw(a.as_bytes(), b.as_bytes())));
    }
}

fn ingest_with_threads(config: ClusterConfig) {
    let (cluster, recorders) = threads::start(ClusterConfig { split_keys: vec![b"m".to_vec()], ..config });
    let read: Vec<_> = (1..=3).zip(&recorders).map(|(s, r)| read_files(r, &cluster, s)).collect();
    let client = Client::new(cluster.rpc());
    for round in 0..5u8 {
        let keys: Vec<Vec<u8>> = (0..100u8).map(|n| vec![b'a' + n % 26, round, n]).collect();
        let at = client.ingest(keys.iter().map(|k| (k.clone(), value("long"))).collect()).unwrap();
        assert_eq!(at.len(), 100);
        let found = client.snapshot(client.timestamp().unwrap()).scan(b"", b"", usize::MAX).unwrap();
        assert_eq!(found.len(), 100 * (usize::from(round) + 1));
        client.delete_range(&[Cf::Write], b"zz", b"").unwrap();
    }
    cluster.shutdown();
    recorders.iter().for_each(Recorder::assert_clean);
    assert!(read.iter().any(|r| r.lock().len() == 1000), "write and default records of 500 keys");
}

#[test]
fn files_are_ingested_with_threads() {
    ingest_with_threads(ClusterConfig::memory(Driver::Threads));
}

#[cfg(feature = "rocksdb")]
#[test]
fn files_are_ingested_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    ingest_with_threads(ClusterConfig::rocksdb(dir.path()));
    let (cluster, _) = threads::start(ClusterConfig::rocksdb(dir.path()));
    let client = Client::new(cluster.rpc());
    assert_eq!(client.snapshot(client.timestamp().unwrap()).scan(b"", b"", usize::MAX).unwrap().len(), 500);
    cluster.shutdown();
}
