//! Records in memory: collected in arrival order, then sorted by key.

use std::sync::Arc;

use logtide_model::{MemoryBudget, Permit};

use super::record;

/// Records are copied into chunks of this many bytes, so that a growing buffer is never copied.
const CHUNK: usize = 1 << 20;
/// Slots are accounted this many at a time, and doubly, for the vector's growth.
const SLOTS: usize = 4096;
const SLOTS_COST: usize = 2 * SLOTS * size_of::<Slot>();

/// A record's place, with the first bytes of its key in which keys differ.
#[derive(Clone, Copy)]
struct Slot {
    prefix: u64,
    chunk: u32,
    offset: u32,
}

/// Collects records.
pub(crate) struct Buffer {
    chunks: Vec<Vec<u8>>,
    slots: Vec<Slot>,
    /// How many bytes all keys have in common at their front.
    common: usize,
    permit: Permit,
}

impl Buffer {
    pub(crate) fn new(budget: &MemoryBudget) -> Self {
        Buffer { chunks: Vec::new(), slots: Vec::new(), common: usize::MAX, permit: budget.force_acquire(0) }
    }

    /// Accounted bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.permit.bytes()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What [`push`](Self::push) of such a record adds.
    pub(crate) fn cost(&self, key_len: usize, payload_len: usize) -> usize {
        let len = record::len(key_len, payload_len);
        let chunk = if self.fits(len) { 0 } else { len.max(CHUNK) };
        chunk + if self.slots.len().is_multiple_of(SLOTS) { SLOTS_COST } else { 0 }
    }

    fn fits(&self, len: usize) -> bool {
        self.chunks.last().is_some_and(|chunk| chunk.capacity() - chunk.len() >= len)
    }

    /// Adds a record whose payload is the concatenation of `payload`.
    pub(crate) fn push(&mut self, key: &[u8], payload: &[&[u8]]) {
        let payload_len = payload.iter().map(|p| p.len()).sum();
        let len = record::len(key.len(), payload_len);
        let cost = self.cost(key.len(), payload_len);
        if cost > 0 {
            self.permit.resize(self.permit.bytes() + cost);
        }
        if !self.fits(len) {
            self.chunks.push(Vec::with_capacity(len.max(CHUNK)));
        }
        self.note_common_prefix(key);
        let at = self.chunks.len() - 1;
        let chunk = &mut self.chunks[at];
        self.slots.push(Slot { prefix: 0, chunk: at as u32, offset: chunk.len() as u32 });
        record::encode(key, payload_len, payload, chunk);
    }

    fn note_common_prefix(&mut self, key: &[u8]) {
        let Some(first) = self.slots.first() else {
            self.common = key.len();
            return;
        };
        let first = record::key(&self.chunks[first.chunk as usize][first.offset as usize..]);
        let first = &first[..self.common.min(first.len())];
        self.common = first.iter().zip(key).take_while(|(a, b)| a == b).count();
    }

    /// Sorts by key; records of equal key stay in no particular order.
    pub(crate) fn sort(mut self) -> Sorted {
        let chunks = self.chunks;
        let skip = self.common;
        for slot in &mut self.slots {
            slot.prefix = prefix(&key_at(&chunks, slot)[skip..]);
        }
        self.slots.sort_unstable_by(|a, b| {
            a.prefix.cmp(&b.prefix).then_with(|| key_at(&chunks, a)[skip..].cmp(&key_at(&chunks, b)[skip..]))
        });
        Sorted { chunks, slots: self.slots, _permit: self.permit }
    }
}

fn key_at<'a>(chunks: &'a [Vec<u8>], slot: &Slot) -> &'a [u8] {
    record::key(&chunks[slot.chunk as usize][slot.offset as usize..])
}

/// The first eight bytes as a number that orders as they do.
fn prefix(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let n = bytes.len().min(8);
    first[..n].copy_from_slice(&bytes[..n]);
    u64::from_be_bytes(first)
}

/// Sorted records in memory.
pub(crate) struct Sorted {
    chunks: Vec<Vec<u8>>,
    slots: Vec<Slot>,
    _permit: Permit,
}

impl Sorted {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of all records.
    pub(crate) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }

    /// Key and payload of the record at `index`.
    pub(crate) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let slot = self.slots.get(index)?;
        Some(record::split(&self.chunks[slot.chunk as usize][slot.offset as usize..]))
    }

    /// The first record whose key is not below `key`.
    pub(crate) fn seek(&self, key: &[u8]) -> usize {
        self.slots.partition_point(|slot| key_at(&self.chunks, slot) < key)
    }
}

/// Walks over sorted records of a key range.
pub(crate) struct MemoryCursor {
    run: Arc<Sorted>,
    at: usize,
    end: usize,
}

impl MemoryCursor {
    /// A cursor over keys in `[start, end)`; an empty `end` is unbounded.
    pub(crate) fn new(run: Arc<Sorted>, start: &[u8], end: &[u8]) -> Self {
        let at = run.seek(start);
        let end = if end.is_empty() { run.len() } else { run.seek(end) };
        MemoryCursor { run, at, end }
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        if self.at < self.end { self.run.get(self.at).map(|(key, _)| key) } else { None }
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.run.get(self.at).map_or(&[], |(_, payload)| payload)
    }

    pub(crate) fn advance(&mut self) {
        self.at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorts_and_seeks(mut records: Vec<(Vec<u8>, Vec<u8>)>, shared in prop::collection::vec(any::<u8>(), 0..12), from: Vec<u8>) {
            let budget = MemoryBudget::new(0);
            let mut buffer = Buffer::new(&budget);
            for (key, _) in &mut records {
                key.splice(0..0, shared.iter().copied());
            }
            for (key, payload) in &records {
                buffer.push(key, &[&payload[..payload.len() / 2], &payload[payload.len() / 2..]]);
            }
            let sorted = Arc::new(buffer.sort());
            let mut cursor = MemoryCursor::new(sorted, &from, b"");
            let mut got = Vec::new();
            while let Some(key) = cursor.key().map(<[u8]>::to_vec) {
                got.push((key, cursor.payload().to_vec()));
                cursor.advance();
            }
            prop_assert!(got.is_sorted_by_key(|(key, _)| key.clone()));
            got.sort();
            records.retain(|(key, _)| *key >= from);
            records.sort();
            prop_assert_eq!(got, records);
        }
    }

    #[test]
    fn memory_is_accounted_and_given_back() {
        let budget = MemoryBudget::new(0);
        let mut buffer = Buffer::new(&budget);
        buffer.push(b"k", &[&[7; 3 * CHUNK]]);
        buffer.push(b"a", &[b"v"]);
        assert!(budget.used() > 4 * CHUNK && budget.used() == buffer.bytes());
        drop(buffer.sort());
        assert_eq!(budget.used(), 0);
    }
}
