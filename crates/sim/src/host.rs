//! A store's host whose snapshots fail by seed.

use std::sync::Arc;
use std::time::Instant;

use logtide_mock_raftstore::transport::{Envelope, Filter};
use logtide_mock_raftstore::{Cluster, HostLayer};
use logtide_model::{Confirmed, Host, HostError, KvSnapshot, LogEntries, RegionEpoch, RegionId};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How often snapshots and logs are refused; shared by all hosts of a simulation.
#[derive(Clone)]
pub(crate) struct HostFaults(Arc<Mutex<(SmallRng, f64)>>);

impl HostFaults {
    /// None yet.
    pub(crate) fn new(seed: u64) -> Self {
        HostFaults(Arc::new(Mutex::new((SmallRng::seed_from_u64(seed), 0.0))))
    }

    /// The part of snapshots that fail from now on.
    pub(crate) fn set_snapshots(&self, part: f64) {
        self.0.lock().1 = part;
    }

    fn holds(&self) -> bool {
        self.0.lock().0.random_bool(0.5)
    }

    fn strikes(&self) -> bool {
        let (rng, part) = &mut *self.0.lock();
        rng.random_bool(*part)
    }
}

/// See the module.
pub(crate) struct SimHost {
    /// The real one.
    pub(crate) inner: Arc<dyn Host>,
    /// What goes wrong.
    pub(crate) faults: HostFaults,
    /// For its network.
    pub(crate) cluster: Cluster,
}

/// The quorum is asked in one go, and the network would carry everything else with it: what is proposed would be applied
/// before the markers are sent, always. So entries are late now and then.
struct HoldEntries;

impl Filter for HoldEntries {
    fn fate(&mut self, envelope: &Envelope, _: &mut SmallRng) -> Option<Vec<u32>> {
        (!envelope.message.entries.is_empty()).then(|| vec![2])
    }
}

impl HostLayer for SimHost {
    fn below(&self) -> &dyn Host {
        &*self.inner
    }

    fn snapshot(&self, region_id: RegionId, epoch: RegionEpoch) -> Result<Box<dyn KvSnapshot>, HostError> {
        if self.faults.strikes() {
            return Err(HostError::Unavailable("read index is not ready".to_owned()));
        }
        self.inner.snapshot(region_id, epoch)
    }

    fn confirm_leadership(&self, regions: &[RegionId], deadline: Instant) -> Vec<Confirmed> {
        let hold = self.faults.holds();
        let network = self.cluster.network();
        let filter = hold.then(|| network.add_filter(Box::new(HoldEntries)));
        let confirmed = self.inner.confirm_leadership(regions, deadline);
        filter.into_iter().for_each(|filter| network.remove_filter(filter));
        confirmed
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
