//! The memory of locks, as the shared budget sees it.

use logtide_model::{MemoryBudget, Permit};

/// Bytes are taken from the budget in pieces of this size, so that most messages do not touch it.
const PIECE: usize = 64 << 10;

/// What one shard's locks take.
#[derive(Debug)]
pub(crate) struct LockAccount {
    budget: MemoryBudget,
    pieces: Vec<Permit>,
    bytes: usize,
}

impl LockAccount {
    pub(crate) fn new(budget: MemoryBudget) -> Self {
        LockAccount { budget, pieces: Vec::new(), bytes: 0 }
    }

    /// Something took `before` bytes and takes `after` now. Answers true if that needed more of the budget than is left.
    pub(crate) fn change(&mut self, before: usize, after: usize) -> bool {
        self.bytes = self.bytes.saturating_sub(before) + after;
        let want = self.bytes.div_ceil(PIECE);
        let grows = want > self.pieces.len();
        self.pieces.truncate(want);
        while self.pieces.len() < want {
            self.pieces.push(self.budget.force_acquire(PIECE));
        }
        grows && self.is_over()
    }

    /// True if the budget is overdrawn.
    pub(crate) fn is_over(&self) -> bool {
        self.budget.is_over()
    }

    /// Bytes now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
