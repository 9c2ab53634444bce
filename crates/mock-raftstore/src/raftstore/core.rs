//! The loop of a store, one turn at a time: messages in, then one [`StoreCore::poll`] for all regions that have
//! something to do, so that raft logs and applied data of many regions share their engine writes.
//!
//! The order in a turn keeps contract H1: leadership lost is told first; then entries are made durable, committed ones
//! applied, observers told, and only then proposers and readers answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use logtide_model::{KeyRange, RaftObserver, RegionId};
use raft::eraftpb::Entry;

use super::apply::Effects;
use super::message::{Action, StoreMessage};
use super::peer::{Peer, PeerConfig};
use super::records::{read_merged, read_regions, read_tombstones};
use super::shared::StoreShared;
use crate::engine::{EngineError, WriteBatch};
use crate::rpc::RegionError;
use crate::transport::Envelope;

/// See the module.
pub(crate) struct StoreCore {
    pub(super) shared: Arc<StoreShared>,
    pub(super) config: PeerConfig,
    pub(super) sync: bool,
    pub(super) peers: BTreeMap<RegionId, Peer>,
    /// Peers with something to do.
    pub(super) dirty: BTreeSet<RegionId>,
    /// Messages for peers that something here is in the way of.
    pub(super) early: BTreeMap<RegionId, Vec<Envelope>>,
    /// Ranges of snapshots that raft took in and that are not in the engine yet.
    pub(super) arriving: BTreeMap<RegionId, KeyRange>,
    /// The last peer of a region that was here and is gone.
    pub(super) tombstones: BTreeMap<RegionId, u64>,
    /// Peers that are to go.
    pub(super) doomed: BTreeSet<RegionId>,
    /// Regions that have prepared a merge.
    pub(super) merging: BTreeSet<RegionId>,
}

impl StoreCore {
    /// A store with the peers that its engine knows.
    pub(crate) fn load(shared: Arc<StoreShared>, config: PeerConfig, sync: bool) -> Result<StoreCore, EngineError> {
        let (peers, dirty) = (BTreeMap::new(), BTreeSet::new());
        let (early, arriving, doomed) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let tombstones = read_tombstones(&*shared.engine)?;
        let merging = BTreeSet::new();
        let mut core = StoreCore { shared, config, sync, peers, dirty, early, arriving, tombstones, doomed, merging };
        // Before anyone hears of the regions that took others over.
        for (id, merged) in read_merged(&*core.shared.engine)? {
            core.shared.pd.report_merged(id, merged);
        }
        for meta in read_regions(&*core.shared.engine)? {
            core.add_peer(meta)?;
        }
        core.merging = core.peers.values().filter(|p| p.merging.is_some()).map(Peer::region_id).collect();
        core.publish(core.dirty.clone());
        Ok(core)
    }

    /// Takes a message in; what comes of it happens in the next poll.
    pub(crate) fn handle(&mut self, message: StoreMessage) {
        let region_id = match &message {
            StoreMessage::Raft(envelope) => envelope.region_id,
            StoreMessage::Propose(proposal) => proposal.region_id,
            StoreMessage::Read { region_id, .. } | StoreMessage::TransferLeader { region_id, .. } => *region_id,
            StoreMessage::Campaign(region_id) => *region_id,
        };
        let Some(peer) = self.peers.get_mut(&region_id) else { return self.handle_unknown(region_id, message) };
        self.dirty.insert(region_id);
        match message {
            StoreMessage::Raft(envelope) => self.step(envelope),
            StoreMessage::Propose(proposal) if matches!(proposal.action, Action::Merge { .. }) => {
                self.propose_merge(proposal);
            }
            StoreMessage::Propose(proposal) => peer.propose(proposal),
            StoreMessage::Read { reply, .. } => peer.read(reply),
            StoreMessage::TransferLeader { to, .. } => peer.transfer_leader(to),
            // Raft refuses it where it makes no sense, but for peers that are no members.
            StoreMessage::Campaign(_) if peer.node.raft.promotable() => drop(peer.node.campaign()),
            StoreMessage::Campaign(_) => {}
        }
    }

    fn step(&mut self, envelope: Envelope) {
        let region_id = envelope.region_id;
        if self.is_for_resident(&envelope)
            && self.has_room_for(&envelope)
            && let Some(peer) = self.peers.get_mut(&region_id)
        {
            peer.step(envelope);
            self.note_arrival(region_id);
        }
    }

