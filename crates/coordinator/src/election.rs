//! Who the advancer is: the holder of a key that goes away with a lease.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::keys;
use crate::store::{Condition, LeaseId, Revision, Store, StoreError, Txn};

/// Takes part in the election of the advancer.
pub(crate) struct Election {
    store: Arc<dyn Store>,
    me: String,
    ttl: Duration,
    held: Option<Held>,
}

struct Held {
    lease: LeaseId,
    /// The revision that created the key for us.
    revision: Revision,
    renewed: Instant,
}

impl Election {
    pub(crate) fn new(store: Arc<dyn Store>, me: String, ttl: Duration) -> Self {
        Election { store, me, ttl, held: None }
    }

    /// Stays elected, or tries to be. What is done in this office must be conditional on what is returned.
    pub(crate) fn campaign(&mut self, now: Instant) -> Result<Option<Condition>, StoreError> {
        if let Some(held) = &mut self.held {
            if now.saturating_duration_since(held.renewed) < self.ttl / 3 {
                return Ok(Some(office(held.revision)));
            }
            match self.store.keep_alive(held.lease) {
                Ok(()) => {
                    held.renewed = now;
                    return Ok(Some(office(held.revision)));
                }
                Err(StoreError::LeaseGone(_)) => self.held = None,
                Err(e) => return Err(e),
            }
        }
        if self.store.get(keys::ADVANCER.as_bytes())?.is_some() {
            return Ok(None);
        }
        self.seize(now)
    }

    fn seize(&mut self, now: Instant) -> Result<Option<Condition>, StoreError> {
        let lease = self.store.grant(self.ttl)?;
        let key = Bytes::from_static(keys::ADVANCER.as_bytes());
        let txn = Txn::new().when(Condition::Absent(key.clone())).put_leased(key, self.me.clone(), lease);
        match self.store.commit(txn) {
            Ok(outcome) if outcome.succeeded => {
                self.held = Some(Held { lease, revision: outcome.revision, renewed: now });
                Ok(Some(office(outcome.revision)))
            }
            other => {
                // Another one was faster, or nobody knows: in both cases let go. If that fails, the lease expires.
                let _ = self.store.revoke(lease);
                other.map(|_| None)
            }
        }
    }

    /// Looks anew at the next campaign: the office was found to be lost.
    pub(crate) fn deposed(&mut self) {
        self.held = None;
    }

    /// Lets go, so that another one need not wait for the lease to expire.
    pub(crate) fn resign(&mut self) -> Result<(), StoreError> {
        match self.held.take() {
            Some(held) => self.store.revoke(held.lease),
            None => Ok(()),
        }
    }
}

fn office(revision: Revision) -> Condition {
    Condition::CreateRevision(Bytes::from_static(keys::ADVANCER.as_bytes()), revision)
}
