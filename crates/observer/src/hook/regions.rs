//! What the callbacks mean for a region: it is observed or let go, its shard is told, its batches are passed on or dropped.

use std::sync::atomic::Ordering;

use logtide_model::message::{AppliedBatch, Lead, ShardMessage};
use logtide_model::planted::Bug;
use logtide_model::{ApplyBatch, KeyRange, Permit, Region, RegionChange, RegionId, Term};

use super::{BATCH_OVERHEAD, Inner};
use crate::filter::RegionHash;
use crate::observations::{Led, Observation};
use crate::shard::{Shard, measure};

/// A region may have this many times as many bytes in flight as are left for all: the busier the store, the sooner the
/// regions with the largest backlogs lose a batch, and those with small ones find room (dynamic thresholds, Choudhury and
/// Hahne 1998, as in switches with shared memory). One region alone comes to 8/9 of the memory.
const SHARE: usize = 8;

impl Inner {
    fn shard(&self, hash: RegionHash) -> &Shard {
        &self.shards[hash.high(self.shards.len())]
    }

    pub(super) fn wanted(&self, range: &KeyRange) -> bool {
        self.tasks.load().iter().any(|task| task.overlaps(range))
    }

    /// The message is sent under the bucket's lock, as the leadership before it was: so a shard sees `Lead` before the
    /// first batch that was observed because of it, and no batch after the `Unlead` that ended it.
    #[inline(never)]
    pub(super) fn applied(&self, hash: RegionHash, batch: &ApplyBatch<'_>) {
        let shard = self.shard(hash);
        let bucket = shard.bucket(hash).read();
        let Some(on) = bucket.get(&batch.region_id).and_then(|slot| slot.observation()) else { return };
        let size = measure(batch.ops);
        if size.past_mvcc > 0 {
            shard.skipped_ops.fetch_add(size.past_mvcc, Ordering::Relaxed);
        }
        let sent = self.admit(on, BATCH_OVERHEAD + size.bytes).is_some_and(|permit| {
            shard.send(ShardMessage::Applied(AppliedBatch {
                region_id: batch.region_id,
                version: batch.epoch.version,
                term: batch.term,
                first_index: batch.first_index,
                last_index: batch.last_index,
                ops: batch.ops.to_vec(),
                permit,
            }))
        });
        if !sent {
            on.gap.raise();
            shard.dropped_batches.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Memory for a batch of a region, if there is some and the region does not have too much already.
    #[inline]
    fn admit(&self, on: &Observation, bytes: usize) -> Option<Permit> {
        let room = self.memory.room();
        let crowded = room < self.memory.limit() / 2;
        // After a drop only a snapshot helps, and it will have this batch: while memory is short, it is lost for nothing.
        if on.backlog.used().saturating_add(bytes) > room.saturating_mul(SHARE) || (crowded && on.gap.is_raised()) {
            return None;
        }
        on.backlog.try_acquire(bytes)
    }

    pub(super) fn lead(&self, region: &Region, term: Term) {
        let hash = RegionHash::of(region.id);
        let shard = self.shard(hash);
        let mut bucket = shard.bucket(hash).write();
        if !self.wanted(&region.range) || (Bug::ChildUnobserved.is_planted() && term <= 7 && region.epoch.version > 3) {
            return;
        }
        let left = bucket.get(&region.id).is_some_and(|slot| slot.has_left());
        let gap = match bucket.entry(region.id).or_default().lead(term, &region.range, &self.memory) {
            Led::Stale => return,
            Led::Again(gap) | Led::NewTerm(gap) => gap,
            Led::Begun(gap) => {
                shard.observed.fetch_add(1, Ordering::Relaxed);
                self.filter.add(hash);
                gap
            }
        };
        shard.send(ShardMessage::Lead(Lead { region: region.clone(), term, gap }));
        if left && Bug::StopOvertakesStart.is_planted() {
            shard.send(ShardMessage::Unlead { region_id: region.id, term });
        }
    }

    pub(super) fn leave(&self, region_id: RegionId, term: Term) {
        let hash = RegionHash::of(region_id);
        let shard = self.shard(hash);
        let mut bucket = shard.bucket(hash).write();
        if self.tasks.load().is_empty() {
            return;
        }
        // Remembered even if the region is not observed: an older listing may be on its way to `observe`.
        if bucket.entry(region_id).or_default().leave(term) {
            self.ended(shard, region_id);
            shard.send(ShardMessage::Unlead { region_id, term });
        }
    }

    /// The region has another shape now; its shard is told if it does not know. If no task wants what is left of the
    /// region, it is let go.
    pub(super) fn reshaped(&self, region: &Region, change: &RegionChange, tell: bool) {
        let hash = RegionHash::of(region.id);
        let shard = self.shard(hash);
        let mut bucket = shard.bucket(hash).write();
        let Some(slot) = bucket.get_mut(&region.id) else { return };
        let Some(on) = slot.observation_mut() else { return };
        on.range = region.range.clone();
        let term = on.term;
        if tell {
            shard.send(ShardMessage::RegionChanged(change.clone()));
        }
        if !self.wanted(&region.range) {
            slot.off();
            self.ended(shard, region.id);
            shard.send(ShardMessage::Unlead { region_id: region.id, term });
        }
    }

    /// This store has no such region any more. True if its shard was told.
    pub(super) fn gone(&self, region_id: RegionId, change: &RegionChange) -> bool {
        let hash = RegionHash::of(region_id);
        let shard = self.shard(hash);
        let mut bucket = shard.bucket(hash).write();
        let observed = bucket.remove(&region_id).is_some_and(|slot| slot.observation().is_some());
        if observed {
            self.ended(shard, region_id);
            shard.send(ShardMessage::RegionChanged(change.clone()));
        }
        observed
    }

    pub(super) fn ended(&self, shard: &Shard, region_id: RegionId) {
        shard.observed.fetch_sub(1, Ordering::Relaxed);
        self.filter.remove(RegionHash::of(region_id));
    }
}
