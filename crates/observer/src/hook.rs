//! The observer: the host's callbacks, and the façade's controls.

mod regions;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use crossbeam_channel::Receiver;
use logtide_model::message::ShardMessage;
use logtide_model::{
    ApplyBatch, LocalRegion, MemoryBudget, RaftObserver, Region, RegionChange, RegionId, Role, Task, Term,
};

use crate::filter::{Filter, RegionHash};
use crate::shard::Shard;

/// Bytes that a batch is accounted with besides its ops: the message in the queue and its share of a queue block.
pub const BATCH_OVERHEAD: usize = 256;

/// What an [`Observer`] is made of.
#[derive(Clone, Debug)]
pub struct ObserverConfig {
    /// How many shards there are, at least 1. A region belongs to the same shard as long as this stays.
    pub shards: usize,
    /// Bounds the applied batches on their way to the shards, in bytes; shared with whoever else fills the queues.
    pub memory: MemoryBudget,
}

/// Counts of an [`Observer`], since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObserverStats {
    /// Regions observed now.
    pub observed_regions: usize,
    /// Batches that found no memory (or no shard) and were dropped; each raised the gap flag of its region. Under
    /// pressure it is the region with the largest backlog that loses, since its catch-up is one for all that it lost.
    pub dropped_batches: u64,
    /// Changes past MVCC (range deletes, ingested files) in observed regions: passed on, but no log record holds them.
    pub skipped_ops: u64,
}

/// The raft hook. Clones are handles to one observer.
#[derive(Clone, Debug)]
pub struct Observer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    filter: Filter,
    shards: Box<[Shard]>,
    tasks: ArcSwap<Vec<Arc<Task>>>,
    memory: MemoryBudget,
}

impl Observer {
    /// An observer of nothing yet, and the queue of each shard.
    ///
    /// The queues have no bound in messages, but in bytes: every batch holds a permit of `config.memory`, and what
    /// else is sent is small and rare.
    pub fn new(config: ObserverConfig) -> (Observer, Vec<Receiver<ShardMessage>>) {
        let (shards, queues): (Vec<_>, Vec<_>) = (0..config.shards.max(1)).map(|_| Shard::new()).unzip();
        let inner =
            Inner { filter: Filter::new(), shards: shards.into(), tasks: ArcSwap::default(), memory: config.memory };
        (Observer(Arc::new(inner)), queues)
    }

    /// The tasks of this store from now on: leaderships of regions that overlap one of them are observed. Regions that
    /// no task wants any more are let go. (Tell the shards of a new task first, then call [`observe`](Self::observe)
    /// for what the host leads already.)
    pub fn set_tasks(&self, tasks: Vec<Arc<Task>>) {
        let inner = &*self.0;
        inner.tasks.store(Arc::new(tasks));
        // A leadership that came in with the old tasks has left its bucket before the sweep enters it, or will see
        // the new tasks: both read the tasks under the bucket's lock.
        for shard in &inner.shards {
            for bucket in &shard.buckets {
                let mut bucket = bucket.0.write();
                for (&region_id, slot) in bucket.iter_mut() {
                    if slot.observation().is_some_and(|on| !inner.wanted(&on.range))
                        && let Some(on) = slot.off()
                    {
                        inner.ended(shard, region_id);
                        shard.send(ShardMessage::Unlead { region_id, term: on.term });
                    }
                }
                if inner.tasks.load().is_empty() {
                    bucket.clear();
                }
            }
        }
    }

    /// What the host says about a region now; for task starts and audits, from any thread. A leader is observed (if it
    /// is already, its shard is asked to look again), a follower no more. News that are older than what the callbacks
    /// told change nothing.
    pub fn observe(&self, region: &LocalRegion) {
        self.on_leadership(&region.region, region.term, region.role);
    }

    /// The regions that are observed now, in order of their ids: for audits.
    pub fn observed(&self) -> Vec<RegionId> {
        let buckets = self.0.shards.iter().flat_map(|shard| &shard.buckets);
        let mut ids: Vec<RegionId> = buckets
            .flat_map(|bucket| {
                let bucket = bucket.0.read();
                let on = bucket.iter().filter(|(_, slot)| slot.observation().is_some());
                on.map(|(&id, _)| id).collect::<Vec<_>>()
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.0.shards.len()
    }

    /// The shard that owns a region.
    pub fn shard_of(&self, region_id: RegionId) -> usize {
        RegionHash::of(region_id).high(self.0.shards.len())
    }

    /// Sends a message to a shard, in order with what else is sent to it. False if there is no such shard any more.
    pub fn send(&self, shard: usize, message: ShardMessage) -> bool {
        self.0.shards.get(shard).is_some_and(|shard| shard.send(message))
    }

    /// Sends a message made for each shard; false if one is gone.
    pub fn broadcast(&self, mut message: impl FnMut(usize) -> ShardMessage) -> bool {
        let sent = (0..self.shards()).filter(|&shard| self.send(shard, message(shard))).count();
        sent == self.shards()
    }

    /// What was counted.
    pub fn stats(&self) -> ObserverStats {
        let mut stats = ObserverStats::default();
        for shard in &self.0.shards {
            stats.observed_regions += shard.observed.load(Ordering::Relaxed);
            stats.dropped_batches += shard.dropped_batches.load(Ordering::Relaxed);
            stats.skipped_ops += shard.skipped_ops.load(Ordering::Relaxed);
        }
        stats
    }
}

impl RaftObserver for Observer {
    #[inline]
    fn on_apply(&self, batch: &ApplyBatch<'_>) {
        let hash = RegionHash::of(batch.region_id);
        if self.0.filter.may_contain(hash) {
            self.0.applied(hash, batch);
        }
    }

    fn on_leadership(&self, region: &Region, term: Term, role: Role) {
        match role {
            Role::Leader => self.0.lead(region, term),
            Role::Follower => self.0.leave(region.id, term),
        }
    }

    fn on_region_changed(&self, change: &RegionChange) {
        match change {
            RegionChange::Split { parent: region, .. } | RegionChange::EpochChange { region } => {
                self.0.reshaped(region, change, true);
            }
            RegionChange::Merge { target, source } => {
                let told = self.0.gone(source.id, change) && self.shard_of(source.id) == self.shard_of(target.id);
                self.0.reshaped(target, change, !told);
            }
            RegionChange::Destroy { region } => {
                self.0.gone(region.id, change);
            }
        }
    }
}
