//! Why a store did not do what it was asked.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use logtide_model::{Class, Diagnose, ErrorCode};
use thiserror::Error;

use crate::store::LeaseId;

/// An error of a [`Store`](crate::Store).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused; what was being written may or may not be there.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the lock of the directory.
    #[error("{} has been locked by another process for {waited:?}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The journal is damaged.
    #[error("{} is damaged at offset {offset}: {what}", path.display())]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The lease has expired or was never there.
    #[error("lease {} has expired", .0.0)]
    LeaseGone(LeaseId),
    /// The transaction breaks a rule that every store has; nothing was done.
    #[error("the transaction is not valid: {0}")]
    InvalidTxn(String),
    /// The store is not reachable now.
    #[error("the coordinator store is not available: {0}")]
    Unavailable(String),
}

impl StoreError {
    /// For `map_err` on file operations.
    pub(crate) fn io(doing: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_path_buf();
        move |source| StoreError::Io { doing, path, source }
    }
}

impl Diagnose for StoreError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Coordinator
    }

    fn class(&self) -> Class {
        match self {
            StoreError::Io { .. } | StoreError::Locked { .. } | StoreError::Unavailable(_) => Class::Retry,
            StoreError::LeaseGone(_) => Class::Retry,
            StoreError::Corrupt { .. } => Class::Corrupt,
            StoreError::InvalidTxn(_) => Class::Fatal,
        }
    }

    fn remedy(&self) -> String {
        match self {
            StoreError::Io { path, .. } => {
                format!("check that {} exists, is writable by this user and its disk is not full", path.display())
            }
            StoreError::Locked { path, .. } => {
                format!("find the process that holds {} (for example with fuser) and see why it hangs", path.display())
            }
            StoreError::Corrupt { path, .. } => format!(
                "stop all nodes, move {} away, start them and start the tasks anew; the backups are not affected",
                path.display()
            ),
            _ => String::new(),
        }
    }
}
