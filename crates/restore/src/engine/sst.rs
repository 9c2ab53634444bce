//! Writes SST files.

use std::path::{Path, PathBuf};

use logtide_model::Cf;
use rocksdb::{Options, SstFileWriter};

use super::DATA_PREFIX;
use crate::RestoreError;
use crate::join::Sink;

/// Bytes of keys and values of an SST file, about: few files, each with a small index.
const SST_BYTES: u64 = 64 << 20;

/// Finished SST files.
#[derive(Debug, Default)]
pub(crate) struct Ssts {
    /// Column family and path of each, in key order within a column family and partition.
    pub(crate) files: Vec<(Cf, PathBuf)>,
    /// Bytes of all.
    pub(crate) bytes: u64,
}

/// Writes records that come in key order per column family, one column family after the other.
pub(crate) struct SstSink<'a> {
    options: &'a Options,
    dir: &'a Path,
    /// Distinguishes the files of sinks that write side by side.
    partition: usize,
    open: Option<Open<'a>>,
    done: Ssts,
    key: Vec<u8>,
}

struct Open<'a> {
    writer: SstFileWriter<'a>,
    cf: Cf,
    path: PathBuf,
    bytes: u64,
}

impl<'a> SstSink<'a> {
    pub(crate) fn new(options: &'a Options, dir: &'a Path, partition: usize) -> Self {
        SstSink { options, dir, partition, open: None, done: Ssts::default(), key: vec![DATA_PREFIX] }
    }

    /// Completes the last file.
    pub(crate) fn finish(mut self) -> Result<Ssts, RestoreError> {
        self.close()?;
        Ok(self.done)
    }

    fn close(&mut self) -> Result<(), RestoreError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.writer.finish().map_err(|e| engine(&open.path, &e))?;
        self.done.bytes += open.writer.file_size();
        self.done.files.push((open.cf, open.path));
        Ok(())
    }

    fn create(&self, cf: Cf) -> Result<Open<'a>, RestoreError> {
        let name = format!("{}-{}-{}.sst", cf.name(), self.partition, self.done.files.len());
        let path = self.dir.join(name);
        let writer = SstFileWriter::create(self.options);
        writer.open(&path).map_err(|e| engine(&path, &e))?;
        Ok(Open { writer, cf, path, bytes: 0 })
    }
}

impl Sink for SstSink<'_> {
    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        if self.open.as_ref().is_some_and(|open| open.cf != cf || open.bytes >= SST_BYTES) {
            self.close()?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.create(cf)?,
        };
        self.key.truncate(1);
        self.key.extend_from_slice(key);
        open.writer.put(&self.key, value).map_err(|e| engine(&open.path, &e))?;
        open.bytes += (self.key.len() + value.len()) as u64;
        self.open = Some(open);
        Ok(())
    }
}

pub(crate) fn engine(path: &Path, error: &rocksdb::Error) -> RestoreError {
    RestoreError::Engine { path: path.to_owned(), cause: error.to_string() }
}
