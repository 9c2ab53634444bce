//! One peer: a `RawNode` with its log, and what waits for it.

mod config;
mod proposals;
mod reads;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use logtide_model::{KeyRange, Region, RegionEpoch, RegionId, StoreId, Term};
use raft::eraftpb::{MessageType, Snapshot};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole};

pub(crate) use config::{PeerConfig, RaftTiming};
use proposals::Pending;
use reads::Reads;

use super::command::PeerChange;
use super::log::RaftLog;
use super::merge::Merging;
use super::message::{Done, Reply};
use super::records::{EntryId, RegionMeta, put_merge_state, put_replayable, read_merge_state, read_replayable};
use super::shared::PeerView;
use super::snapshot;
use crate::engine::{EngineError, KvEngine, WriteBatch};
use crate::rpc::RegionError;
use crate::transport::Envelope;

/// Election timeouts without a leader after which a peer asks whether it is still a member.
const FORGOTTEN_ELECTIONS: usize = 3;

/// See the module.
pub(crate) struct Peer {
    pub(crate) meta: RegionMeta,
    store_id: StoreId,
    /// Where peers are that the region, as it is known here, does not have.
    strangers: BTreeMap<u64, StoreId>,
    /// Peers that were sent a snapshot, with the ticks since then.
    snapshots: BTreeMap<u64, usize>,
    /// Ticks since a leader spoke to it.
    silence: usize,
    pub(crate) node: RawNode<RaftLog>,
    /// The last applied index; what is applied is observed before anyone else gets to see the peer.
    pub(crate) applied: u64,
    /// The term in which observers were told that this peer leads.
    pub(crate) announced: Option<Term>,
    pub(crate) max_ts_synced: bool,
    /// The merge that the region has prepared, to be taken over.
    pub(crate) merging: Option<Merging>,
    /// The last entry that may have changed its range.
    pub(crate) shaped_at: u64,
    settings: PeerConfig,
    /// The index behind which this leader last proposed to truncate the log, and its term.
    truncating: (u64, Term),
    pending: VecDeque<Pending>,
    reads: Reads,
}

impl Peer {
    /// A peer from what the engine has of it.
    pub(crate) fn load(
        meta: RegionMeta,
        store_id: StoreId,
        settings: &PeerConfig,
        engine: &Arc<dyn KvEngine>,
    ) -> Result<Peer, EngineError> {
        let region_id = meta.region.id;
        let failed = |cause: String| EngineError { path: format!("raft group {region_id} on store {store_id}"), cause };
        let id = meta.peer_on(store_id).ok_or_else(|| failed("it has no peer here".to_owned()))?;
        let (log, applied) = RaftLog::load(region_id, meta.voters(), engine.clone())?;
        let mut peer = Peer::with_log(meta, store_id, id, settings, log, applied).map_err(|e| failed(e.to_string()))?;
        let view = engine.snapshot();
        peer.merging = read_merge_state(&*view, region_id)?.map(Merging::new);
        peer.shaped_at = read_replayable(&*view, region_id)?;
        Ok(peer)
    }

    /// A peer that others speak to, and that knows of its region only the id: it votes, and waits for a snapshot.
    pub(crate) fn unborn(
        region_id: RegionId,
        epoch: RegionEpoch,
        id: u64,
        store_id: StoreId,
        settings: &PeerConfig,
        engine: &Arc<dyn KvEngine>,
    ) -> Result<Peer, EngineError> {
        let range = KeyRange::new(&b"\0"[..], &b"\0"[..]);
        let meta =
            RegionMeta { region: Region { id: region_id, epoch, range }, peers: Vec::new(), range_deleted: None };
        let log = RaftLog::unborn(region_id, engine.clone())?;
        let failed = |e: raft::Error| EngineError {
            path: format!("raft group {region_id} on store {store_id}"),
            cause: format!("peer {id} cannot begin: {e}"),
        };
        Peer::with_log(meta, store_id, id, settings, log, 0).map_err(failed)
    }

