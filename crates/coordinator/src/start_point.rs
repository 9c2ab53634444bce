//! From where a region has to be caught up, as the persisted cover of its task knows.

use std::sync::Arc;

use logtide_model::message::StartPoint;
use logtide_model::{Incarnation, KeyRange, Region, Task, Ts};

use crate::cover::{self, Persisted};
use crate::error::CoordinatorError;
use crate::keys;
use crate::record;
use crate::store::Revision;
use crate::tasks::Tasks;

/// What was last read of a task.
pub(crate) struct Cached {
    incarnation: Incarnation,
    /// When the global checkpoint was last written: the advancer does so with every complete edition of the cover, and
    /// in between.
    modified: Revision,
    persisted: Arc<Persisted>,
    /// The global checkpoint, or the task's start ts before the first one.
    global: Ts,
}

impl Tasks {
    /// From when a region of that range has to be caught up: the smallest of what is known to be durable over the
    /// range's part in the task; at least the global checkpoint, or the task's start ts before the first one.
    ///
    /// # Errors
    /// [`CoordinatorError::Malformed`], [`CoordinatorError::Store`], [`CoordinatorError::NoSuchTask`].
    pub fn start_ts(&self, task: &Task, range: &KeyRange) -> Result<Ts, CoordinatorError> {
        let (persisted, global) = self.persisted(task)?;
        Ok(start_ts(&persisted, global, task, range))
    }

    /// From where a region has to be caught up: the timestamp of [`Self::start_ts`] over its range, and the index behind
    /// which its raft log has all that is missing, if one is known for this version of it.
    ///
    /// What is published and not yet folded by the advancer is not looked at: an older start is as true, and repeats
    /// a little more.
    ///
    /// # Why the index is enough
    /// A fact with index i, stated for version v of the region, says that its store held every effect of the entries up
    /// to i on the range of v (by a scan, or because it was told of them), in generations that were durable before the
    /// fact was published. One version has one range, an applied entry is never replaced, and every task range in the
    /// region is stated with the same index: so this holds for the region as it is now, if it still has version v. The
    /// timestamp is not needed for it; a scan needs it, should the log not reach back to i.
    ///
    /// # Errors
    /// As [`Self::start_ts`].
    pub fn start_point(&self, task: &Task, region: &Region) -> Result<StartPoint, CoordinatorError> {
        let (persisted, global) = self.persisted(task)?;
        let ts = start_ts(&persisted, global, task, &region.range);
        let log_from = persisted.indexes.get(region.id, region.epoch.version).map(|index| index + 1);
        Ok(StartPoint { ts, log_from })
    }

    /// What [`Self::start_ts`] answered if it was asked now, as far as this process knows without asking the store: the
    /// order in which regions are caught up needs no more.
    pub fn known_start_ts(&self, task: &Task, range: &KeyRange) -> Ts {
        let known = self.known.lock();
        match known.get(&task.name).filter(|cached| cached.incarnation == task.incarnation) {
            Some(cached) => start_ts(&cached.persisted, cached.global, task, range),
            None => task.start_ts,
        }
    }

    fn persisted(&self, task: &Task) -> Result<(Arc<Persisted>, Ts), CoordinatorError> {
        let record = self.store().get(&keys::central_global(&task.name))?;
        let global =
            record.as_ref().map(record::read_ts).transpose()?.map_or(task.start_ts, |ts| ts.max(task.start_ts));
        let modified = record.map_or(0, |kv| kv.mod_revision);
        let persisted = match self.cached(task, modified)? {
            Some(persisted) => persisted,
            None => Arc::new(cover::read(&self.store().list(&keys::covers(task))?.0)?),
        };
        let cached = Cached { incarnation: task.incarnation, modified, persisted: persisted.clone(), global };
        self.known.lock().insert(task.name.clone(), cached);
        // The checkpoint of another life of the name may have been read: its keys go with it, so ask again who lives.
        self.check_alive(task)?;
        Ok((persisted, global))
    }

    /// What was read before, if it is still what counts: then the first key of its edition is still there.
    fn cached(&self, task: &Task, modified: Revision) -> Result<Option<Arc<Persisted>>, CoordinatorError> {
        let known = match self.known.lock().get(&task.name) {
            Some(cached) if cached.incarnation == task.incarnation => (cached.modified, cached.persisted.clone()),
            _ => return Ok(None),
        };
        let (read_at, persisted) = known;
        if read_at == modified {
            return Ok(Some(persisted));
        }
        let Some(first) = &persisted.first else { return Ok(None) };
        let is_there = self.store().get(first)?.is_some();
        Ok(is_there.then_some(persisted))
    }
}

fn start_ts(persisted: &Persisted, global: Ts, task: &Task, range: &KeyRange) -> Ts {
    let parts: Vec<KeyRange> = task.ranges.iter().filter_map(|r| r.intersect(range)).collect();
    persisted.cover.min_over(&parts, global)
}
