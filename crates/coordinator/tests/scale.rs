//! What many regions cost, printed; the assertions hold on any machine.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests fail by panicking")]

mod cluster;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::Gc;
use logtide_coordinator::store::ManualClock;
use logtide_coordinator::{
    Advancer, AdvancerConfig, DirectoryStore, MemoryStore, Store, TaskPublisher, TaskSpec, Tasks,
};
use logtide_model::{KeyRange, Publication, Publisher, RegionFact, Task, Ts, encode_raw_key};
use rustix::time::{ClockId, clock_gettime};

const STORES: u64 = 3;

/// Facts of a store that leads every third region; checkpoints as they are in a cluster: one barrier, some locks.
fn facts(bounds: &[Vec<u8>], store: u64, base: u64) -> Vec<RegionFact> {
    let fact = |i: usize| RegionFact {
        region_id: 1000 + 2 * i as u64,
        version: 5,
        range: KeyRange::new(bounds[i].clone(), bounds[i + 1].clone()),
        checkpoint: Ts::new(base + store * 1000 - if i.is_multiple_of(50) { i as u64 } else { 0 }),
        index: 1_000_000 + i as u64 % 777,
        term: 6,
    };
    (0..bounds.len() - 1).filter(|i| *i as u64 % STORES == store).map(fact).collect()
}

fn task(tasks: &Tasks) -> Task {
    tasks.create(&TaskSpec { ranges: vec![Default::default()], ..cluster::spec("t") }).unwrap()
}

fn run(store: Arc<dyn Store>, regions: usize, what: &str) {
    let mut bounds: Vec<Vec<u8>> =
        (0..=regions).map(|i| encode_raw_key(format!("t\x00table/{:04}/r/{i:012}", i / 100).as_bytes())).collect();
    bounds[0].clear();
    bounds[regions].clear();
    let tasks = Tasks::new(store.clone());
    let task = task(&tasks);
    let publisher = TaskPublisher::new(store.clone());
    let mut advancer = Advancer::new(store.clone(), Gc::default(), AdvancerConfig::new(0));
    let boots: Vec<u64> = (0..STORES).map(|id| tasks.boot_epoch(id).unwrap()).collect();
    for generation in 1..=4u64 {
        let base = 460_000_000_000_000_000 + generation * 1_000_000;
        let begun = Instant::now();
        for store_id in 0..STORES {
            let (task, incarnation, boot) = (task.name.clone(), task.incarnation, boots[store_id as usize]);
            let facts = facts(&bounds, store_id, base);
            publisher.publish(&Publication { task, incarnation, store_id, boot, generation, facts }).unwrap();
        }
        let published = begun.elapsed();
        let begun = Instant::now();
        let report = advancer.tick(begun).unwrap();
        let took = begun.elapsed();
        let tick = &report.tasks[0];
        assert!(tick.error.is_none(), "{tick:?}");
        assert_eq!((tick.publications, tick.facts), (STORES as usize, regions));
        assert!(tick.checkpoint >= Ts::new(base - regions as u64) && tick.checkpoint <= Ts::new(base));
        let begun = Instant::now();
        advancer.tick(begun).unwrap();
        let (idle, cover) = (begun.elapsed(), tick.cover);
        println!("{what}, {regions} regions: publish {published:?}, tick {took:?}, idle tick {idle:?}, cover {cover}");
    }
    let bytes: usize = store.list(b"/logtide").unwrap().0.iter().map(|kv| kv.value.len()).sum();
    println!("{what}, {regions} regions: the cover takes {bytes} bytes");
    assert!(bytes < regions * 40, "{bytes} bytes");
}

/// Stores of the large cluster: each publishes once a flush interval, not all at once.
const MANY_STORES: usize = 100;

/// Chunks of about half a megabyte that a tick may write (`advancer/edition.rs`).
const CHUNKS_A_TICK: usize = 4;

/// Of this thread: what neighbours do counts less in it.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Resident memory of this process in MiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

