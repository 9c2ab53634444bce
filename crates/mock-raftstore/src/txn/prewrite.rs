//! Prewrite, with async commit and 1PC.

use bytes::Bytes;
use logtide_model::mvcc::{Lock, LockKind, Write, WriteKind};
use logtide_model::{KvSnapshot, Ts};

use super::changes::{Changes, SHORT_VALUE_MAX, UserKey};
use super::reader::{CommitRecord, Fail, MvccReader, lock_info};
use crate::concurrency::{ConcurrencyManager, KeyGuard};
use crate::rpc::{KeyError, KvResponse, LockInfo, Mutation, MutationKind, Prewrite};

/// A key that is to be locked, or written at once.
struct Pending {
    key: UserKey,
    lock: Lock,
    /// A value too long for the lock.
    value: Option<Bytes>,
    /// True if it replaces the transaction's pessimistic lock.
    replaces: bool,
    guard: Option<KeyGuard>,
}

/// What a prewrite found at a key.
enum Found {
    /// The key is free, or pessimistically locked by the transaction.
    Free(Option<Lock>),
    /// It is prewritten already; with async commit, its smallest commit ts.
    Prewritten(Option<Ts>),
    /// Another transaction has locked it.
    Locked(LockInfo),
}

pub(crate) fn prewrite(
    request: &Prewrite,
    snapshot: &dyn KvSnapshot,
    concurrency: &ConcurrencyManager,
) -> Result<(Changes, KvResponse), Fail> {
    let reader = MvccReader { snapshot };
    let mut pending = Vec::new();
    let mut locked = Vec::new();
    let mut repeated = Repeated::default();
    for mutation in &request.mutations {
        let key = UserKey::new(&mutation.key);
        match look(request, mutation, &key, reader)? {
            Found::Prewritten(min_commit_ts) => repeated.see(min_commit_ts),
            Found::Free(own) => pending.push(lock_for(request, mutation, key, own)),
            Found::Locked(lock) => locked.push(KeyError::Locked(lock)),
        }
    }
    // Every lock in the way is told at once, so that the client can resolve them together.
    if locked.is_empty() { Ok(finish(request, concurrency, pending, repeated)) } else { Err(Fail::Keys(locked)) }
}

/// Keys that an earlier attempt has prewritten.
#[derive(Default)]
struct Repeated {
    any: bool,
    /// One of them was locked for 2PC.
    fell_back: bool,
    min_commit_ts: Ts,
}

impl Repeated {
    fn see(&mut self, min_commit_ts: Option<Ts>) {
        self.any = true;
        match min_commit_ts {
            Some(ts) => self.min_commit_ts = self.min_commit_ts.max(ts),
            None => self.fell_back = true,
        }
    }
}

fn look(request: &Prewrite, mutation: &Mutation, key: &UserKey, reader: MvccReader<'_>) -> Result<Found, Fail> {
    let start_ts = request.start_ts;
    let mismatch = || KeyError::LockMismatch { key: key.raw.clone(), start_ts };
    match reader.lock(key)? {
        Some(lock) if lock.start_ts != start_ts && mutation.pessimistic => Err(lost(request, key, reader)?.into()),
        Some(lock) if lock.start_ts != start_ts => Ok(Found::Locked(lock_info(key, lock))),
        Some(lock) if lock.primary != request.primary => Err(mismatch().into()),
        Some(lock) if lock.kind == LockKind::Pessimistic => {
            if request.for_update_ts.is_zero() {
                return Err(mismatch().into());
            }
            Ok(Found::Free(Some(lock)))
        }
        Some(lock) => Ok(Found::Prewritten(lock.secondaries.is_some().then_some(lock.min_commit_ts))),
        None if mutation.pessimistic => Err(lost(request, key, reader)?.into()),
        None => check_newer(request, key, reader).map(|()| Found::Free(None)),
    }
}

/// Why the pessimistic lock of a key is not there.
fn lost(request: &Prewrite, key: &UserKey, reader: MvccReader<'_>) -> Result<KeyError, Fail> {
    let start_ts = request.start_ts;
    let record = reader.commit_record(key, start_ts)?;
    let key = key.raw.clone();
    Ok(match record {
        CommitRecord::Committed(commit_ts) => KeyError::Committed { key, start_ts, commit_ts },
        CommitRecord::RolledBack => KeyError::RolledBack { key, start_ts },
        _ => KeyError::PessimisticLockNotFound { key, start_ts },
    })
}

/// Checks that nobody committed on a key since the transaction began, and that it was not ended before.
fn check_newer(request: &Prewrite, key: &UserKey, reader: MvccReader<'_>) -> Result<(), Fail> {
    let start_ts = request.start_ts;
    let newest = reader.walk(key, Ts::MAX, |commit_ts, write| {
        Some((commit_ts, write.start_ts, write.kind == WriteKind::Rollback || write.overlapped_rollback))
    })?;
    match newest {
        Some((commit_ts, _, rollback)) if commit_ts == start_ts && rollback => {
            Err(KeyError::RolledBack { key: key.raw.clone(), start_ts }.into())
        }
        Some((conflict_commit_ts, conflict_start_ts, _)) if conflict_commit_ts > start_ts => {
            Err(match lost(request, key, reader)? {
                KeyError::PessimisticLockNotFound { key, .. } => {
                    KeyError::WriteConflict { key, start_ts, conflict_start_ts, conflict_commit_ts }
                }
                ended => ended,
            }
            .into())
        }
        _ => Ok(()),
    }
}

