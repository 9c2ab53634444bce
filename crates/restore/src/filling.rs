//! Reads the metadata objects that a window needs into a planner, though stores may merge some of them meanwhile: put one
//! that holds what several held, and then delete those.
//!
//! So names are listed again until no merged object shows up that was not known: what was deleted before it could be
//! listed or read is in one of them, for that was there before. What is then told twice, the planner counts once.

use std::collections::HashSet;

use futures::{TryStreamExt, future};
use logtide_format::{METADATA_PREFIX, MetaLink, MetaName, NameForm, ObjectTag, content_crc, decode_metadata, proto};
use logtide_model::Permit;
use logtide_storage::Storage;
use object_store::{Error, ObjectMeta, ObjectStoreExt};

use crate::RestoreError;
use crate::chain::{Covered, Lost};
use crate::log_info::{list, unreadable};
use crate::memory::{DECODED, Gate, Held, Means};
use crate::meter::Meter;
use crate::plan::{PlanError, Planner, Window, check};
use crate::planning::plan_error;

/// Bytes that a known name takes.
const KNOWN: usize = 32;
/// The most objects that may vanish between a listing and the reading: a merge takes fewer away.
const MOST_GONE: usize = 1 << 16;

/// A metadata object in a listing.
pub(crate) struct Listed {
    meta: ObjectMeta,
    /// What its name says, if it says something.
    pub(crate) name: Option<MetaName>,
}

impl Listed {
    /// `None` for what is no metadata object.
    pub(crate) fn of(meta: ObjectMeta) -> Result<Option<Listed>, RestoreError> {
        let object = meta.location.as_ref();
        if !object.ends_with(".meta") {
            tracing::warn!(object, "not a metadata object, ignored");
            return Ok(None);
        }
        let name = match NameForm::parse(object)? {
            NameForm::Tagged(name) | NameForm::Ranged(name) => Some(name),
            NameForm::Opaque => None,
        };
        Ok(Some(Listed { meta, name }))
    }

    /// Its path.
    pub(crate) fn object(&self) -> &str {
        self.meta.location.as_ref()
    }

    fn is_merged(&self) -> Result<bool, RestoreError> {
        Ok(MetaLink::parse(self.object())?.is_some_and(|link| link.is_merged()))
    }

    /// Stands for its name: names differ at least in their checksums.
    fn id(&self) -> u64 {
        content_crc(self.object().as_bytes())
    }
}

/// A metadata object that was listed and is not there any more.
struct Gone {
    name: MetaName,
    covered: Covered,
    id: u64,
}

/// What came of one metadata object.
enum Read {
    Metadata { object: String, metadata: Box<proto::Metadata>, _held: Held },
    Gone(Gone),
}

/// What metadata objects are read for.
pub(crate) trait TakesMetadata {
    /// Takes a metadata object of `bytes` bytes. It may tell what another one tells.
    fn take(&mut self, object: &str, bytes: u64, metadata: proto::Metadata) -> Result<(), PlanError>;
}

impl TakesMetadata for Planner<'_> {
    fn take(&mut self, object: &str, bytes: u64, metadata: proto::Metadata) -> Result<(), PlanError> {
        self.add(object, bytes, metadata)
    }
}

/// See the module.
pub(crate) struct Filling<'a, T> {
    storage: &'a Storage,
    means: &'a Means,
    taker: T,
    window: &'a Window,
    meter: &'a Meter,
    /// Merged objects that were listed.
    known: HashSet<u64>,
    accounted: Permit,
    gone: Vec<Gone>,
    /// A merged object holds values from further back than the window was made for.
    further_back: bool,
}

impl<'a, T: TakesMetadata> Filling<'a, T> {
    pub(crate) fn new(storage: &'a Storage, means: &'a Means, taker: T, window: &'a Window, meter: &'a Meter) -> Self {
        let accounted = means.budget.force_acquire(0);
        let (known, gone, further_back) = Default::default();
        Filling { storage, means, taker, window, meter, known, accounted, gone, further_back }
    }

    /// Fills the taker; `None` if values are further back than the window says, so that it has to be made anew.
    pub(crate) async fn fill(mut self) -> Result<Option<T>, RestoreError> {
        let mut known = self.pass(true).await?;
        loop {
            let new = self.pass(false).await?;
            if self.further_back {
                return Ok(None);
            }
            if new == known && self.has_all().await? {
                return Ok(Some(self.taker));
            }
            known = new;
        }
    }

