//! Whose a prefix is: one task of one cluster, in one life of its name.
//!
//! Three small objects say it, written in this order when a task starts and never changed:
//! [`IDENTITY_OBJECT`] (ours, JSON, the authority), [`BACKUPMETA_OBJECT`] (for `br log metadata` and
//! `br restore point`) and [`LOCK_OBJECT`] (keeps `br backup` and `br log start` from taking the prefix for a new one).

use bytes::Bytes;
use logtide_format::{CHECKPOINT_PREFIX, METADATA_PREFIX};
use logtide_model::{Incarnation, TaskName, Ts};
use serde::{Deserialize, Serialize};

pub use crate::backupmeta::BackupMetaHead;
use crate::{OWN_PREFIX, Storage, StorageError};

/// Who owns the prefix, as JSON.
pub const IDENTITY_OBJECT: &str = "v1/logtide/identity.json";
/// What `br` reads: cluster and start, protobuf.
pub const BACKUPMETA_OBJECT: &str = "backupmeta";
/// What keeps other backup jobs of `br` out.
pub const LOCK_OBJECT: &str = "backup.lock";

/// The revision of the objects and names that this version writes.
const FORMAT: u32 = 1;
const LOCK_TEXT: &str = "DO NOT DELETE: this prefix belongs to a log backup; other backups must not use it.\n";

/// The owner of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// The task.
    pub task: TaskName,
    /// Which life of the task.
    pub incarnation: Incarnation,
    /// Where the log begins.
    pub start_ts: Ts,
    /// The revision of the layout below the prefix: 1.
    pub format: u32,
    /// Which program wrote it, for people. It does not count when owners are compared.
    pub created_by: String,
}

impl Identity {
    /// The identity that this version of logtide writes for a task.
    pub fn new(cluster_id: u64, task: TaskName, incarnation: Incarnation, start_ts: Ts) -> Self {
        let created_by = concat!("logtide ", env!("CARGO_PKG_VERSION")).to_owned();
        Identity { cluster_id, task, incarnation, start_ts, format: FORMAT, created_by }
    }

    fn is_same_owner(&self, other: &Identity) -> bool {
        let owner = |i: &Identity| (i.cluster_id, i.task.clone(), i.incarnation, i.start_ts);
        owner(self) == owner(other)
    }

    fn describe(&self) -> String {
        format!(
            "the log of task {} (life {}) of cluster {}, from {} on, written by {}",
            self.task, self.incarnation.0, self.cluster_id, self.start_ts, self.created_by
        )
    }
}

/// The JSON of an [`Identity`].
#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    cluster_id: u64,
    task: String,
    incarnation: u64,
    start_ts: u64,
    created_by: String,
}

/// Makes the prefix the task's own, or finds that it is already. Several stores of a cluster may do it at once.
///
/// # Errors
/// [`StorageError::InUse`] if it is, or looks like, somebody else's, or another life of the task wrote to it;
/// [`StorageError::Malformed`] if what is there cannot be understood; [`StorageError::Object`].
pub async fn claim(storage: &Storage, identity: &Identity) -> Result<(), StorageError> {
    let found = match read_identity(storage).await? {
        Some(found) => found,
        None => take(storage, identity).await?,
    };
    if !found.is_same_owner(identity) {
        return Err(in_use(storage, found.describe()));
    }
    claim_for_br(storage, identity).await
}

/// Who owns the prefix; `None` if logtide does not know.
///
/// # Errors
/// [`StorageError::Malformed`], [`StorageError::Object`].
pub async fn read_identity(storage: &Storage) -> Result<Option<Identity>, StorageError> {
    match storage.read(IDENTITY_OBJECT).await? {
        Some(bytes) => decode(&bytes).map(Some).map_err(|cause| malformed(storage, IDENTITY_OBJECT, cause)),
        None => Ok(None),
    }
}

/// What `backupmeta` says; `None` if there is none. A log that TiKV wrote has it and no [`Identity`].
///
/// # Errors
/// [`StorageError::Malformed`], [`StorageError::Object`].
pub async fn read_backupmeta(storage: &Storage) -> Result<Option<BackupMetaHead>, StorageError> {
    let Some(bytes) = storage.read(BACKUPMETA_OBJECT).await? else { return Ok(None) };
    let head = BackupMetaHead::decode(&bytes);
    head.map(Some).map_err(|e| malformed(storage, BACKUPMETA_OBJECT, e.to_string()))
}

