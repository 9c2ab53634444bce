//! The concurrency manager of a store: the largest ts that anybody read at, and the commits in flight that choose
//! their own commit ts (async commit and 1PC).
//!
//! A reader (or a barrier) at `ts` first bumps `max_ts`, then looks at the in-memory locks. A prewrite registers its
//! lock and computes its smallest commit ts from `max_ts` in one step under the registry's mutex, and takes the lock
//! out after its entry was applied. So either the reader sees the lock (in memory or in its later snapshot), or the
//! transaction commits above the reader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logtide_model::Ts;
use logtide_model::planted::Bug;
use parking_lot::Mutex;

use crate::rpc::LockInfo;

/// See the module. One per store; cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct ConcurrencyManager(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    max_ts: AtomicU64,
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    /// By raw key.
    locks: BTreeMap<Vec<u8>, LockInfo>,
    /// How many of `locks` have this smallest commit ts.
    by_min_commit_ts: BTreeMap<Ts, usize>,
}

impl ConcurrencyManager {
    /// The largest ts that was announced.
    pub fn max_ts(&self) -> Ts {
        Ts::new(self.0.max_ts.load(Ordering::SeqCst))
    }

    /// Announces a reader at `ts`. [`Ts::MAX`] means "latest" and announces nothing.
    pub fn bump_max_ts(&self, ts: Ts) {
        if ts != Ts::MAX {
            self.0.max_ts.fetch_max(ts.get(), Ordering::SeqCst);
        }
    }

    /// Registers an in-memory lock with `min_commit_ts = max(floor, max_ts + 1)`. The caller holds the key's latch.
    pub fn register(&self, mut lock: LockInfo, floor: Ts) -> KeyGuard {
        let mut registry = self.0.registry.lock();
        lock.min_commit_ts = floor.max(self.max_ts().next());
        let (key, min_commit_ts) = (lock.key.clone(), lock.min_commit_ts);
        if let Some(old) = registry.locks.insert(key.clone(), lock) {
            registry.uncount(old.min_commit_ts);
        }
        *registry.by_min_commit_ts.entry(min_commit_ts).or_default() += 1;
        KeyGuard { manager: self.clone(), key, min_commit_ts }
    }

    /// The in-memory lock of a raw key.
    pub fn lock_of(&self, raw_key: &[u8]) -> Option<LockInfo> {
        self.0.registry.lock().locks.get(raw_key).cloned()
    }

    /// The first in-memory lock in `[start, end)` (raw keys; an empty `end` is +inf) that `blocks`.
    pub fn find_lock(&self, start: &[u8], end: &[u8], blocks: impl Fn(&LockInfo) -> bool) -> Option<LockInfo> {
        let registry = self.0.registry.lock();
        let range = registry.locks.range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
        range
            .take_while(|(key, _)| end.is_empty() || &key[..] < end)
            .map(|(_, lock)| lock)
            .find(|lock| blocks(lock))
            .cloned()
    }

    /// The smallest commit ts that a prewrite in flight may still take.
    pub fn min_in_flight(&self) -> Option<Ts> {
        self.0.registry.lock().by_min_commit_ts.keys().next().copied()
    }

    /// Contract H2 ([`logtide_model::Host::commit_barrier`]) from a fresh timestamp: announces it, then caps it below
    /// the commits in flight.
    pub fn barrier(&self, fresh: Ts) -> Ts {
        if Bug::InMemoryCommitsIgnored.is_planted() {
            return fresh;
        }
        self.bump_max_ts(fresh);
        self.min_in_flight().map_or(fresh, |ts| fresh.min(ts.prev()))
    }
}

impl Registry {
    fn uncount(&mut self, min_commit_ts: Ts) {
        if let Some(n) = self.by_min_commit_ts.get_mut(&min_commit_ts) {
            *n -= 1;
            if *n == 0 {
                self.by_min_commit_ts.remove(&min_commit_ts);
            }
        }
    }
}

/// An in-memory lock; dropping it takes the lock out of the registry.
#[derive(Debug)]
#[must_use]
pub struct KeyGuard {
    manager: ConcurrencyManager,
    key: Vec<u8>,
    min_commit_ts: Ts,
}

impl KeyGuard {
    /// The smallest commit ts of the lock, from when it was registered.
    pub fn min_commit_ts(&self) -> Ts {
        self.min_commit_ts
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        let mut registry = self.manager.0.registry.lock();
        if let Some(lock) = registry.locks.remove(&self.key) {
            registry.uncount(lock.min_commit_ts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(key: &str) -> LockInfo {
        LockInfo {
            key: key.into(),
            primary: key.into(),
            start_ts: Ts::new(5),
            ttl: 1,
            min_commit_ts: Ts::ZERO,
            async_commit: true,
            secondaries: Vec::new(),
            pessimistic: false,
        }
    }

    #[test]
    fn a_commit_in_flight_is_above_every_reader_before_it() {
        let cm = ConcurrencyManager::default();
        cm.bump_max_ts(Ts::new(10));
        let guard = cm.register(lock("a"), Ts::new(6));
        assert_eq!(guard.min_commit_ts(), Ts::new(11));
        assert_eq!(cm.register(lock("b"), Ts::new(20)).min_commit_ts(), Ts::new(20));
    }

    #[test]
    fn the_barrier_stays_below_what_is_in_flight_and_moves_what_comes_later() {
        let cm = ConcurrencyManager::default();
        let guard = cm.register(lock("a"), Ts::new(6));
        assert_eq!(cm.barrier(Ts::new(50)), Ts::new(5));
        let later = cm.register(lock("b"), Ts::new(6));
        assert_eq!(later.min_commit_ts(), Ts::new(51));
        drop(guard);
        assert_eq!(cm.barrier(Ts::new(60)), Ts::new(50));
        drop(later);
        assert_eq!((cm.barrier(Ts::new(70)), cm.min_in_flight()), (Ts::new(70), None));
    }

    #[test]
    fn reading_latest_announces_nothing() {
        let cm = ConcurrencyManager::default();
        cm.bump_max_ts(Ts::MAX);
        assert_eq!(cm.max_ts(), Ts::ZERO);
    }

    #[test]
    fn locks_are_found_by_range() {
        let cm = ConcurrencyManager::default();
        let _guards: Vec<_> = ["a", "c"].map(|k| cm.register(lock(k), Ts::new(6))).into();
        let find = |start: &str, end: &str| cm.find_lock(start.as_bytes(), end.as_bytes(), |_| true).map(|l| l.key);
        assert_eq!(find("", ""), Some(b"a".to_vec()));
        assert_eq!(find("b", ""), Some(b"c".to_vec()));
        assert_eq!(find("b", "c"), None);
    }
}
