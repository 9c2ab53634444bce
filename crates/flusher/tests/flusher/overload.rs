//! A storage that asks for fewer requests, and one that refuses until somebody helps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use logtide_checkpoint::Backoff;
use logtide_flusher::{Blocking, FlushConfig, FlushEvent, Setback};
use logtide_model::Cf;
use object_store::Error;
use tokio::time::Instant;

use crate::fault_store::{Fault, FaultPublisher, FaultStore, Kind, Log};
use crate::fixture::{config, event, flusher, generation, spool, until};

const RETRY_AFTER: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 4;

fn judge(error: &Error) -> Setback {
    let text = error.to_string();
    if text.contains("slow down") {
        Setback::SlowDown { retry_after: Some(RETRY_AFTER) }
    } else if text.contains("expired") {
        Setback::Lasting { remedy: "renew it" }
    } else {
        Setback::Passing
    }
}

fn patient() -> FlushConfig {
    FlushConfig {
        judge,
        upload_concurrency: AT_ONCE,
        file_size_limit: 1,
        blocking: Blocking::InPlace,
        backoff: Backoff { first: Duration::from_millis(10), cap: Duration::from_millis(100) },
        ..config()
    }
}

/// Ten seconds of overload while a crowd of objects waits: whoever is refused makes all wait, so that in each interval
/// that the storage asked for there are no more requests than may be under way at once.
#[tokio::test(start_paused = true)]
async fn all_wait_together_when_the_storage_asks_for_fewer_requests() {
    let (log, dir, begun) = (Log::default(), tempfile::tempdir().unwrap(), Instant::now());
    let refused = Arc::new(Mutex::new(Vec::new()));
    let seen = refused.clone();
    let store = FaultStore::in_memory(&log, move |kind, _, _| {
        let at = begun.elapsed();
        if kind != Kind::Put || at >= Duration::from_secs(10) {
            return Fault::None;
        }
        seen.lock().unwrap().push(at);
        Fault::Say("slow down")
    });
    let (flusher, events) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), patient());
    let mut answers = Vec::new();
    for number in 1..=4 {
        let records: Vec<_> = (0..8).map(|region| event(region + 1, Cf::Default, number * 100, 2_000)).collect();
        let spools = vec![spool(dir.path(), &format!("g{number}"), 8 << 20, &records)];
        answers.push(flusher.submit(generation(number, spools)));
    }
    for answer in answers {
        assert!(answer.await.unwrap().unwrap().objects >= 8);
    }
    let refused = refused.lock().unwrap();
    for at in refused.iter() {
        let together = refused.iter().filter(|other| (*at..*at + RETRY_AFTER).contains(other)).count();
        assert!(together <= AT_ONCE, "{together} requests within {RETRY_AFTER:?} from {at:?}: {refused:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "the crowd is served soon after: {:?}", begun.elapsed());
    let told = events.lock().unwrap();
    let asked = Setback::SlowDown { retry_after: Some(RETRY_AFTER) };
    let obeyed = told.iter().filter_map(|event| match event {
        FlushEvent::Retrying { next, setback, .. } if *setback == asked => Some(*next),
        _ => None,
    });
    assert!(obeyed.clone().count() > 0 && obeyed.min().unwrap() >= RETRY_AFTER);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_must_mend_is_told_and_tried_again_until_it_is() {
    let (log, dir) = (Log::default(), tempfile::tempdir().unwrap());
    let renewed = Arc::new(AtomicBool::new(false));
    let good = renewed.clone();
    let store = FaultStore::in_memory(&log, move |_, _, _| match good.load(Ordering::SeqCst) {
        true => Fault::None,
        false => Fault::Say("the token is expired"),
    });
    let (flusher, events) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), patient());
    let spools = vec![spool(dir.path(), "s", 8 << 20, &[event(1, Cf::Default, 100, 50)])];
    let answer = flusher.submit(generation(1, spools));
    let lasting = Setback::Lasting { remedy: "renew it" };
    let is_told = |at_least: u32| {
        let told = events.lock().unwrap();
        told.iter().any(|event| match event {
            FlushEvent::Retrying { setback, failures, error, .. } => {
                *setback == lasting && *failures >= at_least && error.contains("expired")
            }
            _ => false,
        })
    };
    while !is_told(20) {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    renewed.store(true, Ordering::SeqCst);
    assert_eq!(answer.await.unwrap().unwrap().generation, 1);
    until(|| std::fs::read_dir(dir.path()).unwrap().count() == 0).await;
}
