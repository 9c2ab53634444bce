//! What a store does for the merges of its regions: asks for them, takes them a step further, tells of their end.

use logtide_model::{Region, RegionId};
use prost::Message as _;

use super::merged;
use crate::raftstore::apply::{Effects, Event};
use crate::raftstore::command::Command;
use crate::raftstore::core::StoreCore;
use crate::raftstore::message::{Action, Done, Proposal};
use crate::raftstore::peer::Peer;
use crate::rpc::RegionError;

/// What is the next step of a merge on this store.
enum Next {
    Commit { target: RegionId, command: Command },
    TakeBack(Command),
    Wait,
    Over,
}

impl StoreCore {
    /// A merge is asked for: the source learns of its target what this store knows.
    pub(in crate::raftstore) fn propose_merge(&mut self, mut proposal: Proposal) {
        if let Action::Merge { target, known } = &mut proposal.action {
            let peer = self.peers.get(target).filter(|peer| peer.is_born() && peer.merging.is_none());
            *known = peer.map(|peer| peer.meta.clone());
        }
        if let Some(peer) = self.peers.get_mut(&proposal.region_id) {
            peer.propose(proposal);
        }
    }

    /// The effects of entries are in the engine and told: what they mean for merges.
    pub(in crate::raftstore) fn note_merges(&mut self, effects: &Effects) {
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
    pub(in crate::raftstore) fn end_absorbed(&mut self, target: RegionId, source: &mut Peer) {
        self.publish([source.region_id()]);
        let regions: Vec<Region> = self.peers.get(&target).map(|peer| peer.meta.region.clone()).into_iter().collect();
        source.end(&RegionError::EpochNotMatch { current: regions.clone() }, Ok(Done { regions }));
        self.try_early_again();
    }

    /// Takes the next step of every merge that this store can take further.
    pub(in crate::raftstore) fn drive_merges(&mut self) {
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
}
