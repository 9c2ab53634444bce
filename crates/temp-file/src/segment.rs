//! The records of one logical file key in the open generation.

use bytes::Bytes;
use logtide_format::{FileEncryption, FileKey, FileSummary};

use crate::chunks::Tail;
use crate::encryption::RunCipher;
use crate::file::Place;

/// A segment: pieces in append order, and the tail behind them.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) key: FileKey,
    pub(crate) tail: Tail,
    pub(crate) pieces: Vec<Piece>,
}

/// A part of a segment that is not in its tail any more.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Summarized, compressed and encrypted.
    Block(Box<Block>),
    /// Records as they are (encrypted, if the task is), in the file.
    Run(Box<Run>),
}

/// A part of a tail in the file.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) place: Place,
    pub(crate) cipher: Option<RunCipher>,
}

/// A block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) summary: FileSummary,
    pub(crate) stored: Stored,
    pub(crate) encryption: Option<FileEncryption>,
}

/// Where the compressed bytes of a block are.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Memory(Bytes),
    Disk(Place),
}

impl Segment {
    /// Bytes that a segment is accounted with besides its chunks: itself in a vector that doubles, and its entry in
    /// the index.
    pub(crate) const MEMORY: usize = 2 * size_of::<Self>() + 2 * (size_of::<FileKey>() + 16);

    pub(crate) fn new(key: FileKey) -> Self {
        Segment { key, tail: Tail::default(), pieces: Vec::new() }
    }
}

impl Block {
    /// Compressed bytes that are in memory.
    pub(crate) fn stored_in_memory(&self) -> usize {
        match &self.stored {
            Stored::Memory(bytes) => bytes.len(),
            Stored::Disk(_) => 0,
        }
    }

    /// Bytes that the block is accounted with besides its compressed bytes: two keys, itself, and its entry in vectors.
    pub(crate) fn overhead(summary: &FileSummary) -> usize {
        let allocation = 2 * size_of::<usize>();
        2 * size_of::<Self>() + summary.start_key.len() + summary.end_key.len() + 4 * allocation
    }
}
