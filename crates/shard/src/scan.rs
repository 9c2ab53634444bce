//! Steps of initial scans.

use logtide_checkpoint::Rescan;
use logtide_format::EntryKind;
use logtide_model::message::{ScanEvent, ScanStep};
use logtide_temp_file::SpoolError;

use crate::apply::{append, mark_past_mvcc};
use crate::record::Records;
use crate::{Shard, ShardEvent};

impl Shard {
    pub(crate) fn scan_step(&mut self, step: ScanStep, out: &mut Vec<ShardEvent>) {
        let ScanStep { id, event } = step;
        let follower = self.regions.get_mut(&id.region_id).and_then(|region| region.follower(&id.task));
        let (Some(follower), Some(work)) = (follower, self.tasks.get_mut(&id.task)) else {
            self.counts.stale += 1;
            return;
        };
        let attempt = id.attempt;
        let subscription = &mut follower.subscription;
        let mut done = Ok(());
        let current = match event {
            ScanEvent::Started { start_ts, applied_index } => {
                let current = subscription.scan_started(attempt, start_ts, applied_index);
                if current {
                    follower.scan_from(start_ts);
                    work.marks.place(id.region_id, start_ts);
                }
                current
            }
            ScanEvent::Locks { locks, permit: _permit } => {
                // An empty batch is no step.
                locks.iter().all(|(key, start_ts)| subscription.scan_lock(attempt, key, *start_ts))
            }
            ScanEvent::LocksDone => subscription.scan_locks_done(attempt),
            ScanEvent::Data { entries, permit: _permit } => {
                let wanted = subscription.wants_data(attempt);
                if wanted {
                    // Records of a snapshot have no index.
                    let (at, counts) = (follower.scan_place(), &mut self.counts);
                    let mut records = Records { work, at, index: 0, counts, out: &mut *out };
                    done = entries.iter().try_for_each(|e| records.append(e.cf, EntryKind::Put, &e.key, &e.value));
                    self.counts.scanned += entries.len() as u64;
                }
                wanted
            }
            ScanEvent::Replayed { index, ops, permit: _permit } => {
                let wanted = subscription.wants_data(attempt);
                if wanted {
                    let (region, task) = (subscription.region().clone(), work.task.clone());
                    let counts = &mut self.counts;
                    counts.scanned += ops.len() as u64;
                    let mut records = Records { work, at: follower.scan_place(), index, counts, out: &mut *out };
                    mark_past_mvcc(&ops, &region, &task, &mut records);
                    done = append(&ops, &region, &task, follower, &mut records);
                }
                wanted
            }
            ScanEvent::Finished => subscription.scan_finished(attempt),
            ScanEvent::Failed(error) => {
                tracing::debug!(task = %id.task, region = id.region_id, attempt, %error, "a scan failed");
                subscription.scan_failed(attempt)
            }
        };
        self.counts.stale += u64::from(!current);
        match done {
            Ok(()) => self.settle(id.region_id, out),
            // What it found is in the next snapshot as well.
            Err(SpoolError::NoRoom) => {
                self.counts.releases += 1;
                follower.subscription.rescan(Rescan::NoRoom);
                self.settle(id.region_id, out);
            }
            Err(error) => self.lose(&id.task, error, out),
        }
    }
}
