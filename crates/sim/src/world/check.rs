//! What has to hold: after every step what is cheap to see, at some moments a restore that is compared with the truth.

use logtide_model::{KeyRange, Ts, decode_raw_key};
use logtide_restore::{MemorySink, RestoreOptions, Silent, restore_to};
use logtide_storage::read_checkpoint;

use super::World;
use super::node::MEMORY;
use crate::violation::Violation;

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
        let peak = self.nodes.values().chain(&self.zombies).map(|node| node.stepped.events_peak()).max();
        if let Some(peak) = peak.filter(|peak| *peak > MEMORY) {
            return Err(Violation::Memory(format!("{peak} bytes of events were on their way, of {MEMORY}")));
        }
        if let Some(answer) = self.client.violations().into_iter().next() {
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

    fn restore(&mut self, storage: &logtide_storage::Storage, ts: Ts) -> Result<(), Violation> {
        let mut options = RestoreOptions::for_sink();
        options.restored_ts = Some(ts);
        options.threads = Some(0);
        let restored = self.auditor.block_on(restore_to(storage, &options, MemorySink, &Silent));
        let (_, state) = restored.map_err(|e| Violation::Restore(format!("a restore to {ts} failed: {e}")))?;
        let mut restored = std::collections::BTreeMap::new();
        let dumped = state.dump(ts, &KeyRange::ALL, &mut |key, value| {
            restored.insert(key.to_vec(), value.to_vec());
            Ok(())
        });
        dumped.map_err(|e| Violation::Restore(format!("the state restored to {ts} cannot be read: {e}")))?;
        self.counts.restores += 1;
        self.digest.add_number(restored.len() as u64);
        for (encoded, (commit_ts, value)) in self.history.visible(Ts::ZERO, ts) {
            let raw = decode_raw_key(&encoded).map_err(|e| Violation::broken(&e))?;
            match restored.remove(&raw) {
                Some(found) if found == value => {}
                Some(_) => return Err(self.differs(&encoded, ts, &format!("another value than that of {commit_ts}"))),
                None => return Err(self.differs(&encoded, ts, &format!("nothing, but {commit_ts} is there"))),
            }
        }
        match restored.into_iter().next() {
            Some((raw, _)) => {
                let encoded = logtide_model::encode_raw_key(&raw);
                Err(self.differs(&encoded, ts, "a value where there is none"))
            }
            None => Ok(()),
        }
    }

    fn differs(&self, encoded: &[u8], ts: Ts, what: &str) -> Violation {
        let checkpoint = self.task.checkpoint;
        let known = self.history.explain(encoded);
        Violation::Restore(format!("key {encoded:02x?} restored to {ts} (checkpoint {checkpoint}) has {what}; {known}"))
    }
}
