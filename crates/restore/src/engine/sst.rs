//! Writes SST files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use logtide_model::Cf;
use rocksdb::{Options, SstFileWriter};

use super::staging::Home;
use super::{DATA_PREFIX, options};
use crate::{Made, RestoreError, SinkPart};

/// Bytes of keys and values of an SST file, about: few files, each with a small index.
const SST_BYTES: u64 = 64 << 20;

/// A finished SST file.
#[derive(Debug)]
pub(crate) struct Sst {
    pub(crate) cf: Cf,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// The files of a part, in key order within a column family.
#[derive(Debug)]
pub struct Ssts(pub(crate) Vec<Sst>);

/// Writes the records of one key range as SST files.
pub struct SstPart {
    /// Where the files go, kept until they are written.
    home: Arc<Home>,
    /// Distinguishes the files of parts that write side by side.
    index: usize,
    open: Option<Open>,
    done: Vec<Sst>,
    key: Vec<u8>,
}

struct Open {
    writer: SstFileWriter<'static>,
    cf: Cf,
    path: PathBuf,
    bytes: u64,
}

/// The options of every SST file; a writer refers to them as long as it lives.
fn file_options() -> &'static Options {
    static OPTIONS: OnceLock<Options> = OnceLock::new();
    OPTIONS.get_or_init(options::column_family)
}

impl SstPart {
    pub(crate) fn new(home: Arc<Home>, index: usize) -> Self {
        SstPart { home, index, open: None, done: Vec::new(), key: vec![DATA_PREFIX] }
    }

    fn close(&mut self) -> Result<(), RestoreError> {
        let Some(Open { mut writer, cf, path, .. }) = self.open.take() else { return Ok(()) };
        writer.finish().map_err(|e| engine(&path, &e))?;
        self.done.push(Sst { cf, path, bytes: writer.file_size() });
        Ok(())
    }

    fn create(&self, cf: Cf) -> Result<Open, RestoreError> {
        let name = format!("{}-{}-{}.sst", cf.name(), self.index, self.done.len());
        let path = self.home.ssts().join(name);
        let writer = SstFileWriter::create(file_options());
        writer.open(&path).map_err(|e| engine(&path, &e))?;
        Ok(Open { writer, cf, path, bytes: 0 })
    }
}

impl SinkPart for SstPart {
    type Done = Ssts;

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

    fn finish(mut self) -> Result<(Ssts, Made), RestoreError> {
        self.close()?;
        let bytes = self.done.iter().map(|sst| sst.bytes).sum();
        let made = Made { files: self.done.len() as u64, bytes };
        Ok((Ssts(self.done), made))
    }
}

pub(crate) fn engine(path: &Path, error: &rocksdb::Error) -> RestoreError {
    RestoreError::Engine { path: path.to_owned(), cause: error.to_string() }
}
