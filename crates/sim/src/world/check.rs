//! What has to hold: after every step what is cheap to see, at some moments a restore that is compared with the truth.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use logtide_format::{MARKS_PREFIX, Mark, decode_marks};
use logtide_model::{KeyRange, Ts, decode_raw_key, encode_raw_key};
use logtide_restore::{MemorySink, RestoreError, RestoreOptions, Silent, restore_to};
use logtide_storage::{Storage, read_checkpoint};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::World;
use crate::violation::Violation;

/// Values by raw key.
type State = BTreeMap<Vec<u8>, Vec<u8>>;

impl World {
    /// After every step.
    pub(crate) fn observe(&mut self) -> Result<(), Violation> {
        let checkpoint = self.global_checkpoint()?;
        if checkpoint < self.task.checkpoint {
            return Err(Violation::Checkpoint(format!(
                "the global checkpoint went down from {} to {checkpoint}",
                self.task.checkpoint
            )));
        }
        if checkpoint > self.task.checkpoint {
            self.counts.advances += 1;
            self.digest.add_number(checkpoint.get());
            self.task.checkpoint = checkpoint;
            self.history.completed(checkpoint);
        }
        let disk_failed = self.disks.failures() > 0;
        if let Some(over) = self.nodes.values().chain(&self.zombies).find_map(|node| node.over_budget(disk_failed)) {
            return Err(Violation::Memory(over));
        }
        // Whoever finds a record gone answers what must not be.
        let unexpected = self.client.violations().into_iter().next();
        if let Some(answer) = unexpected.filter(|_| !self.history.has_range_deletes()) {
            return Err(Violation::Broken(answer));
        }
        match self.history.lies().into_iter().next() {
            Some(lie) => Err(Violation::Lie(lie)),
            None => Ok(()),
        }
    }

    pub(crate) fn global_checkpoint(&self) -> Result<Ts, Violation> {
        let checkpoint = self.tasks.global_checkpoint(&self.task.name).map_err(|e| Violation::broken(&e))?;
        Ok(checkpoint.unwrap_or(Ts::ZERO))
    }

    /// Restores to the checkpoint of the storage if it is new.
    pub(crate) fn compare_if_new(&mut self) -> Result<(), Violation> {
        let upto = self.storage_checkpoint()?;
        if upto == self.task.storage_checkpoint {
            return Ok(());
        }
        self.task.storage_checkpoint = upto;
        self.compare(u32::MAX)
    }

    /// What the storage itself says.
    pub(crate) fn storage_checkpoint(&mut self) -> Result<Option<Ts>, Violation> {
        let Some(storage) = self.task.calm() else { return Ok(None) };
        self.auditor.block_on(read_checkpoint(&storage)).map_err(|e| Violation::Restore(e.to_string()))
    }

    /// Restores to a moment that `n` chooses and compares in both directions.
    pub(crate) fn compare(&mut self, n: u32) -> Result<(), Violation> {
        let Some(storage) = self.task.calm() else { return Ok(()) };
        let Some(upto) = self.storage_checkpoint()? else { return Ok(()) };
        if upto > self.task.checkpoint {
            let global = self.task.checkpoint;
            return Err(Violation::Checkpoint(format!("the storage says {upto}, the coordinator {global}")));
        }
        let ts = self.history.moment(upto, n);
        self.restore(&storage, ts)
    }

