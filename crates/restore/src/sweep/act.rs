//! What was found, and its removal: each object is looked at once more right before.

use std::collections::BTreeSet;
use std::sync::Arc;

use logtide_format::decode_metadata;
use logtide_storage::{LockError, LockOwner, StagedFile, Storage, WriteLock, remove_staged};
use object_store::{Error, ObjectStoreExt, path::Path};

use super::judge::{Object, decode, encode};
use super::object_of;
use super::report::{Kept, SweepOptions, SweepReason, SweepReport, count};
use crate::RestoreError;
use crate::fetch::spill;
use crate::log_info::unreadable;
use crate::memory::Means;
use crate::sort::{Merge, Runs, Sorter};

/// Objects that are removed between two looks at the lock.
const BETWEEN: u64 = 100;

/// Collects, counts, and at the end removes.
pub(super) struct Findings<'a> {
    storage: &'a Storage,
    options: &'a SweepOptions,
    means: &'a Means,
    report: SweepReport,
    runs: Arc<Runs>,
    sorter: Sorter<1>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(storage: &'a Storage, options: &'a SweepOptions, means: &'a Means) -> Self {
        let runs = Arc::new(means.runs());
        let sorter = Sorter::new([runs.clone()], means.shares.references, &means.budget);
        let (found, kept) = (Vec::new(), Vec::new());
        let (delete, url) = (options.delete, storage.url.clone());
        let report = SweepReport { storage: url, objects: 0, found, kept, delete, deleted: 0, deleted_bytes: 0 };
        Findings { storage, options, means, report, runs, sorter }
    }

    pub(super) fn looked_at(&mut self) {
        self.report.objects += 1;
    }

    /// Something is superfluous, if it is old enough. `by`: what stands for it.
    pub(super) fn found(&mut self, reason: SweepReason, object: &Object, by: &str) -> Result<(), RestoreError> {
        if self.options.now_ms.saturating_sub(object.modified_ms) < self.options.min_age_ms {
            self.kept(Kept::Young, object);
            return Ok(());
        }
        count(&mut self.report.found, reason, &object.path, object.bytes);
        let key = [&[reason as u8], object.path.as_bytes()].concat();
        let payload = [&encode(object)[..], b"\0", by.as_bytes()].concat();
        self.sorter.push(0, &key, &[&payload]).map_err(|e| spill(&self.means.temp_dir, e))
    }

    pub(super) fn kept(&mut self, why: Kept, object: &Object) {
        count(&mut self.report.kept, why, &object.path, object.bytes);
    }

    /// Removes what was found, if that was asked for.
    pub(super) async fn end(self) -> Result<SweepReport, RestoreError> {
        if !self.options.delete {
            return Ok(self.report);
        }
        let Findings { storage, options, means, report, runs, sorter } = self;
        let io = |e| spill(&means.temp_dir, e);
        sorter.finish();
        let set = runs.finish().map_err(io)?;
        let merge = Merge::new(set.cursors(b"", b"", means.shares.window, &means.budget).map_err(io)?);
        let owner = LockOwner { store_id: 0, boot: options.now_ms };
        let lock = WriteLock::new(storage.clone(), owner);
        let mut act = Act { storage, options, means, report, lock: &lock, since_look: None };
        let ended = act.remove_all(merge).await;
        let released = lock.release().await;
        ended?;
        released.map_err(|e| locked(storage, &e))?;
        Ok(act.report)
    }
}

fn locked(storage: &Storage, error: &LockError) -> RestoreError {
    RestoreError::Locked { storage: storage.url.clone(), cause: error.to_string() }
}

/// A sweep that removes.
struct Act<'a> {
    storage: &'a Storage,
    options: &'a SweepOptions,
    means: &'a Means,
    report: SweepReport,
    lock: &'a WriteLock,
    /// Objects removed since the lock was looked at; `None` before it is taken.
    since_look: Option<u64>,
}

impl Act<'_> {
    async fn remove_all(&mut self, mut merge: Merge) -> Result<(), RestoreError> {
        let io = |e| spill(&self.means.temp_dir, e);
        let mut next = Vec::new();
        loop {
            next.clear();
            let Some(reason) = merge.key().and_then(|key| SweepReason::ALL.get(usize::from(*key.first()?))).copied()
            else {
                return Ok(());
            };
            next.extend_from_slice(merge.payload().map_err(io)?);
            merge.advance().map_err(io)?;
            let at = next.iter().rposition(|byte| *byte == 0).unwrap_or(next.len());
            let (object, by) = next.split_at(at);
            let object = decode(object).map_err(|e| io(std::io::Error::other(e)))?;
            let by = String::from_utf8_lossy(by.get(1..).unwrap_or_default()).into_owned();
            self.remove(reason, &object, &by).await?;
        }
    }

    async fn remove(&mut self, reason: SweepReason, object: &Object, by: &str) -> Result<(), RestoreError> {
        if reason == SweepReason::TemporaryFile {
            let Object { path, bytes, modified_ms } = object.clone();
            remove_staged(self.storage, &StagedFile { path, bytes, modified_ms })?;
            self.removed(object);
            return Ok(());
        }
        // Locks of ours would keep us out as well.
        if reason != SweepReason::Lock {
            self.have_lock().await?;
        }
        if !self.is_the_same(object).await? || !by.is_empty() && !self.is_all_in(&object.path, by).await? {
            count(&mut self.report.kept, Kept::Changed, &object.path, object.bytes);
            return Ok(());
        }
        let path = Path::from(object.path.as_str());
        match self.storage.store.delete(&path).await {
            Ok(()) | Err(Error::NotFound { .. }) => self.removed(object),
            Err(e) => return Err(unreadable(self.storage, &object.path, e)),
        }
        Ok(())
    }

    fn removed(&mut self, object: &Object) {
        self.report.deleted += 1;
        self.report.deleted_bytes += object.bytes;
    }

    /// Takes the lock, or sees now and then that it is still held.
    async fn have_lock(&mut self) -> Result<(), RestoreError> {
        match &mut self.since_look {
            Some(removed) if *removed < BETWEEN => *removed += 1,
            _ => {
                self.lock.acquire(self.options.now_ms).await.map_err(|e| locked(self.storage, &e))?;
                self.since_look = Some(0);
            }
        }
        Ok(())
    }

    async fn is_the_same(&self, object: &Object) -> Result<bool, RestoreError> {
        match self.storage.store.head(&Path::from(object.path.as_str())).await {
            Ok(meta) => Ok(object_of(&meta) == *object),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(unreadable(self.storage, &object.path, e)),
        }
    }

    /// True if a metadata object tells of nothing that the other one does not tell of.
    async fn is_all_in(&self, path: &str, by: &str) -> Result<bool, RestoreError> {
        let (Some(one), Some(all)) = (self.data_of(path).await?, self.data_of(by).await?) else { return Ok(false) };
        Ok(one.is_subset(&all))
    }

    /// Data objects of a metadata object, each with its files; `None` if it is gone.
    async fn data_of(&self, path: &str) -> Result<Option<BTreeSet<(String, Vec<u64>)>>, RestoreError> {
        let failed = |e| unreadable(self.storage, path, e);
        let bytes = match self.storage.store.get(&Path::from(path)).await {
            Ok(got) => got.bytes().await.map_err(failed)?,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let metadata = decode_metadata(path, &bytes)?;
        let offsets = |infos: &[logtide_format::proto::DataFileInfo]| infos.iter().map(|i| i.range_offset).collect();
        Ok(Some(metadata.file_groups.iter().map(|g| (g.path.clone(), offsets(&g.data_files_info))).collect()))
    }
}
