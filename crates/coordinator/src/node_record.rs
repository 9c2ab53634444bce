//! What each storage node says of itself, task or no task: so that a command knows the cluster and its clock.

use logtide_model::StoreId;
use serde::{Deserialize, Serialize};

use crate::error::CoordinatorError;
use crate::keys;
use crate::store::Txn;
use crate::tasks::{Tasks, read_json, write_json};

/// A storage node, as its heartbeat has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeRecord {
    /// The store.
    pub store_id: StoreId,
    /// The cluster that it belongs to.
    pub cluster_id: u64,
    /// A timestamp of the cluster from then (64-bit form).
    pub ts: u64,
    /// When this was written: milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl Tasks {
    /// Writes what a node says of itself.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`].
    pub fn put_node(&self, record: &NodeRecord) -> Result<(), CoordinatorError> {
        self.store().commit(Txn::new().put(keys::node(record.store_id), write_json(record)?))?;
        Ok(())
    }

    /// What the nodes said of themselves, by store; those that are gone too. A record that cannot be read is left out,
    /// and logged.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`].
    pub fn nodes(&self) -> Result<Vec<NodeRecord>, CoordinatorError> {
        let records = self.store().list(keys::NODE_PREFIX.as_bytes())?.0;
        let read = |kv| read_json::<NodeRecord>(&kv).inspect_err(|e| tracing::warn!(error = %e, "a node is left out"));
        Ok(records.into_iter().filter_map(|kv| read(kv).ok()).collect())
    }
}
