//! One transaction from its start ts to its outcome.

use logtide_mock_raftstore::rpc::Mutation;
use logtide_model::Ts;

use super::commit::Decided;
use super::ledger::Entry;
use super::prewrite::Phase;
use super::script::polls;
use super::{Ending, Outcome, SimClient, Stop, TxnKind, TxnPlan};

/// A transaction under way. Dropping it is the death of its client.
pub(super) struct Txn {
    pub(super) client: SimClient,
    pub(super) plan: TxnPlan,
    pub(super) start_ts: Ts,
    pub(super) primary: Vec<u8>,
    /// Ascending by key.
    pub(super) mutations: Vec<Mutation>,
    /// Zero without pessimistic locks.
    pub(super) for_update_ts: Ts,
}

impl Drop for Txn {
    fn drop(&mut self) {
        self.client.0.ledger.borrow_mut().die(self.start_ts);
    }
}

/// The script of a transaction.
pub(super) async fn run(client: SimClient, plan: TxnPlan) -> Outcome {
    let start_ts = match client.timestamp().await {
        Ok(ts) => ts,
        Err(stop) => return Outcome::GaveUp { why: stop.why() },
    };
    let (primary, mutations) = (plan.primary(), plan.mutations());
    if mutations.is_empty() {
        return Outcome::Committed { start_ts, commit_ts: start_ts };
    }
    let keys = mutations.iter().map(|m| m.key.clone()).collect();
    let entry = Entry { primary: primary.clone(), ttl_ms: plan.ttl_ms, keys, live: true };
    client.0.ledger.borrow_mut().begin(start_ts, entry);
    Txn { client, plan, start_ts, primary, mutations, for_update_ts: Ts::ZERO }.run().await
}

impl Txn {
    /// All raw keys, ascending.
    pub(super) fn keys(&self) -> Vec<Vec<u8>> {
        self.mutations.iter().map(|m| m.key.clone()).collect()
    }

    pub(super) fn keys_primary_first(&self) -> Vec<Vec<u8>> {
        let mut keys = vec![self.primary.clone()];
        keys.extend(self.keys().into_iter().filter(|key| *key != self.primary));
        keys
    }

    /// Every key is committed or rolled back.
    pub(super) fn without_locks(&self) {
        self.client.0.ledger.borrow_mut().finish(self.start_ts);
    }

    async fn run(mut self) -> Outcome {
        if self.plan.kind == TxnKind::Pessimistic
            && let Err(stop) = self.lock().await
        {
            return self.not_locked(stop).await;
        }
        let half = self.mutations.len() / 2;
        let wanted = match self.plan.ending {
            Ending::AbandonHalf => half.max(1),
            // All keys of a transaction that others can commit would commit it; 2PC is never in that danger.
            Ending::Rollback if self.plan.kind != TxnKind::Optimistic2pc => half,
            _ => self.mutations.len(),
        };
        polls(self.plan.think).await;
        let mut phase = match Phase::new(&self).await {
            Ok(phase) => phase,
            Err(stop) => return Outcome::GaveUp { why: stop.why() },
        };
        match phase.run(&self.client, &self.mutations[..wanted], self.plan.batch).await {
            Ok(()) => match phase.decided() {
                Some((commit_ts, finished)) => self.finish(commit_ts, finished).await,
                None => self.end(wanted).await,
            },
            // Somebody else, or a lost attempt of ours, decided it.
            Err(Stop::Committed(commit_ts)) => self.finish(commit_ts, false).await,
            Err(stop) => self.not_prewritten(&phase, stop).await,
        }
    }

    async fn not_locked(&self, stop: Stop) -> Outcome {
        match stop {
            Stop::Ended(_) | Stop::Blocked(_) => {
                // Locks whose release fails go away when somebody meets them after their time; so in all that follows.
                let _ = self.release(&self.keys()).await;
                Outcome::RolledBack { start_ts: self.start_ts }
            }
            other => Outcome::GaveUp { why: other.why() },
        }
    }

    async fn not_prewritten(&self, phase: &Phase, stop: Stop) -> Outcome {
        match stop {
            _ if phase.may_be_committed() => Outcome::Undetermined { start_ts: self.start_ts },
            Stop::Ended(_) | Stop::Blocked(_) => self.take_all_back(self.mutations.len()).await,
            other => Outcome::GaveUp { why: other.why() },
        }
    }

    /// What becomes of a transaction whose first `prewritten` keys are prewritten, and which is not committed yet.
    async fn end(&self, prewritten: usize) -> Outcome {
        let start_ts = self.start_ts;
        let limit = match self.plan.ending {
            Ending::Abandon | Ending::AbandonHalf => return Outcome::Left { start_ts },
            Ending::Rollback => return self.take_all_back(prewritten).await,
            Ending::CommitPrimaryOnly => 1,
            Ending::Commit => self.plan.batch,
            Ending::CommitLater(n) => {
                polls(n).await;
                self.plan.batch
            }
        };
        match self.commit_primary(limit).await {
            Decided::At(commit_ts) => {
                if self.plan.ending != Ending::CommitPrimaryOnly {
                    self.commit_rest(commit_ts).await;
                }
                Outcome::Committed { start_ts, commit_ts }
            }
            Decided::Unknown => Outcome::Undetermined { start_ts },
            Decided::Not(Stop::Ended(_)) => Outcome::RolledBack { start_ts },
            Decided::Not(stop) => Outcome::GaveUp { why: stop.why() },
        }
    }

    /// What becomes of a transaction that was committed by its prewrite; `finished` if nothing is left to do.
    async fn finish(&self, commit_ts: Ts, finished: bool) -> Outcome {
        if finished {
            self.without_locks();
        } else if let Ending::Commit | Ending::CommitLater(_) = self.plan.ending {
            if let Ending::CommitLater(n) = self.plan.ending {
                polls(n).await;
            }
            self.commit_rest(commit_ts).await;
        }
        Outcome::Committed { start_ts: self.start_ts, commit_ts }
    }

    /// Rolls a transaction back that nobody can commit any more. Of a pessimistic one, only the first `prewritten` keys
    /// may have been prewritten.
    async fn take_all_back(&self, prewritten: usize) -> Outcome {
        let keys = self.keys();
        let pessimistic = self.plan.kind == TxnKind::Pessimistic;
        let (written, locked) = keys.split_at(if pessimistic { prewritten } else { keys.len() });
        let mut done = self.roll_back(written).await;
        if done.is_ok() {
            done = self.release(locked).await;
        }
        match done {
            Ok(()) => self.without_locks(),
            Err(Stop::Unexpected(why)) => return Outcome::GaveUp { why },
            Err(_) => {}
        }
        Outcome::RolledBack { start_ts: self.start_ts }
    }
}
