//! From a tail to a block: summarize, compress, encrypt, store.

use bytes::Bytes;
use logtide_format::{Compressor, FormatError, summarize};

use super::{Spool, SpoolConfig};
use crate::SpoolError;
use crate::encryption::SpoolCipher;
use crate::file::{Kind, Place, SpoolWriter};
use crate::segment::{Block, Piece, Stored};
use crate::stale::new_path;

/// zstd's working memory at level 1, as `ZSTD_estimateCCtxSize` has it, rounded up.
const COMPRESSOR_MEMORY: usize = 1 << 20;

/// So much memory as if there were that much, before a block that is in no file counts as too much: with less, working
/// memory alone is more.
const LEAST_LIMIT: usize = 8 << 20;

/// What blocks are made with.
#[derive(Debug)]
pub(super) struct Work {
    compressor: Compressor,
    pub(super) plain: Vec<u8>,
    stored: Vec<u8>,
    /// If the task is encrypted.
    pub(super) cipher: Option<SpoolCipher>,
    /// Bytes that the ledger has for all this.
    pub(super) accounted: usize,
}

impl Work {
    pub(super) fn new(config: &SpoolConfig) -> Result<Self, FormatError> {
        let compressor = Compressor::new(config.compression)?;
        let cipher = config.encryption.clone().map(SpoolCipher::new);
        Ok(Work { compressor, plain: Vec::new(), stored: Vec::new(), cipher, accounted: 0 })
    }

    /// Empties it, and gives back what only an unusually large record needed.
    fn clear(&mut self, block_size: usize) {
        for buffer in [&mut self.plain, &mut self.stored] {
            buffer.clear();
            buffer.shrink_to(2 * block_size);
        }
    }
}

impl Spool {
    /// Makes a block of a tail.
    pub(super) fn finish_block(&mut self, at: usize) -> Result<(), SpoolError> {
        self.work.plain.clear();
        self.take_tail(at);
        self.make_block(at)
    }

    /// Moves a tail behind what is in `work.plain`.
    pub(super) fn take_tail(&mut self, at: usize) {
        let tail = &mut self.segments[at].tail;
        self.work.plain.reserve(tail.len());
        tail.parts(&self.pool).for_each(|part| self.work.plain.extend_from_slice(part));
        self.pool.put(tail);
    }

    /// Makes a block of `work.plain`, and empties it.
    pub(super) fn make_block(&mut self, at: usize) -> Result<(), SpoolError> {
        let Work { compressor, plain, stored, cipher, .. } = &mut self.work;
        let segment = &mut self.segments[at];
        let summary = summarize(&segment.key, plain)?;
        stored.clear();
        compressor.compress(plain, stored)?;
        // Once, here: wherever the block goes, and however often it is uploaded, its bytes stay the same (I5).
        let encryption = cipher.as_mut().map(|cipher| cipher.encrypt(stored)).transpose()?;
        let block = Block { stored: self.store(Block::overhead(&summary))?, summary, encryption };
        self.segments[at].pieces.push(Piece::Block(Box::new(block)));
        self.work.clear(self.config.block_size);
        self.settle_work();
        Ok(())
    }

    /// Brings the books up to date about the working memory.
    pub(super) fn settle_work(&mut self) {
        let Work { plain, stored, accounted, .. } = &mut self.work;
        let before = std::mem::replace(accounted, COMPRESSOR_MEMORY + plain.capacity() + stored.capacity());
        self.ledger.set(self.ledger.used() - before + *accounted);
    }

    /// Puts `work.stored` into memory while a quarter of it is free for tails, else into the file, and if the disk takes
    /// nothing into memory all the same: [`make_room`](Self::make_room) sees to it that little is made then.
    fn store(&mut self, overhead: usize) -> Result<Stored, SpoolError> {
        let memory = self.config.room.memory.clone();
        let bytes = self.work.stored.len() + overhead;
        let fits = memory.used() + bytes <= memory.limit() / 4 * 3;
        if let Some(permit) = fits.then(|| memory.try_acquire(bytes)).flatten() {
            self.blocks.merge(permit);
        } else if let Some(place) = self.write_stored() {
            self.blocks.merge(memory.force_acquire(overhead));
            return Ok(Stored::Disk(place));
        } else if memory.used() + bytes <= memory.limit().max(LEAST_LIMIT) * 2 {
            self.blocks.merge(memory.force_acquire(bytes));
        } else {
            // What was on the disk as runs is more than memory can hold as blocks.
            return Err(SpoolError::Overfull);
        }
        Ok(Stored::Memory(Bytes::copy_from_slice(&self.work.stored)))
    }

    fn write_stored(&mut self) -> Option<Place> {
        let mut writer = self.take_writer()?;
        let place = writer.append([&self.work.stored[..]].into_iter(), Kind::Block);
        self.writer = Some(writer);
        place
    }

    /// The file, made if there is none; to be put back. `None` if the disk takes nothing.
    pub(super) fn take_writer(&mut self) -> Option<SpoolWriter> {
        if let Some(writer) = self.writer.take() {
            return Some(writer);
        }
        let disk = &self.config.room.disk;
        let writer = disk.takes().then(|| SpoolWriter::create(new_path(disk.dir(), &self.name), disk)).flatten()?;
        self.ledger.add(SpoolWriter::MEMORY);
        Some(writer)
    }
}