/// What a tick costs while one store after the other publishes, the regions of each spread over all: with a million of
/// them if `LOGTIDE_TEST_LONG` is set.
#[test]
fn many_regions_are_advanced_in_small_steps() {
    let regions = if std::env::var_os("LOGTIDE_TEST_LONG").is_some() { 1_000_000 } else { 200_000 };
    let bound = |i: usize| match i {
        0 => Vec::new(),
        i if i == regions => Vec::new(),
        i => encode_raw_key(format!("t\x00table/{:04}/r/{i:012}", i / 100).as_bytes()),
    };
    let fact = |i: usize, base: u64| RegionFact {
        region_id: 1000 + 2 * i as u64,
        version: 5,
        range: KeyRange::new(bound(i), bound(i + 1)),
        checkpoint: Ts::new(base),
        index: 1_000_000 + i as u64 % 777,
        term: 6,
    };
    // No lease expires by it, however slow the machine is.
    let store: Arc<dyn Store> = Arc::new(MemoryStore::with_clock(Arc::new(ManualClock::default())));
    let tasks = Tasks::new(store.clone());
    let (task, publisher) = (task(&tasks), TaskPublisher::new(store.clone()));
    let boots: Vec<u64> = (0..MANY_STORES as u64).map(|id| tasks.boot_epoch(id).unwrap()).collect();
    let base =
        |store_id: usize, generation: u64| 460_000_000_000_000_000 + (generation * 1000 + store_id as u64) * 262_144;
    let publish = |store_id: usize, generation: u64| {
        let base = base(store_id, generation);
        let facts = (0..regions).filter(|i| i % MANY_STORES == store_id).map(|i| fact(i, base)).collect();
        let (task, incarnation, boot) = (task.name.clone(), task.incarnation, boots[store_id]);
        let store_id = store_id as u64;
        publisher.publish(&Publication { task, incarnation, store_id, boot, generation, facts }).unwrap();
    };
    (0..MANY_STORES).for_each(|store_id| publish(store_id, 1));
    let before = resident();
    let mut advancer = Advancer::new(store.clone(), Gc::default(), AdvancerConfig::new(0));
    let begun = Instant::now();
    advancer.tick(begun).unwrap();
    println!("memory, {regions} regions: the first tick folds all of them in {:?}", begun.elapsed());
    let (mut took, mut editions) = (Vec::new(), BTreeSet::new());
    for tick in 0..40 {
        publish(tick, 2);
        if tick == 21 {
            // Another one goes on, from the last edition that is complete and the publications that are in none.
            advancer.resign().unwrap();
            advancer = Advancer::new(store.clone(), Gc::default(), AdvancerConfig::new(1));
        }
        let revision = store.list(b"/logtide").unwrap().1;
        let begun = processor_time();
        let report = advancer.tick(Instant::now()).unwrap();
        took.push(processor_time().saturating_sub(begun));
        assert!(report.tasks[0].error.is_none(), "{report:?}");
        assert_eq!(report.tasks[0].checkpoint, Ts::new(base(tick + 1, 1)), "what the next store stated holds it");
        assert!(tick == 21 || report.tasks[0].facts == regions / MANY_STORES, "what is folded is not folded again");
        let records = store.list(b"/logtide").unwrap().0;
        let written =
            records.iter().filter(|kv| kv.mod_revision > revision && kv.key.windows(7).any(|w| w == b"/cover/"));
        assert!(written.count() <= CHUNKS_A_TICK, "a tick writes some chunks and not the cover");
        editions.extend(
            records.iter().filter_map(|kv| {
                kv.key.windows(7).position(|w| w == b"/cover/").map(|at| kv.key[at..at + 23].to_vec())
            }),
        );
    }
    assert!(editions.len() > 2, "editions are completed and followed by others");
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "memory, {regions} regions: a tick with {} facts takes {median:?}, at worst {worst:?} of a processor; \
         the advancer holds {} MiB; {} editions",
        regions / MANY_STORES,
        resident().saturating_sub(before),
        editions.len()
    );
}

#[test]
fn a_hundred_thousand_regions() {
    run(Arc::new(MemoryStore::new()), 10_000, "memory");
    run(Arc::new(MemoryStore::new()), 100_000, "memory");
    let dir = tempfile::TempDir::new().unwrap();
    run(Arc::new(DirectoryStore::open(dir.path()).unwrap()), 10_000, "directory");
    let dir = tempfile::TempDir::new().unwrap();
    run(Arc::new(DirectoryStore::open(dir.path()).unwrap()), 100_000, "directory");
}
