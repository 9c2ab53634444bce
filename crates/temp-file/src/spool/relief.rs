//! Memory pressure: what goes to the file, and in which order.

use super::{MIN_BLOCK, Spool};
use crate::SpoolError;
use crate::chunks::CHUNK;
use crate::segment::{Piece, Stored};

/// A spool that holds less than this in chunks and blocks is not what the pressure comes from: relief would only write
/// tiny pieces.
const RELIEF_FLOOR: usize = 1 << 20;

impl Spool {
    /// The budget is used up: first blocks go to the file, then, if they were not much, tails.
    #[cold]
    pub(super) fn relieve(&mut self) -> Result<(), SpoolError> {
        let tails = self.ledger.used() - self.work.accounted;
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
}
