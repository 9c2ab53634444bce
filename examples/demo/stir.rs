//! Unrest: leaders move and regions split while clients write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use logtide_mock_raftstore::Cluster;

use crate::bank;

/// No more splits above this many regions.
const MOST_REGIONS: usize = 40;
/// Between two acts.
const PAUSE: Duration = Duration::from_millis(400);

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Unrest {
    /// Leader transfers asked for.
    pub(crate) transfers: AtomicU64,
    /// Splits done.
    pub(crate) splits: AtomicU64,
}

/// Goes on until told to stop. Every act may fail, as in life: a leader that just moved cannot be split.
pub(crate) fn stir(cluster: &Cluster, split_keys: &[Vec<u8>], stop: &AtomicBool, unrest: &Unrest) {
    let accounts = (0..bank::ACCOUNTS).step_by(17).map(bank::account_key);
    let mut split_keys: Vec<Vec<u8>> = split_keys.iter().cloned().chain(accounts).collect();
    let mut act = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        act += 1;
        let regions = cluster.pd().regions();
        let (region, leader, _) = &regions[(act * 7) % regions.len()];
        let stores = cluster.stores();
        let to = stores[(stores.iter().position(|s| s == leader).unwrap_or(0) + 1) % stores.len()];
        if cluster.transfer_leader(region.id, to).is_ok() {
            unrest.transfers.fetch_add(1, Ordering::Relaxed);
        }
        if act.is_multiple_of(3)
            && regions.len() < MOST_REGIONS
            && let Some(key) = split_keys.pop()
            && cluster.split_region(&key).is_ok()
        {
            unrest.splits.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(PAUSE);
    }
}
