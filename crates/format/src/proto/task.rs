//! How a task is described in the coordinator, and what else is kept about it.

use super::{CompressionType, EncryptionMethod, MasterKey, StorageBackend};

/// A task: the value of `/tidb/br-stream/info/{task}`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamBackupTaskInfo {
    /// Where the backup goes.
    #[prost(message, optional, tag = "1")]
    pub storage: Option<StorageBackend>,
    /// Where it starts.
    #[prost(uint64, tag = "2")]
    pub start_ts: u64,
    /// Where it ends (TiDB sets 999999999999999999: never).
    #[prost(uint64, tag = "3")]
    pub end_ts: u64,
    /// The task's name.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Which tables; for display only.
    #[prost(string, repeated, tag = "5")]
    pub table_filter: Vec<String>,
    /// A [`CompressionType`].
    #[prost(enumeration = "CompressionType", tag = "6")]
    pub compression_type: i32,
    /// How data files are encrypted.
    #[prost(message, optional, tag = "7")]
    pub security_config: Option<StreamBackupTaskSecurityConfig>,
}

/// How a task encrypts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamBackupTaskSecurityConfig {
    /// With which keys.
    #[prost(oneof = "stream_backup_task_security_config::Encryption", tags = "1, 2")]
    pub encryption: Option<stream_backup_task_security_config::Encryption>,
}

/// Parts of [`StreamBackupTaskSecurityConfig`].
pub mod stream_backup_task_security_config {
    /// With which keys a task encrypts.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Encryption {
        /// One key, given with the task.
        #[prost(message, tag = "1")]
        PlaintextDataKey(super::CipherInfo),
        /// Random keys, encrypted with a master key.
        #[prost(message, tag = "2")]
        MasterKeyConfig(super::MasterKeyConfig),
    }
}

/// A cipher and its key.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct CipherInfo {
    /// An [`EncryptionMethod`].
    #[prost(enumeration = "EncryptionMethod", tag = "1")]
    pub cipher_type: i32,
    /// The key.
    #[prost(bytes = "vec", tag = "2")]
    pub cipher_key: Vec<u8>,
}

debug_without_secrets!(CipherInfo { cipher_type; cipher_key });

/// Master keys and the cipher of the data keys.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MasterKeyConfig {
    /// An [`EncryptionMethod`].
    #[prost(enumeration = "EncryptionMethod", tag = "1")]
    pub encryption_type: i32,
    /// The master keys; the first that works is used.
    #[prost(message, repeated, tag = "2")]
    pub master_keys: Vec<MasterKey>,
}

/// An error of a store: the value of `/tidb/br-stream/last-error/{task}/{store}`, and the payload of a pause.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct StreamBackupError {
    /// When, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub happen_at: u64,
    /// Its stable code.
    #[prost(string, tag = "2")]
    pub error_code: String,
    /// Its message, for people.
    #[prost(string, tag = "3")]
    pub error_message: String,
    /// Which store.
    #[prost(uint64, tag = "4")]
    pub store_id: u64,
}

/// The object `backupmeta`, by which TiDB's `br` knows a backup; only the fields that a log backup sets.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct BackupMeta {
    /// The cluster that was backed up.
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    /// Its version.
    #[prost(string, tag = "2")]
    pub cluster_version: String,
    /// Where the log begins.
    #[prost(uint64, tag = "5")]
    pub start_version: u64,
    /// Where a full backup ends.
    #[prost(uint64, tag = "6")]
    pub end_version: u64,
    /// Who wrote it.
    #[prost(string, tag = "11")]
    pub br_version: String,
    /// The version of this message's layout.
    #[prost(int32, tag = "12")]
    pub version: i32,
}
