//! How stores fare with a task, and the state of a task as a whole.

use std::collections::BTreeMap;

use logtide_format::proto::StreamBackupError;
use logtide_model::{KeyRange, RegionId, StoreId, Task, TaskName, Ts};
use serde::{Deserialize, Serialize};

use crate::error::CoordinatorError;
use crate::keys;
use crate::pause::Pause;
use crate::record;
use crate::store::Txn;
use crate::tasks::{Tasks, read_json, write_json};

/// How a store fares with a task: written by its heartbeat. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreStatus {
    /// The store.
    pub store_id: StoreId,
    /// Its boot epoch.
    pub boot: u64,
    /// When this was written.
    pub at_ms: u64,
    /// Regions that it observes for the task.
    pub observed_regions: u64,
    /// Initial scans that wait or run.
    pub pending_scans: u64,
    /// Bytes spooled and not yet in the storage.
    pub spool_bytes: u64,
    /// The smallest checkpoint that it stated with its last generation (64-bit timestamp).
    pub checkpoint: Option<u64>,
    /// Its last flush.
    pub last_flush: Option<LastFlush>,
    /// Objects put into the storage in this boot.
    pub objects: u64,
    /// Bytes put into the storage in this boot.
    pub bytes: u64,
    /// What is being tried again, if something is.
    pub degraded: Option<Degraded>,
    /// What the storage cannot do, in a sentence, if something.
    pub storage_shortcoming: Option<String>,
    /// Time between two flushes as it is now, without those by size and on demand.
    pub flush_interval_ms: Option<u64>,
    /// Which setting decides that: `max-flush-interval`, `rpo-target`, `max-objects-per-hour`, or `flush-time` if flushes
    /// take too long for the `rpo-target`.
    pub flush_bound_by: Option<String>,
}

/// A flush that is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastFlush {
    /// When it was published.
    pub at_ms: u64,
    /// Its generation.
    pub generation: u64,
    /// Objects that it put into the storage.
    pub objects: u64,
    /// Bytes that it put into the storage.
    pub bytes: u64,
}

/// Something that does not work and is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Degraded {
    /// The stable code of the error.
    pub code: String,
    /// What does not work.
    pub what: String,
    /// Since when.
    pub since_ms: u64,
    /// When it is tried next, if that is known.
    pub next_try_ms: Option<u64>,
}

/// What holds the global checkpoint back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The first range with the smallest checkpoint (encoded keys).
    pub range: KeyRange,
    /// Who last stated something about it: region and store. `None` if nobody did since the advancer was elected.
    pub region: Option<(RegionId, StoreId)>,
    /// Since when it is this range: milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// [`Holder`] as it is written: keys in hexadecimal.
#[derive(Serialize, Deserialize)]
struct HolderRecord {
    start: String,
    end: String,
    region: Option<(RegionId, StoreId)>,
    since_ms: u64,
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It runs.
    Running,
    /// It runs, and something is being tried again.
    Degraded,
    /// Somebody paused it.
    Paused,
    /// An error that no waiting repairs has paused it.
    Error,
}

impl TaskState {
    /// Its name, as status and logs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskState::Running => "RUNNING",
            TaskState::Degraded => "DEGRADED",
            TaskState::Paused => "PAUSED",
            TaskState::Error => "ERROR",
        }
    }
}

/// All that the coordinator knows about a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskStatus {
    /// The task.
    pub task: Task,
    /// Its state.
    pub state: TaskState,
    /// The global checkpoint; the start ts before the first one.
    pub checkpoint: Ts,
    /// Up to when the log in the storage says of itself that it can be restored, as the stores told.
    pub storage_checkpoint: Option<Ts>,
    /// The stores that run it, by id.
    pub stores: BTreeMap<StoreId, StoreStatus>,
    /// The last errors, by store.
    pub errors: BTreeMap<StoreId, StreamBackupError>,
    /// Why it is paused, if it is.
    pub pause: Option<Pause>,
    /// What holds the checkpoint back, as far as an advancer has looked.
    pub holder: Option<Holder>,
}

