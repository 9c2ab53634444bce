//! The stores that the suite runs over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use logtide_coordinator::store::ManualClock;
use logtide_coordinator::{DirectoryStore, MemoryStore, Store};
use tempfile::TempDir;

/// Handles to one store, that take turns.
pub(crate) struct Setup {
    handles: Vec<Arc<dyn Store>>,
    turn: AtomicUsize,
    pub(crate) clock: ManualClock,
    _dir: Option<TempDir>,
}

impl Setup {
    /// The handle whose turn it is.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        self.handles[self.turn.fetch_add(1, Ordering::Relaxed) % self.handles.len()].clone()
    }
}

pub(crate) fn memory() -> Setup {
    let clock = ManualClock::default();
    let store = MemoryStore::with_clock(Arc::new(clock.clone()));
    Setup { handles: vec![Arc::new(store)], turn: AtomicUsize::new(0), clock, _dir: None }
}

pub(crate) fn directory(instances: usize) -> Setup {
    let clock = ManualClock::default();
    let dir = TempDir::new().unwrap();
    let open = |_| -> Arc<dyn Store> {
        Arc::new(DirectoryStore::open_with_clock(dir.path(), Arc::new(clock.clone())).unwrap())
    };
    let handles = (0..instances).map(open).collect();
    Setup { handles, turn: AtomicUsize::new(0), clock, _dir: Some(dir) }
}
