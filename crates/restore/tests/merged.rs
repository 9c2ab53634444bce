//! Merged metadata objects: whatever a store leaves of a merge, and whenever it merges, a restore finds each logical file
//! once, and notices what is gone or damaged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod lab;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use lab::backup::{copy, get, paths, put};
use lab::history::{Cluster, History};
use lab::merging::{Step, boots, merge_some, merged, put_back, steps};
use lab::{Random, State, chain, restore_in_memory};
use logtide_format::{MetaLink, MetaName};
use logtide_model::{Class, Diagnose, Ts};
use logtide_restore::{PlanSummary, RestoreError};
use logtide_storage::Storage;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Histories whose metadata objects tell of one another.
fn histories(steps: u64) -> impl Iterator<Item = History> {
    (0..).map(move |n| Cluster::run(2 * n, steps)).filter(|history| {
        let all = paths(&history.storage, ".meta");
        all.iter().all(|path| MetaLink::parse(path).unwrap().is_some()) && !all.is_empty()
    })
}

/// What does not depend on how data objects are told of.
type Counts = [u64; 6];

fn counts(plan: &PlanSummary) -> Counts {
    [plan.objects, plan.files, plan.records, plan.bytes, plan.plain_bytes, plan.skipped_records]
}

fn outcome(storage: &Storage, at: u64) -> std::result::Result<(State, Counts), RestoreError> {
    restore_in_memory(storage, Some(at), |options| options.threads = Some(0))
        .map(|(summary, state)| (state.state_at(Ts::new(at)).unwrap(), counts(&summary.plan)))
}

fn some_ts(history: &History) -> [u64; 3] {
    let span = history.checkpoint - history.start;
    [history.checkpoint, history.start + span / 2, history.start + span / 5]
}

/// As to what is read.
fn counts_at_least(found: &Counts, least: &Counts) -> bool {
    found[..5].iter().zip(least).all(|(found, least)| found >= least)
}

fn assert_same(found: &(State, Counts), expected: &(State, Counts), what: &str) {
    assert!(found.0 == expected.0, "{what}: another state");
    assert_eq!(found.1, expected.1, "{what}: objects, files, records, bytes, plain bytes, skipped records");
}

