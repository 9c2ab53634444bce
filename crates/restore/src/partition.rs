//! Key ranges that are merged on their own, side by side.

use std::sync::Arc;

use logtide_model::Permit;

use crate::fetch::spill;
use crate::join::{DEFAULTS, Join, WRITES};
use crate::lost::{LostCommits, Removed};
use crate::memory::Means;
use crate::meter::Meter;
use crate::sort::{Cursor, Merge, RunSet, Sorter};
use crate::summary::Counts;
use crate::{Made, RestoreError, SinkPart};

/// Accounted for a part of the sink: a RocksDB SST file that is being written has a write buffer, a block and an index.
const PART: usize = 2 << 20;

/// A key range that is merged on its own.
pub(crate) struct Partition<P> {
    /// First encoded key.
    pub(crate) start: Vec<u8>,
    /// Behind the last encoded key; empty for none.
    pub(crate) end: Vec<u8>,
    pub(crate) sets: [Arc<RunSet>; 2],
    /// Where values may be lost, if that is allowed.
    pub(crate) removed: Option<Arc<Removed>>,
    pub(crate) meter: Meter,
    pub(crate) means: Means,
    pub(crate) part: P,
}

impl<P: SinkPart> Partition<P> {
    pub(crate) fn merge(mut self) -> Result<(P::Done, Made, Counts), RestoreError> {
        let lost = self.find_lost()?;
        let _part: Permit = self.means.budget.force_acquire(PART);
        let mut counts = Counts::default();
        let place = Place { start: &self.start, end: &self.end, means: &self.means };
        let mut join = Join::new(&mut self.part, &mut counts, &self.meter, &self.means);
        if let Some(lost) = lost {
            join.lost = Some(LostCommits::new(place.cursors(&lost)?));
        }
        let references =
            place.sorted(|references| join.writes(&mut Merge::new(place.cursors(&self.sets[WRITES])?), references))?;
        join.lost = None;
        join.defaults(&mut place.references_first(&references, &self.sets[DEFAULTS])?)?;
        let (done, made) = self.part.finish()?;
        Ok((done, made, counts))
    }

    /// Commits whose values were removed before they were backed up; `None` if there are none, or may be none.
    fn find_lost(&mut self) -> Result<Option<RunSet>, RestoreError> {
        let place = Place { start: &self.start, end: &self.end, means: &self.means };
        let Some(removed) = &self.removed else { return Ok(None) };
        if !removed.overlaps(place.start, place.end, place.means)? {
            return Ok(None);
        }
        let mut uncounted = Counts::default();
        let mut join = Join::new(&mut self.part, &mut uncounted, &self.meter, &self.means);
        let suspects = place.sorted(|references| {
            let writes = place.cursors(&self.sets[WRITES])?;
            join.suspects(&mut Merge::new(writes), &mut removed.below(place.end, place.means)?, references)
        })?;
        let lost = place.sorted(|lost| {
            join.search(&mut place.references_first(&suspects, &self.sets[DEFAULTS])?, lost)?;
            // The memory is needed for references again.
            lost.spill().map_err(|e| spill(&place.means.temp_dir, e))
        })?;
        Ok((lost.bytes() > 0).then_some(lost))
    }
}

/// Where a partition is, and what it works with.
#[derive(Clone, Copy)]
struct Place<'a> {
    start: &'a [u8],
    end: &'a [u8],
    means: &'a Means,
}

impl Place<'_> {
    fn cursors(&self, set: &RunSet) -> Result<Vec<Cursor>, RestoreError> {
        let Place { start, end, means } = self;
        set.cursors(start, end, means.shares.window, &means.budget).map_err(|e| spill(&means.temp_dir, e))
    }

    fn references_first(&self, references: &RunSet, values: &RunSet) -> Result<Merge, RestoreError> {
        let mut both = self.cursors(references)?;
        both.extend(self.cursors(values)?);
        Ok(Merge::new(both))
    }

    /// What `fill` puts into a sorter.
    fn sorted(&self, fill: impl FnOnce(&mut Sorter<1>) -> Result<(), RestoreError>) -> Result<RunSet, RestoreError> {
        let runs = Arc::new(self.means.runs());
        let mut sorter = Sorter::new([runs.clone()], self.means.shares.references, &self.means.budget);
        fill(&mut sorter)?;
        sorter.finish();
        runs.finish().map_err(|e| spill(&self.means.temp_dir, e))
    }
}

/// Cuts the data into at most `n` key ranges of about the same size, between user keys.
pub(crate) fn partitions(sets: &[Arc<RunSet>; 2], n: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut sample: Vec<(Vec<u8>, u64)> = sets.iter().flat_map(|set| set.sample()).collect();
    sample.sort_unstable();
    let total: u64 = sample.iter().map(|(_, bytes)| bytes).sum();
    let mut cuts: Vec<Vec<u8>> = Vec::new();
    let mut before = 0;
    for (key, bytes) in &sample {
        let due = total * (cuts.len() as u64 + 1) / n as u64;
        let user = logtide_model::truncate_ts(key).unwrap_or_default();
        if cuts.len() + 1 < n && before >= due && cuts.last().is_none_or(|last| user > &last[..]) {
            cuts.push(user.to_vec());
        }
        before += bytes;
    }
    let starts = std::iter::once(Vec::new()).chain(cuts.iter().cloned());
    starts.zip(cuts.iter().cloned().chain(std::iter::once(Vec::new()))).collect()
}
