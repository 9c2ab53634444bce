//! The locks that keep several from working on the metadata of one log: `br` and the compactor of TiKV take them while
//! they restore, truncate or compact, we while we merge or sweep (`reference/log-backup-format.md` §1).
//!
//! Who writes needs all names below a lock's name for itself: it sees that there are none, puts an *intent*, sees that
//! there is no other, puts the lock, and takes the intent away. Who reads puts a lock that a writer sees. Names of ours say
//! which store and boot wrote them, so that what a crash left is known for ours: the store's next boot takes it away.
//! No clocks are compared for that: a lock that somebody holds is begun nothing under after [`LEASE`], and the next boot
//! waits longer than that after it saw the lock.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use logtide_format::utc_text;
use object_store::path::Path;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{Storage, StorageError};

mod owner;

pub use owner::LockOwner;
use owner::{holder, owner_of};

/// Nothing is begun under a lock that was taken so long ago.
pub const LEASE: Duration = Duration::from_secs(600);
/// A lock of a former boot is taken away when it did not change for so long: a request that was begun within the lease has
/// ended by then.
const ABANDONED: Duration = Duration::from_secs(900);
/// Below this TiDB's tools note what they rewrote.
const MIGRATIONS: &str = "v1/migrations";
/// Locks that a writer of metadata takes: the folder, the name that all of a lock begin with, and the object of a writer.
/// The first one is that of `br log truncate`, the second one of compactions and restores.
pub const LOCK_FAMILIES: [(&str, &str, &str); 2] =
    [("", "truncating.lock", "truncating.lock"), ("v1", "v1/LOCK", "v1/LOCK.WRIT")];

/// Why a lock was not taken, or is not held any more.
#[derive(Debug, Error)]
pub enum LockError {
    /// Others are at work, or were.
    #[error("'{object}' is there: {what}")]
    Taken {
        /// What says so.
        object: String,
        /// What it means.
        what: &'static str,
    },
    /// It was taken away, or the lease is over.
    #[error("the lock '{object}' is not held any more")]
    Lost {
        /// The lock.
        object: String,
    },
    /// The storage did not answer as it should.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The right to rewrite metadata, for one holder.
#[derive(Debug)]
pub struct WriteLock {
    storage: Storage,
    owner: LockOwner,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Something was, or may have been, written.
    begun: bool,
    held: Option<Instant>,
    /// Locks of former boots: content, and since when it is the same.
    former: BTreeMap<String, (Bytes, Instant)>,
}

impl WriteLock {
    /// For a holder; nothing is taken yet.
    pub fn new(storage: Storage, owner: LockOwner) -> Self {
        WriteLock { storage, owner, state: Mutex::default() }
    }

    /// True if something of the lock may be there.
    pub async fn is_begun(&self) -> bool {
        self.state.lock().await.begun
    }

    /// Takes the locks, unless others are at work there or have rewritten the log. `now_ms` (since 1970) is for people.
    /// What is held already is held on, as long as nobody took it away.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn acquire(&self, now_ms: u64) -> Result<(), LockError> {
        let mut state = self.state.lock().await;
        if state.held.is_some() {
            self.verify().await.inspect_err(|error| {
                if matches!(error, LockError::Lost { .. }) {
                    state.held = None;
                }
            })?;
            state.held = Some(Instant::now());
            return Ok(());
        }
        if state.begun {
            self.give_back(&mut state).await?;
        }
        self.refuse_migrations().await?;
        for (folder, name, _) in LOCK_FAMILIES {
            self.clear_former(&mut state, folder, name).await?;
        }
        state.begun = true;
        let taken = self.take(now_ms).await;
        match taken {
            Ok(()) => state.held = Some(Instant::now()),
            // What cannot be given back now is given back at the next try.
            Err(_) => drop(self.give_back(&mut state).await),
        }
        taken
    }

    async fn take(&self, now_ms: u64) -> Result<(), LockError> {
        for (folder, name, object) in LOCK_FAMILIES {
            self.take_one(folder, name, object, now_ms).await?;
        }
        // Somebody may have appended one before the lock was there.
        self.refuse_migrations().await
    }

    async fn take_one(&self, folder: &str, name: &str, object: &str, now_ms: u64) -> Result<(), LockError> {
        let intent = self.intent(object);
        self.alone(folder, name, None).await?;
        self.storage.write(&intent, Bytes::new()).await?;
        self.alone(folder, name, Some(&intent)).await?;
        self.storage.write(object, self.content(now_ms)).await?;
        Ok(self.storage.delete(&intent).await?)
    }

    /// Sees that there is nothing of a lock but `intent`.
    async fn alone(&self, folder: &str, name: &str, intent: Option<&str>) -> Result<(), LockError> {
        let found = names(&self.storage, folder, name).await?;
        let other = found.into_iter().find(|found| Some(found.as_str()) != intent);
        let what = "others restore, truncate, compact or merge here";
        other.map_or(Ok(()), |object| Err(LockError::Taken { object, what }))
    }

