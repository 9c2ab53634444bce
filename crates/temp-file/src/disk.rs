//! The disk of the spools: how much all of them have there, and whether it takes more.
//!
//! It owns: the quota, and how the disk fares. It does not own: the content of files (`file`), what becomes of records
//! that find no room (`spool`, and crate `shard`).
//!
//! The disk is *shut*, and nothing new is written, in two cases:
//! * It is *full*: a write would have passed the quota. So it stays until files were removed and it is below its low-water
//!   mark, so that nobody who waits for room is let in for a moment only.
//! * It is *out*: it failed at a request, whichever (no space, read-only, an error). It is tried again with back-off, by a
//!   file that is written, read and removed, and is used again once that goes well and no file is left that could not be
//!   removed. It has no clock: whoever polls it says what time it is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use logtide_model::{Diagnose, MemoryBudget, Permit};

use crate::files::{Files, RawFile, SystemFiles};
use crate::room::SpoolTrouble;
use crate::stale::new_path;
use crate::{SpoolError, file};

/// The longest wait before the first try, and before any.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(16));
/// A disk that was well for so long starts with the first wait again.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The disk of all spools of a store. Cloning shares it.
#[derive(Clone, Debug)]
pub struct SpoolDisk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    files: Arc<dyn Files>,
    /// Bytes on the disk, or promised to be.
    bytes: MemoryBudget,
    full: AtomicBool,
    out: AtomicBool,
    care: Mutex<Care>,
}

/// A disk that is out.
#[derive(Debug, Default)]
struct Care {
    trouble: Option<SpoolTrouble>,
    /// When it is tried again; `None` until somebody says what time it is.
    retry: Option<Instant>,
    failures: u32,
    failed: Option<Instant>,
    /// Files that could not be removed. Their bytes are not given back before they are.
    left: Vec<(PathBuf, Permit)>,
}

impl SpoolDisk {
    /// The disk of `dir`, of which spools may use `quota` bytes.
    pub fn new(dir: impl Into<PathBuf>, quota: u64) -> Self {
        Self::with_files(dir, quota, Arc::new(SystemFiles))
    }

