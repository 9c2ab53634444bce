//! Key-value engines with column families, atomic batches and consistent snapshots.
//!
//! Owns: the trait, its two implementations, and the view of one region of a snapshot ([`RegionSnapshot`]). It knows
//! keys as they lie on disk: data with the prefix `z`, everything of raft in a column family of its own.

mod memory;
mod region;
#[cfg(feature = "rocksdb")]
mod rocks;
mod sorted;

use bytes::Bytes;
use logtide_model::{Cf, Class, Diagnose, ErrorCode, HostError};
use thiserror::Error;

pub use memory::MemoryEngine;
pub use region::RegionSnapshot;
#[cfg(feature = "rocksdb")]
pub use rocks::RocksEngine;
pub use sorted::SortedRecords;

/// First byte of the keys of data on disk (TiKV's `DATA_PREFIX`).
pub const DATA_PREFIX: u8 = b'z';

/// The key of an encoded key on disk.
pub fn data_key(encoded: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(encoded.len() + 1);
    key.push(DATA_PREFIX);
    key.extend_from_slice(encoded);
    key.into()
}

/// The first key on disk that is not below an exclusive encoded end; empty is +∞.
pub fn data_end_key(encoded_end: &[u8]) -> Bytes {
    if encoded_end.is_empty() { Bytes::from_static(&[DATA_PREFIX + 1]) } else { data_key(encoded_end) }
}

/// A column family of an engine: those of the data, and one for raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineCf {
    /// Values.
    Default,
    /// Locks.
    Lock,
    /// Commit records.
    Write,
    /// Raft logs, and the state of peers.
    Raft,
}

impl EngineCf {
    /// All of them.
    pub const ALL: [EngineCf; 4] = [EngineCf::Default, EngineCf::Lock, EngineCf::Write, EngineCf::Raft];

    /// The name of the column family in RocksDB.
    pub const fn name(self) -> &'static str {
        match self {
            EngineCf::Default => "default",
            EngineCf::Lock => "lock",
            EngineCf::Write => "write",
            EngineCf::Raft => "raft",
        }
    }
}

impl From<Cf> for EngineCf {
    fn from(cf: Cf) -> Self {
        match cf {
            Cf::Default => EngineCf::Default,
            Cf::Lock => EngineCf::Lock,
            Cf::Write => EngineCf::Write,
        }
    }
}

/// An engine failed.
#[derive(Clone, Debug, Error)]
#[error("engine {path}: {cause}")]
pub struct EngineError {
    /// The directory of the engine, or `memory`.
    pub path: String,
    /// What it said.
    pub cause: String,
}

impl Diagnose for EngineError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Io
    }

    fn class(&self) -> Class {
        Class::Fatal
    }

    fn remedy(&self) -> String {
        format!("check that {} is a writable directory with free space that no other process has open", self.path)
    }
}

impl From<EngineError> for HostError {
    fn from(error: EngineError) -> Self {
        HostError::Unavailable(error.to_string())
    }
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a key.
    Put(EngineCf, Bytes, Bytes),
    /// Removes a key.
    Delete(EngineCf, Bytes),
    /// Removes the keys from the first to before the second.
    DeleteRange(EngineCf, Bytes, Bytes),
    /// Adds the records of a file that [`KvEngine::put_file`] put there, by its name.
    Ingest(EngineCf, String),
}

/// Changes that are made together or not at all, in order.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    changes: Vec<Change>,
    bytes: usize,
}

impl WriteBatch {
    /// Sets a key.
    pub fn put(&mut self, cf: EngineCf, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.changes.push(Change::Put(cf, key, value));
    }

    /// Removes a key.
    pub fn delete(&mut self, cf: EngineCf, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.changes.push(Change::Delete(cf, key));
    }

    /// Removes the keys of `[start, end)`.
    pub fn delete_range(&mut self, cf: EngineCf, start: impl Into<Bytes>, end: impl Into<Bytes>) {
        self.changes.push(Change::DeleteRange(cf, start.into(), end.into()));
    }

    /// Adds the records of a file. An engine may make what precedes it in the batch durable first.
    pub fn ingest(&mut self, cf: EngineCf, name: String) {
        self.changes.push(Change::Ingest(cf, name));
    }

    /// True if nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes of keys and values in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// A key-value engine.
pub trait KvEngine: Send + Sync {
    /// Makes all changes of a batch, or none; with `sync`, durably. Visible to snapshots taken after it returned.
    ///
    /// # Errors
    /// [`EngineError`].
    fn write(&self, batch: &WriteBatch, sync: bool) -> Result<(), EngineError>;

    /// The newest value of a key.
    ///
    /// # Errors
    /// [`EngineError`].
    fn get(&self, cf: EngineCf, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Keeps a sorted file for [`WriteBatch::ingest`], until [`KvEngine::remove_file`]. Keys are encoded keys without `z`,
    /// ascending.
    ///
    /// # Errors
    /// [`EngineError`].
    fn put_file(&self, name: &str, records: &SortedRecords) -> Result<(), EngineError>;

    /// The records of a file.
    ///
    /// # Errors
    /// [`EngineError`] if there is none of that name, or it is damaged.
    fn read_file(&self, name: &str) -> Result<SortedRecords, EngineError>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`EngineError`].
    fn remove_file(&self, name: &str) -> Result<(), EngineError>;

    /// A consistent view of all column families as they are now.
    fn snapshot(&self) -> Box<dyn EngineSnapshot>;
}

/// A consistent view of an engine.
pub trait EngineSnapshot: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// [`EngineError`].
    fn get(&self, cf: EngineCf, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// An iterator over `[lower, upper)`, before its first entry.
    ///
    /// # Errors
    /// [`EngineError`].
    fn iter<'a>(&'a self, cf: EngineCf, lower: Bytes, upper: Bytes) -> Result<Box<dyn EngineIter + 'a>, EngineError>;

    /// Bytes of blocks that the engine has read from files so far for the calling thread, from the first call on; what it
    /// finds in its cache does not count. `None` if it reads no files.
    fn read_bytes(&self) -> Option<u64> {
        None
    }
}

/// Walks over the keys of a snapshot in ascending order. `key` and `value` may be called only after a move returned true.
pub trait EngineIter {
    /// Moves to the first entry at or above `key`.
    ///
    /// # Errors
    /// [`EngineError`].
    fn seek(&mut self, key: &[u8]) -> Result<bool, EngineError>;
    /// Moves to the next entry (to the first one at the beginning).
    ///
    /// # Errors
    /// [`EngineError`].
    fn next(&mut self) -> Result<bool, EngineError>;
    /// The key here.
    fn key(&self) -> &[u8];
    /// The value here.
    fn value(&self) -> &[u8];
}
