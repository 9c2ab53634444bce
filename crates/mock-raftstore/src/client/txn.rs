//! Transactions up to their commit.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use logtide_model::Ts;

use super::commit::{Prewritten, prewrite};
use super::resolve::Resolved;
use super::retry::{Attempts, RetryReason};
use super::{Client, ClientError, Snapshot};
use crate::rpc::{Command, KeyError, KvResponse, MutationKind};

/// How a transaction goes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnOptions {
    /// [`Txn::lock`] takes locks at once, instead of finding conflicts when it commits.
    pub pessimistic: bool,
    /// Committed when all keys are prewritten, if it has few keys.
    pub async_commit: bool,
    /// Committed by one command, if all keys are in one region.
    pub one_pc: bool,
    /// How long its locks live, from its start ts. Default: 3000 ms, as TiDB's.
    pub lock_ttl_ms: u64,
    /// Bytes of keys and values in one command. Default: 256 KiB.
    pub batch_bytes: usize,
}

impl Default for TxnOptions {
    fn default() -> Self {
        TxnOptions { pessimistic: false, async_commit: false, one_pc: false, lock_ttl_ms: 3000, batch_bytes: 256 << 10 }
    }
}

/// A transaction. Its writes stay with the client until it commits; reads are as of its start, and see its own writes.
///
/// Dropping it leaves its pessimistic locks to those who meet them; [`Txn::rollback`] does not.
#[derive(Debug)]
pub struct Txn {
    pub(crate) client: Client,
    pub(crate) start_ts: Ts,
    pub(crate) options: TxnOptions,
    snapshot: Snapshot,
    pub(crate) writes: BTreeMap<Vec<u8>, MutationKind>,
    /// Keys with a pessimistic lock.
    pub(crate) locked: BTreeSet<Vec<u8>>,
    /// The first key that was locked.
    pub(crate) primary: Option<Vec<u8>>,
    /// Zero without pessimistic locks.
    pub(crate) for_update_ts: Ts,
}

impl Txn {
    pub(crate) fn new(client: Client, start_ts: Ts, options: TxnOptions) -> Self {
        Txn {
            snapshot: client.snapshot(start_ts),
            client,
            start_ts,
            options,
            writes: BTreeMap::new(),
            locked: BTreeSet::new(),
            primary: None,
            for_update_ts: Ts::ZERO,
        }
    }

    /// Its start ts, by which it is known.
    pub fn start_ts(&self) -> Ts {
        self.start_ts
    }

    /// The value of a raw key.
    ///
    /// # Errors
    /// [`ClientError::GaveUp`].
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, ClientError> {
        match self.writes.get(key) {
            Some(MutationKind::Put(value)) => Ok(Some(value.clone())),
            Some(MutationKind::Delete) => Ok(None),
            Some(MutationKind::Lock) | None => self.snapshot.get(key),
        }
    }

    /// The pairs with raw keys in `[start, end)` (an empty end is +inf), ascending, at most `limit`.
    ///
    /// # Errors
    /// [`ClientError::GaveUp`].
    pub fn scan(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>, ClientError> {
        let inside = |key: &[u8]| key >= start && (end.is_empty() || key < end);
        let own: Vec<_> = self.writes.iter().filter(|(key, _)| inside(key)).collect();
        // Each own delete can hide one pair.
        let deletes = own.iter().filter(|(_, kind)| **kind == MutationKind::Delete).count();
        let pairs = self.snapshot.scan(start, end, limit.saturating_add(deletes))?;
        let mut merged: BTreeMap<Vec<u8>, Bytes> = pairs.into_iter().collect();
        for (key, kind) in own {
            match kind {
                MutationKind::Put(value) => drop(merged.insert(key.clone(), value.clone())),
                MutationKind::Delete => drop(merged.remove(key)),
                MutationKind::Lock => {}
            }
        }
        Ok(merged.into_iter().take(limit).collect())
    }

    /// Sets a raw key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        self.writes.insert(key.into(), MutationKind::Put(value.into()));
    }

