//! An observer that holds the host to contract H1 and keeps what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logtide_model::{
    ApplyBatch, Cf, KeyRange, Op, RaftObserver, Region, RegionChange, RegionEpoch, RegionId, Role, StoreId, Term, Ts,
    split_ts,
};
use parking_lot::Mutex;

/// Orders what the recorders of all stores are told, and what tests do in between.
#[derive(Clone, Default)]
pub(crate) struct Sequence(Arc<AtomicU64>);

impl Sequence {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// A commit record that was told while its store led the region.
pub(crate) struct ToldCommit {
    pub(crate) seq: u64,
    pub(crate) commit_ts: Ts,
}

#[derive(Default)]
pub(crate) struct Seen {
    /// Region → the last index told.
    pub(crate) last: BTreeMap<RegionId, u64>,
    /// (Region, first index, last index) → what the ops were, as a hash.
    pub(crate) batches: Vec<(RegionId, u64, u64, Vec<Op>)>,
    pub(crate) leading: BTreeMap<RegionId, Term>,
    pub(crate) commits: Vec<ToldCommit>,
    pub(crate) splits: usize,
    /// Regions that are gone.
    pub(crate) destroyed: usize,
    pub(crate) merges: usize,
    /// Regions that were taken over.
    pub(crate) gone: BTreeSet<RegionId>,
    /// How often a region went on behind entries that were not told.
    pub(crate) jumps: usize,
    /// Ranges of regions that took part in a split.
    pub(crate) ranges: BTreeMap<RegionId, KeyRange>,
    /// Region → the epoch that it was last told to have.
    pub(crate) shapes: BTreeMap<RegionId, RegionEpoch>,
    pub(crate) violations: Vec<String>,
    pub(crate) hash: DefaultHasher,
}

#[derive(Clone)]
pub(crate) struct Recorder {
    store: StoreId,
    sequence: Sequence,
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// Called for every batch, before it is noted.
    hook: Arc<Mutex<Option<Hook>>>,
}

type Hook = Box<dyn FnMut(&[Op]) + Send>;

impl Recorder {
    pub(crate) fn new(store: StoreId, sequence: &Sequence) -> Recorder {
        Recorder { store, sequence: sequence.clone(), seen: Arc::default(), hook: Arc::default() }
    }

    pub(crate) fn set_hook(&self, hook: impl FnMut(&[Op]) + Send + 'static) {
        *self.hook.lock() = Some(Box::new(hook));
    }

    /// All ops told of a region, in order.
    pub(crate) fn ops(&self, region_id: RegionId) -> Vec<Op> {
        let seen = self.seen.lock();
        seen.batches.iter().filter(|b| b.0 == region_id).flat_map(|b| b.3.clone()).collect()
    }

    pub(crate) fn assert_clean(&self) {
        let seen = self.seen.lock();
        assert!(seen.violations.is_empty(), "store {}: {:#?}", self.store, seen.violations);
    }

    pub(crate) fn digest(&self) -> u64 {
        self.seen.lock().hash.finish()
    }
}

impl RaftObserver for Recorder {
    fn on_apply(&self, batch: &ApplyBatch<'_>) {
        if let Some(hook) = &mut *self.hook.lock() {
            hook(batch.ops);
        }
        let mut seen = self.seen.lock();
        let seen = &mut *seen;
        (batch.region_id, batch.term, batch.first_index, batch.last_index, batch.epoch).hash(&mut seen.hash);
        format!("{:?}", batch.ops).hash(&mut seen.hash);
        let expected = seen.last.insert(batch.region_id, batch.last_index).map(|last| last + 1);
        // A snapshot moves a follower on without telling it the entries.
        let leads = seen.leading.contains_key(&batch.region_id);
        let jump = expected.is_some_and(|e| e != batch.first_index);
        let back = expected.is_some_and(|e| e > batch.first_index);
        seen.jumps += usize::from(jump);
        if (jump && leads) || back || batch.last_index < batch.first_index {
            seen.violations.push(format!(
                "region {}: told {}..={}, expected {expected:?}",
                batch.region_id, batch.first_index, batch.last_index
            ));
        }
        if seen.gone.contains(&batch.region_id) {
            seen.violations.push(format!("region {}: told {} when it was gone", batch.region_id, batch.first_index));
        }
        if let Some(range) = seen.ranges.get(&batch.region_id)
            && batch.ops.iter().any(|op| matches!(op, Op::Put { key, .. } if !range.contains(key)))
        {
            seen.violations.push(format!("region {}: told a key outside of {range:?}", batch.region_id));
        }
        if seen.leading.contains_key(&batch.region_id) {
            for op in batch.ops {
                if let Op::Put { cf: Cf::Write, key, .. } = op {
                    let (_, commit_ts) = split_ts(key).unwrap();
                    seen.commits.push(ToldCommit { seq: self.sequence.next(), commit_ts });
                }
            }
        }
        seen.batches.push((batch.region_id, batch.first_index, batch.last_index, batch.ops.to_vec()));
    }

    fn on_leadership(&self, region: &Region, term: Term, role: Role) {
        let mut seen = self.seen.lock();
        let seen = &mut *seen;
        (region.id, term, role == Role::Leader).hash(&mut seen.hash);
        let before = seen.leading.get(&region.id).copied();
        match role {
            Role::Leader => {
                if before.is_some() {
                    seen.violations.push(format!("region {}: leader in {term} without leaving {before:?}", region.id));
                }
                seen.leading.insert(region.id, term);
            }
            Role::Follower => {
                if before.is_none() {
                    seen.violations.push(format!("region {}: follower in {term} without having led", region.id));
                }
                seen.leading.remove(&region.id);
            }
        }
    }

    fn on_region_changed(&self, change: &RegionChange) {
        let mut seen = self.seen.lock();
        let seen = &mut *seen;
        format!("{change:?}").hash(&mut seen.hash);
        if let RegionChange::EpochChange { region } = change {
            seen.shapes.insert(region.id, region.epoch);
            seen.ranges.insert(region.id, region.range.clone());
        }
        if let RegionChange::Destroy { region } = change {
            seen.destroyed += 1;
            seen.last.remove(&region.id);
            seen.ranges.remove(&region.id);
            if seen.leading.contains_key(&region.id) {
                seen.violations.push(format!("region {} is gone while it leads", region.id));
            }
        }
        if let RegionChange::Merge { target, source } = change {
            seen.merges += 1;
            seen.gone.insert(source.id);
            seen.ranges.remove(&source.id);
            if seen.leading.contains_key(&source.id) {
                seen.violations.push(format!("region {} is merged while it leads", source.id));
            }
            if !target.range.covers(&source.range) || target.epoch.version <= source.epoch.version {
                seen.violations.push(format!("{target:?} took {source:?} over"));
            }
            seen.ranges.insert(target.id, target.range.clone());
        }
        let RegionChange::Split { parent, children, leader, term } = change else { return };
        seen.splits += 1;
        seen.ranges.extend(children.iter().chain([parent]).map(|r| (r.id, r.range.clone())));
        if *leader != (seen.leading.get(&parent.id) == Some(term)) {
            seen.violations.push(format!("split of {}: leader {leader}, but told {:?}", parent.id, seen.leading));
        }
        if children.iter().any(|c| seen.last.contains_key(&c.id)) {
            seen.violations.push(format!("split of {}: a child applied before it was told", parent.id));
        }
    }
}
