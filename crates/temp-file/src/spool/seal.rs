//! The end of a generation: runs and tails become blocks, and all of them are handed over.

use std::sync::Arc;

use logtide_format::FileKey;

use super::Spool;
use crate::file::SpoolWriter;
use crate::segment::{Piece, Segment};
use crate::{SealedFile, SealedSpool, SpoolError};

impl Spool {
    pub(super) fn try_seal(&mut self) -> Result<SealedSpool, SpoolError> {
        if let Some(writer) = &mut self.writer {
            writer.redeem();
        }
        let mut order: Vec<usize> = (0..self.segments.len()).collect();
        let by = |key: &FileKey| (key.is_meta, key.table_id, key.region_id, key.cf, key.kind);
        order.sort_unstable_by_key(|&at| by(&self.segments[at].key));
        for &at in &order {
            self.regroup(at)?;
        }
        let budget = &self.config.room.memory;
        let (file, in_memory) = self.writer.take().map(SpoolWriter::finish).unzip();
        self.blocks.merge(budget.force_acquire(in_memory.unwrap_or(0)));
        let memory = Arc::new(std::mem::replace(&mut self.blocks, budget.force_acquire(0)));
        let file = file.map(Arc::new);
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
                Piece::Run(run) => {
                    let before = self.work.plain.len();
                    if let Some(writer) = &self.writer {
                        writer.read(run.place, &mut self.work.plain)?;
                    }
                    if let Some(cipher) = &run.cipher {
                        cipher.decrypt(&mut self.work.plain[before..])?;
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
