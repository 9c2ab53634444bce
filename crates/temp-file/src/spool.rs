//! The open generation.

mod blocks;
mod relief;
mod seal;
#[cfg(test)]
mod tests;

use logtide_format::{EntryKind, FileKey, record_len};
use logtide_model::mvcc::Write;
use logtide_model::{Cf, Compression, Permit};
use rustc_hash::FxHashMap;

use crate::chunks::ChunkPool;
use crate::file::SpoolWriter;
use crate::ledger::Ledger;
use crate::segment::Segment;
use crate::{SealedSpool, SpoolEncryption, SpoolError, SpoolRoom};
use blocks::Work;

/// Bytes of the timestamp at the end of a key.
const TS_LEN: usize = 8;

/// What a [`Spool`] is made of.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// What it may take, in memory and on the disk; shared with other spools.
    pub room: SpoolRoom,
    /// Plain bytes of a block while there is memory for it; 128 KiB is a good value. Where many segments share little
    /// memory, blocks are smaller.
    pub block_size: usize,
    /// How blocks are compressed.
    pub compression: Compression,
    /// What blocks, and whatever else goes to the file, are encrypted with.
    pub encryption: Option<SpoolEncryption>,
}

impl SpoolConfig {
    /// The default of [`block_size`](Self::block_size): 128 KiB. Twice as much no longer stays in a processor's own
    /// cache from chunk to compressed block: a fifth slower (`cargo bench -p logtide-benches --bench append`).
    pub const BLOCK_SIZE: usize = 128 << 10;
}

/// The open generation of one task on one shard.
#[derive(Debug)]
pub struct Spool {
    config: SpoolConfig,
    name: String,
    index: FxHashMap<FileKey, u32>,
    segments: Vec<Segment>,
    open_bytes: u64,
    pool: ChunkPool,
    /// Slabs of chunks, segments and working memory.
    ledger: Ledger,
    /// Blocks that are in memory.
    blocks: Permit,
    writer: Option<SpoolWriter>,
    work: Work,
    poisoned: Option<String>,
}

impl Spool {
    /// An empty spool. `name` tells its file from those of other spools, for people; the file's name is unique anyway.
    ///
    /// A disk that cannot be used is no error: see [`SpoolRoom::trouble`].
    ///
    /// # Errors
    /// [`SpoolError::Format`] where zstd has no memory.
    pub fn new(config: SpoolConfig, name: &str) -> Result<Self, SpoolError> {
        // Known now, rather than when memory gets short.
        config.room.disk.look();
        let mut spool = Spool {
            index: FxHashMap::default(),
            segments: Vec::new(),
            open_bytes: 0,
            pool: ChunkPool::default(),
            ledger: Ledger::new(config.room.memory.clone()),
            blocks: config.room.memory.force_acquire(0),
            writer: None,
            work: Work::new(&config)?,
            poisoned: None,
            name: name.to_owned(),
            config,
        };
        spool.settle_work();
        Ok(spool)
    }

    /// Appends a record; those of one region, column family, kind and table keep their order. For a delete `value` is
    /// ignored.
    ///
    /// # Errors
    /// [`SpoolError::Record`] for a record that no backup can hold, [`SpoolError::NoRoom`] where there is no room for it:
    /// nothing was appended, the spool stays usable. Any other error poisons the open generation: it can only be discarded.
    #[inline]
    pub fn append(
        &mut self,
        region_id: u64,
        cf: Cf,
        kind: EntryKind,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), SpoolError> {
        if self.poisoned.is_some() {
            return self.check_poison();
        }
        let value = if kind == EntryKind::Delete { &[] } else { value };
        check_record(region_id, cf, key, value)?;
        let len = record_len(key.len(), value.len());
        let at = self.segment(FileKey::of(region_id, cf, kind, key));
        if !self.segments[at].tail.push(key, value, len, &mut self.pool) {
            let done = self.append_slow(at, key, value, len);
            self.poison_on_error(done)?;
        }
        self.open_bytes += len as u64;
        if self.segments[at].tail.len() >= self.config.block_size {
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
            self.pool.put(&mut segment.tail);
        }
        self.blocks.resize(0);
        self.reset();
        self.poisoned = None;
    }

    /// Nothing but a slab and working memory is left.
    fn reset(&mut self) {
        self.pool.shrink();
        self.index.clear();
        self.segments.clear();
        self.writer = None;
        self.open_bytes = 0;
        if let Some(cipher) = &mut self.work.cipher {
            cipher.end_generation();
        }
        self.ledger.set(self.work.accounted + self.pool.bytes());
    }

    fn check_poison(&self) -> Result<(), SpoolError> {
        match &self.poisoned {
            None => Ok(()),
            Some(cause) => Err(SpoolError::Poisoned { cause: cause.clone() }),
        }
    }

    fn poison_on_error<T>(&mut self, done: Result<T, SpoolError>) -> Result<T, SpoolError> {
        if let Err(error) = &done
            && !matches!(error, SpoolError::NoRoom)
        {
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
        at
    }

    #[inline(never)]
    fn append_slow(&mut self, at: usize, key: &[u8], value: &[u8], len: usize) -> Result<(), SpoolError> {
        if len > self.config.block_size && self.segments[at].tail.len() > 0 {
            // Too large to share a block.
            self.finish_block(at)?;
        }
        self.make_room(at, len)?;
        self.segments[at].tail.push_across(key, value, &mut self.pool);
        Ok(())
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
