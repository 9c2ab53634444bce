//! How a cluster and its stores come up: a new one, or what lies in the directory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_model::{RaftObserver, Region, RegionEpoch, StoreId};
use parking_lot::RwLock;

use super::{ClusterError, Driver, EngineKind, Inner, Input, Node, Runtime};
use crate::concurrency::ConcurrencyManager;
use crate::engine::{KvEngine, WriteBatch};
use crate::raftstore::{
    Ident, PeerConfig, PeerMeta, RaftTiming, RegionMeta, StoreCore, StoreMessage, StoreShared, bootstrap_region,
    read_ident, read_regions, read_tombstones, write_ident,
};
use crate::service::Service;

/// How long a store that is started again waits for those who still hold the engine of its last life.
const REOPEN_TIMEOUT: Duration = Duration::from_secs(10);

impl Inner {
    pub(super) fn bring_up(&self) -> Result<(), ClusterError> {
        let stores: Vec<StoreId> = self.config.store_ids().collect();
        let engines = stores.iter().map(|s| self.open_engine(*s)).collect::<Result<Vec<_>, _>>()?;
        let idents = engines.iter().map(|e| read_ident(&**e)).collect::<Result<Vec<_>, _>>()?;
        match idents.iter().flatten().count() {
            0 => self.bootstrap(&stores, &engines)?,
            n if n == stores.len() => self.check_idents(&idents)?,
            n => return Err(ClusterError::OtherCluster { found: n, wanted: stores.len() }),
        }
        for engine in &engines {
            for meta in read_regions(&**engine)? {
                let ids = meta.peers.iter().map(|p| p.id);
                self.pd.reserve_ids(ids.chain([meta.region.id]).max().unwrap_or(0));
            }
            self.pd.reserve_ids(read_tombstones(&**engine)?.into_values().max().unwrap_or(0));
        }
        for (store, engine) in stores.iter().zip(engines) {
            let observers = self.config.observers.get(store).cloned().unwrap_or_default();
            self.start_store(*store, engine, observers)?;
        }
        self.campaign(&stores);
        Ok(())
    }

    fn check_idents(&self, idents: &[Option<Ident>]) -> Result<(), ClusterError> {
        match idents.iter().flatten().find(|i| i.cluster_id != self.config.cluster_id) {
            Some(other) => {
                Err(ClusterError::OtherClusterId { found: other.cluster_id, wanted: self.config.cluster_id })
            }
            None => Ok(()),
        }
    }

    /// Spreads leadership over the stores, without waiting for election timeouts.
    fn campaign(&self, stores: &[StoreId]) {
        let regions = self.pd.regions();
        for (i, (region, ..)) in regions.iter().enumerate() {
            let members = self.pd.peer_stores(region.id);
            let turn = stores[i % stores.len()];
            let store = if members.contains(&turn) { turn } else { members.first().copied().unwrap_or(turn) };
            if let Some(node) = self.node(store) {
                node.service.post(StoreMessage::Campaign(region.id));
            }
        }
    }

    fn bootstrap(&self, stores: &[StoreId], engines: &[Arc<dyn KvEngine>]) -> Result<(), ClusterError> {
        let mut regions = Vec::new();
        for (i, range) in self.config.ranges().into_iter().enumerate() {
            let id = self.pd.alloc_id();
            let peer = |store_id: StoreId| PeerMeta { id: self.pd.alloc_id(), store_id };
            let epoch = RegionEpoch { conf_ver: 1, version: 1 };
            let peers = self.config.members(i).into_iter().map(peer).collect();
            regions.push(RegionMeta { region: Region { id, epoch, range }, peers, range_deleted: None });
        }
        for (store, engine) in stores.iter().zip(engines) {
            let mut batch = WriteBatch::default();
            let here = regions.iter().filter(|meta| meta.peer_on(*store).is_some());
            here.for_each(|meta| bootstrap_region(&mut batch, meta));
            write_ident(&mut batch, &Ident { cluster_id: self.config.cluster_id, store_id: *store });
            engine.write(&batch, true)?;
        }
        Ok(())
    }

    pub(super) fn open_engine(&self, store: StoreId) -> Result<Arc<dyn KvEngine>, ClusterError> {
        match self.config.engine {
            EngineKind::Memory => Ok(Arc::new(self.memory.lock().entry(store).or_default().clone())),
            #[cfg(feature = "rocksdb")]
            EngineKind::RocksDb => {
                let dir = self.config.store_dir(store);
                std::fs::create_dir_all(&dir)
                    .map_err(|cause| ClusterError::Directory { dir: dir.clone(), cause: Arc::new(cause) })?;
                Ok(Arc::new(crate::engine::RocksEngine::open(&dir)?))
            }
        }
    }

    /// As [`Inner::open_engine`], for a store that ran before: calls that end just now may still have it open.
    pub(super) fn reopen_engine(&self, store: StoreId) -> Result<Arc<dyn KvEngine>, ClusterError> {
        let deadline = Instant::now() + REOPEN_TIMEOUT;
        loop {
            match self.open_engine(store) {
                Err(ClusterError::Engine(_)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                done => return done,
            }
        }
    }

    pub(super) fn start_store(
        &self,
        store: StoreId,
        engine: Arc<dyn KvEngine>,
        observers: Vec<Arc<dyn RaftObserver>>,
    ) -> Result<(), ClusterError> {
        self.files.attach(store, &engine);
        let shared = Arc::new(StoreShared {
            id: store,
            engine,
            pd: self.pd.clone(),
            concurrency: ConcurrencyManager::default(),
            observers: RwLock::new(observers),
            peers: RwLock::default(),
            applied_bytes: Default::default(),
            applied_entries: Default::default(),
            snapshots: Default::default(),
        });
        let settings = PeerConfig { timing: self.timing(store), log_keep: self.config.log_keep };
        let core = StoreCore::load(shared.clone(), settings, self.config.sync)?;
        let (tx, rx) = crossbeam_channel::unbounded();
        let post_tx = tx.clone();
        let post = Box::new(move |message| drop(post_tx.send(Input::Message(message))));
        let service = Service::new(shared.clone(), self.config.executor.clone(), post, self.files.clone());
        self.nodes.write().insert(store, Node { shared, service });
        match &self.runtime {
            Runtime::Threads(threads) => threads.start(store, core, tx, rx)?,
            Runtime::Steps(steps) => steps.start(store, core, tx, rx),
        }
        Ok(())
    }

    fn timing(&self, store: StoreId) -> RaftTiming {
        let (heartbeat, election) = (self.config.heartbeat_ticks, self.config.election_ticks);
        // Steps draw nothing at random: the seed shifts each store's timeout instead, and no two stores have the same.
        let stores = self.config.stores as u64;
        let shift = |store: StoreId| ((store + self.config.seed) % stores * 3 + self.config.seed % 3) as usize;
        let fixed = matches!(self.config.driver, Driver::Steps).then(|| shift(store));
        RaftTiming { heartbeat, election, fixed }
    }
}
