//! Which metadata objects are gone: each of ours names the one before it, and a head names the last one of its boot.
//!
//! An object that is named and not there is lost if this restore could need records of it; if not, it may have been
//! truncated. What no other object names cannot be missed: objects of writers that tell no predecessor, and an object whose
//! own successor was truncated.
//!
//! Names come in any order and number: they are sorted, like records, within a share of the memory.

use std::sync::Arc;

use futures::TryStreamExt;
use logtide_format::{HEAD_PREFIX, METADATA_PREFIX, MetaLink, MetaName, ObjectTag, Previous, decode_head};
use logtide_model::Ts;
use logtide_model::codec::{CodecError, encode_var_u64, take_var_u64};
use logtide_storage::Storage;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::RestoreError;
use crate::fetch::spill;
use crate::log_info::{list, unreadable};
use crate::memory::Means;
use crate::plan::Window;
use crate::sort::{Merge, Runs, Sorter};

/// One metadata object of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    store: u64,
    boot: u64,
    generation: u64,
}

impl Place {
    fn of(name: &MetaName) -> Option<Place> {
        name.tag.map(|ObjectTag { boot, generation }| Place { store: name.store_id, boot, generation })
    }

    fn key(&self) -> [u8; 24] {
        let mut key = [0; 24];
        for (part, n) in key.chunks_exact_mut(8).zip([self.store, self.boot, self.generation]) {
            part.copy_from_slice(&n.to_be_bytes());
        }
        key
    }

    fn from_key(key: &[u8]) -> Option<Place> {
        let mut parts = key.chunks_exact(8).map(|part| part.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)));
        Some(Place { store: parts.next()?, boot: parts.next()?, generation: parts.next()? })
    }
}

/// Collects the names of metadata objects, and what they say of others.
pub(crate) struct Chain<'a> {
    means: &'a Means,
    runs: Arc<Runs>,
    sorter: Sorter<1>,
}

impl<'a> Chain<'a> {
    pub(crate) fn new(means: &'a Means) -> Self {
        let runs = Arc::new(means.runs());
        let sorter = Sorter::new([runs.clone()], means.shares.sort, &means.budget);
        Chain { means, runs, sorter }
    }

    /// An object is there.
    pub(crate) fn saw(&mut self, object: &str, name: &MetaName) -> Result<(), RestoreError> {
        let Some(place) = Place::of(name) else { return Ok(()) };
        self.push(place, &[])?;
        let Some(MetaLink { previous: Some(previous), .. }) = MetaLink::parse(object)? else { return Ok(()) };
        self.expect(Place { generation: previous.generation, ..place }, &previous, place.generation)
    }

    /// `by`, a generation or zero for the head, says that an object is there.
    fn expect(&mut self, place: Place, of: &Previous, by: u64) -> Result<(), RestoreError> {
        let mut payload = Vec::new();
        [of.min_ts.get(), of.max_ts.get(), by].into_iter().for_each(|n| encode_var_u64(n, &mut payload));
        self.push(place, &payload)
    }

    fn push(&mut self, place: Place, payload: &[u8]) -> Result<(), RestoreError> {
        self.sorter.push(0, &place.key(), &[payload]).map_err(|e| spill(&self.means.temp_dir, e))
    }

    /// Reads the heads: before names are listed, so that what they name is listed.
    pub(crate) async fn heads(&mut self, storage: &Storage) -> Result<(), RestoreError> {
        let objects = list(storage, HEAD_PREFIX);
        let reads = objects.map_ok(|meta| head(storage, meta)).try_buffer_unordered(self.means.concurrency);
        let mut reads = std::pin::pin!(reads);
        while let Some(name) = reads.try_next().await? {
            let Some(place) = Place::of(&name) else { continue };
            let of = Previous { generation: place.generation, min_ts: name.min_ts, max_ts: name.max_ts };
            self.expect(place, &of, 0)?;
        }
        Ok(())
    }

    /// The objects that are named, not there, and needed by the window.
    fn lost(self, window: &Window) -> Result<Vec<Lost>, RestoreError> {
        let io = |e| spill(&self.means.temp_dir, e);
        self.sorter.finish();
        let set = self.runs.finish().map_err(io)?;
        let mut merge = Merge::new(set.cursors(b"", b"", self.means.shares.window, &self.means.budget).map_err(io)?);
        let mut all = Vec::new();
        while let Some(place) = merge.key().and_then(Place::from_key) {
            let (mut there, mut named) = (false, None);
            while merge.key() == Some(&place.key()[..]) {
                match merge.payload().map_err(io)? {
                    [] => there = true,
                    said => named = Some(take(place, said).map_err(|e| io(std::io::Error::other(e)))?),
                }
                merge.advance().map_err(io)?;
            }
            all.extend(named.filter(|lost| !there && lost.is_needed(window) && all.len() < MOST));
        }
        Ok(all)
    }

    /// Refuses a window for which a metadata object is lost.
    pub(crate) async fn check(self, storage: &Storage, window: &Window) -> Result<(), RestoreError> {
        let mut lost = self.lost(window)?;
        if !lost.is_empty() {
            // A backup that goes on may have written one after its name was looked for; then the checkpoint that this
            // restore began with does not rest on it.
            let mut names = list(storage, METADATA_PREFIX);
            while let Some(meta) = names.try_next().await? {
                let place = MetaName::parse(meta.location.as_ref()).ok().and_then(|name| Place::of(&name));
                lost.retain(|lost| Some(lost.place) != place);
            }
        }
        lost.first().map_or(Ok(()), |lost| Err(lost.error(&storage.url)))
    }
}

/// One is told; a few more are kept in case that one shows up.
const MOST: usize = 64;

async fn head(storage: &Storage, meta: ObjectMeta) -> Result<MetaName, RestoreError> {
    let object = meta.location.as_ref();
    let failed = |e| unreadable(storage, object, e);
    let bytes = storage.store.get(&meta.location).await.map_err(failed)?.bytes().await.map_err(failed)?;
    Ok(decode_head(object, &bytes)?.1)
}

/// A metadata object that is not there.
struct Lost {
    place: Place,
    min_ts: Ts,
    max_ts: Ts,
    by: u64,
}

fn take(place: Place, mut said: &[u8]) -> Result<Lost, CodecError> {
    let mut next = || take_var_u64(&mut said);
    Ok(Lost { place, min_ts: Ts::new(next()?), max_ts: Ts::new(next()?), by: next()? })
}

impl Lost {
    fn is_needed(&self, window: &Window) -> bool {
        let (min_ts, max_ts) = (self.min_ts, self.max_ts);
        let unknown = Ts::ZERO;
        window.needs_object(&MetaName {
            flush_ts: unknown,
            store_id: self.place.store,
            min_begin_ts: unknown,
            min_ts,
            max_ts,
            flags: 0,
            tag: None,
        })
    }

    fn error(&self, storage: &str) -> RestoreError {
        let Place { store, boot, generation } = self.place;
        let named_by = match self.by {
            0 => format!("the head of boot {boot}"),
            by => format!("generation {by}"),
        };
        let (min_ts, max_ts, storage) = (self.min_ts, self.max_ts, storage.to_owned());
        RestoreError::LostMetadata { storage, store, boot, generation, min_ts, max_ts, named_by }
    }
}
