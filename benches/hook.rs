//! The hook on the apply thread, against cloning the `Bytes` of the batch into a `Vec` (DESIGN §13).
//!
//! `cargo bench -p logtide-benches --bench hook`
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark: its output is the figures")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::Receiver;
use logtide_benches::{Took, Turns, Workload};
use logtide_model::message::ShardMessage;
use logtide_model::{
    ApplyBatch, Cf, Compression, Incarnation, KeyRange, MemoryBudget, Op, RaftObserver, Region, RegionEpoch, Role,
    Task, TaskName, Ts,
};
use logtide_observer::{Observer, ObserverConfig};

/// Events of a batch.
const BATCH: usize = 64;
/// Batches between two drains of the queue, which the shard does in real life and which is not measured.
const ROUND: usize = 256;
const OBSERVED: u64 = 1;
/// Shares its slot of the filter with the observed region.
const COLLIDES: u64 = OBSERVED + (1 << 16);

fn observer() -> (Observer, Vec<Receiver<ShardMessage>>) {
    let (observer, queues) = Observer::new(ObserverConfig { shards: 1, memory: MemoryBudget::new(1 << 30) });
    let task = Task {
        name: TaskName::new("bench").unwrap(),
        incarnation: Incarnation(1),
        storage: String::new(),
        start_ts: Ts::ZERO,
        ranges: vec![KeyRange::ALL],
        compression: Compression::Zstd,
        encryption: None,
    };
    observer.set_tasks(vec![Arc::new(task)]);
    let region = Region { id: OBSERVED, epoch: RegionEpoch::default(), range: KeyRange::ALL };
    observer.on_leadership(&region, 1, Role::Leader);
    (observer, queues)
}

/// Each batch lies in one buffer, as a raft entry does.
fn batches(size: usize) -> Vec<Vec<Op>> {
    let workload = Workload::new(1, 1, 1, 64, ROUND * BATCH.max(size) * 100);
    let events: Vec<_> = workload.events().take(ROUND * size).collect();
    let batch = |events: &[logtide_benches::Event<'_>]| {
        let buffer = Bytes::from(events.iter().flat_map(|e| [e.key, e.value].concat()).collect::<Vec<u8>>());
        let mut at = 0;
        let mut next = |len: usize| {
            at += len;
            buffer.slice(at - len..at)
        };
        let put = events.iter().map(|e| (next(e.key.len()), next(e.value.len())));
        put.map(|(key, value)| Op::Put { cf: Cf::Default, key, value }).collect()
    };
    events.chunks(size).map(batch).collect()
}

/// The floor: the batch's `Bytes` in a vector of their own.
fn clone_bytes(ops: &[Op]) -> Vec<Bytes> {
    let mut cloned = Vec::with_capacity(2 * ops.len());
    for op in ops {
        if let Op::Put { key, value, .. } = op {
            cloned.extend([key.clone(), value.clone()]);
        }
    }
    cloned
}

fn apply(observer: &Observer, region_id: u64, ops: &[Op]) {
    let epoch = RegionEpoch::default();
    observer.on_apply(black_box(&ApplyBatch { region_id, epoch, term: 1, first_index: 1, last_index: 1, ops }));
}

fn observed(c: &mut Criterion) {
    let mut group = c.benchmark_group("hook/observed");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for size in [BATCH, 1] {
        let batches = batches(size);
        let (observer, queues) = observer();
        let mut turns = Turns::default();
        let drain = || queues.iter().flat_map(Receiver::try_iter).for_each(drop);
        let floor = || {
            let (took, cloned) = Took::of(|| batches.iter().map(|ops| clone_bytes(black_box(ops))).collect::<Vec<_>>());
            drop(black_box(cloned));
            took
        };
        let hook = || {
            let (took, ()) = Took::of(|| batches.iter().for_each(|ops| apply(&observer, OBSERVED, ops)));
            drain();
            took
        };
        group.throughput(Throughput::Elements((ROUND * size) as u64));
        group.bench_function(format!("{ROUND} batches of {size}"), |b| {
            b.iter_custom(|n| (0..n).map(|_| turns.run(&mut (), |()| floor(), |()| hook())).sum());
        });
        let per_event = |time: Duration| time.as_secs_f64() * 1e9 / (ROUND * size) as f64;
        println!(
            "hook, batches of {size:>2}: floor {:.1} ns an event, hook {:.1} ns an event, ratio {:.2}; dropped {}",
            per_event(turns.floor().cpu),
            per_event(turns.subject().cpu),
            turns.ratio().1,
            observer.stats().dropped_batches
        );
    }
    group.finish();
}

fn not_observed(c: &mut Criterion) {
    let mut group = c.benchmark_group("hook/not observed");
    group.measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(200));
    let batches = batches(BATCH);
    let (busy, _queues) = observer();
    let (idle, _none) = Observer::new(ObserverConfig { shards: 1, memory: MemoryBudget::new(0) });
    for (name, observer, region_id) in
        [("no task", &idle, OBSERVED), ("follower", &busy, OBSERVED + 1), ("filter collision", &busy, COLLIDES)]
    {
        group.bench_function(name, |b| b.iter(|| apply(observer, region_id, &batches[0])));
    }
    group.finish();
}

criterion_group!(benches, observed, not_observed);
criterion_main!(benches);
