//! How peers come to a store: from its engine, by a split, by the first message for them, by a snapshot.
//!
//! Two peers of a store never own one key. So a snapshot waits until everybody here who stands in its way has caught up
//! (or is gone), and a peer that a split is about to make is not made by messages before.

use std::sync::atomic::Ordering;

use logtide_model::{Region, RegionChange, RegionId};
use raft::eraftpb::MessageType;

use super::apply::{Effects, Event};
use super::core::StoreCore;
use super::message::{Done, Reply, StoreMessage};
use super::peer::Peer;
use super::records::{Merged, RegionMeta, begin_region, read_hard_state};
use super::snapshot::{delete_data, region_of};
use crate::engine::{EngineError, WriteBatch};
use crate::rpc::RegionError;
use crate::transport::Envelope;

/// Messages kept for a region that this store is yet to create by a split.
const EARLY_MESSAGES: usize = 64;

/// A region that a snapshot took the place of.
pub(super) struct Restored {
    pub(super) region_id: RegionId,
    /// As it was here, if it was.
    pub(super) before: Option<Region>,
    /// Who proposed what the snapshot may hold or not.
    pub(super) lost: Vec<Reply<Done>>,
}

impl StoreCore {
    /// A peer whose region is in the engine.
    pub(super) fn add_peer(&mut self, meta: RegionMeta) -> Result<(), EngineError> {
        self.report(&meta);
        let peer = Peer::load(meta, self.shared.id, &self.config, &self.shared.engine)?;
        self.take_in(peer);
        Ok(())
    }

    pub(super) fn report(&self, meta: &RegionMeta) {
        self.shared.pd.report_region(meta, self.shared.id);
    }

    fn take_in(&mut self, peer: Peer) {
        let id = peer.region_id();
        self.peers.insert(id, peer);
        self.dirty.insert(id);
        for envelope in self.early.remove(&id).unwrap_or_default() {
            self.handle(StoreMessage::Raft(envelope));
        }
    }

    /// A message for a peer that is not here: the beginning of its life, unless a split is to make it.
    pub(super) fn meet(&mut self, envelope: Envelope) -> Result<(), EngineError> {
        let Some(region) = envelope.region.clone().filter(|_| self.begins_life(&envelope)) else { return Ok(()) };
        if self.shared.pd.merged(region.id).is_some() {
            return Ok(());
        }
        let behind = |peer: &&Peer| {
            let here = &peer.meta.region;
            here.epoch.version < region.epoch.version
                && here.range.overlaps(&region.range)
                && !self.gives_way(peer, &region)
        };
        if self.peers.values().any(|peer| behind(&peer)) {
            self.keep_early(envelope);
            return Ok(());
        }
        let (id, engine) = (envelope.message.to, &self.shared.engine);
        let peer = Peer::unborn(region.id, region.epoch, id, self.shared.id, &self.config, engine)?;
        self.take_in(peer);
        self.handle(StoreMessage::Raft(envelope));
        Ok(())
    }

    /// Keeps a message until something that is in its way is gone, if there are not too many already.
    pub(super) fn keep_early(&mut self, envelope: Envelope) {
        let early = self.early.entry(envelope.region_id).or_default();
        if early.len() < EARLY_MESSAGES {
            early.push(envelope);
        }
    }

    /// True if a message is no snapshot, or one of a range that nobody else here owns. What is refused comes again.
    pub(super) fn has_room_for(&mut self, envelope: &Envelope) -> bool {
        if envelope.message.msg_type != MessageType::MsgSnapshot as i32 {
            return true;
        }
        let Some(region) = region_of(envelope.message.get_snapshot()).map(|meta| meta.region) else { return false };
        let pd = &self.shared.pd;
        // From before a merge whose source is not here any more: nobody could bring it over that.
        let too_old =
            |(id, merged): &(RegionId, Merged)| merged.after > region.epoch.version && !self.peers.contains_key(id);
        if pd.merged(region.id).is_some() || pd.merged_into(region.id).iter().any(too_old) {
            return false;
        }
        let others = self.peers.values().filter(|peer| !self.gives_way(peer, &region)).map(|peer| &peer.meta.region);
        let mut owned = others.map(|r| (&r.id, &r.range)).chain(&self.arriving);
        let in_the_way = owned.find(|(id, range)| **id != region.id && range.overlaps(&region.range));
        if let Some((id, _)) = in_the_way {
            tracing::debug!(region = region.id, store = self.shared.id, in_the_way = id, "a snapshot has to wait");
        }
        in_the_way.is_none()
    }