    /// The same with other files than those of the system.
    pub fn with_files(dir: impl Into<PathBuf>, quota: u64, files: Arc<dyn Files>) -> Self {
        let bytes = MemoryBudget::new(usize::try_from(quota).unwrap_or(usize::MAX));
        let (full, out, care) = Default::default();
        SpoolDisk(Arc::new(Inner { dir: dir.into(), files, bytes, full, out, care }))
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Bytes of all files of open and sealed generations that were not removed yet, and of what sealing will add to them.
    pub fn used(&self) -> u64 {
        self.0.bytes.used() as u64
    }

    /// How many bytes spools may use.
    pub fn quota(&self) -> u64 {
        self.0.bytes.limit() as u64
    }

    /// Changes the quota; what is written stays.
    pub fn set_quota(&self, bytes: u64) {
        self.0.bytes.set_limit(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    /// A disk that was full takes bytes again below so many: three quarters of the quota.
    pub fn low_water(&self) -> u64 {
        self.quota() / 4 * 3
    }

    /// True if the disk failed and has not been seen to be well since.
    pub fn is_out(&self) -> bool {
        self.0.out.load(Ordering::Relaxed)
    }

    /// True if the quota is used up, or was and the low-water mark is not reached.
    pub fn is_full(&self) -> bool {
        if !self.0.full.load(Ordering::Relaxed) {
            return false;
        }
        let full = self.used() > self.low_water();
        if !full && self.0.full.swap(false, Ordering::Relaxed) {
            tracing::info!(dir = %self.0.dir.display(), used = self.used(), "the disk of the spool has room again");
        }
        full
    }

    /// True if something may be written.
    pub(crate) fn takes(&self) -> bool {
        !self.is_out() && !self.is_full()
    }

    /// What is the matter with it.
    pub(crate) fn trouble(&self) -> Option<SpoolTrouble> {
        if self.is_out()
            && let Some(trouble) = &self.care().trouble
        {
            return Some(trouble.clone());
        }
        let (dir, quota) = (self.0.dir.clone(), self.quota());
        self.is_full().then_some(SpoolTrouble::Full { dir, quota })
    }

    /// Tries a disk again that is out, if it is time; of threads that poll it, one does it. It may block.
    pub fn poll(&self, now: Instant) {
        if !self.is_out() {
            return;
        }
        let mut care = match self.0.care.try_lock() {
            Ok(care) => care,
            Err(TryLockError::Poisoned(care)) => care.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        match care.retry {
            None => care.wait(now),
            Some(at) if now < at => {}
            Some(_) => match self.try_again(&mut care) {
                Ok(()) => {
                    tracing::info!(dir = %self.0.dir.display(), "the disk of the spool works again");
                    (care.trouble, care.retry) = (None, None);
                    self.0.out.store(false, Ordering::Relaxed);
                }
                Err(error) => {
                    care.trouble = Some(SpoolTrouble::of(&error));
                    care.wait(now);
                }
            },
        }
    }

    /// A file can be written, read and removed, as many bytes as a spool writes at once; and so is what was left.
    fn try_again(&self, care: &mut Care) -> Result<(), SpoolError> {
        let path = new_path(&self.0.dir, "probe");
        file::probe(&path, &*self.0.files)?;
        while let Some((path, _)) = care.left.last() {
            file::remove(path, &*self.0.files)?;
            care.left.pop();
        }
        Ok(())
    }

    /// Looks whether the disk can be used at all.
    pub(crate) fn look(&self) {
        if !self.is_out()
            && let Err(error) = file::probe(&new_path(&self.0.dir, "probe"), &*self.0.files)
        {
            self.failed(&error);
        }
    }

    pub(crate) fn create(&self, path: &Path) -> Result<Box<dyn RawFile>, SpoolError> {
        self.0.files.create(path).map_err(SpoolError::io("create", path))
    }

    /// Removes a file and gives its bytes back.
    pub(crate) fn remove(&self, path: &Path, bytes: Permit) {
        if let Err(error) = file::remove(path, &*self.0.files) {
            self.failed(&error);
            self.care().left.push((path.to_owned(), bytes));
        }
    }

    /// It failed at something: it is out.
    pub(crate) fn failed(&self, error: &SpoolError) {
        let mut care = self.care();
        if !self.0.out.swap(true, Ordering::Relaxed) {
            let remedy = error.remedy();
            tracing::warn!(%error, remedy, "the disk of the spool fails: what is spooled stays in memory");
            care.trouble = Some(SpoolTrouble::of(error));
            care.retry = None;
        }
    }

    /// A permit for a file without bytes.
    pub(crate) fn permit(&self) -> Permit {
        self.0.bytes.force_acquire(0)
    }

    /// Makes `permit` cover `bytes`; false if the disk does not take so many.
    pub(crate) fn reserve(&self, permit: &mut Permit, bytes: u64) -> bool {
        let more = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(permit.bytes());
        if self.is_out() || (more > 0 && self.is_full()) {
            return false;
        }
        if more == 0 {
            return true;
        }
        let taken = self.0.bytes.try_acquire(more);
        if taken.is_none() && !self.0.full.swap(true, Ordering::Relaxed) {
            let (dir, quota) = (self.0.dir.display(), self.quota());
            tracing::warn!(%dir, quota, "the disk quota of the spool is used up: what is spooled stays in memory");
        }
        taken.map(|more| permit.merge(more)).is_some()
    }

    fn care(&self) -> MutexGuard<'_, Care> {
        // Nothing panics while it holds the lock; if something did, what it left is still consistent.
        self.0.care.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Care {
    /// It failed; the next try is due later.
    fn wait(&mut self, now: Instant) {
        if self.failed.is_none_or(|at| now.saturating_duration_since(at) > FORGOTTEN) {
            self.failures = 0;
        }
        let (first, cap) = RETRY;
        self.retry = Some(now + first.saturating_mul(1 << self.failures.min(16)).min(cap));
        self.failures += 1;
        self.failed = Some(now);
    }
}
