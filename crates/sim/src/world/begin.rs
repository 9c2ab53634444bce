//! How a simulated world comes to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_coordinator::store::ManualClock as CoordinatorClock;
use logtide_coordinator::{MemoryStore, Store, Tasks};
use logtide_mock_raftstore::pd::ManualClock;
use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};
use logtide_model::{RaftObserver, StoreId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;

use super::task::SimTask;
use super::{Counts, KEYS, World, node};
use crate::client::{Scripts, SimClient};
use crate::coordinator::Flaky;
use crate::digest::Digest;
use crate::disk::SimDisks;
use crate::durable::DurableSteps;
use crate::history::History;
use crate::host::HostFaults;
use crate::storage::StorageFaults;
use crate::violation::Violation;

/// When simulations begin, in milliseconds since the Unix epoch: any moment that is none of the machine's.
const BEGIN_MS: u64 = 1_700_000_000_000;

impl World {
    /// A cluster of three or four stores with some data, and a task on it.
    ///
    /// # Errors
    /// [`Violation::Broken`] if it does not come up.
    pub fn new(seed: u64) -> Result<World, Violation> {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x5eed_0000_0000_0001);
        let mut world = World::assemble(&mut rng)?;
        world.begin(&mut rng)?;
        Ok(world)
    }

    /// The order of what it draws decides what a seed means.
    fn assemble(rng: &mut SmallRng) -> Result<World, Violation> {
        let dir = tempfile::tempdir().map_err(|e| Violation::broken(&e))?;
        let (clock, coordinator_clock) = (ManualClock::new(BEGIN_MS), CoordinatorClock::default());
        coordinator_clock.set_ms(BEGIN_MS);
        let history = History::default();
        let cluster = start_cluster(cluster_config(rng, &clock, &history), &history)?;
        let store = MemoryStore::with_clock(Arc::new(coordinator_clock.clone()));
        Ok(World {
            tasks: Tasks::new(Arc::new(store.clone()) as Arc<dyn Store>),
            coordinator: Flaky::new(Arc::new(store), rng.random()),
            settings: node::Settings::draw(rng, dir.path()),
            client: SimClient::new(cluster.clone()),
            task: SimTask::new(rng.random()),
            host_faults: HostFaults::new(rng.random()),
            disks: SimDisks::new(rng.random()),
            cluster,
            history,
            clock,
            coordinator_clock,
            auditor: auditor()?,
            nodes: BTreeMap::new(),
            zombies: Vec::new(),
            scripts: Scripts::default(),
            storage_faults: StorageFaults::default(),
            base: Instant::now(),
            elapsed_ms: 0,
            ticks: 0,
            squeezed: false,
            stopped: BTreeSet::new(),
            deposed: Vec::new(),
            durable: DurableSteps::default(),
            revival: None,
            digest: Digest::default(),
            counts: Counts::default(),
            _dir: dir,
        })
    }

    /// Some data from before the task, the task, and the log backup of all stores.
    fn begin(&mut self, rng: &mut SmallRng) -> Result<(), Violation> {
        for _ in 0..rng.random_range(0..12) {
            self.transaction(rng.random());
            for _ in 0..3 {
                self.run(rng.random());
            }
        }
        self.task.create(&self.tasks, &self.history, self.storage_faults)?;
        for store in self.cluster.stores() {
            self.start_node(store)?;
        }
        Ok(())
    }
}

fn cluster_config(rng: &mut SmallRng, clock: &ManualClock, history: &History) -> ClusterConfig {
    let mut config = ClusterConfig::memory(Driver::Steps);
    config.seed = rng.random();
    config.clock = Arc::new(clock.clone());
    // With the larger one a leader that was deposed believes in itself for longer.
    config.election_ticks = if rng.random_bool(0.5) { 40 } else { 10 };
    if rng.random_bool(0.4) {
        config.stores = 4;
        config.replicas = Some(3);
    }
    config.log_keep = if rng.random_bool(0.5) { rng.random_range(2..40) } else { 1 << 20 };
    let splits = rng.random_range(0..4);
    config.split_keys = (0..splits).map(|_| crate::workload::key(rng.random_range(0..KEYS))).collect();
    config.split_keys.sort();
    config.split_keys.dedup();
    config.observers = (1..=config.stores as StoreId)
        .map(|store| (store, vec![Arc::new(history.clone()) as Arc<dyn RaftObserver>]))
        .collect();
    config
}

fn start_cluster(config: ClusterConfig, history: &History) -> Result<Cluster, Violation> {
    let cluster = Cluster::start(config).map_err(|e| Violation::broken(&e))?;
    if !cluster.wait_ready(Duration::ZERO) {
        return Err(Violation::Broken("the cluster has no leaders".to_owned()));
    }
    history.read_files_from(Some(cluster.clone()));
    history.ask_the_time(cluster.pd());
    Ok(cluster)
}

/// What restores are compared on; its time stands still.
fn auditor() -> Result<Runtime, Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|e| Violation::broken(&e))
}
