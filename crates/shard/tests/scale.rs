//! A store with 100,000 regions, half of which come at once: observer, shards, schedule and scanners on threads, with a
//! snapshot source that has nothing. What it takes is printed; the assertions hold on any machine.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use logtide_initial_scan::{Cancel, RateLimiter, ScanSchedule, Scanner};
use logtide_model::message::{ScanRequest, ScanStep, SealMarker, ShardMessage, StartPoint};
use logtide_model::{
    ApplyBatch, Cf, Compression, Confirmed, HostError, Incarnation, KeyRange, KvIter, KvSnapshot, MemoryBudget,
    RaftObserver, Region, RegionEpoch, RegionId, Role, Task, TaskName, Ts, encode_raw_key,
};
use logtide_observer::{Observer, ObserverConfig};
use logtide_shard::{SealedShard, Shard, ShardConfig, ShardEvent};
use logtide_temp_file::{SpoolRoom, TaskKeys};
use parking_lot::{Condvar, Mutex};

const REGIONS: u64 = 100_000;
const AT_ONCE: u64 = 50_000;
const SHARDS: usize = 2;
const SCANS: usize = 6;
/// Longer than any machine needs: a deadlock ends here.
const PATIENCE: Duration = Duration::from_secs(120);

/// A region without keys at index 10.
struct Empty(Region);

impl KvSnapshot for Empty {
    fn region(&self) -> &Region {
        &self.0
    }

    fn applied_index(&self) -> u64 {
        10
    }

    fn last_range_delete(&self) -> Option<Ts> {
        None
    }

    fn get(&self, _cf: Cf, _key: &[u8]) -> Result<Option<Bytes>, HostError> {
        Ok(None)
    }

    fn iter<'a>(&'a self, _cf: Cf, _range: &KeyRange) -> Result<Box<dyn KvIter + 'a>, HostError> {
        Ok(Box::new(Nothing))
    }
}

struct Nothing;

impl KvIter for Nothing {
    fn seek(&mut self, _key: &[u8]) -> Result<bool, HostError> {
        Ok(false)
    }

    fn next(&mut self) -> Result<bool, HostError> {
        Ok(false)
    }

    fn key(&self) -> &[u8] {
        unreachable!("it stands nowhere")
    }

    fn value(&self) -> &[u8] {
        unreachable!("it stands nowhere")
    }
}

/// The schedule as threads share it.
struct Turns {
    schedule: Mutex<ScanSchedule>,
    changed: Condvar,
    /// The most requests that ever waited.
    most: Mutex<usize>,
}

impl Turns {
    fn push(&self, request: ScanRequest) {
        let mut schedule = self.schedule.lock();
        schedule.push(request, Instant::now(), Ts::new(100));
        let counts = schedule.counts();
        let mut most = self.most.lock();
        *most = most.max(counts.later + counts.ready);
        self.changed.notify_one();
    }

    /// `None` once it is closed.
    fn take(&self, closed: &Mutex<bool>) -> Option<(ScanRequest, Cancel)> {
        let mut schedule = self.schedule.lock();
        loop {
            if *closed.lock() {
                return None;
            }
            let now = Instant::now();
            if let Some(turn) = schedule.take(now) {
                assert!(schedule.counts().running <= SCANS);
                return Some(turn);
            }
            match schedule.next_turn(now) {
                Some(at) => drop(self.changed.wait_until(&mut schedule, at)),
                None => self.changed.wait(&mut schedule),
            }
        }
    }
}

struct Node {
    observer: Observer,
    turns: Arc<Turns>,
    closed: Arc<Mutex<bool>>,
    memory: MemoryBudget,
    sealed: Receiver<SealedShard>,
    scanned: Receiver<RegionId>,
    threads: Vec<JoinHandle<()>>,
    task: Arc<Task>,
    _home: tempfile::TempDir,
}

