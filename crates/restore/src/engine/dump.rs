//! Reads the MVCC state at a ts out of a data directory.

use std::path::{Path, PathBuf};

use logtide_model::{Cf, KeyRange, Ts};
use rocksdb::{ColumnFamily, DB, DBRawIterator, ReadOptions};

use super::{DATA_PREFIX, options, sst::engine};
use crate::view::{Cursor, Records, view};
use crate::{DumpSummary, Each, RestoreError};

/// A running node may remove files between the listing and the opening; the next attempt sees a newer listing.
const ATTEMPTS: usize = 5;

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
    view(&Directory { dir, db: &db, range }, at, each)
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

struct Directory<'a> {
    dir: &'a Path,
    db: &'a DB,
    range: &'a KeyRange,
}

impl<'a> Directory<'a> {
    fn handle(&self, cf: Cf) -> Result<&'a ColumnFamily, RestoreError> {
        self.db.cf_handle(cf.name()).ok_or_else(|| RestoreError::Engine {
            path: self.dir.to_owned(),
            cause: format!("no column family {}", cf.name()),
        })
    }
}

impl Records for Directory<'_> {
    type Cursor<'c>
        = Position<'c>
    where
        Self: 'c;

    fn cursor(&self, cf: Cf) -> Result<Position<'_>, RestoreError> {
        let mut options = ReadOptions::default();
        let start = on_disk(&self.range.start);
        let end = if self.range.end.is_empty() { vec![DATA_PREFIX + 1] } else { on_disk(&self.range.end) };
        options.set_iterate_lower_bound(start);
        options.set_iterate_upper_bound(end);
        options.set_total_order_seek(true);
        options.fill_cache(false);
        let mut iter = self.db.raw_iterator_cf_opt(self.handle(cf)?, options);
        iter.seek_to_first();
        Ok(Position { dir: self.dir, iter })
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RestoreError> {
        self.db.get_cf(self.handle(Cf::Default)?, key).map_err(|e| engine(self.dir, &e))
    }

    fn prefix(&self) -> usize {
        1
    }

    fn place(&self) -> PathBuf {
        self.dir.to_owned()
    }
}

struct Position<'a> {
    dir: &'a Path,
    iter: DBRawIterator<'a>,
}

impl Cursor for Position<'_> {
    fn item(&self) -> Option<(&[u8], &[u8])> {
        self.iter.item()
    }

    fn next(&mut self) {
        self.iter.next();
    }

    fn seek(&mut self, key: &[u8]) {
        self.iter.seek(key);
    }

    fn status(&self) -> Result<(), RestoreError> {
        self.iter.status().map_err(|e| engine(self.dir, &e))
    }
}

fn on_disk(key: &[u8]) -> Vec<u8> {
    [&[DATA_PREFIX], key].concat()
}
