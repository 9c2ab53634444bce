//! Several generations in flight help each other on: nothing waits but for what it has to come after.

use std::collections::BTreeSet;
use std::sync::Arc;

use logtide_flusher::Blocking;
use logtide_format::{HEAD_PREFIX, METADATA_PREFIX, MetaName};
use logtide_model::Cf;
use tokio::sync::Semaphore;

use crate::fault_store::{Entry, Fault, FaultPublisher, FaultStore, Kind, Log};
use crate::fixture::{config, end_of, event, flusher, generation, spool, until};
use crate::order::check_order;

#[tokio::test]
async fn a_slow_head_holds_back_no_commit_and_one_names_all_of_them() {
    let (dir, log, gate) = (tempfile::tempdir().unwrap(), Log::default(), Arc::new(Semaphore::new(0)));
    let held = gate.clone();
    let store = FaultStore::in_memory(&log, move |_, path, nth| match (path.starts_with(HEAD_PREFIX), nth) {
        (true, 0) => Fault::Hold(held.clone()),
        _ => Fault::None,
    });
    let (flusher, _) = flusher(store, FaultPublisher::new(&log, vec![]), config());
    let sealed = |g: u64| spool(dir.path(), &format!("g{g}"), 8 << 20, &[event(1, Cf::Default, g * 100 + 1, 50)]);
    let answers: Vec<_> = (1..=4).map(|g| flusher.submit(generation(g, vec![sealed(g)]))).collect();
    let durable = |prefix: &str| {
        let is_it = |e: &&Entry| matches!(e, Entry::Durable(path, _) if path.starts_with(prefix));
        log.lock().unwrap().iter().filter(is_it).count()
    };
    until(|| durable(METADATA_PREFIX) == 4).await;
    assert!(!log.lock().unwrap().iter().any(|e| matches!(e, Entry::Published(_))), "nothing is named yet");
    gate.add_permits(1);
    for answer in answers {
        end_of(answer).await.unwrap();
    }
    let heads = durable(HEAD_PREFIX);
    assert!(heads <= 2, "one for the first, one for all that were committed meanwhile; not {heads}");
    check_order(&log.lock().unwrap(), &BTreeSet::from([1, 2, 3, 4]), &BTreeSet::new());
}

#[tokio::test]
async fn an_earlier_generation_is_committed_while_later_ones_are_uploaded() {
    let (dir, log, gate) = (tempfile::tempdir().unwrap(), Log::default(), Arc::new(Semaphore::new(0)));
    let held = gate.clone();
    let store = FaultStore::in_memory(&log, move |kind, _, _| match kind {
        Kind::Part => Fault::Hold(held.clone()),
        _ => Fault::None,
    });
    let mut config = config();
    config.part_size = 100 << 10;
    config.upload_concurrency = 1;
    config.blocking = Blocking::InPlace;
    let (flusher, _) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config);
    let events = |g: u64| (0..50).map(move |i| event(1, Cf::Default, g * 100 + 1 + i, 20_000)).collect::<Vec<_>>();
    let sealed = |g: u64| spool(dir.path(), &format!("g{g}"), 8 << 20, &events(g));
    let answers: Vec<_> = (1..=3).map(|g| flusher.submit(generation(g, vec![sealed(g)]))).collect();
    // All of them have begun, and wait for the one place.
    until(|| store.count(Kind::Begin) == 3).await;
    gate.add_permits(1000);
    for answer in answers {
        end_of(answer).await.unwrap();
    }
    let log = log.lock().unwrap();
    let order: Vec<(bool, u64)> = log
        .iter()
        .filter_map(|entry| match entry {
            Entry::Durable(path, _) if path.starts_with(HEAD_PREFIX) => None,
            Entry::Durable(path, _) => Some(match MetaName::parse(path) {
                Ok(name) => (true, name.tag.unwrap().generation),
                // Told apart by the smallest ts.
                Err(_) => (false, (1..=3).find(|g| path.contains(&format!("/{}-", g * 100 + 1))).unwrap()),
            }),
            _ => None,
        })
        .collect();
    assert_eq!(order, [(false, 1), (true, 1), (false, 2), (true, 2), (false, 3), (true, 3)]);
}
