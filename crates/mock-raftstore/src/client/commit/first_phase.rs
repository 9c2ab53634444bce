//! The first phase of a commit, which with async commit and 1PC is the only one that matters.

use std::collections::BTreeMap;

use logtide_model::Ts;

use super::Prewritten;
use crate::client::route::Keyed;
use crate::client::{Client, ClientError, Txn};
use crate::rpc::{Command, KeyError, KvResponse, Mutation, MutationKind, Prewrite};

/// Async commit is for transactions of at most so many keys (TiDB's `tidb_async_commit_keys_limit`) …
const ASYNC_COMMIT_KEYS: usize = 256;
/// … with at most so many bytes (TiDB's `tidb_async_commit_total_key_size_limit`): they are in the primary lock.
const ASYNC_COMMIT_KEY_BYTES: usize = 4096;

impl Keyed for Mutation {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn bytes(&self) -> usize {
        self.key.len() + if let MutationKind::Put(value) = &self.kind { value.len() } else { 0 }
    }
}

pub(crate) fn prewrite(txn: Txn) -> Result<Prewritten, ClientError> {
    let client = txn.client.clone();
    let mutations = mutations(&txn);
    if mutations.is_empty() {
        let (start_ts, decided) = (txn.start_ts, Some(txn.start_ts));
        return Ok(Prewritten { client, start_ts, keys: Vec::new(), batch_bytes: 0, decided, finished: true });
    }
    let primary = txn.primary.clone().or_else(|| mutations.first().map(|m| m.key.clone())).unwrap_or_default();
    let mut keys = vec![primary.clone()];
    keys.extend(mutations.iter().map(|m| m.key.clone()).filter(|key| *key != primary));
    let mut phase = Phase::new(&txn, primary, keys.clone(), mutations.len())?;
    let outcome = phase.run(&client, mutations, txn.options.batch_bytes);
    let (decided, finished) = (phase.decided(), phase.one_pc_ts.is_some());
    let prewritten =
        Prewritten { client, start_ts: txn.start_ts, keys, batch_bytes: txn.options.batch_bytes, decided, finished };
    match outcome {
        Ok(()) => Ok(prewritten),
        // One of the keys was found committed: somebody else (or a lost attempt of ours) had decided it.
        Err(_) if prewritten.decided.is_some() => Ok(prewritten),
        Err(error @ ClientError::RolledBack { .. }) => {
            // The locks would go away by themselves when somebody meets them after their time.
            if let Err(error) = prewritten.roll_back() {
                tracing::debug!(%error, start_ts = txn.start_ts.get(), "left the locks of a failed transaction");
            }
            Err(error)
        }
        Err(error) if phase.may_be_committed => {
            Err(ClientError::Undetermined { start_ts: txn.start_ts, cause: error.to_string() })
        }
        Err(error) => Err(error),
    }
}

/// What the transaction does to its keys, ascending. A key that was locked and not written is prewritten as a lock.
fn mutations(txn: &Txn) -> Vec<Mutation> {
    let mut kinds: BTreeMap<&Vec<u8>, &MutationKind> =
        txn.locked.iter().map(|key| (key, &MutationKind::Lock)).collect();
    kinds.extend(&txn.writes);
    let mutation = |(key, kind): (&Vec<u8>, &MutationKind)| Mutation {
        key: key.clone(),
        kind: kind.clone(),
        pessimistic: txn.locked.contains(key),
    };
    kinds.into_iter().map(mutation).collect()
}

/// The first phase, while it goes on.
struct Phase {
    request: Prewrite,
    one_pc: bool,
    /// The largest smallest commit ts of async commit; zero before the first answer.
    min_commit_ts: Ts,
    /// Where 1PC, or somebody else, committed it.
    one_pc_ts: Option<Ts>,
    committed_ts: Option<Ts>,
    prewritten: usize,
    /// Async commit or 1PC was asked for, and no answer said that it is not to be.
    may_be_committed: bool,
}

