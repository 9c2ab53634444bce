//! The state machine of a store: transactions in, changes out. No IO and no clock.
//!
//! A transaction is first turned into a [`Change`] (which a persistent store writes down), then the change is
//! applied; replaying the changes gives the same state.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

use crate::store::log::EventLog;
use crate::store::{
    Action, Condition, Event, KeyValue, LeaseId, MAX_TXN_BYTES, MAX_TXN_OPS, MAX_VALUE_BYTES, Revision, StoreError, Txn,
};

/// How long a lease has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) ttl_ms: u64,
    pub(crate) expires_ms: u64,
}

impl Lease {
    /// A lease with more than its ttl left was given before the clock jumped back: nobody may wait for it.
    fn expired(&self, now_ms: u64) -> bool {
        now_ms >= self.expires_ms || self.expires_ms - now_ms > self.ttl_ms
    }
}

/// A change, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The store's revision after it.
    pub(crate) revision: Revision,
    pub(crate) ops: Vec<Op>,
}

/// A part of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put { key: Bytes, value: Bytes, lease: Option<LeaseId> },
    Delete(Bytes),
    Lease(LeaseId, Lease),
    DropLease(LeaseId),
}

/// What a transaction comes to.
pub(crate) enum Prepared {
    /// A condition does not hold.
    Refused,
    /// Nothing to do.
    Nothing,
    Change(Change),
}

/// Keys, leases and the latest events.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) keys: BTreeMap<Bytes, KeyValue>,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    /// The last lease id given.
    pub(crate) last_lease: u64,
    events: EventLog,
}

impl State {
    /// A state read back from a snapshot: what led to it is not known.
    pub(crate) fn restored(
        revision: Revision,
        keys: BTreeMap<Bytes, KeyValue>,
        leases: BTreeMap<LeaseId, Lease>,
        last_lease: u64,
    ) -> Self {
        State { revision, keys, leases, last_lease, events: EventLog::starting_after(revision) }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.keys.get(key).cloned()
    }

    pub(crate) fn list(&self, prefix: &[u8]) -> Vec<KeyValue> {
        self.with_prefix(prefix).cloned().collect()
    }

    fn with_prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a KeyValue> {
        let range = (Bound::Included(prefix), Bound::Unbounded);
        self.keys.range::<[u8], _>(range).map(|(_, kv)| kv).take_while(move |kv| kv.key.starts_with(prefix))
    }

    /// The events of `from` and later under a prefix; a reset if some of them are forgotten.
    pub(crate) fn events_since(&self, prefix: &[u8], from: Revision) -> Vec<Event> {
        if from > self.revision {
            return Vec::new();
        }
        match self.events.since(from) {
            Some(events) => events.filter(|e| key_of(e).is_some_and(|k| k.starts_with(prefix))).cloned().collect(),
            None => vec![Event::Reset { revision: self.revision, entries: self.list(prefix) }],
        }
    }

