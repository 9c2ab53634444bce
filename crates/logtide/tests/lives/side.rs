//! Clients that are cut off together with a part of the stores.

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

use logtide_mock_raftstore::Cluster;
use logtide_mock_raftstore::rpc::{KvRequest, KvResponse, KvRpc, RegionError};
use logtide_model::{Region, StoreId, Ts, encode_raw_key};

/// What a client reaches while the network is cut.
#[derive(Clone)]
pub(crate) struct Cut {
    /// These stores.
    pub(crate) reach: BTreeSet<StoreId>,
    /// The leaders that it goes by; `None` for those that there are.
    pub(crate) believed: Option<Vec<(Region, StoreId)>>,
}

/// The way to the cluster of clients on one side of it. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Side {
    rpc: Arc<dyn KvRpc>,
    cut: Arc<RwLock<Option<Cut>>>,
}

impl Side {
    /// Nothing is cut.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Side { rpc: cluster.rpc(), cut: Arc::default() }
    }

    /// Cuts it off, or heals it.
    pub(crate) fn set(&self, cut: Option<Cut>) {
        *self.cut.write().unwrap() = cut;
    }
}

impl KvRpc for Side {
    fn call(&self, store: StoreId, request: KvRequest) -> Result<KvResponse, RegionError> {
        let cut = self.cut.read().unwrap().clone();
        match cut {
            Some(cut) if !cut.reach.contains(&store) => {
                Err(RegionError::Busy(format!("store {store} is out of reach")))
            }
            _ => self.rpc.call(store, request),
        }
    }

    fn locate(&self, raw_key: &[u8]) -> (Region, StoreId) {
        let encoded = encode_raw_key(raw_key);
        let cut = self.cut.read().unwrap();
        let believed = cut.as_ref().and_then(|cut| cut.believed.as_ref());
        let found = believed.and_then(|all| all.iter().find(|(region, _)| region.range.contains(&encoded)));
        found.cloned().unwrap_or_else(|| self.rpc.locate(raw_key))
    }

    fn tso(&self) -> Result<Ts, RegionError> {
        self.rpc.tso()
    }
}
