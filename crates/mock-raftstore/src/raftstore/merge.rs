//! Merges: a region (the source) is taken over by its neighbour (the target), which has its peers on the same stores.
//!
//! As in TiKV: an entry of the source *prepares*: from there on nothing is written to it and nothing is read from it. Then
//! the target's leader, on whose store the source is that far, *commits* by an entry of the target, which carries what a
//! peer of the source may still lack; so every store brings its source to the same last entry before its target takes the
//! range. If the target's epoch is another by then, its log went on without the source for ever, and the source's leader
//! *takes the merge back*. All three raise versions, so what was computed before does nothing after.

mod apply;
mod steps;
mod sweep;

use logtide_model::{KeyRange, RegionId, Term};
use raft::GetEntriesContext;
use raft::eraftpb::{Entry, EntryType};

use super::command::{Command, PrepareMerge};
use super::core::StoreCore;
use super::message::{Done, Reply};
use super::peer::Peer;
use super::records::{CarriedEntry, MergeState, Merged, RegionMeta};
use crate::rpc::RegionError;

/// A source is merged only if what some of its peers may lack is not more than this.
const CARRIED_BYTES: usize = 4 << 20;

/// A merge that a region has prepared.
pub(crate) struct Merging {
    pub(crate) state: MergeState,
    /// Who asked for it.
    pub(crate) reply: Option<Reply<Done>>,
    /// The term of the target in which this store proposed to commit it.
    commit_asked: Option<Term>,
    /// The term of the source in which this store proposed to take it back.
    rollback_asked: Option<Term>,
}

impl Merging {
    pub(crate) fn new(state: MergeState) -> Merging {
        Merging { state, reply: None, commit_asked: None, rollback_asked: None }
    }
}

impl Peer {
    /// The command that prepares the merge into `target`, as this store knows it.
    pub(crate) fn prepare_merge(&self, target: Option<&RegionMeta>) -> Result<Command, RegionError> {
        let refused =
            |why: &str| Err(RegionError::Busy(format!("region {} cannot be merged: {why}", self.region_id())));
        let Some(target) = target else { return refused("its target is not on the store of its leader") };
        if union(&self.meta.region.range, &target.region.range).is_none() {
            return refused("its target is no neighbour");
        }
        if stores_of(&self.meta) != stores_of(target) {
            return refused("its peers and those of its target are on different stores");
        }
        let entries = match self.entries_to_carry() {
            Ok(entries) => entries,
            Err(why) => return refused(why),
        };
        let epoch = target.region.epoch;
        let (target_id, target_conf_ver, target_version) = (target.region.id, epoch.conf_ver, epoch.version);
        let prepare = PrepareMerge { target_id, target_conf_ver, target_version, entries };
        Ok(Command::prepare_merge(&self.meta.region, prepare))
    }

    /// The entries at the end of the log that are not known to be on every peer.
    fn entries_to_carry(&self) -> Result<Vec<CarriedEntry>, &'static str> {
        let others = || self.node.raft.prs().iter().filter(|(id, _)| **id != self.id());
        // A split makes peers of others on every store, and nobody tells a store to apply it once the region is gone.
        if others().any(|(_, progress)| progress.committed_index < self.shaped_at) {
            return Err("one of its peers may not have its present range yet");
        }
        let last = self.node.raft.raft_log.last_index();
        let everywhere = others().map(|(_, progress)| progress.matched).min().unwrap_or(last).min(last);
        if everywhere == 0 {
            return Err("one of its peers has not answered its leader yet");
        }
        let entries = self.log_entries(everywhere + 1, last).ok_or("one of its peers needs a snapshot first")?;
        if entries.iter().any(|entry| entry.entry_type != EntryType::EntryNormal as i32) {
            return Err("its members are changing");
        }
        // Whoever lacks them could get them from nobody, and no snapshot either while the merge is prepared.
        let truncates = |entry: &Entry| Command::parse(entry.data.clone()).ok().and_then(|command| command.truncates());
        if entries.iter().filter_map(truncates).any(|to| to.index > everywhere) {
            return Err("its log is being truncated");
        }
        let entries: Vec<_> = entries.iter().map(CarriedEntry::of).collect();
        let small = entries.iter().map(CarriedEntry::bytes).sum::<usize>() <= CARRIED_BYTES;
        if small { Ok(entries) } else { Err("one of its peers is too far behind") }
    }

    fn log_entries(&self, first: u64, last: u64) -> Option<Vec<Entry>> {
        if first > last {
            return Some(Vec::new());
        }
        self.node.raft.raft_log.slice(first, last + 1, None, GetEntriesContext::empty(false)).ok()
    }

    /// The entries from behind the last applied one to the one that prepared the merge.
    fn entries_to_merge(&self, prepare: &CarriedEntry) -> Option<Vec<Entry>> {
        let last = prepare.entry()?;
        let carried = Command::parse(last.data.clone()).ok()?.prepare_merge?.entries;
        let here = carried.first().map_or(last.index, |entry| entry.index);
        let mut entries = self.log_entries(self.applied + 1, here - 1)?;
        for carried in carried.iter().filter(|entry| entry.index > self.applied) {
            entries.push(carried.entry()?);
        }
        entries.push(last);
        Some(entries)
    }
}

impl StoreCore {
    /// Takes a peer out of all that the store has of its region.
    fn forget(&mut self, id: RegionId) -> Option<Peer> {
        self.dirty.remove(&id);
        self.early.remove(&id);
        self.arriving.remove(&id);
        self.merging.remove(&id);
        self.peers.remove(&id)
    }
}

/// How the source of a merge ended.
fn merged(target: &RegionMeta, source: &RegionMeta) -> Merged {
    let (version, after) = (source.region.epoch.version, target.region.epoch.version);
    Merged { version, target: target.region.id, after }
}

/// The range of two neighbours.
fn union(a: &KeyRange, b: &KeyRange) -> Option<KeyRange> {
    if !a.end.is_empty() && a.end == b.start {
        Some(KeyRange { start: a.start.clone(), end: b.end.clone() })
    } else if !b.end.is_empty() && b.end == a.start {
        Some(KeyRange { start: b.start.clone(), end: a.end.clone() })
    } else {
        None
    }
}

fn stores_of(meta: &RegionMeta) -> Vec<u64> {
    let mut stores: Vec<u64> = meta.peers.iter().map(|peer| peer.store_id).collect();
    stores.sort_unstable();
    stores
}
