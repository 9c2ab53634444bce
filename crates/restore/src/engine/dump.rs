//! Reads the MVCC state at a ts out of a data directory.

use std::io;
use std::path::Path;

use logtide_model::codec::CodecError;
use logtide_model::mvcc::{Lock, Write, WriteKind};
use logtide_model::{Cf, KeyRange, Ts, append_ts, decode_raw_key, split_ts};
use rocksdb::{ColumnFamily, DB, DBRawIterator, ReadOptions};

use super::{DATA_PREFIX, options, sst::engine};
use crate::RestoreError;
use crate::error::KeyText;

/// A running node may remove files between the listing and the opening; the next attempt sees a newer listing.
const ATTEMPTS: usize = 5;
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

/// Calls `each` with raw key and value of every key in `range` (encoded keys) that has a value at `at`, in key order.
///
/// `dir` is a restored data directory or that of a node, running or not; it is opened read-only, as it is now, and nothing is
/// written to it.
/// Memory does not depend on its size, but for a running node's unflushed writes.
///
/// # Errors
/// [`RestoreError::Engine`], [`RestoreError::BadData`], [`RestoreError::MissingValue`]; [`RestoreError::Output`] with
/// the error of `each`.
pub fn dump(dir: &Path, at: Ts, range: &KeyRange, each: &mut Each<'_>) -> Result<DumpSummary, RestoreError> {
    let logs = tempfile::tempdir().map_err(|source| RestoreError::Local {
        path: std::env::temp_dir(),
        what: "a temporary directory cannot be made",
        source,
    })?;
    let db = open(dir, logs.path())?;
    let reader = Reader { dir, db: &db, at, range };
    let mut summary = DumpSummary { locks: reader.locks()?, ..DumpSummary::default() };
    reader.walk(each, &mut summary)?;
    Ok(summary)
}

fn open(dir: &Path, logs: &Path) -> Result<DB, RestoreError> {
    if !dir.join("CURRENT").is_file() {
        let cause = "is no RocksDB data directory (no file CURRENT in it)".to_owned();
        return Err(RestoreError::Engine { path: dir.to_owned(), cause });
    }
    let options = options::read_only(logs);
    let names = [Cf::Default, Cf::Lock, Cf::Write].map(Cf::name);
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match DB::open_cf_for_read_only(&options, dir, names, false) {
            Ok(db) => return Ok(db),
            Err(e) => last = Some(engine(dir, &e)),
        }
    }
    Err(last.unwrap_or(RestoreError::Cancelled))
}

struct Reader<'a> {
    dir: &'a Path,
    db: &'a DB,
    at: Ts,
    range: &'a KeyRange,
}

