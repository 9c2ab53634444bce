//! Small objects, read and written whole, with errors that name them.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::error::is_unsupported;
use crate::{Storage, StorageError};

/// What became of a put that must not overwrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// It was written.
    Yes,
    /// Something of that name was there already, and is still.
    Existed,
    /// The storage does not offer it; nothing was written.
    Unsupported,
}

impl Storage {
    pub(crate) fn failed(&self, action: &'static str, object: &str, source: Error) -> StorageError {
        StorageError::Object { action, object: object.to_owned(), url: self.url.clone(), source: Box::new(source) }
    }

    pub(crate) async fn read(&self, object: &str) -> Result<Option<Bytes>, StorageError> {
        let got = match self.store.get(&Path::from(object)).await {
            Ok(got) => got.bytes().await,
            Err(e) => Err(e),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed("read", object, e)),
        }
    }

    pub(crate) async fn write(&self, object: &str, bytes: impl Into<PutPayload>) -> Result<(), StorageError> {
        let put = self.store.put(&Path::from(object), bytes.into()).await;
        put.map(drop).map_err(|e| self.failed("write", object, e))
    }

    pub(crate) async fn create(&self, object: &str, bytes: impl Into<PutPayload>) -> Result<Created, StorageError> {
        match self.store.put_opts(&Path::from(object), bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Yes),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::Existed),
            Err(e) if is_unsupported(&e) => Ok(Created::Unsupported),
            Err(e) => Err(self.failed("write", object, e)),
        }
    }

    /// Writes an object unless there is one of that name, then reads back what is there. Without support for
    /// create-if-absent two writers can race; the answer is still what the storage holds afterwards.
    pub(crate) async fn create_and_read(&self, object: &str, bytes: Bytes) -> Result<Bytes, StorageError> {
        if self.create(object, bytes.clone()).await? == Created::Unsupported {
            if let Some(found) = self.read(object).await? {
                return Ok(found);
            }
            self.write(object, bytes).await?;
        }
        self.read(object).await?.ok_or_else(|| StorageError::Unfit {
            url: self.url.clone(),
            found: format!("'{object}' was written and is not there"),
        })
    }

    pub(crate) async fn delete(&self, object: &str) -> Result<(), StorageError> {
        match self.store.delete(&Path::from(object)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed("delete", object, e)),
        }
    }

    /// Names of objects below a prefix, sorted; at most `limit` of them are looked at.
    pub(crate) async fn names(&self, prefix: &str, limit: usize) -> Result<Vec<String>, StorageError> {
        use futures::{StreamExt, TryStreamExt};
        let listed = self.store.list(Some(&Path::from(prefix))).take(limit);
        let names = listed.map_ok(|meta| meta.location.to_string()).try_collect::<Vec<_>>().await;
        let mut names = names.map_err(|e| self.failed("list", prefix, e))?;
        names.sort_unstable();
        Ok(names)
    }
    /// The first object, as the storage lists them, whose name is wanted. It stops there, however much follows.
    pub(crate) async fn first_name(&self, wanted: impl Fn(&str) -> bool) -> Result<Option<String>, StorageError> {
        use futures::TryStreamExt;
        let mut listed = self.store.list(None);
        while let Some(meta) = listed.try_next().await.map_err(|e| self.failed("list", "", e))? {
            if wanted(meta.location.as_ref()) {
                return Ok(Some(meta.location.to_string()));
            }
        }
        Ok(None)
    }
}
