//! A local directory as an object store that keeps what it said it has, through a power cut.
//!
//! The metadata object of a flush is its commit point, and checkpoints are published on the strength of it. So a put
//! returns only after the file *and every directory entry that leads to it* are on disk. `object_store`'s
//! `LocalFileSystem::with_fsync` syncs the file, the entry, and the directories that this very call created. It leaves
//! two holes, closed here:
//!
//! * a directory that another call (or a process that was killed meanwhile) created may not be on disk yet when a put
//!   finds it there: every directory is synced once by each process, up to the root;
//! * a put that failed *after* the entry was made (its answer is "failed") is repeated and meets "already exists", which
//!   counts as success if the content is equal: the entry is synced before that answer is given.
//!
//! Directories of objects are never removed by it. A file that a killed process was writing stays as `{name}#{n}`;
//! listings do not show it.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// A directory as an object store, durable. The directory is created by the first write.
#[derive(Debug)]
pub(crate) struct DurableLocal {
    root: PathBuf,
    inner: OnceLock<LocalFileSystem>,
    synced: Arc<SyncedDirectories>,
}

impl DurableLocal {
    /// The store of the directory `root`: absolute, canonical, its parent exists.
    pub(crate) fn new(root: PathBuf) -> Self {
        let synced = Arc::new(SyncedDirectories { root: root.clone(), known: Mutex::default() });
        DurableLocal { root, inner: OnceLock::new(), synced }
    }

    /// The store, if the directory is there.
    fn there(&self) -> Result<Option<&LocalFileSystem>> {
        if let Some(inner) = self.inner.get() {
            return Ok(Some(inner));
        }
        if matches!(std::fs::metadata(&self.root), Err(e) if e.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let inner = LocalFileSystem::new_with_prefix(&self.root)?.with_fsync(true);
        Ok(Some(self.inner.get_or_init(|| inner)))
    }

    fn reading(&self, location: &Path) -> Result<&LocalFileSystem> {
        self.there()?.ok_or_else(|| Error::NotFound {
            path: location.to_string(),
            source: format!("the directory {} does not exist", self.root.display()).into(),
        })
    }

    fn writing(&self) -> Result<&LocalFileSystem> {
        if self.there()?.is_none() {
            create_root(&self.root).map_err(|e| failed("create the directory", &self.root, e))?;
        }
        self.reading(&Path::default())
    }
}

fn create_root(root: &FsPath) -> io::Result<()> {
    match std::fs::create_dir(root) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    root.parent().map_or(Ok(()), sync_directory)
}

fn sync_directory(path: &FsPath) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn failed(action: &str, path: &FsPath, source: io::Error) -> Error {
    let source = io::Error::new(source.kind(), format!("cannot {action} {}: {source}", path.display()));
    Error::Generic { store: "local", source: source.into() }
}

/// Directories whose entries, up to the root, this process has synced.
#[derive(Debug)]
struct SyncedDirectories {
    root: PathBuf,
    known: Mutex<HashSet<PathBuf>>,
}

impl SyncedDirectories {
    /// Syncs the entries of the directories that lead to `file`, as far as that was not done yet; with `entry` also that
    /// of the file.
    async fn settle(self: &Arc<Self>, file: PathBuf, entry: bool) -> Result<()> {
        // As nearly always: a way over a thread that may block would cost a small put as much as its fsync.
        if !entry && self.unknown(&file).is_empty() {
            return Ok(());
        }
        let this = self.clone();
        let work = move || this.settle_blocking(&file, entry).map_err(|e| failed("sync the directory of", &file, e));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime.spawn_blocking(work).await?,
            Err(_) => work(),
        }
    }

    fn settle_blocking(&self, file: &FsPath, entry: bool) -> io::Result<()> {
        let directories = self.unknown(file);
        for directory in &directories {
            directory.parent().map_or(Ok(()), sync_directory)?;
        }
        if entry {
            file.parent().map_or(Ok(()), sync_directory)?;
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).extend(directories);
        Ok(())
    }

    fn unknown(&self, file: &FsPath) -> Vec<PathBuf> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let below_root = |d: &&FsPath| *d != self.root && d.starts_with(&self.root) && !known.contains(*d);
        file.ancestors().skip(1).take_while(below_root).map(FsPath::to_owned).collect()
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableLocal({})", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let inner = self.writing()?;
        let file = inner.path_to_filesystem(location)?;
        let answer = inner.put_opts(location, payload, opts).await;
        if matches!(answer, Ok(_) | Err(Error::AlreadyExists { .. })) {
            self.synced.settle(file, answer.is_err()).await?;
        }
        answer
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.writing()?;
        let file = inner.path_to_filesystem(location)?;
        let upload = inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(DurableUpload { upload, file, synced: self.synced.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reading(location)?.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.reading(location)?.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.reading(&Path::default()) {
            Ok(inner) => inner.delete_stream(locations),
            Err(e) => futures::stream::once(async { Err(e) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.there() {
            Ok(Some(inner)) => inner.list(prefix),
            Ok(None) => futures::stream::empty().boxed(),
            Err(e) => futures::stream::once(async { Err(e) }).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.there() {
            Ok(Some(inner)) => inner.list_with_offset(prefix, offset),
            Ok(None) => futures::stream::empty().boxed(),
            Err(e) => futures::stream::once(async { Err(e) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.there()? {
            Some(inner) => inner.list_with_delimiter(prefix).await,
            None => Ok(ListResult { common_prefixes: Vec::new(), objects: Vec::new(), extensions: Default::default() }),
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let inner = self.writing()?;
        inner.copy_opts(from, to, options).await?;
        self.synced.settle(inner.path_to_filesystem(to)?, false).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let inner = self.writing()?;
        inner.rename_opts(from, to, options).await?;
        self.synced.settle(inner.path_to_filesystem(to)?, false).await
    }
}

/// An upload in parts whose completion is durable.
#[derive(Debug)]
struct DurableUpload {
    upload: Box<dyn MultipartUpload>,
    file: PathBuf,
    synced: Arc<SyncedDirectories>,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let answer = self.upload.complete().await?;
        self.synced.settle(self.file.clone(), false).await?;
        Ok(answer)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::{ObjectStoreExt, PutMode};

    fn known(store: &DurableLocal) -> Vec<String> {
        let known = store.synced.known.lock().unwrap();
        let mut names: Vec<_> =
            known.iter().map(|d| d.strip_prefix(&store.root).unwrap().display().to_string()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn every_directory_up_to_the_root_is_synced_even_if_somebody_else_made_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("v1/a/b")).unwrap();
        let store = DurableLocal::new(dir.path().canonicalize().unwrap());
        store.put(&Path::from("v1/a/b/x"), "1".into()).await.unwrap();
        assert_eq!(known(&store), ["v1", "v1/a", "v1/a/b"]);
        let mut upload = store.put_multipart(&Path::from("v1/c/y")).await.unwrap();
        upload.put_part("1".into()).await.unwrap();
        assert_eq!(known(&store), ["v1", "v1/a", "v1/a/b"]);
        upload.complete().await.unwrap();
        assert_eq!(known(&store), ["v1", "v1/a", "v1/a/b", "v1/c"]);
    }

    #[tokio::test]
    async fn already_exists_is_answered_after_the_entry_is_synced() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("v1")).unwrap();
        std::fs::write(root.join("v1/x"), "1").unwrap();
        let store = DurableLocal::new(root);
        let answer = store.put_opts(&Path::from("v1/x"), "1".into(), PutMode::Create.into()).await;
        assert!(matches!(answer, Err(Error::AlreadyExists { .. })));
        assert_eq!(known(&store), ["v1"]);
    }
}
