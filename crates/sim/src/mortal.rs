//! The storage and the coordinator as one process sees them: as long as it lives.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use logtide_coordinator::store::{Action, KeyValue, LeaseId, Revision, Store, StoreError, Txn, TxnOutcome, Watch};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::durable::{Fate, Process};

/// A storage.
#[derive(Clone)]
pub(crate) struct MortalStorage {
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) process: Process,
}

fn dead() -> Error {
    Error::Generic { store: "sim", source: "the process is dead".into() }
}

impl MortalStorage {
    async fn change<T>(&self, verb: &str, at: &Path, work: impl Future<Output = Result<T>>) -> Result<T> {
        // A task begins with some hundred requests for objects whose names nobody will ever see again.
        let fate = if at.as_ref().contains("/probe/") {
            self.process.one_of_many(|| format!("{verb} probe"))
        } else {
            self.process.step(|| format!("{verb} {at}"))
        };
        match fate {
            Fate::Never => Err(dead()),
            Fate::Happens => work.await,
            Fate::HappensLast => {
                // Whatever came of it.
                let _ = work.await;
                self.process.die();
                Err(dead())
            }
        }
    }

    fn alive(&self) -> Result<()> {
        if self.process.is_dead() { Err(dead()) } else { Ok(()) }
    }
}

impl fmt::Debug for MortalStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MortalStorage")
    }
}

impl fmt::Display for MortalStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MortalStorage")
    }
}

#[async_trait]
impl ObjectStore for MortalStorage {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.change("put", location, self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, at: &Path, o: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.alive()?;
        self.inner.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.alive()?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.alive()?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let storage = self.clone();
        let delete = move |location: Result<Path>| {
            let storage = storage.clone();
            async move {
                let location = location?;
                storage.change("delete", &location, storage.inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.alive() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.alive()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.change("copy", to, self.inner.copy_opts(from, to, options)).await
    }
}

/// A coordinator.
pub(crate) struct MortalCoordinator {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) process: Process,
}

impl MortalCoordinator {
    fn alive(&self) -> Result<(), StoreError> {
        let error = || StoreError::Unavailable("the process is dead".to_owned());
        if self.process.is_dead() { Err(error()) } else { Ok(()) }
    }
}

impl Store for MortalCoordinator {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.alive()?;
        self.inner.get(key)
    }

    fn list(&self, prefix: &[u8]) -> Result<(Vec<KeyValue>, Revision), StoreError> {
        self.alive()?;
        self.inner.list(prefix)
    }

    fn commit(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let outcome = match self.process.step(|| format!("commit {}", actions(&txn))) {
            Fate::Never => return Err(StoreError::Unavailable("the process is dead".to_owned())),
            Fate::Happens => return self.inner.commit(txn),
            Fate::HappensLast => self.inner.commit(txn),
        };
        self.process.die();
        outcome.and_then(|_| Err(StoreError::Unavailable("the process is dead".to_owned())))
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.alive()?;
        self.inner.watch(prefix, from)
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.alive()?;
        self.inner.grant(ttl)
    }

    fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.alive()?;
        self.inner.keep_alive(lease)
    }

    fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.alive()?;
        self.inner.revoke(lease)
    }
}

/// The keys that a transaction changes.
fn actions(txn: &Txn) -> String {
    let action = |action: &Action| match action {
        Action::Put { key, .. } => format!("{}", key.escape_ascii()),
        Action::Delete(key) => format!("-{}", key.escape_ascii()),
        Action::DeletePrefix(prefix) => format!("-{}*", prefix.escape_ascii()),
    };
    let shown: Vec<String> = txn.then.iter().take(2).map(action).collect();
    format!("{} ({})", shown.join(" "), txn.then.len())
}
