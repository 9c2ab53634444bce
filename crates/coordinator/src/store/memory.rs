//! A store in the memory of this process: for tests, simulation, and nodes that live in one process.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::store::{
    Change, Clock, KeyValue, LeaseId, Prepared, Replica, Revision, State, StateWatch, Store, StoreError, Txn,
    TxnOutcome, WallClock, Watch,
};

/// How long a watch sleeps at most before it looks whether leases have expired.
const WATCH_STEP: Duration = Duration::from_millis(100);

/// Keys in memory; clones share them.
#[derive(Clone)]
pub struct MemoryStore(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    clock: Arc<dyn Clock>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        MemoryStore::with_clock(Arc::new(WallClock))
    }

    /// An empty store whose leases expire by that clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        MemoryStore(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), clock }))
    }
}

impl Shared {
    /// Runs `f` on the state after expired leases were ended, applies the change it makes.
    fn update<R>(
        &self,
        f: impl FnOnce(&State, u64) -> Result<(R, Option<Change>), StoreError>,
    ) -> Result<R, StoreError> {
        let now = self.clock.now_ms();
        let mut state = self.state.lock();
        if let Some(change) = state.expire(now) {
            state.apply(change);
            self.changed.notify_all();
        }
        let (result, change) = f(&state, now)?;
        if let Some(change) = change {
            state.apply(change);
            self.changed.notify_all();
        }
        Ok(result)
    }
}

impl Replica for Shared {
    fn read<R>(&self, f: impl FnOnce(&State) -> R) -> Result<R, StoreError> {
        self.update(|state, _| Ok((f(state), None)))
    }

    fn wait(&self, seen: Revision, wait: Duration) {
        let mut state = self.state.lock();
        if state.revision <= seen {
            self.changed.wait_for(&mut state, wait.min(WATCH_STEP));
        }
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.0.read(|state| state.get(key))
    }

    fn list(&self, prefix: &[u8]) -> Result<(Vec<KeyValue>, Revision), StoreError> {
        self.0.read(|state| (state.list(prefix), state.revision))
    }

    fn commit(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.0.update(|state, _| Ok(state.prepare(txn)?.settle(state.revision)))
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        Ok(Box::new(StateWatch::new(self.0.clone(), prefix, from)))
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.0.update(|state, now| {
            let (id, change) = state.grant(ttl, now);
            Ok((id, Some(change)))
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.update(|state, now| Ok(((), Some(state.keep_alive(lease, now)?))))
    }

    fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.update(|state, _| Ok(((), state.revoke(lease))))
    }
}

impl Prepared {
    /// What to answer, and what to apply, at `revision`.
    pub(crate) fn settle(self, revision: Revision) -> (TxnOutcome, Option<Change>) {
        match self {
            Prepared::Refused => (TxnOutcome { succeeded: false, revision }, None),
            Prepared::Nothing => (TxnOutcome { succeeded: true, revision }, None),
            Prepared::Change(c) => (TxnOutcome { succeeded: true, revision: c.revision }, Some(c)),
        }
    }
}