fn lock_for(request: &Prewrite, mutation: &Mutation, key: UserKey, own: Option<Lock>) -> Pending {
    let (kind, value) = match &mutation.kind {
        MutationKind::Put(value) => (LockKind::Put, Some(value)),
        MutationKind::Delete => (LockKind::Delete, None),
        MutationKind::Lock => (LockKind::Lock, None),
    };
    let mut lock = Lock::new(kind, request.primary.clone(), request.start_ts, request.ttl);
    lock.txn_size = request.txn_size;
    lock.for_update_ts = request.for_update_ts;
    lock.min_commit_ts = request.min_commit_ts.max(request.start_ts.next()).max(request.for_update_ts.next());
    if let Some(own) = &own {
        lock.ttl = lock.ttl.max(own.ttl);
        lock.min_commit_ts = lock.min_commit_ts.max(own.min_commit_ts);
        lock.rollback_ts.clone_from(&own.rollback_ts);
    }
    let short = value.is_some_and(|v| v.len() <= SHORT_VALUE_MAX);
    lock.short_value = value.filter(|_| short).map(|v| v.to_vec());
    Pending { key, lock, value: value.filter(|_| !short).cloned(), replaces: own.is_some(), guard: None }
}

fn finish(
    request: &Prewrite,
    concurrency: &ConcurrencyManager,
    mut pending: Vec<Pending>,
    repeated: Repeated,
) -> (Changes, KvResponse) {
    let one_pc = request.one_pc && !repeated.any;
    let own_ts = (one_pc || request.async_commit) && !repeated.fell_back;
    let min_commit_ts = if own_ts { register(request, concurrency, &mut pending, &repeated) } else { None };
    let mut changes = Changes::default();
    let one_pc_commit_ts = min_commit_ts.filter(|_| one_pc);
    for p in pending {
        if let Some(value) = p.value {
            changes.put_value(&p.key, request.start_ts, value);
        }
        match one_pc_commit_ts {
            Some(commit_ts) => write_at_once(&mut changes, &p.key, &p.lock, commit_ts, p.replaces),
            None => changes.put_lock(&p.key, &p.lock),
        }
        changes.guards.extend(p.guard);
    }
    let min_commit_ts = min_commit_ts.filter(|_| request.async_commit && !one_pc).unwrap_or(Ts::ZERO);
    let one_pc_commit_ts = one_pc_commit_ts.unwrap_or(Ts::ZERO);
    (changes, KvResponse::Prewrite { min_commit_ts, one_pc_commit_ts })
}

/// Gives the keys their in-memory locks and smallest commit timestamps; `None` if the largest is above the
/// transaction's limit: it has to commit in two phases then.
fn register(
    request: &Prewrite,
    concurrency: &ConcurrencyManager,
    pending: &mut [Pending],
    repeated: &Repeated,
) -> Option<Ts> {
    let mut largest = repeated.min_commit_ts;
    for p in pending.iter_mut() {
        p.lock.secondaries = request.async_commit.then(Vec::new);
        let guard = concurrency.register(lock_info(&p.key, p.lock.clone()), p.lock.min_commit_ts);
        largest = largest.max(guard.min_commit_ts());
        p.guard = Some(guard);
    }
    let fits = request.max_commit_ts.is_zero() || largest <= request.max_commit_ts;
    for p in pending {
        match &p.guard {
            Some(guard) if fits => p.lock.min_commit_ts = guard.min_commit_ts(),
            _ => (p.guard, p.lock.secondaries) = (None, None),
        }
        if p.lock.secondaries.is_some() && p.key.raw == request.primary {
            p.lock.secondaries = Some(request.secondaries.clone());
        }
    }
    fits.then_some(largest)
}

/// The second half of 1PC. It cannot meet the rollback record of another transaction at its commit ts: whoever writes
/// one announced its ts before, and the commit ts is above every ts that was announced.
fn write_at_once(changes: &mut Changes, key: &UserKey, lock: &Lock, commit_ts: Ts, unlock: bool) {
    let kind = write_kind(lock.kind);
    changes.put_write(key, commit_ts, &Write::new(kind, lock.start_ts, lock.short_value.as_deref()));
    if unlock {
        changes.unlock(key);
    }
}

/// The record that the commit of a lock leaves.
pub(crate) fn write_kind(kind: LockKind) -> WriteKind {
    match kind {
        LockKind::Put => WriteKind::Put,
        LockKind::Delete => WriteKind::Delete,
        LockKind::Lock | LockKind::Pessimistic => WriteKind::Lock,
    }
}