    /// Restores to `ts`. It may be refused where there are marks, and only there. If it is forced then, it succeeds; what the
    /// marks do not tell of has to be exact all the same, and what they tell of has to be something that once was.
    fn restore(&mut self, storage: &Storage, ts: Ts) -> Result<(), Violation> {
        let marks = self.marks(storage)?;
        let unsure: Vec<KeyRange> = marks.into_iter().filter(|m| m.after < ts).map(|m| m.range).collect();
        let failed = |e: RestoreError| Violation::Restore(format!("a restore to {ts} failed: {e}; marked: {unsure:?}"));
        let mut options = RestoreOptions::for_sink();
        options.restored_ts = Some(ts);
        options.threads = Some(0);
        options.keys = Arc::new(self.task.keys());
        let mut restored = self.auditor.block_on(restore_to(storage, &options, MemorySink, &Silent));
        match (&restored, unsure.is_empty()) {
            (Err(RestoreError::Inexact { .. }), false) => {
                options.allow_inexact = true;
                restored = self.auditor.block_on(restore_to(storage, &options, MemorySink, &Silent));
                self.counts.refusals += 1;
            }
            (Ok(_), false) => return Err(Violation::Restore(format!("a restore to {ts} is not refused: {unsure:?}"))),
            _ => {}
        }
        let (summary, state) = restored.map_err(failed)?;
        self.counts.lost_values += summary.records.lost_values;
        let restored = state.state_at(ts).map_err(failed)?;
        self.counts.restores += 1;
        self.digest.add_number(restored.len() as u64);
        self.equals_truth(restored, ts, &unsure)
    }

    /// What the storage says that the log cannot tell; checked against what happened.
    fn marks(&mut self, storage: &Storage) -> Result<Vec<Mark>, Violation> {
        if !self.history.has_range_deletes() {
            return Ok(Vec::new());
        }
        let objects = self.auditor.block_on(async {
            let prefix = Path::from(MARKS_PREFIX);
            let listed: Vec<_> = storage.store.list(Some(&prefix)).try_collect().await?;
            let mut objects = Vec::new();
            for meta in listed {
                objects.push((meta.location.to_string(), storage.store.get(&meta.location).await?.bytes().await?));
            }
            Ok::<_, object_store::Error>(objects)
        });
        let mut marks = Vec::new();
        for (name, bytes) in objects.map_err(|e| Violation::broken(&e))? {
            marks.extend(decode_marks(&name, &bytes).map_err(|e| Violation::Restore(e.to_string()))?.1);
        }
        match marks.iter().find_map(|mark| self.history.fault_of(mark)) {
            Some(fault) => Err(Violation::Restore(fault)),
            None => Ok(marks),
        }
    }

    /// By raw key, in both directions.
    fn equals_truth(&self, mut restored: State, ts: Ts, unsure: &[KeyRange]) -> Result<(), Violation> {
        let sure = |encoded: &[u8]| !unsure.iter().any(|range| range.contains(encoded));
        for encoded in self.history.keys().iter().filter(|encoded| !sure(encoded)) {
            let raw = decode_raw_key(encoded).map_err(|e| Violation::broken(&e))?;
            if !self.history.allows(encoded, ts, restored.get(&raw).map(|value| &value[..])) {
                return Err(self.differs(encoded, ts, "what no range delete explains"));
            }
        }
        for (encoded, truth) in self.history.visible(ts) {
            let raw = decode_raw_key(&encoded).map_err(|e| Violation::broken(&e))?;
            let found = restored.remove(&raw);
            let is = |seen: &Option<(Ts, Bytes)>| found.as_deref() == seen.as_ref().map(|(_, value)| &value[..]);
            if sure(&encoded) && !is(&truth.before) && !is(&truth.after) {
                let of = |seen: &Option<(Ts, Bytes)>| {
                    seen.as_ref().map_or("nothing".to_owned(), |(commit_ts, _)| format!("that of {commit_ts}"))
                };
                let has = found.as_ref().map_or("nothing", |_| "another value");
                let due = format!("{has} instead of {}, or {}", of(&truth.before), of(&truth.after));
                return Err(self.differs(&encoded, ts, &due));
            }
        }
        let surplus = restored.into_keys().map(|raw| encode_raw_key(&raw)).find(|encoded| sure(encoded));
        surplus.map_or(Ok(()), |encoded| Err(self.differs(&encoded, ts, "a value where there is none")))
    }

    fn differs(&self, encoded: &[u8], ts: Ts, what: &str) -> Violation {
        let checkpoint = self.task.checkpoint;
        let known = self.history.explain(encoded);
        Violation::Restore(format!("key {encoded:02x?} restored to {ts} (checkpoint {checkpoint}) has {what}; {known}"))
    }
}