    /// Remembers the range of a snapshot that raft took in, until it is in the engine.
    pub(super) fn note_arrival(&mut self, region_id: RegionId) {
        let Some(snapshot) = self.peers.get(&region_id).and_then(|peer| peer.node.snap()) else { return };
        if let Some(meta) = region_of(snapshot) {
            self.arriving.insert(region_id, meta.region.range);
        }
    }

    /// A snapshot is in the engine. Observers learn of a shape that they have not seen; entries they do not see.
    pub(super) fn settle_in(&mut self, restored: Restored) {
        let Some(peer) = self.peers.get_mut(&restored.region_id) else { return };
        peer.node.advance_apply_to(peer.applied);
        let region = peer.meta.region.clone();
        let meta = peer.meta.clone();
        self.arriving.remove(&region.id);
        self.shared.snapshots.fetch_add(1, Ordering::Relaxed);
        self.report(&meta);
        self.publish([region.id]);
        if restored.before.as_ref().is_none_or(|before| before.epoch != region.epoch) {
            let change = RegionChange::EpochChange { region };
            self.shared.observers.read().iter().for_each(|o| o.on_region_changed(&change));
        }
        for reply in restored.lost {
            reply(Err(RegionError::Undetermined("a snapshot took the place of the entry".to_owned())));
        }
        self.try_early_again();
    }

    /// Something that was in the way of messages may be there no more.
    pub(super) fn try_early_again(&mut self) {
        for envelope in std::mem::take(&mut self.early).into_values().flatten() {
            self.handle(StoreMessage::Raft(envelope));
        }
    }

    /// Puts the regions that a split makes into the batch of the split. One whose peer here is gone already, or is to come
    /// by a snapshot, is left out, and its data is removed.
    pub(super) fn prepare_children(&self, effects: &mut Effects, batch: &mut WriteBatch) -> Result<(), EngineError> {
        for event in &mut effects.events {
            let Event::Split { children, gone, .. } = event else { continue };
            let (born, late): (Vec<_>, Vec<_>) = children.drain(..).partition(|child| self.is_expected(child));
            for child in &born {
                let before = read_hard_state(&*self.shared.engine, child.region.id)?.unwrap_or_default();
                begin_region(batch, child, &before);
            }
            let ownerless = |child: &&RegionMeta| !self.peers.get(&child.region.id).is_some_and(Peer::is_born);
            late.iter().filter(ownerless).for_each(|child| delete_data(batch, &child.region.range));
            (*children, *gone) = (born, late);
        }
        Ok(())
    }

    fn is_expected(&self, child: &RegionMeta) -> bool {
        let Some(id) = child.peer_on(self.shared.id) else { return false };
        if self.tombstones.get(&child.region.id).is_some_and(|gone| id <= *gone) {
            return false;
        }
        self.peers.get(&child.region.id).is_none_or(|peer| !peer.is_born() && peer.id() <= id)
    }

    /// The regions that splits made are in the engine: their peers begin.
    pub(super) fn make_children(&mut self, effects: &Effects, born: &mut Vec<RegionId>) -> Result<(), EngineError> {
        for event in &effects.events {
            let Event::Split { parent, children, .. } = event else { continue };
            for child in children {
                self.add_peer(child.clone())?;
                born.push(child.region.id);
            }
            self.report(parent);
            let leads = self.peers.get(&effects.region_id).is_some_and(Peer::is_leader);
            for child in children.iter().filter(|_| leads) {
                self.handle(StoreMessage::Campaign(child.region.id));
            }
        }
        Ok(())
    }

    /// True if a peer that is not there may begin with this message: answers come only to those who asked.
    fn begins_life(&self, envelope: &Envelope) -> bool {
        let asks = matches!(
            envelope.message.get_msg_type(),
            MessageType::MsgRequestVote
                | MessageType::MsgRequestPreVote
                | MessageType::MsgHeartbeat
                | MessageType::MsgAppend
                | MessageType::MsgSnapshot
        );
        asks && !self.is_for_dead(envelope)
    }
}
