//! One record on its way into a task's spool.

use logtide_format::EntryKind;
use logtide_model::{Cf, RegionId};
use logtide_temp_file::SpoolError;

use crate::task::TaskWork;
use crate::{ShardEvent, ShardStats, UnsupportedChange};

/// Where the records of a batch go.
pub(crate) struct Records<'a> {
    pub(crate) work: &'a mut TaskWork,
    pub(crate) region_id: RegionId,
    /// The last index of the batch.
    pub(crate) index: u64,
    pub(crate) counts: &'a mut ShardStats,
    pub(crate) out: &'a mut Vec<ShardEvent>,
}

impl Records<'_> {
    /// Appends a record. One that no backup can hold is told and left out.
    pub(crate) fn append(&mut self, cf: Cf, kind: EntryKind, key: &[u8], value: &[u8]) -> Result<(), SpoolError> {
        match self.work.append(self.region_id, cf, kind, key, value) {
            Ok(()) => self.counts.appended += 1,
            Err(SpoolError::Record { fault, .. }) => {
                tracing::warn!(region = self.region_id, cf = cf.name(), fault, "a record is left out of the backup");
                self.unsupported(UnsupportedChange::BadRecord);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Tells of something that no record can tell.
    pub(crate) fn unsupported(&mut self, what: UnsupportedChange) {
        self.counts.unsupported += 1;
        let (task, region_id, index) = (self.work.task.name.clone(), self.region_id, self.index);
        tracing::warn!(%task, region = region_id, index, what = what.as_str(), "a change past MVCC is not in the backup");
        self.out.push(ShardEvent::Unsupported { task, region_id, index, what });
    }
}
