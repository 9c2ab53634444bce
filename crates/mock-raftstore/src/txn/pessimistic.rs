//! Pessimistic locks.

use bytes::Bytes;
use logtide_model::Ts;
use logtide_model::mvcc::{Lock, LockKind, WriteKind};

use super::changes::{Changes, UserKey};
use super::reader::{Fail, MvccReader, lock_info};
use crate::rpc::KeyError;

/// Who locks, and for when.
pub(crate) struct Acquire<'a> {
    pub(crate) primary: &'a [u8],
    pub(crate) start_ts: Ts,
    pub(crate) for_update_ts: Ts,
    pub(crate) ttl: u64,
}

/// Locks one key; returns its value as of `for_update_ts`, which is its newest.
pub(crate) fn acquire(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    key: &UserKey,
    by: &Acquire<'_>,
) -> Result<Option<Bytes>, Fail> {
    let own = match reader.lock(key)? {
        Some(lock) if lock.start_ts != by.start_ts => return Err(KeyError::Locked(lock_info(key, lock)).into()),
        Some(lock) if lock.kind != LockKind::Pessimistic || lock.primary != by.primary => {
            return Err(KeyError::LockMismatch { key: key.raw.clone(), start_ts: by.start_ts }.into());
        }
        own => own,
    };
    if own.is_none() {
        check_free(reader, key, by)?;
    }
    if own.as_ref().is_none_or(|lock| lock.for_update_ts < by.for_update_ts) {
        changes.put_lock(key, &lock_for(by, own));
    }
    reader.value(key, by.for_update_ts)
}

/// Checks that nobody committed above `for_update_ts`, and that the transaction was not rolled back on this key.
fn check_free(reader: MvccReader<'_>, key: &UserKey, by: &Acquire<'_>) -> Result<(), Fail> {
    let start_ts = by.start_ts;
    let error = reader.walk(key, Ts::MAX, |commit_ts, write| {
        if commit_ts == start_ts && (write.kind == WriteKind::Rollback || write.overlapped_rollback) {
            return Some(Some(KeyError::RolledBack { key: key.raw.clone(), start_ts }));
        }
        if commit_ts > by.for_update_ts {
            return Some(Some(KeyError::WriteConflict {
                key: key.raw.clone(),
                start_ts,
                conflict_start_ts: write.start_ts,
                conflict_commit_ts: commit_ts,
            }));
        }
        // Versions down to the start ts are of no concern but for a rollback record there.
        (commit_ts <= start_ts).then_some(None)
    })?;
    match error.flatten() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

fn lock_for(by: &Acquire<'_>, own: Option<Lock>) -> Lock {
    let mut lock = Lock::new(LockKind::Pessimistic, by.primary, by.start_ts, by.ttl);
    lock.for_update_ts = by.for_update_ts;
    lock.min_commit_ts = by.for_update_ts.next();
    if let Some(own) = own {
        lock.ttl = lock.ttl.max(own.ttl);
        lock.min_commit_ts = lock.min_commit_ts.max(own.min_commit_ts);
        lock.rollback_ts = own.rollback_ts;
    }
    lock
}

/// Gives one pessimistic lock back, unless it was taken for a later ts.
pub(crate) fn release(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    key: &UserKey,
    start_ts: Ts,
    for_update_ts: Ts,
) -> Result<(), Fail> {
    let own = reader.lock(key)?.filter(|l| l.start_ts == start_ts && l.kind == LockKind::Pessimistic);
    if own.is_some_and(|l| l.for_update_ts <= for_update_ts) {
        changes.unlock(key);
    }
    Ok(())
}