    /// Decides a transaction.
    pub(crate) fn prepare(&self, txn: Txn) -> Result<Prepared, StoreError> {
        check(&txn)?;
        if !txn.when.iter().all(|c| self.holds(c)) {
            return Ok(Prepared::Refused);
        }
        let mut ops = Vec::with_capacity(txn.then.len());
        for action in txn.then {
            match action {
                Action::Put { key, value, lease } => {
                    if let Some(id) = lease.filter(|id| !self.leases.contains_key(id)) {
                        return Err(StoreError::LeaseGone(id));
                    }
                    ops.push(Op::Put { key, value, lease });
                }
                Action::Delete(key) => ops.extend(self.keys.contains_key(&key).then_some(Op::Delete(key))),
                Action::DeletePrefix(p) => ops.extend(self.with_prefix(&p).map(|kv| Op::Delete(kv.key.clone()))),
            }
        }
        if ops.is_empty() {
            return Ok(Prepared::Nothing);
        }
        Ok(Prepared::Change(Change { revision: self.revision + 1, ops }))
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Absent(key) => !self.keys.contains_key(key),
            Condition::CreateRevision(key, r) => self.keys.get(key).is_some_and(|kv| kv.create_revision == *r),
            Condition::ModRevision(key, r) => self.keys.get(key).is_some_and(|kv| kv.mod_revision == *r),
            Condition::Value(key, value) => self.keys.get(key).is_some_and(|kv| kv.value == *value),
        }
    }

    /// A new lease.
    pub(crate) fn grant(&self, ttl: Duration, now_ms: u64) -> (LeaseId, Change) {
        let id = LeaseId(self.last_lease + 1);
        let ttl_ms = (ttl.as_millis() as u64).max(1);
        let lease = Lease { ttl_ms, expires_ms: now_ms.saturating_add(ttl_ms) };
        (id, Change { revision: self.revision, ops: vec![Op::Lease(id, lease)] })
    }

    /// A longer life for a lease.
    pub(crate) fn keep_alive(&self, id: LeaseId, now_ms: u64) -> Result<Change, StoreError> {
        let lease = self.leases.get(&id).ok_or(StoreError::LeaseGone(id))?;
        let lease = Lease { expires_ms: now_ms.saturating_add(lease.ttl_ms), ..*lease };
        Ok(Change { revision: self.revision, ops: vec![Op::Lease(id, lease)] })
    }

    /// The end of a lease.
    pub(crate) fn revoke(&self, id: LeaseId) -> Option<Change> {
        self.leases.contains_key(&id).then(|| self.end_leases(&[id]))
    }

    /// The end of all leases that have expired.
    pub(crate) fn expire(&self, now_ms: u64) -> Option<Change> {
        let gone: Vec<LeaseId> = self.leases.iter().filter(|(_, l)| l.expired(now_ms)).map(|(id, _)| *id).collect();
        (!gone.is_empty()).then(|| self.end_leases(&gone))
    }

    fn end_leases(&self, gone: &[LeaseId]) -> Change {
        let held = self.keys.values().filter(|kv| kv.lease.is_some_and(|id| gone.contains(&id)));
        let mut ops: Vec<Op> = held.map(|kv| Op::Delete(kv.key.clone())).collect();
        let revision = self.revision + u64::from(!ops.is_empty());
        ops.extend(gone.iter().map(|id| Op::DropLease(*id)));
        Change { revision, ops }
    }

    /// Makes a change true.
    pub(crate) fn apply(&mut self, change: Change) {
        let mut events = Vec::new();
        for op in change.ops {
            match op {
                Op::Put { key, value, lease } => {
                    let kv = self.put(key, value, lease, change.revision);
                    events.push(Event::Put(kv));
                }
                Op::Delete(key) => {
                    if self.keys.remove(&key).is_some() {
                        events.push(Event::Delete { key, revision: change.revision });
                    }
                }
                Op::Lease(id, lease) => {
                    self.last_lease = self.last_lease.max(id.0);
                    self.leases.insert(id, lease);
                }
                Op::DropLease(id) => {
                    self.leases.remove(&id);
                }
            }
        }
        self.revision = change.revision;
        if !events.is_empty() {
            self.events.push(change.revision, events);
        }
    }

    fn put(&mut self, key: Bytes, value: Bytes, lease: Option<LeaseId>, revision: Revision) -> KeyValue {
        let (create_revision, version) =
            self.keys.get(&key).map_or((revision, 1), |old| (old.create_revision, old.version + 1));
        let kv = KeyValue { key: key.clone(), value, create_revision, mod_revision: revision, version, lease };
        self.keys.insert(key, kv.clone());
        kv
    }
}

fn key_of(event: &Event) -> Option<&Bytes> {
    match event {
        Event::Put(kv) => Some(&kv.key),
        Event::Delete { key, .. } => Some(key),
        Event::Reset { .. } => None,
    }
}

/// The rules that every store has, etcd's among them: sizes, and no two actions on one key.
fn check(txn: &Txn) -> Result<(), StoreError> {
    if txn.when.len() > MAX_TXN_OPS || txn.then.len() > MAX_TXN_OPS {
        return Err(StoreError::InvalidTxn(format!("it has more than {MAX_TXN_OPS} conditions or actions")));
    }
    let (mut bytes, mut puts, mut deletes, mut prefixes) = (0, Vec::new(), Vec::new(), Vec::new());
    for action in &txn.then {
        match action {
            Action::Put { key, value, .. } => {
                if value.len() > MAX_VALUE_BYTES {
                    return Err(StoreError::InvalidTxn(format!("a value has {} bytes", value.len())));
                }
                bytes += key.len() + value.len();
                puts.push(key);
            }
            Action::Delete(key) => deletes.push(key),
            Action::DeletePrefix(prefix) => prefixes.push(prefix),
        }
    }
    if bytes > MAX_TXN_BYTES {
        return Err(StoreError::InvalidTxn(format!("it has {bytes} bytes, more than {MAX_TXN_BYTES}")));
    }
    let mut named: Vec<&Bytes> = puts.iter().chain(&deletes).copied().collect();
    named.sort();
    let twice = named.windows(2).any(|pair| pair[0] == pair[1]);
    if twice || puts.iter().any(|key| prefixes.iter().any(|p| key.starts_with(p))) {
        return Err(StoreError::InvalidTxn("two of its actions touch the same key".to_owned()));
    }
    Ok(())
}
