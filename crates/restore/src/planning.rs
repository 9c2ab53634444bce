//! Lists metadata objects, has them read, and makes a [`Plan`] of them.

use std::path::Path;

use futures::TryStreamExt;
use logtide_format::METADATA_PREFIX;
use logtide_model::{KeyRange, Ts};
use logtide_storage::Storage;

use crate::chain::Chain;
use crate::filling::{Filling, Listed};
use crate::log_info::{LogInfo, bounds, list, refuse_migrations};
use crate::lost::Removed;
use crate::memory::Means;
use crate::meter::Meter;
use crate::plan::{PlanError, PlanObject, PlanSummary, Planned, Planner, Window};
use crate::{InexactRanges, Progress, RestoreError, RestoreOptions, Stage, inexact};

/// What a restore would read, and why that is all it needs.
#[derive(Debug)]
pub struct Plan {
    /// What the storage holds.
    pub log: LogInfo,
    /// Which records are needed.
    pub window: Window,
    /// What of it the log cannot tell, if that is allowed. Whether values were lost there ([`crate::Counts::lost_values`])
    /// only the data tell.
    pub inexact: InexactRanges,
    pub(crate) removed: Option<Removed>,
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
        while let Some(object) = self.planned.next().map_err(|e| plan_error(Path::new("plan"), e))? {
            each(object.describe());
        }
        Ok(())
    }
}

/// Selects what a restore with these options needs, and reads no data. Memory does not depend on the number of
/// metadata objects.
///
/// # Errors
/// [`RestoreError::NoCheckpoint`], [`RestoreError::TsOutOfRange`], [`RestoreError::Migrated`],
/// [`RestoreError::Inexact`]; a metadata object that is damaged ([`RestoreError::Metadata`]), contradicts its name
/// ([`RestoreError::Contradiction`]) or is gone ([`RestoreError::LostMetadata`]); [`RestoreError::Storage`],
/// [`RestoreError::Local`].
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
    let (inexact, removed) = inexact::check(storage, &window, options.allow_inexact, means).await?;
    loop {
        let listed;
        let mut chain = Chain::new(means);
        chain.heads(storage).await?;
        (window.values_from, listed) = survey(storage, &window, &mut chain).await?;
        chain.check(storage, &window).await?;
        let meter = Meter::default();
        let planner = Planner::new(window.clone(), listed, means);
        let work = Filling::new(storage, means, planner, &window, &meter).fill();
        // Otherwise objects were merged while names were listed, and values are further back than those names said.
        if let Some(planner) = meter.watch(Stage::Plan, progress, work).await? {
            let planned = planner.finish(&means.temp_dir).map_err(|e| plan_error(&means.temp_dir, e))?;
            return Ok(Plan { log, window, inexact, removed, planned });
        }
        tracing::info!(
            storage = storage.url,
            "metadata objects were merged while they were listed; listing them again"
        );
    }
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
        let Some(listing) = Listed::of(meta)? else { continue };
        match &listing.name {
            Some(name) => {
                oldest = window.values_from(name).map_or(oldest, |ts| oldest.min(ts));
                chain.saw(listing.object(), name)?;
            }
            None => oldest = Ts::ZERO,
        }
        listed += 1;
    }
    Ok((oldest, listed))
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
