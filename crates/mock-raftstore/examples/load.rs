//! Loads a cluster on RocksDB and says how fast it went: `load DIR [MB] [REGIONS] [WRITERS]`.
//!
//! Transactions in two phases of 1 MiB each, with leader transfers and splits under way.

use std::error::Error;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use logtide_mock_raftstore::client::{Client, TxnOptions};
use logtide_mock_raftstore::{Cluster, ClusterConfig};

const VALUE: usize = 16 << 10;
const TXN: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: load DIR [MB] [REGIONS] [WRITERS]")?;
    let mut number = |default: u64| args.next().map_or(Ok(default), |s| s.parse::<u64>());
    let (megabytes, regions, writers) = (number(400)?, number(12)?, number(4)?);
    let mut config = ClusterConfig::rocksdb(dir);
    config.split_keys = (1..regions).map(|i| key(i * 1_000_000 / regions)).collect();
    let cluster = Cluster::start(config)?;
    if !cluster.wait_ready(Duration::from_secs(30)) {
        return Err("not every region has a leader after 30 s".into());
    }
    let txns = megabytes * 1_000_000 / TXN as u64;
    let (next, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    let failures = std::thread::scope(|scope| {
        let handles: Vec<_> =
            (0..writers).map(|_| scope.spawn(|| write(&Client::new(cluster.rpc()), &next, txns))).collect();
        scope.spawn(|| disturb(&cluster, &done));
        let failures = handles.into_iter().filter_map(|h| h.join().ok()).sum::<u64>();
        done.store(true, Ordering::SeqCst);
        failures
    });
    let took = begun.elapsed().as_secs_f64();
    let stats = cluster.stats();
    writeln!(
        std::io::stdout(),
        "{megabytes} MB in {took:.1} s: {:.1} MB/s; {} regions, {failures} transactions tried again; {:?}",
        megabytes as f64 / took,
        stats.regions,
        stats.stores
    )?;
    cluster.shutdown();
    Ok(())
}

fn key(n: u64) -> Vec<u8> {
    format!("key-{n:06}").into_bytes()
}

/// Writes transactions until all are written; returns how many had to be tried again.
fn write(client: &Client, next: &AtomicU64, txns: u64) -> u64 {
    let mut failures = 0;
    loop {
        let n = next.fetch_add(1, Ordering::SeqCst);
        if n >= txns {
            return failures;
        }
        while !commit(client, n) {
            failures += 1;
        }
    }
}

fn commit(client: &Client, n: u64) -> bool {
    let options = TxnOptions { batch_bytes: TXN, ..TxnOptions::default() };
    let Ok(mut txn) = client.begin_with(options) else { return false };
    // Neighbours, so that a transaction mostly stays in one region; the order of transactions is scattered.
    let first = n.wrapping_mul(7919) % 15_000 * (TXN / VALUE) as u64;
    for i in 0..(TXN / VALUE) as u64 {
        txn.put(key(first + i), value(n * 64 + i));
    }
    txn.commit().is_ok()
}

/// Half noise, half zeros: compresses 2:1.
fn value(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(VALUE);
    while out.len() < VALUE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
    }
    out
}

/// Leader transfers all the time, and a split now and then.
fn disturb(cluster: &Cluster, done: &AtomicBool) {
    for n in 0u64.. {
        if done.load(Ordering::SeqCst) {
            return;
        }
        let regions = cluster.pd().regions();
        let (region, leader, _) = &regions[n as usize % regions.len()];
        // What does not come about is tried again with the next region.
        drop(cluster.transfer_leader(region.id, leader % 3 + 1));
        if n % 8 == 7 && regions.len() < 40 {
            drop(cluster.split_region(&key(n.wrapping_mul(104_729) % 960_000)));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}
