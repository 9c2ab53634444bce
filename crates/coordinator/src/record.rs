//! Tasks as TiDB writes them: `StreamBackupTaskInfo` and ranges of raw keys.

use std::collections::BTreeMap;

use bytes::Bytes;
use logtide_format::proto::storage_backend::Backend;
use logtide_format::proto::{CloudDynamic, CompressionType, Local, StorageBackend, StreamBackupTaskInfo};
use logtide_format::{security_config, task_encryption};
use logtide_model::{Compression, Incarnation, KeyRange, Task, TaskEncryption, TaskName, Ts};
use prost::Message;
use url::Url;

use crate::error::CoordinatorError;
use crate::keys;
use crate::store::KeyValue;

/// The end ts of a task without end, as `br log start` has it.
const NEVER: u64 = 999_999_999_999_999_999;
/// The provider name and the attribute that a URL of no kind of TiDB's is kept under.
const URL_ATTRIBUTE: &str = "logtide-url";
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

/// A task that is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSpec {
    /// Its name.
    pub name: TaskName,
    /// Where the backup goes: the canonical URL.
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

impl TaskSpec {
    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<(), CoordinatorError> {
        let invalid =
            |what: &str| Err(CoordinatorError::InvalidTask { task: self.name.clone(), what: what.to_owned() });
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

    /// The value of the info key.
    pub(crate) fn info(&self) -> Result<Vec<u8>, CoordinatorError> {
        let info = StreamBackupTaskInfo {
            storage: Some(self.backend()?),
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

    fn backend(&self) -> Result<StorageBackend, CoordinatorError> {
        let invalid = |what: String| CoordinatorError::InvalidTask { task: self.name.clone(), what };
        let url = Url::parse(&self.storage).map_err(|e| invalid(format!("its storage is no URL: {e}")))?;
        let backend = match url.scheme() {
            "local" | "file" => Backend::Local(Local { path: local_path(&self.storage).map_err(invalid)? }),
            _ => Backend::CloudDynamic(CloudDynamic {
                provider_name: URL_ATTRIBUTE.to_owned(),
                attrs: BTreeMap::from([(URL_ATTRIBUTE.to_owned(), self.storage.clone())]),
                ..CloudDynamic::default()
            }),
        };
        Ok(StorageBackend { backend: Some(backend) })
    }

    /// The task, once it has come to life.
    pub(crate) fn born(&self, incarnation: Incarnation) -> Task {
        let mut ranges: Vec<KeyRange> = self.ranges.iter().map(RawRange::encoded).collect();
        ranges.sort();
        Task {
            name: self.name.clone(),
            incarnation,
            storage: self.storage.clone(),
            start_ts: self.start_ts,
            ranges,
            compression: self.compression,
            encryption: self.encryption.clone(),
        }
    }
}

fn local_path(url: &str) -> Result<String, String> {
    let as_file = url.split_once(':').map_or_else(String::new, |(_, rest)| format!("file:{rest}"));
    let path = Url::parse(&as_file).ok().and_then(|url| url.to_file_path().ok());
    let path = path.ok_or_else(|| format!("{url} is no path of this machine"))?;
    path.into_os_string().into_string().map_err(|_| format!("the path of {url} is not UTF-8"))
}

/// The URL of a storage, without credentials.
fn storage_url(storage: Option<StorageBackend>) -> Result<String, String> {
    match storage.and_then(|s| s.backend) {
        Some(Backend::Local(Local { path })) => {
            let url = Url::from_file_path(&path).map_err(|()| format!("its storage path {path} is not absolute"))?;
            Ok(url.as_str().trim_end_matches('/').replacen("file:", "local:", 1))
        }
        Some(Backend::CloudDynamic(c)) if c.provider_name == URL_ATTRIBUTE => {
            c.attrs.get(URL_ATTRIBUTE).cloned().ok_or_else(|| "its storage has no URL".to_owned())
        }
        Some(Backend::S3(s3)) => Ok(format!("s3://{}/{}", s3.bucket, s3.prefix)),
        Some(Backend::Gcs(gcs)) => Ok(format!("gcs://{}/{}", gcs.bucket, gcs.prefix)),
        Some(Backend::AzureBlobStorage(azure)) => Ok(format!("azure://{}/{}", azure.bucket, azure.prefix)),
        Some(Backend::Hdfs(hdfs)) => Ok(hdfs.remote),
        Some(Backend::Noop(_)) => Ok("noop://".to_owned()),
        Some(Backend::CloudDynamic(c)) => Err(format!("its storage is of the unknown kind {}", c.provider_name)),
        None => Err("it has no storage".to_owned()),
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
        storage: storage_url(proto.storage).map_err(malformed)?,
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
