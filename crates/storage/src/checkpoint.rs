//! The storage checkpoint: up to where the log in a storage is complete, for readers that see nothing but the storage.
//!
//! One object per writing store, `v1/global_checkpoint/{store}.ts`, 8 bytes little endian; the checkpoint is the
//! largest of them.

use bytes::Bytes;
use logtide_format::{CHECKPOINT_PREFIX, checkpoint_path, decode_checkpoint, encode_checkpoint};
use logtide_model::{StoreId, Ts};
use tokio::sync::Mutex;

use crate::{Storage, StorageError};

/// Writes the storage checkpoint for one store. What it writes never goes down.
#[derive(Debug)]
pub struct CheckpointWriter {
    storage: Storage,
    object: String,
    /// What the object holds; `None` until it was read. Held while writing: puts of one name must not overtake.
    written: Mutex<Option<Ts>>,
}

impl CheckpointWriter {
    /// The writer of a store.
    pub fn new(storage: Storage, store_id: StoreId) -> Self {
        CheckpointWriter { storage, object: checkpoint_path(store_id), written: Mutex::new(None) }
    }

    /// Writes `ts` if the object does not hold as much already; what it holds then.
    ///
    /// # Errors
    /// [`StorageError::Object`], after which it may hold either; [`StorageError::Malformed`].
    pub async fn write(&self, ts: Ts) -> Result<Ts, StorageError> {
        let mut written = self.written.lock().await;
        let held = match written.take() {
            Some(held) => held,
            None => self.held().await?,
        };
        if held < ts {
            self.storage.write(&self.object, Bytes::copy_from_slice(&encode_checkpoint(ts))).await?;
        }
        Ok(*written.insert(held.max(ts)))
    }

    async fn held(&self) -> Result<Ts, StorageError> {
        Ok(read_one(&self.storage, &self.object).await?.unwrap_or(Ts::ZERO))
    }
}

/// The storage checkpoint; `None` if nobody wrote one yet.
///
/// # Errors
/// [`StorageError::Object`], [`StorageError::Malformed`].
pub async fn read_checkpoint(storage: &Storage) -> Result<Option<Ts>, StorageError> {
    let mut largest = None;
    for object in storage.names(CHECKPOINT_PREFIX, usize::MAX).await? {
        if object.ends_with(".ts") {
            largest = largest.max(read_one(storage, &object).await?);
        }
    }
    Ok(largest)
}

async fn read_one(storage: &Storage, object: &str) -> Result<Option<Ts>, StorageError> {
    let Some(bytes) = storage.read(object).await? else { return Ok(None) };
    let ts = decode_checkpoint(object, &bytes).map_err(|e| StorageError::Malformed {
        object: object.to_owned(),
        url: storage.url.clone(),
        cause: e.to_string(),
    })?;
    Ok(Some(ts))
}
