//! A cluster of stores in one process: start, look at, move, split, break, mend, stop.
//!
//! Owns the stores' lives and the wiring between them; what a store does is `raftstore`'s business.

mod around;
mod config;
mod host;
mod regions;
mod rpc;
mod start;
mod steps;
mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use logtide_model::{Host, HostError, KvSnapshot, RaftObserver, Region, RegionId, StoreId};
use parking_lot::{Mutex, RwLock};

pub use crate::raftstore::StoreStats;
pub use around::{Around, HostLayer};
pub use config::{ClusterConfig, ClusterError, Driver, EngineKind};
pub use steps::{Steps, Ticket};

use crate::engine::{MemoryEngine, SortedRecords};
use crate::files::Files;
use crate::pd::Pd;
use crate::raftstore::{StoreMessage, StoreShared, region_snapshot};
use crate::rpc::KvRpc;
use crate::service::Service;
use crate::transport::{Envelope, Network};
use threads::Threads;

/// How long calls without a deadline of their own wait for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What reaches a store.
pub(crate) enum Input {
    /// Something to do.
    Message(StoreMessage),
    /// A raft message that is to arrive so many ticks later.
    Late(u32, Envelope),
}

/// A running store.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) shared: Arc<StoreShared>,
    pub(crate) service: Arc<Service>,
}

pub(crate) enum Runtime {
    Threads(Threads),
    Steps(Steps),
}

impl Runtime {
    /// Waits for an answer: threads until the deadline, steps as long as stores and network have anything to do.
    pub(crate) fn wait<T>(&self, answer: &Receiver<T>, deadline: Instant) -> Option<T> {
        match self {
            Runtime::Threads(_) => answer.recv_deadline(deadline).ok(),
            Runtime::Steps(steps) => loop {
                if let Ok(answer) = answer.try_recv() {
                    return Some(answer);
                }
                if !steps.turn() {
                    return answer.try_recv().ok();
                }
            },
        }
    }
}

/// See the module. Cloning shares it.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

pub(crate) struct Inner {
    config: ClusterConfig,
    pub(crate) pd: Pd,
    network: Arc<Network>,
    pub(crate) runtime: Runtime,
    nodes: RwLock<BTreeMap<StoreId, Node>>,
    files: Arc<Files>,
    /// Engines in memory outlive their stores, as directories do.
    memory: Mutex<BTreeMap<StoreId, MemoryEngine>>,
}

/// What a cluster has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterStats {
    /// Regions of the cluster.
    pub regions: usize,
    /// By running store.
    pub stores: BTreeMap<StoreId, StoreStats>,
}

