//! The engine on RocksDB.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator, Options, ReadOptions};
use self_cell::self_cell;

use super::{Change, EngineCf, EngineError, EngineIter, EngineSnapshot, KvEngine, WriteBatch};

/// Write buffer of a column family in bytes; two of them may be in memory.
const WRITE_BUFFER: usize = 32 << 20;

/// See the module.
pub struct RocksEngine {
    db: Arc<DB>,
}

impl RocksEngine {
    /// Opens a directory, or creates it.
    ///
    /// # Errors
    /// [`EngineError`] if it is no RocksDB of ours, or open elsewhere, or not writable.
    pub fn open(dir: &Path) -> Result<Self, EngineError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(2);
        options.set_max_total_wal_size(256 << 20);
        let families = EngineCf::ALL.map(|cf| ColumnFamilyDescriptor::new(cf.name(), family_options(cf)));
        let db = DB::open_cf_descriptors(&options, dir, families)
            .map_err(|e| EngineError { path: dir.display().to_string(), cause: e.into_string() })?;
        Ok(RocksEngine { db: Arc::new(db) })
    }
}

fn family_options(cf: EngineCf) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(WRITE_BUFFER);
    options.set_level_zero_slowdown_writes_trigger(20);
    options.set_level_zero_stop_writes_trigger(36);
    if cf == EngineCf::Raft {
        // Entries are written once, in order, and hardly ever read again: compacting them is work for nothing.
        options.set_disable_auto_compactions(true);
        options.set_compression_type(DBCompressionType::None);
    } else {
        options.set_compression_type(DBCompressionType::Lz4);
    }
    options
}

fn failed(db: &DB, cause: rocksdb::Error) -> EngineError {
    EngineError { path: db.path().display().to_string(), cause: cause.into_string() }
}

fn handle(db: &DB, cf: EngineCf) -> Result<&ColumnFamily, EngineError> {
    db.cf_handle(cf.name()).ok_or_else(|| EngineError {
        path: db.path().display().to_string(),
        cause: format!("there is no column family {}", cf.name()),
    })
}

impl KvEngine for RocksEngine {
    fn write(&self, batch: &WriteBatch, sync: bool) -> Result<(), EngineError> {
        let families = [
            handle(&self.db, EngineCf::Default)?,
            handle(&self.db, EngineCf::Lock)?,
            handle(&self.db, EngineCf::Write)?,
            handle(&self.db, EngineCf::Raft)?,
        ];
        // Room for the record headers too, so that the batch does not grow while it is filled.
        let mut rocks = rocksdb::WriteBatch::with_capacity_bytes(batch.bytes() + 16 * batch.changes().len() + 64);
        for change in batch.changes() {
            match change {
                Change::Put(cf, key, value) => rocks.put_cf(families[*cf as usize], key, value),
                Change::Delete(cf, key) => rocks.delete_cf(families[*cf as usize], key),
                Change::DeleteRange(cf, start, end) => rocks.delete_range_cf(families[*cf as usize], start, end),
            }
        }
        let mut options = rocksdb::WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(rocks, &options).map_err(|e| failed(&self.db, e))
    }

    fn get(&self, cf: EngineCf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.db.get_cf(handle(&self.db, cf)?, key).map_err(|e| failed(&self.db, e))?;
        Ok(value.map(Bytes::from))
    }

    fn snapshot(&self) -> Box<dyn EngineSnapshot> {
        Box::new(RocksSnapshot(SnapshotCell::new(self.db.clone(), |db| db.snapshot())))
    }
}

type Borrowed<'a> = rocksdb::Snapshot<'a>;

self_cell!(
    /// A snapshot with the database that it borrows from.
    struct SnapshotCell {
        owner: Arc<DB>,
        #[covariant]
        dependent: Borrowed,
    }
);

struct RocksSnapshot(SnapshotCell);

impl EngineSnapshot for RocksSnapshot {
    fn get(&self, cf: EngineCf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let db = self.0.borrow_owner();
        let value = self.0.borrow_dependent().get_cf(handle(db, cf)?, key).map_err(|e| failed(db, e))?;
        Ok(value.map(Bytes::from))
    }

    fn iter<'a>(&'a self, cf: EngineCf, lower: Bytes, upper: Bytes) -> Result<Box<dyn EngineIter + 'a>, EngineError> {
        let db = self.0.borrow_owner();
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(&lower[..]);
        options.set_iterate_upper_bound(&upper[..]);
        let iter = self.0.borrow_dependent().raw_iterator_cf_opt(handle(db, cf)?, options);
        Ok(Box::new(RocksIter { db, iter, begun: false }))
    }
}

struct RocksIter<'a> {
    db: &'a DB,
    iter: DBRawIterator<'a>,
    begun: bool,
}

impl RocksIter<'_> {
    fn checked(&self) -> Result<bool, EngineError> {
        if self.iter.valid() {
            return Ok(true);
        }
        self.iter.status().map_err(|e| failed(self.db, e))?;
        Ok(false)
    }
}

impl EngineIter for RocksIter<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<bool, EngineError> {
        self.begun = true;
        self.iter.seek(key);
        self.checked()
    }

    fn next(&mut self) -> Result<bool, EngineError> {
        if !self.begun {
            self.begun = true;
            self.iter.seek_to_first();
        } else if self.iter.valid() {
            self.iter.next();
        }
        self.checked()
    }

    fn key(&self) -> &[u8] {
        self.iter.key().unwrap_or_default()
    }

    fn value(&self) -> &[u8] {
        self.iter.value().unwrap_or_default()
    }
}
