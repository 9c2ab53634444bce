//! What can go wrong when a backup is read and a node is built from it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use logtide_format::{DataFile, FormatError};
use logtide_model::codec::CodecError;
use logtide_model::{Cf, Class, Diagnose, ErrorCode, KeyRange, Ts, decode_raw_key};
use logtide_storage::StorageError;
use thiserror::Error;

use crate::inexact::Inexact;

impl From<StorageError> for RestoreError {
    fn from(e: StorageError) -> Self {
        RestoreError::Identity(Box::new(e))
    }
}

impl From<FormatError> for RestoreError {
    fn from(e: FormatError) -> Self {
        RestoreError::Metadata(Box::new(e))
    }
}

/// Why a restore, or a look at a backup or a data directory, ended without result. A restore that fails leaves nothing
/// under the name of its target.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The storage holds no checkpoint: nothing is complete yet.
    #[error("{storage} holds no checkpoint (no object below {prefix}): nothing can be restored from it yet")]
    NoCheckpoint {
        /// The storage.
        storage: String,
        /// Where checkpoints lie.
        prefix: &'static str,
    },
    /// The asked timestamp is not covered by the backup.
    #[error("{asked} cannot be restored: the log covers {start} to {checkpoint}")]
    TsOutOfRange {
        /// What was asked for.
        asked: Ts,
        /// Where the log begins.
        start: Ts,
        /// Up to where it is complete.
        checkpoint: Ts,
    },
    /// The log cannot tell what the keys were at the asked ts.
    #[error("{asked} cannot be restored exactly, for the log does not tell of {first}{}", more_of(*more))]
    Inexact {
        /// What was asked for.
        asked: Ts,
        /// What the log cannot tell: the first of it.
        first: Box<Inexact>,
        /// How much more there is.
        more: u64,
    },
    /// The target holds something.
    #[error("{} {what}", path.display())]
    TargetInUse {
        /// The target, or the directory that stands for it while a restore runs.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The storage or an object of it cannot be read.
    #[error("cannot read {object} of {storage}")]
    Storage {
        /// The storage.
        storage: String,
        /// The object, or a prefix that was listed.
        object: String,
        /// What the storage says.
        source: Box<object_store::Error>,
    },
    /// The storage's own objects (identity) cannot be read.
    #[error(transparent)]
    Identity(Box<StorageError>),
    /// An object that the backup needs is not there, or too short.
    #[error("{object} is missing or cut off: bytes {offset} to {end} are needed; lost: {lost}")]
    Missing {
        /// The object.
        object: String,
        /// First byte that is needed.
        offset: u64,
        /// Behind the last byte that is needed.
        end: u64,
        /// What cannot be restored without it.
        lost: Box<Lost>,
        /// What the storage says, if it says more than "not found".
        source: Option<Box<object_store::Error>>,
    },
    /// Bytes of a data object are not what was written.
    #[error("{object} is damaged at offset {offset}; lost: {lost}")]
    Damaged {
        /// The object.
        object: String,
        /// Where the logical file begins in it.
        offset: u64,
        /// What cannot be restored without it.
        lost: Box<Lost>,
        /// What is wrong.
        source: Box<FormatError>,
    },
    /// A data object is encrypted, and not with a key that was given.
    #[error(transparent)]
    Encrypted {
        /// Which object, and what is wrong with the keys.
        source: Box<FormatError>,
    },
    /// A metadata or checkpoint object is damaged.
    #[error("a metadata object cannot be read, and what it lists is not known")]
    Metadata(#[source] Box<FormatError>),
    /// A metadata object is not there, though another object says that it was.
    #[error(
        "{storage}: the metadata object of generation {generation} of store {store} (boot {boot}) is gone: {named_by} \
         says that it was written, with records from {min_ts} to {max_ts}; which keys are lost is not known"
    )]
    LostMetadata {
        /// The storage.
        storage: String,
        /// The store that wrote it.
        store: u64,
        /// The boot epoch of the store.
        boot: u64,
        /// The generation; its name holds `b{boot}g{generation}` in 16 hexadecimal digits each.
        generation: u64,
        /// Smallest ts of its records.
        min_ts: Ts,
        /// Largest ts of its records.
        max_ts: Ts,
        /// What says so.
        named_by: String,
    },
    /// A metadata object contradicts itself or its name: something of it is lost or changed.
    #[error("{object} is damaged, and what it lists is not known: {field} is {found}, {declared} is declared")]
    Contradiction {
        /// The object.
        object: String,
        /// What does not agree.
        field: String,
        /// What follows from the files that are listed.
        found: u64,
        /// What the object or its name says.
        declared: u64,
    },
    /// A record that is none (its checksum is right: it was written so).
    #[error("{object} at offset {offset}: record {record} is not an MVCC record of {cf}: {cause}")]
    BadRecord {
        /// The object.
        object: String,
        /// Where the logical file begins in it.
        offset: u64,
        /// The place of the record in the file, from 0.
        record: u64,
        /// The column family.
        cf: &'static str,
        /// What is wrong.
        cause: CodecError,
    },
    /// A committed value is not in the backup.
    #[error("the value of key {key} at start ts {start_ts}, committed at {commit_ts}, is not in the backup")]
    MissingValue {
        /// The raw key.
        key: KeyText,
        /// Where the value should be in the default column family.
        start_ts: Ts,
        /// The commit that refers to it.
        commit_ts: Ts,
    },
    /// Two different commits of one key at one ts.
    #[error("key {key} has two different commits at {commit_ts}: the log contradicts itself")]
    Conflict {
        /// The raw key.
        key: KeyText,
        /// Their commit ts.
        commit_ts: Ts,
    },
    /// Several values of one version, and nothing in the log that tells which was committed.
    #[error(
        "the log has different values of key {key} at start ts {start_ts}, committed at {commit_ts}, and does not tell \
         which is the committed one"
    )]
    AmbiguousValue {
        /// The raw key.
        key: KeyText,
        /// Where the values are in the default column family.
        start_ts: Ts,
        /// The commit that refers to them.
        commit_ts: Ts,
    },
    /// A record that is none.
    #[error("the record of key {key} at ts {ts} is malformed: {cause}")]
    Malformed {
        /// The raw key.
        key: KeyText,
        /// Its ts.
        ts: Ts,
        /// What is wrong.
        cause: CodecError,
    },
    /// The memory flag is too small for something that has to be in memory as a whole.
    #[error("{what} needs {needed} bytes of memory at once; the restore may use {memory}")]
    Memory {
        /// What is so large.
        what: String,
        /// What it takes, with everything that is in memory beside it, in bytes.
        needed: usize,
        /// The flag, in bytes.
        memory: usize,
    },
    /// A local file or directory failed.
    #[error("{}: {what}", path.display())]
    Local {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A sink of the host failed.
    #[error("the restored state cannot be written: {doing}")]
    Sink {
        /// What it was about to do, to what.
        doing: String,
        /// What it says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// RocksDB failed.
    #[error("{}: {cause}", path.display())]
    Engine {
        /// The directory or file.
        path: PathBuf,
        /// What RocksDB says.
        cause: String,
    },
    /// A record of a data directory is malformed.
    #[error("{}: column family {cf} has a malformed record at key {key}: {cause}", path.display())]
    BadData {
        /// The directory.
        path: PathBuf,
        /// The column family.
        cf: &'static str,
        /// The key on disk.
        key: KeyText,
        /// What is wrong.
        cause: CodecError,
    },
    /// The receiver of a dump refused a line.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
    /// The log was changed by migrations, which this version does not read.
    #[error("{storage} holds {object}: parts of the log were compacted or truncated by another tool")]
    Migrated {
        /// The storage.
        storage: String,
        /// A migration.
        object: String,
    },
    /// The prefix does not say that it is a log backup.
    #[error("{storage} has no identity of a log backup: neither v1/logtide/identity.json nor backupmeta of a log")]
    NotALog {
        /// The storage.
        storage: String,
    },
    /// Others work on the metadata.
    #[error("{storage} is locked: {cause}")]
    Locked {
        /// The storage.
        storage: String,
        /// By whom.
        cause: String,
    },
    /// The restore was given up by its caller, or another part of it failed.
    #[error("the restore was cancelled")]
    Cancelled,
    /// A thread of the restore died.
    #[error("a worker of the restore died: {0}")]
    Worker(String),
}

impl Diagnose for RestoreError {
    fn code(&self) -> ErrorCode {
        use RestoreError as E;
        match self {
            E::NoCheckpoint { .. } | E::TsOutOfRange { .. } | E::Inexact { .. } => ErrorCode::TsOutOfRange,
            E::TargetInUse { .. } => ErrorCode::TargetInUse,
            E::Identity(e) => e.code(),
            E::Damaged { source, .. } | E::Encrypted { source } | E::Metadata(source) => source.code(),
            E::Missing { .. } | E::LostMetadata { .. } | E::Storage { .. } | E::Local { .. } => ErrorCode::Io,
            E::Sink { .. } | E::Engine { .. } | E::Output(_) => ErrorCode::Io,
            E::Contradiction { .. } | E::BadRecord { .. } | E::BadData { .. } => ErrorCode::MalformedMetadata,
            E::MissingValue { .. } | E::AmbiguousValue { .. } | E::Conflict { .. } | E::Malformed { .. } => {
                ErrorCode::MalformedMetadata
            }
            E::Memory { .. } => ErrorCode::OutOfQuota,
            E::Migrated { .. } | E::NotALog { .. } | E::Locked { .. } => ErrorCode::Config,
            E::Worker(_) | E::Cancelled => ErrorCode::Unknown,
        }
    }

    fn class(&self) -> Class {
        use RestoreError as E;
        match self {
            E::NoCheckpoint { .. } | E::Storage { .. } | E::Locked { .. } => Class::Retry,
            E::Identity(e) => e.class(),
            E::Damaged { source, .. } | E::Encrypted { source } | E::Metadata(source) => source.class(),
            E::Missing { .. } | E::LostMetadata { .. } | E::Contradiction { .. } => Class::Corrupt,
            E::BadRecord { .. } | E::BadData { .. } => Class::Corrupt,
            E::MissingValue { .. } | E::AmbiguousValue { .. } | E::Conflict { .. } | E::Malformed { .. } => {
                Class::Corrupt
            }
            E::Cancelled => Class::Cancelled,
            _ => Class::Fatal,
        }
    }

    fn remedy(&self) -> String {
        use RestoreError as E;
        match self {
            E::NoCheckpoint { .. } => "wait until the task's first flush, and check the storage URL".into(),
            E::TsOutOfRange { asked, start, checkpoint } if asked > checkpoint => {
                format!("take a ts from {start} to {checkpoint}, or wait until the checkpoint has passed {asked}")
            }
            E::TsOutOfRange { start, checkpoint, .. } => {
                format!("take a ts from {start} to {checkpoint}; what lies before is in an older backup")
            }
            E::Inexact { first, .. } => format!(
                "take a ts up to {}, leave the keys out, restore onto a full backup taken after {}, or allow an inexact \
                 restore: keys that were removed past MVCC come back in it, or are deleted where the value was gone before \
                 it was backed up, and keys that were added so are missing",
                Ts::new(first.after),
                Ts::new(first.before)
            ),
            E::TargetInUse { .. } => "name a directory that does not exist yet, or an empty one".into(),
            E::Identity(e) => e.remedy(),
            E::NotALog { .. } => "check the URL of the storage: it is that of `log start`".into(),
            E::Locked { .. } => {
                "try again when they are done; a lock that nobody holds any more says whose it was".into()
            }
            E::Encrypted { source } => source.remedy(),
            E::Migrated { .. } => "restore it with the tool that wrote the migrations (br restore point)".into(),
            E::Memory { needed, .. } => format!("raise the memory of the restore to at least {needed} bytes"),
            E::LostMetadata { generation, boot, store, min_ts, .. } => format!(
                "bring the object whose name has store {store:016X} and b{boot:016X}g{generation:016X} back from a copy of \
                 the storage, or restore a ts below {min_ts}"
            ),
            E::Missing { .. } | E::Damaged { .. } | E::Metadata(_) | E::Contradiction { .. } => {
                "bring the object back from a copy of the storage, or leave its keys or timestamps out of the restore"
                    .into()
            }
            E::Sink { .. } => "mend what the host's store says, and restore again: nothing was made visible".into(),
            _ => String::new(),
        }
    }
}

fn more_of(more: u64) -> String {
    if more == 0 { String::new() } else { format!(", nor of {more} more such changes") }
}

/// What logical files hold, told when they cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Column families.
    pub cfs: Vec<&'static str>,
    /// Regions that they were written for.
    pub regions: Vec<u64>,
    /// Smallest and largest key that they touch, in the encoded form with ts.
    pub range: KeyRange,
    /// Smallest ts of its records.
    pub min_ts: Ts,
    /// Largest ts of its records.
    pub max_ts: Ts,
    /// How many records.
    pub records: u64,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lost { cfs, regions, range, min_ts, max_ts, records } = self;
        let (start, end) = (KeyText::of_versioned(&range.start), KeyText::of_versioned(&range.end));
        let (cfs, word) = (cfs.join(" and "), if regions.len() == 1 { "region" } else { "regions" });
        write!(f, "{records} {cfs} records of {word} {regions:?}, keys {start} to {end}, ts {min_ts} to {max_ts}")
    }
}

