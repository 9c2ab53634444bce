//! Rollback: of locks that are there, and of transactions that must not come any more.

use logtide_model::Ts;
use logtide_model::mvcc::{Lock, LockKind, Write};

use super::changes::{Changes, UserKey};
use super::reader::{CommitRecord, Fail, MvccReader};
use crate::rpc::KeyError;

/// Rolls back one key of a transaction, whatever is there of it.
pub(crate) fn rollback(reader: MvccReader<'_>, changes: &mut Changes, key: &UserKey, start_ts: Ts) -> Result<(), Fail> {
    match reader.lock(key)? {
        Some(lock) if lock.start_ts == start_ts => rollback_lock(reader, changes, key, &lock),
        other => rollback_missing(reader, changes, key, start_ts, other, false).map(|_| ()),
    }
}

/// Rolls back a lock. The record that says so is protected from being collapsed where a late prewrite could succeed
/// without it: at the primary of a pessimistic transaction.
pub(crate) fn rollback_lock(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    key: &UserKey,
    lock: &Lock,
) -> Result<(), Fail> {
    let start_ts = lock.start_ts;
    match reader.commit_record(key, start_ts)? {
        CommitRecord::Committed(commit_ts) => {
            return Err(KeyError::Committed { key: key.raw.clone(), start_ts, commit_ts }.into());
        }
        CommitRecord::RolledBack => {}
        CommitRecord::Overlapping(marked) => changes.put_write_bytes(key, start_ts, marked),
        CommitRecord::None => {
            let protected = !lock.for_update_ts.is_zero() && key.raw == lock.primary;
            changes.put_write(key, start_ts, &Write::rollback(start_ts, protected));
        }
    }
    if lock.kind == LockKind::Put && lock.short_value.is_none() {
        changes.delete_value(key, start_ts);
    }
    collapse(reader, changes, key, start_ts)?;
    changes.unlock(key);
    Ok(())
}

/// Makes sure that a transaction that has no lock on a key never gets one. `other` is the lock that is there instead.
///
/// # Errors
/// [`KeyError::Committed`].
pub(crate) fn rollback_missing(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    key: &UserKey,
    start_ts: Ts,
    other: Option<Lock>,
    protected: bool,
) -> Result<(), Fail> {
    match reader.commit_record(key, start_ts)? {
        CommitRecord::Committed(commit_ts) => {
            return Err(KeyError::Committed { key: key.raw.clone(), start_ts, commit_ts }.into());
        }
        CommitRecord::RolledBack => return Ok(()),
        CommitRecord::Overlapping(marked) => changes.put_write_bytes(key, start_ts, marked),
        CommitRecord::None => {
            if let Some(lock) = other {
                note_rollback(changes, key, lock, start_ts);
            }
            changes.put_write(key, start_ts, &Write::rollback(start_ts, protected));
        }
    }
    if protected { Ok(()) } else { collapse(reader, changes, key, start_ts) }
}

/// Another transaction's lock may be committed at exactly this ts, over the rollback record: it has to know.
fn note_rollback(changes: &mut Changes, key: &UserKey, mut lock: Lock, start_ts: Ts) {
    if start_ts >= lock.min_commit_ts && !lock.rollback_ts.contains(&start_ts) {
        lock.rollback_ts.push(start_ts);
        changes.put_lock(key, &lock);
    }
}

/// Removes the rollback record before this one, unless it is protected: many rollbacks of a hot key leave one record.
fn collapse(reader: MvccReader<'_>, changes: &mut Changes, key: &UserKey, start_ts: Ts) -> Result<(), Fail> {
    let before = reader.walk(key, start_ts.prev(), |commit_ts, write| {
        let plain = write.kind == logtide_model::mvcc::WriteKind::Rollback && !write.is_protected();
        Some(plain.then_some(commit_ts))
    })?;
    if let Some(Some(commit_ts)) = before {
        changes.delete_write(key, commit_ts);
    }
    Ok(())
}
