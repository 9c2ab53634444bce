//! What a storage holds, and to which moments it can bring a node back.

use futures::{StreamExt, TryStreamExt, future};
use logtide_format::{CHECKPOINT_PREFIX, METADATA_PREFIX, decode_checkpoint};
use logtide_model::Ts;
use logtide_storage::{Storage, read_backupmeta, read_identity};
use object_store::{ObjectMeta, ObjectStoreExt, path::Path};
use serde::{Deserialize, Serialize};

use crate::RestoreError;

/// Below this TiDB's tools note what they compacted or truncated.
const MIGRATIONS_PREFIX: &str = "v1/migrations";
/// Everything of the log is below this.
const LOG_PREFIX: &str = "v1";

/// What a storage holds. Any ts from `start_ts` to `checkpoint` can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInfo {
    /// The storage.
    pub storage: String,
    /// Commits above it are in the log; zero if the storage does not say where the log begins.
    #[serde(with = "ts")]
    pub start_ts: Ts,
    /// Up to here the log is complete; zero if nothing is yet.
    #[serde(with = "ts")]
    pub checkpoint: Ts,
    /// The cluster, if the storage says it.
    pub cluster_id: Option<u64>,
    /// The task, if the storage says it.
    pub task: Option<String>,
    /// Metadata objects.
    pub metadata_objects: u64,
    /// Data objects.
    pub objects: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// Looks at a storage: identity, checkpoint, and how many objects there are.
///
/// # Errors
/// [`RestoreError::Storage`], [`RestoreError::Identity`], [`RestoreError::Metadata`] for a damaged checkpoint object.
pub async fn log_info(storage: &Storage) -> Result<LogInfo, RestoreError> {
    let mut info = bounds(storage).await?;
    let mut all = list(storage, LOG_PREFIX);
    while let Some(meta) = all.try_next().await? {
        let name = meta.location.as_ref();
        if name.ends_with(".meta") && name.starts_with(METADATA_PREFIX) {
            info.metadata_objects += 1;
        } else if name.ends_with(".log") {
            info.objects += 1;
        } else {
            continue;
        }
        info.bytes += meta.size;
    }
    Ok(info)
}

/// As [`log_info`], without the counts.
pub(crate) async fn bounds(storage: &Storage) -> Result<LogInfo, RestoreError> {
    let identity = read_identity(storage).await?;
    let head = read_backupmeta(storage).await?;
    let of_log = head.filter(|head| head.end_ts.is_zero());
    let start_ts = identity.as_ref().map(|i| i.start_ts).or(of_log.map(|head| head.start_ts));
    Ok(LogInfo {
        storage: storage.url.clone(),
        start_ts: start_ts.unwrap_or_default(),
        checkpoint: checkpoint(storage).await?,
        cluster_id: identity.as_ref().map(|i| i.cluster_id).or(head.map(|head| head.cluster_id)),
        task: identity.map(|i| i.task.to_string()),
        metadata_objects: 0,
        objects: 0,
        bytes: 0,
    })
}

/// The largest checkpoint of all stores; zero if there is none.
async fn checkpoint(storage: &Storage) -> Result<Ts, RestoreError> {
    let names = list(storage, CHECKPOINT_PREFIX).map_ok(|meta| meta.location);
    let objects = names.try_filter(|name| future::ready(name.as_ref().ends_with(".ts")));
    let read = |name: Path| async move {
        let bytes = storage.store.get(&name).await.map_err(|e| unreadable(storage, name.as_ref(), e))?;
        let bytes = bytes.bytes().await.map_err(|e| unreadable(storage, name.as_ref(), e))?;
        Ok(decode_checkpoint(name.as_ref(), &bytes)?)
    };
    objects.and_then(read).try_fold(Ts::ZERO, |max, ts| future::ready(Ok(max.max(ts)))).await
}

/// Refuses a log that another tool has rewritten.
pub(crate) async fn refuse_migrations(storage: &Storage) -> Result<(), RestoreError> {
    match list(storage, MIGRATIONS_PREFIX).try_next().await? {
        None => Ok(()),
        Some(meta) => {
            Err(RestoreError::Migrated { storage: storage.url.clone(), object: meta.location.as_ref().to_owned() })
        }
    }
}

/// All objects below a prefix, in no particular order.
pub(crate) fn list<'a>(
    storage: &'a Storage,
    prefix: &'static str,
) -> impl futures::Stream<Item = Result<ObjectMeta, RestoreError>> + Unpin + Send + 'a {
    storage.store.list(Some(&Path::from(prefix))).map_err(move |e| unreadable(storage, prefix, e)).boxed()
}

pub(crate) fn unreadable(storage: &Storage, object: &str, source: object_store::Error) -> RestoreError {
    RestoreError::Storage { storage: storage.url.clone(), object: object.to_owned(), source: Box::new(source) }
}

mod ts {
    use logtide_model::Ts;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(ts: &Ts, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(ts.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Ts, D::Error> {
        u64::deserialize(from).map(Ts::new)
    }
}
