//! Why a command was not done: for what its keys hold, or since the store is not the one to do it.

use logtide_model::{Region, RegionId, StoreId, Ts};
use thiserror::Error;

use super::status::LockInfo;

/// Why a command was not done although the region is the right one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// A lock of another transaction is in the way.
    #[error("key {:02x?} is locked by transaction {}", .0.key, .0.start_ts)]
    Locked(LockInfo),
    /// Somebody committed since the transaction began (or since its `for_update_ts`).
    #[error("transaction {start_ts} conflicts with transaction {conflict_start_ts}, committed at {conflict_commit_ts}")]
    WriteConflict {
        /// The raw key.
        key: Vec<u8>,
        /// The transaction that lost.
        start_ts: Ts,
        /// The one in its way.
        conflict_start_ts: Ts,
        /// Where that committed.
        conflict_commit_ts: Ts,
    },
    /// The transaction was rolled back before.
    #[error("transaction {start_ts} is rolled back already")]
    RolledBack {
        /// The raw key.
        key: Vec<u8>,
        /// The transaction.
        start_ts: Ts,
    },
    /// The transaction was committed before, and what was asked is not possible any more.
    #[error("transaction {start_ts} is committed already, at {commit_ts}")]
    Committed {
        /// The raw key.
        key: Vec<u8>,
        /// The transaction.
        start_ts: Ts,
        /// Where it committed.
        commit_ts: Ts,
    },
    /// A commit found neither lock nor commit record.
    #[error("transaction {start_ts} has no lock on key {key:02x?}")]
    LockNotFound {
        /// The raw key.
        key: Vec<u8>,
        /// The transaction.
        start_ts: Ts,
    },
    /// A pessimistic transaction lost a lock that it thought to hold.
    #[error("transaction {start_ts} has lost its pessimistic lock on key {key:02x?}")]
    PessimisticLockNotFound {
        /// The raw key.
        key: Vec<u8>,
        /// The transaction.
        start_ts: Ts,
    },
    /// A status check found no trace of the transaction.
    #[error("transaction {start_ts} is unknown at its primary key {key:02x?}")]
    TxnNotFound {
        /// The raw primary key.
        key: Vec<u8>,
        /// The transaction.
        start_ts: Ts,
    },
    /// The commit ts was pushed above the one asked for: take a newer one.
    #[error("transaction {start_ts} cannot commit at {commit_ts}: not below {min_commit_ts}")]
    CommitTsExpired {
        /// The raw key.
        key: Vec<u8>,
        /// The transaction.
        start_ts: Ts,
        /// The ts asked for.
        commit_ts: Ts,
        /// The smallest possible.
        min_commit_ts: Ts,
    },
    /// The request contradicts the lock that is there (its kind or its primary).
    #[error("transaction {start_ts} holds another kind of lock on key {key:02x?}")]
    LockMismatch {
        /// The raw key.
        key: Vec<u8>,
        /// The transaction.
        start_ts: Ts,
    },
    /// A record in the engine does not parse, or a value is missing.
    #[error("the records of key {key:02x?} are corrupt: {cause}")]
    Corrupt {
        /// The encoded key.
        key: Vec<u8>,
        /// What is wrong.
        cause: String,
    },
}

/// Why a store did not run a command. Only of some is it certain that nothing happened: [`RegionError::is_undetermined`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegionError {
    /// The store does not lead the region.
    #[error("region {region_id} is led by {leader:?}")]
    NotLeader {
        /// The region.
        region_id: RegionId,
        /// Who does, if the store knows.
        leader: Option<StoreId>,
    },
    /// The region's range changed.
    #[error("the epoch of the region is another; now: {current:?}")]
    EpochNotMatch {
        /// The regions there are now, as far as the store knows.
        current: Vec<Region>,
    },
    /// The store has no peer of the region.
    #[error("region {0} is not on this store")]
    RegionNotFound(RegionId),
    /// A key lies outside of the region.
    #[error("key {key:02x?} is not in region {region_id}")]
    KeyNotInRegion {
        /// The raw key.
        key: Vec<u8>,
        /// The region.
        region_id: RegionId,
    },
    /// The store does not take the command now; nothing was done.
    #[error("not now: {0}")]
    Busy(String),
    /// The command was proposed, and then leadership, or the answer, was lost: it may have been, or may yet be, applied.
    #[error("the outcome is not known: {0}")]
    Undetermined(String),
}

impl RegionError {
    /// True if the command may have taken effect, now or later.
    pub fn is_undetermined(&self) -> bool {
        matches!(self, RegionError::Undetermined(_))
    }
}
