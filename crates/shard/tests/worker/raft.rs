//! A region with its true log, and what its engine holds at any index.

use std::collections::BTreeMap;

use bytes::Bytes;
use logtide_model::message::GapFlag;
use logtide_model::{KeyRange, Op, Region, RegionEpoch, encode_raw_key};

use crate::fixture::{lock, unlock, value, write};

/// Keys are single letters, a to p.
pub(crate) const KEYS: u8 = 16;
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Noop,
    Lock {
        key: u8,
        start: u64,
    },
    Commit {
        key: u8,
        start: u64,
        commit: u64,
    },
    Rollback {
        key: u8,
    },
    Split {
        at: u8,
        child: u64,
    },
    /// What the source had becomes the target's.
    Merge {
        source: u64,
        end: u8,
        state: State,
    },
}

/// What a region's engine holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) locks: BTreeMap<u8, u64>,
    /// By commit ts.
    pub(crate) commits: BTreeMap<u64, (u8, u64)>,
}

/// A region and its true log.
#[derive(Clone, Debug)]
pub(crate) struct RaftRegion {
    pub(crate) start: u8,
    /// The shape that it began with, and what it held.
    pub(crate) first_end: u8,
    pub(crate) first_version: u64,
    pub(crate) base: State,
    pub(crate) log: Vec<Entry>,
    pub(crate) applied: u64,
    pub(crate) told: u64,
    pub(crate) term: u64,
    pub(crate) leading: bool,
    /// False until this store applied the split that made it.
    pub(crate) here: bool,
    pub(crate) gone: bool,
    pub(crate) flag: GapFlag,
}

impl RaftRegion {
    pub(crate) fn new(start: u8, end: u8, version: u64, base: State, here: bool) -> Self {
        RaftRegion {
            start,
            first_end: end,
            first_version: version,
            base,
            log: vec![Entry::Noop],
            applied: u64::from(here),
            told: u64::from(here),
            term: 5,
            leading: false,
            here,
            gone: false,
            flag: GapFlag::default(),
        }
    }

    /// The end of its range and its version after the first `index` entries.
    pub(crate) fn shape(&self, index: u64) -> (u8, u64) {
        let entries = self.log.iter().take(index as usize);
        entries.fold((self.first_end, self.first_version), |(end, version), entry| match entry {
            Entry::Split { at, .. } => (*at, version + 1),
            Entry::Merge { end, .. } => (*end, version + 1),
            _ => (end, version),
        })
    }

    pub(crate) fn end(&self) -> u8 {
        self.shape(u64::MAX).0
    }

    pub(crate) fn region(&self, id: u64, index: u64) -> Region {
        let (end, version) = self.shape(index);
        let range = KeyRange { start: bound(self.start), end: bound(end) };
        Region { id, epoch: RegionEpoch { conf_ver: 1, version }, range }
    }

    /// What its engine holds after the first `index` entries, within its range then.
    pub(crate) fn state(&self, index: u64) -> State {
        let mut state = self.base.clone();
        for entry in self.log.iter().take(index as usize) {
            match entry {
                Entry::Lock { key, start } => drop(state.locks.insert(*key, *start)),
                Entry::Rollback { key } => drop(state.locks.remove(key)),
                Entry::Commit { key, start, commit } => {
                    state.locks.remove(key);
                    state.commits.insert(*commit, (*key, *start));
                }
                Entry::Split { at, .. } => {
                    state.locks.retain(|key, _| key < at);
                    state.commits.retain(|_, (key, _)| *key < *at);
                }
                Entry::Merge { state: source, .. } => {
                    state.locks.extend(&source.locks);
                    state.commits.extend(&source.commits);
                }
                Entry::Noop => {}
            }
        }
        state
    }
}

pub(crate) fn letter(key: u8) -> String {
    char::from(b'a' + key).to_string()
}

pub(crate) fn bound(key: u8) -> Bytes {
    if key == 0 || key >= KEYS { Bytes::new() } else { encode_raw_key(letter(key).as_bytes()).into() }
}

pub(crate) fn contains(range: &KeyRange, key: u8) -> bool {
    range.contains(&encode_raw_key(letter(key).as_bytes()))
}

pub(crate) fn commit_of(entry: &Entry) -> Option<(u64, u8, u64)> {
    match entry {
        Entry::Commit { key, start, commit } => Some((*commit, *key, *start)),
        _ => None,
    }
}

/// What an entry does to the engine; every value is in the default column family.
pub(crate) fn ops_of(entry: &Entry) -> Vec<Op> {
    match entry {
        Entry::Lock { key, start } => vec![value(&letter(*key), *start), lock(&letter(*key), *start)],
        Entry::Commit { key, start, commit } => vec![write(&letter(*key), *start, *commit), unlock(&letter(*key))],
        Entry::Rollback { key } => vec![unlock(&letter(*key))],
        Entry::Noop | Entry::Split { .. } | Entry::Merge { .. } => vec![Op::Admin],
    }
}
