//! What many regions cost, printed; the assertions hold on any machine.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests fail by panicking")]

mod cluster;

use std::sync::Arc;
use std::time::Instant;

use cluster::Gc;
use logtide_coordinator::{
    Advancer, AdvancerConfig, DirectoryStore, MemoryStore, Store, TaskPublisher, TaskSpec, Tasks,
};
use logtide_model::{KeyRange, Publication, Publisher, RegionFact, Task, Ts, encode_raw_key};

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

#[test]
fn a_hundred_thousand_regions() {
    run(Arc::new(MemoryStore::new()), 10_000, "memory");
    run(Arc::new(MemoryStore::new()), 100_000, "memory");
    let dir = tempfile::TempDir::new().unwrap();
    run(Arc::new(DirectoryStore::open(dir.path()).unwrap()), 10_000, "directory");
    let dir = tempfile::TempDir::new().unwrap();
    run(Arc::new(DirectoryStore::open(dir.path()).unwrap()), 100_000, "directory");
}
