//! The entries of a merge: what preparing it, taking it back and committing it do to both regions.

use logtide_model::{KeyRange, Op, RegionId};
use prost::Message as _;
use raft::eraftpb::Entry;

use super::{Merging, merged, union};
use crate::engine::{EngineError, WriteBatch};
use crate::raftstore::apply::{Effects, Event, apply};
use crate::raftstore::command::{APART, Command, CommitMerge};
use crate::raftstore::core::StoreCore;
use crate::raftstore::message::Done;
use crate::raftstore::peer::Peer;
use crate::raftstore::records::{
    CarriedEntry, EntryId, MergeState, erase_merged, malformed, put_apply_state, put_merge_state, put_region,
    put_replayable,
};
use crate::rpc::RegionError;

impl Effects {
    /// An entry that prepares a merge or takes it back; everything else is refused while one is prepared.
    pub(in crate::raftstore) fn merge_step(
        &mut self,
        peer: &mut Peer,
        command: &Command,
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
    /// Applies committed entries of a region, those that stand apart one by one.
    pub(in crate::raftstore) fn apply_entries(
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
}
