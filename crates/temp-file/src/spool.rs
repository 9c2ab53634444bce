//! The open generation: append, blocks, relief under memory pressure, seal.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use logtide_format::{Compressor, EntryKind, FileKey, record_len, summarize};
use logtide_model::mvcc::Write;
use logtide_model::{Cf, Compression, MemoryBudget, Permit};
use rustc_hash::FxHashMap;

use crate::chunks::{CHUNK, ChunkPool};
use crate::disk::{Create, SpoolWriter, create};
use crate::ledger::Ledger;
use crate::segment::{Block, Piece, Segment, Stored};
use crate::stale::new_path;
use crate::{SealedFile, SealedSpool, SpoolError};

/// Tails shorter than this are not compressed under memory pressure but kept as runs, and blocks are not made shorter
/// however many segments there are: below, zstd finds little, and the metadata of a block (about 300 bytes) counts.
const MIN_BLOCK: usize = 8 << 10;
/// A spool that holds less than this in chunks and blocks is not what the pressure comes from: relief would only write
/// tiny pieces.
const RELIEF_FLOOR: usize = 1 << 20;
/// zstd's working memory at level 1, as `ZSTD_estimateCCtxSize` has it, rounded up.
const COMPRESSOR_MEMORY: usize = 1 << 20;
/// Bytes of the timestamp at the end of a key.
const TS_LEN: usize = 8;

/// What a [`Spool`] is made of.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// Where its file is if it needs one; made if it does not exist.
    pub dir: PathBuf,
    /// What tails and blocks may take, in bytes; shared with other spools. About 2 MiB of working memory and small
    /// overshoots (1 MiB or 1/16 of the limit) of each spool are accounted too, but not waited for.
    pub memory: MemoryBudget,
    /// Plain bytes of a block while there is memory for it; 256 KiB is a good value.
    pub block_size: usize,
    /// How blocks are compressed.
    pub compression: Compression,
}

impl SpoolConfig {
    /// The default of [`block_size`](Self::block_size): 256 KiB.
    pub const BLOCK_SIZE: usize = 256 << 10;
}

/// The open generation of one task on one shard.
#[derive(Debug)]
pub struct Spool {
    config: SpoolConfig,
    name: String,
    create: Create,
    index: FxHashMap<FileKey, u32>,
    segments: Vec<Segment>,
    /// Plain bytes that make a block, with as many segments as there are now.
    target: usize,
    open_bytes: u64,
    pool: ChunkPool,
    /// Chunks, segments and working memory.
    ledger: Ledger,
    /// Blocks that are in memory.
    blocks: Permit,
    writer: Option<SpoolWriter>,
    work: Work,
    poisoned: Option<String>,
}

/// What blocks are made with.
#[derive(Debug)]
struct Work {
    compressor: Compressor,
    plain: Vec<u8>,
    stored: Vec<u8>,
}

