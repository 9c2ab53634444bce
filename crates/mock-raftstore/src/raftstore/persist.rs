//! What raft has ready in a turn: made durable for all regions at once, then sent.

use std::collections::BTreeSet;
use std::sync::Arc;

use logtide_model::{RaftObserver, RegionId};
use raft::Ready;
use raft::eraftpb::Entry;

use super::births::Restored;
use super::core::StoreCore;
use super::peer::Peer;
use crate::engine::{EngineError, WriteBatch};
use crate::transport::Envelope;

impl StoreCore {
    /// Makes durable what raft wants to have durable; returns the committed entries, by region.
    pub(super) fn persist(
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
