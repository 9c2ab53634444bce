//! Tasks: creating, listing, ending, following; their checkpoints; the boot epochs of stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use logtide_model::planted::Bug;
use logtide_model::{Incarnation, StoreId, Task, TaskName, Ts};
use parking_lot::Mutex;

use crate::error::CoordinatorError;
use crate::keys;
use crate::record::{self, TaskSpec};
use crate::start_point::Cached;
use crate::store::{Condition, KeyValue, Store, StoreError, Txn};

/// How often something is tried again that another one's change spoiled.
const TRIES: usize = 16;

/// The tasks of a cluster, in a shared store.
pub struct Tasks {
    store: Arc<dyn Store>,
    /// What was last read of each task: from where a region is caught up is asked for one region at a time.
    pub(crate) known: Mutex<BTreeMap<TaskName, Cached>>,
}

impl Tasks {
    /// The tasks in `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Tasks { store, known: Mutex::default() }
    }

    /// The store that they are in.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Creates a task. All its keys come to exist at once.
    ///
    /// # Errors
    /// [`CoordinatorError::InvalidTask`], [`CoordinatorError::TaskExists`], [`CoordinatorError::Store`].
    pub fn create(&self, spec: &TaskSpec) -> Result<Task, CoordinatorError> {
        spec.check()?;
        let info = keys::info(&spec.name);
        let mut txn = Txn::new().when(Condition::Absent(info.clone())).put(info, spec.info()?);
        for range in &spec.ranges {
            txn = txn.put(keys::range(&spec.name, &range.start), range.end.clone());
        }
        let outcome = self.store.commit(txn)?;
        if !outcome.succeeded {
            return Err(CoordinatorError::TaskExists(spec.name.clone()));
        }
        Ok(spec.born(Incarnation(outcome.revision)))
    }

    /// All tasks, by name. One whose record cannot be read is left out, and logged.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`].
    pub fn list(&self) -> Result<Vec<Task>, CoordinatorError> {
        let mut tasks = Vec::new();
        for info in self.store.list(keys::INFO_PREFIX.as_bytes())?.0 {
            match self.load(info) {
                Ok(task) => tasks.extend(task),
                Err(e @ CoordinatorError::Malformed { .. }) => tracing::warn!(error = %e, "a task is left out"),
                Err(e) => return Err(e),
            }
        }
        tasks.sort_by(|a: &Task, b| a.name.cmp(&b.name));
        Ok(tasks)
    }

    /// A task, if there is one of that name.
    ///
    /// # Errors
    /// [`CoordinatorError::Malformed`], [`CoordinatorError::Store`].
    pub fn get(&self, name: &TaskName) -> Result<Option<Task>, CoordinatorError> {
        match self.store.get(&keys::info(name))? {
            Some(info) => self.load(info),
            None => Ok(None),
        }
    }

    /// A task.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Malformed`], [`CoordinatorError::Store`].
    pub fn require(&self, name: &TaskName) -> Result<Task, CoordinatorError> {
        self.get(name)?.ok_or_else(|| CoordinatorError::NoSuchTask(name.clone()))
    }

    /// Info and ranges are read one after the other: they belong together if the info is the same after as before.
    fn load(&self, mut info: KeyValue) -> Result<Option<Task>, CoordinatorError> {
        let Some(name) = keys::last_part(&info.key).and_then(|name| TaskName::new(name).ok()) else {
            return Err(CoordinatorError::malformed(&info.key, "it ends with no task name"));
        };
        for _ in 0..TRIES {
            let ranges = self.store.list(&keys::ranges(&name))?.0;
            let Some(again) = self.store.get(&info.key)? else { return Ok(None) };
            if again.mod_revision == info.mod_revision {
                return record::read_task(&info, &ranges).map(Some);
            }
            info = again;
        }
        Err(CoordinatorError::Changed(format!("the task {name}")))
    }

    /// Ends a task: removes it and everything that belongs to it. The backup in the storage stays.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Store`].
    pub fn remove(&self, name: &TaskName) -> Result<(), CoordinatorError> {
        for _ in 0..TRIES {
            let gone = || CoordinatorError::NoSuchTask(name.clone());
            let info = self.store.get(&keys::info(name))?.ok_or_else(gone)?;
            let txn = Txn::new()
                .when(Condition::CreateRevision(info.key.clone(), info.create_revision))
                .delete(info.key)
                .delete(keys::pause(name))
                .delete_prefix(keys::ranges(name))
                .delete_prefix(keys::checkpoints(name))
                .delete_prefix(keys::last_errors(name))
                .delete_prefix(keys::storage_checkpoints(name))
                .delete_prefix(keys::ours(name));
            if self.store.commit(txn)?.succeeded {
                self.known.lock().remove(name);
                return Ok(());
            }
        }
        Err(CoordinatorError::Changed(format!("the task {name}")))
    }

    /// The global checkpoint as it is persisted; `None` before the first one.
    ///
    /// # Errors
    /// [`CoordinatorError::Malformed`], [`CoordinatorError::Store`].
    pub fn global_checkpoint(&self, name: &TaskName) -> Result<Option<Ts>, CoordinatorError> {
        self.store.get(&keys::central_global(name))?.as_ref().map(record::read_ts).transpose()
    }

    pub(crate) fn check_alive(&self, task: &Task) -> Result<(), CoordinatorError> {
        match self.store.get(&keys::info(&task.name))? {
            Some(info) if info.create_revision == task.incarnation.0 => Ok(()),
            _ => Err(CoordinatorError::NoSuchTask(task.name.clone())),
        }
    }

    /// Says up to when the log of a store's storage can be restored: the key that TiDB's `br log status` shows. It
    /// never goes down.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Changed`], [`CoordinatorError::Store`].
    pub fn set_storage_checkpoint(&self, task: &Task, store_id: StoreId, ts: Ts) -> Result<(), CoordinatorError> {
        let key = keys::storage_checkpoint(&task.name, store_id);
        for _ in 0..TRIES {
            let there = self.store.get(&key)?;
            if let Some(kv) = &there
                && record::read_ts(kv)? >= ts
            {
                return Ok(());
            }
            let txn = Txn::new().when(alive(task)).when(unchanged(&key, there.as_ref()));
            if self.store.commit(txn.put(key.clone(), record::write_ts(ts)))?.succeeded {
                return Ok(());
            }
            self.check_alive(task)?;
        }
        Err(CoordinatorError::Changed(key.escape_ascii().to_string()))
    }

    /// A boot epoch for a process of a store: greater than every one before. With it, processes with older ones can
    /// publish no more.
    ///
    /// # Errors
    /// [`CoordinatorError::Malformed`], [`CoordinatorError::Changed`], [`CoordinatorError::Store`].
    pub fn boot_epoch(&self, store_id: StoreId) -> Result<u64, CoordinatorError> {
        let key = keys::boot(store_id);
        for _ in 0..TRIES {
            let there = self.store.get(&key)?;
            let next = there.as_ref().map(record::read_ts).transpose()?.map_or(1, |last| last.get() + 1);
            let txn =
                Txn::new().when(unchanged(&key, there.as_ref())).put(key.clone(), record::write_ts(Ts::new(next)));
            if self.store.commit(txn)?.succeeded {
                return Ok(next);
            }
        }
        Err(CoordinatorError::Changed(format!("the boot epoch of store {store_id}")))
    }

    /// Does something in the name of a process of a store, for a task: refused when that life of the task is over,
    /// and when a newer process of the store has taken a boot epoch (I9).
    pub(crate) fn act(
        store: &dyn Store,
        of: (&TaskName, Incarnation),
        who: (StoreId, u64),
        txn: Txn,
    ) -> Result<(), CoordinatorError> {
        let ((task, incarnation), (store_id, boot)) = (of, who);
        let txn = if Bug::OldLifeBelieved.is_planted() {
            txn
        } else {
            txn.when(Condition::CreateRevision(keys::info(task), incarnation.0))
        };
        let txn = txn.when(Condition::Value(keys::boot(store_id), record::write_ts(Ts::new(boot))));
        if store.commit(txn)?.succeeded {
            return Ok(());
        }
        match store.get(&keys::info(task))? {
            Some(info) if info.create_revision == incarnation.0 => Err(CoordinatorError::Superseded { store_id, boot }),
            _ => Err(CoordinatorError::NoSuchTask(task.clone())),
        }
    }
}

/// That the life of the task is not over.
pub(crate) fn alive(task: &Task) -> Condition {
    Condition::CreateRevision(keys::info(&task.name), task.incarnation.0)
}

/// That a key is as it was read.
pub(crate) fn unchanged(key: &Bytes, there: Option<&KeyValue>) -> Condition {
    match there {
        Some(kv) => Condition::ModRevision(key.clone(), kv.mod_revision),
        None => Condition::Absent(key.clone()),
    }
}

/// For values that are JSON.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(kv: &KeyValue) -> Result<T, CoordinatorError> {
    serde_json::from_slice(&kv.value).map_err(|e| CoordinatorError::malformed(&kv.key, e))
}

/// For values that are JSON.
pub(crate) fn write_json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|e| StoreError::InvalidTxn(e.to_string()))
}
