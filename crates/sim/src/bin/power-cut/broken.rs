//! Storages that leave a sync out, to see that it is found.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use logtide_storage::{Storage, StorageError};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// Metadata objects are not synced at all.
    Metadata,
    /// Objects are synced, the directories that they are in are not. Heads are not written: syncing one would bring the
    /// entry of the metadata object before it to the disk as well, for a journal keeps its order.
    Directory,
}

impl Break {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "metadata" => Some(Break::Metadata),
            "directory" => Some(Break::Directory),
            _ => None,
        }
    }

    fn treatment(self, path: &str) -> Treatment {
        match self {
            Break::Metadata if path.contains("backupmeta") => Treatment::NoSync,
            Break::Metadata => Treatment::Good,
            Break::Directory if path.contains("/heads/") => Treatment::Left,
            Break::Directory => Treatment::FileSync,
        }
    }
}

/// What becomes of a put.
enum Treatment {
    Good,
    FileSync,
    NoSync,
    Left,
}

/// Opens a storage that does so.
pub(crate) fn open(url: &str, broken: Break) -> std::result::Result<Storage, StorageError> {
    let Storage { store, url } = logtide_storage::open(url)?;
    let root = PathBuf::from(url.trim_start_matches("local://"));
    Ok(Storage { store: Arc::new(Broken { store, root, broken }), url })
}

#[derive(Debug)]
struct Broken {
    store: Arc<dyn ObjectStore>,
    root: PathBuf,
    broken: Break,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not synced in {}", self.broken, self.store)
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::Generic { store: "broken", source: source.into() }
}

impl Broken {
    fn write(&self, location: &Path, payload: &PutPayload, opts: &PutOptions, sync: bool) -> Result<()> {
        let path = self.root.join(location.as_ref());
        if opts.mode == PutMode::Create && path.exists() {
            return Err(Error::AlreadyExists { path: location.to_string(), source: "it is there".into() });
        }
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
        let staged = path.with_extension("staged#1");
        let mut file = File::create(&staged).map_err(failed)?;
        for bytes in payload.iter() {
            file.write_all(bytes).map_err(failed)?;
        }
        if sync {
            file.sync_all().map_err(failed)?;
        }
        std::fs::rename(&staged, &path).map_err(failed)
    }
}

#[async_trait]
impl ObjectStore for Broken {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        match self.broken.treatment(location.as_ref()) {
            Treatment::Good => return self.store.put_opts(location, payload, opts).await,
            Treatment::FileSync => self.write(location, &payload, &opts, true)?,
            Treatment::NoSync => self.write(location, &payload, &opts, false)?,
            Treatment::Left => {}
        }
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(&self, at: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
