//! What lies in the storage at the end: each object is one that metadata refers to, one of a known kind, or the remains
//! of something that did not come to its end, which their names tell.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use logtide_format::{CHECKPOINT_PREFIX, HEAD_PREFIX, MARKS_PREFIX, METADATA_PREFIX, MetaName, decode_metadata};
use logtide_model::Ts;
use logtide_restore::{MIN_MEMORY, RestoreError, SweepOptions, sweep};
use logtide_storage::{BACKUPMETA_OBJECT, IDENTITY_OBJECT, LOCK_FAMILIES, LOCK_OBJECT, OWN_PREFIX, Storage};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::World;
use crate::violation::Violation;

/// What all metadata objects say of others.
#[derive(Default)]
struct Referred {
    data: BTreeSet<String>,
}

impl World {
    /// Every object is accounted for, and none is missing that metadata refers to.
    pub(crate) fn account_for_objects(&mut self) -> Result<(), Violation> {
        let Some(storage) = self.task.calm() else { return Ok(()) };
        let orphans = self.orphans(&storage)?;
        self.counts.orphans = orphans.len() as u64;
        if !orphans.is_empty() {
            self.sweep(&storage)?;
        }
        self.flush_ts_rises()
    }

    /// What nothing refers to is removed by a sweep, or kept for a reason that it gives; and the backup is what it was.
    fn sweep(&mut self, storage: &Storage) -> Result<(), Violation> {
        let mut options = SweepOptions::at(u64::MAX);
        (options.delete, options.min_age_ms, options.memory) = (true, 0, 2 * MIN_MEMORY);
        let kept = match self.auditor.block_on(sweep(storage, &options)) {
            Ok(report) => report.kept.iter().map(|row| row.objects).sum::<u64>(),
            // Somebody merges right now.
            Err(RestoreError::Locked { .. }) => return Ok(()),
            Err(error) => return Err(Violation::Restore(format!("a sweep failed: {error}"))),
        };
        let left = self.orphans(storage)?;
        if left.len() as u64 > kept {
            return Err(Violation::Restore(format!("a sweep keeps {kept} objects, and these are left: {left:?}")));
        }
        self.compare(u32::MAX)
    }

    /// Objects that nothing refers to.
    fn orphans(&mut self, storage: &Storage) -> Result<Vec<String>, Violation> {
        let names = self.auditor.block_on(names(storage))?;
        let mut referred = Referred::default();
        for name in names.iter().filter(|name| name.starts_with(METADATA_PREFIX)) {
            self.auditor.block_on(referred.read(storage, name))?;
        }
        if let Some(lost) = referred.data.iter().find(|name| !names.contains(*name)) {
            return Err(Violation::Restore(format!("metadata refers to {lost}, which is not there")));
        }
        let mut orphans = Vec::new();
        for name in &names {
            match referred.knows(name) {
                Some(true) => {}
                Some(false) => orphans.push(name.clone()),
                None => return Err(Violation::Restore(format!("nobody knows what {name} is"))),
            }
        }
        Ok(orphans)
    }
}

impl World {
    /// In a boot of a store, every generation has a larger flush ts than the one before, whatever became of the timestamp
    /// service. (Merged objects are named after generations that have had objects before.)
    fn flush_ts_rises(&self) -> Result<(), Violation> {
        let mut flushes: BTreeMap<(u64, u64), BTreeMap<u64, Ts>> = BTreeMap::new();
        for (name, _) in self.task.puts_of_life() {
            if let Ok(MetaName { flush_ts, store_id, tag: Some(tag), .. }) = MetaName::parse(&name) {
                flushes.entry((store_id, tag.boot)).or_default().entry(tag.generation).or_insert(flush_ts);
            }
        }
        for ((store, boot), generations) in flushes {
            if !generations.values().is_sorted_by(|a, b| a < b) {
                let what =
                    format!("store {store} flushed at timestamps that do not rise in boot {boot}: {generations:?}");
                return Err(Violation::Checkpoint(what));
            }
        }
        Ok(())
    }
}

impl Referred {
    async fn read(&mut self, storage: &Storage, name: &str) -> Result<(), Violation> {
        let broken = |e: object_store::Error| Violation::broken(&e);
        let bytes = storage.store.get(&Path::from(name)).await.map_err(broken)?.bytes().await.map_err(broken)?;
        let unreadable = |e: logtide_format::FormatError| Violation::Restore(e.to_string());
        let metadata = decode_metadata(name, &bytes).map_err(unreadable)?;
        self.data.extend(metadata.file_groups.into_iter().map(|group| group.path));
        Ok(())
    }

    /// True for an object that has its place (marks have it without metadata, too: a generation may have nothing
    /// else), false for one that nothing refers to; `None` for a stranger.
    fn knows(&self, name: &str) -> Option<bool> {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        if [IDENTITY_OBJECT, BACKUPMETA_OBJECT, LOCK_OBJECT].contains(&name)
            || begins(&[CHECKPOINT_PREFIX, HEAD_PREFIX, METADATA_PREFIX, MARKS_PREFIX])
        {
            return Some(true);
        }
        // A probe, or the lock of a merge, that did not come to its end.
        let is_lock = LOCK_FAMILIES.iter().any(|(_, lock, _)| name.starts_with(lock));
        if is_lock || name.starts_with(&format!("{OWN_PREFIX}/probe/")) {
            return Some(false);
        }
        (name.starts_with("v1/") && name.ends_with(".log")).then(|| self.data.contains(name))
    }
}

async fn names(storage: &Storage) -> Result<BTreeSet<String>, Violation> {
    let listed = storage.store.list(None).map_ok(|meta| meta.location.to_string()).try_collect();
    listed.await.map_err(|e: object_store::Error| Violation::broken(&e))
}
