//! What became of a transaction: asked by whoever met one of its locks.

use logtide_model::mvcc::{Lock, LockKind};
use logtide_model::{Cf, KeyRange, Ts, decode_raw_key};

use super::changes::{Changes, UserKey};
use super::commit::commit_lock;
use super::reader::{CommitRecord, Fail, MvccReader, corrupt, lock_info};
use super::rollback::{rollback_lock, rollback_missing};
use crate::rpc::{CheckTxnStatus, KeyError, LockInfo, SecondaryStatus, TxnStatus};

pub(crate) fn check_txn_status(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    ask: &CheckTxnStatus,
) -> Result<TxnStatus, Fail> {
    let primary = UserKey::new(&ask.primary);
    match reader.lock(&primary)? {
        Some(lock) if lock.start_ts == ask.start_ts => check_locked(reader, changes, &primary, lock, ask),
        other => check_missing(reader, changes, &primary, other, ask),
    }
}

fn check_locked(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    primary: &UserKey,
    mut lock: Lock,
    ask: &CheckTxnStatus,
) -> Result<TxnStatus, Fail> {
    if lock.primary != primary.raw {
        return Err(KeyError::LockMismatch { key: primary.raw.clone(), start_ts: ask.start_ts }.into());
    }
    // Whether an async-commit transaction is committed lies with its secondaries too, so it is neither rolled back nor
    // pushed here.
    if lock.secondaries.is_some() && !ask.force_sync_commit {
        return Ok(TxnStatus::Locked { lock: lock_info(primary, lock), pushed: false });
    }
    if lock.start_ts.physical_ms().saturating_add(lock.ttl) < ask.current_ts.physical_ms() {
        rollback_lock(reader, changes, primary, &lock)?;
        return Ok(TxnStatus::RolledBack);
    }
    let caller = ask.caller_start_ts;
    if !caller.is_zero() && !lock.min_commit_ts.is_zero() && caller >= lock.min_commit_ts {
        lock.min_commit_ts = caller.next().max(ask.current_ts);
        changes.put_lock(primary, &lock);
    }
    let pushed = !caller.is_zero() && lock.min_commit_ts > caller;
    Ok(TxnStatus::Locked { lock: lock_info(primary, lock), pushed })
}

fn check_missing(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    primary: &UserKey,
    other: Option<Lock>,
    ask: &CheckTxnStatus,
) -> Result<TxnStatus, Fail> {
    let start_ts = ask.start_ts;
    match reader.commit_record(primary, start_ts)? {
        CommitRecord::Committed(commit_ts) => Ok(TxnStatus::Committed { commit_ts }),
        CommitRecord::RolledBack => Ok(TxnStatus::RolledBack),
        _ if !ask.rollback_if_missing => Err(KeyError::TxnNotFound { key: primary.raw.clone(), start_ts }.into()),
        _ => {
            rollback_missing(reader, changes, primary, start_ts, other, true)?;
            Ok(TxnStatus::RolledBack)
        }
    }
}

/// Looks at secondary keys of an async-commit transaction; one that is missing is kept from ever being there.
pub(crate) fn check_secondary_locks(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    keys: &[Vec<u8>],
    start_ts: Ts,
) -> Result<SecondaryStatus, Fail> {
    let mut locks = Vec::with_capacity(keys.len());
    for raw in keys {
        let key = UserKey::new(raw);
        match check_secondary(reader, changes, &key, start_ts)? {
            SecondaryStatus::Locked(found) => locks.extend(found),
            decided => return Ok(decided),
        }
    }
    Ok(SecondaryStatus::Locked(locks))
}

fn check_secondary(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    key: &UserKey,
    start_ts: Ts,
) -> Result<SecondaryStatus, Fail> {
    match reader.lock(key)? {
        Some(lock) if lock.start_ts == start_ts && lock.kind != LockKind::Pessimistic => {
            Ok(SecondaryStatus::Locked(vec![lock_info(key, lock)]))
        }
        Some(lock) if lock.start_ts == start_ts => {
            changes.unlock(key);
            protect(reader, changes, key, start_ts, None)
        }
        other => protect(reader, changes, key, start_ts, other),
    }
}

/// Leaves a protected rollback record, unless the transaction was ended on this key before.
fn protect(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    key: &UserKey,
    start_ts: Ts,
    other: Option<Lock>,
) -> Result<SecondaryStatus, Fail> {
    if let CommitRecord::Committed(commit_ts) = reader.commit_record(key, start_ts)? {
        return Ok(SecondaryStatus::Committed { commit_ts });
    }
    rollback_missing(reader, changes, key, start_ts, other, true)?;
    Ok(SecondaryStatus::RolledBack)
}

/// Ends a transaction on the given keys, or (if there are none) on all that it has locked in the region.
pub(crate) fn resolve_lock(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    start_ts: Ts,
    commit_ts: Option<Ts>,
    keys: &[Vec<u8>],
) -> Result<(), Fail> {
    let keys =
        if keys.is_empty() { locked_keys(reader, start_ts)? } else { keys.iter().map(|k| UserKey::new(k)).collect() };
    for key in keys {
        match (reader.lock(&key)?, commit_ts) {
            (Some(lock), Some(commit_ts)) if lock.start_ts == start_ts => commit_lock(changes, &key, &lock, commit_ts),
            (Some(lock), None) if lock.start_ts == start_ts => rollback_lock(reader, changes, &key, &lock)?,
            // Somebody resolved it in the meantime.
            (_, Some(_)) => {}
            (other, None) => rollback_missing(reader, changes, &key, start_ts, other, false)?,
        }
    }
    Ok(())
}

/// The keys of the region that a transaction has locked.
fn locked_keys(reader: MvccReader<'_>, start_ts: Ts) -> Result<Vec<UserKey>, Fail> {
    let mut keys = Vec::new();
    let mut iter = reader.snapshot.iter(Cf::Lock, &KeyRange::ALL)?;
    while iter.next()? {
        let (_, ts) = Lock::peek(iter.value()).map_err(|e| corrupt(iter.key(), e))?;
        if ts == start_ts {
            let raw = decode_raw_key(iter.key()).map_err(|e| corrupt(iter.key(), e))?;
            keys.push(UserKey { raw, encoded: iter.key().to_vec() });
        }
    }
    Ok(keys)
}

/// The locks of a key that a reader at `ts` has to wait for.
pub(crate) fn blocks(lock: &LockInfo, ts: Ts, bypass: &[Ts]) -> bool {
    !lock.pessimistic && lock.start_ts <= ts && lock.min_commit_ts <= ts && !bypass.contains(&lock.start_ts)
}
