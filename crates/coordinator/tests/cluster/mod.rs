//! A task, its stores, and a coordinator store that fails on demand.

#![allow(dead_code, reason = "every test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use logtide_coordinator::store::{KeyValue, LeaseId, ManualClock, Revision, Txn, TxnOutcome, Watch};
use logtide_coordinator::{
    Advancer, AdvancerConfig, GcHold, MemoryStore, RawRange, Store, StoreError, TaskPublisher, TaskSpec, Tasks,
    TickReport,
};
use logtide_model::{
    Compression, HostError, KeyRange, Publication, PublishError, Publisher, RegionFact, Task, TaskName, Ts,
};
use parking_lot::Mutex;

/// When the tasks of the tests start.
pub(crate) const START: Ts = Ts::new(100);

/// Fails at a commit that is chosen, before or after it was done.
pub(crate) struct Flaky {
    pub(crate) inner: MemoryStore,
    /// Commits until one fails; more than there are for never.
    until: AtomicUsize,
    /// True if the one that fails is done all the same.
    done: AtomicBool,
    failed: AtomicBool,
}

impl Flaky {
    pub(crate) fn new(inner: MemoryStore) -> Arc<Self> {
        Arc::new(Flaky { inner, until: AtomicUsize::new(usize::MAX), done: false.into(), failed: false.into() })
    }

    /// The `nth` commit from now on (from 0) fails, and all after it: as a crash there would have it.
    pub(crate) fn fail_from(&self, nth: usize, done: bool) {
        self.done.store(done, Ordering::SeqCst);
        self.until.store(nth, Ordering::SeqCst);
    }

    pub(crate) fn heal(&self) {
        self.until.store(usize::MAX, Ordering::SeqCst);
    }

    /// True if a commit has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    fn lost<T>(&self) -> Result<T, StoreError> {
        self.failed.store(true, Ordering::SeqCst);
        Err(StoreError::Unavailable("a test wants it".to_owned()))
    }
}

impl Store for Flaky {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.inner.get(key)
    }

    fn list(&self, prefix: &[u8]) -> Result<(Vec<KeyValue>, Revision), StoreError> {
        self.inner.list(prefix)
    }

    fn commit(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        match self.until.load(Ordering::SeqCst) {
            usize::MAX => self.inner.commit(txn),
            0 => {
                if self.done.swap(false, Ordering::SeqCst) {
                    self.inner.commit(txn)?;
                }
                self.lost()
            }
            n => {
                self.until.store(n - 1, Ordering::SeqCst);
                self.inner.commit(txn)
            }
        }
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.inner.watch(prefix, from)
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.grant(ttl)
    }

    fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.keep_alive(lease)
    }

    fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease)
    }
}

/// What GC is held at, by owner.
#[derive(Clone, Default)]
pub(crate) struct Gc {
    pub(crate) held: Arc<Mutex<BTreeMap<String, Ts>>>,
    pub(crate) passed: Arc<Mutex<Option<Ts>>>,
}

impl GcHold for Gc {
    fn hold_gc(&self, owner: &str, ts: Option<Ts>, _ttl: Duration) -> Result<(), HostError> {
        match (ts, *self.passed.lock()) {
            (Some(ts), Some(safepoint)) if ts < safepoint => return Err(HostError::GcPassed { ts, safepoint }),
            (Some(ts), _) => self.held.lock().insert(owner.to_owned(), ts),
            (None, _) => self.held.lock().remove(owner),
        };
        Ok(())
    }
}

pub(crate) struct Cluster {
    pub(crate) clock: ManualClock,
    pub(crate) store: Arc<Flaky>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) gc: Gc,
    pub(crate) now: Instant,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let clock = ManualClock::default();
        let store = Flaky::new(MemoryStore::with_clock(Arc::new(clock.clone())));
        let tasks = Arc::new(Tasks::new(store.clone()));
        Cluster { clock, store, tasks, gc: Gc::default(), now: Instant::now() }
    }

    pub(crate) fn advancer(&self, store_id: u64) -> Advancer {
        let config = AdvancerConfig { clock: Arc::new(self.clock.clone()), ..AdvancerConfig::new(store_id) };
        Advancer::new(self.store.clone(), self.gc.clone(), config)
    }

    pub(crate) fn create(&self, name: &str) -> Task {
        self.tasks.create(&spec(name)).unwrap()
    }

    /// Publishes facts about raw ranges.
    pub(crate) fn publish(
        &self,
        task: &Task,
        (store_id, boot, generation): (u64, u64, u64),
        facts: &[(&str, &str, u64)],
    ) -> Result<(), PublishError> {
        let facts = facts.iter().zip(1..).map(|(fact, region_id)| fact_of(region_id, *fact)).collect();
        let (task, incarnation) = (task.name.clone(), task.incarnation);
        let publication = Publication { task, incarnation, store_id, boot, generation, facts };
        TaskPublisher::new(self.store.clone()).publish(&publication)
    }

    pub(crate) fn global(&self, task: &Task) -> Option<Ts> {
        self.tasks.global_checkpoint(&task.name).unwrap()
    }

    /// A tick of an elected advancer in which nothing goes wrong.
    pub(crate) fn tick(&self, advancer: &mut Advancer) -> TickReport {
        let report = advancer.tick(self.now).unwrap();
        for tick in &report.tasks {
            assert!(tick.error.is_none() && tick.gc.is_none(), "{tick:?}");
        }
        report
    }

    /// All keys and values but those of leases, which differ by what was tried before.
    pub(crate) fn contents(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let all = self.store.inner.list(prefix.as_bytes()).unwrap().0;
        all.into_iter().map(|kv| (kv.key.escape_ascii().to_string(), kv.value.to_vec())).collect()
    }
}

pub(crate) fn name(name: &str) -> TaskName {
    TaskName::new(name).unwrap()
}

/// A task over the raw keys `a..m` and `n..`.
pub(crate) fn spec(task: &str) -> TaskSpec {
    TaskSpec {
        name: name(task),
        storage: "local:///backup/my%20log".to_owned(),
        start_ts: START,
        ranges: vec![RawRange::new("n", ""), RawRange::new("a", "m")],
        compression: Compression::Zstd,
        encryption: None,
    }
}

pub(crate) fn fact_of(region_id: u64, (start, end, ts): (&str, &str, u64)) -> RegionFact {
    let range = KeyRange::from_raw(start.as_bytes(), end.as_bytes());
    RegionFact { region_id, version: 3, range, checkpoint: Ts::new(ts), index: 10, term: 6 }
}
