//! The lock of a directory: an OS lock on a file, so that it ends with the process that holds it.

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
    path: PathBuf,
}

/// The lock, held.
pub(crate) struct Held<'a>(&'a LockFile);

impl LockFile {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(StoreError::io("open", path))?;
        Ok(LockFile { file, path: path.to_path_buf() })
    }

    pub(crate) fn acquire(&self, kind: Kind) -> Result<Held<'_>, StoreError> {
        let operation = match kind {
            Kind::Shared => FlockOperation::NonBlockingLockShared,
            Kind::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        let (start, mut pause) = (Instant::now(), Duration::from_micros(50));
        loop {
            match flock(&self.file, operation) {
                Ok(()) => return Ok(Held(self)),
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

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Unlocking an open, locked file has no way to fail that could be acted on; closing it unlocks too.
        let _ = flock(&self.0.file, FlockOperation::Unlock);
    }
}