impl Phase {
    fn new(txn: &Txn, primary: Vec<u8>, keys: Vec<Vec<u8>>, size: usize) -> Result<Phase, ClientError> {
        let key_bytes: usize = keys.iter().map(Vec::len).sum();
        let few = keys.len() <= ASYNC_COMMIT_KEYS && key_bytes <= ASYNC_COMMIT_KEY_BYTES;
        let async_commit = txn.options.async_commit && few;
        let own_ts = async_commit || txn.options.one_pc;
        let request = Prewrite {
            primary,
            start_ts: txn.start_ts,
            ttl: txn.options.lock_ttl_ms,
            txn_size: size as u64,
            for_update_ts: txn.for_update_ts,
            // Above all that was committed before this call, so that the order of commits is that of the clock.
            min_commit_ts: if own_ts { txn.client.timestamp()?.next() } else { Ts::ZERO },
            async_commit,
            secondaries: if async_commit { keys.into_iter().skip(1).collect() } else { Vec::new() },
            ..Prewrite::default()
        };
        Ok(Phase {
            request,
            one_pc: txn.options.one_pc,
            min_commit_ts: Ts::ZERO,
            one_pc_ts: None,
            committed_ts: None,
            prewritten: 0,
            may_be_committed: false,
        })
    }

    /// Where the transaction is committed, if it is.
    fn decided(&self) -> Option<Ts> {
        let all = self.prewritten as u64 == self.request.txn_size;
        let asynchronous =
            (self.request.async_commit && all && !self.min_commit_ts.is_zero()).then_some(self.min_commit_ts);
        self.committed_ts.or(self.one_pc_ts).or(asynchronous)
    }

    fn command(&mut self, mutations: &[Mutation]) -> Command {
        let mut request = self.request.clone();
        request.one_pc = self.one_pc && mutations.len() as u64 == self.request.txn_size;
        self.may_be_committed |= request.one_pc || request.async_commit;
        if !mutations.iter().any(|m| m.key == request.primary) {
            request.secondaries.clear();
        }
        request.mutations = mutations.to_vec();
        Command::Prewrite(request)
    }

    fn run(&mut self, client: &Client, mutations: Vec<Mutation>, limit: usize) -> Result<(), ClientError> {
        let start_ts = self.request.start_ts;
        let mut waits = client.retry("prewrite locked keys");
        let phase = std::cell::RefCell::new(self);
        client.each_group(
            &mut client.retry("prewrite"),
            mutations,
            limit,
            &mut |mutations| phase.borrow_mut().command(mutations),
            &mut |mutations, response| match response {
                KvResponse::Prewrite { min_commit_ts, one_pc_commit_ts } => {
                    phase.borrow_mut().prewritten(mutations.len(), min_commit_ts, one_pc_commit_ts);
                    Ok(Vec::new())
                }
                KvResponse::Errors(errors) => {
                    for error in errors {
                        if let KeyError::Committed { commit_ts, .. } = &error {
                            phase.borrow_mut().committed_ts = Some(*commit_ts);
                        }
                        client.make_way(&mut waits, error, start_ts)?;
                    }
                    Ok(mutations)
                }
                other => Err(ClientError::unexpected("a prewrite", &other)),
            },
        )
    }

    fn prewritten(&mut self, keys: usize, min_commit_ts: Ts, one_pc_commit_ts: Ts) {
        self.prewritten += keys;
        if !one_pc_commit_ts.is_zero() {
            self.one_pc_ts = Some(one_pc_commit_ts);
        }
        if min_commit_ts.is_zero() && one_pc_commit_ts.is_zero() {
            // One of the locks says that it takes two phases: nobody else can commit the transaction any more.
            (self.request.async_commit, self.one_pc, self.may_be_committed) = (false, false, false);
        }
        self.min_commit_ts = self.min_commit_ts.max(min_commit_ts);
    }
}
