//! A restored state in memory, for simulations and tests.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use logtide_model::{Cf, KeyRange, Ts};

use super::{Finish, Made, Sink, SinkPart};
use crate::view::{Cursor, Records, view};
use crate::{DumpSummary, Each, RestoreError};

/// Collects a restored state in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemorySink;

/// The records of one key range.
#[derive(Debug, Default)]
pub struct MemoryPart {
    writes: Vec<(Vec<u8>, Vec<u8>)>,
    values: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A restored state: the records of the column families by encoded key with ts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryState {
    /// The write column family.
    pub writes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The default column family.
    pub values: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Sink for MemorySink {
    type Part = MemoryPart;
    type Output = MemoryState;

    fn part(&mut self, _: usize, _: KeyRange) -> Result<MemoryPart, RestoreError> {
        Ok(MemoryPart::default())
    }

    fn finish(self, done: Finish<'_, MemoryPart>) -> Result<MemoryState, RestoreError> {
        let mut state = MemoryState::default();
        for part in done.parts {
            state.writes.extend(part.writes);
            state.values.extend(part.values);
        }
        Ok(state)
    }
}

impl SinkPart for MemoryPart {
    type Done = MemoryPart;

    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        let records = if cf == Cf::Write { &mut self.writes } else { &mut self.values };
        records.push((key.to_vec(), value.to_vec()));
        Ok(())
    }

    fn finish(self) -> Result<(MemoryPart, Made), RestoreError> {
        Ok((self, Made::default()))
    }
}

impl MemoryState {
    /// Calls `each` with raw key and value of every key in `range` (encoded keys) that has a value at `at`, in key order.
    ///
    /// # Errors
    /// As [`crate::dump`]'s.
    pub fn dump(&self, at: Ts, range: &KeyRange, each: &mut Each<'_>) -> Result<DumpSummary, RestoreError> {
        view(&InMemory { state: self, range }, at, each)
    }

    /// What a read at `at` sees: raw keys and values.
    ///
    /// # Errors
    /// As [`crate::dump`]'s.
    pub fn state_at(&self, at: Ts) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, RestoreError> {
        let mut seen = BTreeMap::new();
        self.dump(at, &KeyRange::ALL, &mut |key, value| {
            seen.insert(key.to_vec(), value.to_vec());
            Ok(())
        })?;
        Ok(seen)
    }
}

struct InMemory<'a> {
    state: &'a MemoryState,
    range: &'a KeyRange,
}

impl Records for InMemory<'_> {
    type Cursor<'c>
        = Entries<'c>
    where
        Self: 'c;

    fn cursor(&self, cf: Cf) -> Result<Entries<'_>, RestoreError> {
        static NONE: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let map = match cf {
            Cf::Write => &self.state.writes,
            Cf::Default => &self.state.values,
            Cf::Lock => &NONE,
        };
        let mut cursor = Entries { map, rest: map.range::<[u8], _>(..), end: &self.range.end, at: None };
        cursor.seek(&self.range.start);
        Ok(cursor)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RestoreError> {
        Ok(self.state.values.get(key).cloned())
    }

    fn prefix(&self) -> usize {
        0
    }

    fn place(&self) -> PathBuf {
        Path::new("memory").to_owned()
    }
}

/// A position in a map.
struct Entries<'a> {
    map: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    rest: btree_map::Range<'a, Vec<u8>, Vec<u8>>,
    /// Behind the last key; empty for none.
    end: &'a [u8],
    at: Option<(&'a [u8], &'a [u8])>,
}

impl Cursor for Entries<'_> {
    fn item(&self) -> Option<(&[u8], &[u8])> {
        self.at
    }

    fn next(&mut self) {
        let next = self.rest.next().map(|(key, value)| (&key[..], &value[..]));
        self.at = next.filter(|(key, _)| self.end.is_empty() || *key < self.end);
    }

    fn seek(&mut self, key: &[u8]) {
        self.rest = self.map.range::<[u8], _>((Bound::Included(key), Bound::Unbounded));
        self.next();
    }

    fn status(&self) -> Result<(), RestoreError> {
        Ok(())
    }
}
