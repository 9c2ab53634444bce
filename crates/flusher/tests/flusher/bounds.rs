//! I6: uploads hold no more than they may, whatever the size of a generation.

use std::sync::Arc;

use logtide_model::{Cf, MemoryBudget};
use tokio::sync::Semaphore;

use crate::fault_store::{Fault, FaultPublisher, FaultStore, Kind, Log};
use crate::fixture::{config, content_of, end_of, event, flusher, generation, objects, read_back, spool, until};

async fn flush_large(limit: usize, file_size_limit: u64, part_size: usize) -> (MemoryBudget, usize) {
    let dir = tempfile::tempdir().unwrap();
    let events: Vec<_> = (0..1200).map(|i| event(1 + i % 5, Cf::Default, 11 + i, 20_000)).collect();
    // Hardly any memory for the spool: its blocks are on disk, and reading them takes memory of the uploads.
    let sealed = spool(dir.path(), "s", 1 << 20, &events);
    assert!(sealed.files.iter().filter(|f| f.is_on_disk()).map(|f| f.stored_length()).sum::<u64>() > 16 << 20);
    let log = Log::default();
    let slow = |kind, _: &str, _| if matches!(kind, Kind::Put | Kind::Part) { Fault::Slow(200) } else { Fault::None };
    let store = FaultStore::in_memory(&log, slow);
    let mut config = config();
    config.upload_memory = MemoryBudget::new(limit);
    config.part_size = part_size;
    config.file_size_limit = file_size_limit;
    let memory = config.upload_memory.clone();
    let (flusher, _) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config);
    end_of(flusher.submit(generation(1, vec![sealed]))).await.unwrap();
    assert_eq!(read_back(&objects(&*store.inner).await, 1, &mut Vec::new()), content_of(&events));
    (memory, store.peak_requests())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_generation_is_uploaded_in_little_memory() {
    const LIMIT: usize = 1 << 20;
    // One object in many parts; many objects in parts; many objects that are put at once.
    for (file_size_limit, part_size) in [(1 << 30, 200 << 10), (2 << 20, 200 << 10), (300 << 10, 500 << 10)] {
        let (memory, requests) = flush_large(LIMIT, file_size_limit, part_size).await;
        assert!(memory.peak() <= LIMIT, "{} bytes were held", memory.peak());
        assert!(memory.peak() > LIMIT / 4, "only {} bytes were accounted", memory.peak());
        assert_eq!(memory.used(), 0);
        assert!(requests <= 4, "{requests} requests at once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_smaller_than_a_part_lets_one_through_at_a_time() {
    let (memory, _) = flush_large(1000, 1 << 30, 100 << 10).await;
    // A part, the rest of the blocks that it begins and ends in, and the metadata.
    assert!(memory.peak() < 400 << 10, "{} bytes were held", memory.peak());
}

#[tokio::test]
async fn parts_of_an_object_and_objects_of_generations_are_sent_at_once() {
    for part_size in [100 << 10, 8 << 20] {
        let (dir, log, gate) = (tempfile::tempdir().unwrap(), Log::default(), Arc::new(Semaphore::new(0)));
        let held = gate.clone();
        let store = FaultStore::in_memory(&log, move |kind, _, _| match kind {
            Kind::Put | Kind::Part => Fault::Hold(held.clone()),
            _ => Fault::None,
        });
        let mut config = config();
        config.part_size = part_size;
        config.upload_concurrency = 3;
        let (flusher, _) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config);
        let events: Vec<_> = (0..50).map(|i| event(1, Cf::Default, 11 + i, 20_000)).collect();
        // In parts: one generation is enough. At once: one object of each.
        let answers: Vec<_> = (1..=4)
            .map(|g| flusher.submit(generation(g, vec![spool(dir.path(), &format!("g{g}"), 8 << 20, &events)])))
            .collect();
        until(|| store.peak_requests() == 3).await;
        gate.add_permits(1000);
        for answer in answers {
            end_of(answer).await.unwrap();
        }
        assert_eq!(store.peak_requests(), 3);
    }
}
