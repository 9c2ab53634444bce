//! Merges: a region (the source) is taken over by its neighbour (the target), which has its peers on the same stores.
//!
//! As in TiKV: an entry of the source *prepares*: from there on nothing is written to it and nothing is read from it. Then
//! the target's leader, on whose store the source is that far, *commits* by an entry of the target, which carries what a
//! peer of the source may still lack; so every store brings its source to the same last entry before its target takes the
//! range. If the target's epoch is another by then, its log went on without the source for ever, and the source's leader
//! *takes the merge back*. All three raise versions, so what was computed before does nothing after.

use std::sync::Arc;

use logtide_model::{KeyRange, Op, RaftObserver, Region, RegionChange, RegionId, Role, Term};
use prost::Message as _;
use raft::GetEntriesContext;
use raft::eraftpb::{Entry, EntryType};

use super::apply::{Effects, Event, apply};
use super::command::{APART, Command, CommitMerge, PrepareMerge};
use super::core::StoreCore;
use super::message::{Action, Done, Proposal, Reply};
use super::peer::Peer;
use super::records::{
    CarriedEntry, EntryId, MergeState, Merged, RegionMeta, erase_merged, malformed, put_apply_state, put_merge_state,
    put_region, put_replayable,
};
use super::snapshot::{delete_data, region_of};
use crate::engine::{EngineError, WriteBatch};
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

/// What is the next step of a merge on this store.
enum Next {
    Commit { target: RegionId, command: Command },
    TakeBack(Command),
    Wait,
    Over,
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

impl Effects {
    /// An entry that prepares a merge or takes it back; everything else is refused while one is prepared.
    pub(super) fn merge_step(
        &mut self,
        peer: &mut Peer,
        command: Command,
        at: EntryId,
        batch: &mut WriteBatch,
    ) -> Result<Done, RegionError> {
        let prepared = peer.merging.as_ref().map(|merging| merging.state.prepare.index);
        match (&command.prepare_merge, prepared) {
            (Some(prepare), None) => {
                let data = command.encode_to_vec();
                let entry = Entry { index: at.index, term: at.term, data, ..Entry::default() };
                let state = MergeState {
                    target_id: prepare.target_id,
                    target_conf_ver: prepare.target_conf_ver,
                    target_version: prepare.target_version,
                    prepare: CarriedEntry::of(&entry),
                };
                put_merge_state(batch, self.region_id, Some(&state));
                peer.merging = Some(Merging::new(state));
                Ok(self.change_epoch(peer, 1, at, batch))
            }
            (None, Some(prepared)) if command.rollback_merge == prepared => {
                put_merge_state(batch, self.region_id, None);
                let asked = peer.merging.take().and_then(|merging| merging.reply);
                let done = self.change_epoch(peer, 0, at, batch);
                let refused = RegionError::Busy("the target of the merge changed: it was taken back".to_owned());
                self.replies.extend(asked.map(|reply| (reply, Err(refused))));
                Ok(done)
            }
            _ => Err(RegionError::Busy(format!("a merge of region {} is in the way", self.region_id))),
        }
    }

    /// A new version of the same range.
    fn change_epoch(&mut self, peer: &mut Peer, conf_ver: u64, at: EntryId, batch: &mut WriteBatch) -> Done {
        self.note(peer.meta.region.epoch, at.index, vec![Op::Admin]);
        peer.meta.region.epoch.version += 1;
        peer.meta.region.epoch.conf_ver += conf_ver;
        peer.shaped_at = at.index;
        put_region(batch, &peer.meta);
        put_replayable(batch, self.region_id, at.index);
        self.events.push(Event::EpochChange(peer.meta.clone()));
        Done { regions: vec![peer.meta.region.clone()] }
    }

    /// The target takes the range of the source.
    fn absorb(target: &mut Peer, source: Box<Peer>, range: KeyRange, at: EntryId, batch: &mut WriteBatch) -> Effects {
        let mut effects = Effects::new(target, 1);
        let (lost, _) = target.take_reply(at.index, at.term);
        effects.replies.extend(lost.into_iter().map(|reply| (reply, Err(target.not_leader()))));
        effects.note(target.meta.region.epoch, at.index, vec![Op::Admin]);
        let id = target.region_id();
        let region = &mut target.meta.region;
        region.epoch.version = region.epoch.version.max(source.meta.region.epoch.version) + 1;
        region.range = range;
        target.meta.range_deleted = target.meta.range_deleted.max(source.meta.range_deleted);
        target.applied = at.index;
        put_region(batch, &target.meta);
        put_replayable(batch, id, at.index);
        put_apply_state(batch, id, at.index, at.term);
        erase_merged(batch, source.region_id(), merged(&target.meta, &source.meta));
        target.shaped_at = at.index;
        let (meta, led) = (source.meta.clone(), source.announced);
        effects.events.push(Event::Merge { target: target.meta.clone(), source: meta, led });
        effects.absorbed = Some(source);
        effects
    }
}

impl StoreCore {
    /// A merge is asked for: the source learns of its target what this store knows.
    pub(super) fn propose_merge(&mut self, mut proposal: Proposal) {
        if let Action::Merge { target, known } = &mut proposal.action {
            let peer = self.peers.get(target).filter(|peer| peer.is_born() && peer.merging.is_none());
            *known = peer.map(|peer| peer.meta.clone());
        }
        if let Some(peer) = self.peers.get_mut(&proposal.region_id) {
            peer.propose(proposal);
        }
    }

