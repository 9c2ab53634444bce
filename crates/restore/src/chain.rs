//! Which metadata objects are gone: each of ours names the one before it, and a head names the last one of its boot, or
//! one that others were merged into.
//!
//! An object *covers* the generations above its predecessor, up to its own. A generation that is named and covered by no
//! object is lost if this restore could need records of it; if not, it may have been truncated. What no other object names
//! cannot be missed: objects of writers that tell no predecessor, and an object whose own successor was truncated.
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
pub(crate) struct Place {
    pub(crate) store: u64,
    pub(crate) boot: u64,
    pub(crate) generation: u64,
}

impl Place {
    pub(crate) fn of(name: &MetaName) -> Option<Place> {
        name.tag.map(|ObjectTag { boot, generation }| Place { store: name.store_id, boot, generation })
    }

    /// The last generation of a boot comes first: what covers a generation comes before it.
    pub(crate) fn key(&self) -> [u8; 24] {
        let mut key = [0; 24];
        for (part, n) in key.chunks_exact_mut(8).zip([self.store, self.boot, !self.generation]) {
            part.copy_from_slice(&n.to_be_bytes());
        }
        key
    }

    pub(crate) fn from_key(key: &[u8]) -> Option<Place> {
        let mut parts = key.chunks_exact(8).map(|part| part.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)));
        Some(Place { store: parts.next()?, boot: parts.next()?, generation: !parts.next()? })
    }
}

/// The generations that a metadata object holds: those of `place`'s boot above `above`, up to that of `place`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Covered {
    pub(crate) place: Place,
    pub(crate) above: u64,
}

impl Covered {
    /// What an object of that name holds; `None` for one of a writer that does not say.
    pub(crate) fn of(object: &str, name: &MetaName) -> Result<Option<Covered>, RestoreError> {
        let Some(place) = Place::of(name) else { return Ok(None) };
        let link = MetaLink::parse(object)?;
        Ok(Some(Covered { place, above: link.map_or(place.generation.saturating_sub(1), |link| link.above()) }))
    }

    /// True if it holds all that the other one does.
    pub(crate) fn covers(&self, other: &Covered) -> bool {
        self.has(&other.place) && self.above <= other.above
    }

    fn has(&self, place: &Place) -> bool {
        let (here, of) = (self.place, place);
        (here.store, here.boot) == (of.store, of.boot) && self.above < of.generation && of.generation <= here.generation
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
        let Some(Covered { place, above }) = Covered::of(object, name)? else { return Ok(()) };
        let mut payload = vec![THERE];
        encode_var_u64(above, &mut payload);
        self.push(place, &payload)?;
        let Some(MetaLink { previous: Some(previous), .. }) = MetaLink::parse(object)? else { return Ok(()) };
        self.expect(Place { generation: previous.generation, ..place }, &previous, place.generation)
    }

    /// `by`, a generation or zero for the head, says that a generation has an object.
    fn expect(&mut self, place: Place, of: &Previous, by: u64) -> Result<(), RestoreError> {
        let mut payload = vec![NAMED];
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
        // The least that an object of this boot, of this generation or a later one, covers from.
        let (mut boot, mut above) = (None, u64::MAX);
        while let Some(place) = merge.key().and_then(Place::from_key) {
            if boot != Some((place.store, place.boot)) {
                (boot, above) = (Some((place.store, place.boot)), u64::MAX);
            }
            let mut named: Option<Lost> = None;
            while merge.key() == Some(&place.key()[..]) {
                let bad = |e: CodecError| io(std::io::Error::other(e));
                match merge.payload().map_err(io)? {
                    [THERE, said @ ..] => above = above.min(take_var_u64(&mut &said[..]).map_err(bad)?),
                    said => {
                        let said = take(place, said.get(1..).unwrap_or_default()).map_err(bad)?;
                        named = Some(named.map_or(said, |other| other.and(said)));
                    }
                }
                merge.advance().map_err(io)?;
            }
            let is_there = above < place.generation;
            all.extend(named.filter(|lost| !is_there && lost.is_needed(window) && all.len() < MOST));
        }
        Ok(all)
    }

    /// Refuses a window for which a metadata object is lost.
    pub(crate) async fn check(self, storage: &Storage, window: &Window) -> Result<(), RestoreError> {
        let mut lost = self.lost(window)?;
        if !lost.is_empty() {
            // A backup that goes on may have written one after its name was looked for; then the checkpoint that this
            // restore began with does not rest on it. Or it was merged into one that was not listed yet.
            let mut names = list(storage, METADATA_PREFIX);
            while let Some(meta) = names.try_next().await? {
                let object = meta.location.as_ref();
                let Ok(name) = MetaName::parse(object) else { continue };
                if let Some(covered) = Covered::of(object, &name)? {
                    lost.retain(|lost| !covered.has(&lost.place));
                }
            }
        }
        lost.first().map_or(Ok(()), |lost| Err(lost.error(&storage.url)))
    }
}

/// One is told; more are kept in case that one shows up: there may be one for each store that flushes or merges meanwhile.
const MOST: usize = 4096;
/// What a sorted payload says: an object is there.
const THERE: u8 = 0;
/// Or that there must be one.
const NAMED: u8 = 1;

async fn head(storage: &Storage, meta: ObjectMeta) -> Result<MetaName, RestoreError> {
    let object = meta.location.as_ref();
    let failed = |e| unreadable(storage, object, e);
    let bytes = storage.store.get(&meta.location).await.map_err(failed)?.bytes().await.map_err(failed)?;
    Ok(decode_head(object, &bytes)?.1)
}

/// A metadata object that is not there.
#[derive(Clone, Copy)]
pub(crate) struct Lost {
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
    /// An object that was listed and cannot be read.
    pub(crate) fn listed(name: &MetaName, covered: &Covered) -> Lost {
        Lost { place: covered.place, min_ts: name.min_ts, max_ts: name.max_ts, by: covered.place.generation }
    }

    /// What two say of the same: a head of a merged object says more of it than what comes after it.
    fn and(self, other: Lost) -> Lost {
        let (min_ts, max_ts) = (self.min_ts.min(other.min_ts), self.max_ts.max(other.max_ts));
        Lost { min_ts, max_ts, by: self.by.max(other.by), ..self }
    }

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

    pub(crate) fn error(&self, storage: &str) -> RestoreError {
        let Place { store, boot, generation } = self.place;
        let named_by = match self.by {
            0 => format!("the head of boot {boot}"),
            by => format!("generation {by}"),
        };
        let (min_ts, max_ts, storage) = (self.min_ts, self.max_ts, storage.to_owned());
        RestoreError::LostMetadata { storage, store, boot, generation, min_ts, max_ts, named_by }
    }
}
