//! What stores have in common that keep their state in this process: what each of their calls does, and watches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::store::{
    Change, Event, KeyValue, LeaseId, Prepared, Revision, State, Store, StoreError, Txn, TxnOutcome, Watch,
};

/// A state in this process, alone or beside those of other processes.
pub(crate) trait Replica: Send + Sync {
    /// Shows the present state, without expired leases.
    fn read<R>(&self, f: impl FnOnce(&State) -> R) -> Result<R, StoreError>;
    /// Runs `f` on the present state, at a time in milliseconds, and makes the change that it returns.
    fn update<R>(
        &self,
        f: impl FnOnce(&State, u64) -> Result<(R, Option<Change>), StoreError>,
    ) -> Result<R, StoreError>;
    /// Returns when the state is newer than `seen`, or may be, or after `wait`; it need not wait so long.
    fn wait(&self, seen: Revision, wait: Duration);
}

/// A store that is a handle of a [`Replica`].
pub(crate) trait Local: Send + Sync {
    /// What it is a handle of.
    type Replica: Replica + 'static;
    fn replica(&self) -> &Arc<Self::Replica>;
}

impl<L: Local> Store for L {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.replica().read(|state| state.get(key))
    }

    fn list(&self, prefix: &[u8]) -> Result<(Vec<KeyValue>, Revision), StoreError> {
        self.replica().read(|state| (state.list(prefix), state.revision))
    }

    fn commit(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.replica().update(|state, _| Ok(settle(state.prepare(txn)?, state.revision)))
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        Ok(Box::new(StateWatch::new(self.replica().clone(), prefix, from)))
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.replica().update(|state, now| {
            let (id, change) = state.grant(ttl, now);
            Ok((id, Some(change)))
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.replica().update(|state, now| Ok(((), Some(state.keep_alive(lease, now)?))))
    }

    fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.replica().update(|state, _| Ok(((), state.revoke(lease))))
    }
}

/// What to answer to a transaction, and what to apply, at `revision`.
fn settle(prepared: Prepared, revision: Revision) -> (TxnOutcome, Option<Change>) {
    match prepared {
        Prepared::Refused => (TxnOutcome { succeeded: false, revision }, None),
        Prepared::Nothing => (TxnOutcome { succeeded: true, revision }, None),
        Prepared::Change(c) => (TxnOutcome { succeeded: true, revision: c.revision }, Some(c)),
    }
}

/// Follows a prefix of a [`Replica`].
struct StateWatch<R> {
    replica: Arc<R>,
    prefix: Bytes,
    next: Revision,
}

impl<R: Replica> StateWatch<R> {
    fn new(replica: Arc<R>, prefix: &[u8], from: Revision) -> Self {
        StateWatch { replica, prefix: Bytes::copy_from_slice(prefix), next: from.max(1) }
    }
}

impl<R: Replica> Watch for StateWatch<R> {
    fn next(&mut self, wait: Duration) -> Result<Vec<Event>, StoreError> {
        let start = Instant::now();
        loop {
            let (events, seen) =
                self.replica.read(|state| (state.events_since(&self.prefix, self.next), state.revision))?;
            self.next = self.next.max(seen + 1);
            if !events.is_empty() {
                return Ok(events);
            }
            let Some(left) = wait.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
                return Ok(events);
            };
            self.replica.wait(seen, left);
        }
    }
}
