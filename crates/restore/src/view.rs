//! What a read at a ts sees, by the rules of MVCC, whatever holds the records.

use std::io;
use std::path::PathBuf;

use logtide_model::codec::CodecError;
use logtide_model::mvcc::{Lock, Write, WriteKind};
use logtide_model::{Cf, Ts, append_ts, decode_raw_key, split_ts};

use crate::RestoreError;
use crate::error::KeyText;

/// Older versions of a key that are stepped over before seeking pays.
const STEPS: usize = 8;

/// What a dump saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpSummary {
    /// Keys with a value at the ts.
    pub keys: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Keys whose newest version at the ts is a delete.
    pub deleted: u64,
    /// Locks of transactions that began at or below the ts and may still commit below it: if there are any, the state
    /// is not final.
    pub locks: u64,
}

/// Receives raw key and value.
pub type Each<'a> = dyn FnMut(&[u8], &[u8]) -> io::Result<()> + 'a;

/// Records of a node, in a key range.
pub(crate) trait Records {
    type Cursor<'c>: Cursor
    where
        Self: 'c;

    /// A cursor at the first record of the range.
    fn cursor(&self, cf: Cf) -> Result<Self::Cursor<'_>, RestoreError>;

    /// A record of the default column family.
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RestoreError>;

    /// How many bytes stand before the encoded key.
    fn prefix(&self) -> usize;

    /// What errors call it.
    fn place(&self) -> PathBuf;
}

/// A position in the records of a column family.
pub(crate) trait Cursor {
    fn item(&self) -> Option<(&[u8], &[u8])>;
    fn next(&mut self);
    fn seek(&mut self, key: &[u8]);
    /// Why there is no record here, if that is not the end.
    fn status(&self) -> Result<(), RestoreError>;
}

/// Calls `each` with raw key and value of all that a read at `at` sees, in key order.
pub(crate) fn view<R: Records>(records: &R, at: Ts, each: &mut Each<'_>) -> Result<DumpSummary, RestoreError> {
    let view = View { records, at };
    let mut summary = DumpSummary { locks: view.locks()?, ..DumpSummary::default() };
    view.walk(each, &mut summary)?;
    Ok(summary)
}

struct View<'a, R> {
    records: &'a R,
    at: Ts,
}

enum Version {
    Value(Vec<u8>),
    Deleted,
    None,
}

impl<R: Records> View<'_, R> {
    /// Locks that may still commit at or below the ts.
    fn locks(&self) -> Result<u64, RestoreError> {
        let (mut cursor, mut locks) = (self.records.cursor(Cf::Lock)?, 0);
        while let Some((key, value)) = cursor.item() {
            let (_, start_ts) = Lock::peek(value).map_err(|e| self.bad(Cf::Lock, key, e))?;
            locks += u64::from(start_ts <= self.at);
            cursor.next();
        }
        cursor.status()?;
        Ok(locks)
    }

    fn walk(&self, each: &mut Each<'_>, summary: &mut DumpSummary) -> Result<(), RestoreError> {
        let mut cursor = self.records.cursor(Cf::Write)?;
        let mut user = Vec::new();
        while let Some((key, _)) = cursor.item() {
            user.clear();
            user.extend_from_slice(split_ts(key).map_err(|e| self.bad(Cf::Write, key, e))?.0);
            match self.version(&mut cursor, &user)? {
                Version::Value(value) => {
                    let encoded = user.get(self.records.prefix()..).unwrap_or_default();
                    let raw = decode_raw_key(encoded).map_err(|e| self.bad(Cf::Write, &user, e))?;
                    each(&raw, &value).map_err(RestoreError::Output)?;
                    summary.keys += 1;
                    summary.bytes += value.len() as u64;
                }
                Version::Deleted => summary.deleted += 1,
                Version::None => {}
            }
            skip_versions(&mut cursor, &user);
        }
        cursor.status()
    }

    /// The version of a key that a read at the ts sees. `cursor` is at its newest record, and stays within its records.
    fn version(&self, cursor: &mut R::Cursor<'_>, user: &[u8]) -> Result<Version, RestoreError> {
        while let Some((key, value)) = cursor.item().filter(|(key, _)| same_user(key, user)) {
            let bad = |e| self.bad(Cf::Write, key, e);
            let (_, commit_ts) = split_ts(key).map_err(bad)?;
            if commit_ts <= self.at {
                let write = Write::parse(value).map_err(bad)?;
                match write.kind {
                    WriteKind::Put if self.is_fenced(&write) => return Ok(Version::Deleted),
                    WriteKind::Put => return self.value(&write, user, commit_ts).map(Version::Value),
                    WriteKind::Delete => return Ok(Version::Deleted),
                    WriteKind::Lock | WriteKind::Rollback => {}
                }
            }
            cursor.next();
        }
        Ok(Version::None)
    }

    /// A record that was rewritten for an overlapped rollback can outlive the version after it, a delete that garbage
    /// collection removed: the fence says where that was.
    fn is_fenced(&self, write: &Write<'_>) -> bool {
        write.gc_fence.is_some_and(|fence| !fence.is_zero() && fence <= self.at)
    }

    fn value(&self, write: &Write<'_>, user: &[u8], commit_ts: Ts) -> Result<Vec<u8>, RestoreError> {
        if let Some(value) = write.short_value {
            return Ok(value.to_vec());
        }
        let mut key = user.to_vec();
        append_ts(&mut key, write.start_ts);
        self.records.value(&key)?.ok_or_else(|| RestoreError::MissingValue {
            key: KeyText::of(&user[self.records.prefix()..]),
            start_ts: write.start_ts,
            commit_ts,
        })
    }

    fn bad(&self, cf: Cf, key: &[u8], cause: CodecError) -> RestoreError {
        let key = key.get(self.records.prefix()..).unwrap_or_default();
        RestoreError::BadData { path: self.records.place(), cf: cf.name(), key: KeyText::of_versioned(key), cause }
    }
}

fn same_user(key: &[u8], user: &[u8]) -> bool {
    key.len() == user.len() + 8 && key.starts_with(user)
}

/// Moves behind all versions of a key: stepping first, as most keys have few.
fn skip_versions(cursor: &mut impl Cursor, user: &[u8]) {
    for _ in 0..STEPS {
        match cursor.item() {
            Some((key, _)) if same_user(key, user) => cursor.next(),
            _ => return,
        }
    }
    let mut last = user.to_vec();
    append_ts(&mut last, Ts::ZERO);
    cursor.seek(&last);
    if cursor.item().is_some_and(|(key, _)| key == last) {
        cursor.next();
    }
}
