//! Records of the lock column family (layout: TiKV `txn_types::Lock`).

use crate::Ts;
use crate::codec::{self, CodecError};
use crate::mvcc::LastChange;

const SHORT_VALUE: u8 = b'v';
const FOR_UPDATE_TS: u8 = b'f';
const TXN_SIZE: u8 = b't';
const MIN_COMMIT_TS: u8 = b'c';
const ASYNC_COMMIT: u8 = b'a';
const ROLLBACK_TS: u8 = b'r';
const LAST_CHANGE: u8 = b'l';
const TXN_SOURCE: u8 = b's';
const WITH_CONFLICT: u8 = b'F';
const GENERATION: u8 = b'g';

/// What a lock will become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// A put.
    Put,
    /// A delete.
    Delete,
    /// A lock record: the key stays as it is.
    Lock,
    /// Nothing yet: taken before the transaction knows what it writes.
    Pessimistic,
}

impl LockKind {
    const fn flag(self) -> u8 {
        match self {
            LockKind::Put => b'P',
            LockKind::Delete => b'D',
            LockKind::Lock => b'L',
            LockKind::Pessimistic => b'S',
        }
    }

    fn from_flag(flag: u8) -> Result<Self, CodecError> {
        Ok(match flag {
            b'P' => LockKind::Put,
            b'D' => LockKind::Delete,
            b'L' => LockKind::Lock,
            b'S' => LockKind::Pessimistic,
            other => return Err(CodecError::UnknownFlag(other)),
        })
    }
}

/// A record of the lock column family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// What it will become.
    pub kind: LockKind,
    /// The raw key that decides the transaction.
    pub primary: Vec<u8>,
    /// The start ts of the transaction.
    pub start_ts: Ts,
    /// Milliseconds that it lives from its start ts.
    pub ttl: u64,
    /// The value itself, if short.
    pub short_value: Option<Vec<u8>>,
    /// The ts a pessimistic lock was taken for; zero for optimistic ones.
    pub for_update_ts: Ts,
    /// Keys of the transaction, as far as known.
    pub txn_size: u64,
    /// The commit ts will be at least this.
    pub min_commit_ts: Ts,
    /// `Some` for async commit: the raw secondary keys (only the primary lock has them).
    pub secondaries: Option<Vec<Vec<u8>>>,
    /// Start ts of transactions that were rolled back while this lock was there.
    pub rollback_ts: Vec<Ts>,
    /// See [`LastChange`].
    pub last_change: Option<LastChange>,
    /// Who wrote.
    pub txn_source: u64,
    /// A pessimistic lock that was taken in spite of a newer write.
    pub locked_with_conflict: bool,
    /// For pipelined transactions, the flush that wrote it; 0 for others.
    pub generation: u64,
}

impl Lock {
    /// A lock without the rarer fields.
    pub fn new(kind: LockKind, primary: impl Into<Vec<u8>>, start_ts: Ts, ttl: u64) -> Self {
        Lock {
            kind,
            primary: primary.into(),
            start_ts,
            ttl,
            short_value: None,
            for_update_ts: Ts::ZERO,
            txn_size: 0,
            min_commit_ts: Ts::ZERO,
            secondaries: None,
            rollback_ts: Vec::new(),
            last_change: None,
            txn_source: 0,
            locked_with_conflict: false,
            generation: 0,
        }
    }

    /// True if a commit of it can change data: such locks hold the resolved ts back.
    ///
    /// A pessimistic lock becomes one of the other kinds, above a later barrier, before it commits.
    pub fn holds_resolved_ts(&self) -> bool {
        matches!(self.kind, LockKind::Put | LockKind::Delete)
    }

