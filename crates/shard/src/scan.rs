//! Steps of initial scans.

use logtide_checkpoint::Rescan;
use logtide_format::EntryKind;
use logtide_model::Op;
use logtide_model::message::{ScanEvent, ScanStep};
use logtide_temp_file::SpoolError;

use crate::apply::{append, mark_past_mvcc};
use crate::record::Records;
use crate::region::Follower;
use crate::{Shard, ShardEvent};

impl Shard {
    pub(crate) fn scan_step(&mut self, step: ScanStep, out: &mut Vec<ShardEvent>) {
        let ScanStep { id, event } = step;
        let follower = self.regions.get_mut(&id.region_id).and_then(|region| region.follower(&id.task));
        let (Some(follower), Some(work)) = (follower, self.tasks.get_mut(&id.task)) else {
            self.counts.stale += 1;
            return;
        };
        // Records of a snapshot have no index.
        let (at, counts) = (follower.scan_place(), &mut self.counts);
        let mut records = Records { work, at, index: 0, counts, out: &mut *out };
        match take(event, id.attempt, follower, &mut records) {
            Ok(current) => self.counts.stale += u64::from(!current),
            // What it found is in the next snapshot as well.
            Err(SpoolError::NoRoom) => {
                self.counts.releases += 1;
                follower.subscription.rescan(Rescan::NoRoom);
            }
            Err(error) => return self.lose(&id.task, error, out),
        }
        self.settle(id.region_id, out);
    }
}

/// Takes a step of an attempt; false if it is not the attempt that is awaited.
fn take(
    event: ScanEvent,
    attempt: u64,
    follower: &mut Follower,
    records: &mut Records<'_>,
) -> Result<bool, SpoolError> {
    let subscription = &mut follower.subscription;
    Ok(match event {
        ScanEvent::Started { start_ts, applied_index } => {
            let current = subscription.scan_started(attempt, start_ts, applied_index);
            if current {
                follower.scan_from(start_ts);
                records.work.marks.place(records.at.region_id, start_ts);
            }
            current
        }
        ScanEvent::Locks { locks, permit: _permit } => {
            // An empty batch is no step.
            locks.iter().all(|(key, start_ts)| subscription.scan_lock(attempt, key, *start_ts))
        }
        ScanEvent::LocksDone => subscription.scan_locks_done(attempt),
        ScanEvent::Data { entries, permit: _permit } if subscription.wants_data(attempt) => {
            records.counts.scanned += entries.len() as u64;
            entries.iter().try_for_each(|e| records.append(e.cf, EntryKind::Put, &e.key, &e.value))?;
            true
        }
        ScanEvent::Replayed { index, ops, permit: _permit } if subscription.wants_data(attempt) => {
            records.counts.scanned += ops.len() as u64;
            records.index = index;
            replay(&ops, follower, records)?;
            true
        }
        ScanEvent::Data { .. } | ScanEvent::Replayed { .. } => false,
        ScanEvent::Finished => subscription.scan_finished(attempt),
        ScanEvent::Failed(error) => {
            tracing::debug!(task = %follower.task, region = records.at.region_id, attempt, %error, "a scan failed");
            subscription.scan_failed(attempt)
        }
    })
}

/// Takes what the raft log tells as if it was applied now.
fn replay(ops: &[Op], follower: &mut Follower, records: &mut Records<'_>) -> Result<(), SpoolError> {
    let (region, task) = (follower.subscription.region().clone(), records.work.task.clone());
    mark_past_mvcc(ops, &region, &task, records);
    append(ops, &region, &task, follower, records)
}
