//! What entries of a region's log did when they were applied, read again from the engine.
//!
//! Nothing here touches the store's thread: a snapshot of the engine has the log, how far it is applied, and where the
//! present range of the region begins in it.

use logtide_model::{HostError, LogBatch, LogEntries, Op, RegionId};
use raft::eraftpb::{Entry, EntryType};

use super::command::Command;
use super::records::{decode_entry, entry_key, malformed, read_region, read_replayable, read_truncated};
use crate::engine::{EngineCf, EngineSnapshot, KvEngine};

/// Entries of one batch at most, beside …
const BATCH_ENTRIES: usize = 256;
/// … the bytes of their entries.
const BATCH_BYTES: usize = 256 << 10;

/// The effects of the entries `from..=through` of a region; see [`logtide_model::Host::raft_log`].
pub(crate) fn replay(
    engine: &dyn KvEngine,
    region_id: RegionId,
    version: u64,
    from: u64,
    through: u64,
) -> Result<Option<Box<dyn LogEntries>>, HostError> {
    let snapshot = engine.snapshot();
    let Some((meta, applied)) = read_region(&*snapshot, region_id)? else {
        return Err(HostError::RegionNotFound(region_id));
    };
    if meta.region.epoch.version != version || from <= read_replayable(&*snapshot, region_id)? {
        return Ok(None);
    }
    if from <= read_truncated(&*snapshot, region_id)?.index {
        return Ok(None);
    }
    if through > applied.index {
        let wanted = format!("entry {through} of region {region_id} is not applied yet: {} is the last", applied.index);
        return Err(HostError::Unavailable(wanted));
    }
    Ok(Some(Box::new(Replay { snapshot, region_id, version, next: from, through })))
}

struct Replay {
    snapshot: Box<dyn EngineSnapshot>,
    region_id: RegionId,
    version: u64,
    next: u64,
    through: u64,
}

impl Replay {
    fn entry(&self, index: u64) -> Result<Entry, HostError> {
        let stored = self.snapshot.get(EngineCf::Raft, &entry_key(self.region_id, index))?;
        let entry = stored.and_then(|bytes| decode_entry(index, &bytes));
        Ok(entry.ok_or_else(|| malformed(self.region_id, &format!("entry {index}")))?)
    }

    fn batch(&mut self) -> Result<LogBatch, HostError> {
        let first_index = self.next;
        let (mut bytes, mut ops) = (0, Vec::new());
        while self.next <= self.through && self.next - first_index < BATCH_ENTRIES as u64 && bytes < BATCH_BYTES {
            let entry = self.entry(self.next)?;
            bytes += entry.data.len();
            ops.extend(effects(entry, self.version));
            self.next += 1;
        }
        Ok(LogBatch { first_index, last_index: self.next - 1, ops })
    }
}

impl Iterator for Replay {
    type Item = Result<LogBatch, HostError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > self.through {
            return None;
        }
        let batch = self.batch();
        if batch.is_err() {
            self.next = u64::MAX;
        }
        Some(batch)
    }
}

/// The changes of data that an entry made in a region of that version. Apply refused what was computed for another
/// version; and what changes the version, or tells of a file, is never asked for.
fn effects(entry: Entry, version: u64) -> Vec<Op> {
    if entry.entry_type != EntryType::EntryNormal as i32 || entry.data.is_empty() {
        return Vec::new();
    }
    match Command::parse(entry.data) {
        Ok(command) if command.version == version => command.into_ops().collect(),
        _ => Vec::new(),
    }
}
