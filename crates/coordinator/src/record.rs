//! Tasks as TiDB writes them: `StreamBackupTaskInfo` and ranges of raw keys.

use std::fmt;

use bytes::Bytes;
use logtide_format::proto::{CompressionType, StreamBackupTaskInfo};
use logtide_format::{security_config, task_encryption};
use logtide_model::{Compression, Incarnation, KeyRange, Task, TaskEncryption, TaskName, Ts, without_credentials};
use prost::Message;

use crate::backend;
use crate::error::CoordinatorError;
use crate::keys;
use crate::store::KeyValue;

/// The end ts of a task without end, as `br log start` has it.
const NEVER: u64 = 999_999_999_999_999_999;
/// The most ranges of a task: all its keys are created in one transaction.
const MAX_RANGES: usize = 100;

/// A range of raw user keys; an empty `end` is +∞.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RawRange {
    /// First key, inclusive.
    pub start: Vec<u8>,
    /// Last key, exclusive; empty for +∞.
    pub end: Vec<u8>,
}

impl RawRange {
    /// A range of raw user keys.
    pub fn new(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        RawRange { start: start.into(), end: end.into() }
    }

    fn encoded(&self) -> KeyRange {
        KeyRange::from_raw(&self.start, &self.end)
    }
}

/// A task that is to be started. Its `Debug` form shows neither the parameters of the storage's URL nor keys.
#[derive(Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// Its name.
    pub name: TaskName,
    /// Where the backup goes: the canonical URL, with the credentials that every store opens it with. They become part of
    /// the task's record, as TiDB keeps them.
    pub storage: String,
    /// Everything that is committed above it is part of the backup; 0 for all that the stores hold.
    pub start_ts: Ts,
    /// The raw keys that are backed up: not empty, not overlapping.
    pub ranges: Vec<RawRange>,
    /// How data files are compressed.
    pub compression: Compression,
    /// How data files are encrypted; `None`: not at all. A data key becomes part of the task's record, as TiDB keeps it:
    /// who can read the coordinator can read it.
    pub encryption: Option<TaskEncryption>,
}

impl fmt::Debug for TaskSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TaskSpec { name, storage, start_ts, ranges, compression, encryption } = self;
        f.debug_struct("TaskSpec")
            .field("name", name)
            .field("storage", &without_credentials(storage))
            .field("start_ts", start_ts)
            .field("ranges", ranges)
            .field("compression", compression)
            .field("encryption", encryption)
            .finish()
    }
}

impl TaskSpec {
    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<(), CoordinatorError> {
        let invalid = |what: &str| Err(self.invalid(what.to_owned()));
        if self.start_ts >= Ts::new(NEVER) {
            return invalid("its start ts is no timestamp");
        }
        if self.ranges.is_empty() || self.ranges.len() > MAX_RANGES {
            return invalid(&format!("it has {} ranges; 1 to {MAX_RANGES} are possible", self.ranges.len()));
        }
        if self.ranges.iter().any(|r| r.encoded().is_empty()) {
            return invalid("one of its ranges is empty");
        }
        if let Some(encryption) = &self.encryption {
            let read = task_encryption(&security_config(encryption));
            if !matches!(&read, Ok(Some(read)) if read == encryption) {
                let why = read.map_or_else(|fault| fault.to_string(), |_| "it would not encrypt".to_owned());
                return invalid(&format!("its encryption cannot be: {why}"));
            }
        }
        let mut sorted: Vec<KeyRange> = self.ranges.iter().map(RawRange::encoded).collect();
        sorted.sort();
        if sorted.windows(2).any(|pair| pair[0].overlaps(&pair[1])) {
            return invalid("two of its ranges overlap");
        }
        Ok(())
    }

    fn invalid(&self, what: String) -> CoordinatorError {
        CoordinatorError::InvalidTask { task: self.name.clone(), what }
    }

    /// The value of the info key.
    pub(crate) fn info(&self) -> Result<Vec<u8>, CoordinatorError> {
        let info = StreamBackupTaskInfo {
            storage: Some(backend::write(&self.storage).map_err(|what| self.invalid(what))?),
            start_ts: self.start_ts.get(),
            end_ts: NEVER,
            name: self.name.to_string(),
            table_filter: vec!["*.*".to_owned()], // TiDB refuses a task without a filter.
            compression_type: match self.compression {
                Compression::None => CompressionType::Unknown.into(),
                Compression::Zstd => CompressionType::Zstd.into(),
            },
            security_config: self.encryption.as_ref().map(security_config),
        };
        Ok(info.encode_to_vec())
    }

    /// The task, once it has come to life.
    pub(crate) fn born(&self, incarnation: Incarnation) -> Task {
        // As everybody else reads it.
        let read = backend::write(&self.storage).and_then(|written| backend::read(Some(written)));
        let storage = read.unwrap_or_else(|_| self.storage.clone());
        let mut ranges: Vec<KeyRange> = self.ranges.iter().map(RawRange::encoded).collect();
        ranges.sort();
        Task {
            name: self.name.clone(),
            incarnation,
            storage,
            start_ts: self.start_ts,
            ranges,
            compression: self.compression,
            encryption: self.encryption.clone(),
        }
    }
}

/// The task of an info key and its range keys.
pub(crate) fn read_task(info: &KeyValue, ranges: &[KeyValue]) -> Result<Task, CoordinatorError> {
    let malformed = |what: String| CoordinatorError::malformed(&info.key, what);
    let proto = StreamBackupTaskInfo::decode(&info.value[..]).map_err(|e| malformed(e.to_string()))?;
    let name = TaskName::new(proto.name).map_err(|e| malformed(e.to_string()))?;
    if info.key != keys::info(&name) {
        return Err(malformed(format!("it is the record of the task {name}")));
    }
    if ranges.is_empty() {
        return Err(malformed("the task has no ranges".to_owned()));
    }
    let compression = match CompressionType::try_from(proto.compression_type) {
        Ok(CompressionType::Unknown) => Compression::None,
        Ok(CompressionType::Zstd) => Compression::Zstd,
        _ => return Err(malformed(format!("compression type {} is not for logs", proto.compression_type))),
    };
    let encryption = proto.security_config.as_ref().map(task_encryption).transpose();
    let encryption = encryption.map_err(|fault| malformed(format!("its encryption: {fault}")))?.flatten();
    let prefix = keys::ranges(&name);
    let mut ranges: Vec<KeyRange> =
        ranges.iter().map(|kv| KeyRange::from_raw(kv.key.get(prefix.len()..).unwrap_or_default(), &kv.value)).collect();
    ranges.sort();
    Ok(Task {
        incarnation: Incarnation(info.create_revision),
        storage: backend::read(proto.storage).map_err(malformed)?,
        start_ts: Ts::new(proto.start_ts),
        name,
        ranges,
        compression,
        encryption,
    })
}

/// The value of a checkpoint key.
pub(crate) fn write_ts(ts: Ts) -> Bytes {
    Bytes::copy_from_slice(&ts.get().to_be_bytes())
}

/// The timestamp of a checkpoint key.
pub(crate) fn read_ts(kv: &KeyValue) -> Result<Ts, CoordinatorError> {
    let bytes = <[u8; 8]>::try_from(&kv.value[..])
        .map_err(|_| CoordinatorError::malformed(&kv.key, format!("it has {} bytes instead of 8", kv.value.len())))?;
    Ok(Ts::new(u64::from_be_bytes(bytes)))
}
