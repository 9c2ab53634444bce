//! The raft log of one peer: [`raft::Storage`] over the engine, with the newest entries in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use logtide_model::RegionId;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::records::{
    EntryId, decode_entry, encode_entry, entry_key, malformed, put_hard_state, put_truncated, read_hard_state,
    read_last_index, read_merge_state, read_states, read_truncated,
};
use super::snapshot;
use crate::engine::{EngineCf, EngineError, KvEngine, WriteBatch};

/// Applied entries stay in memory up to so many bytes, for followers that are a little behind.
const CACHE_BYTES: usize = 256 << 10;

/// See the module.
pub(crate) struct RaftLog {
    region_id: RegionId,
    engine: Arc<dyn KvEngine>,
    conf: ConfState,
    hard: HardState,
    truncated: EntryId,
    last_index: u64,
    /// The newest entries, up to `last_index`, without a hole.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
}

impl RaftLog {
    /// Reads what the engine has of a region; returns the applied index too.
    pub(crate) fn load(
        region_id: RegionId,
        voters: Vec<u64>,
        engine: Arc<dyn KvEngine>,
    ) -> Result<(RaftLog, u64), EngineError> {
        let (hard, applied) = read_states(&*engine, region_id)?;
        let truncated = read_truncated(&*engine.snapshot(), region_id)?;
        let last_index = read_last_index(&*engine, region_id, hard.commit)?;
        let conf = ConfState { voters, ..ConfState::default() };
        let log =
            RaftLog { region_id, engine, conf, hard, truncated, last_index, cache: VecDeque::new(), cache_bytes: 0 };
        Ok((log, applied))
    }

    /// The log of a peer that does not know its region yet: without entries, though it may have voted.
    pub(crate) fn unborn(region_id: RegionId, engine: Arc<dyn KvEngine>) -> Result<RaftLog, EngineError> {
        let hard = read_hard_state(&*engine, region_id)?.unwrap_or_default();
        let (conf, truncated, cache) = (ConfState::default(), EntryId::NONE, VecDeque::new());
        Ok(RaftLog { region_id, engine, conf, hard, truncated, last_index: 0, cache, cache_bytes: 0 })
    }

    /// A snapshot takes the place of all entries; the engine is told by [`snapshot::put`].
    pub(crate) fn reset(&mut self, to: EntryId) {
        (self.truncated, self.last_index) = (to, to.index);
        self.cache.clear();
        self.cache_bytes = 0;
    }

    /// Takes new entries in, instead of those of the same and higher indexes; they are in the engine once the batch is.
    pub(crate) fn append(&mut self, entries: Vec<Entry>, batch: &mut WriteBatch) {
        let Some(first) = entries.first().map(|e| e.index) else { return };
        while self.cache.back().is_some_and(|e| e.index >= first) {
            self.cache_bytes -= self.cache.pop_back().map_or(0, |e| e.data.len());
        }
        let old_last = self.last_index;
        for entry in entries {
            batch.put(EngineCf::Raft, entry_key(self.region_id, entry.index), encode_entry(&entry));
            self.last_index = entry.index;
            self.cache_bytes += entry.data.len();
            self.cache.push_back(entry);
        }
        for index in self.last_index + 1..=old_last {
            batch.delete(EngineCf::Raft, entry_key(self.region_id, index));
        }
    }

    /// Takes a new hard state in.
    pub(crate) fn set_hard_state(&mut self, hard: HardState, batch: &mut WriteBatch) {
        put_hard_state(batch, self.region_id, &hard);
        self.hard = hard;
    }

    /// Takes a new commit index in.
    pub(crate) fn set_commit(&mut self, commit: u64, batch: &mut WriteBatch) {
        self.hard.commit = commit;
        put_hard_state(batch, self.region_id, &self.hard);
    }

    /// Drops applied entries from memory, beyond what is worth keeping.
    pub(crate) fn shrink(&mut self, applied: u64) {
        while self.cache_bytes > CACHE_BYTES && self.cache.front().is_some_and(|e| e.index <= applied) {
            self.cache_bytes -= self.cache.pop_front().map_or(0, |e| e.data.len());
        }
    }

    /// The last entry that is not in the log any more.
    pub(crate) fn truncated(&self) -> EntryId {
        self.truncated
    }

    /// Cuts off the entries up to `to`, which are all applied; nothing happens if they are gone already.
    pub(crate) fn truncate(&mut self, to: EntryId, batch: &mut WriteBatch) {
        if to.index <= self.truncated.index {
            return;
        }
        put_truncated(batch, self.region_id, self.truncated.index + 1, to);
        self.truncated = to;
        while self.cache.front().is_some_and(|e| e.index <= to.index) {
            self.cache_bytes -= self.cache.pop_front().map_or(0, |e| e.data.len());
        }
    }

    fn cached(&self, index: u64) -> Option<&Entry> {
        let first = self.cache.front()?.index;
        self.cache.get(index.checked_sub(first)? as usize)
    }

    fn read(&self, index: u64) -> raft::Result<Entry> {
        if let Some(entry) = self.cached(index) {
            return Ok(entry.clone());
        }
        let stored = self.engine.get(EngineCf::Raft, &entry_key(self.region_id, index)).map_err(raft_error)?;
        let entry = stored.and_then(|bytes| decode_entry(index, &bytes));
        entry.ok_or_else(|| raft_error(malformed(self.region_id, &format!("entry {index}"))))
    }
}

