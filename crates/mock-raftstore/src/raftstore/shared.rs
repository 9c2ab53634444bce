//! What other threads may see of a store: its engine, and its peers as of the last poll.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logtide_model::{HostError, RaftObserver, Region, RegionId, StoreId, Term};
use parking_lot::RwLock;

use super::records::read_region;
use crate::concurrency::ConcurrencyManager;
use crate::engine::{KvEngine, RegionSnapshot};
use crate::pd::Pd;

/// A peer as other threads see it.
#[derive(Clone, Debug)]
pub(crate) struct PeerView {
    /// The region as applied.
    pub(crate) region: Region,
    /// Its term.
    pub(crate) term: Term,
    /// True if this store leads it and has applied an entry of its own term.
    pub(crate) leading: bool,
    /// True if the store's largest read ts is known to be above that of every leader before.
    pub(crate) max_ts_synced: bool,
    /// Who leads it, as far as known.
    pub(crate) leader: Option<StoreId>,
    /// The stores of its members.
    pub(crate) stores: Vec<StoreId>,
    /// First and last index of its log.
    pub(crate) log: (u64, u64),
}

/// Counters of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Regions with a peer on the store.
    pub regions: usize,
    /// Regions that it leads.
    pub leaders: usize,
    /// Bytes of keys and values applied since it started.
    pub applied_bytes: u64,
    /// Raft entries applied since it started.
    pub applied_entries: u64,
    /// Snapshots of regions that it took in since it started.
    pub snapshots: u64,
}

/// See the module.
pub(crate) struct StoreShared {
    pub(crate) id: StoreId,
    pub(crate) engine: Arc<dyn KvEngine>,
    pub(crate) pd: Pd,
    pub(crate) concurrency: ConcurrencyManager,
    pub(crate) observers: RwLock<Vec<Arc<dyn RaftObserver>>>,
    pub(crate) peers: RwLock<BTreeMap<RegionId, PeerView>>,
    pub(crate) applied_bytes: AtomicU64,
    pub(crate) applied_entries: AtomicU64,
    pub(crate) snapshots: AtomicU64,
}

impl StoreShared {
    pub(crate) fn view(&self, region_id: RegionId) -> Option<PeerView> {
        self.peers.read().get(&region_id).cloned()
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let peers = self.peers.read();
        StoreStats {
            regions: peers.len(),
            leaders: peers.values().filter(|p| p.leading).count(),
            applied_bytes: self.applied_bytes.load(Ordering::Relaxed),
            applied_entries: self.applied_entries.load(Ordering::Relaxed),
            snapshots: self.snapshots.load(Ordering::Relaxed),
        }
    }
}

/// A snapshot of a region as it is applied now, whoever leads it.
pub(crate) fn region_snapshot(engine: &dyn KvEngine, region_id: RegionId) -> Result<RegionSnapshot, HostError> {
    let snapshot = engine.snapshot();
    match read_region(&*snapshot, region_id)? {
        Some((meta, applied)) => {
            Ok(RegionSnapshot::new(snapshot, meta.region, applied.index).range_deleted(meta.range_deleted))
        }
        None => Err(HostError::RegionNotFound(region_id)),
    }
}
