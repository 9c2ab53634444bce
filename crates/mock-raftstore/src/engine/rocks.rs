//! The engine on RocksDB.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator, IngestExternalFileOptions, Options,
    ReadOptions, SstFileWriter,
};
use self_cell::self_cell;

use super::{
    Change, EngineCf, EngineError, EngineIter, EngineSnapshot, KvEngine, SortedRecords, WriteBatch, data_key, sorted,
};

/// Write buffer of a column family in bytes; two of them may be in memory.
const WRITE_BUFFER: usize = 32 << 20;
/// The directory, in that of the engine, of sorted files that are to be ingested.
const FILES: &str = "import";

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

    fn file(&self, name: &str) -> PathBuf {
        self.db.path().join(FILES).join(name)
    }

    fn io(&self, name: &str, cause: &std::io::Error) -> EngineError {
        EngineError { path: self.file(name).display().to_string(), cause: cause.to_string() }
    }

    /// Turns a file into one of RocksDB's, and adds it. Done again after a crash it changes nothing: the file is removed
    /// only when everything that came with it is written.
    fn ingest(&self, cf: EngineCf, name: &str) -> Result<(), EngineError> {
        let records = self.read_file(name)?;
        if records.is_empty() {
            return Ok(());
        }
        let sst = self.file(&format!("{name}.sst"));
        let options = family_options(cf);
        let mut writer = SstFileWriter::create(&options);
        writer.open(&sst).map_err(|e| failed(&self.db, e))?;
        for (key, value) in records.iter() {
            writer.put(data_key(key), value).map_err(|e| failed(&self.db, e))?;
        }
        writer.finish().map_err(|e| failed(&self.db, e))?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        let family = handle(&self.db, cf)?;
        self.db.ingest_external_file_cf_opts(family, &options, vec![sst]).map_err(|e| failed(&self.db, e))
    }

    fn write_changes(&self, changes: &[Change], bytes: usize, sync: bool) -> Result<(), EngineError> {
        let families = [
            handle(&self.db, EngineCf::Default)?,
            handle(&self.db, EngineCf::Lock)?,
            handle(&self.db, EngineCf::Write)?,
            handle(&self.db, EngineCf::Raft)?,
        ];
        // Room for the record headers too, so that the batch does not grow while it is filled.
        let mut rocks = rocksdb::WriteBatch::with_capacity_bytes(bytes + 16 * changes.len() + 64);
        for change in changes {
            match change {
                Change::Put(cf, key, value) => rocks.put_cf(families[*cf as usize], key, value),
                Change::Delete(cf, key) => rocks.delete_cf(families[*cf as usize], key),
                Change::DeleteRange(cf, start, end) => rocks.delete_range_cf(families[*cf as usize], start, end),
                Change::Ingest(..) => {}
            }
        }
        let mut options = rocksdb::WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(rocks, &options).map_err(|e| failed(&self.db, e))
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
        let mut rest = batch.changes();
        while let Some(at) = rest.iter().position(|change| matches!(change, Change::Ingest(..))) {
            // What precedes the file is written before it, so that later changes of its keys stay the later ones.
            let (before, from) = rest.split_at(at);
            self.write_changes(before, 0, sync)?;
            if let Some((Change::Ingest(cf, name), after)) = from.split_first() {
                self.ingest(*cf, name)?;
                rest = after;
            }
        }
        self.write_changes(rest, batch.bytes(), sync)
    }

    fn get(&self, cf: EngineCf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.db.get_cf(handle(&self.db, cf)?, key).map_err(|e| failed(&self.db, e))?;
        Ok(value.map(Bytes::from))
    }

    fn put_file(&self, name: &str, records: &SortedRecords) -> Result<(), EngineError> {
        let path = self.file(name);
        std::fs::create_dir_all(self.db.path().join(FILES)).map_err(|e| self.io(name, &e))?;
        std::fs::write(path, sorted::encode(records)).map_err(|e| self.io(name, &e))
    }

    fn read_file(&self, name: &str) -> Result<SortedRecords, EngineError> {
        let file = std::fs::read(self.file(name)).map_err(|e| self.io(name, &e))?;
        let damaged = || EngineError { path: self.file(name).display().to_string(), cause: "it is damaged".to_owned() };
        sorted::decode(file.into()).ok_or_else(damaged)
    }

    fn remove_file(&self, name: &str) -> Result<(), EngineError> {
        match std::fs::remove_file(self.file(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(self.io(name, &e)),
            _ => Ok(()),
        }
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

    /// RocksDB's perf context is the thread's; its counters rise once they are asked for.
    fn read_bytes(&self) -> Option<u64> {
        thread_local! { static PERF: PerfContext = { set_perf_stats(PerfStatsLevel::EnableCount); PerfContext::default() } }
        Some(PERF.with(|perf| perf.metric(PerfMetric::BlockReadByte)))
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
