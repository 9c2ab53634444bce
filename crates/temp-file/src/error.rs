//! What can go wrong in a spool.

use std::io;
use std::path::{Path, PathBuf};

use logtide_format::{FormatError, KeyFault};
use logtide_model::{Class, Diagnose, ErrorCode, TaskName};
use thiserror::Error;

/// Why a spool could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// Memory is used up and the disk takes nothing. The record was not appended; the spool is as it was before.
    #[error("the spool has no room: its memory is used up and its disk takes nothing")]
    NoRoom,
    /// The disk that has runs of a generation takes no blocks, and memory holds twice its limit: the generation cannot be
    /// put together.
    #[error("the generation is larger than memory, and the disk takes nothing")]
    Overfull,
    /// The local disk failed, or is full.
    #[error("cannot {action} the spool file {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file (or the directory of the files).
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The local disk gave back other bytes than were written.
    #[error("the spool file {} is corrupt: {length} bytes at {offset} have another checksum than when written", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How many bytes.
        length: usize,
    },
    /// A record that no log backup can hold. The spool is as it was before.
    #[error("a record of region {region_id} cannot be backed up: {fault}")]
    Record {
        /// The region.
        region_id: u64,
        /// What is wrong.
        fault: &'static str,
    },
    /// A block could not be summarized or compressed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A block could not be encrypted.
    #[error("a block cannot be encrypted: {0}")]
    Key(#[source] KeyFault),
    /// The task is encrypted and nobody opened its keys.
    #[error("the task {task} is encrypted, and its keys are not open: nothing is written to the disk")]
    NoKeys {
        /// The task.
        task: TaskName,
    },
    /// An earlier error made the open generation unusable.
    #[error("the open generation is lost: {cause}")]
    Poisoned {
        /// The message of the earlier error.
        cause: String,
    },
}

impl SpoolError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| SpoolError::Io { action, path: path.to_owned(), source }
    }
}

impl Diagnose for SpoolError {
    fn code(&self) -> ErrorCode {
        match self {
            SpoolError::NoRoom | SpoolError::Overfull => ErrorCode::OutOfQuota,
            SpoolError::Io { source, .. } if is_full(source) => ErrorCode::OutOfQuota,
            SpoolError::Io { .. } | SpoolError::Poisoned { .. } => ErrorCode::Io,
            SpoolError::Corrupt { .. } => ErrorCode::Checksum,
            SpoolError::Record { .. } => ErrorCode::Unknown,
            SpoolError::Format(error) => error.code(),
            SpoolError::Key(_) | SpoolError::NoKeys { .. } => ErrorCode::Encryption,
        }
    }

    fn class(&self) -> Class {
        match self {
            // The region is released, and caught up when there is room.
            SpoolError::NoRoom => Class::Retry,
            // The generation is lost, its regions are read again: that needs no one.
            SpoolError::Io { .. } | SpoolError::Poisoned { .. } | SpoolError::Corrupt { .. } | SpoolError::Overfull => {
                Class::Retry
            }
            // The keys were good when they were opened; what may be missing is randomness, or the opening.
            SpoolError::Key(_) | SpoolError::NoKeys { .. } => Class::Retry,
            SpoolError::Record { .. } => Class::Corrupt,
            SpoolError::Format(error) => error.class(),
        }
    }

    fn remedy(&self) -> String {
        match self {
            SpoolError::NoRoom | SpoolError::Overfull => {
                "see what is the matter with the disk of the spool, or what keeps the storage".to_owned()
            }
            SpoolError::Io { source, path, .. } if is_full(source) => {
                format!("free space on the disk of {}, or move the spool directory to a larger one", path.display())
            }
            SpoolError::Io { path, .. } => {
                format!("make sure that {} is on a working disk and writable by this process", path.display())
            }
            SpoolError::Corrupt { .. } => "check the disk of the spool directory".to_owned(),
            SpoolError::Format(error) => error.remedy(),
            SpoolError::NoKeys { .. } => "see why the keys of the task cannot be opened on this store".to_owned(),
            SpoolError::Record { .. } | SpoolError::Poisoned { .. } | SpoolError::Key(_) => String::new(),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}
