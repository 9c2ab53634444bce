//! The new data directory, built beside its target and renamed when it is complete.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use logtide_model::Cf;
use rocksdb::{ColumnFamilyDescriptor, DB, FlushOptions, IngestExternalFileOptions};

use super::directory::{MARKER_FILE, Marker};
use super::sst::{Sst, engine};
use super::{CFS, options};
use crate::RestoreError;

/// SST files that are ingested at once: RocksDB opens all of them.
const INGEST: usize = 64;

/// A directory that is removed, whatever is in it, when nobody needs it any more: threads that write to it hold it too,
/// for they may outlive a restore whose future was dropped.
#[derive(Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// Where SST files go.
    pub(crate) fn ssts(&self) -> PathBuf {
        self.0.join("sst")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the temporary directory of a restore");
        }
    }
}

/// A new data directory under a temporary name; dropping removes it.
///
/// Its RocksDB is open from the start: RocksDB's own lock keeps a second restore from the same target.
#[derive(Debug)]
pub(crate) struct Staging {
    home: Arc<Home>,
    target: PathBuf,
    /// Closed before the directory is removed or renamed.
    db: Option<DB>,
}

impl Staging {
    /// Claims `target`, which must not exist, or be an empty directory.
    pub(crate) fn claim(target: &Path) -> Result<Self, RestoreError> {
        refuse_occupied(target)?;
        let dir = dir_for(target)?;
        let leftover = dir.exists();
        let db = match open(&dir) {
            Err(e) if is_locked(&e) => {
                return Err(RestoreError::TargetInUse {
                    path: dir,
                    what: "belongs to a restore that is running".into(),
                });
            }
            // What a restore that died left behind.
            Ok(db) if leftover => {
                drop(db);
                reopen(&dir)?
            }
            Ok(db) => db,
            Err(_) if leftover => reopen(&dir)?,
            Err(e) => return Err(e),
        };
        let staging = Staging { home: Arc::new(Home(dir)), target: target.to_owned(), db: Some(db) };
        let ssts = staging.home.ssts();
        fs::create_dir(&ssts).map_err(|e| local(&ssts, "cannot be made", e))?;
        Ok(staging)
    }

    /// The directory for temporary files that nobody chose another one for.
    pub(crate) fn dir(&self) -> &Path {
        &self.home.0
    }

    /// Keeps the directory.
    pub(crate) fn home(&self) -> Arc<Home> {
        self.home.clone()
    }

    /// Adds SST files to the database; `told` takes their bytes as it goes.
    pub(crate) fn ingest(
        &self,
        ssts: &[Sst],
        told: &dyn Fn(u64) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        let Some(db) = &self.db else { return Ok(()) };
        for cf in CFS {
            let of_cf: Vec<&Sst> = ssts.iter().filter(|sst| sst.cf == cf).collect();
            for some in of_cf.chunks(INGEST) {
                let paths: Vec<&PathBuf> = some.iter().map(|sst| &sst.path).collect();
                self.ingest_some(db, cf, &paths)?;
                told(some.iter().map(|sst| sst.bytes).sum())?;
            }
        }
        Ok(())
    }

    fn ingest_some(&self, db: &DB, cf: Cf, paths: &[&PathBuf]) -> Result<(), RestoreError> {
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        let handle = db.cf_handle(cf.name()).ok_or_else(|| RestoreError::Engine {
            path: self.dir().to_owned(),
            cause: format!("no column family {}", cf.name()),
        })?;
        db.ingest_external_file_cf_opts(handle, &options, paths.to_vec()).map_err(|e| engine(self.dir(), &e))
    }

    /// Makes the database durable and gives it its name.
    pub(crate) fn finish(mut self, marker: &Marker) -> Result<(), RestoreError> {
        let db_dir = self.dir().join("db");
        if let Some(db) = self.db.take() {
            let mut wait = FlushOptions::default();
            wait.set_wait(true);
            db.flush_opt(&wait).map_err(|e| engine(&db_dir, &e))?;
        }
        write_marker(&db_dir, marker)?;
        sync(&db_dir)?;
        refuse_occupied(&self.target)?;
        fs::rename(&db_dir, &self.target).map_err(|e| local(&self.target, "cannot get its name", e))?;
        sync(parent(&self.target)?)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        drop(self.db.take());
    }
}

