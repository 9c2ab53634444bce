//! A cluster in miniature: transactions over keys in regions, stores that log what they observe, and the oracle that
//! knows every version. Everything follows from a seed.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod backup;
pub(crate) mod history;
pub(crate) mod merging;

use std::collections::BTreeMap;

use logtide_model::Ts;
use logtide_restore::{MemorySink, MemoryState, RestoreError, RestoreOptions, RestoreSummary, Silent, restore_to};
use logtide_storage::Storage;
#[cfg(feature = "rocksdb")]
use {
    logtide_model::KeyRange,
    logtide_restore::{DumpSummary, dump, restore_point},
    std::path::Path,
};

/// Raw keys and values.
pub(crate) type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// A small generator (SplitMix64, Steele et al. 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(n).collect()
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(work)
}

/// Restores into memory.
pub(crate) fn restore_in_memory(
    storage: &Storage,
    at: Option<u64>,
    change: impl FnOnce(&mut RestoreOptions),
) -> Result<(RestoreSummary, MemoryState), RestoreError> {
    let mut options = RestoreOptions::for_sink();
    options.restored_ts = at.map(Ts::new);
    options.memory = logtide_restore::MIN_MEMORY;
    change(&mut options);
    block_on(restore_to(storage, &options, MemorySink, &Silent))
}

#[cfg(feature = "rocksdb")]
pub(crate) fn restore(
    storage: &Storage,
    target: &Path,
    at: Option<u64>,
    change: impl FnOnce(&mut RestoreOptions),
) -> Result<RestoreSummary, RestoreError> {
    let mut options = RestoreOptions::new(target);
    options.restored_ts = at.map(Ts::new);
    options.memory = logtide_restore::MIN_MEMORY;
    change(&mut options);
    block_on(restore_point(storage, &options, &Silent))
}

#[cfg(feature = "rocksdb")]
pub(crate) fn state_at(dir: &Path, at: u64) -> (State, DumpSummary) {
    let mut state = State::new();
    let summary = dump(dir, Ts::new(at), &KeyRange::ALL, &mut |key, value| {
        assert!(state.insert(key.to_vec(), value.to_vec()).is_none(), "a key twice");
        Ok(())
    });
    (state, summary.unwrap())
}

/// No [`difference`].
pub(crate) const NOTHING: [Vec<Vec<u8>>; 3] = [const { Vec::new() }; 3];

/// Missing, extra and different keys.
pub(crate) fn difference(want: &State, got: &State) -> [Vec<Vec<u8>>; 3] {
    let missing = want.keys().filter(|k| !got.contains_key(*k)).cloned().collect();
    let extra = got.keys().filter(|k| !want.contains_key(*k)).cloned().collect();
    let different = want.iter().filter(|(k, v)| got.get(*k).is_some_and(|g| g != *v)).map(|(k, _)| k.clone()).collect();
    [missing, extra, different]
}

/// The message of an error and of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