    /// Applies committed entries of a region, those that stand apart one by one.
    pub(super) fn apply_entries(
        &mut self,
        id: RegionId,
        entries: Vec<Entry>,
        batch: &mut WriteBatch,
        all: &mut Vec<Effects>,
    ) -> Result<(), EngineError> {
        let mut run = Vec::new();
        for entry in entries {
            if entry.context != APART {
                run.push(entry);
                continue;
            }
            self.apply_run(id, std::mem::take(&mut run), batch, all)?;
            match self.merge_of(id, &entry) {
                Some(commit) => {
                    self.commit_merge(id, &commit, EntryId { index: entry.index, term: entry.term }, batch, all)?
                }
                None => self.apply_run(id, vec![entry], batch, all)?,
            }
        }
        self.apply_run(id, run, batch, all)
    }

    fn apply_run(
        &mut self,
        id: RegionId,
        entries: Vec<Entry>,
        batch: &mut WriteBatch,
        all: &mut Vec<Effects>,
    ) -> Result<(), EngineError> {
        let Some(peer) = self.peers.get_mut(&id).filter(|_| !entries.is_empty()) else { return Ok(()) };
        let mut effects = apply(peer, entries, batch);
        self.prepare_children(&mut effects, batch)?;
        if effects.gone {
            effects.buried = self.bury(id, batch).map(Box::new);
        }
        all.push(effects);
        Ok(())
    }

    /// The merge that an entry commits, if its target is still what it was for.
    fn merge_of(&self, id: RegionId, entry: &Entry) -> Option<CommitMerge> {
        let target = self.peers.get(&id)?;
        let command = Command::parse(entry.data.clone()).ok()?;
        if !command.fits(target.meta.region.epoch) || target.merging.is_some() {
            return None;
        }
        command.commit_merge
    }

    fn commit_merge(
        &mut self,
        target: RegionId,
        commit: &CommitMerge,
        at: EntryId,
        batch: &mut WriteBatch,
        all: &mut Vec<Effects>,
    ) -> Result<(), EngineError> {
        let id = commit.source_id;
        let broken = || malformed(id, "what a merge needs");
        let source = self.peers.get(&id).ok_or_else(broken)?;
        if source.applied < commit.prepare.index {
            let entries = source.entries_to_merge(&commit.prepare).ok_or_else(broken)?;
            self.apply_entries(id, entries, batch, all)?;
        }
        let source = Box::new(self.forget(id).ok_or_else(broken)?);
        if source.merging.as_ref().is_none_or(|merging| merging.state.prepare.index != commit.prepare.index) {
            return Err(broken());
        }
        let target = self.peers.get_mut(&target).ok_or_else(broken)?;
        let range = union(&source.meta.region.range, &target.meta.region.range).ok_or_else(broken)?;
        all.push(Effects::absorb(target, source, range, at, batch));
        Ok(())
    }

    fn forget(&mut self, id: RegionId) -> Option<Peer> {
        self.dirty.remove(&id);
        self.early.remove(&id);
        self.arriving.remove(&id);
        self.merging.remove(&id);
        self.peers.remove(&id)
    }

    /// The effects of entries are in the engine and told: what they mean for merges.
    pub(super) fn note_merges(&mut self, effects: &Effects) {
        for event in &effects.events {
            match event {
                Event::EpochChange(meta) | Event::Members { meta, .. } => self.report(meta),
                Event::Merge { target, source, .. } => {
                    let merged = merged(target, source);
                    self.shared.pd.report_merge(target, source, merged, self.shared.id);
                    // Whoever led the source may have served reads of its range up to now.
                    if let Some(peer) = self.peers.get_mut(&target.region.id).filter(|p| p.announced.is_some()) {
                        self.shared.sync_max_ts(peer);
                    }
                }
                _ => {}
            }
        }
        if self.peers.get(&effects.region_id).is_some_and(|peer| peer.merging.is_some()) {
            self.merging.insert(effects.region_id);
        }
    }

