//! Merging of metadata objects: whatever fails, whenever, nothing is lost, nothing is told in two ways, and flushing goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use logtide_flusher::{Exclusive, FlushConfig, Flusher, MergeError, NotExclusive};
use logtide_format::{
    HEAD_PREFIX, METADATA_PREFIX, MetaLink, MetaName, decode_head, decode_metadata, parse_head_path, proto,
};
use logtide_model::{Cf, MemoryBudget};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::fault_store::{Fault, FaultPublisher, FaultStore, Kind, Liar, Log};
use crate::fixture::{config, end_of, event, flusher, generation, objects, spool};

/// The right to merge, which can be taken away.
#[derive(Default)]
pub(crate) struct Alone {
    calls: Mutex<Vec<&'static str>>,
    busy: AtomicUsize,
}

impl Alone {
    fn call(&self, what: &'static str, refused: Option<NotExclusive>) -> BoxFuture<'_, Result<(), NotExclusive>> {
        self.calls.lock().unwrap().push(what);
        async move { refused.map_or(Ok(()), Err) }.boxed()
    }
}

impl Exclusive for Alone {
    fn acquire(&self) -> BoxFuture<'_, Result<(), NotExclusive>> {
        let busy = self.busy.load(Ordering::SeqCst) > 0;
        self.call("acquire", busy.then(|| NotExclusive::Busy("v1/LOCK.READ.7".to_owned())))
    }

    fn confirm(&self) -> BoxFuture<'_, Result<(), NotExclusive>> {
        self.call("confirm", None)
    }

    fn release(&self) -> BoxFuture<'_, Result<(), NotExclusive>> {
        self.call("release", None)
    }
}

/// Flushes so many generations with a block or two each.
async fn flush(flusher: &Flusher, dir: &std::path::Path, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let events = [event(1, Cf::Write, number * 100, 0), event(2, Cf::Default, number * 100 + 1, 50)];
        let spools = vec![spool(dir, &format!("g{number}"), 1 << 20, &events)];
        end_of(flusher.submit(generation(number, spools))).await.unwrap();
    }
}

/// Data objects of each generation, as all metadata objects together tell of them: each told in one way.
fn told(all: &BTreeMap<String, bytes::Bytes>) -> BTreeMap<String, proto::DataFileGroup> {
    let mut told = BTreeMap::new();
    for (path, bytes) in all.iter().filter(|(path, _)| path.starts_with(METADATA_PREFIX)) {
        for group in decode_metadata(path, bytes).unwrap().file_groups {
            assert!(all.contains_key(&group.path));
            let before = told.insert(group.path.clone(), group.clone());
            assert!(before.is_none_or(|before| before == group), "{} is told in two ways", group.path);
        }
    }
    told
}

/// Metadata objects: generations that each covers, whether it was merged.
fn covers(all: &BTreeMap<String, bytes::Bytes>) -> BTreeSet<(u64, u64, bool)> {
    let metas = all.keys().filter(|path| path.starts_with(METADATA_PREFIX));
    metas
        .map(|path| {
            let (name, link) = (MetaName::parse(path).unwrap(), MetaLink::parse(path).unwrap().unwrap());
            (link.above(), name.tag.unwrap().generation, link.is_merged())
        })
        .collect()
}

/// Generations of the heads of merged objects; each names an object that is covered.
async fn heads(store: &dyn ObjectStore, covered: &BTreeSet<(u64, u64, bool)>) -> Vec<u64> {
    use futures::TryStreamExt;
    let mut merged = Vec::new();
    for meta in store.list(Some(&Path::from(HEAD_PREFIX))).try_collect::<Vec<_>>().await.unwrap() {
        let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        let generation = decode_head(meta.location.as_ref(), &bytes).unwrap().1.tag.unwrap().generation;
        assert!(covered.iter().any(|(above, last, _)| above < &generation && generation <= *last), "{generation}");
        merged.extend(parse_head_path(meta.location.as_ref()).unwrap().2);
    }
    merged
}

fn setup(
    faults: impl Fn(Kind, &str, usize) -> Fault + Send + Sync + 'static,
    config: FlushConfig,
) -> (Flusher, Arc<FaultStore>) {
    let log = Log::default();
    let store = FaultStore::in_memory(&log, faults);
    let (flusher, _) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config);
    (flusher, store)
}