    fn with_log(
        meta: RegionMeta,
        store_id: StoreId,
        id: u64,
        settings: &PeerConfig,
        log: RaftLog,
        applied: u64,
    ) -> raft::Result<Peer> {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config::config(id, applied, &settings.timing), log, &logger)?;
        Ok(Peer {
            meta,
            store_id,
            strangers: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            silence: 0,
            node,
            applied,
            announced: None,
            max_ts_synced: false,
            merging: None,
            shaped_at: 0,
            settings: *settings,
            truncating: (0, 0),
            pending: VecDeque::new(),
            reads: Reads::default(),
        })
    }

    /// Its id, which no other peer ever had.
    pub(crate) fn id(&self) -> u64 {
        self.node.raft.id
    }

    /// False as long as it does not know its region.
    pub(crate) fn is_born(&self) -> bool {
        !self.meta.peers.is_empty()
    }

    pub(crate) fn region_id(&self) -> RegionId {
        self.meta.region.id
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub(crate) fn term(&self) -> Term {
        self.node.raft.term
    }

    fn leader_store(&self) -> Option<StoreId> {
        self.store_of(self.node.raft.leader_id)
    }

    fn store_of(&self, peer_id: u64) -> Option<StoreId> {
        self.meta.store_of(peer_id).or_else(|| self.strangers.get(&peer_id).copied())
    }

    pub(crate) fn not_leader(&self) -> RegionError {
        let leader = self.leader_store().filter(|s| *s != self.store_id);
        RegionError::NotLeader { region_id: self.region_id(), leader }
    }

    /// The answer as long as a merge is prepared.
    fn is_merging(&self) -> RegionError {
        RegionError::Busy(format!(
            "region {} is about to be merged: it can not read index due to merge",
            self.region_id()
        ))
    }

    /// A raft message arrived. What raft has no use for is dropped, as the network might have done.
    pub(crate) fn step(&mut self, envelope: Envelope) {
        if self.meta.store_of(envelope.message.from).is_none() {
            self.strangers.insert(envelope.message.from, envelope.from);
        }
        if matches!(
            envelope.message.get_msg_type(),
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
        ) {
            self.silence = 0;
        }
        if let Err(error) = self.node.step(*envelope.message) {
            tracing::trace!(region = self.meta.region.id, store = self.store_id, %error, "raft message refused");
        }
    }

    /// Time passes; true if there may be something to do.
    pub(crate) fn tick(&mut self) -> bool {
        let ready = self.node.tick();
        self.silence = if self.is_leader() { 0 } else { self.silence + 1 };
        self.give_snapshots_up();
        self.truncate_long_log() || ready
    }

    /// True, now and then, if no leader has spoken to it for long.
    pub(crate) fn is_forgotten(&mut self) -> bool {
        let forgotten = self.silence >= FORGOTTEN_ELECTIONS * self.settings.timing.election;
        if forgotten {
            self.silence = 0;
        }
        forgotten
    }

    /// A change of members is applied: raft counts its quorums anew.
    pub(crate) fn change_members(&mut self, change: PeerChange) {
        if let Err(error) = self.node.apply_conf_change(&change.for_raft()) {
            tracing::error!(region = self.meta.region.id, store = self.store_id, %error, "raft refused new members");
        }
    }

    /// It is over: answers all who wait for it. What was proposed may be applied by others.
    pub(crate) fn dismiss(mut self) {
        let gone = RegionError::RegionNotFound(self.region_id());
        self.reads.fail_all(&gone);
        for pending in self.pending {
            (pending.reply)(Err(RegionError::Undetermined(format!("{gone}, any more"))));
        }
    }

    /// A snapshot that is not acknowledged for so long is lost, or was refused: raft is to send another one.
    fn give_snapshots_up(&mut self) {
        for (peer, mut ticks) in std::mem::take(&mut self.snapshots) {
            let progress = self.node.raft.prs().get(peer);
            if !self.is_leader() || progress.is_none_or(|p| p.state != ProgressState::Snapshot) {
                continue;
            }
            ticks += 1;
            if ticks < self.settings.timing.election {
                self.snapshots.insert(peer, ticks);
            } else {
                self.node.report_snapshot(peer, SnapshotStatus::Failure);
            }
        }
    }

    /// Takes the place of what was here of the region, with the batch; returns the region before, if it was known, and
    /// who proposed what the snapshot may hold or not.
    pub(crate) fn restore(
        &mut self,
        snapshot: &Snapshot,
        batch: &mut WriteBatch,
    ) -> Result<(Option<Region>, Vec<Reply<Done>>), EngineError> {
        let meta = snapshot::put(snapshot, &self.meta.region.range, batch)?;
        let last = snapshot.get_metadata();
        let last = EntryId { index: last.index, term: last.term };
        self.node.mut_store().reset(last);
        self.applied = last.index;
        let before = self.is_born().then(|| self.meta.region.clone());
        self.meta = meta;
        // A region that has prepared a merge sends no snapshots.
        self.merging = None;
        put_merge_state(batch, self.region_id(), None);
        put_replayable(batch, self.region_id(), last.index);
        self.shaped_at = last.index;
        self.strangers.retain(|peer, _| self.meta.store_of(*peer).is_none());
        Ok((before, self.pending.drain(..).map(|p| p.reply).collect()))
    }

    /// Ends all that waits for it: the region is gone.
    pub(crate) fn end(&mut self, proposals: &RegionError, merged: Result<Done, RegionError>) {
        self.reads.fail_all(&RegionError::RegionNotFound(self.region_id()));
        self.pending.drain(..).for_each(|p| (p.reply)(Err(proposals.clone())));
        if let Some(reply) = self.merging.take().and_then(|m| m.reply) {
            reply(merged);
        }
    }

    pub(crate) fn transfer_leader(&mut self, to: StoreId) {
        if let Some(peer) = self.meta.peer_on(to) {
            self.node.transfer_leader(peer);
        }
    }

    /// Addresses messages of raft.
    pub(crate) fn send(&mut self, messages: Vec<raft::eraftpb::Message>, out: &mut Vec<Envelope>) {
        for message in messages {
            // A heartbeat to oneself does not occur; a peer that is not in the region any more is not there to hear.
            let Some(to) = self.store_of(message.to) else { continue };
            if message.msg_type == MessageType::MsgSnapshot as i32 {
                self.snapshots.insert(message.to, 0);
            }
            let (region_id, message) = (self.region_id(), Box::new(message));
            let region = self.is_born().then(|| self.meta.region.clone());
            out.push(Envelope { from: self.store_id, to, region_id, region, message });
        }
    }

    pub(crate) fn view(&self) -> PeerView {
        PeerView {
            region: self.meta.region.clone(),
            term: self.term(),
            leading: self.is_leader() && self.announced == Some(self.term()),
            max_ts_synced: self.max_ts_synced,
            leader: self.leader_store(),
            stores: self.meta.peers.iter().map(|p| p.store_id).collect(),
            log: (self.node.store().truncated().index + 1, self.node.raft.raft_log.last_index()),
        }
    }
}