impl Cluster {
    /// Starts a new cluster, or one that is in the directory already.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn start(config: ClusterConfig) -> Result<Cluster, ClusterError> {
        let network = Arc::new(Network::new(config.seed));
        let runtime = match config.driver {
            Driver::Threads => Runtime::Threads(Threads::new(network.clone(), config.tick)),
            Driver::Steps => Runtime::Steps(Steps::new(network.clone())),
        };
        let pd = Pd::new(config.clock.clone());
        let (nodes, files, memory) = (RwLock::default(), Arc::default(), Mutex::default());
        let cluster = Cluster(Arc::new(Inner { config, pd, network, runtime, nodes, files, memory }));
        cluster.0.bring_up()?;
        Ok(cluster)
    }

    /// The placement driver.
    pub fn pd(&self) -> &Pd {
        &self.0.pd
    }

    /// The network between the stores, for faults and filters.
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    /// The single-step driver, if the cluster has it.
    pub fn steps(&self) -> Option<&Steps> {
        match &self.0.runtime {
            Runtime::Steps(steps) => Some(steps),
            Runtime::Threads(_) => None,
        }
    }

    /// All stores, running or not.
    pub fn stores(&self) -> Vec<StoreId> {
        self.0.config.store_ids().collect()
    }

    /// A store as logtide's host. It stays good when the store is stopped and started again.
    pub fn host(&self, store: StoreId) -> Arc<dyn Host> {
        Arc::new(host::StoreHost::new(self.0.clone(), store))
    }

    /// The cluster as clients see it.
    pub fn rpc(&self) -> Arc<dyn KvRpc> {
        Arc::new(rpc::ClusterRpc(self.0.clone()))
    }

    /// Lets an observer see what a running store applies from now on. It is told nothing of what was before: take that
    /// from [`Host::regions`]. A store that is stopped forgets its observers.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchStore`] if it does not run.
    pub fn add_observer(&self, store: StoreId, observer: Arc<dyn RaftObserver>) -> Result<(), ClusterError> {
        self.0.node(store).ok_or(ClusterError::NoSuchStore(store))?.shared.observers.write().push(observer);
        Ok(())
    }

    /// Waits until every region has a leader; false if that takes longer than `timeout` (steps: 1,000 ticks).
    pub fn wait_ready(&self, timeout: Duration) -> bool {
        self.wait_regions(timeout, |regions| regions.iter().all(|(_, _, term)| *term > 0))
    }

    /// Waits until the directory of regions is as wished; false if that takes longer than `timeout` (steps: 1,000 ticks).
    pub fn wait_regions(&self, timeout: Duration, wish: impl Fn(&[(Region, StoreId, u64)]) -> bool) -> bool {
        match &self.0.runtime {
            Runtime::Threads(_) => self.0.pd.wait(Instant::now() + timeout, wish),
            Runtime::Steps(steps) => {
                for _ in 0..1000 {
                    steps.settle();
                    if wish(&self.0.pd.regions()) {
                        return true;
                    }
                    steps.tick_all();
                }
                false
            }
        }
    }

    /// Cuts stores off from each other: those in different sides; see [`Network::partition`].
    pub fn partition(&self, sides: &[BTreeSet<StoreId>]) {
        self.0.network.partition(sides);
    }

    /// Ends partitions, faults and filters of the network.
    pub fn heal(&self) {
        self.0.network.heal();
    }

    /// Stops a store as a crash would: what it had not written is gone, its observers and who waits for it too.
    pub fn stop_store(&self, store: StoreId) {
        let node = self.0.nodes.write().remove(&store);
        self.0.files.detach(store);
        match &self.0.runtime {
            Runtime::Threads(threads) => threads.stop(store),
            Runtime::Steps(steps) => steps.stop(store),
        }
        drop(node);
    }

    /// Starts a stopped store from what its engine has.
    ///
    /// # Errors
    /// [`ClusterError`]; RocksDB refuses to open while a snapshot of the store is still out, and that is waited for only
    /// a while.
    pub fn restart_store(&self, store: StoreId, observers: Vec<Arc<dyn RaftObserver>>) -> Result<(), ClusterError> {
        if self.0.node(store).is_some() || !self.stores().contains(&store) {
            return Err(ClusterError::NoSuchStore(store));
        }
        let engine = self.0.reopen_engine(store)?;
        self.0.start_store(store, engine, observers)
    }

    /// The entries that the log of a running store's peer holds, applied or not, from the first to the last; `None` if it
    /// has no such peer. (The log is empty if the last is below the first.)
    pub fn log_bounds(&self, store: StoreId, region_id: RegionId) -> Option<(u64, u64)> {
        Some(self.0.node(store)?.shared.view(region_id)?.log)
    }

    /// A region as a running store has it, whoever leads, and however far it is applied there.
    ///
    /// # Errors
    /// [`HostError::RegionNotFound`] if the store has no peer of it; [`HostError::Unavailable`] if it is stopped.
    pub fn replica(&self, store: StoreId, region_id: RegionId) -> Result<Box<dyn KvSnapshot>, HostError> {
        let stopped = || HostError::Unavailable(format!("store {store} is stopped"));
        let node = self.0.node(store).ok_or_else(stopped)?;
        Ok(Box::new(region_snapshot(&*node.shared.engine, region_id)?))
    }

    /// The records of a file that a store was told to ingest ([`Op::IngestSst`](logtide_model::Op::IngestSst)), ascending by
    /// encoded key. They are there from before an observer is told until the file is ingested.
    ///
    /// # Errors
    /// [`HostError::Unavailable`] if the store is stopped, or has no such file (any more).
    pub fn ingested_file(&self, store: StoreId, path: &str) -> Result<SortedRecords, HostError> {
        let stopped = || HostError::Unavailable(format!("store {store} is stopped"));
        let node = self.0.node(store).ok_or_else(stopped)?;
        Ok(node.shared.engine.read_file(path)?)
    }

    /// What the cluster has done so far.
    pub fn stats(&self) -> ClusterStats {
        let stores = self.0.nodes.read().iter().map(|(id, node)| (*id, node.shared.stats())).collect();
        ClusterStats { regions: self.0.pd.regions().len(), stores }
    }

    /// Stops all stores, and waits until they have.
    pub fn shutdown(&self) {
        for store in self.stores() {
            self.stop_store(store);
        }
    }
}

impl Inner {
    pub(crate) fn node(&self, store: StoreId) -> Option<Node> {
        self.nodes.read().get(&store).cloned()
    }

    /// A region as the placement driver knows it, and who seems to lead it.
    fn region(&self, region_id: RegionId) -> Result<(Region, StoreId), ClusterError> {
        self.pd.region(region_id).ok_or(ClusterError::NoSuchRegion(region_id))
    }

    pub(crate) fn cluster_id(&self) -> u64 {
        self.config.cluster_id
    }
}
