//! What a peer proposes, and who waits for it until its entry is applied, or overwritten.

use logtide_model::{Op, RegionEpoch, Term};
use prost::Message as _;

use super::Peer;
use crate::raftstore::command::{Command, PeerChange};
use crate::raftstore::message::{Action, Done, Proposal, Reply};
use crate::raftstore::records::{EntryId, PeerMeta};
use crate::rpc::RegionError;

/// A proposal in the log.
pub(super) struct Pending {
    index: u64,
    term: Term,
    pub(super) reply: Reply<Done>,
}

impl Peer {
    /// Puts a command into the log, if this is its leader and the command still fits.
    pub(crate) fn propose(&mut self, proposal: Proposal) {
        let Proposal { epoch, term, action, reply, .. } = proposal;
        let command = match self.check(epoch, term, &action).and_then(|()| self.command_of(action)) {
            Ok(Some(command)) => command,
            Ok(None) => return reply(Ok(Done { regions: vec![self.meta.region.clone()] })),
            Err(refused) => return reply(Err(refused)),
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

    /// Whether this peer can take a proposal now that was made for `epoch` (and for a term, if it matters).
    fn check(&self, epoch: RegionEpoch, term: Option<Term>, action: &Action) -> Result<(), RegionError> {
        if !self.is_leader() || term.is_some_and(|t| t != self.term()) {
            return Err(self.not_leader());
        }
        if self.merging.is_some() {
            return Err(self.is_merging());
        }
        // Files are where the members of the region were when they were put there; splits and changes name members.
        let bound = match action {
            Action::Write(ops, _) => ops.iter().any(|op| matches!(op, Op::IngestSst { .. })),
            Action::Split(_) | Action::AddPeer(_) | Action::RemovePeer(_) | Action::Merge { .. } => true,
            Action::Truncate { .. } => false,
        };
        let now = self.meta.region.epoch;
        if epoch.version != now.version || bound && epoch != now {
            return Err(RegionError::EpochNotMatch { current: vec![self.meta.region.clone()] });
        }
        Ok(())
    }

    /// The command that does what is asked for; `None` if it is so already.
    fn command_of(&self, action: Action) -> Result<Option<Command>, RegionError> {
        let region = &self.meta.region;
        match action {
            Action::Write(ops, range_deleted) => match Command::write(region, ops, range_deleted) {
                Some(command) => Ok(Some(command)),
                None => Err(RegionError::Busy("an op of this kind cannot be proposed".to_owned())),
            },
            Action::Split(children) => Ok(Some(Command::split(region, children))),
            Action::AddPeer(_) | Action::RemovePeer(_) => match self.change(&action) {
                Ok(change) => Ok(Some(Command::change(region, change))),
                Err(why) => Err(RegionError::Busy(why)),
            },
            Action::Merge { known, .. } => self.prepare_merge(known.as_ref()).map(Some),
            Action::Truncate { keep } => Ok(self.truncation(keep).map(|to| Command::truncate(region, to))),
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

    /// A leader proposes to truncate a log that has grown to twice what is to be kept.
    pub(super) fn truncate_long_log(&mut self) -> bool {
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
}
