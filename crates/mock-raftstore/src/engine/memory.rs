//! The engine in memory: every key with its versions by sequence number, so that a snapshot costs nothing but a number.
//!
//! A version that a newer one hides is dropped as soon as no snapshot is old enough to see it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::{Change, EngineCf, EngineError, EngineIter, EngineSnapshot, KvEngine, SortedRecords, WriteBatch, data_key};

/// Versions of one key, oldest first; `None` is a removal.
type Versions = Vec<(u64, Option<Bytes>)>;

/// See the module. Cloning shares the data: a store that is stopped and started again finds it.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    data: Arc<RwLock<Data>>,
    /// Sequence number → snapshots of it that are out.
    live: Arc<Mutex<BTreeMap<u64, usize>>>,
    /// Sorted files by name.
    files: Arc<Mutex<BTreeMap<String, SortedRecords>>>,
}

#[derive(Default)]
struct Data {
    seq: u64,
    cfs: [BTreeMap<Bytes, Versions>; 4],
    /// Keys with hidden versions, by the sequence number that hid them.
    hidden: VecDeque<(u64, EngineCf, Bytes)>,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// The files that a batch ingests, in order.
    fn files_of(&self, batch: &WriteBatch) -> Result<Vec<SortedRecords>, EngineError> {
        let names = batch.changes().iter().filter_map(|change| match change {
            Change::Ingest(_, name) => Some(name),
            _ => None,
        });
        names.map(|name| self.read_file(name)).collect()
    }
}

impl Data {
    fn put_version(&mut self, cf: EngineCf, key: Bytes, value: Option<Bytes>) {
        let seq = self.seq;
        let versions = self.cfs[cf as usize].entry(key.clone()).or_default();
        let plain_insert = versions.is_empty() && value.is_some();
        versions.push((seq, value));
        if !plain_insert {
            self.hidden.push_back((seq, cf, key));
        }
    }

    fn delete_range(&mut self, cf: EngineCf, start: &Bytes, end: &Bytes) {
        if start >= end {
            return;
        }
        let range = (Bound::Included(start.clone()), Bound::Excluded(end.clone()));
        let keys: Vec<Bytes> = self.cfs[cf as usize].range(range).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.put_version(cf, key, None);
        }
    }

    /// Drops what no snapshot at or above `oldest` can see.
    fn collect(&mut self, oldest: u64) {
        while self.hidden.front().is_some_and(|(seq, ..)| *seq <= oldest) {
            let Some((seq, cf, key)) = self.hidden.pop_front() else { return };
            let Some(versions) = self.cfs[cf as usize].get_mut(&key) else { continue };
            let keep = versions.iter().rposition(|(s, _)| *s <= seq).unwrap_or(0);
            versions.drain(..keep);
            if matches!(versions[..], [(s, None)] if s <= oldest) {
                self.cfs[cf as usize].remove(&key);
            }
        }
    }
}

/// What a snapshot of `seq` sees.
fn visible(versions: &Versions, seq: u64) -> Option<&Bytes> {
    versions.iter().rev().find(|(s, _)| *s <= seq).and_then(|(_, value)| value.as_ref())
}

impl KvEngine for MemoryEngine {
    fn write(&self, batch: &WriteBatch, _sync: bool) -> Result<(), EngineError> {
        let files = self.files_of(batch)?;
        let mut files = files.into_iter();
        let mut data = self.data.write();
        data.seq += 1;
        for change in batch.changes() {
            match change {
                Change::Put(cf, key, value) => data.put_version(*cf, key.clone(), Some(value.clone())),
                Change::Delete(cf, key) => data.put_version(*cf, key.clone(), None),
                Change::DeleteRange(cf, start, end) => data.delete_range(*cf, start, end),
                Change::Ingest(cf, _) => {
                    for (key, value) in files.next().unwrap_or_default().iter() {
                        data.put_version(*cf, data_key(key), Some(value.clone()));
                    }
                }
            }
        }
        let oldest = self.live.lock().keys().next().copied().unwrap_or(data.seq);
        data.collect(oldest);
        Ok(())
    }