    fn handle_unknown(&mut self, region_id: RegionId, message: StoreMessage) {
        match message {
            StoreMessage::Raft(envelope) => {
                if let Err(error) = self.meet(envelope) {
                    tracing::error!(region = region_id, store = self.shared.id, %error, "a peer cannot begin");
                }
            }
            StoreMessage::Propose(proposal) => (proposal.reply)(Err(RegionError::RegionNotFound(region_id))),
            StoreMessage::Read { reply, .. } => reply(Err(RegionError::RegionNotFound(region_id))),
            StoreMessage::TransferLeader { .. } | StoreMessage::Campaign(_) => {}
        }
    }

    /// Time passes.
    pub(crate) fn tick(&mut self) {
        let mut forgotten = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.tick() {
                self.dirty.insert(*id);
            }
            if peer.is_forgotten() {
                forgotten.push(*id);
            }
        }
        forgotten.into_iter().for_each(|id| self.ask_about(id));
    }

    /// Does what there is to do, once; messages for other stores go to `out`. True if there may be more.
    pub(crate) fn poll(&mut self, out: &mut Vec<Envelope>) -> Result<bool, EngineError> {
        if self.dirty.is_empty() && self.doomed.is_empty() {
            return Ok(false);
        }
        let observers = self.shared.observers.read().clone();
        self.bury_doomed(&observers)?;
        let turn = std::mem::take(&mut self.dirty);
        let committed = self.persist(&turn, &observers, out)?;
        let children = self.apply_all(committed, &observers)?;
        for id in &turn {
            if let Some(peer) = self.peers.get_mut(id) {
                self.shared.announce_leader(peer, &observers);
            }
        }
        self.publish(turn.iter().copied().chain(children));
        self.drive_merges();
        for id in turn {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.answer_reads();
                if peer.node.has_ready() {
                    self.dirty.insert(id);
                }
            }
        }
        Ok(!self.dirty.is_empty())
    }

    /// Applies committed entries, tells observers, answers proposers; returns the regions that splits made.
    fn apply_all(
        &mut self,
        committed: Vec<(RegionId, Vec<Entry>)>,
        observers: &[Arc<dyn RaftObserver>],
    ) -> Result<Vec<RegionId>, EngineError> {
        if committed.is_empty() {
            return Ok(Vec::new());
        }
        let mut batch = WriteBatch::default();
        let mut all = Vec::new();
        for (id, entries) in committed {
            self.apply_entries(id, entries, &mut batch, &mut all)?;
        }
        self.shared.engine.write(&batch, self.sync)?;
        self.shared.applied_bytes.fetch_add(batch.bytes() as u64, Ordering::Relaxed);
        let mut born = Vec::new();
        for effects in &all {
            self.conclude(effects, observers, &mut born)?;
        }
        // Who is answered may look at once: the views are to be those after the entries.
        self.publish(all.iter().map(|e| e.region_id).chain(born.iter().copied()));
        for effects in all {
            effects.replies.into_iter().for_each(|(reply, outcome)| reply(outcome));
            if let Some(mut peer) = effects.absorbed {
                self.end_absorbed(effects.region_id, &mut peer);
            }
            if let Some(peer) = effects.buried {
                peer.dismiss();
                self.try_early_again();
            }
        }
        Ok(born)
    }

    /// The effects of entries are in the engine: observers hear of them, and the peers go on from there.
    fn conclude(
        &mut self,
        effects: &Effects,
        observers: &[Arc<dyn RaftObserver>],
        born: &mut Vec<RegionId>,
    ) -> Result<(), EngineError> {
        self.shared.applied_entries.fetch_add(effects.entries, Ordering::Relaxed);
        effects.tell(observers);
        effects.files.iter().try_for_each(|file| self.shared.engine.remove_file(file))?;
        if let Some(peer) = self.peers.get_mut(&effects.region_id) {
            effects.changes().for_each(|change| peer.change_members(change));
            peer.node.advance_apply_to(peer.applied);
            peer.node.mut_store().shrink(peer.applied);
        }
        self.make_children(effects, born)?;
        self.note_merges(effects);
        Ok(())
    }

    pub(super) fn publish(&self, changed: impl IntoIterator<Item = RegionId>) {
        let mut views = self.shared.peers.write();
        for id in changed {
            match self.peers.get(&id).filter(|peer| peer.is_born()) {
                Some(peer) => views.insert(id, peer.view()),
                None => views.remove(&id),
            };
        }
    }
}
