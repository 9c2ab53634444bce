//! §15.12: what cannot be made durable poisons its generation and all later ones.

use std::sync::Arc;

use logtide_flusher::{FlushError, FlushEvent};
use logtide_format::METADATA_PREFIX;
use logtide_model::Cf;
use logtide_model::{Class, Diagnose};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use tokio::sync::Semaphore;

use crate::fault_store::{Entry, Fault, FaultPublisher, FaultStore, Kind, Log};
use crate::fixture::{config, end_of, event, exists, flusher, generation, objects, spool};

fn published(log: &Log) -> Vec<u64> {
    let log = log.lock().unwrap();
    log.iter().filter_map(|e| if let Entry::Published(p) = e { Some(p.generation) } else { None }).collect()
}

/// The objects that the second of three generations writes.
async fn objects_of_second() -> Vec<(String, bytes::Bytes)> {
    let (log, dir, store) = (Log::default(), tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
    let (flusher, _) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config());
    let sealed = |g: u64| vec![spool(dir.path(), "s", 8 << 20, &[event(1, Cf::Default, g * 100, 50)])];
    end_of(flusher.submit(generation(1, sealed(1)))).await.unwrap();
    let of_first = objects(&*store).await;
    end_of(flusher.submit(generation(2, sealed(2)))).await.unwrap();
    objects(&*store).await.into_iter().filter(|(path, _)| !of_first.contains_key(path)).collect()
}

/// Three generations, with an object of the second one there before.
async fn with_object(path: &str, content: bytes::Bytes, create_if_absent: bool) -> (Vec<Result<u64, FlushError>>, Log) {
    let (log, dir) = (Log::default(), tempfile::tempdir().unwrap());
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let store = FaultStore::in_memory(&log, move |kind, path, _| match kind {
        Kind::Put if path.contains("/100-") => Fault::Hold(held.clone()),
        _ => Fault::None,
    });
    store.inner.put(&Path::from(path), content.clone().into()).await.unwrap();
    let mut config = config();
    config.create_if_absent = create_if_absent;
    let (flusher, events) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config);
    let sealed = |g: u64| vec![spool(dir.path(), &format!("g{g}"), 8 << 20, &[event(1, Cf::Default, g * 100, 50)])];
    let answers: Vec<_> = (1..=3).map(|g| flusher.submit(generation(g, sealed(g)))).collect();
    gate.add_permits(1);
    let mut ends = Vec::new();
    for answer in answers {
        ends.push(end_of(answer).await.map(|flushed| flushed.generation));
    }
    assert_eq!(store.inner.get(&Path::from(path)).await.unwrap().bytes().await.unwrap(), content, "overwritten");
    if ends[1].is_err() {
        let mut events = std::mem::take(&mut *events.lock().unwrap());
        events.retain(|e| matches!(e, FlushEvent::Poisoned { .. }));
        assert!(matches!(events[..], [FlushEvent::Poisoned { generation: 2, .. }]), "{events:?}");
        let refused = end_of(flusher.submit(generation(4, vec![]))).await.unwrap_err();
        assert!(matches!(refused, FlushError::Poisoned { generation: 4, poisoned: 2, .. }), "{refused}");
    }
    (ends, log)
}

#[tokio::test]
async fn an_object_of_the_same_name_and_content_is_success() {
    for (path, content) in objects_of_second().await {
        for create_if_absent in [true, false] {
            let (ends, log) = with_object(&path, content.clone(), create_if_absent).await;
            assert!(ends.iter().all(Result::is_ok), "{path}: {ends:?}");
            assert_eq!(published(&log), [1, 2, 3]);
        }
    }
}

#[tokio::test]
async fn an_object_of_the_same_name_and_other_content_poisons() {
    for (path, content) in objects_of_second().await {
        let mut flipped = content.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        for other in [flipped, content[1..].to_vec(), vec![]] {
            for create_if_absent in [true, false] {
                let (ends, log) = with_object(&path, other.clone().into(), create_if_absent).await;
                assert!(matches!(ends[0], Ok(1)), "earlier ones go on: {:?}", ends[0]);
                for (number, end) in (2..).zip(&ends[1..]) {
                    let error = end.as_ref().unwrap_err();
                    let FlushError::Poisoned { generation, poisoned: 2, cause, .. } = error else { panic!("{error}") };
                    assert!(*generation == number && cause.contains(&path), "{error}");
                    assert_eq!(error.class(), Class::Retry);
                }
                assert_eq!(published(&log), [1]);
            }
        }
    }
}

#[tokio::test]
async fn a_spool_that_cannot_be_read_poisons() {
    let (log, dir) = (Log::default(), tempfile::tempdir().unwrap());
    let store = FaultStore::in_memory(&log, |_, _, _| Fault::None);
    let (flusher, events) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config());
    let records: Vec<_> = (0..300).map(|i| event(1, Cf::Default, 11 + i, 20_000)).collect();
    let sealed = spool(dir.path(), "s", 1 << 20, &records);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = std::fs::OpenOptions::new().write(true).open(file.unwrap().path()).unwrap();
        file.set_len(1000).unwrap();
    }
    let answers = [flusher.submit(generation(1, vec![sealed])), flusher.submit(generation(2, vec![]))];
    for answer in answers {
        let error = end_of(answer).await.unwrap_err();
        assert!(matches!(error, FlushError::Poisoned { poisoned: 1, .. }), "{error}");
    }
    assert_eq!(published(&log), Vec::<u64>::new());
    let metadata = objects(&*store.inner).await.into_keys().filter(|p| p.starts_with(METADATA_PREFIX)).count();
    assert_eq!(metadata, 0, "half a generation was committed");
    assert!(
        events
            .lock()
            .unwrap()
            .iter()
            .any(|e| matches!(e, FlushEvent::Poisoned { discarded, .. } if discarded == &[1, 2]))
    );
    assert!(!exists(&*store.inner, "v1/backupmeta").await);
    assert_eq!(flusher.drain(std::time::Duration::ZERO).await.lost, Some(1));
}
