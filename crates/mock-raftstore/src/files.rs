//! Sorted files on their way to the stores of a region, before a raft entry names them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use logtide_model::StoreId;
use parking_lot::RwLock;

use crate::engine::{KvEngine, SortedRecords};
use crate::rpc::RegionError;

/// The engines of the stores that run. A store that is stopped lets go of its engine, so it is only looked at here.
#[derive(Default)]
pub(crate) struct Files(RwLock<BTreeMap<StoreId, Weak<dyn KvEngine>>>);

impl Files {
    /// A store runs with this engine.
    pub(crate) fn attach(&self, store: StoreId, engine: &Arc<dyn KvEngine>) {
        self.0.write().insert(store, Arc::downgrade(engine));
    }

    /// A store is stopped.
    pub(crate) fn detach(&self, store: StoreId) {
        self.0.write().remove(&store);
    }

    fn engine(&self, store: StoreId) -> Option<Arc<dyn KvEngine>> {
        self.0.read().get(&store)?.upgrade()
    }

    /// Puts a file on all of these stores.
    pub(crate) fn put(&self, stores: &[StoreId], name: &str, records: &SortedRecords) -> Result<(), RegionError> {
        for store in stores {
            let engine = self.engine(*store);
            let engine =
                engine.ok_or_else(|| RegionError::Busy(format!("store {store} cannot take a file: it is stopped")))?;
            engine.put_file(name, records).map_err(|e| RegionError::Busy(e.to_string()))?;
        }
        Ok(())
    }

    /// Removes files that no entry names, where they can be reached.
    pub(crate) fn remove(&self, stores: &[StoreId], names: &[String]) {
        for engine in stores.iter().filter_map(|store| self.engine(*store)) {
            for name in names {
                if let Err(error) = engine.remove_file(name) {
                    tracing::warn!(%error, name, "a file that nobody needs stays");
                }
            }
        }
    }
}
