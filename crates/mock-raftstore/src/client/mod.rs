//! A Percolator client over [`crate::rpc::KvRpc`].
//!
//! Owns: transactions ([`Txn`]), reads at a timestamp ([`Snapshot`]), finding regions, retrying, resolving the locks of
//! others.
//! Does not own: a clock. Before every retry it calls the [`RetryHook`], which waits, steps a simulation, or gives up;
//! so a client that is driven by one thread does the same things every time.
//!
//! There is no deadlock detector and no heartbeat: a transaction has to end within the time to live of its locks, or
//! others may roll it back.

mod commit;
mod error;
mod import;
mod resolve;
mod retry;
mod route;
mod snapshot;
mod txn;

use std::collections::BTreeMap;
use std::sync::Arc;

use logtide_model::{RegionId, StoreId, Ts};
use parking_lot::Mutex;

use crate::rpc::KvRpc;

pub use commit::Prewritten;
pub use error::ClientError;
pub use retry::{Retry, RetryHook, RetryReason};
pub use snapshot::Snapshot;
pub use txn::{Txn, TxnOptions};

/// A client of one cluster. Cloning shares it.
#[derive(Clone)]
pub struct Client {
    rpc: Arc<dyn KvRpc>,
    hook: RetryHook,
    /// Leaders that stores told of, where they differ from what the directory says.
    leaders: Arc<Mutex<BTreeMap<RegionId, StoreId>>>,
}

impl Client {
    /// A client that waits between retries, on the thread that calls it: 1 ms, doubled up to 100 ms, 600 times.
    pub fn new(rpc: Arc<dyn KvRpc>) -> Self {
        Client::with_retry(rpc, retry::sleeping())
    }

    /// A client that asks `hook` before every retry.
    pub fn with_retry(rpc: Arc<dyn KvRpc>, hook: RetryHook) -> Self {
        Client { rpc, hook, leaders: Arc::default() }
    }

    /// Begins an optimistic transaction in two phases.
    ///
    /// # Errors
    /// [`ClientError::GaveUp`].
    pub fn begin(&self) -> Result<Txn, ClientError> {
        self.begin_with(TxnOptions::default())
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`ClientError::GaveUp`].
    pub fn begin_with(&self, options: TxnOptions) -> Result<Txn, ClientError> {
        Ok(Txn::new(self.clone(), self.timestamp()?, options))
    }

    /// A view of the cluster at `ts`.
    pub fn snapshot(&self, ts: Ts) -> Snapshot {
        Snapshot::new(self.clone(), ts)
    }

    /// A fresh timestamp.
    ///
    /// # Errors
    /// [`ClientError::GaveUp`].
    pub fn timestamp(&self) -> Result<Ts, ClientError> {
        let mut retry = self.retry("get a timestamp");
        loop {
            match self.rpc.tso() {
                Ok(ts) => return Ok(ts),
                Err(error) => retry.again(RetryReason::Region(&error))?,
            }
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
