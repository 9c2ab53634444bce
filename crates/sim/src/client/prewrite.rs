//! The first phase of a commit, and the pessimistic locks before it.

use std::collections::BTreeSet;

use logtide_mock_raftstore::rpc::{Command, KeyError, KvResponse, Mutation, Prewrite};
use logtide_model::Ts;

use super::resolve::nothing_done;
use super::route::Tries;
use super::txn::Txn;
use super::{SimClient, Stop, TxnKind};

/// The first phase, while it goes on.
#[derive(Default)]
pub(super) struct Phase {
    request: Prewrite,
    /// The transaction wants 1PC still.
    one_pc: bool,
    /// The largest smallest commit ts of async commit; zero before the first answer.
    min_commit_ts: Ts,
    /// Where 1PC committed it.
    one_pc_ts: Option<Ts>,
    prewritten: usize,
    /// Async commit or 1PC was asked for, and no answer said that it is not to be.
    may_be_committed: bool,
    /// Keys whose prewrite may yet happen: an answer was lost.
    doubtful: BTreeSet<Vec<u8>>,
}

impl Phase {
    /// # Errors
    /// [`Stop::GaveUp`] without a timestamp.
    pub(super) async fn new(txn: &Txn) -> Result<Phase, Stop> {
        let one_pc = txn.plan.kind == TxnKind::OnePc;
        let async_commit = txn.plan.kind == TxnKind::AsyncCommit;
        let mut request = Prewrite {
            primary: txn.primary.clone(),
            start_ts: txn.start_ts,
            ttl: txn.plan.ttl_ms,
            txn_size: txn.mutations.len() as u64,
            for_update_ts: txn.for_update_ts,
            async_commit,
            ..Prewrite::default()
        };
        if async_commit {
            request.secondaries = txn.keys().into_iter().filter(|key| *key != txn.primary).collect();
        }
        if one_pc || async_commit {
            let now = txn.client.timestamp().await?;
            // Above all that was committed before this call, so that the order of commits is that of the clock …
            request.min_commit_ts = now.next();
            // … and not so far ahead that nobody would believe in the transaction any more.
            request.max_commit_ts = Ts::compose(now.physical_ms().saturating_add(txn.plan.ttl_ms), 0);
        }
        Ok(Phase { request, one_pc, ..Phase::default() })
    }

    /// Prewrites keys.
    pub(super) async fn run(&mut self, client: &SimClient, mutations: &[Mutation], batch: usize) -> Result<(), Stop> {
        let mut tries = Tries::new(client, "prewrite");
        let mut waits = Tries::new(client, "prewrite locked keys");
        let mut rest = mutations;
        while let Some((target, n)) = client.group(rest, self.limit(batch)) {
            let command = self.command(&rest[..n]);
            match client.call(&target, command).await {
                Ok(KvResponse::Prewrite { min_commit_ts, one_pc_commit_ts }) => {
                    tries.reset();
                    self.prewritten(&rest[..n], min_commit_ts, one_pc_commit_ts);
                    rest = &rest[n..];
                }
                Ok(KvResponse::Errors(errors)) => {
                    tries.reset();
                    for error in errors {
                        if let Err(stop) = client.make_way(&mut waits, error).await {
                            return Err(self.stopped(stop, &rest[..n]));
                        }
                    }
                }
                Ok(other) => return Err(client.unexpected("a prewrite", &other)),
                Err(error) => {
                    if !nothing_done(&error) {
                        self.doubtful.extend(rest[..n].iter().map(|m| m.key.clone()));
                    }
                    if let Err(stop) = tries.again(&error).await {
                        return Err(self.stopped(stop, rest));
                    }
                }
            }
        }
        Ok(())
    }

    /// An attempt at 1PC is one command.
    fn limit(&self, batch: usize) -> usize {
        if self.one_pc { usize::MAX } else { batch }
    }

