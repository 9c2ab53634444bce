//! Commit.

use logtide_model::Ts;
use logtide_model::mvcc::{Lock, LockKind, Write};

use super::changes::{Changes, UserKey};
use super::prewrite::write_kind;
use super::reader::{CommitRecord, Fail, MvccReader};
use crate::rpc::KeyError;

/// Commits one key; a key that is committed already stays as it is. Returns where the transaction committed.
pub(crate) fn commit(
    reader: MvccReader<'_>,
    changes: &mut Changes,
    key: &UserKey,
    start_ts: Ts,
    commit_ts: Ts,
) -> Result<Ts, Fail> {
    match reader.lock(key)? {
        Some(lock) if lock.start_ts == start_ts => {
            if commit_ts < lock.min_commit_ts {
                let (key, min_commit_ts) = (key.raw.clone(), lock.min_commit_ts);
                return Err(KeyError::CommitTsExpired { key, start_ts, commit_ts, min_commit_ts }.into());
            }
            commit_lock(changes, key, &lock, commit_ts);
            Ok(commit_ts)
        }
        _ => match reader.commit_record(key, start_ts)? {
            CommitRecord::Committed(at) => Ok(at),
            CommitRecord::RolledBack => Err(KeyError::RolledBack { key: key.raw.clone(), start_ts }.into()),
            _ => Err(KeyError::LockNotFound { key: key.raw.clone(), start_ts }.into()),
        },
    }
}

/// Turns a lock into a commit record. A pessimistic lock has nothing to commit and only goes away: the transaction
/// found that it did not need it, and its rollback was lost.
pub(crate) fn commit_lock(changes: &mut Changes, key: &UserKey, lock: &Lock, commit_ts: Ts) {
    if lock.kind != LockKind::Pessimistic {
        let mut write = Write::new(write_kind(lock.kind), lock.start_ts, lock.short_value.as_deref());
        // The record takes the place of the rollback record of a transaction that began at this ts.
        write.overlapped_rollback = lock.rollback_ts.contains(&commit_ts);
        changes.put_write(key, commit_ts, &write);
    }
    changes.unlock(key);
}
