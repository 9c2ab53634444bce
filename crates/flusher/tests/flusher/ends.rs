//! Stop, drain, and the ends that the coordinator decides.

use std::sync::Arc;
use std::time::Duration;

use logtide_flusher::{Drained, FlushError, FlushEvent};
use logtide_model::{Cf, Class, Diagnose};
use tokio::sync::Semaphore;

use crate::fault_store::{Answer, Entry, Fault, FaultPublisher, FaultStore, Log};
use crate::fixture::{BOOT, STORE, config, end_of, event, flusher, generation, objects, spool, until};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn drain_waits_and_tells_what_was_published() {
    let (log, dir, gate) = (Log::default(), tempfile::tempdir().unwrap(), Arc::new(Semaphore::new(0)));
    let held = gate.clone();
    let store = FaultStore::in_memory(&log, move |_, path, _| match path.contains("backupmeta") {
        true => Fault::Hold(held.clone()),
        false => Fault::None,
    });
    let (flusher, _) = flusher(store, FaultPublisher::new(&log, vec![]), config());
    assert!(flusher.drain(Duration::ZERO).await.is_complete(), "nothing was submitted");
    let sealed = |g: u64| vec![spool(dir.path(), &format!("g{g}"), 8 << 20, &[event(1, Cf::Default, g * 100, 50)])];
    let _answers: Vec<_> = (1..=2).map(|g| flusher.submit(generation(g, sealed(g)))).collect();
    let early = flusher.drain(Duration::from_millis(10)).await;
    assert_eq!(early, Drained { left: vec![1, 2], ..Drained::default() });
    assert!(!early.is_complete());
    gate.add_permits(2);
    let late = flusher.drain(LONG).await;
    assert_eq!(late, Drained { published: 2, ..Drained::default() });
    assert!(late.is_complete());
}

#[tokio::test]
async fn stop_ends_everything_at_once_and_frees_the_spool() {
    let (log, dir) = (Log::default(), tempfile::tempdir().unwrap());
    let store = FaultStore::in_memory(&log, |_, _, _| Fault::Before);
    let (flusher, events) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config());
    let records: Vec<_> = (0..300).map(|i| event(1, Cf::Default, 11 + i, 20_000)).collect();
    let answer = flusher.submit(generation(1, vec![spool(dir.path(), "s", 1 << 20, &records)]));
    let empty = flusher.submit(generation(2, vec![]));
    until(|| events.lock().unwrap().iter().any(|e| matches!(e, FlushEvent::Retrying { failures: 3, .. }))).await;
    flusher.stop();
    for (number, answer) in [(1, answer), (2, empty)] {
        let error = end_of(answer).await.unwrap_err();
        assert!(matches!(error, FlushError::Stopped { generation } if generation == number), "{error}");
    }
    let drained = flusher.drain(Duration::ZERO).await;
    assert!(drained.stopped && !drained.is_complete(), "{drained:?}");
    let refused = end_of(flusher.submit(generation(3, vec![]))).await.unwrap_err();
    assert!(matches!(refused, FlushError::Stopped { generation: 3 }), "{refused}");
    until(|| std::fs::read_dir(dir.path()).unwrap().count() == 0).await;
    assert!(
        objects(&*store.inner).await.is_empty() && log.lock().unwrap().iter().all(|e| matches!(e, Entry::Tried(_)))
    );
}

#[tokio::test]
async fn a_publisher_that_is_away_is_waited_for() {
    let log = Log::default();
    let store = FaultStore::in_memory(&log, |_, _, _| Fault::None);
    let answers = vec![Answer::Yes, Answer::Lost, Answer::Panic, Answer::Refused];
    let (flusher, events) = flusher(store, FaultPublisher::new(&log, answers), config());
    end_of(flusher.submit(generation(1, vec![]))).await.unwrap();
    let events = events.lock().unwrap();
    let retries: Vec<_> = events
        .iter()
        .filter_map(|e| match e {
            FlushEvent::Retrying { what, failures, .. } if what == "publish" => Some(*failures),
            _ => None,
        })
        .collect();
    assert_eq!(retries, [1, 2, 3]);
}

#[tokio::test]
async fn the_end_of_the_task_or_of_the_process_ends_all_generations() {
    for answer in [Answer::TaskGone, Answer::Superseded] {
        let log = Log::default();
        let store = FaultStore::in_memory(&log, |_, _, _| Fault::None);
        let gone = matches!(answer, Answer::TaskGone);
        let (flusher, _) = flusher(store, FaultPublisher::new(&log, vec![answer]), config());
        let answers: Vec<_> = (1..=2).map(|g| flusher.submit(generation(g, vec![]))).collect();
        for answer in answers {
            match end_of(answer).await.unwrap_err() {
                FlushError::TaskGone(name) => assert!(gone && name.as_str() == "pitr"),
                FlushError::Superseded { store_id, boot } => assert!(!gone && (store_id, boot) == (STORE, BOOT)),
                other => panic!("{other}"),
            }
        }
        assert!(log.lock().unwrap().is_empty(), "nothing was published");
    }
}

#[tokio::test]
async fn generations_of_another_source_or_with_a_gap_are_refused() {
    let log = Log::default();
    let store = FaultStore::in_memory(&log, |_, _, _| Fault::None);
    let (flusher, _) = flusher(store, FaultPublisher::new(&log, vec![]), config());
    end_of(flusher.submit(generation(1, vec![]))).await.unwrap();
    let mut other_boot = generation(2, vec![]);
    other_boot.boot += 1;
    for refused in [other_boot, generation(1, vec![]), generation(3, vec![])] {
        let number = refused.generation;
        let error = end_of(flusher.submit(refused)).await.unwrap_err();
        assert!(matches!(error, FlushError::Refused { generation, .. } if generation == number), "{error}");
        assert_eq!(error.class(), Class::Fatal);
    }
    end_of(flusher.submit(generation(2, vec![]))).await.unwrap();
}
