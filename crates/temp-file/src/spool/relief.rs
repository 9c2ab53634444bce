//! Memory pressure: what goes to the file, and in which order; and when there is no room.

use super::Spool;
use crate::SpoolError;
use crate::chunks::SLAB;
use crate::file::Kind;
use crate::segment::{Piece, Run, Stored};

/// Tails shorter than this are not compressed under memory pressure but kept as runs: zstd finds little in them, and
/// the metadata of a block (about 300 bytes) counts.
const MIN_BLOCK: usize = 8 << 10;
/// A spool that holds less than this in tails and blocks is not what the pressure comes from: relief would only write
/// tiny pieces.
const FLOOR: usize = 1 << 20;

impl Spool {
    /// Sees to it that a record of `len` bytes can be appended to a segment. While the disk takes something there is always
    /// room, of which a little may be accounted without being there.
    pub(super) fn make_room(&mut self, at: usize, len: usize) -> Result<(), SpoolError> {
        let missing = |spool: &Self| spool.pool.missing(spool.segments[at].tail.chunks_for(len));
        if self.config.room.disk.takes() {
            let bytes = missing(self);
            if bytes == 0 || self.try_grow(bytes) {
                return Ok(());
            }
            self.relieve()?;
            if self.config.room.disk.takes() {
                let bytes = missing(self);
                self.ledger.add(bytes);
                return Ok(());
            }
        }
        // Memory is all there is. As much as tails take is left free, for the blocks that a seal makes of them.
        let bytes = missing(self);
        if self.try_grow_and_seal(bytes) {
            return Ok(());
        }
        if self.tail_bytes() >= MIN_BLOCK.max(self.config.room.memory.limit() / 8) {
            self.compress_tails()?;
            let bytes = missing(self);
            if self.try_grow_and_seal(bytes) {
                return Ok(());
            }
        }
        Err(SpoolError::NoRoom)
    }

    fn tail_bytes(&self) -> usize {
        self.pool.bytes() - self.pool.free_bytes()
    }

    /// Takes `bytes` for chunks, if that leaves a sixteenth of the memory for the metadata of blocks.
    fn try_grow(&mut self, bytes: usize) -> bool {
        let memory = &self.config.room.memory;
        memory.used() + bytes <= memory.limit() / 16 * 15 && self.ledger.try_add(bytes)
    }

    /// The same, if as much as the tails have is left besides.
    fn try_grow_and_seal(&mut self, bytes: usize) -> bool {
        let memory = &self.config.room.memory;
        let tails = self.tail_bytes();
        memory.used() + bytes + tails <= memory.limit() / 16 * 15 && self.ledger.try_add(bytes)
    }

    /// The budget is used up. First blocks go to the file, once they are worth it; then the longest tails become
    /// blocks, so that blocks are as long as the memory allows with as many segments. If all tails are short, or even
    /// more memory is taken than there is, all tails go to the file as runs.
    #[cold]
    fn relieve(&mut self) -> Result<(), SpoolError> {
        let (limit, used) = (self.config.room.memory.limit(), self.config.room.memory.used());
        let (tails, blocks) = (self.tail_bytes(), self.blocks.bytes());
        if blocks + tails < FLOOR.min(limit / 16) {
            return Ok(());
        }
        tracing::debug!(spool = self.name, used, tails, blocks, "memory is used up: relieving");
        if self.spill_blocks(limit / 8) {
            return Ok(());
        }
        let longest = self.segments.iter().map(|segment| segment.tail.len()).max().unwrap_or(0);
        let worth = MIN_BLOCK.min(self.config.block_size);
        if used > limit || longest < worth {
            self.spill_tails()
        } else {
            // Those that are nearly as long as the longest, rather than sorting them.
            self.shorten_tails(worth.max(longest / 4 * 3), SLAB.max(tails / 64))
        }
    }

    /// Writes the blocks that are in memory, if they hold at least that many bytes, as far as the disk takes them; true if
    /// it took some.
    fn spill_blocks(&mut self, least: usize) -> bool {
        let in_memory = |piece: &Piece| match piece {
            Piece::Block(block) => block.stored_in_memory(),
            Piece::Run(_) => 0,
        };
        if self.blocks.bytes() < least
            || self.segments.iter().flat_map(|s| &s.pieces).map(in_memory).sum::<usize>() < least
        {
            return false;
        }
        let Some(mut writer) = self.take_writer() else { return false };
        let mut freed = 0;
        for piece in self.segments.iter_mut().flat_map(|segment| &mut segment.pieces) {
            if let Piece::Block(block) = piece
                && let Stored::Memory(bytes) = &block.stored
            {
                let length = bytes.len();
                let Some(place) = writer.append([&bytes[..]].into_iter(), Kind::Block) else { break };
                block.stored = Stored::Disk(place);
                freed += length;
            }
        }
        self.blocks.resize(self.blocks.bytes() - freed);
        self.writer = Some(writer);
        freed > 0
    }

    /// Makes blocks of tails of at least that length, until `goal` bytes of chunks are free.
    fn shorten_tails(&mut self, least: usize, goal: usize) -> Result<(), SpoolError> {
        for at in 0..self.segments.len() {
            if self.segments[at].tail.len() >= least {
                self.finish_block(at)?;
            }
            if self.pool.free_bytes() >= goal {
                break;
            }
        }
        Ok(())
    }

    /// Makes blocks of all tails, and gives their chunks back.
    fn compress_tails(&mut self) -> Result<(), SpoolError> {
        self.shorten_tails(1, usize::MAX)?;
        self.shrink();
        Ok(())
    }

    /// Writes tails as they are, as far as the disk takes them.
    fn spill_tails(&mut self) -> Result<(), SpoolError> {
        for at in 0..self.segments.len() {
            if self.segments[at].tail.len() > 0 && !self.spill_tail(at)? {
                break;
            }
        }
        self.shrink();
        Ok(())
    }

    fn shrink(&mut self) {
        let before = self.pool.bytes();
        self.pool.shrink();
        self.ledger.sub(before - self.pool.bytes());
    }

    fn spill_tail(&mut self, at: usize) -> Result<bool, SpoolError> {
        let Some(mut writer) = self.take_writer() else { return Ok(false) };
        let segment = &mut self.segments[at];
        let (place, cipher) = match &mut self.work.cipher {
            None => (writer.append(segment.tail.parts(&self.pool), Kind::Run), None),
            Some(cipher) => {
                let mut bytes: Vec<u8> = Vec::with_capacity(segment.tail.len());
                segment.tail.parts(&self.pool).for_each(|part| bytes.extend_from_slice(part));
                let cipher = cipher.encrypt_run(&mut bytes)?;
                (writer.append([&bytes[..]].into_iter(), Kind::Run), Some(cipher))
            }
        };
        self.writer = Some(writer);
        let Some(place) = place else { return Ok(false) };
        segment.pieces.push(Piece::Run(Box::new(Run { place, cipher })));
        self.pool.put(&mut segment.tail);
        Ok(true)
    }
}
