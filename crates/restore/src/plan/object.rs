//! What a plan consists of, and its sizes.

use std::ops::Range;

use logtide_format::{DataFile, proto};
use serde::{Deserialize, Serialize};

use super::Skip;
use crate::origin::FileOrigin;

/// What a restore will read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Metadata objects of the storage.
    pub metadata_objects: u64,
    /// Those that had to be read.
    pub metadata_read: u64,
    /// Bytes of those.
    pub metadata_bytes: u64,
    /// Data objects that are needed.
    pub objects: u64,
    /// Logical files that are needed.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them as stored.
    pub bytes: u64,
    /// Bytes in them when decompressed.
    pub plain_bytes: u64,
    /// Records in files that are not read for their ts or keys.
    pub skipped_records: u64,
}

impl PlanSummary {
    /// Counts a file that is read.
    pub(super) fn count(&mut self, file: &DataFile) {
        self.files += 1;
        self.records += file.entries;
        self.bytes += file.stored_length;
        self.plain_bytes += file.plain_length;
    }
}

/// True if a file is read: those of Delete entries are, to be verified.
pub(super) fn is_read(skip: Option<Skip>) -> bool {
    matches!(skip, None | Some(Skip::Delete))
}

/// A data object of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanObject {
    /// Its path in the storage.
    pub object: String,
    /// Logical files that are needed of it.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them as stored.
    pub bytes: u64,
    /// Smallest ts of a record.
    pub min_ts: u64,
    /// Largest ts of a record.
    pub max_ts: u64,
}

/// The selected files of one data object, in order of offset.
#[derive(Debug)]
pub(crate) struct PlannedObject {
    pub(crate) object: String,
    pub(crate) files: Vec<(proto::DataFileInfo, DataFile, FileOrigin)>,
}

impl PlannedObject {
    /// Byte ranges of the files.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        self.files.iter().map(|(_, file, _)| file.offset..file.end()).collect()
    }

    /// For people and `--dry-run`.
    pub(crate) fn describe(&self) -> PlanObject {
        let files = || self.files.iter().map(|(_, file, _)| file);
        PlanObject {
            object: self.object.clone(),
            files: self.files.len() as u64,
            records: files().map(|f| f.entries).sum(),
            bytes: files().map(|f| f.stored_length).sum(),
            min_ts: files().map(|f| f.min_ts.get()).min().unwrap_or(0),
            max_ts: files().map(|f| f.max_ts.get()).max().unwrap_or(0),
        }
    }
}
