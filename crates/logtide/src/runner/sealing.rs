//! A seal under way: the order that binds (I3), and the parts that come back from the shards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use logtide_flusher::SealedGeneration;
use logtide_format::Mark;
use logtide_model::message::{SealMarker, ShardMessage};
use logtide_model::planted::Bug;
use logtide_model::{Confirmed, HostError, LocalRegion, RegionId, Role, Task, Ts};
use logtide_shard::SealedShard;

use super::FlushAnswer;
use crate::node::Node;

/// A generation whose markers are sent.
pub(crate) struct Sealing {
    pub(crate) generation: u64,
    pub(crate) barrier: Ts,
    /// By shard.
    pub(crate) parts: BTreeMap<usize, SealedShard>,
    /// Who asked for a flush before it began.
    pub(crate) asked: Vec<FlushAnswer>,
    pub(crate) begun_at: Instant,
    /// The objects that the rhythm took it for.
    pub(crate) taken_for: f64,
    shards: usize,
}

impl Sealing {
    /// The order binds: the barrier, then leadership, then the markers.
    pub(crate) fn begin(node: &Node, task: &Task, generation: u64, now: Instant) -> Result<Self, HostError> {
        let mut barrier = node.host.commit_barrier()?;
        if Bug::ClockForBarrier.is_planted() {
            barrier = Ts::compose(barrier.physical_ms() + 2000, 0);
        }
        let deadline = now + node.config().confirm_timeout;
        let confirmed = node.host.confirm_leadership(&led_regions(node, task), deadline);
        let confirmed: HashMap<RegionId, Confirmed> = confirmed.into_iter().map(|c| (c.region_id, c)).collect();
        let marker = Arc::new(SealMarker { task: task.name.clone(), generation, barrier, confirmed });
        node.observer.broadcast(|_| ShardMessage::Seal(marker.clone()));
        let shards = node.observer.shards();
        Ok(Sealing {
            generation,
            barrier,
            parts: BTreeMap::new(),
            asked: Vec::new(),
            begun_at: now,
            taken_for: 0.0,
            shards,
        })
    }

    pub(crate) fn add(&mut self, part: SealedShard) {
        self.parts.insert(part.shard, part);
    }

    /// True if every shard has answered. They do so in the order of their queues: when they have caught up.
    pub(crate) fn is_complete(&self) -> bool {
        self.parts.len() == self.shards
    }

    /// The sealed generation, of all parts.
    pub(crate) fn assemble(self, node: &Node, task: &Arc<Task>, boot: u64, flush_ts: Ts) -> SealedGeneration {
        let Sealing { generation, barrier, parts, .. } = self;
        let mut spools = Vec::with_capacity(parts.len());
        let mut regions = BTreeMap::new();
        let (mut facts, mut marks) = (Vec::new(), Vec::new());
        for part in parts.into_values() {
            spools.push(part.spool);
            facts.extend(part.facts);
            marks.extend(part.marks);
            regions.extend(part.regions.into_iter().map(|(id, region)| (id, (region.note, region.resolved_ts))));
        }
        let resolved_ts = facts.iter().map(|fact| fact.checkpoint).min().unwrap_or(barrier);
        let (store_id, marks) = (node.host.store_id(), ended_by_now(node, marks));
        let task = task.clone();
        SealedGeneration { task, store_id, boot, generation, flush_ts, resolved_ts, spools, regions, marks, facts }
    }
}

/// What is marked may have come after the barrier, and was there when all shards had answered: now. Without a
/// timestamp it is not known when that is, and no base is above it.
fn ended_by_now(node: &Node, mut marks: Vec<Mark>) -> Vec<Mark> {
    if !marks.is_empty() && !Bug::MarkEndTooEarly.is_planted() {
        let now = node.host.timestamp().unwrap_or(Ts::MAX);
        marks.iter_mut().for_each(|mark| mark.before = mark.before.max(now));
    }
    marks
}

fn led_regions(node: &Node, task: &Task) -> Vec<RegionId> {
    let leads = |r: &LocalRegion| r.role == Role::Leader;
    let regions = task.ranges.iter().flat_map(|range| node.host.regions(range));
    let mut ids: Vec<_> = regions.filter(leads).map(|r| r.region.id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
