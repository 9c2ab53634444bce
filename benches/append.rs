//! Appending to the spool and sealing it, against the same work over one contiguous buffer (DESIGN §13).
//!
//! `cargo bench -p logtide-benches --bench append`
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark: its output is the figures")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use logtide_benches::{Floor, Took, Turns, Workload};
use logtide_format::EntryKind;
use logtide_model::{Cf, Compression, MemoryBudget};
use logtide_temp_file::{SealedSpool, Spool, SpoolConfig, SpoolRoom};

/// Spool memory of all shards (the aim of DESIGN §13 for 10,000 segments).
const MEMORY: usize = 128 << 20;

/// The reference executor's MB of key and value a second (DESIGN §13): segments, value length, one thread, two threads.
const REFERENCE: [(usize, usize, [u32; 2]); 6] = [
    (1, 64, [165, 134]),
    (1, 4096, [446, 420]),
    (100, 64, [132, 244]),
    (100, 4096, [326, 456]),
    (10_000, 64, [33, 54]),
    (10_000, 4096, [205, 216]),
];

/// What one thread works with.
struct Lane {
    workload: Workload,
    floor: Floor,
    spool: Spool,
}

impl Lane {
    fn floor(&mut self) {
        black_box(self.floor.run(&self.workload).unwrap());
    }

    fn append(&mut self) -> SealedSpool {
        for event in self.workload.events() {
            self.spool.append(event.region_id, Cf::Default, EntryKind::Put, event.key, event.value).unwrap();
        }
        self.spool.seal().unwrap()
    }
}

/// All lanes at once: the time from the common start to the last end, and of the processors; results are dropped
/// afterwards.
fn together<T: Send>(lanes: &mut [Lane], work: impl Fn(&mut Lane) -> T + Sync) -> Took {
    let start = Barrier::new(lanes.len());
    let ends = thread::scope(|scope| {
        let threads = lanes.iter_mut().map(|lane| {
            scope.spawn(|| {
                start.wait();
                let begin = Instant::now();
                (begin, Took::of(|| work(lane)))
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let begin = ends.iter().map(|end| end.0).min().unwrap();
    let end = ends.iter().map(|(begin, (took, _))| *begin + took.wall).max().unwrap();
    Took { wall: end - begin, cpu: ends.iter().map(|(_, (took, _))| took.cpu).sum() }
}

fn lanes(shards: usize, segments: usize, value_len: usize, memory: &MemoryBudget) -> Vec<Lane> {
    // 16 KiB a segment where they are many, as between two flushes of a busy store.
    let total = (64 << 20).max(segments * (16 << 10));
    let lane = |shard: usize| {
        let of_shard = (segments / shards).max(1);
        let first = (shard * of_shard) as u64 + 1;
        let workload = Workload::new(shard as u64, first, of_shard, value_len, total / shards);
        let config = SpoolConfig {
            room: SpoolRoom::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("spool"), memory.clone(), u64::MAX),
            block_size: SpoolConfig::BLOCK_SIZE,
            compression: Compression::Zstd,
            encryption: None,
        };
        let floor = Floor::new(&workload).unwrap();
        Lane { workload, floor, spool: Spool::new(config, &format!("bench-{shard}")).unwrap() }
    };
    (0..shards).map(lane).collect()
}

fn append(c: &mut Criterion) {
    let mut table = Vec::new();
    let mut group = c.benchmark_group("append");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_millis(1));
    group.measurement_time(Duration::from_millis(100));
    for (segments, value_len, reference) in REFERENCE {
        for shards in [1, 2] {
            let memory = MemoryBudget::new(MEMORY);
            // Made when criterion's filter lets the benchmark run.
            let mut made = None;
            let mut turns = Turns::default();
            group.bench_function(format!("{segments} segments/{value_len} B/{shards} shards"), |b| {
                let lanes = made.get_or_insert_with(|| lanes(shards, segments, value_len, &memory));
                b.iter_custom(|n| {
                    (0..n).map(|_| turns.run(lanes, |l| together(l, Lane::floor), |l| together(l, Lane::append))).sum()
                });
            });
            let Some(lanes) = made else { continue };
            let bytes: usize = lanes.iter().map(|lane| lane.workload.bytes()).sum();
            table.push(row(segments, value_len, shards, bytes, &turns, reference[shards - 1], &memory));
        }
    }
    group.finish();
    println!(
        "MB of key and value a second, by the wall (and by the processor); ratio to the floor; the reference's rate"
    );
    println!("segments  value shards   floor   (cpu)   spool   (cpu)  ratio  (cpu)  reference  times  (cpu) peak MiB");
    table.iter().for_each(|row| println!("{row}"));
}

fn row(
    segments: usize,
    value_len: usize,
    shards: usize,
    bytes: usize,
    turns: &Turns,
    reference: u32,
    memory: &MemoryBudget,
) -> String {
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    let both = |took: Took| (rate(took.wall), rate(took.cpu) * shards as f64);
    let ((floor, floor_cpu), (spool, spool_cpu)) = (both(turns.floor()), both(turns.subject()));
    let ((ratio, ratio_cpu), reference) = (turns.ratio(), f64::from(reference));
    format!(
        "{segments:>8} {value_len:>6} {shards:>6} {floor:>7.0} {floor_cpu:>7.0} {spool:>7.0} {spool_cpu:>7.0} \
         {:>6.2} {:>6.2} {reference:>10} {:>6.1} {:>6.1} {:>8.1}",
        1.0 / ratio,
        1.0 / ratio_cpu,
        spool / reference,
        spool_cpu / reference,
        memory.peak() as f64 / f64::from(1 << 20),
    )
}

criterion_group!(benches, append);
criterion_main!(benches);