impl Holder {
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, CoordinatorError> {
        let Holder { range, region, since_ms } = self;
        let (start, end) = (hex::encode(&range.start), hex::encode(&range.end));
        Ok(write_json(&HolderRecord { start, end, region: *region, since_ms: *since_ms })?)
    }

    fn of(record: HolderRecord) -> Option<Self> {
        let range = KeyRange::new(hex::decode(record.start).ok()?, hex::decode(record.end).ok()?);
        Some(Holder { range, region: record.region, since_ms: record.since_ms })
    }
}

impl Tasks {
    /// Writes how a store fares with a task.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Superseded`], [`CoordinatorError::Store`].
    pub fn put_status(&self, task: &Task, status: &StoreStatus) -> Result<(), CoordinatorError> {
        let txn = Txn::new().put(keys::status(task, status.store_id), write_json(status)?);
        Tasks::act(&**self.store(), (&task.name, task.incarnation), (status.store_id, status.boot), txn)
    }

    /// Removes how a store fares with a task: the store does not run it any more.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`].
    pub fn clear_status(&self, task: &Task, store_id: StoreId) -> Result<(), CoordinatorError> {
        self.store().commit(Txn::new().delete(keys::status(task, store_id)))?;
        Ok(())
    }

    /// All that is known about a task.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Malformed`], [`CoordinatorError::Store`].
    pub fn status(&self, name: &TaskName) -> Result<TaskStatus, CoordinatorError> {
        let task = self.require(name)?;
        let (pause, errors, stores) = (self.pause_of(&task)?, self.last_errors(&task)?, self.stores(&task)?);
        let global = self.global_checkpoint(name)?.unwrap_or(Ts::ZERO);
        Ok(TaskStatus {
            state: state_of(pause.as_ref(), &errors, &stores),
            checkpoint: global.max(task.start_ts),
            storage_checkpoint: self.storage_checkpoint(name)?,
            holder: self.holder(&task)?,
            task,
            stores,
            errors,
            pause,
        })
    }

    /// How the stores fare with a task. A record that cannot be read is left out, and logged.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`].
    pub fn stores(&self, task: &Task) -> Result<BTreeMap<StoreId, StoreStatus>, CoordinatorError> {
        let records = self.store().list(&keys::statuses(task))?.0;
        let read =
            |kv| read_json::<StoreStatus>(&kv).inspect_err(|e| tracing::warn!(error = %e, "a status is left out"));
        Ok(records.into_iter().filter_map(|kv| read(kv).ok()).map(|status| (status.store_id, status)).collect())
    }

    /// The greatest of what the stores told that they put into the storage, as TiDB's `br log status` has it.
    fn storage_checkpoint(&self, name: &TaskName) -> Result<Option<Ts>, CoordinatorError> {
        let records = self.store().list(&keys::storage_checkpoints(name))?.0;
        records.iter().map(record::read_ts).try_fold(None, |max, ts| Ok(max.max(Some(ts?))))
    }

    pub(crate) fn holder(&self, task: &Task) -> Result<Option<Holder>, CoordinatorError> {
        let Some(kv) = self.store().get(&keys::holder(task))? else { return Ok(None) };
        Ok(Holder::of(read_json(&kv)?))
    }
}

/// As `br` has it: an error is a pause with an error, or a pause beside a store's last error.
fn state_of(
    pause: Option<&Pause>,
    errors: &BTreeMap<StoreId, StreamBackupError>,
    stores: &BTreeMap<StoreId, StoreStatus>,
) -> TaskState {
    match pause {
        Some(pause) if pause.is_error || !errors.is_empty() => TaskState::Error,
        Some(_) => TaskState::Paused,
        None if !errors.is_empty() || stores.values().any(|s| s.degraded.is_some()) => TaskState::Degraded,
        None => TaskState::Running,
    }
}
