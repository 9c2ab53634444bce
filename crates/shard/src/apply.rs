//! Applied batches: records to the spools, lock changes and indexes to the subscriptions.

use bytes::Bytes;
use logtide_checkpoint::{LockOp, Phase, Rescan};
use logtide_format::EntryKind;
use logtide_model::message::AppliedBatch;
use logtide_model::planted::Bug;
use logtide_model::{Cf, KeyRange, Op, Region, Task};
use logtide_temp_file::{SpoolError, SpoolRoom};

use crate::record::Records;
use crate::region::Follower;
use crate::{Shard, ShardEvent, UnsupportedChange};

/// A batch, as each task that follows its region gets it.
struct News<'a> {
    batch: &'a AppliedBatch,
    locks: Vec<LockOp<'a>>,
    /// Its records are not appended yet.
    fresh: bool,
}

impl Shard {
    pub(crate) fn applied(&mut self, batch: &AppliedBatch, out: &mut Vec<ShardEvent>) {
        let Some(region) = self.regions.get_mut(&batch.region_id) else {
            self.counts.unobserved += 1;
            return;
        };
        let news = News::of(batch, region.streamed);
        region.streamed = region.streamed.max(batch.last_index);
        self.counts.repeated += u64::from(!news.fresh);
        let mut lost = Vec::new();
        for follower in &mut region.followers {
            let Some(work) = self.tasks.get_mut(&follower.task) else { continue };
            let (at, index, counts) = (follower.place(), batch.last_index, &mut self.counts);
            let mut records = Records { work, at, index, counts, out: &mut *out };
            match news.tell(&region.region, follower, &mut records, &self.config.room) {
                Ok(()) => {}
                Err(SpoolError::NoRoom) if Bug::NoRoomForgotten.is_planted() => {}
                Err(SpoolError::NoRoom) => {
                    self.counts.releases += 1;
                    follower.subscription.missed(index);
                    tracing::debug!(
                        task = %follower.task, region = batch.region_id, index,
                        "the spool has no room: the region is released, and caught up later"
                    );
                }
                Err(error) => lost.push((follower.task.clone(), error)),
            }
        }
        for (task, error) in lost {
            self.lose(&task, error, out);
        }
        self.settle(batch.region_id, out);
    }
}

impl<'a> News<'a> {
    /// Records up to the index `streamed` are appended.
    fn of(batch: &'a AppliedBatch, streamed: u64) -> Self {
        let locks = lock_changes(&batch.ops);
        if locks.iter().any(LockOp::is_unreadable) {
            let (region, index) = (batch.region_id, batch.last_index);
            tracing::warn!(region, index, "a lock cannot be read: the region's checkpoint waits until it is gone");
        }
        News { batch, locks, fresh: batch.last_index > streamed }
    }

    /// Tells one task: what is past MVCC is marked, locks are tracked, records are appended.
    fn tell(
        &self,
        region: &Region,
        follower: &mut Follower,
        records: &mut Records<'_>,
        room: &SpoolRoom,
    ) -> Result<(), SpoolError> {
        let (batch, task) = (self.batch, records.work.task.clone());
        if self.fresh {
            mark_past_mvcc(&batch.ops, region, &task, records);
        }
        if records.work.is_lost() {
            return Ok(());
        }
        // Its scan waits for room, and will have this, too.
        if follower.subscription.phase() == Phase::Pending && room.is_tight() {
            follower.subscription.missed(batch.last_index);
            return Ok(());
        }
        let mut scratch = Vec::new();
        let seen = follower.wanted(&task, &self.locks, &mut scratch);
        if !follower.subscription.applied(batch.first_index, batch.last_index, seen) {
            records.counts.gaps += 1;
            tracing::warn!(
                task = %task.name, region = batch.region_id, first_index = batch.first_index,
                "entries were not seen: the region is caught up by a scan"
            );
        }
        // What was appended before need not be again; a batch that repeats some is appended whole, in order.
        if self.fresh { append(&batch.ops, region, &task, follower, records) } else { Ok(()) }
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

/// Appends the records among changes. What changed the engine in another way sends the region back to be scanned.
pub(crate) fn append(
    ops: &[Op],
    region: &Region,
    task: &Task,
    follower: &mut Follower,
    records: &mut Records<'_>,
) -> Result<(), SpoolError> {
    let index = records.index;
    for op in ops {
        match op {
            Op::Put { cf: cf @ (Cf::Default | Cf::Write), key, value } if follower.wants(task, key) => {
                records.append(*cf, EntryKind::Put, key, value)?;
            }
            Op::Delete { cf: cf @ (Cf::Default | Cf::Write), key } if follower.wants(task, key) => {
                records.append(*cf, EntryKind::Delete, key, &[])?;
            }
            // Nobody knows any more which locks there are.
            Op::DeleteRange { cf: Cf::Lock, start, end } if wanted(task, region, start, end).next().is_some() => {
                follower.subscription.rescan_after(index, Rescan::Lost);
            }
            // Its versions are above every checkpoint that was stated, or it was marked; so a scan from there finds them.
            Op::IngestSst { .. } => {
                records.counts.ingestions += 1;
                follower.subscription.rescan_after(index, Rescan::Lost);
            }
            Op::Put { .. } | Op::Delete { .. } | Op::DeleteRange { .. } | Op::Admin => {}
        }
    }
    Ok(())
}

/// Marks what range deletes removed of a task's records, and what files may have brought that no scan will find.
pub(crate) fn mark_past_mvcc(ops: &[Op], region: &Region, task: &Task, records: &mut Records<'_>) {
    for op in ops {
        match op {
            Op::DeleteRange { cf: cf @ (Cf::Default | Cf::Write), start, end } => {
                for range in wanted(task, region, start, end) {
                    records.mark(UnsupportedChange::DeleteRange, *cf, range, None);
                }
            }
            Op::IngestSst { cf: Cf::Write, min_ts, .. } => {
                for range in wanted(task, region, &region.range.start, &region.range.end) {
                    records.mark(UnsupportedChange::OldIngest, Cf::Write, range, Some(*min_ts));
                }
            }
            _ => {}
        }
    }
}

/// What a task wants of a range of a region.
fn wanted(task: &Task, region: &Region, start: &Bytes, end: &Bytes) -> impl Iterator<Item = KeyRange> {
    let range = KeyRange { start: start.clone(), end: end.clone() }.intersect(&region.range);
    task.ranges.iter().filter_map(move |wanted| range.as_ref()?.intersect(wanted))
}
