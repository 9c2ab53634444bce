//! A snapshot in memory, records by hand, and a clock by hand.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use logtide_model::message::{ScanEntry, ScanEvent};
use logtide_model::mvcc::{Lock, LockKind, Write, WriteKind};
use logtide_model::{
    Cf, Compression, HostError, Incarnation, KeyRange, KvIter, KvSnapshot, MemoryBudget, Op, Permit, Region,
    RegionEpoch, Task, TaskName, Ts, append_ts, encode_raw_key,
};

use crate::{RateLimiter, ScanError, ScanReport, Scanner, Waiter};

/// The column families of one region.
#[derive(Clone, Debug)]
pub(super) struct Store {
    region: Region,
    data: BTreeMap<Cf, BTreeMap<Vec<u8>, Bytes>>,
    /// Steps and seeks of its iterators.
    pub(super) moves: Arc<AtomicU64>,
    /// Bytes that each move reads from disk, if it counts them.
    pub(super) disk: Option<u64>,
    /// When a range was removed last.
    pub(super) range_delete: Option<Ts>,
}

/// The encoded key, with a timestamp.
pub(super) fn key_at(raw: &str, ts: u64) -> Vec<u8> {
    let mut key = encode_raw_key(raw.as_bytes());
    append_ts(&mut key, Ts::new(ts));
    key
}

impl Store {
    pub(super) fn new(range: KeyRange) -> Self {
        let region = Region { id: 9, epoch: RegionEpoch::default(), range };
        let data = [Cf::Default, Cf::Lock, Cf::Write].map(|cf| (cf, BTreeMap::new())).into();
        Store { region, data, moves: Arc::default(), disk: None, range_delete: None }
    }

    pub(super) fn cf(&self, cf: Cf) -> &BTreeMap<Vec<u8>, Bytes> {
        &self.data[&cf]
    }

    pub(super) fn insert(&mut self, cf: Cf, key: Vec<u8>, value: Vec<u8>) {
        self.data.get_mut(&cf).unwrap().insert(key, value.into());
    }

    pub(super) fn remove(&mut self, cf: Cf, key: &[u8]) {
        assert!(self.data.get_mut(&cf).unwrap().remove(key).is_some());
    }

    /// A write record; the value of a put goes to the default column family if it is longer than 64 bytes.
    pub(super) fn write(&mut self, kind: WriteKind, raw: &str, start_ts: u64, commit_ts: u64, value: &[u8]) {
        let short = kind == WriteKind::Put && value.len() <= 64;
        let write = Write::new(kind, Ts::new(start_ts), short.then_some(value));
        self.insert(Cf::Write, key_at(raw, commit_ts), write.to_bytes());
        if kind == WriteKind::Put && !short {
            self.insert(Cf::Default, key_at(raw, start_ts), value.to_vec());
        }
    }

    /// A lock; the value of a put goes to the default column family if it is longer than 64 bytes.
    pub(super) fn lock(&mut self, kind: LockKind, raw: &str, start_ts: u64, value: &[u8]) {
        let mut lock = Lock::new(kind, raw.as_bytes(), Ts::new(start_ts), 1);
        if kind == LockKind::Put && value.len() <= 64 {
            lock.short_value = Some(value.to_vec());
        } else if kind == LockKind::Put {
            self.insert(Cf::Default, key_at(raw, start_ts), value.to_vec());
        }
        self.insert(Cf::Lock, encode_raw_key(raw.as_bytes()), lock.to_bytes());
    }
}

impl KvSnapshot for Store {
    fn region(&self) -> &Region {
        &self.region
    }

    fn applied_index(&self) -> u64 {
        42
    }

    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, HostError> {
        Ok(self.cf(cf).get(key).cloned())
    }

    fn last_range_delete(&self) -> Option<Ts> {
        self.range_delete
    }

    fn read_bytes(&self) -> Option<u64> {
        self.disk.map(|bytes| bytes * self.moves.load(Ordering::Relaxed))
    }

    fn iter<'a>(&'a self, cf: Cf, range: &KeyRange) -> Result<Box<dyn KvIter + 'a>, HostError> {
        let range = range.intersect(&self.region.range).unwrap_or_else(|| KeyRange::new("x", "x"));
        Ok(Box::new(Iter { map: self.cf(cf), range, at: None, begun: false, moves: &self.moves }))
    }
}

struct Iter<'a> {
    map: &'a BTreeMap<Vec<u8>, Bytes>,
    range: KeyRange,
    at: Option<(&'a Vec<u8>, &'a Bytes)>,
    begun: bool,
    moves: &'a AtomicU64,
}

