//! Opens a storage: from its URL to an object store.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use logtide_model::without_credentials;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::durable::DurableLocal;
use crate::location::{Location, local_url};
use crate::{Storage, StorageError};

/// The memory storages of this process live as long as it does: a node that restarts in a test finds its objects.
static MEMORY: LazyLock<Mutex<BTreeMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);

/// Opens a storage for reading and writing.
///
/// | URL | storage |
/// |---|---|
/// | `local:///dir`, `file:///dir`, `/dir` | a directory; the last component is created by the first write |
/// | `memory://name` | memory of this process (for tests); the same name is the same storage |
/// | `s3://bucket/prefix?…` | S3 and what speaks its protocol |
/// | `gcs://bucket/prefix?…`, `gs://…` | Google Cloud Storage |
/// | `azure://container/prefix?…`, `azblob://…` | Azure Blob Storage |
///
/// It does not write, so that a backup can be read from where writing is not allowed: [`crate::probe`] finds out
/// whether it can be written.
///
/// # Errors
/// [`StorageError::BadUrl`], [`StorageError::Parameter`], [`StorageError::NotInThisBuild`],
/// [`StorageError::Unopened`], [`StorageError::NotADirectory`], [`StorageError::MissingParent`],
/// [`StorageError::Directory`].
pub fn open(url: &str) -> Result<Storage, StorageError> {
    match Location::parse(url)? {
        Location::Local(path) => {
            let path = resolve(&path)?;
            let url = local_url(&path)?;
            Ok(Storage { store: Arc::new(DurableLocal::new(path)), url })
        }
        Location::Memory(name) => {
            let url = format!("memory://{name}");
            let mut all = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
            let store: Arc<dyn ObjectStore> = all.entry(name).or_default().clone();
            Ok(Storage { store, url })
        }
        Location::Remote(remote) => remote.open(),
    }
}

/// The canonical URL *with* the credentials that it was given: what the record of a task holds, so that every node can
/// open it. Not for logs, status or errors: those show [`redacted`] or [`Storage::url`].
///
/// # Errors
/// As [`open`], without opening it.
pub fn task_url(url: &str) -> Result<String, StorageError> {
    match Location::parse(url)? {
        Location::Local(path) => local_url(&resolve(&path)?),
        Location::Memory(name) => Ok(format!("memory://{name}")),
        Location::Remote(remote) => Ok(remote.parameters.whole(true)),
    }
}

/// A storage's URL as it may be shown: without credentials. Of a URL that cannot be read, all parameters go.
pub fn redacted(url: &str) -> String {
    match Location::parse(url) {
        Ok(Location::Remote(remote)) => remote.shown(),
        Ok(_) => url.to_owned(),
        Err(_) => without_credentials(url),
    }
}

/// The canonical path of a directory that exists, or that can be created in one that does.
fn resolve(path: &Path) -> Result<PathBuf, StorageError> {
    let cannot_look = |source| StorageError::Directory { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => path.canonicalize().map_err(cannot_look),
        Ok(_) => Err(StorageError::NotADirectory(path.to_owned())),
        Err(e) if e.kind() == ErrorKind::NotADirectory => Err(StorageError::NotADirectory(file_above(path))),
        Err(e) if e.kind() == ErrorKind::NotFound => in_parent(path),
        Err(e) => Err(cannot_look(e)),
    }
}

fn in_parent(path: &Path) -> Result<PathBuf, StorageError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        let reason = "its last component is no name".to_owned();
        return Err(StorageError::BadUrl { url: path.display().to_string(), reason });
    };
    match parent.canonicalize() {
        Ok(parent) => Ok(parent.join(name)),
        Err(_) => Err(StorageError::MissingParent { path: path.to_owned(), parent: parent.to_owned() }),
    }
}

/// The file that stands in the middle of a path.
fn file_above(path: &Path) -> PathBuf {
    let is_file = |p: &&Path| std::fs::metadata(p).is_ok_and(|m| !m.is_dir());
    path.ancestors().find(is_file).unwrap_or(path).to_owned()
}
