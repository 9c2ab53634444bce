//! Read-index requests of a peer on their way: asked, confirmed by a quorum, applied far enough; or refused.

use std::collections::BTreeMap;

use super::Peer;
use crate::raftstore::message::{ReadReady, Reply};
use crate::rpc::RegionError;

/// See the module.
#[derive(Default)]
pub(super) struct Reads {
    last_context: u64,
    /// Not yet in a round.
    asked: Vec<Reply<ReadReady>>,
    /// In a round, by its context.
    rounds: BTreeMap<u64, Vec<Reply<ReadReady>>>,
    /// Confirmed; to be answered when the index is applied.
    confirmed: Vec<(u64, Vec<Reply<ReadReady>>)>,
}

impl Reads {
    fn ask(&mut self, reply: Reply<ReadReady>) {
        self.asked.push(reply);
    }

    fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.rounds.is_empty() && self.confirmed.is_empty()
    }

    /// Puts all that was asked into one round; returns the context that it goes by.
    fn begin_round(&mut self) -> Option<Vec<u8>> {
        if self.asked.is_empty() {
            return None;
        }
        self.last_context += 1;
        self.rounds.insert(self.last_context, std::mem::take(&mut self.asked));
        Some(self.last_context.to_be_bytes().to_vec())
    }

    /// A quorum confirmed a round: its reads may go at `index`.
    fn confirm(&mut self, context: &[u8], index: u64) {
        let context = <[u8; 8]>::try_from(context).map(u64::from_be_bytes);
        if let Some(replies) = context.ok().and_then(|c| self.rounds.remove(&c)) {
            self.confirmed.push((index, replies));
        }
    }

    /// Takes the reads that wait for no more than `applied`.
    fn take_ready(&mut self, applied: u64) -> Vec<Reply<ReadReady>> {
        let (ready, rest) = std::mem::take(&mut self.confirmed).into_iter().partition(|(index, _)| *index <= applied);
        self.confirmed = rest;
        Vec::into_iter(ready).flat_map(|(_, replies)| replies).collect()
    }

    /// Refuses everything: leadership is lost.
    pub(super) fn fail_all(&mut self, error: &RegionError) {
        let rounds = std::mem::take(&mut self.rounds).into_values();
        let confirmed = std::mem::take(&mut self.confirmed).into_iter().map(|(_, replies)| replies);
        for reply in std::mem::take(&mut self.asked).into_iter().chain(rounds.flatten()).chain(confirmed.flatten()) {
            reply(Err(error.clone()));
        }
    }
}

impl Peer {
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
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Amendment 1 of the design: the version that is confirmed is the one after everything that the quorum had
    /// committed, a split too.
    #[test]
    fn a_read_waits_for_its_round_and_for_its_index() {
        let mut reads = Reads::default();
        let refused = Arc::new(AtomicUsize::new(0));
        let ask = |reads: &mut Reads| {
            let refused = refused.clone();
            reads.ask(Box::new(move |answer| {
                refused.fetch_add(usize::from(answer.is_err()), Ordering::SeqCst);
            }));
        };
        ask(&mut reads);
        let first = reads.begin_round().unwrap();
        ask(&mut reads);
        ask(&mut reads);
        let second = reads.begin_round().unwrap();
        assert!(reads.begin_round().is_none());
        reads.confirm(&second, 10);
        reads.confirm(b"unknown", 10);
        assert_eq!(reads.take_ready(9).len(), 0);
        assert_eq!(reads.take_ready(10).len(), 2);
        reads.confirm(&first, 11);
        reads.fail_all(&RegionError::RegionNotFound(1));
        assert!(reads.is_empty());
        assert_eq!(refused.load(Ordering::SeqCst), 1);
    }
}
