//! What a client can ask of a region, and what it is answered.

use bytes::Bytes;
use logtide_model::{Cf, Ts};

use super::error::KeyError;
use super::status::{SecondaryStatus, TxnStatus};

/// What a mutation does to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MutationKind {
    /// Sets it.
    Put(Bytes),
    /// Removes it.
    Delete,
    /// Leaves it, but conflicts with whoever changes it.
    Lock,
}

/// One key of a prewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The raw key.
    pub key: Vec<u8>,
    /// What to do with it.
    pub kind: MutationKind,
    /// True if the transaction holds a pessimistic lock on the key.
    pub pessimistic: bool,
}

/// The first phase of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prewrite {
    /// The keys of this region; each at most once.
    pub mutations: Vec<Mutation>,
    /// The raw key that decides the transaction.
    pub primary: Vec<u8>,
    /// The transaction.
    pub start_ts: Ts,
    /// Milliseconds that the locks live from `start_ts`.
    pub ttl: u64,
    /// Keys of the whole transaction.
    pub txn_size: u64,
    /// For pessimistic transactions, the ts of their last lock; zero for optimistic ones.
    pub for_update_ts: Ts,
    /// The commit ts will be at least this; zero if the transaction does not care.
    pub min_commit_ts: Ts,
    /// Async commit and 1PC give way to 2PC rather than commit above this; zero: no limit.
    pub max_commit_ts: Ts,
    /// Use async commit.
    pub async_commit: bool,
    /// With async commit, the raw keys besides the primary; only needed where the primary is prewritten.
    pub secondaries: Vec<Vec<u8>>,
    /// These are all keys of the transaction: commit them at once.
    pub one_pc: bool,
}

/// A question about a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckTxnStatus {
    /// The raw primary key.
    pub primary: Vec<u8>,
    /// The transaction.
    pub start_ts: Ts,
    /// The start ts of who asks: the commit ts is pushed above it. Zero: no push.
    pub caller_start_ts: Ts,
    /// Now, for the time to live.
    pub current_ts: Ts,
    /// A transaction that is not there is rolled back, so that it cannot come later.
    pub rollback_if_missing: bool,
    /// Treat an async-commit transaction as one that commits in two phases (one of its locks fell back).
    pub force_sync_commit: bool,
}

/// What a client can ask of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Locks keys and leaves their values; answered by [`KvResponse::Prewrite`].
    Prewrite(Prewrite),
    /// Makes prewritten keys visible at `commit_ts`; answered by [`KvResponse::Commit`].
    Commit {
        /// The raw keys.
        keys: Vec<Vec<u8>>,
        /// The transaction.
        start_ts: Ts,
        /// Where it commits.
        commit_ts: Ts,
    },
    /// Takes back prewritten keys and keeps the transaction from prewriting them later; answered by [`KvResponse::Done`].
    Rollback {
        /// The raw keys.
        keys: Vec<Vec<u8>>,
        /// The transaction.
        start_ts: Ts,
    },
    /// Locks keys before their new values are known; answered by [`KvResponse::PessimisticLock`].
    PessimisticLock {
        /// The raw keys.
        keys: Vec<Vec<u8>>,
        /// The raw key that decides the transaction.
        primary: Vec<u8>,
        /// The transaction.
        start_ts: Ts,
        /// Nothing may have been committed above it.
        for_update_ts: Ts,
        /// Milliseconds that the locks live from `start_ts`.
        ttl: u64,
    },
    /// Gives pessimistic locks back; answered by [`KvResponse::Done`].
    PessimisticRollback {
        /// The raw keys.
        keys: Vec<Vec<u8>>,
        /// The transaction.
        start_ts: Ts,
        /// Locks taken for a later ts stay.
        for_update_ts: Ts,
    },
    /// What became of a transaction, asked at its primary; rolls it back if its time to live is over. Answered by
    /// [`KvResponse::TxnStatus`].
    CheckTxnStatus(CheckTxnStatus),
    /// What became of the secondary locks of an async-commit transaction; rolls back what is missing. Answered by
    /// [`KvResponse::SecondaryLocks`].
    CheckSecondaryLocks {
        /// The raw secondary keys.
        keys: Vec<Vec<u8>>,
        /// The transaction.
        start_ts: Ts,
    },
    /// Ends a transaction on this region; answered by [`KvResponse::Done`].
    ResolveLock {
        /// The transaction.
        start_ts: Ts,
        /// Where it committed; `None` if it was rolled back.
        commit_ts: Option<Ts>,
        /// Only these raw keys; empty: all of its locks in the region.
        keys: Vec<Vec<u8>>,
    },
    /// Adds versions of keys by sorted files past the log, all at one commit ts that is chosen as for 1PC; answered by
    /// [`KvResponse::Commit`]. Conflicts are found as by a prewrite. Sent again, it finds itself done
    /// ([`KeyError::Committed`]).
    Ingest {
        /// Raw keys, each at most once, with their values.
        pairs: Vec<(Vec<u8>, Bytes)>,
        /// The start ts of the versions.
        start_ts: Ts,
        /// The commit ts will be at least this.
        min_commit_ts: Ts,
    },
    /// Removes all records of a range at once, past MVCC; answered by [`KvResponse::Done`]. It ends where the region ends.
    /// Refused while there are locks in it, unless they are to be removed too: a transaction cannot lose half of its records.
    DeleteRange {
        /// From where.
        cfs: Vec<Cf>,
        /// First raw key, inclusive.
        start: Vec<u8>,
        /// Last raw key, exclusive; empty: to the end of the region.
        end: Vec<u8>,
    },
    /// The value of a key; answered by [`KvResponse::Get`].
    Get {
        /// The raw key.
        key: Vec<u8>,
        /// As of when.
        ts: Ts,
        /// Transactions (start ts) whose locks do not matter: known to commit above `ts`, or rolled back.
        bypass: Vec<Ts>,
    },
    /// The pairs of a range, in order; answered by [`KvResponse::Scan`].
    Scan {
        /// First raw key, inclusive.
        start: Vec<u8>,
        /// Last raw key, exclusive; empty: to the end of the region.
        end: Vec<u8>,
        /// At most so many pairs.
        limit: usize,
        /// As of when.
        ts: Ts,
        /// As of [`Command::Get`].
        bypass: Vec<Ts>,
    },
}

/// The answer to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvResponse {
    /// Prewritten.
    Prewrite {
        /// With async commit, the smallest ts that these keys may commit at; zero: commit in two phases.
        min_commit_ts: Ts,
        /// With 1PC, where the transaction was committed; zero: commit in two phases.
        one_pc_commit_ts: Ts,
    },
    /// Committed.
    Commit {
        /// Where.
        commit_ts: Ts,
    },
    /// Locked.
    PessimisticLock {
        /// The values of the keys, in the order of the request.
        values: Vec<Option<Bytes>>,
    },
    /// What became of a transaction.
    TxnStatus(TxnStatus),
    /// What became of secondary locks.
    SecondaryLocks(SecondaryStatus),
    /// What a key holds.
    Get {
        /// Its value.
        value: Option<Bytes>,
    },
    /// What a range holds.
    Scan {
        /// Raw keys and values, ascending.
        pairs: Vec<(Vec<u8>, Bytes)>,
        /// True if the limit stopped the scan before the end of the range.
        more: bool,
    },
    /// Nothing more to say.
    Done,
    /// It was not done, wholly.
    Errors(Vec<KeyError>),
}
