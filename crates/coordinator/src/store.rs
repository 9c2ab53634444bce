//! The shared store that the nodes and the command meet in: a small, ordered, revisioned key-value store.
//!
//! The shape is etcd's, cut down to what is used: a revision that grows by one with every transaction that changes
//! something, conditions on create and modification revisions, watches from a revision, leases. So etcd fits behind
//! [`Store`] later; [`MemoryStore`] and [`DirectoryStore`](crate::DirectoryStore) pass the same conformance suite.

mod clock;
mod error;
mod log;
mod memory;
mod replica;
mod shown;
mod state;

use std::time::Duration;

use bytes::Bytes;

pub use clock::{Clock, ManualClock, WallClock};
pub use error::StoreError;
pub use memory::MemoryStore;
pub(crate) use replica::{Local, Replica};
pub(crate) use state::{Change, Lease, Op, Prepared, State};

/// Counts the transactions that changed something, from 1; 0 is before the first one.
pub type Revision = u64;

/// The largest value, in bytes. etcd refuses requests over 1.5 MiB (`--max-request-bytes`); this leaves room for the
/// rest of a transaction.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// The largest sum of keys and values of one transaction, in bytes.
pub const MAX_TXN_BYTES: usize = MAX_VALUE_BYTES + (MAX_VALUE_BYTES >> 2);
/// The most conditions and the most actions of one transaction (etcd's `--max-txn-ops`).
pub const MAX_TXN_OPS: usize = 128;

/// A key with its value and its history in numbers. Of values `Debug` shows the length alone, here and below: those of
/// tasks hold credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The revision that made the key come to exist (again).
    pub create_revision: Revision,
    /// The revision that set this value.
    pub mod_revision: Revision,
    /// How often it was set since it was created, from 1.
    pub version: u64,
    /// The lease that it goes away with.
    pub lease: Option<LeaseId>,
}

/// Names a lease; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// What must hold for a transaction to be done.
#[derive(Clone, PartialEq, Eq)]
pub enum Condition {
    /// The key does not exist.
    Absent(Bytes),
    /// The key exists since that revision.
    CreateRevision(Bytes, Revision),
    /// The key was set last by that revision.
    ModRevision(Bytes, Revision),
    /// The key has that value.
    Value(Bytes, Bytes),
}

/// What a transaction does.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// The lease that it goes away with; without one it stays.
        lease: Option<LeaseId>,
    },
    /// Removes a key, if it is there.
    Delete(Bytes),
    /// Removes all keys that begin with it.
    DeletePrefix(Bytes),
}

/// All or nothing: the actions are done, in one revision, if all conditions hold. No two actions may touch one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub when: Vec<Condition>,
    /// What is done.
    pub then: Vec<Action>,
}

impl Txn {
    /// One that does nothing, always.
    pub fn new() -> Self {
        Txn::default()
    }

    /// With one more condition.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.when.push(condition);
        self
    }

    /// With one more key set.
    #[must_use]
    pub fn put(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.then.push(Action::Put { key: key.into(), value: value.into(), lease: None });
        self
    }

    /// With one more key set, that goes away with the lease.
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        self.then.push(Action::Put { key: key.into(), value: value.into(), lease: Some(lease) });
        self
    }

    /// With one more key removed.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Bytes>) -> Self {
        self.then.push(Action::Delete(key.into()));
        self
    }

    /// With all keys of one more prefix removed.
    #[must_use]
    pub fn delete_prefix(mut self, prefix: impl Into<Bytes>) -> Self {
        self.then.push(Action::DeletePrefix(prefix.into()));
        self
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnOutcome {
    /// True if the conditions held and the actions were done.
    pub succeeded: bool,
    /// The store's revision after it: the transaction's own one, if it changed something.
    pub revision: Revision,
}

/// What a watch saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key was set.
    Put(KeyValue),
    /// A key was removed, or its lease expired.
    Delete {
        /// The key.
        key: Bytes,
        /// By which revision.
        revision: Revision,
    },
    /// The store does not remember all that happened: this is what there is now. Events go on after it.
    Reset {
        /// The revision of the list.
        revision: Revision,
        /// All keys of the prefix, in order.
        entries: Vec<KeyValue>,
    },
}

impl Event {
    /// The revision that it belongs to.
    pub fn revision(&self) -> Revision {
        match self {
            Event::Put(kv) => kv.mod_revision,
            Event::Delete { revision, .. } | Event::Reset { revision, .. } => *revision,
        }
    }
}

/// Follows the keys of a prefix.
pub trait Watch: Send {
    /// The next events, in the order of their revisions, those of one revision together; empty if there are none
    /// within `wait`. After an error the same call may be made again: nothing is lost.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn next(&mut self, wait: Duration) -> Result<Vec<Event>, StoreError>;
}

/// The shared store. Every method may block for its IO, for seconds at the worst.
pub trait Store: Send + Sync {
    /// The key, if it exists.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError>;

    /// All keys that begin with `prefix`, in order, as they were at one revision, which is told too.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn list(&self, prefix: &[u8]) -> Result<(Vec<KeyValue>, Revision), StoreError>;

    /// Does a transaction, durably: when it returns, a crash does not undo it.
    ///
    /// # Errors
    /// [`StoreError::InvalidTxn`] or [`StoreError::LeaseGone`]: nothing was done. Others: the outcome is unknown.
    fn commit(&self, txn: Txn) -> Result<TxnOutcome, StoreError>;

    /// Follows the keys of `prefix`, beginning with what the revision `from` changed. To follow a list, give its
    /// revision + 1. If `from` is longer ago than the store remembers, the first event is [`Event::Reset`].
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// A new lease that lives for `ttl`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be written.
    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Lets a lease live for its ttl from now on.
    ///
    /// # Errors
    /// [`StoreError::LeaseGone`] if it has expired: its keys are gone.
    fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease and removes its keys; no error if it is gone.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be written.
    fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
}
