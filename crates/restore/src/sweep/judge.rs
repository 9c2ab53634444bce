//! Who refers to what: names and references come in any order and number, and are sorted, like records, within a share of
//! the memory.
//!
//! Data is listed before metadata is read: what is committed meanwhile is listed too late, not missed. What nothing refers
//! to is put beside the metadata objects of its store and boot: above the newest of them it was not committed, and
//! never will be if the store has a newer boot; below, it is superfluous if the metadata of its generation is there, and
//! all that is left of it if that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use logtide_format::{DataName, FLAG_NO_GROUPS, MetaName, proto};
use logtide_model::codec::{CodecError, encode_var_u64, take_var_u64};

use super::report::{Kept, SweepReason};
use crate::RestoreError;
use crate::chain::{Covered, Place};
use crate::fetch::spill;
use crate::filling::TakesMetadata;
use crate::memory::Means;
use crate::plan::PlanError;
use crate::sort::{Merge, Runs, Sorter};

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) modified_ms: u64,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Superfluous(SweepReason, Object),
    /// Merged into the second one.
    Merged(Object, String),
    Keep(Kept, Object),
}

/// What stands at a place, in the order in which it is looked at.
#[derive(Clone, Copy)]
enum Stands {
    /// A head says that the generation was committed.
    Committed,
    /// The head of a merged object.
    Head,
    /// A metadata object, as it was listed.
    Listed,
    /// The same, as it was read.
    Metadata,
    Data,
}

/// Something that is sorted.
struct Sorted {
    runs: Arc<Runs>,
    sorter: Sorter<1>,
}

impl Sorted {
    fn new(means: &Means) -> Self {
        let runs = Arc::new(means.runs());
        let sorter = Sorter::new([runs.clone()], means.shares.references, &means.budget);
        Sorted { runs, sorter }
    }

    fn finish(self, means: &Means) -> std::io::Result<Merge> {
        self.sorter.finish();
        Ok(Merge::new(self.runs.finish()?.cursors(b"", b"", means.shares.window, &means.budget)?))
    }
}