impl Lost {
    /// What these files hold together.
    pub(crate) fn of<'a>(files: impl Iterator<Item = &'a DataFile> + Clone) -> Box<Lost> {
        let distinct = |mut all: Vec<u64>| {
            all.sort_unstable();
            all.dedup();
            all
        };
        let cfs = [Cf::Default, Cf::Write].into_iter().filter(|cf| files.clone().any(|f| f.key.cf == *cf));
        let start = files.clone().map(|f| f.start_key.clone()).min().unwrap_or_default();
        let end = files.clone().map(|f| f.end_key.clone()).max().unwrap_or_default();
        Box::new(Lost {
            cfs: cfs.map(Cf::name).collect(),
            regions: distinct(files.clone().map(|f| f.key.region_id).collect()),
            range: KeyRange::new(start, end),
            min_ts: files.clone().map(|f| f.min_ts).min().unwrap_or_default(),
            max_ts: files.clone().map(|f| f.max_ts).max().unwrap_or_default(),
            records: files.map(|f| f.entries).sum(),
        })
    }
}

/// A key in an error message: hexadecimal, raw if it could be decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(pub Vec<u8>);

impl KeyText {
    /// Of an encoded key without ts.
    pub(crate) fn of(encoded: &[u8]) -> Self {
        KeyText(decode_raw_key(encoded).unwrap_or_else(|_| encoded.to_vec()))
    }

    /// Of an encoded key with ts.
    pub(crate) fn of_versioned(key: &[u8]) -> Self {
        KeyText::of(logtide_model::truncate_ts(key).unwrap_or(key))
    }
}

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
