//! Lists and reads metadata objects, and makes a [`Plan`] of them.

use std::path::Path;

use futures::{TryStreamExt, future};
use logtide_format::{METADATA_PREFIX, MetaLink, MetaName, NameForm, ObjectTag, content_crc, decode_metadata, proto};
use logtide_model::{KeyRange, Ts};
use logtide_storage::Storage;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::chain::Chain;
use crate::log_info::{self, LogInfo, bounds, list, refuse_migrations};
use crate::memory::{Gate, Held, Means};
use crate::meter::Meter;
use crate::plan::{PlanError, PlanObject, PlanSummary, Planned, Planner, Window, check};
use crate::{InexactRanges, Progress, RestoreError, RestoreOptions, Stage, inexact};

/// A decoded metadata object takes about this many times its bytes.
const DECODED: u64 = 4;

/// What a restore would read, and why that is all it needs.
#[derive(Debug)]
pub struct Plan {
    /// What the storage holds.
    pub log: LogInfo,
    /// Which records are needed.
    pub window: Window,
    /// What of it the log cannot tell, if that is allowed.
    pub inexact: InexactRanges,
    pub(crate) planned: Planned,
}

impl Plan {
    /// Its sizes.
    pub fn summary(&self) -> &PlanSummary {
        &self.planned.summary
    }

    /// Calls `each` with every data object that is needed; for `--dry-run`.
    ///
    /// # Errors
    /// [`RestoreError::Local`] if the temporary file of the plan cannot be read.
    pub fn for_each_object(mut self, each: &mut dyn FnMut(PlanObject)) -> Result<(), RestoreError> {
        while let Some(objects) = self.planned.next().map_err(|e| plan_error(Path::new("plan"), e))? {
            objects.iter().for_each(|object| each(object.describe()));
        }
        Ok(())
    }
}

/// Selects what a restore with these options needs, and reads no data. Memory does not depend on the number of
/// metadata objects.
///
/// # Errors
/// [`RestoreError::NoCheckpoint`], [`RestoreError::TsOutOfRange`], [`RestoreError::Migrated`], [`RestoreError::Inexact`]; a metadata object that
/// is damaged ([`RestoreError::Metadata`]), contradicts its name ([`RestoreError::Contradiction`]) or is gone
/// ([`RestoreError::LostMetadata`]);
/// [`RestoreError::Storage`], [`RestoreError::Local`].
pub async fn plan_restore(
    storage: &Storage,
    options: &RestoreOptions,
    progress: &dyn Progress,
) -> Result<Plan, RestoreError> {
    plan_within(storage, options, &Means::new(options, &options.parent()), progress).await
}

pub(crate) async fn plan_within(
    storage: &Storage,
    options: &RestoreOptions,
    means: &Means,
    progress: &dyn Progress,
) -> Result<Plan, RestoreError> {
    let log = bounds(storage).await?;
    let upto = restored_ts(&log, options.restored_ts)?;
    refuse_migrations(storage).await?;
    let mut window = Window::new(log.start_ts, upto, options.range.clone().unwrap_or(KeyRange::ALL));
    let inexact = inexact::check(storage, &window, options.allow_inexact).await?;
    let listed;
    let mut chain = Chain::new(means);
    chain.heads(storage).await?;
    (window.values_from, listed) = survey(storage, &window, &mut chain).await?;
    chain.check(storage, &window).await?;
    let (meter, io) = (Meter::default(), |e| local(&means.temp_dir, e));
    let mut planner = Planner::new(window.clone(), listed, &means.temp_dir);
    let work = fill(storage, &window, means, &meter, &mut planner);
    meter.watch(Stage::Plan, progress, work).await?;
    Ok(Plan { log, window, inexact, planned: planner.finish().map_err(io)? })
}

