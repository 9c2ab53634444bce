//! An object of the planned name is there already: is it ours? Only the content tells (an ETag is no content hash).

use bytes::{Buf, Bytes};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::pieces::{parts, read};
use crate::upload::{Failure, Upload, Uploader};

impl Uploader {
    /// Compares an object in the storage with what is to be there, block by block.
    pub(crate) async fn compare(&self, upload: &Upload<'_>, failures: u32) -> Result<(), Failure> {
        let path = Path::from(upload.object.path.as_str());
        let found = self.patiently(upload.stop, failures, self.store.get(&path)).await?;
        if found.meta.size != upload.object.bytes {
            let (found, planned) = (found.meta.size, upload.object.bytes);
            return Err(different(upload, &format!("it has {found} bytes instead of {planned}")));
        }
        let mut found = found.into_stream();
        let mut expected = Expected::new(upload);
        while let Some(chunk) = self.patiently(upload.stop, failures, found.try_next()).await? {
            self.compare_chunk(upload, chunk, &mut expected).await?;
        }
        if expected.offset == upload.object.bytes {
            return Ok(());
        }
        Err(Failure::Again(format!("'{path}' could be read back only up to byte {}", expected.offset)))
    }

    async fn compare_chunk(
        &self,
        upload: &Upload<'_>,
        mut chunk: Bytes,
        expected: &mut Expected,
    ) -> Result<(), Failure> {
        while !chunk.is_empty() {
            if expected.bytes.is_empty() && !expected.refill(self, upload).await? {
                return Err(different(upload, "it is longer than planned"));
            }
            let length = chunk.len().min(expected.bytes.len());
            if chunk[..length] != expected.bytes[..length] {
                let (from, to) = (expected.offset, expected.offset + length as u64);
                return Err(different(upload, &format!("its bytes {from} to {to} are others than planned")));
            }
            chunk.advance(length);
            expected.bytes.advance(length);
            expected.offset += length as u64;
        }
        Ok(())
    }
}

/// The planned content, read as it is needed.
struct Expected {
    rest: std::vec::IntoIter<crate::pieces::Part>,
    bytes: Bytes,
    offset: u64,
}

impl Expected {
    fn new(upload: &Upload<'_>) -> Self {
        let largest = upload.object.pieces.iter().map(|p| p.bytes()).max().unwrap_or(1).max(1);
        Expected { rest: parts(upload.object, largest).into_iter(), bytes: Bytes::new(), offset: 0 }
    }

    async fn refill(&mut self, uploader: &Uploader, upload: &Upload<'_>) -> Result<bool, Failure> {
        let Some(part) = self.rest.next() else { return Ok(false) };
        // At most two blocks: accounted, but not waited for, as the caller may hold memory itself.
        let _memory = uploader.gate.account(part.cost);
        self.bytes = read(part, upload.spools.clone(), uploader.config.blocking).await?.concat().into();
        Ok(true)
    }
}

fn different(upload: &Upload<'_>, how: &str) -> Failure {
    Failure::Different(format!("'{}' exists with other content: {how}", upload.object.path))
}
