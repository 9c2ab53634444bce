//! Read-index requests of one peer on their way: asked, confirmed by a quorum, applied far enough.

use std::collections::BTreeMap;

use super::message::{ReadReady, Reply};
use crate::rpc::RegionError;

/// See the module.
#[derive(Default)]
pub(crate) struct Reads {
    last_context: u64,
    /// Not yet in a round.
    asked: Vec<Reply<ReadReady>>,
    /// In a round, by its context.
    rounds: BTreeMap<u64, Vec<Reply<ReadReady>>>,
    /// Confirmed; to be answered when the index is applied.
    confirmed: Vec<(u64, Vec<Reply<ReadReady>>)>,
}

impl Reads {
    pub(crate) fn ask(&mut self, reply: Reply<ReadReady>) {
        self.asked.push(reply);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.rounds.is_empty() && self.confirmed.is_empty()
    }

    /// Puts all that was asked into one round; returns the context that it goes by.
    pub(crate) fn begin_round(&mut self) -> Option<Vec<u8>> {
        if self.asked.is_empty() {
            return None;
        }
        self.last_context += 1;
        self.rounds.insert(self.last_context, std::mem::take(&mut self.asked));
        Some(self.last_context.to_be_bytes().to_vec())
    }

    /// A quorum confirmed a round: its reads may go at `index`.
    pub(crate) fn confirm(&mut self, context: &[u8], index: u64) {
        let context = <[u8; 8]>::try_from(context).map(u64::from_be_bytes);
        if let Some(replies) = context.ok().and_then(|c| self.rounds.remove(&c)) {
            self.confirmed.push((index, replies));
        }
    }

    /// Takes the reads that wait for no more than `applied`.
    pub(crate) fn take_ready(&mut self, applied: u64) -> Vec<Reply<ReadReady>> {
        let (ready, rest) = std::mem::take(&mut self.confirmed).into_iter().partition(|(index, _)| *index <= applied);
        self.confirmed = rest;
        Vec::into_iter(ready).flat_map(|(_, replies)| replies).collect()
    }

    /// Refuses everything: leadership is lost.
    pub(crate) fn fail_all(&mut self, error: &RegionError) {
        let rounds = std::mem::take(&mut self.rounds).into_values();
        let confirmed = std::mem::take(&mut self.confirmed).into_iter().map(|(_, replies)| replies);
        for reply in std::mem::take(&mut self.asked).into_iter().chain(rounds.flatten()).chain(confirmed.flatten()) {
            reply(Err(error.clone()));
        }
    }
}
