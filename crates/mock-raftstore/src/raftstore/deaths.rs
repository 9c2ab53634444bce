//! How peers leave a store: removed by an entry that they apply, by a message for their successor, or by what the
//! placement driver knows when nobody speaks to them any more.
//!
//! Nothing of them stays but the id, so that a late message does not call them back.

use std::sync::Arc;

use logtide_model::{RaftObserver, RegionChange, RegionId, Role};

use super::core::StoreCore;
use super::peer::Peer;
use super::records::{forget_region, put_tombstone};
use super::snapshot::delete_data;
use crate::engine::{EngineError, WriteBatch};
use crate::transport::Envelope;

impl StoreCore {
    /// True if a message is for the peer that is here; one for its successor says that its time is over.
    pub(super) fn is_for_resident(&mut self, envelope: &Envelope) -> bool {
        let Some(id) = self.peers.get(&envelope.region_id).map(Peer::id) else { return false };
        if envelope.message.to > id {
            self.doomed.insert(envelope.region_id);
            self.keep_early(envelope.clone());
        }
        envelope.message.to == id
    }

    /// True if a message is for a peer that was here and is gone.
    pub(super) fn is_for_dead(&self, envelope: &Envelope) -> bool {
        self.tombstones.get(&envelope.region_id).is_some_and(|id| envelope.message.to <= *id)
    }

    /// Nobody has spoken to a peer for long: is it still a member?
    pub(super) fn ask_about(&mut self, region_id: RegionId) {
        let Some(peer) = self.peers.get(&region_id) else { return };
        if self.shared.pd.has_removed(&peer.meta.region, peer.id()) {
            self.doomed.insert(region_id);
        }
    }

    /// Takes a peer out, and all that the engine has of it with the batch.
    pub(super) fn bury(&mut self, region_id: RegionId, batch: &mut WriteBatch) -> Option<Peer> {
        let peer = self.peers.remove(&region_id)?;
        delete_data(batch, &peer.meta.region.range);
        forget_region(batch, region_id);
        put_tombstone(batch, region_id, peer.id());
        self.tombstones.insert(region_id, peer.id());
        self.arriving.remove(&region_id);
        Some(peer)
    }

    /// Ends the peers whose time is over.
    pub(super) fn bury_doomed(&mut self, observers: &[Arc<dyn RaftObserver>]) -> Result<(), EngineError> {
        if self.doomed.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        let doomed = std::mem::take(&mut self.doomed);
        let gone: Vec<Peer> = doomed.iter().filter_map(|id| self.bury(*id, &mut batch)).collect();
        self.shared.engine.write(&batch, self.sync)?;
        self.publish(doomed);
        for peer in gone {
            let region = peer.meta.region.clone();
            if peer.announced.is_some() {
                observers.iter().for_each(|o| o.on_leadership(&region, peer.term(), Role::Follower));
            }
            if peer.is_born() {
                observers.iter().for_each(|o| o.on_region_changed(&RegionChange::Destroy { region: region.clone() }));
            }
            peer.dismiss();
        }
        self.try_early_again();
        Ok(())
    }
}