#[tokio::test]
async fn small_ones_become_one_again_and_again() {
    let (dir, alone) = (tempfile::tempdir().unwrap(), Alone::default());
    let (flusher, store) = setup(|_, _, _| Fault::None, config());
    let merging = flusher.merging();
    flush(&flusher, dir.path(), 1..=4).await;
    assert!(!merging.is_due(4) && !merging.is_due(0), "the newest stays");
    flush(&flusher, dir.path(), 5..=5).await;
    let before = told(&objects(&*store).await);
    for (from, upto, merged) in [(6, 5, 4), (6, 9, 8), (10, 13, 12)] {
        flush(&flusher, dir.path(), from..=upto).await;
        assert!(merging.is_due(4));
        let done = merging.run(&alone).await.unwrap().unwrap();
        assert_eq!(done.objects, if upto == 5 { 4 } else { 5 });
        let all = objects(&*store).await;
        let expected = BTreeSet::from([(0, merged, true), (merged, upto, false)]);
        assert_eq!(covers(&all), expected);
        assert_eq!(heads(&*store, &expected).await, [merged], "one head for the merged one");
        assert!(!merging.is_due(4) && merging.run(&alone).await.unwrap().is_none());
    }
    let after = told(&objects(&*store).await);
    assert!(before.iter().all(|(path, group)| after.get(path) == Some(group)) && after.len() == 13);
    assert_eq!(alone.calls.lock().unwrap()[..3], ["acquire", "confirm", "release"]);
}

#[tokio::test]
async fn a_crash_or_a_failure_at_any_request_loses_and_doubles_nothing() {
    let mut ends = BTreeSet::new();
    for crash in [false, true] {
        for kind in [Fault::Before, Fault::After] {
            for at in 0..14 {
                let dir = tempfile::tempdir().unwrap();
                let (seen, armed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
                let (count, arm, fault) = (seen.clone(), armed.clone(), kind.clone());
                let faults = move |_: Kind, _: &str, _: usize| {
                    let is_now = arm.load(Ordering::SeqCst) > 0 && count.fetch_add(1, Ordering::SeqCst) == at;
                    if is_now { fault.clone() } else { Fault::None }
                };
                let (flusher, store) = setup(faults, config());
                let (merging, alone) = (flusher.merging(), Alone::default());
                flush(&flusher, dir.path(), 1..=5).await;
                let before = told(&objects(&*store.inner).await);
                assert!(merging.is_due(4));
                armed.store(1, Ordering::SeqCst);
                let first = merging.run(&alone).await;
                armed.store(0, Ordering::SeqCst);
                assert_eq!(told(&objects(&*store.inner).await), before, "{at}: {first:?}");
                ends.insert(first.is_ok());
                if !crash {
                    if first.is_err() {
                        assert!(merging.is_due(4), "{at}: it goes on");
                        merging.run(&alone).await.unwrap().unwrap();
                    }
                    flush(&flusher, dir.path(), 6..=6).await;
                    let all = objects(&*store.inner).await;
                    assert_eq!(covers(&all), BTreeSet::from([(0, 4, true), (4, 5, false), (5, 6, false)]), "{at}");
                }
                let covered = covers(&objects(&*store.inner).await);
                heads(&*store.inner, &covered).await;
                // An object that may still show up keeps others out, until that is settled; nothing else does.
                let is_settled = !crash || first.is_ok();
                let calls = alone.calls.lock().unwrap();
                assert!(!is_settled || calls.last() == Some(&"release"), "{at}: {calls:?}");
            }
        }
    }
    assert_eq!(ends, BTreeSet::from([false, true]));
}

#[tokio::test]
async fn a_storage_that_has_no_create_or_lies_about_it_is_merged_on_all_the_same() {
    for create_if_absent in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        // It takes the condition and overwrites all the same.
        let lies = Arc::new(Liar(InMemory::new(), |_| false));
        let log = Log::default();
        let store = FaultStore::new(
            lies,
            &log,
            Box::new(|kind, path, nth| match (kind, nth) {
                (Kind::Put, 0) if path.contains('n') && path.starts_with(METADATA_PREFIX) => Fault::After,
                _ => Fault::None,
            }),
        );
        let (flusher, _) =
            flusher(store.clone(), FaultPublisher::new(&log, vec![]), FlushConfig { create_if_absent, ..config() });
        let (merging, alone) = (flusher.merging(), Alone::default());
        flush(&flusher, dir.path(), 1..=5).await;
        let before = told(&objects(&*store).await);
        while merging.is_due(4) {
            let _ = merging.run(&alone).await;
        }
        let all = objects(&*store).await;
        assert_eq!((told(&all), covers(&all)), (before, BTreeSet::from([(0, 4, true), (4, 5, false)])));
    }
}

