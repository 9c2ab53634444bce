//! Get and scan at a timestamp.

use bytes::Bytes;
use logtide_model::mvcc::{Lock, LockKind, Write};
use logtide_model::{Cf, KeyRange, KvIter, Ts, append_ts, decode_raw_key, encode_raw_key, split_ts, truncate_ts};

use super::changes::UserKey;
use super::reader::{Fail, MvccReader, Visible, corrupt, lock_info, visible};
use super::status::blocks;
use crate::rpc::{KeyError, LockInfo};

/// As of when, and whose locks do not matter.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) ts: Ts,
    pub(crate) bypass: &'a [Ts],
}

impl View<'_> {
    /// A lock in the lock column family, if a reader has to wait for it.
    fn blocking(&self, encoded: &[u8], record: &[u8]) -> Result<Option<LockInfo>, Fail> {
        let lock = Lock::parse(record).map_err(|e| corrupt(encoded, e))?;
        if lock.kind == LockKind::Lock {
            return Ok(None);
        }
        let raw = decode_raw_key(encoded).map_err(|e| corrupt(encoded, e))?;
        let lock = lock_info(&UserKey { raw, encoded: Vec::new() }, lock);
        Ok(blocks(&lock, self.ts, self.bypass).then_some(lock))
    }
}

pub(crate) fn get(reader: MvccReader<'_>, raw: &[u8], view: View<'_>) -> Result<Option<Bytes>, Fail> {
    let key = UserKey::new(raw);
    if let Some(record) = reader.snapshot.get(Cf::Lock, &key.encoded)?
        && let Some(lock) = view.blocking(&key.encoded, &record)?
    {
        return Err(KeyError::Locked(lock).into());
    }
    reader.value(&key, view.ts)
}

/// Raw keys and values, and whether the limit ended the scan.
pub(crate) type Pairs = (Vec<(Vec<u8>, Bytes)>, bool);

pub(crate) fn scan(
    reader: MvccReader<'_>,
    start: &[u8],
    end: &[u8],
    limit: usize,
    view: View<'_>,
) -> Result<Pairs, Fail> {
    let range = raw_range(start, end);
    let mut writes = reader.snapshot.iter(Cf::Write, &range)?;
    let mut locks = LockWalk::new(reader, &range, view)?;
    let mut pairs = Vec::new();
    let mut valid = writes.next()?;
    while valid {
        if pairs.len() >= limit {
            return Ok((pairs, true));
        }
        let user = truncate_ts(writes.key()).map_err(|e| corrupt(writes.key(), e))?.to_vec();
        locks.pass(Some(&user))?;
        if let Some(value) = newest(reader, &mut *writes, &user, view.ts)? {
            let raw = decode_raw_key(&user).map_err(|e| corrupt(&user, e))?;
            pairs.push((raw, value));
        }
        let mut behind = user;
        append_ts(&mut behind, Ts::ZERO);
        valid = writes.seek(&behind)?;
        if valid && writes.key() == behind {
            valid = writes.next()?;
        }
    }
    locks.pass(None)?;
    Ok((pairs, false))
}

/// Raw bounds as encoded ones; an empty end is +inf.
fn raw_range(start: &[u8], end: &[u8]) -> KeyRange {
    let bound = |raw: &[u8]| if raw.is_empty() { Vec::new() } else { encode_raw_key(raw) };
    KeyRange::new(bound(start), bound(end))
}

/// The value at `ts` of the key whose newest version `writes` stands at.
fn newest(reader: MvccReader<'_>, writes: &mut dyn KvIter, user: &[u8], ts: Ts) -> Result<Option<Bytes>, Fail> {
    let mut target = user.to_vec();
    append_ts(&mut target, ts);
    let mut valid = writes.key() >= &target[..] || writes.seek(&target)?;
    while valid {
        let (at, _) = split_ts(writes.key()).map_err(|e| corrupt(writes.key(), e))?;
        if at != user {
            break;
        }
        let write = Write::parse(writes.value()).map_err(|e| corrupt(writes.key(), e))?;
        match visible(&write, ts) {
            Some(Visible::Short(value)) => return Ok(Some(value)),
            Some(Visible::Long(start_ts)) => {
                let mut key = user.to_vec();
                append_ts(&mut key, start_ts);
                return reader.long_value(&key).map(Some);
            }
            Some(Visible::Nothing) => break,
            None => valid = writes.next()?,
        }
    }
    Ok(None)
}

/// Walks over the locks of a range beside its write records.
struct LockWalk<'a> {
    iter: Box<dyn KvIter + 'a>,
    valid: bool,
    view: View<'a>,
}

impl<'a> LockWalk<'a> {
    fn new(reader: MvccReader<'a>, range: &KeyRange, view: View<'a>) -> Result<Self, Fail> {
        let mut iter = reader.snapshot.iter(Cf::Lock, range)?;
        let valid = iter.next()?;
        Ok(LockWalk { iter, valid, view })
    }

    /// Passes the locks up to an encoded key, inclusive (all, if there is none); one in the way is an error.
    fn pass(&mut self, user: Option<&[u8]>) -> Result<(), Fail> {
        while self.valid && user.is_none_or(|user| self.iter.key() <= user) {
            if let Some(lock) = self.view.blocking(self.iter.key(), self.iter.value())? {
                return Err(KeyError::Locked(lock).into());
            }
            self.valid = self.iter.next()?;
        }
        Ok(())
    }
}
