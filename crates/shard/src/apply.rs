//! Applied batches: records to the spools, lock changes and indexes to the subscriptions.

use logtide_checkpoint::{LockOp, Rescan};
use logtide_format::EntryKind;
use logtide_model::message::AppliedBatch;
use logtide_model::{Cf, KeyRange, Op, Region, Task};
use logtide_temp_file::SpoolError;

use crate::record::Records;
use crate::region::Follower;
use crate::{Shard, ShardEvent, UnsupportedChange};

impl Shard {
    pub(crate) fn applied(&mut self, batch: &AppliedBatch, out: &mut Vec<ShardEvent>) {
        let Some(region) = self.regions.get_mut(&batch.region_id) else {
            self.counts.unobserved += 1;
            return;
        };
        let fresh = batch.last_index > region.streamed;
        region.streamed = region.streamed.max(batch.last_index);
        self.counts.repeated += u64::from(!fresh);
        let locks = lock_changes(&batch.ops);
        if locks.iter().any(LockOp::is_unreadable) {
            let (region, index) = (batch.region_id, batch.last_index);
            tracing::warn!(region, index, "a lock cannot be read: the region's checkpoint waits until it is gone");
        }
        let mut scratch = Vec::new();
        let mut lost = Vec::new();
        for follower in &mut region.followers {
            let Some(work) = self.tasks.get_mut(&follower.task).filter(|work| !work.is_lost()) else { continue };
            let task = work.task.clone();
            let seen = follower.wanted(&task, &locks, &mut scratch);
            if !follower.subscription.applied(batch.first_index, batch.last_index, seen) {
                self.counts.gaps += 1;
                tracing::warn!(
                    task = %task.name, region = batch.region_id, first_index = batch.first_index,
                    "entries were not seen: the region is caught up by a scan"
                );
            }
            // What was appended before need not be again; a batch that repeats some is appended whole, in order.
            if fresh {
                let (region_id, index, counts) = (batch.region_id, batch.last_index, &mut self.counts);
                let mut records = Records { work, region_id, index, counts, out: &mut *out };
                if let Err(error) = append(&batch.ops, &region.region, &task, follower, &mut records) {
                    lost.push((task.name.clone(), error));
                }
            }
        }
        for (task, error) in lost {
            self.lose(&task, error, out);
        }
        self.settle(batch.region_id, out);
    }
}

/// The changes of the lock column family.
fn lock_changes(ops: &[Op]) -> Vec<LockOp<'_>> {
    let changes = ops.iter().filter_map(|op| match op {
        Op::Put { cf: Cf::Lock, key, value } => Some(LockOp::put(key, value)),
        Op::Delete { cf: Cf::Lock, key } => Some(LockOp::delete(key)),
        _ => None,
    });
    changes.collect()
}

/// Appends the records among changes, and tells of what no record can tell.
pub(crate) fn append(
    ops: &[Op],
    region: &Region,
    task: &Task,
    follower: &mut Follower,
    records: &mut Records<'_>,
) -> Result<(), SpoolError> {
    for op in ops {
        match op {
            Op::Put { cf: cf @ (Cf::Default | Cf::Write), key, value } if follower.wants(task, key) => {
                records.append(*cf, EntryKind::Put, key, value)?;
            }
            Op::Delete { cf: cf @ (Cf::Default | Cf::Write), key } if follower.wants(task, key) => {
                records.append(*cf, EntryKind::Delete, key, &[])?;
            }
            Op::DeleteRange { cf, start, end } => {
                let range = KeyRange { start: start.clone(), end: end.clone() };
                if task.ranges.iter().filter_map(|r| r.intersect(&region.range)).any(|r| r.overlaps(&range)) {
                    past_mvcc(*cf, UnsupportedChange::DeleteRange, follower, records);
                }
            }
            Op::IngestSst { cf, .. } => past_mvcc(*cf, UnsupportedChange::IngestSst, follower, records),
            Op::Put { .. } | Op::Delete { .. } | Op::Admin => {}
        }
    }
    Ok(())
}

/// Which locks there are is not known any more after such a change to locks; data are the receiver's business.
fn past_mvcc(cf: Cf, what: UnsupportedChange, follower: &mut Follower, records: &mut Records<'_>) {
    match cf {
        Cf::Lock => follower.subscription.rescan(Rescan::Lost),
        Cf::Default | Cf::Write => records.unsupported(what),
    }
}
