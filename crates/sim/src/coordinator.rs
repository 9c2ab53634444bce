//! The coordinator with faults: it refuses, and it loses answers of what it did, by seed.

use std::sync::Arc;
use std::time::Duration;

use logtide_coordinator::store::{KeyValue, LeaseId, Revision, Store, StoreError, Txn, TxnOutcome, Watch};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What goes wrong, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CoordinatorFaults {
    /// Calls that are refused and do nothing.
    pub(crate) refuse: f64,
    /// Calls that are done, and whose answer is lost.
    pub(crate) lose: f64,
    /// Every call is refused.
    pub(crate) away: bool,
}

/// See the module. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Flaky {
    inner: Arc<dyn Store>,
    state: Arc<Mutex<(SmallRng, CoordinatorFaults)>>,
}

impl Flaky {
    /// `inner`, without faults yet.
    pub(crate) fn new(inner: Arc<dyn Store>, seed: u64) -> Self {
        let state = (SmallRng::seed_from_u64(seed), CoordinatorFaults::default());
        Flaky { inner, state: Arc::new(Mutex::new(state)) }
    }

    /// What goes wrong from now on.
    pub(crate) fn set_faults(&self, faults: CoordinatorFaults) {
        self.state.lock().1 = faults;
    }

    fn call<T>(&self, work: impl FnOnce(&dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let (refused, lost) = {
            let (rng, faults) = &mut *self.state.lock();
            (faults.away || rng.random_bool(faults.refuse), rng.random_bool(faults.lose))
        };
        if refused {
            return Err(StoreError::Unavailable("refused".to_owned()));
        }
        let answer = work(&*self.inner)?;
        if lost { Err(StoreError::Unavailable("the answer was lost".to_owned())) } else { Ok(answer) }
    }
}

impl Store for Flaky {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.call(|store| store.get(key))
    }

    fn list(&self, prefix: &[u8]) -> Result<(Vec<KeyValue>, Revision), StoreError> {
        self.call(|store| store.list(prefix))
    }

    fn commit(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.call(|store| store.commit(txn))
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.call(|store| store.watch(prefix, from))
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.call(|store| store.grant(ttl))
    }

    fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.call(|store| store.keep_alive(lease))
    }

    fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.call(|store| store.revoke(lease))
    }
}