/// The ts to restore: the asked one if the log covers it, else the checkpoint.
fn restored_ts(log: &LogInfo, asked: Option<Ts>) -> Result<Ts, RestoreError> {
    if log.checkpoint.is_zero() {
        return Err(RestoreError::NoCheckpoint {
            storage: log.storage.clone(),
            prefix: logtide_format::CHECKPOINT_PREFIX,
        });
    }
    let (start, checkpoint) = (log.start_ts, log.checkpoint);
    let asked = asked.unwrap_or(checkpoint);
    if asked < start || asked > checkpoint {
        return Err(RestoreError::TsOutOfRange { asked, start, checkpoint });
    }
    Ok(asked)
}

/// How far back values can lie, from the names of all metadata objects, and how many there are.
async fn survey(storage: &Storage, window: &Window, chain: &mut Chain<'_>) -> Result<(Ts, u64), RestoreError> {
    let (mut oldest, mut listed) = (Ts::MAX, 0);
    let mut all = list(storage, METADATA_PREFIX);
    while let Some(meta) = all.try_next().await? {
        match name_of(&meta)? {
            Name::Tells(name) => {
                oldest = window.values_from(&name).map_or(oldest, |ts| oldest.min(ts));
                chain.saw(meta.location.as_ref(), &name)?;
            }
            Name::Opaque => oldest = Ts::ZERO,
            Name::NoMetadata => continue,
        }
        listed += 1;
    }
    Ok((oldest, listed))
}

enum Name {
    Tells(MetaName),
    Opaque,
    NoMetadata,
}

fn name_of(meta: &ObjectMeta) -> Result<Name, RestoreError> {
    let name = meta.location.as_ref();
    if !name.ends_with(".meta") {
        tracing::warn!(object = name, "not a metadata object, ignored");
        return Ok(Name::NoMetadata);
    }
    Ok(match NameForm::parse(name)? {
        NameForm::Tagged(name) | NameForm::Ranged(name) => Name::Tells(name),
        NameForm::Opaque => Name::Opaque,
    })
}

/// Reads the metadata objects that may hold something needed, several at once, into the planner.
async fn fill(
    storage: &Storage,
    window: &Window,
    means: &Means,
    meter: &Meter,
    planner: &mut Planner,
) -> Result<(), RestoreError> {
    let gate = Gate::new(means.memory / 2, means);
    let select = |meta: ObjectMeta| {
        future::ready(name_of(&meta).map(|name| match name {
            Name::NoMetadata => None,
            Name::Opaque => Some((meta, None)),
            Name::Tells(name) => window.needs_object(&name).then_some((meta, Some(name))),
        }))
    };
    let needed = list(storage, METADATA_PREFIX).try_filter_map(select);
    let reads = needed.map_ok(|(meta, name)| {
        meter.expect(meta.size);
        read(storage, &gate, meta, name)
    });
    let mut read = std::pin::pin!(reads.try_buffer_unordered(means.concurrency));
    while let Some((name, size, metadata, held)) = read.try_next().await? {
        planner.add(&name, size, metadata).map_err(|e| plan_error(&means.temp_dir, e))?;
        drop(held);
        meter.done(size, 1)?;
    }
    Ok(())
}

type ReadMetadata = (String, u64, proto::Metadata, Held);

async fn read(
    storage: &Storage,
    gate: &Gate,
    meta: ObjectMeta,
    name: Option<MetaName>,
) -> Result<ReadMetadata, RestoreError> {
    let object = meta.location.as_ref();
    let held = gate.pass(meta.size * DECODED, || format!("metadata object {object}")).await?;
    let failed = |e| log_info::unreadable(storage, object, e);
    let bytes = storage.store.get(&meta.location).await.map_err(failed)?.bytes().await.map_err(failed)?;
    check_crc(object, &bytes)?;
    let metadata = decode_metadata(object, &bytes)?;
    check(object, name.as_ref(), &bytes, &metadata).map_err(|fault| fault.of(object))?;
    Ok((object.to_owned(), meta.size, metadata, held))
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

pub(crate) fn plan_error(dir: &Path, error: PlanError) -> RestoreError {
    match error {
        PlanError::Io(e) => local(dir, e),
        PlanError::Format(e) => e.into(),
    }
}

fn local(dir: &Path, source: std::io::Error) -> RestoreError {
    RestoreError::Local { path: dir.to_owned(), what: "cannot write a temporary file", source }
}
