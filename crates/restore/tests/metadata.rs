//! Metadata that is damaged or wholly gone is noticed, and named with store and generation; what was truncated is not
//! missed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod lab;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lab::backup::{copy, get, paths, put};
use lab::history::{Cluster, History};
use lab::{Random, State, chain, restore_in_memory};
use logtide_format::{HEAD_PREFIX, MetaLink, MetaName, decode_head, encode_head};
use logtide_model::{Class, Diagnose, Ts};
use logtide_restore::RestoreError;
use logtide_storage::Storage;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A history whose stores say which metadata object comes before another.
fn linked(steps: u64) -> History {
    let history = (0..).map(|n| Cluster::run(2 * n, steps)).find(|h| !paths(&h.storage, "").is_empty() && has_links(h));
    history.unwrap()
}

fn has_links(history: &History) -> bool {
    paths(&history.storage, ".meta").iter().all(|path| MetaLink::parse(path).unwrap().is_some())
}

fn outcome(storage: &Storage, at: u64) -> std::result::Result<State, RestoreError> {
    restore_in_memory(storage, Some(at), |options| options.threads = Some(0))
        .map(|(_, state)| state.state_at(Ts::new(at)).unwrap())
}

fn without(storage: &Storage, gone: &[&str]) -> Storage {
    let copy = copy(storage);
    for path in gone {
        lab::block_on(copy.store.delete(&Path::from(*path))).unwrap();
    }
    copy
}

