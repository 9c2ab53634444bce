//! How a transaction stands, as its locks and commit records tell.

use logtide_model::Ts;

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnStatus {
    /// It committed.
    Committed {
        /// Where.
        commit_ts: Ts,
    },
    /// It was rolled back, before or by the question.
    RolledBack,
    /// It is under way.
    Locked {
        /// Its primary lock.
        lock: LockInfo,
        /// True if it will commit above the `caller_start_ts` of the question.
        pushed: bool,
    },
}

/// What became of the secondary locks of an async-commit transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecondaryStatus {
    /// All are there.
    Locked(Vec<LockInfo>),
    /// One is committed, so the transaction is.
    Committed {
        /// Where.
        commit_ts: Ts,
    },
    /// One is missing and will never be there: the transaction is rolled back.
    RolledBack,
}

/// A lock that is in somebody's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockInfo {
    /// The raw key.
    pub key: Vec<u8>,
    /// The raw key that decides its transaction.
    pub primary: Vec<u8>,
    /// Its transaction.
    pub start_ts: Ts,
    /// Milliseconds that it lives from `start_ts`.
    pub ttl: u64,
    /// Its transaction commits at this or above.
    pub min_commit_ts: Ts,
    /// Its transaction uses async commit.
    pub async_commit: bool,
    /// For the primary of an async-commit transaction, the raw keys of the others.
    pub secondaries: Vec<Vec<u8>>,
    /// True if it is a pessimistic lock: its transaction has not begun to commit.
    pub pessimistic: bool,
}
