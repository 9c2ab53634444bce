//! Which records of a snapshot a backup needs, range by range.

use std::time::Duration;

use bytes::Bytes;
use logtide_model::message::{ScanEntry, ScanEvent};
use logtide_model::mvcc::{Lock, LockKind, Write, WriteKind};
use logtide_model::planted::Bug;
use logtide_model::{Cf, KeyRange, KvSnapshot, MemoryBudget, Ts, split_ts};

use crate::batch::{Arena, Batch, Item};
use crate::cursor::{Cursor, Pace};
use crate::{ScanError, ScanReport};

/// How long to wait before asking for memory again: the budget cannot call back.
const MEMORY_POLL: Duration = Duration::from_millis(2);

/// A scan under way.
pub(crate) struct Delta<'a> {
    pub(crate) snapshot: &'a dyn KvSnapshot,
    pub(crate) start_ts: Ts,
    /// What is durable at the start has every range delete with a timestamp at or below it.
    pub(crate) settled: Ts,
    pub(crate) memory: &'a MemoryBudget,
    pub(crate) batch_bytes: usize,
    pub(crate) pace: Pace<'a>,
    pub(crate) sink: &'a mut dyn FnMut(ScanEvent) -> bool,
    pub(crate) arena: Arena,
    pub(crate) report: ScanReport,
}

impl<'a> Delta<'a> {
    /// Hands an event over.
    pub(crate) fn send(&mut self, event: ScanEvent) -> Result<(), ScanError> {
        self.pace.check()?;
        if (self.sink)(event) { Ok(()) } else { Err(ScanError::Cancelled) }
    }

    /// Hands over what is in the batch.
    pub(crate) fn flush<T: Item>(&mut self, batch: &mut Batch<T>) -> Result<(), ScanError> {
        match batch.take() {
            Some(event) => self.send(event),
            None => Ok(()),
        }
    }

    /// Makes room for an item of `bytes`. What is gathered is handed over before waiting, so that scans that wait for
    /// each other's memory hold none.
    pub(crate) fn reserve<T: Item>(&mut self, batch: &mut Batch<T>, bytes: usize) -> Result<(), ScanError> {
        if !batch.takes(bytes, self.batch_bytes) {
            self.flush(batch)?;
        }
        while !batch.account(self.memory, bytes, self.batch_bytes) {
            self.flush(batch)?;
            self.report.memory_waits += 1;
            self.pace.pause(MEMORY_POLL)?;
        }
        Ok(())
    }

    /// Reports the locks of a range that hold the resolved ts back.
    pub(crate) fn locks(&mut self, range: &KeyRange, batch: &mut Batch<(Bytes, Ts)>) -> Result<(), ScanError> {
        let mut cursor = Cursor::new(self.snapshot.iter(Cf::Lock, range)?);
        cursor.next(&mut self.pace)?;
        while cursor.valid {
            let (kind, start_ts) =
                Lock::peek(cursor.value()).map_err(|e| ScanError::corrupt(Cf::Lock, cursor.key(), e))?;
            if matches!(kind, LockKind::Put | LockKind::Delete) {
                let bytes = size_of::<(Bytes, Ts)>() + cursor.key().len();
                self.reserve(batch, bytes)?;
                batch.push((self.arena.copy(cursor.key()), start_ts), bytes);
                self.report.locks += 1;
            }
            cursor.next(&mut self.pace)?;
        }
        Ok(())
    }

    /// Emits the long values of the put locks of a range: their write records come later, through raft, but the values
    /// are older than the scan's snapshot (DESIGN 15.15).
    pub(crate) fn lock_values(&mut self, range: &KeyRange, batch: &mut Batch<ScanEntry>) -> Result<(), ScanError> {
        let mut locks = Cursor::new(self.snapshot.iter(Cf::Lock, range)?);
        let mut values = Cursor::new(self.snapshot.iter(Cf::Default, range)?);
        locks.next(&mut self.pace)?;
        while locks.valid {
            let corrupt = |e| ScanError::corrupt(Cf::Lock, locks.key(), e);
            if Lock::peek(locks.value()).map_err(corrupt)?.0 == LockKind::Put {
                let lock = Lock::parse(locks.value()).map_err(corrupt)?;
                if lock.short_value.is_none() {
                    if !values.find(locks.key(), lock.start_ts, &mut self.pace)? {
                        let cause = format!("no value in default for the lock of transaction {}", lock.start_ts);
                        return Err(ScanError::corrupt(Cf::Lock, locks.key(), cause));
                    }
                    self.emit(Cf::Default, &values, batch)?;
                }
            }
            locks.next(&mut self.pace)?;
        }
        Ok(())
    }

    /// Emits the put and delete records of a range that were committed above the start ts, each behind its long value.
    pub(crate) fn writes(&mut self, range: &KeyRange, batch: &mut Batch<ScanEntry>) -> Result<(), ScanError> {
        let mut writes = Cursor::new(self.snapshot.iter(Cf::Write, range)?);
        let mut values = Cursor::new(self.snapshot.iter(Cf::Default, range)?);
        if Bug::ScanEndsAtLocks.is_planted() && self.report.locks > 4 {
            return Ok(());
        }
        writes.next(&mut self.pace)?;
        while writes.valid {
            let corrupt = |e| ScanError::corrupt(Cf::Write, writes.key(), e);
            let (user, commit_ts) = split_ts(writes.key()).map_err(corrupt)?;
            if commit_ts <= self.start_ts {
                self.report.old_keys += 1;
                writes.skip_versions(&mut self.pace)?;
                continue;
            }
            let write = Write::parse(writes.value()).map_err(corrupt)?;
            if self.wants(&write, user, commit_ts, &writes, &mut values, batch)? {
                self.emit(Cf::Write, &writes, batch)?;
            } else {
                self.report.skipped += 1;
            }
            writes.next(&mut self.pace)?;
        }
        Ok(())
    }

    /// True for a record that carries data; its long value is emitted.
    fn wants(
        &mut self,
        write: &Write<'_>,
        user: &[u8],
        commit_ts: Ts,
        writes: &Cursor<'a>,
        values: &mut Cursor<'a>,
        batch: &mut Batch<ScanEntry>,
    ) -> Result<bool, ScanError> {
        if !write.needs_default() {
            return Ok(matches!(write.kind, WriteKind::Put | WriteKind::Delete));
        }
        if values.find(user, write.start_ts, &mut self.pace)? {
            if Bug::OldValuesLeftOut.is_planted() && write.start_ts <= self.start_ts {
                return Ok(true);
            }
            self.emit(Cf::Default, values, batch)?;
            return Ok(true);
        }
        // A record that was rewritten for an overlapped rollback while GC removed it: nobody reads it any more, as
        // there was a newer version (its fence) already.
        if write.gc_fence.is_some_and(|fence| fence > commit_ts) {
            return Ok(false);
        }
        let cause = format!("no value in default for the put of transaction {}", write.start_ts);
        Err(ScanError::corrupt(Cf::Write, writes.key(), cause))
    }

    fn emit(&mut self, cf: Cf, at: &Cursor<'_>, batch: &mut Batch<ScanEntry>) -> Result<(), ScanError> {
        let bytes = at.key().len() + at.value().len();
        self.reserve(batch, size_of::<ScanEntry>() + bytes)?;
        batch.push(self.arena.entry(cf, at.key(), at.value()), size_of::<ScanEntry>() + bytes);
        self.report.entries += 1;
        self.report.bytes += bytes as u64;
        Ok(())
    }
}
