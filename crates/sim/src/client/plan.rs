//! What a transaction is to do; everything random about it is in here.

use std::collections::BTreeMap;

use bytes::Bytes;
use logtide_mock_raftstore::rpc::{Mutation, MutationKind};

/// How a transaction commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnKind {
    /// Prewrite, then commit.
    Optimistic2pc,
    /// Committed when all keys are prewritten.
    AsyncCommit,
    /// Prewrite and commit in one command, if one region has all keys; else as [`TxnKind::Optimistic2pc`].
    OnePc,
    /// Locks all keys, then prewrites and commits them.
    Pessimistic,
}

/// How a transaction ends, if nothing gets in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It commits.
    Commit,
    /// Its client dies after the commit of the primary. (Async commit and 1PC: after the prewrite, which commits.)
    CommitPrimaryOnly,
    /// Its client dies after the prewrite. Async commit and 1PC are committed then all the same.
    Abandon,
    /// Its client dies after it prewrote the lower half of the keys (at least one); a pessimistic one has locked all.
    AbandonHalf,
    /// Prewrites the lower half of the keys (2PC: all), and rolls back. The pessimistic locks of the others are given back.
    Rollback,
    /// As [`Ending::Commit`], with so many polls between the two phases.
    CommitLater(u32),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnPlan {
    /// How it commits.
    pub kind: TxnKind,
    /// Raw keys and new values; `None` deletes. The first key is the primary; of equal keys the last counts.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Raw keys that are locked and left as they are ([`MutationKind::Lock`]), unless they are written too.
    pub locks_only: Vec<Vec<u8>>,
    /// Polls between its start and its first prewrite: it begins, and writes late.
    pub think: u32,
    /// Milliseconds that its locks live from its start.
    pub ttl_ms: u64,
    /// How it ends.
    pub ending: Ending,
    /// Keys of one command at most (0 is 1); an attempt at 1PC is one command all the same.
    pub batch: usize,
}

impl TxnPlan {
    /// The raw key that decides it; empty if it has no keys.
    pub(super) fn primary(&self) -> Vec<u8> {
        let first = self.writes.first().map(|(key, _)| key).or(self.locks_only.first());
        first.cloned().unwrap_or_default()
    }

    /// What it does to its keys, ascending.
    pub(super) fn mutations(&self) -> Vec<Mutation> {
        let mut kinds: BTreeMap<&Vec<u8>, MutationKind> =
            self.locks_only.iter().map(|key| (key, MutationKind::Lock)).collect();
        kinds.extend(self.writes.iter().map(|(key, value)| match value {
            Some(value) => (key, MutationKind::Put(Bytes::copy_from_slice(value))),
            None => (key, MutationKind::Delete),
        }));
        let pessimistic = self.kind == TxnKind::Pessimistic;
        kinds.into_iter().map(|(key, kind)| Mutation { key: key.clone(), kind, pessimistic }).collect()
    }
}
