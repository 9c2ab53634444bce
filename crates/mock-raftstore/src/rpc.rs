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

mod command;
mod error;
mod keys;
mod status;

use logtide_model::{Cf, HostError, KvSnapshot, Op, Region, RegionEpoch, RegionId, StoreId, Ts};

pub use command::{CheckTxnStatus, Command, KvResponse, Mutation, MutationKind, Prewrite};
pub use error::{KeyError, RegionError};
pub use keys::LatchKeys;
pub use status::{LockInfo, SecondaryStatus, TxnStatus};

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
