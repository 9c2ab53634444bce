//! Files that a process which was killed left in a local directory: it was writing objects, and no listing shows them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use object_store::Error;

use crate::location::Location;
use crate::{Storage, StorageError};

/// A file that is no object yet, and never will be if its writer is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedFile {
    /// Its path below the storage's directory.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, in ms since 1970.
    pub modified_ms: u64,
}

/// Calls `each` with every such file; there are none in a storage that is no local directory.
///
/// # Errors
/// [`StorageError::Object`] if the directory cannot be read.
pub fn staged_files(storage: &Storage, each: &mut dyn FnMut(StagedFile)) -> Result<(), StorageError> {
    let Some(root) = root_of(storage) else { return Ok(()) };
    walk(&root, &root, each).map_err(|e| storage.failed("list", "temporary files", generic(e)))
}

/// Removes such a file; it is no error if it is gone.
///
/// # Errors
/// [`StorageError::Object`].
pub fn remove_staged(storage: &Storage, file: &StagedFile) -> Result<(), StorageError> {
    let Some(root) = root_of(storage).filter(|_| is_staged(&file.path)) else { return Ok(()) };
    match fs::remove_file(root.join(&file.path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(storage.failed("delete", &file.path, generic(e))),
        _ => Ok(()),
    }
}

fn root_of(storage: &Storage) -> Option<PathBuf> {
    match Location::parse(&storage.url) {
        Ok(Location::Local(root)) => Some(root),
        _ => None,
    }
}

fn generic(source: io::Error) -> Error {
    Error::Generic { store: "local", source: source.into() }
}

fn walk(root: &Path, folder: &Path, each: &mut dyn FnMut(StagedFile)) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(root, &path, each)?;
            continue;
        }
        let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str).filter(|name| is_staged(name)) else {
            continue;
        };
        let (path, meta) = (
            name.to_owned(),
            match entry.metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                meta => meta?,
            },
        );
        let since = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        each(StagedFile { path, bytes: meta.len(), modified_ms: since.as_millis() as u64 });
    }
    Ok(())
}

/// `object_store` writes an object as `{name}#{number}`, and then renames it.
fn is_staged(path: &str) -> bool {
    let number = path.rsplit('/').next().and_then(|name| name.rsplit_once('#')).map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_found_and_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let storage = crate::open(&format!("local://{}", dir.path().display())).unwrap();
        fs::create_dir_all(dir.path().join("v1/x")).unwrap();
        for name in ["v1/x/a.log", "v1/x/a.log#12", "b#1", "c#", "d#1x"] {
            fs::write(dir.path().join(name), b"123").unwrap();
        }
        let mut found = Vec::new();
        staged_files(&storage, &mut |file| found.push(file)).unwrap();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let names: Vec<_> = found.iter().map(|file| (file.path.as_str(), file.bytes, file.modified_ms > 0)).collect();
        assert_eq!(names, [("b#1", 3, true), ("v1/x/a.log#12", 3, true)]);
        for file in &found {
            remove_staged(&storage, file).unwrap();
            remove_staged(&storage, file).unwrap();
        }
        remove_staged(&storage, &StagedFile { path: "v1/x/a.log".to_owned(), ..found.remove(0) }).unwrap();
        let left = |name: &str| dir.path().join(name).exists();
        assert!(left("v1/x/a.log") && left("c#") && left("d#1x") && !left("b#1") && !left("v1/x/a.log#12"));
    }
}
