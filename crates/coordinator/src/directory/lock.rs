//! The lock of a directory: an OS lock on a file, so that it ends with the process that holds it.
//!
//! Who wants the lock takes a turn first: a second lock, which is given back once the first is held. Without it a
//! process that commits without a pause would hold the lock nearly whenever another one looks for it, and starve it;
//! the turn it holds for moments only.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::store::StoreError;

/// How long the lock is waited for. Holders need milliseconds; one that is stopped must not stop the others for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(8);

/// How the lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With other readers.
    Shared,
    /// Alone.
    Exclusive,
}

/// The file that is locked. Two of them exclude each other in one process as well.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
    turn: File,
    path: PathBuf,
}

/// The lock, held.
pub(crate) struct Held<'a>(&'a LockFile);

impl LockFile {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
            file.map_err(StoreError::io("open", path))
        };
        Ok(LockFile { file: open(path)?, turn: open(&path.with_extension("turn"))?, path: path.to_path_buf() })
    }

    pub(crate) fn acquire(&self, kind: Kind) -> Result<Held<'_>, StoreError> {
        let operation = match kind {
            Kind::Shared => FlockOperation::NonBlockingLockShared,
            Kind::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        let start = Instant::now();
        self.wait(&self.turn, FlockOperation::NonBlockingLockExclusive, start)?;
        let held = self.wait(&self.file, operation, start);
        unlock(&self.turn);
        held.map(|()| Held(self))
    }

    /// Tries until it has that lock, or until patience is over.
    fn wait(&self, file: &File, operation: FlockOperation, start: Instant) -> Result<(), StoreError> {
        let mut pause = Duration::from_micros(50);
        loop {
            match flock(file, operation) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < PATIENCE => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    return Err(StoreError::Locked { path: self.path.clone(), waited: PATIENCE });
                }
                Err(e) => return Err(StoreError::io("lock", &self.path)(e.into())),
            }
        }
    }
}

/// Unlocking an open, locked file has no way to fail that could be acted on; closing it unlocks too.
fn unlock(file: &File) {
    let _ = flock(file, FlockOperation::Unlock);
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        unlock(&self.0.file);
    }
}
