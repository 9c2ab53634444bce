//! A sealed generation: blocks, ready to be uploaded.

use std::sync::Arc;

use bytes::Bytes;
use logtide_format::{FileEncryption, FileKey, FileSummary};
use logtide_model::{Compression, Permit};

use crate::SpoolError;
use crate::file::{Place, SpoolFile};
use crate::segment::{Block, Stored};

/// The blocks of a generation.
///
/// Their memory is given back and their file is removed when the last of them is dropped.
#[derive(Debug, Default)]
pub struct SealedSpool {
    /// The blocks by (is_meta, table, region, column family, kind), those of one key in append order.
    pub files: Vec<SealedFile>,
}

/// A block: one logical file.
#[derive(Clone, Debug)]
pub struct SealedFile {
    /// What its records have in common.
    pub key: FileKey,
    /// The facts about its plain bytes.
    pub summary: FileSummary,
    /// How its stored bytes are compressed.
    pub compression: Compression,
    /// How its stored bytes are encrypted, if they are.
    pub encryption: Option<FileEncryption>,
    content: Content,
    /// What all blocks of the generation hold in memory.
    _memory: Arc<Permit>,
}

#[derive(Clone, Debug)]
enum Content {
    Memory(Bytes),
    Disk(Place, Arc<SpoolFile>),
}

impl SealedSpool {
    /// Plain bytes of all blocks.
    pub fn length(&self) -> u64 {
        self.files.iter().map(|file| file.summary.length).sum()
    }

    /// Stored bytes of all blocks.
    pub fn stored_length(&self) -> u64 {
        self.files.iter().map(SealedFile::stored_length).sum()
    }
}

impl SealedFile {
    pub(crate) fn new(
        key: FileKey,
        compression: Compression,
        block: Block,
        file: Option<&Arc<SpoolFile>>,
        memory: &Arc<Permit>,
    ) -> Result<Self, SpoolError> {
        let content = match (&block.stored, file) {
            (Stored::Memory(bytes), _) => Content::Memory(bytes.clone()),
            (Stored::Disk(place), Some(file)) => Content::Disk(*place, Arc::clone(file)),
            (Stored::Disk(_), None) => return Err(SpoolError::Poisoned { cause: "its file is gone".to_owned() }),
        };
        let Block { summary, encryption, .. } = block;
        Ok(SealedFile { key, summary, compression, encryption, content, _memory: Arc::clone(memory) })
    }

    /// How many bytes are stored.
    pub fn stored_length(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::Disk(place, _) => place.length as u64,
        }
    }

    /// True if reading it needs memory: it is in the file.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.content, Content::Disk(..))
    }

    /// The stored bytes; can be called again and from any thread.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the disk cannot read, [`SpoolError::Corrupt`] if it gives back something else.
    pub fn read(&self) -> Result<Bytes, SpoolError> {
        match &self.content {
            Content::Memory(bytes) => Ok(bytes.clone()),
            Content::Disk(place, file) => {
                let mut bytes = Vec::with_capacity(place.length);
                file.read(*place, &mut bytes)?;
                Ok(bytes.into())
            }
        }
    }
}