impl<'a> Reader<'a> {
    fn handle(&self, cf: Cf) -> Result<&'a ColumnFamily, RestoreError> {
        self.db.cf_handle(cf.name()).ok_or_else(|| RestoreError::Engine {
            path: self.dir.to_owned(),
            cause: format!("no column family {}", cf.name()),
        })
    }

    /// An iterator over the range, at its first record.
    fn iter(&self, cf: Cf) -> Result<DBRawIterator<'a>, RestoreError> {
        let mut options = ReadOptions::default();
        let start = on_disk(&self.range.start);
        let end = if self.range.end.is_empty() { vec![DATA_PREFIX + 1] } else { on_disk(&self.range.end) };
        options.set_iterate_lower_bound(start);
        options.set_iterate_upper_bound(end);
        options.set_total_order_seek(true);
        options.fill_cache(false);
        let mut iter = self.db.raw_iterator_cf_opt(self.handle(cf)?, options);
        iter.seek_to_first();
        Ok(iter)
    }

    /// Locks that may still commit at or below the ts.
    fn locks(&self) -> Result<u64, RestoreError> {
        let (mut iter, mut locks) = (self.iter(Cf::Lock)?, 0);
        while iter.valid() {
            let value = iter.value().unwrap_or_default();
            let (_, start_ts) = Lock::peek(value).map_err(|e| self.bad(Cf::Lock, iter.key(), e))?;
            locks += u64::from(start_ts <= self.at);
            iter.next();
        }
        iter.status().map_err(|e| engine(self.dir, &e))?;
        Ok(locks)
    }

    fn walk(&self, each: &mut Each<'_>, summary: &mut DumpSummary) -> Result<(), RestoreError> {
        let mut iter = self.iter(Cf::Write)?;
        let values = self.handle(Cf::Default)?;
        let mut user = Vec::new();
        while let Some(key) = iter.key() {
            user.clear();
            user.extend_from_slice(split_ts(key).map_err(|e| self.bad(Cf::Write, Some(key), e))?.0);
            match self.version(&mut iter, &user, values)? {
                Version::Value(value) => {
                    let raw = decode_raw_key(&user[1..]).map_err(|e| self.bad(Cf::Write, Some(&user), e))?;
                    each(&raw, &value).map_err(RestoreError::Output)?;
                    summary.keys += 1;
                    summary.bytes += value.len() as u64;
                }
                Version::Deleted => summary.deleted += 1,
                Version::None => {}
            }
            skip_versions(&mut iter, &user);
        }
        iter.status().map_err(|e| engine(self.dir, &e))
    }

    /// The version of a key that a read at the ts sees. `iter` is at its newest record, and stays within its records.
    fn version(
        &self,
        iter: &mut DBRawIterator<'_>,
        user: &[u8],
        values: &ColumnFamily,
    ) -> Result<Version, RestoreError> {
        while let Some((key, value)) = iter.item().filter(|(key, _)| same_user(key, user)) {
            let bad = |e| self.bad(Cf::Write, Some(key), e);
            let (_, commit_ts) = split_ts(key).map_err(bad)?;
            if commit_ts <= self.at {
                let write = Write::parse(value).map_err(bad)?;
                match write.kind {
                    WriteKind::Put if self.is_fenced(&write) => return Ok(Version::Deleted),
                    WriteKind::Put => return self.value(&write, user, commit_ts, values).map(Version::Value),
                    WriteKind::Delete => return Ok(Version::Deleted),
                    WriteKind::Lock | WriteKind::Rollback => {}
                }
            }
            iter.next();
        }
        Ok(Version::None)
    }

    /// A record that was rewritten for an overlapped rollback can outlive the version after it, a delete that garbage
    /// collection removed: the fence says where that was.
    fn is_fenced(&self, write: &Write<'_>) -> bool {
        write.gc_fence.is_some_and(|fence| !fence.is_zero() && fence <= self.at)
    }

    fn value(
        &self,
        write: &Write<'_>,
        user: &[u8],
        commit_ts: Ts,
        values: &ColumnFamily,
    ) -> Result<Vec<u8>, RestoreError> {
        if let Some(value) = write.short_value {
            return Ok(value.to_vec());
        }
        let mut key = user.to_vec();
        append_ts(&mut key, write.start_ts);
        let found = self.db.get_cf(values, &key).map_err(|e| engine(self.dir, &e))?;
        found.ok_or_else(|| RestoreError::MissingValue {
            key: KeyText::of(&user[1..]),
            start_ts: write.start_ts,
            commit_ts,
        })
    }

    fn bad(&self, cf: Cf, key: Option<&[u8]>, cause: CodecError) -> RestoreError {
        let key = key.and_then(|key| key.get(1..)).unwrap_or_default();
        RestoreError::BadData { path: self.dir.to_owned(), cf: cf.name(), key: KeyText::of_versioned(key), cause }
    }
}

enum Version {
    Value(Vec<u8>),
    Deleted,
    None,
}

fn on_disk(key: &[u8]) -> Vec<u8> {
    [&[DATA_PREFIX], key].concat()
}

fn same_user(key: &[u8], user: &[u8]) -> bool {
    key.len() == user.len() + 8 && key.starts_with(user)
}

/// Moves behind all versions of a key: stepping first, as most keys have few.
fn skip_versions(iter: &mut DBRawIterator<'_>, user: &[u8]) {
    for _ in 0..STEPS {
        match iter.key() {
            Some(key) if same_user(key, user) => iter.next(),
            _ => return,
        }
    }
    let mut last = user.to_vec();
    append_ts(&mut last, Ts::ZERO);
    iter.seek(&last);
    if iter.key() == Some(&last[..]) {
        iter.next();
    }
}
