//! What the probe finds in storages that do less than they say.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use logtide_storage::{CreateIfAbsent, Storage, StorageError, probe};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What a storage does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Says that it has no create-if-absent.
    NoCreate,
    /// Accepts the condition and overwrites.
    IgnoresCreate,
    /// Looks, lets others run, and writes.
    LooksFirst,
    /// Keeps the first content, but says that the second was written.
    SaysYes,
    /// A deleted object is still there.
    KeepsAll,
    /// A listing misses what was just written.
    ListsLate,
}

#[derive(Debug)]
struct Faulty(InMemory, Fault);

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.1)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        if opts.mode == PutMode::Create {
            match self.1 {
                Fault::NoCreate => {
                    return Err(Error::NotImplemented { operation: "create".into(), implementer: "it".into() });
                }
                Fault::IgnoresCreate => opts.mode = PutMode::Overwrite,
                Fault::LooksFirst => {
                    if self.0.head(at).await.is_ok() {
                        return Err(Error::AlreadyExists { path: at.to_string(), source: "it is there".into() });
                    }
                    tokio::task::yield_now().await;
                    opts.mode = PutMode::Overwrite;
                }
                Fault::SaysYes if self.0.head(at).await.is_ok() => {
                    return self.0.put(&Path::from("elsewhere"), payload).await;
                }
                _ => {}
            }
        }
        self.0.put_opts(at, payload, opts).await
    }

    async fn put_multipart_opts(&self, at: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(at, options).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if self.1 == Fault::KeepsAll { at } else { self.0.delete_stream(at) }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.1 == Fault::ListsLate { Box::pin(futures::stream::empty()) } else { self.0.list(prefix) }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

fn storage(fault: Fault) -> Storage {
    Storage { store: Arc::new(Faulty(InMemory::new(), fault)), url: "memory://faulty".to_owned() }
}

#[tokio::test]
async fn what_a_storage_makes_of_create_if_absent_is_seen_not_believed() {
    for (fault, create) in [
        (Fault::None, CreateIfAbsent::Honoured),
        (Fault::NoCreate, CreateIfAbsent::Unsupported),
        (Fault::IgnoresCreate, CreateIfAbsent::Ignored),
        (Fault::SaysYes, CreateIfAbsent::Ignored),
        (Fault::LooksFirst, CreateIfAbsent::Racy),
    ] {
        let storage = storage(fault);
        let seen = probe(&storage).await.unwrap();
        assert_eq!(seen.create, create, "{fault:?}");
        assert_eq!(seen.create_if_absent, create == CreateIfAbsent::Honoured, "{fault:?}");
        assert_eq!(seen.shortcoming().is_none(), seen.create_if_absent, "{fault:?}");
        let left: Vec<_> = storage.store.list(Some(&Path::from("v1"))).try_collect().await.unwrap();
        assert!(left.is_empty(), "{fault:?} {left:?}");
    }
}

#[tokio::test]
async fn a_storage_that_loses_what_it_took_is_unfit() {
    for (fault, says) in [(Fault::KeepsAll, "still there"), (Fault::ListsLate, "not listed")] {
        let error = probe(&storage(fault)).await.unwrap_err();
        assert!(matches!(&error, StorageError::Unfit { found, .. } if found.contains(says)), "{fault:?}: {error}");
    }
}
