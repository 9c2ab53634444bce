//! Finds what is superfluous in the storage of a log backup, by rule, and removes it if it is asked to.
//!
//! What a crash leaves at any durable step is here: data of a flush that was not committed, metadata that was merged and
//! not deleted, locks, probes, files that were being written. Nothing that a metadata object refers to is touched, nothing
//! that may still be committed, and nothing whose name is not known. An object that is damaged ends the sweep: what it
//! refers to is not known.

mod act;
mod classify;
mod judge;
mod report;

use std::collections::BTreeMap;

use futures::TryStreamExt;
use logtide_format::{decode_checkpoint, decode_head};
use logtide_model::{KeyRange, Ts};
use logtide_storage::{StagedFile, Storage, find_locks, read_backupmeta, read_identity, staged_files};
use object_store::{ObjectMeta, ObjectStoreExt, path::Path};

use crate::chain::Place;
use crate::filling::Filling;
use crate::log_info::unreadable;
use crate::memory::{MIN_MEMORY, Means};
use crate::meter::Meter;
use crate::plan::Window;
use crate::{RestoreError, RestoreOptions};
use act::Findings;
use classify::Sort;
use judge::{Judge, Object, Verdict};
pub use report::{Kept, SweepOptions, SweepReason, SweepReport, SweepRow};

/// Looks for what is superfluous, and removes it if the options say so. Memory does not depend on the number of objects.
///
/// # Errors
/// [`RestoreError::NotALog`] for a prefix without identity, [`RestoreError::Locked`] if it is to be removed while others
/// work there, [`RestoreError::Memory`]; a metadata object that is damaged or cannot be read;
/// [`RestoreError::Storage`], [`RestoreError::Local`].
pub async fn sweep(storage: &Storage, options: &SweepOptions) -> Result<SweepReport, RestoreError> {
    if options.memory < 2 * MIN_MEMORY {
        let what = "a sweep".to_owned();
        return Err(RestoreError::Memory { what, needed: 2 * MIN_MEMORY, memory: options.memory });
    }
    let is_log = read_backupmeta(storage).await?.is_some_and(|head| head.end_ts.is_zero());
    if !is_log && read_identity(storage).await?.is_none() {
        return Err(RestoreError::NotALog { storage: storage.url.clone() });
    }
    let mut shared = RestoreOptions::for_sink();
    // Half for reading metadata, half for what is sorted.
    (shared.memory, shared.concurrency, shared.threads) = (options.memory / 2, options.concurrency, Some(1));
    let temp_dir = options.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
    let means = Means::new(&shared, &temp_dir);
    let mut findings = Findings::new(storage, options, &means);
    let judge = Sweep { storage, means: &means, judge: Judge::new(&means), findings: &mut findings }.look().await?;
    judge.verdicts(&mut |verdict| match verdict {
        Verdict::Superfluous(reason, object) => findings.found(reason, &object, ""),
        Verdict::Merged(object, by) => findings.found(SweepReason::MergedMetadata, &object, &by),
        Verdict::Keep(why, object) => {
            findings.kept(why, &object);
            Ok(())
        }
    })?;
    findings.end().await
}

/// A sweep that looks.
struct Sweep<'a, 'b> {
    storage: &'a Storage,
    means: &'a Means,
    judge: Judge<'a>,
    findings: &'b mut Findings<'a>,
}

impl<'a> Sweep<'a, '_> {
    /// Lists all, then reads all metadata.
    async fn look(mut self) -> Result<Judge<'a>, RestoreError> {
        let storage = self.storage;
        let mut checkpoints = BTreeMap::new();
        let mut all = storage.store.list(None);
        while let Some(meta) = all.try_next().await.map_err(|e| unreadable(storage, "", e))? {
            self.findings.looked_at();
            self.listed(&meta, &mut checkpoints).await?;
        }
        drop(all);
        self.locks().await?;
        let mut spilled = Ok(());
        staged_files(storage, &mut |StagedFile { path, bytes, modified_ms }| {
            if spilled.is_ok() {
                let object = Object { path, bytes, modified_ms };
                spilled = self.findings.found(SweepReason::TemporaryFile, &object, "");
            }
        })?;
        spilled?;
        let mut window = Window::new(Ts::ZERO, Ts::MAX, KeyRange::ALL);
        window.values_from = Ts::ZERO;
        let meter = Meter::default();
        let filling = Filling::new(storage, self.means, self.judge, &window, &meter);
        // It is never too narrow, so there is always an answer.
        let judge = filling.fill().await?.ok_or(RestoreError::Cancelled)?;
        let largest = checkpoints.values().map(|(ts, _)| *ts).max().unwrap_or_default();
        for (store, (ts, object)) in checkpoints {
            if ts < largest && !judge.stores.contains(&store) {
                self.findings.found(SweepReason::StrayCheckpoint, &object, "")?;
            }
        }
        Ok(judge)
    }

    async fn listed(
        &mut self,
        meta: &ObjectMeta,
        checkpoints: &mut BTreeMap<u64, (Ts, Object)>,
    ) -> Result<(), RestoreError> {
        let object = object_of(meta);
        match Sort::of(&object.path) {
            Sort::Data(name) => self.judge.data(&name, &object)?,
            Sort::Head => {
                if let Some(bytes) = self.read(&object.path).await? {
                    self.judge.committed(&decode_head(&object.path, &bytes)?.1)?;
                }
            }
            Sort::MergedHead { store, boot, generation } => {
                self.judge.merged_head(Place { store, boot, generation }, &object)?;
            }
            Sort::Checkpoint { store } => {
                if let Some(bytes) = self.read(&object.path).await? {
                    checkpoints.insert(store, (decode_checkpoint(&object.path, &bytes)?, object));
                }
            }
            Sort::Probe => self.findings.found(SweepReason::Probe, &object, "")?,
            Sort::Unknown => self.findings.kept(Kept::Unknown, &object),
            Sort::Metadata => self.judge.metadata(&object)?,
            Sort::Lock | Sort::Fixed => {}
        }
        Ok(())
    }

    async fn locks(&mut self) -> Result<(), RestoreError> {
        for (path, owner) in find_locks(self.storage).await? {
            let head = self.storage.store.head(&Path::from(path.as_str())).await;
            let Ok(meta) = head else { continue };
            match owner {
                Some(_) => self.findings.found(SweepReason::Lock, &object_of(&meta), "")?,
                None => self.findings.kept(Kept::LockOfOthers, &object_of(&meta)),
            }
        }
        Ok(())
    }

    async fn read(&self, object: &str) -> Result<Option<bytes::Bytes>, RestoreError> {
        let failed = |e| unreadable(self.storage, object, e);
        match self.storage.store.get(&Path::from(object)).await {
            Ok(got) => got.bytes().await.map(Some).map_err(failed),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }
}

fn object_of(meta: &ObjectMeta) -> Object {
    let modified_ms = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
    Object { path: meta.location.to_string(), bytes: meta.size, modified_ms }
}
