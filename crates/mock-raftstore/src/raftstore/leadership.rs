//! The beginning and the end of a peer's leadership, as observers and the placement driver are told of it.

use std::sync::Arc;

use logtide_model::{RaftObserver, Role};

use super::peer::Peer;
use super::shared::StoreShared;

impl StoreShared {
    /// Tells observers, if a peer that was leader is leader no more (or only in a later term).
    pub(super) fn renounce(&self, peer: &mut Peer, observers: &[Arc<dyn RaftObserver>]) {
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
    pub(super) fn announce_leader(&self, peer: &mut Peer, observers: &[Arc<dyn RaftObserver>]) {
        if !peer.is_leader() || peer.announced.is_some() || !peer.node.raft.apply_to_current_term() {
            return;
        }
        peer.announced = Some(peer.term());
        self.sync_max_ts(peer);
        self.pd.report_leader(&peer.meta, peer.term(), self.id);
        observers.iter().for_each(|o| o.on_leadership(&peer.meta.region, peer.term(), Role::Leader));
    }
}
