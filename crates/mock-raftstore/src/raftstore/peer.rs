//! One peer: a `RawNode` with its log, and what waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use logtide_model::{KeyRange, Op, Region, RegionEpoch, RegionId, StoreId, Term};
use prost::Message as _;
use raft::eraftpb::{MessageType, Snapshot};
use raft::{Config, ProgressState, RawNode, SnapshotStatus, StateRole};

use super::command::{Command, PeerChange};
use super::log::RaftLog;
use super::merge::Merging;
use super::message::{Action, Done, Proposal, ReadReady, Reply};
use super::reads::Reads;
use super::records::{
    EntryId, PeerMeta, RegionMeta, put_merge_state, put_replayable, read_merge_state, read_replayable,
};
use super::shared::PeerView;
use super::snapshot;
use crate::engine::{EngineError, KvEngine, WriteBatch};
use crate::rpc::RegionError;
use crate::transport::Envelope;

/// Largest raft message in bytes of entries, and the most that is applied in one go.
const MAX_BATCH: u64 = 8 << 20;

/// Election timeouts without a leader after which a peer asks whether it is still a member.
const FORGOTTEN_ELECTIONS: usize = 3;

/// Times of raft in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RaftTiming {
    /// Ticks between heartbeats.
    pub(crate) heartbeat: usize,
    /// Ticks without a heartbeat after which a follower may campaign, at the least.
    pub(crate) election: usize,
    /// `Some(n)`: campaign after exactly `election + n` ticks, so that nothing is drawn at random.
    pub(crate) fixed: Option<usize>,
}

/// How peers live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerConfig {
    /// When raft does what by itself.
    pub(crate) timing: RaftTiming,
    /// Applied entries that stay in the log; a log with twice as many is truncated.
    pub(crate) log_keep: u64,
}