#[test]
fn a_flipped_bit_of_metadata_is_named_with_object_store_and_generation() {
    let history = linked(150);
    let (mut random, mut refused) = (Random(3), 0);
    for object in paths(&history.storage, ".meta") {
        let name = MetaName::parse(&object).unwrap();
        let len = get(&history.storage, &object).len() as u64;
        for _ in 0..5 {
            let bit = random.below(len * 8);
            let damaged = copy(&history.storage);
            let mut bytes = get(&damaged, &object);
            bytes[bit as usize / 8] ^= 1 << (bit % 8);
            put(&damaged, &object, bytes);
            let error = match outcome(&damaged, history.checkpoint) {
                Ok(state) => {
                    assert_eq!(state, history.at(history.checkpoint));
                    assert!(name.min_ts.get() > history.checkpoint || name.max_ts.get() <= history.start, "unseen");
                    continue;
                }
                Err(error) => error,
            };
            let (text, tag) = (chain(&error), name.tag.unwrap());
            assert!(matches!(error, RestoreError::Contradiction { .. }) && error.class() == Class::Corrupt, "{text}");
            let place = format!("store {}, boot {}, generation {}", name.store_id, tag.boot, tag.generation);
            assert!(text.contains(&object) && text.contains("checksum") && text.contains(&place), "{text}");
            assert!(error.remedy().contains("copy of the storage"), "{}", error.remedy());
            refused += 1;
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn a_metadata_object_that_is_gone_is_named_wherever_it_was() {
    let history = linked(300);
    let mut refused = [0, 0];
    for object in paths(&history.storage, ".meta") {
        let name = MetaName::parse(&object).unwrap();
        let is_last = paths(&history.storage, "")
            .iter()
            .filter(|path| path.starts_with(HEAD_PREFIX))
            .any(|head| decode_head(head, &get(&history.storage, head)).unwrap().0 == object);
        let damaged = without(&history.storage, &[&object]);
        for at in [history.checkpoint, history.start + (history.checkpoint - history.start) / 2] {
            let error = match outcome(&damaged, at) {
                Ok(state) => {
                    assert_eq!(state, history.at(at), "{object}");
                    assert!(name.min_ts.get() > at || name.max_ts.get() <= history.start, "{object} is not missed");
                    continue;
                }
                Err(error) => error,
            };
            let (text, tag) = (chain(&error), name.tag.unwrap());
            assert!(matches!(error, RestoreError::LostMetadata { .. }) && error.class() == Class::Corrupt, "{text}");
            let place = format!("generation {} of store {} (boot {})", tag.generation, name.store_id, tag.boot);
            assert!(text.contains(&place) && text.contains(&history.storage.url), "{text}");
            let of_name = format!("b{:016X}g{:016X}", tag.boot, tag.generation);
            assert!(object.contains(&of_name) && error.remedy().contains(&of_name), "{}", error.remedy());
            refused[usize::from(is_last)] += 1;
        }
    }
    assert!(refused[0] > 20 && refused[1] > 0, "{refused:?}: those that others name, and the last ones of boots");
}

/// What no restore of the log needs: no commit above its start, and no value of such a commit.
fn unneeded(history: &History) -> Vec<String> {
    let names: Vec<_> =
        paths(&history.storage, ".meta").into_iter().map(|p| (MetaName::parse(&p).unwrap(), p)).collect();
    let of_log = names.iter().filter(|(name, _)| name.max_ts.get() > history.start);
    let oldest = of_log.map(|(name, _)| name.min_begin_ts.get()).min().unwrap().min(history.start + 1);
    names.into_iter().filter(|(name, _)| name.max_ts.get() < oldest).map(|(_, path)| path).collect()
}

#[test]
fn what_was_truncated_is_not_missed() {
    let mut gone = 0;
    for history in (0..60).map(|n| Cluster::run(2 * n, 300)).filter(has_links) {
        let unneeded = unneeded(&history);
        let truncated = without(&history.storage, &unneeded.iter().map(String::as_str).collect::<Vec<_>>());
        let state = outcome(&truncated, history.checkpoint).unwrap_or_else(|e| panic!("{}", chain(&e)));
        assert_eq!(state, history.at(history.checkpoint));
        gone += unneeded.len();
    }
    assert!(gone > 20, "{gone}");
}

#[test]
fn a_damaged_head_is_named() {
    let history = linked(100);
    let head = paths(&history.storage, "").into_iter().find(|path| path.starts_with(HEAD_PREFIX)).unwrap();
    let damaged = copy(&history.storage);
    let mut bytes = get(&damaged, &head);
    bytes[40] ^= 1;
    put(&damaged, &head, bytes);
    let text = chain(&outcome(&damaged, history.checkpoint).unwrap_err());
    assert!(text.contains(&head), "{text}");
    let ahead = encode_head("v1/backupmeta/none.meta");
    put(&damaged, &head, ahead);
    assert!(outcome(&damaged, history.checkpoint).is_err());
}

/// A storage whose first listing comes too early for one object.
#[derive(Debug)]
struct Late {
    inner: Arc<dyn ObjectStore>,
    object: String,
    listed: AtomicBool,
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Late")
    }
}

#[async_trait]
impl ObjectStore for Late {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(to, payload, options).await
    }

    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(from, options).await
    }

    fn delete_stream(&self, objects: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(objects)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let all = self.inner.list(prefix);
        let of_metadata = prefix.is_some_and(|prefix| prefix.as_ref() == "v1/backupmeta");
        if !of_metadata || self.listed.swap(true, Ordering::SeqCst) {
            return all;
        }
        let late = self.object.clone();
        all.try_filter(move |meta| futures::future::ready(meta.location.as_ref() != late)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[test]
fn an_object_that_was_written_while_names_were_listed_is_not_lost() {
    let history = linked(200);
    let named = paths(&history.storage, ".meta");
    let mut late = 0;
    for object in &named {
        if outcome(&without(&history.storage, &[object]), history.checkpoint).is_ok() {
            continue;
        }
        let inner = history.storage.store.clone();
        let store = Arc::new(Late { inner, object: object.clone(), listed: AtomicBool::new(false) });
        let storage = Storage { store, url: history.storage.url.clone() };
        assert!(outcome(&storage, history.checkpoint).is_ok(), "{object}");
        late += 1;
    }
    assert!(late > 5, "{late}");
}
