//! What spools may take, memory and disk together, and what there is to say if that is not enough.

use std::path::PathBuf;

use logtide_model::{Class, Diagnose, ErrorCode, MemoryBudget};
use thiserror::Error;

use crate::{SpoolDisk, SpoolError};

/// The memory and the disk of all spools of a store. Cloning shares them.
#[derive(Clone, Debug)]
pub struct SpoolRoom {
    /// What tails and blocks may take, in bytes. About 2 MiB of working memory and small overshoots (1 MiB or 1/16 of the
    /// limit) of each spool are accounted too, but not waited for; so is what a seal needs while the disk takes nothing.
    pub memory: MemoryBudget,
    /// Where goes what finds no memory.
    pub disk: SpoolDisk,
}

impl SpoolRoom {
    /// Room in `memory`, and `disk_quota` bytes in `dir`.
    pub fn new(dir: impl Into<PathBuf>, memory: MemoryBudget, disk_quota: u64) -> Self {
        SpoolRoom { memory, disk: SpoolDisk::new(dir, disk_quota) }
    }

    /// True above the low-water mark: three quarters of the disk, or half of the memory if the disk is out. What is left is
    /// for what is applied now, and what can wait (scans) waits.
    pub fn is_tight(&self) -> bool {
        if self.disk.is_out() {
            return self.memory.used() > self.memory.limit() / 2;
        }
        self.disk.used() > self.disk.low_water()
    }

    /// What is the matter, if something is.
    pub fn trouble(&self) -> Option<SpoolTrouble> {
        self.disk.trouble()
    }
}

/// Why a spool has no disk. It ends by itself once its cause does.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpoolTrouble {
    /// The quota is used up.
    #[error(
        "the spool in {} has used up its disk quota (temp-file-disk-quota: {quota} bytes); regions that find no room are \
         released and caught up later",
        dir.display()
    )]
    Full {
        /// Where.
        dir: PathBuf,
        /// Bytes.
        quota: u64,
    },
    /// The disk failed.
    #[error(
        "{message}; what is spooled stays in memory, and regions that find no room are released and caught up later"
    )]
    Failed {
        /// What it failed at, and with which file.
        message: String,
        /// The code of the error.
        code: ErrorCode,
        /// What to do.
        remedy: String,
    },
}

impl SpoolTrouble {
    pub(crate) fn of(error: &SpoolError) -> Self {
        SpoolTrouble::Failed { message: error.to_string(), code: error.code(), remedy: error.remedy() }
    }
}

impl Diagnose for SpoolTrouble {
    fn code(&self) -> ErrorCode {
        match self {
            SpoolTrouble::Full { .. } => ErrorCode::OutOfQuota,
            SpoolTrouble::Failed { code, .. } => *code,
        }
    }

    fn class(&self) -> Class {
        Class::Retry
    }

    fn remedy(&self) -> String {
        match self {
            SpoolTrouble::Full { .. } => {
                "none is needed once the storage takes uploads again; see what keeps it, or raise temp-file-disk-quota"
                    .to_owned()
            }
            SpoolTrouble::Failed { remedy, .. } => remedy.clone(),
        }
    }
}
