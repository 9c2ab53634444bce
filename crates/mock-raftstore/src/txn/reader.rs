//! Reads MVCC records from a snapshot.

use bytes::Bytes;
use logtide_model::codec::CodecError;
use logtide_model::mvcc::{Lock, Write, WriteKind};
use logtide_model::{Cf, HostError, KeyRange, KvSnapshot, Ts, split_ts};

use super::changes::UserKey;
use crate::rpc::{KeyError, LockInfo};

/// Why a command ends.
#[derive(Debug)]
pub(crate) enum Fail {
    /// It may not do what it was to do.
    Keys(Vec<KeyError>),
    /// The engine does not work.
    Host(HostError),
}

impl From<KeyError> for Fail {
    fn from(error: KeyError) -> Self {
        Fail::Keys(vec![error])
    }
}

impl From<HostError> for Fail {
    fn from(error: HostError) -> Self {
        Fail::Host(error)
    }
}

pub(crate) fn corrupt(key: &[u8], cause: impl ToString) -> Fail {
    KeyError::Corrupt { key: key.to_vec(), cause: cause.to_string() }.into()
}

/// What the write records of a key say about a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CommitRecord {
    /// It committed there.
    Committed(Ts),
    /// It was rolled back.
    RolledBack,
    /// Nothing; but a rollback record would meet the commit record of another transaction, which is to be rewritten
    /// as these bytes instead.
    Overlapping(Vec<u8>),
    /// Nothing.
    None,
}

#[derive(Clone, Copy)]
pub(crate) struct MvccReader<'a> {
    pub(crate) snapshot: &'a dyn KvSnapshot,
}

impl MvccReader<'_> {
    pub(crate) fn lock(&self, key: &UserKey) -> Result<Option<Lock>, Fail> {
        match self.snapshot.get(Cf::Lock, &key.encoded)? {
            Some(bytes) => Ok(Some(Lock::parse(&bytes).map_err(|e| corrupt(&key.encoded, e))?)),
            None => Ok(None),
        }
    }

    /// Shows `each` the write records of a key at or below `from`, newest first, until it answers.
    pub(crate) fn walk<R>(
        &self,
        key: &UserKey,
        from: Ts,
        mut each: impl FnMut(Ts, Write<'_>) -> Option<R>,
    ) -> Result<Option<R>, Fail> {
        let range = KeyRange::new(key.at(from), key.at(Ts::ZERO));
        let mut iter = self.snapshot.iter(Cf::Write, &range)?;
        while iter.next()? {
            let bad = |e: CodecError| corrupt(iter.key(), e);
            let (_, commit_ts) = split_ts(iter.key()).map_err(bad)?;
            if let Some(answer) = each(commit_ts, Write::parse(iter.value()).map_err(bad)?) {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// What became of transaction `start_ts` on a key.
    pub(crate) fn commit_record(&self, key: &UserKey, start_ts: Ts) -> Result<CommitRecord, Fail> {
        // The newest put or delete above a record: GC may have removed a version below it.
        let mut fence = Ts::ZERO;
        let found = self.walk(key, Ts::MAX, |commit_ts, write| {
            if write.start_ts == start_ts {
                return Some(match write.kind {
                    WriteKind::Rollback => CommitRecord::RolledBack,
                    _ => CommitRecord::Committed(commit_ts),
                });
            }
            if commit_ts == start_ts {
                return Some(if write.overlapped_rollback {
                    CommitRecord::RolledBack
                } else {
                    let marked = Write { overlapped_rollback: true, gc_fence: Some(fence), ..write };
                    CommitRecord::Overlapping(marked.to_bytes())
                });
            }
            if commit_ts < start_ts {
                return Some(CommitRecord::None);
            }
            if matches!(write.kind, WriteKind::Put | WriteKind::Delete) {
                fence = commit_ts;
            }
            None
        })?;
        Ok(found.unwrap_or(CommitRecord::None))
    }

    /// The value of a key at `ts`, whatever locks there are.
    pub(crate) fn value(&self, key: &UserKey, ts: Ts) -> Result<Option<Bytes>, Fail> {
        let found = self.walk(key, ts, |_, write| visible(&write, ts))?;
        match found {
            Some(Visible::Short(value)) => Ok(Some(value)),
            Some(Visible::Long(start_ts)) => self.long_value(&key.at(start_ts)).map(Some),
            Some(Visible::Nothing) | None => Ok(None),
        }
    }

    /// The value in the default column family at an encoded key with timestamp, which must be there.
    pub(crate) fn long_value(&self, key: &[u8]) -> Result<Bytes, Fail> {
        let value = self.snapshot.get(Cf::Default, key)?;
        value.ok_or_else(|| corrupt(key, "a put has no value in the default column family"))
    }
}

/// What a reader sees in a write record.
pub(crate) enum Visible {
    /// This value.
    Short(Bytes),
    /// A value in the default column family, at this start ts.
    Long(Ts),
    /// That the key has no value.
    Nothing,
}

/// What a reader at `ts` sees in the newest record that says anything; `None`: look at the next older one.
pub(crate) fn visible(write: &Write<'_>, ts: Ts) -> Option<Visible> {
    match write.kind {
        // A record that was rewritten for an overlapped rollback after GC removed it: newer versions were there.
        WriteKind::Put | WriteKind::Delete if write.gc_fence.is_some_and(|f| !f.is_zero() && f <= ts) => {
            Some(Visible::Nothing)
        }
        WriteKind::Put => Some(match write.short_value {
            Some(value) => Visible::Short(Bytes::copy_from_slice(value)),
            None => Visible::Long(write.start_ts),
        }),
        WriteKind::Delete => Some(Visible::Nothing),
        WriteKind::Lock | WriteKind::Rollback => None,
    }
}

/// A lock as clients see it.
pub(crate) fn lock_info(key: &UserKey, lock: Lock) -> LockInfo {
    LockInfo {
        key: key.raw.clone(),
        primary: lock.primary,
        start_ts: lock.start_ts,
        ttl: lock.ttl,
        min_commit_ts: lock.min_commit_ts,
        async_commit: lock.secondaries.is_some(),
        secondaries: lock.secondaries.unwrap_or_default(),
        pessimistic: lock.kind == logtide_model::mvcc::LockKind::Pessimistic,
    }
}
