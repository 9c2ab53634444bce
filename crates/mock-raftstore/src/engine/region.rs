//! What a snapshot of an engine shows of one region.

use bytes::Bytes;
use logtide_model::{Cf, HostError, KeyRange, KvIter, KvSnapshot, Region, Ts};

use super::{EngineIter, EngineSnapshot, data_end_key, data_key};

/// A region in a snapshot: keys without `z`, bounded by the region.
pub struct RegionSnapshot {
    snapshot: Box<dyn EngineSnapshot>,
    region: Region,
    applied_index: u64,
    last_range_delete: Option<Ts>,
}

impl RegionSnapshot {
    /// The part of `snapshot` that belongs to `region`; both it and `applied_index` are to be read from the same snapshot.
    pub fn new(snapshot: Box<dyn EngineSnapshot>, region: Region, applied_index: u64) -> Self {
        RegionSnapshot { snapshot, region, applied_index, last_range_delete: None }
    }

    /// With the timestamp of the last range delete that is in it.
    pub fn range_deleted(mut self, at: Option<Ts>) -> Self {
        self.last_range_delete = at;
        self
    }
}

impl KvSnapshot for RegionSnapshot {
    fn region(&self) -> &Region {
        &self.region
    }

    fn applied_index(&self) -> u64 {
        self.applied_index
    }

    fn last_range_delete(&self) -> Option<Ts> {
        self.last_range_delete
    }

    fn read_bytes(&self) -> Option<u64> {
        self.snapshot.read_bytes()
    }

    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, HostError> {
        if !self.region.range.contains(key) {
            return Ok(None);
        }
        Ok(self.snapshot.get(cf.into(), &data_key(key))?)
    }

    fn iter<'a>(&'a self, cf: Cf, range: &KeyRange) -> Result<Box<dyn KvIter + 'a>, HostError> {
        let range = self.region.range.intersect(range).unwrap_or_else(|| KeyRange::new(&b"\0"[..], &b"\0"[..]));
        let iter = self.snapshot.iter(cf.into(), data_key(&range.start), data_end_key(&range.end))?;
        Ok(Box::new(RegionIter { iter, seek_key: Vec::new() }))
    }
}

struct RegionIter<'a> {
    iter: Box<dyn EngineIter + 'a>,
    /// Reused for the prefixed key of each seek.
    seek_key: Vec<u8>,
}

impl KvIter for RegionIter<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<bool, HostError> {
        self.seek_key.clear();
        self.seek_key.push(super::DATA_PREFIX);
        self.seek_key.extend_from_slice(key);
        Ok(self.iter.seek(&self.seek_key)?)
    }

    fn next(&mut self) -> Result<bool, HostError> {
        Ok(self.iter.next()?)
    }

    fn key(&self) -> &[u8] {
        self.iter.key().get(1..).unwrap_or_default()
    }

    fn value(&self) -> &[u8] {
        self.iter.value()
    }
}
