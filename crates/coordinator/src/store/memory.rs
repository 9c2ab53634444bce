//! A store in the memory of this process: for tests, simulation, and nodes that live in one process.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::store::{Change, Clock, Local, Replica, Revision, State, StoreError, WallClock};

/// How long a watch sleeps at most before it looks whether leases have expired.
const WATCH_STEP: Duration = Duration::from_millis(100);

/// Keys in memory; clones share them.
#[derive(Clone)]
pub struct MemoryStore(Arc<Shared>);

pub(crate) struct Shared {
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

impl Replica for Shared {
    fn read<R>(&self, f: impl FnOnce(&State) -> R) -> Result<R, StoreError> {
        self.update(|state, _| Ok((f(state), None)))
    }

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

    fn wait(&self, seen: Revision, wait: Duration) {
        let mut state = self.state.lock();
        if state.revision <= seen {
            self.changed.wait_for(&mut state, wait.min(WATCH_STEP));
        }
    }
}

impl Local for MemoryStore {
    type Replica = Shared;

    fn replica(&self) -> &Arc<Shared> {
        &self.0
    }
}