/// See the module.
pub(super) struct Judge<'a> {
    means: &'a Means,
    /// By name: listed data objects, and references to them.
    data: Sorted,
    /// By store, boot and generation, the last generation first.
    places: Sorted,
    /// Of each store, the newest boot that anything tells of.
    newest: BTreeMap<u64, u64>,
    /// Stores with metadata objects.
    pub(super) stores: BTreeSet<u64>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(means: &'a Means) -> Self {
        let (newest, stores) = Default::default();
        Judge { means, data: Sorted::new(means), places: Sorted::new(means), newest, stores }
    }

    /// A data object was listed.
    pub(super) fn data(&mut self, name: &DataName, object: &Object) -> Result<(), RestoreError> {
        if let Some((tag, _)) = name.origin {
            self.boot(name.store_id, tag.boot);
        }
        let mut payload = Vec::new();
        [object.bytes, object.modified_ms].into_iter().for_each(|n| encode_var_u64(n, &mut payload));
        self.data.sorter.push(0, object.path.as_bytes(), &[&payload]).map_err(|e| spill(&self.means.temp_dir, e))
    }

    /// A head says that a generation was committed.
    pub(super) fn committed(&mut self, name: &MetaName) -> Result<(), RestoreError> {
        let Some(place) = Place::of(name) else { return Ok(()) };
        self.boot(place.store, place.boot);
        self.stands(place, Stands::Committed, 0, &[])
    }

    /// The head of a merged object was listed.
    pub(super) fn merged_head(&mut self, place: Place, object: &Object) -> Result<(), RestoreError> {
        self.stands(place, Stands::Head, 0, &encode(object))
    }

    /// A metadata object was listed.
    pub(super) fn metadata(&mut self, object: &Object) -> Result<(), RestoreError> {
        let Ok(name) = MetaName::parse(&object.path) else { return Ok(()) };
        match Covered::of(&object.path, &name)? {
            Some(Covered { place, above }) => {
                self.stands(place, Stands::Listed, above, &encode(object))?;
                // One without data is not read.
                let is_empty = name.flags & FLAG_NO_GROUPS != 0;
                if is_empty { self.read(place, above, &object.path) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    fn read(&mut self, place: Place, above: u64, path: &str) -> Result<(), RestoreError> {
        self.boot(place.store, place.boot);
        self.stands(place, Stands::Metadata, above, path.as_bytes())
    }

    fn boot(&mut self, store: u64, boot: u64) {
        let newest = self.newest.entry(store).or_default();
        *newest = boot.max(*newest);
    }

    fn stands(&mut self, place: Place, what: Stands, above: u64, payload: &[u8]) -> Result<(), RestoreError> {
        // Metadata objects of one generation stand one beside the other, the merged one first.
        let group = if matches!(what, Stands::Metadata) { Stands::Listed } else { what };
        let key = [&place.key()[..], &[group as u8], &above.to_be_bytes(), &[what as u8]].concat();
        self.places.sorter.push(0, &key, &[payload]).map_err(|e| spill(&self.means.temp_dir, e))
    }

    /// Tells every verdict, once all is known.
    pub(super) fn verdicts(
        mut self,
        each: &mut dyn FnMut(Verdict) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        self.join(each)?;
        let Judge { means, places, newest, .. } = self;
        let io = |e| spill(&means.temp_dir, e);
        let mut merge = places.finish(means).map_err(io)?;
        let mut boot = Boot::default();
        while let Some(key) = merge.key().map(<[u8]>::to_vec) {
            let place =
                key.get(..24).and_then(Place::from_key).ok_or_else(|| io(std::io::Error::other("a short key")))?;
            let above = key.get(25..33).and_then(|n| n.try_into().ok()).map_or(0, u64::from_be_bytes);
            if boot.of != Some((place.store, place.boot)) {
                boot = Boot { of: Some((place.store, place.boot)), ..Boot::default() };
            }
            let said = merge.payload().map_err(io)?;
            let verdict = match key.get(33) {
                Some(what) if *what == Stands::Committed as u8 => boot.committed(),
                Some(what) if *what == Stands::Metadata as u8 => boot.metadata(above, &String::from_utf8_lossy(said)),
                Some(what) if *what == Stands::Listed as u8 => {
                    boot.listed = Some(decode(said).map_err(|e| io(std::io::Error::other(e)))?);
                    None
                }
                Some(what) => {
                    let object = decode(said).map_err(|e| io(std::io::Error::other(e)))?;
                    let is_newest = newest.get(&place.store) == Some(&place.boot);
                    if *what == Stands::Head as u8 {
                        boot.head(place, object)
                    } else {
                        boot.data(place, object, is_newest)
                    }
                }
                None => None,
            };
            verdict.map_or(Ok(()), &mut *each)?;
            merge.advance().map_err(io)?;
        }
        Ok(())
    }

    /// Data that nothing refers to: puts it beside the metadata of its boot, or tells the verdict if its name says nothing.
    fn join(&mut self, each: &mut dyn FnMut(Verdict) -> Result<(), RestoreError>) -> Result<(), RestoreError> {
        let means = self.means;
        let io = |e| spill(&means.temp_dir, e);
        let mut merge = std::mem::replace(&mut self.data, Sorted::new(means)).finish(means).map_err(io)?;
        while let Some(path) = merge.key().map(<[u8]>::to_vec) {
            let (mut is_referred_to, mut listed) = (false, None);
            while merge.key() == Some(&path[..]) {
                match merge.payload().map_err(io)? {
                    [] => is_referred_to = true,
                    said => listed = Some(numbers(said).map_err(|e| io(std::io::Error::other(e)))?),
                }
                merge.advance().map_err(io)?;
            }
            let Some((bytes, modified_ms)) = listed.filter(|_| !is_referred_to) else { continue };
            let object = Object { path: String::from_utf8_lossy(&path).into_owned(), bytes, modified_ms };
            let Some(name) = DataName::parse(&object.path) else { continue };
            match name.origin {
                Some((tag, _)) => {
                    let place = Place { store: name.store_id, boot: tag.boot, generation: tag.generation };
                    self.stands(place, Stands::Data, 0, &encode(&object))?;
                }
                None => each(Verdict::Superfluous(SweepReason::Foreign, object))?,
            }
        }
        Ok(())
    }
}

impl TakesMetadata for Judge<'_> {
    fn take(&mut self, object: &str, _: u64, metadata: proto::Metadata) -> Result<(), PlanError> {
        self.stores.insert(metadata.store_id as u64);
        let grouped = metadata.file_groups.iter().map(|group| &group.path);
        for path in grouped.chain(metadata.files.iter().map(|file| &file.path)) {
            self.data.sorter.push(0, path.as_bytes(), &[]).map_err(PlanError::Io)?;
        }
        let Ok(name) = MetaName::parse(object) else { return Ok(()) };
        let other = |e: RestoreError| PlanError::Io(std::io::Error::other(e));
        if let Some(Covered { place, above }) = Covered::of(object, &name).map_err(other)? {
            self.read(place, above, object).map_err(other)?;
        }
        Ok(())
    }
}

/// What was seen of a boot, from its last generation down.
#[derive(Default)]
struct Boot {
    of: Option<(u64, u64)>,
    committed: bool,
    /// The metadata object that covers from the lowest generation, and that generation.
    best: Option<(u64, String)>,
    /// The metadata object that was listed and comes next.
    listed: Option<Object>,
}

impl Boot {
    fn committed(&mut self) -> Option<Verdict> {
        self.committed = true;
        None
    }

    fn metadata(&mut self, above: u64, path: &str) -> Option<Verdict> {
        self.committed = true;
        let listed = self.listed.take().filter(|listed| listed.path == path);
        match &self.best {
            // One that came after the listing is left to the next sweep.
            Some((best, by)) if *best <= above => Some(Verdict::Merged(listed?, by.clone())),
            _ => {
                self.best = Some((above, path.to_owned()));
                None
            }
        }
    }

    fn covers(&self, place: Place) -> bool {
        self.best.as_ref().is_some_and(|(above, _)| *above < place.generation)
    }

    /// Heads come before the metadata of their generation: what covers it then is of a later one.
    fn head(&mut self, place: Place, object: Object) -> Option<Verdict> {
        self.committed = true;
        self.covers(place).then_some(Verdict::Superfluous(SweepReason::MergedHead, object))
    }

    fn data(&mut self, place: Place, object: Object, is_newest: bool) -> Option<Verdict> {
        Some(match (self.committed, is_newest, self.covers(place)) {
            (false, true, _) => Verdict::Keep(Kept::InFlight, object),
            (false, false, _) => Verdict::Superfluous(SweepReason::Uncommitted, object),
            (true, _, true) => Verdict::Superfluous(SweepReason::Unreferenced, object),
            (true, _, false) => Verdict::Keep(Kept::MetadataGone, object),
        })
    }
}

/// For [`decode`].
pub(super) fn encode(object: &Object) -> Vec<u8> {
    let mut payload = Vec::new();
    [object.bytes, object.modified_ms].into_iter().for_each(|n| encode_var_u64(n, &mut payload));
    payload.extend_from_slice(object.path.as_bytes());
    payload
}

/// What [`encode`] wrote.
pub(super) fn decode(mut said: &[u8]) -> Result<Object, CodecError> {
    let (bytes, modified_ms) = (take_var_u64(&mut said)?, take_var_u64(&mut said)?);
    Ok(Object { path: String::from_utf8_lossy(said).into_owned(), bytes, modified_ms })
}

fn numbers(mut said: &[u8]) -> Result<(u64, u64), CodecError> {
    Ok((take_var_u64(&mut said)?, take_var_u64(&mut said)?))
}
