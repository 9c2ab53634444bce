//! Merged regions on a store that missed the merge: a snapshot of what came after takes their place.

use std::sync::Arc;

use logtide_model::{RaftObserver, Region, RegionChange, RegionId, Role};

use crate::engine::WriteBatch;
use crate::raftstore::core::StoreCore;
use crate::raftstore::peer::Peer;
use crate::raftstore::records::erase_merged;
use crate::raftstore::snapshot::{delete_data, region_of};
use crate::rpc::RegionError;

impl StoreCore {
    /// True if a peer is of a merged region, and a snapshot of `region` may take its place: it knows its last range, so
    /// that what overlaps it is from after the merge, and its target here needs it no more.
    pub(in crate::raftstore) fn gives_way(&self, peer: &Peer, region: &Region) -> bool {
        let Some(merged) = self.shared.pd.merged(peer.region_id()) else { return false };
        let is_target = region.id == merged.target && region.epoch.version >= merged.after;
        let target = self.peers.get(&merged.target).filter(|target| target.is_born());
        peer.meta.region.epoch.version + 1 >= merged.version
            && (is_target || target.is_none_or(|target| target.meta.region.epoch.version >= merged.after))
    }

    /// Removes merged regions that a snapshot, which is about to be put into the engine, takes the place of.
    pub(in crate::raftstore) fn clear_the_way(&mut self, id: RegionId, batch: &mut WriteBatch, swept: &mut Vec<Peer>) {
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
    pub(in crate::raftstore) fn end_swept(&mut self, swept: Vec<Peer>, observers: &[Arc<dyn RaftObserver>]) {
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
