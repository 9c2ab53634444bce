//! Lock changes that wait until the locks of a snapshot are known.

use std::collections::VecDeque;

use logtide_model::{KeyRange, Ts};

use crate::{LockOp, LockTracker};

/// What a queued change costs besides the bytes of its key: its place in the queue, and the allocation of the key.
const ENTRY_BYTES: usize = 64;

/// Changes in the order of the raft log, each with the last index of the batch that brought it.
#[derive(Debug, Default)]
pub(crate) struct LockQueue {
    changes: VecDeque<Change>,
    key_bytes: usize,
}

/// What is left of changes that took too much memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgotten {
    /// The last index among them; later changes with the same index may be in the queue still.
    pub(crate) through: u64,
    /// No lock among them is older.
    pub(crate) floor: Ts,
}

#[derive(Debug)]
struct Change {
    index: u64,
    key: Box<[u8]>,
    held: Option<Ts>,
}

impl LockQueue {
    /// Appends the changes of a batch that ends at `index`.
    pub(crate) fn push(&mut self, index: u64, ops: &[LockOp<'_>]) {
        for op in ops {
            self.key_bytes += op.key.len();
            self.changes.push_back(Change { index, key: op.key.into(), held: op.held });
        }
    }

    /// Drops the changes of batches that end at or below `index`: a snapshot at `index` has them.
    ///
    /// A batch that the index cuts stays whole. Its older changes are replayed over the snapshot's locks; the last
    /// change of a key wins, so the result is the same.
    pub(crate) fn drop_through(&mut self, index: u64) {
        while self.changes.front().is_some_and(|change| change.index <= index) {
            self.pop();
        }
    }

    /// Drops the oldest batches until at most `bytes` are left; answers what is known of them.
    pub(crate) fn trim(&mut self, bytes: usize) -> Option<Forgotten> {
        let mut gone: Option<Forgotten> = None;
        while self.memory() > bytes {
            let Some(change) = self.pop() else { break };
            let floor = change.held.unwrap_or(Ts::MAX);
            gone = Some(Forgotten { through: change.index, floor: gone.map_or(floor, |gone| gone.floor.min(floor)) });
        }
        gone
    }

    /// Replays the changes to keys of `range`, oldest first.
    pub(crate) fn replay(self, range: &KeyRange, tracker: &mut LockTracker) {
        for change in &self.changes {
            if range.contains(&change.key) {
                tracker.apply(LockOp { key: &change.key, held: change.held });
            }
        }
    }

    /// Bytes of memory, about.
    pub(crate) fn memory(&self) -> usize {
        self.key_bytes + self.changes.len() * ENTRY_BYTES
    }

    fn pop(&mut self) -> Option<Change> {
        let change = self.changes.pop_front()?;
        self.key_bytes -= change.key.len();
        Some(change)
    }
}