    /// Kind and start ts of a record, without its other fields: what tracking needs.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn peek(mut input: &[u8]) -> Result<(LockKind, Ts), CodecError> {
        let kind = LockKind::from_flag(codec::take_u8(&mut input)?)?;
        codec::take_compact_bytes(&mut input)?;
        Ok((kind, Ts::new(codec::take_var_u64(&mut input)?)))
    }

    /// Parses a record. Fields that a newer TiKV may append are ignored.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn parse(mut input: &[u8]) -> Result<Self, CodecError> {
        let input = &mut input;
        let kind = LockKind::from_flag(codec::take_u8(input)?)?;
        let primary = codec::take_compact_bytes(input)?.to_vec();
        let start_ts = Ts::new(codec::take_var_u64(input)?);
        let ttl = if input.is_empty() { 0 } else { codec::take_var_u64(input)? };
        let mut lock = Lock::new(kind, primary, start_ts, ttl);
        while let Ok(flag) = codec::take_u8(input) {
            if !lock.take_field(flag, input)? {
                break;
            }
        }
        Ok(lock)
    }

    fn take_field(&mut self, flag: u8, input: &mut &[u8]) -> Result<bool, CodecError> {
        let ts = |input: &mut &[u8]| codec::take_u64_be(input).map(Ts::new);
        match flag {
            SHORT_VALUE => {
                let len = usize::from(codec::take_u8(input)?);
                self.short_value = Some(codec::take(input, len)?.to_vec());
            }
            FOR_UPDATE_TS => self.for_update_ts = ts(input)?,
            TXN_SIZE => self.txn_size = codec::take_u64_be(input)?,
            MIN_COMMIT_TS => self.min_commit_ts = ts(input)?,
            ASYNC_COMMIT => {
                let n = codec::take_var_u64(input)?;
                let keys = (0..n).map(|_| codec::take_compact_bytes(input).map(<[u8]>::to_vec));
                self.secondaries = Some(keys.collect::<Result<_, _>>()?);
            }
            ROLLBACK_TS => {
                let n = codec::take_var_u64(input)?;
                self.rollback_ts = (0..n).map(|_| ts(input)).collect::<Result<_, _>>()?;
            }
            LAST_CHANGE => {
                let at = ts(input)?;
                self.last_change = Some(LastChange { ts: at, versions: codec::take_var_u64(input)? });
            }
            TXN_SOURCE => self.txn_source = codec::take_var_u64(input)?,
            WITH_CONFLICT => self.locked_with_conflict = true,
            GENERATION => self.generation = codec::take_u64_be(input)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The bytes of the record.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.primary.len());
        out.push(self.kind.flag());
        codec::encode_compact_bytes(&self.primary, &mut out);
        codec::encode_var_u64(self.start_ts.get(), &mut out);
        codec::encode_var_u64(self.ttl, &mut out);
        if let Some(value) = &self.short_value {
            out.push(SHORT_VALUE);
            out.push(value.len() as u8);
            out.extend_from_slice(value);
        }
        for (flag, n) in [
            (FOR_UPDATE_TS, self.for_update_ts.get()),
            (TXN_SIZE, self.txn_size),
            (MIN_COMMIT_TS, self.min_commit_ts.get()),
        ] {
            put_u64(flag, n, &mut out);
        }
        self.put_lists(&mut out);
        if let Some(change) = self.last_change {
            out.push(LAST_CHANGE);
            out.extend_from_slice(&change.ts.get().to_be_bytes());
            codec::encode_var_u64(change.versions, &mut out);
        }
        if self.txn_source != 0 {
            out.push(TXN_SOURCE);
            codec::encode_var_u64(self.txn_source, &mut out);
        }
        if self.locked_with_conflict {
            out.push(WITH_CONFLICT);
        }
        put_u64(GENERATION, self.generation, &mut out);
        out
    }

    fn put_lists(&self, out: &mut Vec<u8>) {
        if let Some(keys) = &self.secondaries {
            out.push(ASYNC_COMMIT);
            codec::encode_var_u64(keys.len() as u64, out);
            keys.iter().for_each(|k| codec::encode_compact_bytes(k, out));
        }
        if !self.rollback_ts.is_empty() {
            out.push(ROLLBACK_TS);
            codec::encode_var_u64(self.rollback_ts.len() as u64, out);
            self.rollback_ts.iter().for_each(|ts| out.extend_from_slice(&ts.get().to_be_bytes()));
        }
    }
}

/// Appends a flagged big-endian number, unless it is zero.
fn put_u64(flag: u8, n: u64, out: &mut Vec<u8>) {
    if n != 0 {
        out.push(flag);
        out.extend_from_slice(&n.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn peek_sees_what_parse_sees() {
        let mut lock = Lock::new(LockKind::Delete, b"primary".to_vec(), Ts::new(77), 3000);
        lock.secondaries = Some(vec![b"s1".to_vec(), b"s2".to_vec()]);
        let bytes = lock.to_bytes();
        assert_eq!(Lock::peek(&bytes), Ok((LockKind::Delete, Ts::new(77))));
        assert_eq!(Lock::parse(&bytes), Ok(lock));
    }

    #[test]
    fn a_huge_count_is_refused_without_allocating() {
        let mut bytes = Lock::new(LockKind::Put, b"k".to_vec(), Ts::new(1), 1).to_bytes();
        bytes.push(b'a');
        codec::encode_var_u64(u64::MAX >> 1, &mut bytes);
        assert_eq!(Lock::parse(&bytes), Err(CodecError::UnexpectedEof));
    }

    proptest! {
        #[test]
        fn round_trips(
            primary: Vec<u8>, start: u64, ttl: u64, value in prop::option::of(prop::collection::vec(any::<u8>(), 0..255)),
            numbers: (u64, u64, u64, u64, u64), secondaries: Option<Vec<Vec<u8>>>, rollbacks: Vec<u64>,
            change: Option<(u64, u64)>, conflict: bool,
        ) {
            let mut lock = Lock::new(LockKind::Pessimistic, primary, Ts::new(start), ttl);
            lock.short_value = value;
            lock.for_update_ts = Ts::new(numbers.0);
            lock.txn_size = numbers.1;
            lock.min_commit_ts = Ts::new(numbers.2);
            lock.txn_source = numbers.3;
            lock.generation = numbers.4;
            lock.secondaries = secondaries;
            lock.rollback_ts = rollbacks.into_iter().map(Ts::new).collect();
            lock.last_change = change.map(|(ts, versions)| LastChange { ts: Ts::new(ts), versions });
            lock.locked_with_conflict = conflict;
            prop_assert_eq!(Lock::parse(&lock.to_bytes()), Ok(lock));
        }

        #[test]
        fn never_panics(input: Vec<u8>) {
            let _ = Lock::parse(&input);
            let _ = Lock::peek(&input);
        }
    }
}
