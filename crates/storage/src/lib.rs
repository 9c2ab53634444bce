//! Opens a backup storage from its URL, probes it, and knows whose it is.
//!
//! It owns: what a storage URL means, the durability of a local directory, the probe of what a storage can do, the
//! identity objects of a prefix, and the storage checkpoint. It does not own the objects of the log itself: the flusher
//! writes them, `restore` reads and removes them.
//!
//! Objects that are logtide's alone live below [`OWN_PREFIX`]; no reader of the format looks there.

#[cfg(any(feature = "s3", feature = "gcs"))]
mod access_list;
#[cfg(feature = "s3")]
mod aws_acl;
#[cfg(feature = "s3")]
mod aws_credentials;
#[cfg(feature = "s3")]
mod aws_profile;
#[cfg(feature = "s3")]
mod aws_role;
#[cfg(feature = "azure")]
mod azure;
mod backupmeta;
mod checkpoint;
#[cfg(feature = "remote")]
mod connector;
#[cfg(feature = "remote")]
mod credentials;
mod durable;
#[cfg(feature = "remote")]
mod endpoint;
#[cfg_attr(not(feature = "remote"), allow(dead_code, reason = "remote storages alone use all of it"))]
mod environment;
mod error;
#[cfg(feature = "gcs")]
mod gcs;
#[cfg(feature = "gcs")]
mod gcs_acl;
mod identity;
mod keys;
mod kms;
mod location;
mod lock;
mod object;
mod open;
#[cfg_attr(not(feature = "remote"), allow(dead_code, reason = "remote storages alone use all of it"))]
mod parameters;
mod probe;
#[cfg(feature = "remote")]
mod remote;
#[cfg_attr(not(feature = "remote"), allow(dead_code, reason = "remote storages alone use all of it"))]
mod remote_url;
#[cfg(feature = "s3")]
mod s3;
mod setting;
mod staged;
#[cfg_attr(not(feature = "remote"), allow(dead_code, reason = "remote storages alone use all of it"))]
mod trouble;

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;

pub use checkpoint::{CheckpointWriter, read_checkpoint};
pub use error::StorageError;
pub use identity::{BACKUPMETA_OBJECT, BackupMetaHead, IDENTITY_OBJECT, Identity, LOCK_OBJECT, claim};
pub use identity::{read_backupmeta, read_identity};
pub use keys::{
    KeysError, KmsClients, OsRandom, no_kms, open_data_keys, open_keys, open_master_key, parse_master_keys,
    read_key_file,
};
pub use kms::open_kms;
pub use lock::{LEASE, LOCK_FAMILIES, LockError, LockOwner, WriteLock, find_locks};
pub use open::{open, redacted, task_url};
pub use probe::{Capabilities, CreateIfAbsent, probe};
pub use setting::{Setting, settings};
pub use staged::{StagedFile, remove_staged, staged_files};
pub use trouble::{Trouble, classify};

/// Below this, objects are logtide's own and no part of the log.
pub const OWN_PREFIX: &str = "v1/logtide";

/// An open storage. Objects are addressed relative to the prefix that its URL names.
#[derive(Clone)]
pub struct Storage {
    /// Where the objects are.
    pub store: Arc<dyn ObjectStore>,
    /// The canonical URL, without credentials: the same storage has the same one, however it was written.
    pub url: String,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({})", self.url)
    }
}