impl Iter<'_> {
    fn to(&mut self, from: Bound<&[u8]>) -> bool {
        self.begun = true;
        self.moves.fetch_add(1, Ordering::Relaxed);
        let next = self.map.range::<[u8], _>((from, Bound::Unbounded)).next();
        self.at = next.filter(|(key, _)| self.range.contains(key));
        self.at.is_some()
    }
}

impl KvIter for Iter<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<bool, HostError> {
        let from = self.range.start.clone().max(Bytes::copy_from_slice(key));
        Ok(self.to(Bound::Included(&from)))
    }

    fn next(&mut self) -> Result<bool, HostError> {
        match self.at {
            Some((key, _)) => Ok(self.to(Bound::Excluded(key))),
            None => {
                assert!(!self.begun, "moved behind the end");
                self.seek(b"")
            }
        }
    }

    fn key(&self) -> &[u8] {
        self.at.unwrap().0
    }

    fn value(&self) -> &[u8] {
        self.at.unwrap().1
    }
}

/// A clock that moves when somebody waits for it, and a consumer that works while the scan waits.
pub(super) struct Clock {
    start: Instant,
    elapsed: Cell<Duration>,
    pub(super) waits: Cell<u64>,
    cancel_after_waits: Cell<Option<u64>>,
    cancelled: Cell<bool>,
    /// What was handed over and is not yet handled.
    pub(super) held: RefCell<Vec<Permit>>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Clock {
            start: Instant::now(),
            elapsed: Cell::default(),
            waits: Cell::default(),
            cancel_after_waits: Cell::default(),
            cancelled: Cell::default(),
            held: RefCell::default(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    pub(super) fn cancel(&self) {
        self.cancelled.set(true);
    }

    pub(super) fn cancel_after_waits(&self, waits: u64) {
        self.cancel_after_waits.set(Some(waits));
    }
}

impl Waiter for Clock {
    fn now(&self) -> Instant {
        self.start + self.elapsed.get()
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    fn wait(&self, at_most: Duration) {
        self.elapsed.set(self.elapsed.get() + at_most);
        self.waits.set(self.waits.get() + 1);
        if self.cancel_after_waits.get() == Some(self.waits.get()) {
            self.cancel();
        }
        if !self.held.borrow().is_empty() {
            drop(self.held.borrow_mut().remove(0));
        }
    }
}

pub(super) fn task(ranges: Vec<KeyRange>) -> Task {
    Task {
        name: TaskName::new("t").unwrap(),
        incarnation: Incarnation(1),
        storage: String::new(),
        start_ts: Ts::ZERO,
        ranges,
        compression: Compression::None,
        encryption: None,
    }
}

pub(super) fn scanner(memory: usize, batch_bytes: usize) -> Scanner {
    Scanner { limiter: RateLimiter::unlimited(), memory: MemoryBudget::new(memory), batch_bytes }
}

/// What a scan emitted.
#[derive(Debug, Default)]
pub(super) struct Emitted {
    /// `s`tarted, `l`ocks, locks `d`one, `e`ntries, `r`eplayed, `f`inished.
    pub(super) order: String,
    pub(super) locks: Vec<(Bytes, Ts)>,
    pub(super) entries: Vec<ScanEntry>,
    pub(super) replayed: Vec<Op>,
    pub(super) largest_batch: usize,
}

impl Emitted {
    pub(super) fn take(&mut self, event: ScanEvent) -> Option<Permit> {
        let (letter, permit) = match event {
            ScanEvent::Started { applied_index, .. } => {
                assert_eq!(applied_index, 42);
                ('s', None)
            }
            ScanEvent::Locks { locks, permit } => {
                self.locks.extend(locks);
                ('l', Some(permit))
            }
            ScanEvent::LocksDone => ('d', None),
            ScanEvent::Data { entries, permit } => {
                self.entries.extend(entries);
                ('e', Some(permit))
            }
            ScanEvent::Replayed { ops, permit, .. } => {
                self.replayed.extend(ops);
                ('r', Some(permit))
            }
            ScanEvent::Finished => ('f', None),
            ScanEvent::Failed(error) => panic!("{error}"),
        };
        self.order.push(letter);
        self.largest_batch = self.largest_batch.max(permit.as_ref().map_or(0, Permit::bytes));
        permit
    }
}

/// Scans with a consumer that handles every event at once.
pub(super) fn scan(
    scanner: &Scanner,
    store: &Store,
    task: &Task,
    start_ts: u64,
) -> Result<(Emitted, ScanReport), ScanError> {
    let mut emitted = Emitted::default();
    let report = scanner.scan(store, task, Ts::new(start_ts), &Clock::new(), &mut |event| {
        emitted.take(event);
        true
    })?;
    Ok((emitted, report))
}
