//! A RocksDB directory as the end of a restore, and the file in it that says what it is.

use std::path::{Path, PathBuf};

use logtide_model::KeyRange;
use serde::{Deserialize, Serialize};

use super::sst::{SstPart, Ssts};
use super::staging::Staging;
use crate::{Finish, RestoreError, RestoreSummary, Sink};

/// The file in a restored directory that says what it is.
pub const MARKER_FILE: &str = "logtide-restore.json";

/// What [`MARKER_FILE`] says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The revision of this file: 1.
    pub format: u32,
    /// The ts that the directory is at.
    pub restored_ts: u64,
    /// Commits at or below it are not in it.
    pub start_ts: u64,
    /// Where it was restored from.
    pub storage: String,
    /// Records of the write column family.
    pub writes: u64,
    /// Records of the default column family.
    pub values: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl Marker {
    fn of(summary: &RestoreSummary) -> Self {
        Marker {
            format: 1,
            restored_ts: summary.restored_ts,
            start_ts: summary.start_ts,
            storage: summary.storage.clone(),
            writes: summary.records.writes,
            values: summary.records.values,
            bytes: summary.records.bytes,
        }
    }
}

/// A new RocksDB directory: SST files are written beside it and ingested, and it appears under its name when it is
/// complete, or never.
#[derive(Debug)]
pub struct RocksDir(Staging);

impl RocksDir {
    /// Claims `target`, which must not exist, or be an empty directory; its parent must exist.
    ///
    /// # Errors
    /// [`RestoreError::TargetInUse`], [`RestoreError::Local`], [`RestoreError::Engine`].
    pub fn claim(target: &Path) -> Result<Self, RestoreError> {
        Staging::claim(target).map(RocksDir)
    }
}

impl Sink for RocksDir {
    type Part = SstPart;
    type Output = ();

    fn part(&mut self, index: usize, _: KeyRange) -> Result<SstPart, RestoreError> {
        Ok(SstPart::new(self.0.home(), index))
    }

    fn finish(self, done: Finish<'_, SstPart>) -> Result<(), RestoreError> {
        let ssts: Vec<_> = done.parts.into_iter().flat_map(|Ssts(files)| files).collect();
        self.0.ingest(&ssts, done.told)?;
        self.0.finish(&Marker::of(done.summary))
    }

    fn temp_dir(&self) -> Option<PathBuf> {
        Some(self.0.dir().to_owned())
    }
}