    fn intent(&self, object: &str) -> String {
        format!("{object}.INTENT.{}", self.owner.txn_id().to_uppercase())
    }

    fn content(&self, now_ms: u64) -> Vec<u8> {
        let LockOwner { store_id, boot } = self.owner;
        let hint = format!(
            "logtide works on metadata objects (store {store_id}, boot {boot}). The store removes this by itself; if it is \
             gone for good, `logtide storage sweep --delete` does"
        );
        let document = serde_json::json!({
            "locked_at": utc_text(now_ms), "locker_host": format!("store {store_id}"), "locker_pid": 0,
            "txn_id": self.owner.txn_id(), "hint": hint,
        });
        document.to_string().into_bytes()
    }

    /// Fails unless the locks are held and there is time left to begin something under them.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn confirm(&self) -> Result<(), LockError> {
        let state = self.state.lock().await;
        let in_time = state.held.is_some_and(|since| since.elapsed() < LEASE);
        if in_time { self.verify().await } else { Err(LockError::Lost { object: LOCK_FAMILIES[0].2.to_owned() }) }
    }

    async fn verify(&self) -> Result<(), LockError> {
        for (.., object) in LOCK_FAMILIES {
            if !self.is_ours(object).await? {
                return Err(LockError::Lost { object: object.to_owned() });
            }
        }
        Ok(())
    }

    async fn is_ours(&self, object: &str) -> Result<bool, LockError> {
        let content = self.storage.read(object).await?;
        Ok(content.and_then(|bytes| holder(&bytes)).is_some_and(|holder| holder == self.owner.txn_id()))
    }

    /// Gives the locks back, and whatever was left of trying to take them.
    ///
    /// # Errors
    /// [`LockError::Storage`]; [`is_begun`](Self::is_begun) stays true.
    pub async fn release(&self) -> Result<(), LockError> {
        let mut state = self.state.lock().await;
        self.give_back(&mut state).await
    }

    async fn give_back(&self, state: &mut State) -> Result<(), LockError> {
        if !state.begun {
            return Ok(());
        }
        state.held = None;
        for (.., object) in LOCK_FAMILIES.iter().rev() {
            self.storage.delete(&self.intent(object)).await?;
            if self.is_ours(object).await? {
                self.storage.delete(object).await?;
            }
        }
        state.begun = false;
        Ok(())
    }

    async fn refuse_migrations(&self) -> Result<(), LockError> {
        let found = self.storage.names(MIGRATIONS, 1).await?.into_iter().next();
        let what = "the log was compacted or truncated by TiDB's tools, which name metadata objects";
        found.map_or(Ok(()), |object| Err(LockError::Taken { object, what }))
    }

    /// Takes away what former boots of this store left, once it is certain that nothing goes on under it.
    async fn clear_former(&self, state: &mut State, folder: &str, name: &str) -> Result<(), LockError> {
        for object in names(&self.storage, folder, name).await? {
            let Some(content) = self.storage.read(&object).await? else { continue };
            if !owner_of(&object, &content).is_some_and(|owner| owner.is_former(&self.owner)) {
                continue;
            }
            let now = Instant::now();
            let seen = state.former.entry(object.clone()).or_insert((content.clone(), now));
            if seen.0 != content {
                *seen = (content, now);
            }
            if now.duration_since(seen.1) < ABANDONED {
                let what =
                    "a former process of this store left it; it is taken away if it stays as it is for 15 minutes";
                return Err(LockError::Taken { object, what });
            }
            state.former.remove(&object);
            self.storage.delete(&object).await?;
        }
        Ok(())
    }
}

/// Locks of a storage that are or were held for writing or reading, and whose they are if they are ours.
///
/// # Errors
/// [`StorageError`].
pub async fn find_locks(storage: &Storage) -> Result<Vec<(String, Option<LockOwner>)>, StorageError> {
    let mut found = Vec::new();
    for (folder, name, _) in LOCK_FAMILIES {
        for object in names(storage, folder, name).await? {
            let Some(content) = storage.read(&object).await? else { continue };
            let owner = owner_of(&object, &content);
            found.push((object, owner));
        }
    }
    Ok(found)
}

/// Objects of a folder that begin with a name. A prefix ends at a slash, so the folder is listed.
async fn names(storage: &Storage, folder: &str, name: &str) -> Result<Vec<String>, StorageError> {
    let folder = (!folder.is_empty()).then(|| Path::from(folder));
    let listed = storage.store.list_with_delimiter(folder.as_ref()).await;
    let listed = listed.map_err(|e| storage.failed("list", name, e))?;
    let names = listed.objects.into_iter().map(|meta| meta.location.to_string());
    let mut names: Vec<String> = names.filter(|object| object.starts_with(name)).collect();
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests;