    /// Removes a raw key.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.writes.insert(key.into(), MutationKind::Delete);
    }

    /// Locks raw keys against changes by others, and returns their values.
    ///
    /// A pessimistic transaction takes the locks now, and the values are the *newest* ones; what it writes to keys that
    /// it has not locked conflicts as in an optimistic transaction. An optimistic one reads as of its start, and finds
    /// conflicts when it commits.
    ///
    /// # Errors
    /// [`ClientError::RolledBack`] if others rolled the transaction back; [`ClientError::GaveUp`].
    pub fn lock(&mut self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, ClientError> {
        let mut values = BTreeMap::new();
        if self.options.pessimistic {
            let sorted: BTreeSet<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
            values = self.acquire(sorted.into_iter().collect())?;
        }
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(match (self.writes.get(*key), values.get(*key)) {
                (None | Some(MutationKind::Lock), Some(value)) => value.clone(),
                _ => self.get(key)?,
            });
            if !self.options.pessimistic {
                self.writes.entry(key.to_vec()).or_insert(MutationKind::Lock);
            }
        }
        Ok(found)
    }

    /// Takes pessimistic locks; keys ascending.
    fn acquire(&mut self, keys: Vec<Vec<u8>>) -> Result<BTreeMap<Vec<u8>, Option<Bytes>>, ClientError> {
        let client = self.client.clone();
        let Some(first) = keys.first() else { return Ok(BTreeMap::new()) };
        let primary = self.primary.get_or_insert_with(|| first.clone()).clone();
        // From here on the keys may be locked, whatever is answered.
        self.locked.extend(keys.iter().cloned());
        self.for_update_ts = self.for_update_ts.max(client.timestamp()?);
        let (start_ts, ttl) = (self.start_ts, self.options.lock_ttl_ms);
        let for_update_ts = std::cell::Cell::new(self.for_update_ts);
        let mut waits = client.retry("lock keys");
        let mut values = BTreeMap::new();
        let outcome = client.each_group(
            &mut client.retry("lock keys"),
            keys,
            self.options.batch_bytes,
            &mut |keys| Command::PessimisticLock {
                keys: keys.to_vec(),
                primary: primary.clone(),
                start_ts,
                for_update_ts: for_update_ts.get(),
                ttl,
            },
            &mut |keys, response| match response {
                KvResponse::PessimisticLock { values: found } => {
                    values.extend(keys.into_iter().zip(found));
                    Ok(Vec::new())
                }
                KvResponse::Errors(errors) => {
                    for error in errors {
                        if let KeyError::WriteConflict { .. } = &error {
                            waits.again(RetryReason::Key(&error))?;
                            for_update_ts.set(client.timestamp()?);
                        } else {
                            client.make_way(&mut waits, error, start_ts)?;
                        }
                    }
                    Ok(keys)
                }
                other => Err(ClientError::unexpected("a pessimistic lock", &other)),
            },
        );
        self.for_update_ts = for_update_ts.get();
        outcome.map(|()| values)
    }

    /// Prewrites its keys and leaves it at that: undecided, but for 1PC and async commit. Tests use it to leave a
    /// transaction on the way.
    ///
    /// # Errors
    /// As [`Txn::commit`].
    pub fn prewrite(self) -> Result<Prewritten, ClientError> {
        prewrite(self)
    }

    /// Commits, and returns where; a transaction that changes nothing returns its start ts.
    ///
    /// # Errors
    /// [`ClientError::RolledBack`]: begin anew; [`ClientError::GaveUp`]: it is not committed;
    /// [`ClientError::Undetermined`]: it may be committed, now or later.
    pub fn commit(self) -> Result<Ts, ClientError> {
        self.prewrite()?.commit()
    }

    /// Gives it up, with its pessimistic locks.
    ///
    /// # Errors
    /// [`ClientError::GaveUp`]; the locks are left to those who meet them then.
    pub fn rollback(self) -> Result<(), ClientError> {
        let (start_ts, for_update_ts) = (self.start_ts, self.for_update_ts);
        self.client.each_group(
            &mut self.client.retry("give pessimistic locks back"),
            self.locked.into_iter().collect(),
            self.options.batch_bytes,
            &mut |keys| Command::PessimisticRollback { keys: keys.to_vec(), start_ts, for_update_ts },
            &mut |_, response| match response {
                KvResponse::Done => Ok(Vec::new()),
                other => Err(ClientError::unexpected("a pessimistic rollback", &other)),
            },
        )
    }
}

impl Client {
    /// Gets the lock out of a writer's way that an error tells of; any other error ends the transaction.
    pub(crate) fn make_way(&self, waits: &mut Attempts<'_>, error: KeyError, start_ts: Ts) -> Result<(), ClientError> {
        match error {
            KeyError::Locked(lock) => match self.resolve(&lock, Ts::ZERO)? {
                Resolved::Gone => Ok(()),
                Resolved::Pass | Resolved::Wait => waits.again(RetryReason::Locked(&lock)),
            },
            cause => Err(ClientError::RolledBack { start_ts, cause }),
        }
    }
}
