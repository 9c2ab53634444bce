//! A host around another: who tests logtide changes a call or two of a host, and lets the others through.

use std::time::{Duration, Instant};

use logtide_model::{
    Confirmed, Host, HostError, KeyRange, KvSnapshot, LocalRegion, LogEntries, RegionEpoch, RegionId, StoreId, Ts,
};

/// What is changed of a host: what is not written anew goes to the one below.
pub trait HostLayer: Send + Sync {
    /// The host that is changed.
    fn below(&self) -> &dyn Host;

    /// See [`Host::snapshot`].
    ///
    /// # Errors
    /// As there.
    fn snapshot(&self, region_id: RegionId, epoch: RegionEpoch) -> Result<Box<dyn KvSnapshot>, HostError> {
        self.below().snapshot(region_id, epoch)
    }

    /// See [`Host::confirm_leadership`].
    fn confirm_leadership(&self, regions: &[RegionId], deadline: Instant) -> Vec<Confirmed> {
        self.below().confirm_leadership(regions, deadline)
    }

    /// See [`Host::commit_barrier`].
    ///
    /// # Errors
    /// As there.
    fn commit_barrier(&self) -> Result<Ts, HostError> {
        self.below().commit_barrier()
    }

    /// See [`Host::raft_log`].
    ///
    /// # Errors
    /// As there.
    fn raft_log(
        &self,
        region_id: RegionId,
        version: u64,
        from: u64,
        through: u64,
    ) -> Result<Option<Box<dyn LogEntries>>, HostError> {
        self.below().raft_log(region_id, version, from, through)
    }
}

/// A host with a layer around it.
#[derive(Debug)]
pub struct Around<L>(pub L);

impl<L: HostLayer> Host for Around<L> {
    fn cluster_id(&self) -> u64 {
        self.0.below().cluster_id()
    }

    fn store_id(&self) -> StoreId {
        self.0.below().store_id()
    }

    fn regions(&self, range: &KeyRange) -> Vec<LocalRegion> {
        self.0.below().regions(range)
    }

    fn snapshot(&self, region_id: RegionId, epoch: RegionEpoch) -> Result<Box<dyn KvSnapshot>, HostError> {
        self.0.snapshot(region_id, epoch)
    }

    fn confirm_leadership(&self, regions: &[RegionId], deadline: Instant) -> Vec<Confirmed> {
        self.0.confirm_leadership(regions, deadline)
    }

    fn commit_barrier(&self) -> Result<Ts, HostError> {
        self.0.commit_barrier()
    }

    fn timestamp(&self) -> Result<Ts, HostError> {
        self.0.below().timestamp()
    }

    fn hold_gc(&self, owner: &str, ts: Option<Ts>, ttl: Duration) -> Result<(), HostError> {
        self.0.below().hold_gc(owner, ts, ttl)
    }

    fn raft_log(
        &self,
        region_id: RegionId,
        version: u64,
        from: u64,
        through: u64,
    ) -> Result<Option<Box<dyn LogEntries>>, HostError> {
        self.0.raft_log(region_id, version, from, through)
    }
}
