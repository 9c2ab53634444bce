//! Catching up from the raft log: what the entries after the last durable one did, instead of a scan for it.
//!
//! The log gives what the region's applied path gave, or would have given: puts and deletes of the column families
//! default and write, in order. Values of locks need no search: what put such a value is among the entries, or was
//! durable before them. (The locks themselves come from the snapshot.)

use logtide_model::message::ScanEvent;
use logtide_model::planted::Bug;
use logtide_model::{Cf, HostError, KeyRange, LogBatch, LogEntries, Op, Permit};

use crate::ScanError;
use crate::batch::{Batch, Item};
use crate::delta::Delta;

/// Asks the host for the effects of the entries `from..=through` of the region that is caught up, in the version of the
/// snapshot: see `Host::raft_log`.
pub type LogReader<'a> = dyn Fn(u64, u64) -> Result<Option<Box<dyn LogEntries>>, HostError> + 'a;

/// A change, and the last index of the batch that it came with.
struct Change {
    index: u64,
    op: Op,
}

impl Item for Change {
    fn event(items: Vec<Self>, permit: Permit) -> ScanEvent {
        let index = items.last().map_or(0, |change| change.index);
        ScanEvent::Replayed { index, ops: items.into_iter().map(|change| change.op).collect(), permit }
    }
}

impl Delta<'_> {
    /// A snapshot does not have what was removed past MVCC, nor does it tell which keys that were: all that is scanned may be.
    pub(crate) fn range_deletes(&mut self, ranges: &[KeyRange]) -> Result<(), ScanError> {
        let is_old = self.snapshot.last_range_delete().is_none_or(|ts| ts <= self.settled);
        if is_old || Bug::RangeDeleteUnseen.is_planted() {
            return Ok(());
        }
        let (index, mut batch) = (self.snapshot.applied_index(), Batch::new());
        for KeyRange { start, end } in ranges {
            for cf in [Cf::Write, Cf::Default] {
                let bytes = size_of::<Change>() + start.len() + end.len();
                self.reserve(&mut batch, bytes)?;
                let op = Op::DeleteRange { cf, start: start.clone(), end: end.clone() };
                batch.push(Change { index, op }, bytes);
            }
        }
        self.flush(&mut batch)
    }

    /// Emits what the entries from `from` up to the snapshot did. Answers false if the log does not tell it all: then
    /// it has to be scanned. What was emitted until then is true all the same.
    pub(crate) fn replay(&mut self, ranges: &[KeyRange], from: u64, log: &LogReader<'_>) -> Result<bool, ScanError> {
        let through = self.snapshot.applied_index();
        if from > through {
            return Ok(true);
        }
        let Ok(Some(entries)) = log(from, through) else { return Ok(false) };
        let (mut next, mut batch) = (from, Batch::new());
        for entry in entries {
            self.pace.check()?;
            let Ok(entry) = entry else { return Ok(false) };
            // An ingested file may be gone by now, and a snapshot has what was in it.
            let ingests = entry.ops.iter().any(|op| matches!(op, Op::IngestSst { .. }));
            if entry.first_index != next || entry.last_index < next || entry.last_index > through || ingests {
                return Ok(false);
            }
            self.replay_entry(ranges, &entry, &mut batch)?;
            self.report.log_entries += entry.last_index - entry.first_index + 1;
            next = entry.last_index + 1;
        }
        if next <= through {
            return Ok(false);
        }
        self.flush(&mut batch)?;
        Ok(true)
    }

    fn replay_entry(
        &mut self,
        ranges: &[KeyRange],
        entry: &LogBatch,
        batch: &mut Batch<Change>,
    ) -> Result<(), ScanError> {
        let wants = |key: &[u8]| ranges.iter().any(|range| range.contains(key));
        for op in &entry.ops {
            let bytes = op_bytes(op);
            self.pace.read(bytes)?;
            let wanted = match op {
                Op::Put { cf: Cf::Default | Cf::Write, key, .. } | Op::Delete { cf: Cf::Default | Cf::Write, key } => {
                    wants(key)
                }
                Op::DeleteRange { cf: Cf::Default | Cf::Write, start, end } => {
                    let gone = KeyRange { start: start.clone(), end: end.clone() };
                    ranges.iter().any(|range| range.overlaps(&gone))
                }
                _ => false,
            };
            if wanted {
                self.reserve(batch, size_of::<Change>() + bytes)?;
                let op = self.arena.op(op);
                batch.push(Change { index: entry.last_index, op }, size_of::<Change>() + bytes);
                self.report.entries += 1;
                self.report.bytes += bytes as u64;
            }
        }
        Ok(())
    }
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete { key, .. } => key.len(),
        Op::DeleteRange { start, end, .. } => start.len() + end.len(),
        Op::IngestSst { .. } | Op::Admin => 0,
    }
}
