//! A store in a directory, for several processes of one machine.
//!
//! One file, `journal`: a snapshot of the state in front, then every change since, each in a frame with a checksum
//! and synced before its transaction returns. A writer holds `lock` (an OS lock, so it ends with its process); a
//! reader follows the file's end and replays what is new into its own copy of the state. When the changes outgrow
//! the snapshot, a new file is written beside, synced and renamed over the old one. A crash at any point leaves the
//! old state or the new one: a frame that was cut off is the end of the journal, and the next writer removes it.
//!
//! Why not one file that is rewritten by every change: a heartbeat would then write the cover of all regions again.
//! Why not one file per key: neither a transaction nor a listing would be atomic.
//!
//! The directory must be on a local file system: the lock and the rename have to mean what POSIX says.

mod frame;
mod journal;
mod lock;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::store::{Change, Clock, Local, Replica, Revision, State, StoreError, WallClock};
use journal::Journal;
use lock::{Kind, LockFile};

/// How often a watch looks for what other processes wrote.
const WATCH_STEP: Duration = Duration::from_millis(50);

/// Keys in a directory; clones share one copy of the state.
#[derive(Clone)]
pub struct DirectoryStore(Arc<Shared>);

pub(crate) struct Shared {
    lock: LockFile,
    journal: Mutex<Journal>,
    changed: Condvar,
    clock: Arc<dyn Clock>,
}

impl DirectoryStore {
    /// Opens the store in `dir`, which is made if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Locked`], [`StoreError::Corrupt`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        DirectoryStore::open_with_clock(dir, Arc::new(WallClock))
    }

    /// Opens the store in `dir`; leases expire by that clock, which must be the same in all processes.
    ///
    /// # Errors
    /// As [`DirectoryStore::open`].
    pub fn open_with_clock(dir: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let dir: PathBuf = dir.as_ref().to_path_buf();
        std::fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        let lock = LockFile::open(&dir.join("lock"))?;
        let journal = {
            let _held = lock.acquire(Kind::Exclusive)?;
            Journal::open_or_create(&dir)?
        };
        Ok(DirectoryStore(Arc::new(Shared { lock, journal: Mutex::new(journal), changed: Condvar::new(), clock })))
    }
}

impl Shared {
    /// Shows the present state, and tells what `f` made of it.
    fn show<R>(&self, f: impl FnOnce(&State) -> R) -> Result<R, StoreError> {
        let mut journal = self.journal.lock();
        if journal.is_behind()? {
            let _held = self.lock.acquire(Kind::Shared)?;
            journal.refresh()?;
            self.changed.notify_all();
        }
        if journal.state().expire(self.clock.now_ms()).is_some() {
            self.write(&mut journal, |_, _| Ok(((), None)))?;
        }
        Ok(f(journal.state()))
    }

    /// Runs `f` on the state after expired leases were ended, and makes the change it returns.
    fn write<R>(
        &self,
        journal: &mut Journal,
        f: impl FnOnce(&State, u64) -> Result<(R, Option<Change>), StoreError>,
    ) -> Result<R, StoreError> {
        let _held = self.lock.acquire(Kind::Exclusive)?;
        journal.refresh()?;
        let now = self.clock.now_ms();
        if let Some(change) = journal.state().expire(now) {
            journal.append(change)?;
        }
        let (result, change) = f(journal.state(), now)?;
        if let Some(change) = change {
            journal.append(change)?;
        }
        self.changed.notify_all();
        Ok(result)
    }
}

impl Replica for Shared {
    fn read<R>(&self, f: impl FnOnce(&State) -> R) -> Result<R, StoreError> {
        self.show(f)
    }

    fn update<R>(
        &self,
        f: impl FnOnce(&State, u64) -> Result<(R, Option<Change>), StoreError>,
    ) -> Result<R, StoreError> {
        self.write(&mut self.journal.lock(), f)
    }

    fn wait(&self, seen: Revision, wait: Duration) {
        let mut journal = self.journal.lock();
        if journal.state().revision <= seen {
            self.changed.wait_for(&mut journal, wait.min(WATCH_STEP));
        }
    }
}

impl Local for DirectoryStore {
    type Replica = Shared;

    fn replica(&self) -> &Arc<Shared> {
        &self.0
    }
}