impl Work {
    /// Bytes that it holds.
    fn memory(&self) -> usize {
        COMPRESSOR_MEMORY + self.plain.capacity() + self.stored.capacity()
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
    /// An empty spool. `name` tells its file from those of other spools, for people; the file's name is unique anyway.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if `config.dir` cannot be made or written, [`SpoolError::Format`] where zstd has no memory.
    pub fn new(config: SpoolConfig, name: &str) -> Result<Self, SpoolError> {
        Self::with_files(config, name, create)
    }

    pub(crate) fn with_files(config: SpoolConfig, name: &str, create: Create) -> Result<Self, SpoolError> {
        std::fs::create_dir_all(&config.dir).map_err(SpoolError::io("make the directory of", &config.dir))?;
        // Told now, rather than when memory gets short.
        drop(SpoolWriter::create(new_path(&config.dir, name), create)?);
        let compressor = Compressor::new(config.compression)?;
        let mut spool = Spool {
            index: FxHashMap::default(),
            segments: Vec::new(),
            target: 0,
            open_bytes: 0,
            pool: ChunkPool::default(),
            ledger: Ledger::new(config.memory.clone()),
            blocks: config.memory.force_acquire(0),
            writer: None,
            work: Work { compressor, plain: Vec::new(), stored: Vec::new() },
            poisoned: None,
            name: name.to_owned(),
            create,
            config,
        };
        spool.ledger.add(spool.work.memory());
        Ok(spool)
    }

    /// Appends a record; those of one region, column family, kind and table keep their order. For a delete `value` is
    /// ignored.
    ///
    /// # Errors
    /// [`SpoolError::Record`] for a record that no backup can hold: nothing was appended, the spool stays usable. Any
    /// other error poisons the open generation: it can only be discarded.
    #[inline]
    pub fn append(
        &mut self,
        region_id: u64,
        cf: Cf,
        kind: EntryKind,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), SpoolError> {
        self.check_poison()?;
        let value = if kind == EntryKind::Delete { &[] } else { value };
        check_record(region_id, cf, key, value)?;
        let len = record_len(key.len(), value.len());
        let at = self.segment(FileKey::of(region_id, cf, kind, key));
        if !self.segments[at].tail.push(key, value, len) {
            let done = self.append_slow(at, key, value, len);
            self.poison_on_error(done)?;
        }
        self.open_bytes += len as u64;
        if self.segments[at].tail.len() >= self.target {
            let done = self.finish_block(at);
            self.poison_on_error(done)?;
        }
        Ok(())
    }

    /// Plain bytes in the open generation.
    pub fn open_bytes(&self) -> u64 {
        self.open_bytes
    }

    /// Segments in the open generation: pairs of region and kind of record that have something.
    pub fn open_segments(&self) -> usize {
        self.segments.len()
    }

    /// Closes the open generation; the spool is empty then.
    ///
    /// # Errors
    /// [`SpoolError::Poisoned`] if an earlier error made it unusable; any other error poisons it.
    pub fn seal(&mut self) -> Result<SealedSpool, SpoolError> {
        self.check_poison()?;
        let done = self.try_seal();
        self.poison_on_error(done)
    }

    /// Drops the open generation with all that is in it; the spool is usable again.
    pub fn discard(&mut self) {
        for segment in &mut self.segments {
            let _ = self.pool.put(&mut segment.tail);
        }
        self.blocks.resize(0);
        self.reset();
        self.poisoned = None;
    }

    /// Nothing but free chunks and working memory is left.
    fn reset(&mut self) {
        self.index.clear();
        self.segments.clear();
        self.writer = None;
        self.open_bytes = 0;
        self.ledger.set(self.work.memory() + self.pool.bytes());
    }

    fn check_poison(&self) -> Result<(), SpoolError> {
        match &self.poisoned {
            None => Ok(()),
            Some(cause) => Err(SpoolError::Poisoned { cause: cause.clone() }),
        }
    }

    fn poison_on_error<T>(&mut self, done: Result<T, SpoolError>) -> Result<T, SpoolError> {
        if let Err(error) = &done {
            self.poisoned = Some(error.to_string());
        }
        done
    }

    #[inline]
    fn segment(&mut self, key: FileKey) -> usize {
        match self.index.get(&key) {
            Some(&at) => at as usize,
            None => self.add_segment(key),
        }
    }

    #[cold]
    fn add_segment(&mut self, key: FileKey) -> usize {
        let at = self.segments.len();
        self.segments.push(Segment::new(key));
        self.index.insert(key, at as u32);
        self.ledger.add(Segment::MEMORY);
        // Half of the memory for tails; the least block size bounds the number of blocks, relief bounds the memory.
        let share = self.config.memory.limit() / 2 / self.segments.len();
        self.target = share.clamp(MIN_BLOCK.min(self.config.block_size), self.config.block_size);
        at
    }

    #[inline(never)]
    fn append_slow(&mut self, at: usize, key: &[u8], value: &[u8], len: usize) -> Result<(), SpoolError> {
        let tail = &self.segments[at].tail;
        if len > self.target && tail.len() > 0 {
            // Too large to share a block.
            self.finish_block(at)?;
        }
        let missing = |spool: &Self| spool.pool.missing(spool.segments[at].tail.chunks_for(len)) * CHUNK;
        let bytes = missing(self);
        if bytes > 0 && !self.ledger.try_add(bytes) {
            self.relieve()?;
            let bytes = missing(self);
            self.ledger.add(bytes);
        }
        self.segments[at].tail.push_across(key, value, &mut self.pool);
        Ok(())
    }

    /// Makes a block of a tail.
    fn finish_block(&mut self, at: usize) -> Result<(), SpoolError> {
        self.work.plain.clear();
        self.take_tail(at);
        self.make_block(at)
    }

    /// Moves a tail behind what is in `work.plain`.
    fn take_tail(&mut self, at: usize) {
        let tail = &mut self.segments[at].tail;
        self.work.plain.reserve(tail.len());
        tail.parts().for_each(|part| self.work.plain.extend_from_slice(part));
        let released = self.pool.put(tail);
        self.ledger.sub(released * CHUNK);
    }

    /// Makes a block of `work.plain`, and empties it.
    fn make_block(&mut self, at: usize) -> Result<(), SpoolError> {
        let before = self.work.memory();
        let Work { compressor, plain, stored } = &mut self.work;
        let segment = &mut self.segments[at];
        let summary = summarize(&segment.key, plain)?;
        stored.clear();
        compressor.compress(plain, stored)?;
        let block = Block { stored: self.store(Block::overhead(&summary))?, summary };
        self.segments[at].pieces.push(Piece::Block(Box::new(block)));
        self.work.clear(self.config.block_size);
        self.ledger.set(self.ledger.used() - before + self.work.memory());
        Ok(())
    }

    /// Puts `work.stored` into memory while a quarter of it is free for tails, else into the file.
    fn store(&mut self, overhead: usize) -> Result<Stored, SpoolError> {
        let memory = &self.config.memory;
        let bytes = self.work.stored.len() + overhead;
        let permit = (memory.used() + bytes <= memory.limit() / 4 * 3).then(|| memory.try_acquire(bytes)).flatten();
        if let Some(permit) = permit {
            self.blocks.merge(permit);
            return Ok(Stored::Memory(Bytes::copy_from_slice(&self.work.stored)));
        }
        self.blocks.merge(memory.force_acquire(overhead));
        let stored = std::mem::take(&mut self.work.stored);
        let place = self.writer()?.append([&stored[..]].into_iter());
        self.work.stored = stored;
        Ok(Stored::Disk(place?))
    }

    fn writer(&mut self) -> Result<&mut SpoolWriter, SpoolError> {
        match &mut self.writer {
            Some(writer) => Ok(writer),
            none => {
                let path = new_path(&self.config.dir, &self.name);
                self.ledger.add(SpoolWriter::MEMORY);
                Ok(none.insert(SpoolWriter::create(path, self.create)?))
            }
        }
    }

    /// The budget is used up: first blocks go to the file, then, if they were not much, tails.
    #[cold]
    fn relieve(&mut self) -> Result<(), SpoolError> {
        let tails = self.ledger.used();
        let floor = RELIEF_FLOOR.min(self.config.memory.limit() / 16);
        if self.blocks.bytes() + tails < floor {
            return Ok(());
        }
        tracing::debug!(spool = self.name, tails, blocks = self.blocks.bytes(), "memory is used up: spilling");
        let before = self.blocks.bytes();
        self.spill_blocks()?;
        if before - self.blocks.bytes() < floor.max(tails / 4) {
            self.spill_tails()?;
        }
        Ok(())
    }

    fn spill_blocks(&mut self) -> Result<(), SpoolError> {
        let mut segments = std::mem::take(&mut self.segments);
        let blocks = segments.iter_mut().flat_map(|segment| &mut segment.pieces).filter_map(|piece| match piece {
            Piece::Block(block) => Some(block),
            Piece::Run(_) => None,
        });
        let mut freed = 0;
        let mut done = Ok(());
        for block in blocks {
            let Stored::Memory(bytes) = &block.stored else { continue };
            match self.writer().and_then(|writer| writer.append([&bytes[..]].into_iter())) {
                Ok(place) => {
                    freed += bytes.len();
                    block.stored = Stored::Disk(place);
                }
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
        }
        self.segments = segments;
        self.blocks.resize(self.blocks.bytes() - freed);
        done
    }

    fn spill_tails(&mut self) -> Result<(), SpoolError> {
        for at in 0..self.segments.len() {
            match self.segments[at].tail.len() {
                0 => {}
                len if len < MIN_BLOCK => self.spill_tail(at)?,
                _ => self.finish_block(at)?,
            }
        }
        Ok(())
    }

    fn spill_tail(&mut self, at: usize) -> Result<(), SpoolError> {
        let mut tail = std::mem::take(&mut self.segments[at].tail);
        let place = self.writer()?.append(tail.parts())?;
        let released = self.pool.put(&mut tail);
        self.ledger.sub(released * CHUNK);
        self.segments[at].pieces.push(Piece::Run(place));
        Ok(())
    }

    fn try_seal(&mut self) -> Result<SealedSpool, SpoolError> {
        if let Some(writer) = &mut self.writer {
            writer.flush()?;
        }
        let mut order: Vec<usize> = (0..self.segments.len()).collect();
        let by = |key: &FileKey| (key.is_meta, key.table_id, key.region_id, key.cf, key.kind);
        order.sort_unstable_by_key(|&at| by(&self.segments[at].key));
        for &at in &order {
            self.regroup(at)?;
        }
        let file = self.writer.take().map(SpoolWriter::finish).transpose()?.map(Arc::new);
        let memory = Arc::new(std::mem::replace(&mut self.blocks, self.config.memory.force_acquire(0)));
        let mut files = Vec::new();
        for at in order {
            let Segment { key, pieces, .. } = &mut self.segments[at];
            for piece in pieces.drain(..) {
                if let Piece::Block(block) = piece {
                    let compression = self.config.compression;
                    files.push(SealedFile::new(*key, compression, *block, file.as_ref(), &memory)?);
                }
            }
        }
        self.reset();
        Ok(SealedSpool { files })
    }

    /// Makes blocks of all runs and of the tail of a segment; its pieces stay in order.
    fn regroup(&mut self, at: usize) -> Result<(), SpoolError> {
        self.work.plain.clear();
        for piece in std::mem::take(&mut self.segments[at].pieces) {
            match piece {
                Piece::Block(_) => {
                    self.make_block_of_rest(at)?;
                    self.segments[at].pieces.push(piece);
                }
                Piece::Run(place) => {
                    if let Some(writer) = &self.writer {
                        writer.read(place, &mut self.work.plain)?;
                    }
                    if self.work.plain.len() >= self.config.block_size {
                        self.make_block(at)?;
                    }
                }
            }
        }
        self.take_tail(at);
        self.make_block_of_rest(at)
    }

    fn make_block_of_rest(&mut self, at: usize) -> Result<(), SpoolError> {
        if self.work.plain.is_empty() { Ok(()) } else { self.make_block(at) }
    }
}

/// Refuses what [`summarize`] would refuse later, when it would cost a whole block.
fn check_record(region_id: u64, cf: Cf, key: &[u8], value: &[u8]) -> Result<(), SpoolError> {
    let refuse = |fault| Err(SpoolError::Record { region_id, fault });
    if key.len() < TS_LEN {
        return refuse("its key has no timestamp");
    }
    match cf {
        Cf::Default => Ok(()),
        Cf::Write if value.is_empty() || Write::parse(value).is_ok() => Ok(()),
        Cf::Write => refuse("its value is no write record"),
        Cf::Lock => refuse("locks are no data"),
    }
}
