//! The last error of each store, as TiDB's tools show it.

use std::collections::BTreeMap;

use logtide_format::proto::StreamBackupError;
use logtide_model::{Diagnose, StoreId, Task};
use prost::Message;

use crate::error::CoordinatorError;
use crate::keys;
use crate::pause::Pause;
use crate::store::Txn;
use crate::tasks::Tasks;

/// An error as it is reported: code, message with remedy, store and time (milliseconds since the Unix epoch).
pub fn describe_error(error: &dyn Diagnose, store_id: StoreId, at_ms: u64) -> StreamBackupError {
    let remedy = error.remedy();
    let error_message = if remedy.is_empty() { error.to_string() } else { format!("{error} (remedy: {remedy})") };
    StreamBackupError { happen_at: at_ms, error_code: error.code().to_string(), error_message, store_id }
}

impl Tasks {
    /// Sets the last error of a store.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Store`].
    pub fn report_error(&self, task: &Task, error: &StreamBackupError) -> Result<(), CoordinatorError> {
        let key = keys::last_error(&task.name, error.store_id);
        self.for_living(task, Txn::new().put(key, error.encode_to_vec()))
    }

    /// Sets the last error of a store and puts the task into the state ERROR: for what no waiting repairs.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Store`].
    pub fn fail(&self, task: &Task, error: &StreamBackupError) -> Result<(), CoordinatorError> {
        self.report_error(task, error)?;
        self.set_pause(task, &Pause::because(error.clone()))
    }

    /// Removes the last error of a store.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Store`].
    pub fn clear_error(&self, task: &Task, store_id: StoreId) -> Result<(), CoordinatorError> {
        self.for_living(task, Txn::new().delete(keys::last_error(&task.name, store_id)))
    }

    /// The last errors of a task, by store. One that cannot be read is left out, and logged.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`].
    pub fn last_errors(&self, task: &Task) -> Result<BTreeMap<StoreId, StreamBackupError>, CoordinatorError> {
        let mut errors = BTreeMap::new();
        for kv in self.store().list(&keys::last_errors(&task.name))?.0 {
            let store_id = keys::last_part(&kv.key).and_then(|id| id.parse().ok());
            match (store_id, StreamBackupError::decode(&kv.value[..])) {
                (Some(store_id), Ok(error)) => {
                    errors.insert(store_id, error);
                }
                _ => tracing::warn!(key = %kv.key.escape_ascii(), "a last error cannot be read"),
            }
        }
        Ok(errors)
    }
}
