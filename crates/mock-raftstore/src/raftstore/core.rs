//! The loop of a store, one turn at a time: messages in, then one [`StoreCore::poll`] for all regions that have
//! something to do, so that raft logs and applied data of many regions share their engine writes.
//!
//! The order in a turn keeps contract H1: leadership lost is told first; then entries are made durable, committed ones
//! applied, observers told, and only then proposers and readers answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use logtide_model::{KeyRange, RaftObserver, RegionId, Role};
use raft::Ready;
use raft::eraftpb::Entry;

use super::births::Restored;
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

    /// Makes durable what raft wants to have durable; returns the committed entries, by region.
    fn persist(
        &mut self,
        turn: &BTreeSet<RegionId>,
        observers: &[Arc<dyn RaftObserver>],
        out: &mut Vec<Envelope>,
    ) -> Result<Vec<(RegionId, Vec<Entry>)>, EngineError> {
        let mut batch = WriteBatch::default();
        let mut readies: Vec<(RegionId, Ready)> = Vec::new();
        let mut restored: Vec<Restored> = Vec::new();
        let mut swept = Vec::new();
        for id in turn {
            self.clear_the_way(*id, &mut batch, &mut swept);
            let Some(peer) = self.peers.get_mut(id) else { continue };
            self.shared.renounce(peer, observers);
            peer.begin_reads();
            if peer.node.has_ready() {
                readies.push((*id, take_ready(peer, &mut batch, &mut restored, out)?));
            }
        }
        if !batch.is_empty() {
            self.shared.engine.write(&batch, self.sync)?;
        }
        let mut committed = Vec::new();
        let mut commits = WriteBatch::default();
        for (id, ready) in readies {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            let entries = advance(peer, ready, &mut commits, out);
            if !entries.is_empty() {
                committed.push((id, entries));
            }
        }
        if !commits.is_empty() {
            self.shared.engine.write(&commits, false)?;
        }
        self.end_swept(swept, observers);
        restored.into_iter().for_each(|restored| self.settle_in(restored));
        Ok(committed)
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
            self.shared.applied_entries.fetch_add(effects.entries, Ordering::Relaxed);
            effects.tell(observers);
            effects.files.iter().try_for_each(|file| self.shared.engine.remove_file(file))?;
            if let Some(peer) = self.peers.get_mut(&effects.region_id) {
                effects.changes().for_each(|change| peer.change_members(change));
                peer.node.advance_apply_to(peer.applied);
                peer.node.mut_store().shrink(peer.applied);
            }
            self.make_children(effects, &mut born)?;
            self.note_merges(effects);
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

impl StoreShared {
    /// Tells observers, if a peer that was leader is leader no more (or only in a later term).
    fn renounce(&self, peer: &mut Peer, observers: &[Arc<dyn RaftObserver>]) {
        let still = peer.is_leader() && peer.announced.is_none_or(|term| term == peer.term());
        if still {
            return;
        }
        if peer.announced.take().is_some() {
            peer.max_ts_synced = false;
            peer.fail_reads();
            observers.iter().for_each(|o| o.on_leadership(&peer.meta.region, peer.term(), Role::Follower));
        }
        peer.fail_reads_unless_leader();
        if !peer.is_leader() {
            peer.refuse_overwritten();
        }
    }

    /// Takes in that other stores may have served reads of the region up to now.
    pub(super) fn sync_max_ts(&self, peer: &mut Peer) {
        peer.max_ts_synced = false;
        if let Ok(ts) = self.pd.tso() {
            self.concurrency.bump_max_ts(ts);
            peer.max_ts_synced = true;
        }
    }

    /// Tells observers, if a peer is leader and has applied an entry of its own term.
    fn announce_leader(&self, peer: &mut Peer, observers: &[Arc<dyn RaftObserver>]) {
        if !peer.is_leader() || peer.announced.is_some() || !peer.node.raft.apply_to_current_term() {
            return;
        }
        peer.announced = Some(peer.term());
        self.sync_max_ts(peer);
        self.pd.report_leader(&peer.meta, peer.term(), self.id);
        observers.iter().for_each(|o| o.on_leadership(&peer.meta.region, peer.term(), Role::Leader));
    }
}

/// Takes what raft has ready; its entries and hard state go into the batch and the ready keeps the rest.
fn take_ready(
    peer: &mut Peer,
    batch: &mut WriteBatch,
    restored: &mut Vec<Restored>,
    out: &mut Vec<Envelope>,
) -> Result<Ready, EngineError> {
    let mut ready = peer.node.ready();
    peer.send(ready.take_messages(), out);
    for state in ready.take_read_states() {
        peer.confirm_read(&state.request_ctx, state.index);
    }
    if !ready.snapshot().is_empty() {
        let (before, lost) = peer.restore(ready.snapshot(), batch)?;
        restored.push(Restored { region_id: peer.region_id(), before, lost });
    }
    peer.node.mut_store().append(ready.take_entries(), batch);
    if let Some(hard) = ready.hs() {
        peer.node.mut_store().set_hard_state(hard.clone(), batch);
    }
    Ok(ready)
}

/// What a ready gave is durable: sends what waited for that, and returns all committed entries.
fn advance(peer: &mut Peer, mut ready: Ready, batch: &mut WriteBatch, out: &mut Vec<Envelope>) -> Vec<Entry> {
    peer.send(ready.take_persisted_messages(), out);
    let mut entries = ready.take_committed_entries();
    let mut light = peer.node.advance_append(ready);
    if let Some(commit) = light.commit_index() {
        peer.node.mut_store().set_commit(commit, batch);
    }
    peer.send(light.take_messages(), out);
    entries.extend(light.take_committed_entries());
    entries
}
