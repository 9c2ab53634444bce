//! Finds out what a storage can do, by doing it.

use std::hash::{BuildHasher, RandomState};

use tracing::{info, warn};

use crate::object::Created;
use crate::{OWN_PREFIX, Storage, StorageError};

/// What a storage can do, as seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// A put that must not overwrite does not: the second of two is refused and the first one's content stays. Some S3
    /// servers accept the header and overwrite all the same, so only the experiment counts.
    pub create_if_absent: bool,
}

/// Writes, reads, lists and deletes an object, and creates another one twice. To be called when a task starts; several
/// stores may do it at once.
///
/// # Errors
/// [`StorageError::Object`] for an operation that is refused; [`StorageError::Unfit`] for one that does not do what
/// it says.
pub async fn probe(storage: &Storage) -> Result<Capabilities, StorageError> {
    // Random, so that stores that probe at once do not meet; nothing depends on it otherwise.
    let id = RandomState::new().hash_one(std::process::id());
    let plain = format!("{OWN_PREFIX}/probe/{id:016x}-put");
    let once = format!("{OWN_PREFIX}/probe/{id:016x}-create");
    let seen = experiments(storage, &plain, &once).await;
    let cleaned = clean(storage, [&plain, &once]).await;
    let capabilities = seen?;
    cleaned?;
    info!(storage = storage.url, create_if_absent = capabilities.create_if_absent, "probed the storage");
    Ok(capabilities)
}

async fn experiments(storage: &Storage, plain: &str, once: &str) -> Result<Capabilities, StorageError> {
    storage.write(plain, &b"old"[..]).await?;
    storage.write(plain, &b"probe"[..]).await?;
    if storage.read(plain).await?.as_deref() != Some(b"probe") {
        return Err(unfit(storage, format!("'{plain}' does not read back as it was written")));
    }
    let names = storage.names(&format!("{OWN_PREFIX}/probe"), usize::MAX).await?;
    if !names.iter().any(|name| name == plain) {
        return Err(unfit(storage, format!("'{plain}' was written and is not listed")));
    }
    Ok(Capabilities { create_if_absent: creates_once(storage, once).await? })
}

async fn creates_once(storage: &Storage, object: &str) -> Result<bool, StorageError> {
    if storage.create(object, &b"first"[..]).await? == Created::Unsupported {
        return Ok(false);
    }
    let second = storage.create(object, &b"second"[..]).await?;
    let kept = storage.read(object).await?.as_deref() == Some(b"first");
    if second == Created::Yes || !kept {
        warn!(storage = storage.url, "create-if-absent is accepted and not honoured; names alone keep objects apart");
    }
    Ok(second == Created::Existed && kept)
}

async fn clean(storage: &Storage, objects: [&str; 2]) -> Result<(), StorageError> {
    for object in objects {
        storage.delete(object).await?;
        if storage.read(object).await?.is_some() {
            return Err(unfit(storage, format!("'{object}' was deleted and is still there")));
        }
    }
    Ok(())
}

fn unfit(storage: &Storage, found: String) -> StorageError {
    StorageError::Unfit { url: storage.url.clone(), found }
}