#[test]
fn after_a_crash_at_any_step_each_file_counts_once() {
    let mut tried = 0;
    for history in histories(150).take(6) {
        for at in some_ts(&history) {
            for boot in boots(&history.storage, 2) {
                // The name of a merged object prunes less: it is compared with the merge that was done.
                let storage = copy(&history.storage);
                steps(&storage, &boot).iter().for_each(|step| step.apply(&storage));
                let expected = outcome(&storage, at).unwrap();
                assert_eq!(expected.0, history.at(at));
                assert!(counts_at_least(&expected.1, &outcome(&history.storage, at).unwrap().1));
                let storage = copy(&history.storage);
                for (done, step) in steps(&storage, &boot).iter().enumerate() {
                    step.apply(&storage);
                    let found = outcome(&storage, at).unwrap_or_else(|e| panic!("{done}: {}", chain(&e)));
                    assert_same(&found, &expected, &format!("{at} after step {done}"));
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_merged_object_may_be_merged_again() {
    let (mut random, mut again) = (Random(5), 0);
    for history in histories(300).take(6) {
        let storage = copy(&history.storage);
        assert!(merge_some(&storage, &mut random) > 0);
        let sizes = merged(&storage).into_iter().map(|path| MetaLink::parse(&path).unwrap().unwrap().merged);
        again += sizes.filter(|count| *count > 2).count();
        for at in some_ts(&history) {
            let (state, counts) = outcome(&storage, at).unwrap();
            assert!(state == history.at(at) && counts_at_least(&counts, &outcome(&history.storage, at).unwrap().1));
        }
    }
    assert!(again > 5, "{again}");
}

#[test]
fn what_is_gone_before_inside_and_after_a_merged_object_is_noticed() {
    let mut refused = [0; 3];
    for history in histories(300).take(8) {
        let Some(boot) = boots(&history.storage, 6).into_iter().next() else { continue };
        let storage = copy(&history.storage);
        let run = boot[2..boot.len() - 2].to_vec();
        steps(&storage, &run).iter().for_each(|step| step.apply(&storage));
        let merged = merged(&storage).remove(0);
        for (which, object) in [&boot[1], &merged, &boot[boot.len() - 2]].into_iter().enumerate() {
            let damaged = copy(&storage);
            lab::block_on(damaged.store.delete(&Path::from(object.as_str()))).unwrap();
            for at in some_ts(&history) {
                match outcome(&damaged, at) {
                    Ok((state, _)) => {
                        let name = MetaName::parse(object).unwrap();
                        assert!(state == history.at(at), "{object} is missed at {at}");
                        assert!(
                            name.min_ts.get() > at || name.max_ts.get() <= history.start,
                            "{object} is needed at {at}"
                        );
                    }
                    Err(error) => {
                        let text = chain(&error);
                        assert!(matches!(error, RestoreError::LostMetadata { .. }), "{text}");
                        assert_eq!(error.class(), Class::Corrupt);
                        refused[which] += 1;
                    }
                }
            }
        }
        let expected = outcome(&storage, history.checkpoint).unwrap();
        // What is left of the originals while the merged one is there is not missed.
        let originals: Vec<_> = run.iter().map(|path| (path.clone(), get(&history.storage, path))).collect();
        for gone in 0..originals.len() {
            let storage = copy(&storage);
            put_back(&storage, &[&originals[..gone], &originals[gone + 1..]].concat());
            assert_same(&outcome(&storage, history.checkpoint).unwrap(), &expected, "one is gone");
        }
    }
    assert!(refused.iter().all(|count| *count > 5), "{refused:?}");
}

#[test]
fn a_merged_object_that_is_gone_is_missed_for_its_oldest_records_too() {
    let mut refused = 0;
    for history in histories(300).take(8) {
        for boot in boots(&history.storage, 4) {
            let storage = copy(&history.storage);
            let run = &boot[..boot.len() - 1];
            steps(&storage, run).iter().for_each(|step| step.apply(&storage));
            let merged = merged(&storage).remove(0);
            let last = MetaName::parse(run.last().unwrap()).unwrap();
            lab::block_on(storage.store.delete(&Path::from(merged.as_str()))).unwrap();
            // The object after it says only what the last of those that were merged had.
            let at = last.min_ts.get().saturating_sub(1);
            if at > history.start && at < history.checkpoint && MetaName::parse(&merged).unwrap().min_ts.get() <= at {
                let error = outcome(&storage, at).map(drop).unwrap_err();
                assert!(matches!(error, RestoreError::LostMetadata { .. }), "{}", chain(&error));
                refused += 1;
            }
        }
    }
    assert!(refused > 3, "{refused}");
}

#[test]
fn a_damaged_merged_object_is_named() {
    let (mut random, mut refused) = (Random(8), 0);
    for history in histories(200).take(3) {
        let storage = copy(&history.storage);
        merge_some(&storage, &mut random);
        for object in merged(&storage) {
            let damaged = copy(&storage);
            let mut bytes = get(&damaged, &object);
            let bit = random.below(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
            put(&damaged, &object, bytes);
            match outcome(&damaged, history.checkpoint) {
                Ok((state, _)) => assert!(state == history.at(history.checkpoint)),
                Err(error) => {
                    let text = chain(&error);
                    assert!(text.contains(&object) && text.contains("checksum"), "{text}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 5, "{refused}");
}

/// A storage in which a store merges while it is read: all steps at a certain request, in the middle of a listing too.
#[derive(Debug)]
struct Meanwhile {
    inner: Storage,
    steps: Vec<Step>,
    /// At which request, and which of its names a listing has told before.
    at: (usize, usize),
    requests: Arc<AtomicUsize>,
}

impl fmt::Display for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Meanwhile {
    fn is_now(&self) -> bool {
        self.requests.fetch_add(1, Ordering::SeqCst) == self.at.0
    }

    async fn merge(storage: &Storage, steps: &[Step]) {
        for step in steps {
            step.apply_now(storage).await;
        }
    }
}

#[async_trait]
impl ObjectStore for Meanwhile {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.store.put_opts(to, payload, options).await
    }

    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.store.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        if self.is_now() {
            Meanwhile::merge(&self.inner, &self.steps).await;
        }
        self.inner.store.get_opts(from, options).await
    }

    fn delete_stream(&self, objects: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.store.delete_stream(objects)
    }

    /// Names in an order that has the merged object, if it is there, before everything: a storage may list as it likes.
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if !self.is_now() {
            return self.inner.store.list(prefix);
        }
        let (inner, steps, told, prefix) = (self.inner.clone(), self.steps.clone(), self.at.1, prefix.cloned());
        let listing = async move {
            let before: Vec<_> = inner.store.list(prefix.as_ref()).collect().await;
            Meanwhile::merge(&inner, &steps).await;
            let Some(Step::Put(merged, _)) = steps.first() else { return before };
            let after: Vec<_> = inner.store.list(prefix.as_ref()).collect().await;
            let mut names: Vec<_> = before.into_iter().take(told).collect();
            let is_told = |meta: &Result<ObjectMeta>| {
                let path = &meta.as_ref().unwrap().location;
                path.as_ref() == merged || names.iter().any(|name| name.as_ref().unwrap().location == *path)
            };
            let rest: Vec<_> = after.into_iter().filter(|meta| !is_told(meta)).collect();
            names.extend(rest);
            names
        };
        listing.into_stream().flat_map(futures::stream::iter).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.store.copy_opts(from, to, options).await
    }
}

#[test]
fn what_is_merged_while_it_is_listed_and_read_is_found() {
    let mut tried = 0;
    for history in histories(120).take(3) {
        let at = history.checkpoint;
        let Some(boot) = boots(&history.storage, 3).into_iter().next() else { continue };
        let (before, after) = (copy(&history.storage), copy(&history.storage));
        steps(&after, &boot).iter().for_each(|step| step.apply(&after));
        let expected = [outcome(&before, at).unwrap(), outcome(&after, at).unwrap()];
        let (mut request, mut requests) = (0, usize::MAX);
        while request < requests {
            for told in [0, 1, boot.len() / 2, usize::MAX] {
                let inner = copy(&history.storage);
                let steps = steps(&inner, &boot);
                let count = Arc::new(AtomicUsize::new(0));
                let store = Meanwhile { inner, steps, at: (request, told), requests: count.clone() };
                let storage = Storage { store: Arc::new(store), url: history.storage.url.clone() };
                let found =
                    outcome(&storage, at).unwrap_or_else(|e| panic!("request {request}, {told}: {}", chain(&e)));
                assert!(expected.contains(&found), "merged at request {request}, {told}: {:?}", found.1);
                requests = count.load(Ordering::SeqCst);
                tried += 1;
            }
            request += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}