    fn command(&mut self, mutations: &[Mutation]) -> Command {
        let mut request = self.request.clone();
        request.one_pc = self.one_pc && mutations.len() as u64 == request.txn_size;
        self.may_be_committed |= request.one_pc || request.async_commit;
        if !mutations.iter().any(|m| m.key == request.primary) {
            request.secondaries.clear();
        }
        request.mutations = mutations.to_vec();
        Command::Prewrite(request)
    }

    fn prewritten(&mut self, mutations: &[Mutation], min_commit_ts: Ts, one_pc_commit_ts: Ts) {
        self.prewritten += mutations.len();
        self.doubtful.retain(|key| !mutations.iter().any(|m| m.key == *key));
        if !one_pc_commit_ts.is_zero() {
            self.one_pc_ts = Some(one_pc_commit_ts);
        }
        if min_commit_ts.is_zero() && one_pc_commit_ts.is_zero() {
            // One of the locks says that it takes two phases: nobody else can commit the transaction any more.
            (self.request.async_commit, self.one_pc, self.may_be_committed) = (false, false, false);
        }
        self.min_commit_ts = self.min_commit_ts.max(min_commit_ts);
    }

    /// Keys that have not been prewritten, as an answer says, and never will be, keep a transaction from being committed
    /// by others: that settles it.
    fn stopped(&mut self, stop: Stop, missing: &[Mutation]) -> Stop {
        let settled = matches!(stop, Stop::Ended(_)) || missing.iter().any(|m| !self.doubtful.contains(&m.key));
        self.may_be_committed &= !settled;
        stop
    }

    /// Whether somebody else may commit it, or has, though the phase did not come to its end.
    pub(super) fn may_be_committed(&self) -> bool {
        self.may_be_committed
    }

    /// Where the transaction is committed, if it is; `true` if its commit records are there already.
    pub(super) fn decided(&self) -> Option<(Ts, bool)> {
        let all = self.prewritten as u64 == self.request.txn_size;
        let asynchronous = self.request.async_commit && all && !self.min_commit_ts.is_zero();
        let at_once = self.one_pc_ts.map(|ts| (ts, true));
        at_once.or_else(|| asynchronous.then_some((self.min_commit_ts, false)))
    }
}

impl Txn {
    /// Takes the pessimistic locks of all keys.
    pub(super) async fn lock(&mut self) -> Result<(), Stop> {
        let client = self.client.clone();
        let mut tries = Tries::new(&client, "lock keys");
        let mut waits = Tries::new(&client, "lock locked keys");
        self.for_update_ts = client.timestamp().await?;
        let keys = self.keys();
        let mut rest = &keys[..];
        while let Some((target, n)) = client.group(rest, self.plan.batch) {
            let command = Command::PessimisticLock {
                keys: rest[..n].to_vec(),
                primary: self.primary.clone(),
                start_ts: self.start_ts,
                for_update_ts: self.for_update_ts,
                ttl: self.plan.ttl_ms,
            };
            match client.call(&target, command).await {
                Ok(KvResponse::PessimisticLock { .. }) => {
                    tries.reset();
                    rest = &rest[n..];
                }
                Ok(KvResponse::Errors(errors)) => {
                    tries.reset();
                    for error in errors {
                        self.make_way(&mut waits, error).await?;
                    }
                }
                Ok(other) => return Err(client.unexpected("a pessimistic lock", &other)),
                Err(error) => tries.again(&error).await?,
            }
        }
        Ok(())
    }

    /// As [`SimClient::make_way`]; a lock can be taken as of a later ts, too.
    async fn make_way(&mut self, waits: &mut Tries, error: KeyError) -> Result<(), Stop> {
        if !matches!(error, KeyError::WriteConflict { .. }) {
            return self.client.make_way(waits, error).await;
        }
        match waits.again(&error).await {
            Err(stop) => Err(Stop::Blocked(stop.why())),
            Ok(()) => {
                self.for_update_ts = self.client.timestamp().await?;
                Ok(())
            }
        }
    }
}
