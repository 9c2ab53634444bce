//! One record on its way into a task's spool.

use logtide_format::{EntryKind, MarkKind};
use logtide_model::{Cf, KeyRange, Ts};
use logtide_temp_file::SpoolError;

use crate::marks::Place;
use crate::task::TaskWork;
use crate::{ShardEvent, ShardStats, UnsupportedChange};

/// Where the records of a batch go.
pub(crate) struct Records<'a> {
    pub(crate) work: &'a mut TaskWork,
    pub(crate) at: Place,
    /// The last index of the batch.
    pub(crate) index: u64,
    pub(crate) counts: &'a mut ShardStats,
    pub(crate) out: &'a mut Vec<ShardEvent>,
}

impl Records<'_> {
    /// Appends a record. One that no backup can hold is told and left out.
    pub(crate) fn append(&mut self, cf: Cf, kind: EntryKind, key: &[u8], value: &[u8]) -> Result<(), SpoolError> {
        match self.work.append(self.at.region_id, cf, kind, key, value) {
            Ok(()) => self.counts.appended += 1,
            Err(SpoolError::Record { fault, .. }) => {
                tracing::warn!(region = self.at.region_id, cf = cf.name(), fault, "a record is left out of the backup");
                // Only this key: the next one is the same with a zero.
                let range = KeyRange::new(key.to_vec(), [key, &[0]].concat());
                self.mark(UnsupportedChange::BadRecord, cf, range, None);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Marks what no record can tell; `since`: see [`Marks::add`](crate::marks::Marks::add).
    pub(crate) fn mark(&mut self, what: UnsupportedChange, cf: Cf, range: KeyRange, since: Option<Ts>) {
        let kind = match what {
            UnsupportedChange::DeleteRange => MarkKind::RangeDelete,
            UnsupportedChange::OldIngest => MarkKind::Ingest,
            UnsupportedChange::BadRecord => MarkKind::BadRecord,
        };
        if !self.work.marks.add(kind, cf, range.clone(), self.at, since) {
            return;
        }
        self.counts.unsupported += 1;
        let (task, region_id, index) = (self.work.task.name.clone(), self.at.region_id, self.index);
        tracing::warn!(
            %task, region = region_id, index, cf = cf.name(), ?range, what = what.as_str(),
            "no log record can tell this: restores to a ts above it are refused unless they are forced"
        );
        self.out.push(ShardEvent::Unsupported { task, region_id, index, what });
    }
}
