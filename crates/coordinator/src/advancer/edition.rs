//! Editions of the cover: each is written chunk by chunk, a few at each tick, beside the one before, which counts until
//! the last chunk is there. A cover of a million regions takes some twenty megabytes: to write it as a whole whenever
//! something is folded took as long as the ticks are apart.

use bytes::Bytes;
use logtide_checkpoint::Cover;
use logtide_model::Task;

use crate::cover::{Cursor, encode_chunk};
use crate::error::CoordinatorError;
use crate::keys;
use crate::log_index::LogIndexes;
use crate::store::{MAX_TXN_OPS, Txn};

/// Chunks that a tick writes, of about half a megabyte each.
const CHUNKS_A_TICK: usize = 4;
/// How many keys one transaction deletes at most: it also has puts.
const MAX_DELETES: usize = MAX_TXN_OPS / 2;
/// The cover's last chunk, the checkpoint and the holder go into one transaction.
const _: () = assert!(MAX_DELETES + 3 <= MAX_TXN_OPS);

/// The editions of one life of a task.
#[derive(Default)]
pub(crate) struct Editions {
    /// The newest number, of an edition that is complete or not.
    number: u64,
    /// The keys of what the next complete edition replaces, those of the one that counts in front.
    old: Vec<Bytes>,
    /// What was folded since the last edition began.
    spent: Vec<Bytes>,
    writing: Option<Writing>,
}

/// An edition that is not complete.
struct Writing {
    cursor: Cursor,
    keys: Vec<Bytes>,
    /// What it has all of: it was folded before the first chunk.
    spent: Vec<Bytes>,
}

impl Editions {
    /// What comes after what was read.
    pub(crate) fn after(number: u64, old: Vec<Bytes>) -> Self {
        Editions { number, old, ..Editions::default() }
    }

    /// The records of a publication are folded: they go when an edition that begins from now on is complete.
    pub(crate) fn spend(&mut self, keys: impl Iterator<Item = Bytes>) {
        self.spent.extend(keys);
    }

    /// True if something is to be written.
    pub(crate) fn is_due(&self) -> bool {
        self.writing.is_some() || !self.spent.is_empty()
    }

    /// Begins an edition, if one is due and none is being written. True if so.
    pub(crate) fn begin(&mut self) -> bool {
        if self.writing.is_some() || self.spent.is_empty() {
            return false;
        }
        self.number += 1;
        let spent = std::mem::take(&mut self.spent);
        self.writing = Some(Writing { cursor: Cursor::default(), keys: Vec::new(), spent });
        true
    }

    /// Writes some chunks. The last one of an edition comes in one transaction with `txn` and the end of the edition
    /// before: until then that one counts, and everything folded is still there. Without a last one, `txn` is done alone.
    /// Returns the publications that were removed.
    ///
    /// After an error nothing is known of what was written: what is persisted is to be read again.
    pub(crate) fn write(
        &mut self,
        task: &Task,
        cover: &Cover,
        indexes: &LogIndexes,
        txn: Txn,
        commit: &dyn Fn(Txn) -> Result<(), CoordinatorError>,
    ) -> Result<Vec<Bytes>, CoordinatorError> {
        let Some(mut writing) = self.writing.take() else { return alone(txn, commit) };
        for _ in 0..CHUNKS_A_TICK {
            let (chunk, next) = encode_chunk(writing.keys.len(), &writing.cursor, cover, indexes);
            let key = keys::cover(task, self.number, writing.keys.len());
            writing.keys.push(key.clone());
            match next {
                Some(cursor) => {
                    commit(Txn::new().put(key, chunk))?;
                    writing.cursor = cursor;
                }
                None => return self.complete(writing, txn.put(key, chunk), commit),
            }
        }
        self.writing = Some(writing);
        alone(txn, commit)
    }

    fn complete(
        &mut self,
        writing: Writing,
        txn: Txn,
        commit: &dyn Fn(Txn) -> Result<(), CoordinatorError>,
    ) -> Result<Vec<Bytes>, CoordinatorError> {
        // The old edition goes first: that is what tells readers that they have to read again.
        let mut gone = std::mem::replace(&mut self.old, writing.keys).into_iter().chain(writing.spent.iter().cloned());
        commit(gone.by_ref().take(MAX_DELETES).fold(txn, Txn::delete))?;
        let gone: Vec<Bytes> = gone.collect();
        for keys in gone.chunks(MAX_DELETES) {
            commit(keys.iter().cloned().fold(Txn::new(), Txn::delete))?;
        }
        Ok(writing.spent)
    }
}

fn alone(txn: Txn, commit: &dyn Fn(Txn) -> Result<(), CoordinatorError>) -> Result<Vec<Bytes>, CoordinatorError> {
    if !txn.then.is_empty() {
        commit(txn)?;
    }
    Ok(Vec::new())
}