async fn take(storage: &Storage, identity: &Identity) -> Result<Identity, StorageError> {
    if let Some(stranger) = stranger(storage, identity).await? {
        // Another store of the same task may have claimed it, and written, since the identity was looked for.
        return read_identity(storage).await?.ok_or_else(|| in_use(storage, stranger));
    }
    let written = storage.create_and_read(IDENTITY_OBJECT, encode(identity)).await?;
    decode(&written).map_err(|cause| malformed(storage, IDENTITY_OBJECT, cause))
}

/// What stands in a prefix that has no identity.
async fn stranger(storage: &Storage, identity: &Identity) -> Result<Option<String>, StorageError> {
    for prefix in [METADATA_PREFIX, CHECKPOINT_PREFIX] {
        if let Some(object) = storage.names(prefix, 1).await?.first() {
            return Ok(Some(format!("a log backup that logtide did not begin ('{object}')")));
        }
    }
    // `br log start` writes it before the stores begin: then it is this task's.
    let ours = BackupMetaHead::of_log(identity.cluster_id, identity.start_ts);
    if let Some(head) = read_backupmeta(storage).await?.filter(|head| *head != ours) {
        return Ok(Some(describe_meta(head)));
    }
    Ok(storage.first_name(|name| !may_be_there(name)).await?.map(|object| format!("something else ('{object}')")))
}

/// What may stand in a prefix before it is claimed: what `br` prepares, and what other stores are probing with.
fn may_be_there(object: &str) -> bool {
    object == BACKUPMETA_OBJECT || object == LOCK_OBJECT || object.starts_with(&format!("{OWN_PREFIX}/probe/"))
}

fn describe_meta(head: BackupMetaHead) -> String {
    match head.end_ts {
        Ts::ZERO => format!("a log backup of cluster {} from {} on", head.cluster_id, head.start_ts),
        end => format!("a full backup of cluster {} at {end}", head.cluster_id),
    }
}

async fn claim_for_br(storage: &Storage, identity: &Identity) -> Result<(), StorageError> {
    let ours = BackupMetaHead::of_log(identity.cluster_id, identity.start_ts);
    let written = match storage.read(BACKUPMETA_OBJECT).await? {
        Some(found) => found,
        None => storage.create_and_read(BACKUPMETA_OBJECT, ours.encode(&identity.created_by).into()).await?,
    };
    let found = BackupMetaHead::decode(&written);
    let found = found.map_err(|e| malformed(storage, BACKUPMETA_OBJECT, e.to_string()))?;
    if found != ours {
        return Err(in_use(storage, describe_meta(found)));
    }
    if storage.read(LOCK_OBJECT).await?.is_none() {
        storage.write(LOCK_OBJECT, LOCK_TEXT).await?;
    }
    Ok(())
}

fn encode(identity: &Identity) -> Bytes {
    let document = Document {
        format: identity.format,
        cluster_id: identity.cluster_id,
        task: identity.task.to_string(),
        incarnation: identity.incarnation.0,
        start_ts: identity.start_ts.get(),
        created_by: identity.created_by.clone(),
    };
    // A struct of numbers and strings always has a JSON form.
    serde_json::to_vec_pretty(&document).unwrap_or_default().into()
}

fn decode(bytes: &[u8]) -> Result<Identity, String> {
    let document: Document = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if document.format > FORMAT {
        return Err(format!("it has format {}, this version of logtide knows {FORMAT}", document.format));
    }
    Ok(Identity {
        cluster_id: document.cluster_id,
        task: TaskName::new(document.task).map_err(|e| e.to_string())?,
        incarnation: Incarnation(document.incarnation),
        start_ts: Ts::new(document.start_ts),
        format: document.format,
        created_by: document.created_by,
    })
}

fn in_use(storage: &Storage, owner: String) -> StorageError {
    StorageError::InUse { url: storage.url.clone(), owner }
}

fn malformed(storage: &Storage, object: &str, cause: String) -> StorageError {
    StorageError::Malformed { object: object.to_owned(), url: storage.url.clone(), cause }
}
