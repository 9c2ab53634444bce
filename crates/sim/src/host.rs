//! A store's host whose snapshots fail by seed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_model::{
    Confirmed, Host, HostError, KeyRange, KvSnapshot, LocalRegion, LogEntries, RegionEpoch, RegionId, StoreId, Ts,
};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How often snapshots and logs are refused; shared by all hosts of a simulation.
#[derive(Clone)]
pub struct HostFaults(Arc<Mutex<(SmallRng, f64)>>);

impl HostFaults {
    /// None yet.
    pub fn new(seed: u64) -> Self {
        HostFaults(Arc::new(Mutex::new((SmallRng::seed_from_u64(seed), 0.0))))
    }

    /// The part of snapshots that fail from now on.
    pub fn set_snapshots(&self, part: f64) {
        self.0.lock().1 = part;
    }

    fn strikes(&self) -> bool {
        let (rng, part) = &mut *self.0.lock();
        rng.random_bool(*part)
    }
}

/// See the module.
pub struct SimHost {
    /// The real one.
    pub inner: Arc<dyn Host>,
    /// What goes wrong.
    pub faults: HostFaults,
}

impl Host for SimHost {
    fn cluster_id(&self) -> u64 {
        self.inner.cluster_id()
    }

    fn store_id(&self) -> StoreId {
        self.inner.store_id()
    }

    fn regions(&self, range: &KeyRange) -> Vec<LocalRegion> {
        self.inner.regions(range)
    }

    fn snapshot(&self, region_id: RegionId, epoch: RegionEpoch) -> Result<Box<dyn KvSnapshot>, HostError> {
        if self.faults.strikes() {
            return Err(HostError::Unavailable("read index is not ready".to_owned()));
        }
        self.inner.snapshot(region_id, epoch)
    }

    fn confirm_leadership(&self, regions: &[RegionId], deadline: Instant) -> Vec<Confirmed> {
        self.inner.confirm_leadership(regions, deadline)
    }

    fn commit_barrier(&self) -> Result<Ts, HostError> {
        self.inner.commit_barrier()
    }

    fn timestamp(&self) -> Result<Ts, HostError> {
        self.inner.timestamp()
    }

    fn hold_gc(&self, owner: &str, ts: Option<Ts>, ttl: Duration) -> Result<(), HostError> {
        self.inner.hold_gc(owner, ts, ttl)
    }

    fn raft_log(
        &self,
        region_id: RegionId,
        version: u64,
        from: u64,
        through: u64,
    ) -> Result<Option<Box<dyn LogEntries>>, HostError> {
        if self.faults.strikes() {
            return Err(HostError::Unavailable("the log cannot be read".to_owned()));
        }
        self.inner.raft_log(region_id, version, from, through)
    }
}