    /// Answers those who waited for a region that was taken over.
    pub(super) fn end_absorbed(&mut self, target: RegionId, source: &mut Peer) {
        self.publish([source.region_id()]);
        let regions: Vec<Region> = self.peers.get(&target).map(|peer| peer.meta.region.clone()).into_iter().collect();
        source.end(&RegionError::EpochNotMatch { current: regions.clone() }, Ok(Done { regions }));
        self.try_early_again();
    }

    /// Takes the next step of every merge that this store can take further.
    pub(super) fn drive_merges(&mut self) {
        for id in self.merging.clone() {
            let (proposed_to, command) = match self.next_step(id) {
                Next::Commit { target, command } => (target, command),
                Next::TakeBack(command) => (id, command),
                Next::Wait => continue,
                Next::Over => {
                    self.merging.remove(&id);
                    continue;
                }
            };
            let Some(peer) = self.peers.get_mut(&proposed_to) else { continue };
            let term = peer.term();
            // In its term, what a leader has in its log it has for good.
            if peer.node.propose(command.context(), command.encode_to_vec()).is_err() {
                continue;
            }
            self.dirty.insert(proposed_to);
            if let Some(merging) = self.peers.get_mut(&id).and_then(|peer| peer.merging.as_mut()) {
                let asked = if proposed_to == id { &mut merging.rollback_asked } else { &mut merging.commit_asked };
                *asked = Some(term);
            }
        }
    }

    fn next_step(&self, id: RegionId) -> Next {
        let Some(source) = self.peers.get(&id) else { return Next::Over };
        let Some(merging) = &source.merging else { return Next::Over };
        let (state, target_id) = (&merging.state, merging.state.target_id);
        let leads = |peer: &Peer| peer.is_leader() && peer.announced == Some(peer.term());
        if leads(source)
            && merging.rollback_asked != Some(source.term())
            && self.shared.pd.is_merge_hopeless(id, target_id, state.target_epoch())
        {
            return Next::TakeBack(Command::rollback_merge(&source.meta.region, state.prepare.index));
        }
        match self.peers.get(&target_id) {
            Some(target)
                if leads(target)
                    && target.merging.is_none()
                    && target.meta.region.epoch == state.target_epoch()
                    && merging.commit_asked != Some(target.term()) =>
            {
                let command = Command::commit_merge(&target.meta.region, id, state.prepare.clone());
                Next::Commit { target: target_id, command }
            }
            _ => Next::Wait,
        }
    }

    /// True if a peer is of a merged region, and a snapshot of `region` may take its place: it knows its last range, so
    /// that what overlaps it is from after the merge, and its target here needs it no more.
    pub(super) fn gives_way(&self, peer: &Peer, region: &Region) -> bool {
        let Some(merged) = self.shared.pd.merged(peer.region_id()) else { return false };
        let is_target = region.id == merged.target && region.epoch.version >= merged.after;
        let target = self.peers.get(&merged.target).filter(|target| target.is_born());
        peer.meta.region.epoch.version + 1 >= merged.version
            && (is_target || target.is_none_or(|target| target.meta.region.epoch.version >= merged.after))
    }

    /// Removes merged regions that a snapshot, which is about to be put into the engine, takes the place of.
    pub(super) fn clear_the_way(&mut self, id: RegionId, batch: &mut WriteBatch, swept: &mut Vec<Peer>) {
        let Some(snapshot) = self.peers.get(&id).and_then(|peer| peer.node.snap()) else { return };
        let Some(meta) = region_of(snapshot) else { return };
        let covered = |peer: &&Peer| peer.region_id() != id && peer.meta.region.range.overlaps(&meta.region.range);
        let gone: Vec<RegionId> = self.peers.values().filter(covered).map(Peer::region_id).collect();
        for id in gone {
            let Some(peer) = self.forget(id) else { continue };
            delete_data(batch, &peer.meta.region.range);
            if let Some(merged) = self.shared.pd.merged(peer.region_id()) {
                erase_merged(batch, peer.region_id(), merged);
            }
            swept.push(peer);
        }
    }

    /// Tells of the regions that snapshots took the place of.
    pub(super) fn end_swept(&mut self, swept: Vec<Peer>, observers: &[Arc<dyn RaftObserver>]) {
        for mut peer in swept {
            self.publish([peer.region_id()]);
            if let Some(term) = peer.announced {
                observers.iter().for_each(|o| o.on_leadership(&peer.meta.region, term, Role::Follower));
            }
            let change = RegionChange::Destroy { region: peer.meta.region.clone() };
            observers.iter().for_each(|o| o.on_region_changed(&change));
            let lost = RegionError::Undetermined("the region was merged meanwhile".to_owned());
            peer.end(&lost, Err(lost.clone()));
        }
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