#[tokio::test]
async fn what_is_damaged_is_left_as_it_is() {
    let (dir, alone) = (tempfile::tempdir().unwrap(), Alone::default());
    let (flusher, store) = setup(|_, _, _| Fault::None, config());
    let merging = flusher.merging();
    flush(&flusher, dir.path(), 1..=5).await;
    let path = objects(&*store).await.into_keys().find(|path| path.starts_with(METADATA_PREFIX)).unwrap();
    store.put(&Path::from(path.as_str()), b"damaged".to_vec().into()).await.unwrap();
    let before = objects(&*store).await;
    assert!(merging.is_due(4));
    let error = merging.run(&alone).await.unwrap_err();
    assert!(matches!(&error, MergeError::GivenUp(cause) if cause.contains(&path)), "{error}");
    assert_eq!(objects(&*store).await, before);
    assert!(!merging.is_due(4));
    flush(&flusher, dir.path(), 6..=9).await;
    assert!(merging.is_due(4));
    merging.run(&alone).await.unwrap().unwrap();
    assert!(covers(&objects(&*store).await).contains(&(4, 8, true)), "what comes later is merged");
}

#[tokio::test]
async fn what_the_storage_keeps_otherwise_stands_for_nothing() {
    let (dir, alone) = (tempfile::tempdir().unwrap(), Alone::default());
    let is_merged = |path: &str| MetaLink::parse(path).is_ok_and(|link| link.is_some_and(|link| link.is_merged()));
    let (log, liar) = (Log::default(), Arc::new(Liar(InMemory::new(), is_merged)));
    let store = FaultStore::new(liar, &log, Box::new(|_, _, _| Fault::None));
    let (flusher, _) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config());
    let merging = flusher.merging();
    flush(&flusher, dir.path(), 1..=5).await;
    let before = objects(&*store).await;
    assert!(merging.is_due(4));
    let error = merging.run(&alone).await.unwrap_err();
    assert!(matches!(&error, MergeError::GivenUp(cause) if cause.contains("other content")), "{error}");
    assert_eq!(objects(&*store).await, before, "a restore would take it for damaged metadata");
    assert_eq!(alone.calls.lock().unwrap().last(), Some(&"release"));
}

#[tokio::test]
async fn others_and_uploads_come_first() {
    let (dir, alone) = (tempfile::tempdir().unwrap(), Alone::default());
    let memory = MemoryBudget::new(8 << 20);
    let (flusher, store) = setup(|_, _, _| Fault::None, FlushConfig { upload_memory: memory.clone(), ..config() });
    let merging = flusher.merging();
    flush(&flusher, dir.path(), 1..=5).await;
    let before = objects(&*store).await;
    alone.busy.store(1, Ordering::SeqCst);
    assert!(merging.is_due(4));
    assert!(matches!(merging.run(&alone).await, Err(MergeError::Busy(who)) if who.contains("v1/LOCK.READ.7")));
    alone.busy.store(0, Ordering::SeqCst);
    let taken = memory.force_acquire(8 << 20);
    assert!(matches!(merging.run(&alone).await, Err(MergeError::NoMemory { .. })));
    assert_eq!(objects(&*store).await, before);
    flush(&flusher, dir.path(), 6..=6).await;
    drop(taken);
    let idle = memory.used();
    merging.run(&alone).await.unwrap().unwrap();
    assert_eq!((memory.used(), covers(&objects(&*store).await).len()), (idle, 3));
}