    /// Reads what a listing shows: all that is needed, or the merged objects that were not known. How many are known then.
    async fn pass(&mut self, all: bool) -> Result<usize, RestoreError> {
        let (storage, means, window, meter) = (self.storage, self.means, self.window, self.meter);
        let gate = Gate::new(means.memory / 2, means);
        let (known, further_back) = (&mut self.known, &mut self.further_back);
        let needed = list(storage, METADATA_PREFIX).try_filter_map(|meta| {
            future::ready(Listed::of(meta).and_then(|listed| {
                let Some(listed) = listed else { return Ok(None) };
                let is_new = listed.is_merged()? && known.insert(listed.id());
                let values_from = listed.name.as_ref().filter(|_| is_new).and_then(|name| window.values_from(name));
                *further_back |= values_from.is_some_and(|ts| ts < window.values_from);
                let is_needed = listed.name.as_ref().is_none_or(|name| window.needs_object(name));
                Ok(((all || is_new) && is_needed).then_some(listed))
            }))
        });
        let reads = needed.map_ok(|listed| {
            meter.expect(listed.meta.size);
            read(storage, &gate, listed)
        });
        let mut reads = Box::pin(reads.try_buffer_unordered(means.concurrency));
        while let Some((size, read)) = reads.try_next().await? {
            match read {
                Read::Metadata { object, metadata, .. } => {
                    self.taker.take(&object, size, *metadata).map_err(|e| plan_error(&means.temp_dir, e))?;
                }
                Read::Gone(gone) if self.gone.len() < MOST_GONE => self.gone.push(gone),
                Read::Gone(gone) => return Err(Lost::listed(&gone.name, &gone.covered).error(&storage.url)),
            }
            meter.done(size, 1)?;
        }
        drop(reads);
        self.accounted.resize(self.known.len() * KNOWN);
        Ok(self.known.len())
    }

    /// True if what could not be read is covered by objects that are there and were read; false if there are new ones.
    async fn has_all(&mut self) -> Result<bool, RestoreError> {
        if self.gone.is_empty() {
            return Ok(true);
        }
        let unread: HashSet<u64> = self.gone.iter().map(|gone| gone.id).collect();
        let (mut names, mut is_new) = (list(self.storage, METADATA_PREFIX), false);
        while let Some(meta) = names.try_next().await? {
            let Some(listed) = Listed::of(meta)? else { continue };
            let (id, object) = (listed.id(), listed.object());
            is_new |= listed.is_merged()? && !self.known.contains(&id);
            let was_read = self.known.contains(&id) && !unread.contains(&id);
            let covered = listed.name.filter(|_| was_read).map(|name| Covered::of(object, &name)).transpose()?;
            if let Some(covered) = covered.flatten() {
                self.gone.retain(|gone| !covered.covers(&gone.covered));
            }
        }
        match self.gone.first() {
            Some(gone) if !is_new => Err(Lost::listed(&gone.name, &gone.covered).error(&self.storage.url)),
            gone => Ok(gone.is_none()),
        }
    }
}

async fn read(storage: &Storage, gate: &Gate, listed: Listed) -> Result<(u64, Read), RestoreError> {
    let (object, size) = (listed.object().to_owned(), listed.meta.size);
    let held = gate.pass(size * DECODED, || format!("metadata object {object}")).await?;
    let got = match storage.store.get(&listed.meta.location).await {
        Ok(got) => got.bytes().await,
        Err(e) => Err(e),
    };
    let bytes = match got {
        Ok(bytes) => bytes,
        Err(e) => {
            return gone(&listed, &e)?
                .map(|gone| (size, Read::Gone(gone)))
                .ok_or_else(|| unreadable(storage, &object, e));
        }
    };
    check_crc(&object, &bytes)?;
    let metadata = decode_metadata(&object, &bytes)?;
    check(&object, listed.name.as_ref(), &bytes, &metadata).map_err(|fault| fault.of(&object))?;
    Ok((size, Read::Metadata { object, metadata: Box::new(metadata), _held: held }))
}

/// An object of ours that is not there any more may have been merged.
fn gone(listed: &Listed, error: &Error) -> Result<Option<Gone>, RestoreError> {
    let (Some(name), Error::NotFound { .. }) = (listed.name, error) else { return Ok(None) };
    let covered = Covered::of(listed.object(), &name)?;
    Ok(covered.map(|covered| Gone { name, covered, id: listed.id() }))
}

/// Every byte that is used is verified first (I10): where the name tells a checksum, by that.
fn check_crc(object: &str, bytes: &[u8]) -> Result<(), RestoreError> {
    let Some(link) = MetaLink::parse(object)? else { return Ok(()) };
    let (found, declared) = (content_crc(bytes), link.crc);
    if found == declared {
        return Ok(());
    }
    let of = MetaName::parse(object)?;
    let ObjectTag { boot, generation } = of.tag.unwrap_or(ObjectTag { boot: 0, generation: 0 });
    let field = format!("the checksum (store {}, boot {boot}, generation {generation})", of.store_id);
    Err(RestoreError::Contradiction { object: object.to_owned(), field, found, declared })
}