fn shard_thread(mut shard: Shard, queue: Receiver<ShardMessage>, turns: Arc<Turns>, sealed: Sender<SealedShard>) {
    let mut out = Vec::new();
    for message in queue {
        shard.handle(message, &mut out);
        for event in out.drain(..) {
            match event {
                ShardEvent::Scan(request) => turns.push(request),
                ShardEvent::CancelScan(id) => drop(turns.schedule.lock().cancel(&id)),
                ShardEvent::Sealed(part) => sealed.send(part).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Node {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let memory = MemoryBudget::new(64 << 20);
        let (observer, queues) = Observer::new(ObserverConfig { shards: SHARDS, memory: memory.clone() });
        let turns =
            Turns { schedule: Mutex::new(ScanSchedule::new(SCANS)), changed: Condvar::new(), most: Mutex::default() };
        let (turns, closed) = (Arc::new(turns), Arc::<Mutex<bool>>::default());
        let ((sealed_tx, sealed), (scanned_tx, scanned)) = (unbounded(), unbounded());
        let mut threads = Vec::new();
        for (shard, queue) in queues.into_iter().enumerate() {
            let room = SpoolRoom::new(home.path().join("spool"), MemoryBudget::new(64 << 20), u64::MAX);
            let lock_memory = MemoryBudget::new(64 << 20);
            let keys = TaskKeys::default();
            let config = ShardConfig { shard, room, keys, block_size: 64 << 10, lock_memory };
            let (turns, sealed) = (turns.clone(), sealed_tx.clone());
            threads.push(std::thread::spawn(move || shard_thread(Shard::new(config), queue, turns, sealed)));
        }
        let scanner =
            Scanner { limiter: RateLimiter::unlimited(), memory: MemoryBudget::new(8 << 20), batch_bytes: 64 << 10 };
        for _ in 0..SCANS {
            let (observer, turns, closed) = (observer.clone(), turns.clone(), closed.clone());
            let (scanner, scanned) = (scanner.clone(), scanned_tx.clone());
            threads.push(std::thread::spawn(move || {
                while let Some((request, cancel)) = turns.take(&closed) {
                    request.gap.clear();
                    let start = StartPoint { ts: Ts::new(100), log_from: None };
                    let id = &request.id;
                    let sink = &mut |event| {
                        let step = ShardMessage::Scan(ScanStep { id: id.clone(), event });
                        observer.send(observer.shard_of(id.region_id), step)
                    };
                    let snapshot = Empty(request.region.clone());
                    let outcome = scanner.catch_up(&snapshot, &request.task, start, &|_, _| Ok(None), &cancel, sink);
                    turns.schedule.lock().done(id);
                    turns.changed.notify_one();
                    outcome.unwrap();
                    scanned.send(id.region_id).unwrap();
                }
            }));
        }
        let task = Arc::new(Task {
            name: TaskName::new("t").unwrap(),
            incarnation: Incarnation(1),
            storage: "memory://".to_owned(),
            start_ts: Ts::new(100),
            ranges: vec![KeyRange::ALL],
            compression: Compression::Zstd,
            encryption: None,
        });
        observer.broadcast(|_| ShardMessage::StartTask(task.clone()));
        observer.set_tasks(vec![task.clone()]);
        Node { observer, turns, closed, memory, sealed, scanned, threads, task, _home: home }
    }

    fn lead(&self, ids: std::ops::Range<u64>) {
        let bound = |n: u64| Bytes::from(encode_raw_key(format!("t/orders/{n:012}/row").as_bytes()));
        for id in ids {
            let range = KeyRange { start: bound(id), end: bound(id + 1) };
            self.observer.on_leadership(&Region { id, epoch: RegionEpoch::default(), range }, 5, Role::Leader);
        }
    }

    fn wait_for_scans(&self, n: u64) {
        let deadline = Instant::now() + PATIENCE;
        for done in 0..n {
            assert!(self.scanned.recv_deadline(deadline).is_ok(), "{done} of {n} regions are scanned");
        }
    }

    /// Seals; answers how many regions stated the barrier.
    fn seal(&self, generation: u64, applied_index: impl Fn(u64) -> u64) -> usize {
        let confirmed = (0..REGIONS).map(|region_id| {
            (region_id, Confirmed { region_id, term: 5, version: 0, applied_index: applied_index(region_id) })
        });
        let confirmed = confirmed.collect();
        let marker = SealMarker { task: self.task.name.clone(), generation, barrier: Ts::new(1000), confirmed };
        let marker = Arc::new(marker);
        self.observer.broadcast(|_| ShardMessage::Seal(marker.clone()));
        let parts: Vec<_> = (0..SHARDS).map(|_| self.sealed.recv_timeout(PATIENCE).unwrap()).collect();
        parts.iter().flat_map(|part| &part.facts).filter(|fact| fact.checkpoint == Ts::new(1000)).count()
    }

    fn stop(self) {
        *self.closed.lock() = true;
        self.turns.schedule.lock().close();
        self.turns.changed.notify_all();
        drop(self.observer);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Bytes of this process in memory; 0 where the kernel does not tell.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

#[test]
fn half_of_a_hundred_thousand_regions_start_at_once() {
    let node = Node::start();
    let before = resident();
    node.lead(0..REGIONS - AT_ONCE);
    node.wait_for_scans(REGIONS - AT_ONCE);
    let idle = resident().saturating_sub(before) / (REGIONS - AT_ONCE);

    // The others come at once, while those that are there write.
    let begun = Instant::now();
    node.lead(REGIONS - AT_ONCE..REGIONS);
    let told = begun.elapsed();
    let mut writes = 0;
    for id in (0..REGIONS - AT_ONCE).step_by(5) {
        let epoch = RegionEpoch::default();
        let batch = ApplyBatch { region_id: id, epoch, term: 5, first_index: 11, last_index: 11, ops: &[] };
        node.observer.on_apply(&batch);
        writes += 1;
    }
    node.wait_for_scans(AT_ONCE);
    let observed = begun.elapsed();
    let stated = node.seal(1, |id| if id < REGIONS - AT_ONCE && id.is_multiple_of(5) { 11 } else { 10 });
    assert_eq!(stated as u64, REGIONS, "every region states the barrier");
    let most = *node.turns.most.lock();
    assert!(most as u64 <= REGIONS && node.memory.peak() <= node.memory.limit());
    assert_eq!((node.memory.used(), node.observer.stats().dropped_batches), (0, 0));
    println!(
        "{REGIONS} regions on {SHARDS} shards: {idle} bytes an idle region; {AT_ONCE} at once are told in {told:?} and \
         observed in {observed:?} by {SCANS} scanners (at most {most} waited, {writes} writes meanwhile)"
    );
    assert!(idle < 3072, "{idle} bytes an idle region");
    node.stop();
}