    fn get(&self, cf: EngineCf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.data.read().cfs[cf as usize].get(key).and_then(|versions| visible(versions, u64::MAX)).cloned())
    }

    fn put_file(&self, name: &str, records: &SortedRecords) -> Result<(), EngineError> {
        self.files.lock().insert(name.to_owned(), records.clone());
        Ok(())
    }

    fn read_file(&self, name: &str) -> Result<SortedRecords, EngineError> {
        let file = self.files.lock().get(name).cloned();
        file.ok_or_else(|| EngineError { path: "memory".to_owned(), cause: format!("there is no file {name}") })
    }

    fn remove_file(&self, name: &str) -> Result<(), EngineError> {
        self.files.lock().remove(name);
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn EngineSnapshot> {
        let data = self.data.read();
        *self.live.lock().entry(data.seq).or_default() += 1;
        Box::new(MemorySnapshot { engine: self.clone(), seq: data.seq })
    }
}

struct MemorySnapshot {
    engine: MemoryEngine,
    seq: u64,
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        let mut live = self.engine.live.lock();
        if let Some(n) = live.get_mut(&self.seq) {
            *n -= 1;
            if *n == 0 {
                live.remove(&self.seq);
            }
        }
    }
}

impl EngineSnapshot for MemorySnapshot {
    fn get(&self, cf: EngineCf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let data = self.engine.data.read();
        Ok(data.cfs[cf as usize].get(key).and_then(|versions| visible(versions, self.seq)).cloned())
    }

    fn iter<'a>(&'a self, cf: EngineCf, lower: Bytes, upper: Bytes) -> Result<Box<dyn EngineIter + 'a>, EngineError> {
        Ok(Box::new(MemoryIter { snapshot: self, cf, lower, upper, at: None, ended: false }))
    }
}

struct MemoryIter<'a> {
    snapshot: &'a MemorySnapshot,
    cf: EngineCf,
    lower: Bytes,
    upper: Bytes,
    at: Option<(Bytes, Bytes)>,
    ended: bool,
}

impl MemoryIter<'_> {
    fn move_to(&mut self, from: Bound<&[u8]>) -> bool {
        let data = self.snapshot.engine.data.read();
        let found = data.cfs[self.cf as usize]
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(|(key, _)| **key < self.upper)
            .find_map(|(key, versions)| Some((key.clone(), visible(versions, self.snapshot.seq)?.clone())));
        self.at = found;
        self.ended = self.at.is_none();
        !self.ended
    }
}

impl EngineIter for MemoryIter<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<bool, EngineError> {
        let lower = self.lower.clone();
        Ok(self.move_to(Bound::Included(key.max(&lower))))
    }

    fn next(&mut self) -> Result<bool, EngineError> {
        if self.ended {
            return Ok(false);
        }
        let lower = self.lower.clone();
        match self.at.take() {
            Some((key, _)) => Ok(self.move_to(Bound::Excluded(&key))),
            None => Ok(self.move_to(Bound::Included(&lower))),
        }
    }

    fn key(&self) -> &[u8] {
        self.at.as_ref().map_or(&[], |(key, _)| key)
    }

    fn value(&self) -> &[u8] {
        self.at.as_ref().map_or(&[], |(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(engine: &MemoryEngine, key: &'static str, value: Option<&'static str>) {
        let mut batch = WriteBatch::default();
        match value {
            Some(value) => batch.put(EngineCf::Default, key, value),
            None => batch.delete(EngineCf::Default, key),
        }
        engine.write(&batch, false).unwrap();
    }

    #[test]
    fn hidden_versions_go_when_nobody_can_see_them() {
        let engine = MemoryEngine::new();
        put(&engine, "a", Some("1"));
        let snapshot = engine.snapshot();
        put(&engine, "a", Some("2"));
        put(&engine, "a", None);
        assert_eq!(snapshot.get(EngineCf::Default, b"a").unwrap(), Some(Bytes::from_static(b"1")));
        drop(snapshot);
        put(&engine, "b", Some("1"));
        let data = engine.data.read();
        assert_eq!((data.cfs[0].len(), data.hidden.len()), (1, 0));
    }

    #[test]
    fn a_key_that_came_back_stays() {
        let engine = MemoryEngine::new();
        put(&engine, "a", Some("1"));
        put(&engine, "a", None);
        put(&engine, "a", Some("2"));
        assert_eq!(engine.get(EngineCf::Default, b"a").unwrap(), Some(Bytes::from_static(b"2")));
        assert_eq!(engine.data.read().cfs[0][&b"a"[..]].len(), 1);
    }
}