fn refuse_occupied(target: &Path) -> Result<(), RestoreError> {
    let in_use = |what: &str| RestoreError::TargetInUse { path: target.to_owned(), what: what.to_owned() };
    match fs::read_dir(target) {
        Ok(mut entries) => entries.next().map_or(Ok(()), |_| Err(in_use("exists and is not empty"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => Err(in_use("exists and is not a directory")),
        Err(e) => Err(local(target, "cannot be looked at", e)),
    }
}

/// The temporary name of a target, in the same file system.
fn dir_for(target: &Path) -> Result<PathBuf, RestoreError> {
    let name = target.file_name().ok_or_else(|| RestoreError::TargetInUse {
        path: target.to_owned(),
        what: "is no name of a new directory".into(),
    })?;
    let parent = parent(target)?;
    if !parent.is_dir() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        return Err(local(parent, "is where the target would be, and is no directory", missing));
    }
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".logtide-restore");
    Ok(parent.join(hidden))
}

fn parent(target: &Path) -> Result<&Path, RestoreError> {
    let parent = target.parent().unwrap_or(Path::new("."));
    Ok(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn open(dir: &Path) -> Result<DB, RestoreError> {
    let db_dir = dir.join("db");
    fs::create_dir_all(&db_dir).map_err(|e| local(&db_dir, "cannot be made", e))?;
    let cfs = CFS.map(|cf| ColumnFamilyDescriptor::new(cf.name(), options::column_family()));
    DB::open_cf_descriptors(&options::new_directory(), &db_dir, cfs).map_err(|e| engine(&db_dir, &e))
}

fn reopen(dir: &Path) -> Result<DB, RestoreError> {
    fs::remove_dir_all(dir).map_err(|e| local(dir, "is left from a restore that died, and cannot be removed", e))?;
    open(dir)
}

/// RocksDB says so only in words.
fn is_locked(error: &RestoreError) -> bool {
    matches!(error, RestoreError::Engine { cause, .. } if cause.to_lowercase().contains("lock "))
}

fn write_marker(dir: &Path, marker: &Marker) -> Result<(), RestoreError> {
    let path = dir.join(MARKER_FILE);
    let json = serde_json::to_vec_pretty(marker).map_err(|e| local(&path, "cannot be written", e.into()))?;
    fs::write(&path, json).map_err(|e| local(&path, "cannot be written", e))?;
    sync(&path)
}

fn sync(path: &Path) -> Result<(), RestoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| local(path, "cannot be made durable", e))
}

fn local(path: &Path, what: &'static str, source: io::Error) -> RestoreError {
    RestoreError::Local { path: path.to_owned(), what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> Marker {
        let storage = String::new();
        Marker { format: 1, restored_ts: 9, start_ts: 0, storage, writes: 0, values: 0, bytes: 0 }
    }

    #[test]
    fn the_target_appears_only_when_complete() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("node");
        drop(Staging::claim(&target).unwrap());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "a failed restore leaves nothing");
        let staging = Staging::claim(&target).unwrap();
        assert!(!target.exists());
        staging.finish(&marker()).unwrap();
        let written: Marker = serde_json::from_slice(&fs::read(target.join(MARKER_FILE)).unwrap()).unwrap();
        assert_eq!(written, marker());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        let error = Staging::claim(&target).unwrap_err().to_string();
        assert!(error.contains("not empty") && error.contains("node"), "{error}");
    }

    #[test]
    fn one_restore_at_a_time_and_a_dead_one_is_in_nobodys_way() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("node");
        let alive = Staging::claim(&target).unwrap();
        assert!(matches!(Staging::claim(&target), Err(RestoreError::TargetInUse { .. })));
        drop(alive);
        let left = dir_for(&target).unwrap();
        fs::create_dir_all(left.join("db")).unwrap();
        fs::write(left.join("db").join("CURRENT"), "MANIFEST-000099\n").unwrap();
        fs::write(left.join("half.sst"), "x").unwrap();
        let staging = Staging::claim(&target).unwrap();
        assert!(!left.join("half.sst").exists());
        staging.finish(&marker()).unwrap();
    }

    #[test]
    fn odd_targets_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "x").unwrap();
        for (target, word) in [(file.clone(), "directory"), (parent.path().join("no/such"), "no directory")] {
            let error = Staging::claim(&target).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(file.exists());
    }
}