/// A proposal in the log.
struct Pending {
    index: u64,
    term: Term,
    reply: Reply<Done>,
}

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
        let node = RawNode::new(&config(id, applied, &settings.timing), log, &logger)?;
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

    /// Puts a command into the log, if this is its leader and the command still fits.
    pub(crate) fn propose(&mut self, proposal: Proposal) {
        let Proposal { epoch, term, action, reply, .. } = proposal;
        if !self.is_leader() || term.is_some_and(|t| t != self.term()) {
            return reply(Err(self.not_leader()));
        }
        if self.merging.is_some() {
            return reply(Err(self.is_merging()));
        }
        // Files are where the members of the region were when they were put there; splits and changes name members.
        let bound = match &action {
            Action::Write(ops, _) => ops.iter().any(|op| matches!(op, Op::IngestSst { .. })),
            Action::Split(_) | Action::AddPeer(_) | Action::RemovePeer(_) | Action::Merge { .. } => true,
            Action::Truncate { .. } => false,
        };
        let now = self.meta.region.epoch;
        if epoch.version != now.version || bound && epoch != now {
            return reply(Err(RegionError::EpochNotMatch { current: vec![self.meta.region.clone()] }));
        }
        let command = match action {
            Action::Write(ops, range_deleted) => Command::write(&self.meta.region, ops, range_deleted),
            Action::Split(children) => Some(Command::split(&self.meta.region, children)),
            Action::AddPeer(_) | Action::RemovePeer(_) => match self.change(&action) {
                Ok(change) => Some(Command::change(&self.meta.region, change)),
                Err(why) => return reply(Err(RegionError::Busy(why))),
            },
            Action::Merge { known, .. } => match self.prepare_merge(known.as_ref()) {
                Ok(command) => Some(command),
                Err(refused) => return reply(Err(refused)),
            },
            Action::Truncate { keep } => match self.truncation(keep) {
                Some(to) => Some(Command::truncate(&self.meta.region, to)),
                None => return reply(Ok(Done { regions: vec![self.meta.region.clone()] })),
            },
        };
        let Some(command) = command else {
            return reply(Err(RegionError::Busy("an op of this kind cannot be proposed".to_owned())));
        };
        let proposed = match &command.change {
            Some(change) => self.node.propose_conf_change(command.encode_to_vec(), change.for_raft()),
            None => self.node.propose(command.context(), command.encode_to_vec()),
        };
        match proposed {
            Ok(()) => {
                let index = self.node.raft.raft_log.last_index();
                self.pending.push_back(Pending { index, term: self.term(), reply });
            }
            Err(error) => reply(Err(RegionError::Busy(format!("raft refused the proposal: {error}")))),
        }
    }

    /// The change of members that is asked for, or why it cannot be now.
    fn change(&self, action: &Action) -> Result<PeerChange, String> {
        let region_id = self.region_id();
        // Raft puts an empty entry in the place of a change that comes too early.
        if self.node.raft.has_pending_conf() {
            return Err(format!("region {region_id} has a change of members that is not applied yet"));
        }
        match *action {
            Action::AddPeer(peer) if self.meta.peer_on(peer.store_id).is_none() => {
                Ok(PeerChange { peer, remove: false })
            }
            Action::AddPeer(peer) => Err(format!("region {region_id} has a peer on store {} already", peer.store_id)),
            Action::RemovePeer(store_id) if store_id == self.store_id => {
                Err(format!("store {store_id} leads region {region_id}: transfer the leadership first"))
            }
            // Of two, the one that goes may be the only one that knows that it does, and the other cannot go on alone.
            Action::RemovePeer(_) if self.meta.peers.len() <= 2 => {
                Err(format!("region {region_id} has no more than two peers: add one first"))
            }
            Action::RemovePeer(store_id) => match self.meta.peer_on(store_id) {
                Some(id) => Ok(PeerChange { peer: PeerMeta { id, store_id }, remove: true }),
                None => Err(format!("region {region_id} has no peer on store {store_id}")),
            },
            _ => Err("this is no change of members".to_owned()),
        }
    }

    /// Where the log ends behind which `keep` applied entries are left; `None` if it is that short already.
    fn truncation(&self, keep: u64) -> Option<EntryId> {
        let index = self.applied.saturating_sub(keep);
        let long = index > self.node.store().truncated().index;
        let term = long.then(|| self.node.raft.raft_log.term(index).ok()).flatten()?;
        Some(EntryId { index, term })
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

    /// A leader proposes to truncate a log that has grown to twice what is to be kept.
    fn truncate_long_log(&mut self) -> bool {
        let (begin, term) = self.truncating;
        let begin = if term == self.term() { begin } else { 0 }.max(self.node.store().truncated().index);
        let long = self.applied.saturating_sub(begin) > self.settings.log_keep.saturating_mul(2);
        if !long || !self.is_leader() || self.merging.is_some() {
            return false;
        }
        let Some(to) = self.truncation(self.settings.log_keep) else { return false };
        let command = Command::truncate(&self.meta.region, to);
        if self.node.propose(Vec::new(), command.encode_to_vec()).is_err() {
            return false;
        }
        self.truncating = (to.index, self.term());
        true
    }

    /// Takes the reply of the proposal whose entry was just applied, if it was made here. Proposals whose entries were
    /// overwritten are refused on the way.
    pub(crate) fn take_reply(&mut self, index: u64, term: Term) -> (Vec<Reply<Done>>, Option<Reply<Done>>) {
        let mut lost = Vec::new();
        while self.pending.front().is_some_and(|p| p.index <= index) {
            let Some(pending) = self.pending.pop_front() else { break };
            if (pending.index, pending.term) == (index, term) {
                return (lost, Some(pending.reply));
            }
            lost.push(pending.reply);
        }
        (lost, None)
    }

    /// Refuses the proposals that are not in the log any more: another leader overwrote them.
    pub(crate) fn refuse_overwritten(&mut self) {
        if self.node.snap().is_some() {
            // What it takes the place of may have been committed: [`Peer::restore`] decides.
            return;
        }
        while let Some(last) = self.pending.back() {
            if self.node.raft.raft_log.term(last.index).is_ok_and(|term| term == last.term) {
                return;
            }
            let error = self.not_leader();
            if let Some(lost) = self.pending.pop_back() {
                (lost.reply)(Err(error));
            }
        }
    }

    /// The answer as long as a merge is prepared.
    fn is_merging(&self) -> RegionError {
        RegionError::Busy(format!(
            "region {} is about to be merged: it can not read index due to merge",
            self.region_id()
        ))
    }

    /// Ends all that waits for it: the region is gone.
    pub(crate) fn end(&mut self, proposals: &RegionError, merged: Result<Done, RegionError>) {
        self.reads.fail_all(&RegionError::RegionNotFound(self.region_id()));
        self.pending.drain(..).for_each(|p| (p.reply)(Err(proposals.clone())));
        if let Some(reply) = self.merging.take().and_then(|m| m.reply) {
            reply(merged);
        }
    }

    /// Asks for a read-index round.
    pub(crate) fn read(&mut self, reply: Reply<ReadReady>) {
        if self.merging.is_some() {
            reply(Err(self.is_merging()));
        } else if self.is_leader() {
            self.reads.ask(reply);
        } else {
            reply(Err(self.not_leader()));
        }
    }

    /// Begins a round for what was asked, as soon as raft would not drop it.
    pub(crate) fn begin_reads(&mut self) {
        if self.is_leader()
            && self.node.raft.commit_to_current_term()
            && let Some(context) = self.reads.begin_round()
        {
            self.node.read_index(context);
        }
    }

    pub(crate) fn confirm_read(&mut self, context: &[u8], index: u64) {
        self.reads.confirm(context, index);
    }

    /// Answers the reads that are confirmed and whose index is applied.
    pub(crate) fn answer_reads(&mut self) {
        if self.merging.is_some() {
            // Who takes the region over may have begun to write to its range.
            self.reads.fail_all(&self.is_merging());
        }
        if self.announced != Some(self.term()) {
            return;
        }
        for reply in self.reads.take_ready(self.applied) {
            let (region, term) = (self.meta.region.clone(), self.term());
            reply(Ok(ReadReady { region, term, told_index: self.applied }));
        }
    }

    /// Refuses all reads, if this peer leads no more.
    pub(crate) fn fail_reads_unless_leader(&mut self) {
        if !self.is_leader() && !self.reads.is_empty() {
            let error = self.not_leader();
            self.reads.fail_all(&error);
        }
    }

    /// As [`Peer::fail_reads_unless_leader`], when the term of the rounds is over.
    pub(crate) fn fail_reads(&mut self) {
        let error = self.not_leader();
        self.reads.fail_all(&error);
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

fn config(id: u64, applied: u64, timing: &RaftTiming) -> Config {
    let (min, max) = match timing.fixed {
        // Raft draws from [min, max): one apart leaves nothing to draw.
        Some(n) => (timing.election + n, timing.election + n + 1),
        None => (timing.election, 2 * timing.election),
    };
    Config {
        id,
        applied,
        election_tick: timing.election,
        heartbeat_tick: timing.heartbeat,
        min_election_tick: min,
        max_election_tick: max,
        max_size_per_msg: MAX_BATCH,
        max_committed_size_per_ready: MAX_BATCH,
        max_inflight_msgs: 256,
        check_quorum: true,
        pre_vote: true,
        // raft 0.7 adds entries to a queued append without looking where that begins, if it has none so far; the
        // follower then acknowledges indexes that do not exist.
        batch_append: false,
        ..Config::default()
    }
}
