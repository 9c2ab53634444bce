//! What clients say to stores, and the joint between the raft half of this crate and its transaction half.
//!
//! Keys in commands are *raw* user keys; regions and [`Op`]s have encoded ones. The way of a command through a store:
//!
//! 1. check leadership, epoch and [`Command::check_range`], else answer a [`RegionError`];
//! 2. take the command's latches ([`Command::latches`], [`crate::txn::Latches`]): a command that writes must see, in
//!    its snapshot, the applied effects of every earlier command on its keys;
//! 3. [`TxnExecutor::prepare`]: **before** the snapshot is taken, as readers must announce themselves first;
//! 4. take a snapshot that holds everything committed so far (leader lease or read index);
//! 5. [`TxnExecutor::execute`]; propose [`Plan::ops`] as one raft entry. If there are none, leadership has to be confirmed
//!    before the answer, as for a read: a deposed leader would tell of a lock that it has not seen that it is not there;
//! 6. after the entry is applied **and** `RaftObserver::on_apply` returned (or the proposal is known to be lost),
//!    drop [`Plan::guards`] and the latches, and answer [`Plan::response`].
//!
//! A peer that becomes leader bumps its store's [`ConcurrencyManager`] to a fresh timestamp before it serves: reads
//! that its predecessor answered are not known to it otherwise.

use bytes::Bytes;
use logtide_model::{
    Cf, HostError, KeyRange, KvSnapshot, Op, Region, RegionEpoch, RegionId, StoreId, Ts, encode_raw_key,
};
use thiserror::Error;

use crate::concurrency::{ConcurrencyManager, KeyGuard};
use crate::engine::SortedRecords;

/// A command for one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvRequest {
    /// The region that the client means.
    pub region_id: RegionId,
    /// The epoch that the client knows; another version is refused with [`RegionError::EpochNotMatch`].
    pub epoch: RegionEpoch,
    /// What to do.
    pub command: Command,
}

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

/// Which commands must not run at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LatchKeys {
    /// A read: no latch.
    None,
    /// Commands that share one of these raw keys.
    Keys(Vec<Vec<u8>>),
    /// Every command of the region that writes.
    Region,
}

impl Command {
    /// True if it never changes anything.
    pub fn is_read(&self) -> bool {
        matches!(self, Command::Get { .. } | Command::Scan { .. })
    }

    /// The raw keys that it names; for a range its start.
    pub fn keys(&self) -> Vec<&[u8]> {
        match self {
            Command::Prewrite(p) => p.mutations.iter().map(|m| &m.key[..]).collect(),
            Command::Commit { keys, .. }
            | Command::Rollback { keys, .. }
            | Command::PessimisticLock { keys, .. }
            | Command::PessimisticRollback { keys, .. }
            | Command::CheckSecondaryLocks { keys, .. }
            | Command::ResolveLock { keys, .. } => keys.iter().map(|k| &k[..]).collect(),
            Command::CheckTxnStatus(ask) => vec![&ask.primary],
            Command::Ingest { pairs, .. } => pairs.iter().map(|(key, _)| &key[..]).collect(),
            Command::Get { key, .. } => vec![key],
            Command::DeleteRange { start, .. } | Command::Scan { start, .. } => vec![start],
        }
    }

    /// True if it may choose a timestamp itself: it has to be above what any leader of the region promised.
    pub fn chooses_its_ts(&self) -> bool {
        matches!(self, Command::Prewrite(_) | Command::Ingest { .. } | Command::DeleteRange { .. })
    }

    /// The latches that it needs.
    pub fn latches(&self) -> LatchKeys {
        match self {
            _ if self.is_read() => LatchKeys::None,
            Command::ResolveLock { keys, .. } if keys.is_empty() => LatchKeys::Region,
            Command::DeleteRange { .. } => LatchKeys::Region,
            _ => LatchKeys::Keys(self.keys().into_iter().map(<[u8]>::to_vec).collect()),
        }
    }

    /// Checks that the keys it names lie in the region. A scan may end beyond it: it stops where the region ends.
    ///
    /// # Errors
    /// [`RegionError::KeyNotInRegion`].
    pub fn check_range(&self, region: &Region) -> Result<(), RegionError> {
        let outside = |key: &&[u8]| !in_range(&region.range, key);
        match self.keys().into_iter().find(outside) {
            Some(key) => Err(RegionError::KeyNotInRegion { key: key.to_vec(), region_id: region.id }),
            None => Ok(()),
        }
    }
}

/// True if a raw key lies in an encoded range. The empty raw key (of a scan without bound) is before every other.
fn in_range(range: &KeyRange, raw_key: &[u8]) -> bool {
    if raw_key.is_empty() { range.start.is_empty() } else { range.contains(&encode_raw_key(raw_key)) }
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

/// The cluster as a client sees it.
pub trait KvRpc: Send + Sync {
    /// Runs a command on a store and waits for the answer.
    ///
    /// # Errors
    /// [`RegionError`].
    fn call(&self, store: StoreId, request: KvRequest) -> Result<KvResponse, RegionError>;
    /// The region of a raw key and the store that seems to lead it. It may be outdated.
    fn locate(&self, raw_key: &[u8]) -> (Region, StoreId);
    /// A fresh timestamp, greater than all before.
    ///
    /// # Errors
    /// [`RegionError::Busy`] while the timestamp service is away.
    fn tso(&self) -> Result<Ts, RegionError>;
}

/// What a store has to do for a command.
#[derive(Debug)]
pub struct Plan {
    /// What to propose, as one raft entry; empty: answer when leadership is confirmed.
    pub ops: Vec<Op>,
    /// Records to ingest in the same entry, by files that are to be on all stores of the region beforehand.
    pub files: Vec<(Cf, SortedRecords)>,
    /// The answer, once they are applied.
    pub response: KvResponse,
    /// The timestamp of the range delete among the ops.
    pub range_deleted: Option<Ts>,
    /// In-memory locks of async commit and 1PC: dropped once the ops are applied and observed, or known to be lost.
    pub guards: Vec<KeyGuard>,
}

/// Turns commands into changes; pure but for the [`ConcurrencyManager`].
pub trait TxnExecutor: Send + Sync {
    /// To be called before the snapshot for the command is taken: announces readers, and checks in-memory locks.
    ///
    /// # Errors
    /// The answer, if the command ends here.
    fn prepare(&self, command: &Command, concurrency: &ConcurrencyManager) -> Result<(), KvResponse>;

    /// Computes what the command does, from a snapshot taken after [`TxnExecutor::prepare`] and under its latches.
    ///
    /// # Errors
    /// [`HostError::Unavailable`] if the engine cannot read.
    fn execute(
        &self,
        command: &Command,
        snapshot: &dyn KvSnapshot,
        concurrency: &ConcurrencyManager,
    ) -> Result<Plan, HostError>;
}