fn raft_error(error: EngineError) -> raft::Error {
    raft::Error::Store(StorageError::Other(Box::new(error)))
}

impl Storage for RaftLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard.clone(), conf_state: self.conf.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let (limit, mut size) = (max_size.into().unwrap_or(u64::MAX), 0);
        let mut entries = Vec::new();
        for index in low..high {
            let entry = self.read(index)?;
            size += entry.data.len() as u64 + 16;
            if size > limit && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.index {
            return Ok(self.truncated.term);
        }
        if index < self.truncated.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if index > self.last_index {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        match self.cached(index) {
            Some(entry) => Ok(entry.term),
            None => Ok(self.read(index)?.term),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let view = self.engine.snapshot();
        if read_merge_state(&*view, self.region_id).is_ok_and(|state| state.is_some()) {
            // Who gets the region with what it needs for a merge gets it from the region that takes it over.
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        snapshot::take(&*view, self.region_id).map_err(|error| {
            tracing::error!(region = self.region_id, %error, "cannot take a snapshot for a follower");
            raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable)
        })
    }
}

#[cfg(test)]
mod tests {
    use logtide_model::{KeyRange, Region, RegionEpoch};

    use super::*;
    use crate::engine::MemoryEngine;
    use crate::raftstore::records::{PeerMeta, RegionMeta, bootstrap_region};

    fn entries(from: u64, to: u64, term: u64, size: usize) -> Vec<Entry> {
        (from..=to).map(|index| Entry { index, term, data: vec![index as u8; size], ..Entry::default() }).collect()
    }

    fn log(engine: &Arc<dyn KvEngine>) -> RaftLog {
        RaftLog::load(1, vec![2], engine.clone()).unwrap().0
    }

    #[test]
    fn what_is_truncated_is_gone_and_its_last_term_is_known() {
        let engine: Arc<dyn KvEngine> = Arc::new(MemoryEngine::new());
        let region = Region { id: 1, epoch: RegionEpoch { conf_ver: 1, version: 1 }, range: KeyRange::ALL };
        let mut batch = WriteBatch::default();
        bootstrap_region(
            &mut batch,
            &RegionMeta { region, peers: vec![PeerMeta { id: 2, store_id: 1 }], range_deleted: None },
        );
        engine.write(&batch, false).unwrap();
        let mut raft_log = log(&engine);
        let mut batch = WriteBatch::default();
        raft_log.append(entries(6, 10, 6, 10), &mut batch);
        raft_log.set_commit(10, &mut batch);
        raft_log.truncate(EntryId { index: 8, term: 6 }, &mut batch);
        raft_log.truncate(EntryId { index: 7, term: 6 }, &mut batch);
        engine.write(&batch, false).unwrap();
        for log in [&raft_log, &log(&engine)] {
            assert_eq!((log.first_index().unwrap(), log.last_index().unwrap()), (9, 10));
            assert_eq!((log.term(8).unwrap(), log.term(9).unwrap()), (6, 6));
            assert!(log.term(7).is_err() && log.entries(8, 10, None, GetEntriesContext::empty(false)).is_err());
            assert_eq!(log.entries(9, 11, None, GetEntriesContext::empty(false)).unwrap().len(), 2);
        }
        assert!(engine.get(EngineCf::Raft, &entry_key(1, 8)).unwrap().is_none());
        let mut batch = WriteBatch::default();
        raft_log.truncate(EntryId { index: 10, term: 6 }, &mut batch);
        engine.write(&batch, false).unwrap();
        assert_eq!(log(&engine).last_index().unwrap(), 10, "an empty log ends where it was cut");
    }

    #[test]
    fn a_conflict_cuts_the_tail_in_memory_and_in_the_engine() {
        let engine: Arc<dyn KvEngine> = Arc::new(MemoryEngine::new());
        let region = Region { id: 1, epoch: RegionEpoch { conf_ver: 1, version: 1 }, range: KeyRange::ALL };
        let mut batch = WriteBatch::default();
        bootstrap_region(
            &mut batch,
            &RegionMeta { region, peers: vec![PeerMeta { id: 2, store_id: 1 }], range_deleted: None },
        );
        engine.write(&batch, false).unwrap();
        let mut raft_log = log(&engine);
        let mut batch = WriteBatch::default();
        raft_log.append(entries(6, 10, 6, 1 << 20), &mut batch);
        raft_log.append(entries(8, 8, 7, 10), &mut batch);
        engine.write(&batch, false).unwrap();
        raft_log.shrink(7);
        assert!(raft_log.cached(6).is_none() || raft_log.cache_bytes <= CACHE_BYTES + (1 << 20));
        for log in [raft_log, log(&engine)] {
            assert_eq!(log.last_index().unwrap(), 8);
            assert_eq!((log.term(7).unwrap(), log.term(8).unwrap()), (6, 7));
            assert!(log.term(9).is_err());
            assert_eq!(log.entries(6, 9, None, GetEntriesContext::empty(false)).unwrap().len(), 3);
            assert_eq!(log.entries(6, 9, Some(1), GetEntriesContext::empty(false)).unwrap().len(), 1);
        }
    }
}
