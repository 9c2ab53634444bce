//! An object store whose puts wait as it is told.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use logtide_storage::Storage;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

/// See the module. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    inner: Arc<dyn ObjectStore>,
    /// Puts of objects whose names begin so wait.
    prefix: watch::Sender<Option<&'static str>>,
    seen: Arc<Mutex<Seen>>,
}

/// Names of objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Put, in this order.
    pub(crate) put: Vec<String>,
    /// Puts that had to wait.
    pub(crate) held: Vec<String>,
}

impl Held {
    /// Holds what begins with `prefix`.
    pub(crate) fn new(url: &str, prefix: Option<&'static str>) -> Self {
        let inner = logtide_storage::open(url).unwrap().store;
        Held { inner, prefix: watch::Sender::new(prefix), seen: Arc::default() }
    }

    /// As a storage.
    pub(crate) fn storage(&self, url: &str) -> Storage {
        Storage { store: Arc::new(self.clone()), url: url.to_owned() }
    }

    /// From now on it holds what begins with `prefix`, and nothing else.
    pub(crate) fn hold(&self, prefix: Option<&'static str>) {
        self.prefix.send_replace(prefix);
    }

    /// What happened so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

#[async_trait]
impl ObjectStore for Held {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let free = |prefix: &Option<&str>| prefix.is_none_or(|prefix| !to.as_ref().starts_with(prefix));
        let mut prefix = self.prefix.subscribe();
        if !free(&prefix.borrow()) {
            self.seen.lock().unwrap().held.push(to.to_string());
        }
        drop(prefix.wait_for(free).await);
        let done = self.inner.put_opts(to, payload, options).await?;
        self.seen.lock().unwrap().put.push(to.to_string());
        Ok(done)
    }

    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(from, options).await
    }

    fn delete_stream(&self, objects: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(objects)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
