//! What a cluster is to be like.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use logtide_model::{Class, Diagnose, ErrorCode, KeyRange, RaftObserver, RegionId, StoreId};
use thiserror::Error;

use crate::engine::EngineError;
use crate::pd::{Clock, SystemClock};
use crate::rpc::{RegionError, TxnExecutor};
use crate::txn::Percolator;

/// Where stores keep their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// In memory; it outlives a store that is stopped and started again, but not the cluster.
    Memory,
    /// In RocksDB, under `dir/store-{id}`.
    #[cfg(feature = "rocksdb")]
    RocksDb,
}

/// What makes time pass and messages move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A thread per store, and the clock of the machine.
    Threads,
    /// The caller, by [`super::Steps`].
    Steps,
}

/// See the module.
#[derive(Clone)]
pub struct ClusterConfig {
    /// Which cluster it is. Default: 1.
    pub cluster_id: u64,
    /// How many stores; their ids begin at 1. Default: 3.
    pub stores: usize,
    /// Peers that a new region of a new cluster has, in turn on all stores; a split leaves the members as they are. Default:
    /// `None`, that is one on every store.
    pub replicas: Option<usize>,
    /// Where data is kept.
    pub engine: EngineKind,
    /// Who drives.
    pub driver: Driver,
    /// The directory of the cluster, for engines on disk.
    pub dir: PathBuf,
    /// Raw keys that the first regions are split at, ascending. Default: none, that is one region.
    pub split_keys: Vec<Vec<u8>>,
    /// Length of a tick, with threads. Default: 50 ms.
    pub tick: Duration,
    /// Ticks between heartbeats. Default: 2.
    pub heartbeat_ticks: usize,
    /// Ticks without heartbeat before an election, at the least; at most twice that. Default: 20.
    pub election_ticks: usize,
    /// Applied entries that stay in the log of a region: a leader whose log has twice as many truncates it, and a follower
    /// that needs what is gone gets a snapshot. Default: 100,000.
    pub log_keep: u64,
    /// Wait for the disk at every write. Default: false; the crash of a process loses nothing all the same.
    pub sync: bool,
    /// For faults of the network, and for election timeouts of single steps. Default: 1.
    pub seed: u64,
    /// Where timestamps have the time from. Default: the machine.
    pub clock: Arc<dyn Clock>,
    /// What turns commands into changes. Default: [`Percolator`].
    pub executor: Arc<dyn TxnExecutor>,
    /// Observers from the first entry on, by store.
    pub observers: BTreeMap<StoreId, Vec<Arc<dyn RaftObserver>>>,
}

impl ClusterConfig {
    /// Three stores on RocksDB under `dir`, run by threads.
    #[cfg(feature = "rocksdb")]
    pub fn rocksdb(dir: impl Into<PathBuf>) -> Self {
        ClusterConfig { engine: EngineKind::RocksDb, dir: dir.into(), ..ClusterConfig::memory(Driver::Threads) }
    }

    /// Three stores in memory.
    pub fn memory(driver: Driver) -> Self {
        ClusterConfig {
            cluster_id: 1,
            stores: 3,
            replicas: None,
            engine: EngineKind::Memory,
            driver,
            dir: PathBuf::new(),
            split_keys: Vec::new(),
            tick: Duration::from_millis(50),
            heartbeat_ticks: 2,
            election_ticks: 20,
            log_keep: 100_000,
            sync: false,
            seed: 1,
            clock: Arc::new(SystemClock),
            executor: Arc::new(Percolator),
            observers: BTreeMap::new(),
        }
    }

    pub(crate) fn store_ids(&self) -> impl Iterator<Item = StoreId> + use<> {
        1..=self.stores.max(1) as StoreId
    }

    #[cfg(feature = "rocksdb")]
    pub(crate) fn store_dir(&self, store: StoreId) -> PathBuf {
        self.dir.join(format!("store-{store}"))
    }

    /// The stores of the `n`th of the first regions, ascending.
    pub(crate) fn members(&self, n: usize) -> Vec<StoreId> {
        let all: Vec<StoreId> = self.store_ids().collect();
        let replicas = self.replicas.unwrap_or(all.len()).clamp(1, all.len());
        let mut members: Vec<_> = all.iter().cycle().skip(n % all.len()).take(replicas).copied().collect();
        members.sort_unstable();
        members
    }

    /// The ranges of the first regions.
    pub(crate) fn ranges(&self) -> Vec<KeyRange> {
        let mut keys: Vec<&[u8]> = self.split_keys.iter().map(|k| &k[..]).filter(|k| !k.is_empty()).collect();
        keys.sort_unstable();
        keys.dedup();
        let starts = std::iter::once(&b""[..]).chain(keys.iter().copied());
        let ends = keys.iter().copied().chain([&b""[..]]);
        starts.zip(ends).map(|(start, end)| KeyRange::from_raw(start, end)).collect()
    }
}

/// A cluster could not do what it was asked.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// An engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A directory cannot be made.
    #[error("cannot create the directory {}: {cause}", dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        cause: Arc<std::io::Error>,
    },
    /// A thread cannot be started.
    #[error("cannot start the thread of store {store}: {cause}")]
    Thread {
        /// Whose.
        store: StoreId,
        /// Why.
        cause: Arc<std::io::Error>,
    },
    /// The directory has only some of the stores.
    #[error("the directory has {found} of {wanted} stores: it is of a cluster of another size")]
    OtherCluster {
        /// Stores with data.
        found: usize,
        /// Stores asked for.
        wanted: usize,
    },
    /// The directory belongs to another cluster.
    #[error("the directory belongs to cluster {found}, not {wanted}")]
    OtherClusterId {
        /// Whose it is.
        found: u64,
        /// Whose it should be.
        wanted: u64,
    },
    /// There is no such store, or it is not in the state that is needed (running, or stopped).
    #[error("store {0} does not exist, or it is stopped (to be started: runs already)")]
    NoSuchStore(StoreId),
    /// There is no such region.
    #[error("region {0} does not exist")]
    NoSuchRegion(RegionId),
    /// A store refused.
    #[error(transparent)]
    Region(RegionError),
}

impl Diagnose for ClusterError {
    fn code(&self) -> ErrorCode {
        match self {
            ClusterError::Engine(_) | ClusterError::Directory { .. } | ClusterError::Thread { .. } => ErrorCode::Io,
            ClusterError::OtherCluster { .. } | ClusterError::OtherClusterId { .. } => ErrorCode::Config,
            _ => ErrorCode::RaftReq,
        }
    }

    fn class(&self) -> Class {
        match self {
            ClusterError::Region(_) => Class::Retry,
            _ => Class::Fatal,
        }
    }

    fn remedy(&self) -> String {
        match self {
            ClusterError::Engine(e) => e.remedy(),
            ClusterError::OtherCluster { .. } | ClusterError::OtherClusterId { .. } => {
                "use another directory, or the numbers that the cluster was made with".to_owned()
            }
            _ => String::new(),
        }
    }
}
