//! A store as logtide's [`Host`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_model::{
    Confirmed, Host, HostError, KeyRange, KvSnapshot, LocalRegion, LogEntries, RegionEpoch, RegionId, Role, StoreId, Ts,
};

use super::{CALL_TIMEOUT, Inner, Node};
use crate::raftstore::{ReadReady, StoreMessage, region_snapshot, replay};
use crate::rpc::RegionError;

/// See the module.
pub(crate) struct StoreHost {
    cluster: Arc<Inner>,
    store: StoreId,
}

impl StoreHost {
    pub(crate) fn new(cluster: Arc<Inner>, store: StoreId) -> Self {
        StoreHost { cluster, store }
    }

    fn node(&self) -> Result<Node, HostError> {
        self.cluster.node(self.store).ok_or_else(|| HostError::Unavailable(format!("store {} is stopped", self.store)))
    }

    /// Waits for a read-index round of one region, and until its index is applied.
    fn confirm(&self, node: &Node, region_id: RegionId) -> Result<ReadReady, HostError> {
        let (tx, rx) = crossbeam_channel::bounded(1);
        let reply = Box::new(move |ready| drop(tx.send(ready)));
        node.service.post(StoreMessage::Read { region_id, reply });
        match self.cluster.runtime.wait(&rx, Instant::now() + CALL_TIMEOUT) {
            Some(answer) => answer.map_err(|e| refused(region_id, e)),
            None => Err(HostError::Unavailable(format!("no quorum confirms that the store leads region {region_id}"))),
        }
    }
}

fn refused(region_id: RegionId, error: RegionError) -> HostError {
    match error {
        RegionError::NotLeader { .. } => HostError::NotLeader(region_id),
        RegionError::RegionNotFound(id) => HostError::RegionNotFound(id),
        other => HostError::Unavailable(other.to_string()),
    }
}

impl Host for StoreHost {
    fn cluster_id(&self) -> u64 {
        self.cluster.cluster_id()
    }

    fn store_id(&self) -> StoreId {
        self.store
    }

    fn regions(&self, range: &KeyRange) -> Vec<LocalRegion> {
        let Ok(node) = self.node() else { return Vec::new() };
        let peers = node.shared.peers.read();
        let here = peers.values().filter(|view| view.region.range.overlaps(range));
        here.map(|view| LocalRegion {
            region: view.region.clone(),
            term: view.term,
            role: if view.leading { Role::Leader } else { Role::Follower },
        })
        .collect()
    }

    fn snapshot(&self, region_id: RegionId, epoch: RegionEpoch) -> Result<Box<dyn KvSnapshot>, HostError> {
        let node = self.node()?;
        self.confirm(&node, region_id)?;
        let snapshot = region_snapshot(&*node.shared.engine, region_id)?;
        if snapshot.region().epoch.version != epoch.version {
            return Err(HostError::EpochNotMatch(snapshot.region().clone()));
        }
        Ok(Box::new(snapshot))
    }

    fn confirm_leadership(&self, regions: &[RegionId], deadline: Instant) -> Vec<Confirmed> {
        let Ok(node) = self.node() else { return Vec::new() };
        let (tx, rx) = crossbeam_channel::unbounded();
        for region_id in regions {
            let tx = tx.clone();
            let reply = Box::new(move |ready: Result<ReadReady, _>| drop(tx.send(ready)));
            node.service.post(StoreMessage::Read { region_id: *region_id, reply });
        }
        drop(tx);
        let mut confirmed = Vec::new();
        for _ in regions {
            // All answers, or the deadline, or a store that stopped.
            let Some(answer) = self.cluster.runtime.wait(&rx, deadline) else { break };
            confirmed.extend(answer.map(|ready| Confirmed {
                region_id: ready.region.id,
                term: ready.term,
                version: ready.region.epoch.version,
                applied_index: ready.told_index,
            }));
        }
        confirmed.sort_unstable_by_key(|c| c.region_id);
        confirmed
    }

    fn commit_barrier(&self) -> Result<Ts, HostError> {
        let node = self.node()?;
        let fresh = self.cluster.pd.tso()?;
        // A transaction in two phases has its locks applied and observed before it asks for a commit ts, so before any
        // ts that it can get was handed out. One that chooses its commit ts itself holds its guards until it is
        // observed, and the barrier stays below what the guards allow.
        Ok(node.shared.concurrency.barrier(fresh))
    }

    fn timestamp(&self) -> Result<Ts, HostError> {
        self.cluster.pd.tso()
    }

    fn raft_log(
        &self,
        region_id: RegionId,
        version: u64,
        from: u64,
        through: u64,
    ) -> Result<Option<Box<dyn LogEntries>>, HostError> {
        replay(&*self.node()?.shared.engine, region_id, version, from, through)
    }

    fn hold_gc(&self, owner: &str, ts: Option<Ts>, ttl: Duration) -> Result<(), HostError> {
        self.cluster.pd.hold_gc(owner, ts, ttl)
    }
}
