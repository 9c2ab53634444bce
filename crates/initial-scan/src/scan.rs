//! The order of a scan.

use logtide_model::message::{ScanEvent, StartPoint};
use logtide_model::planted::Bug;
use logtide_model::{KeyRange, KvSnapshot, MemoryBudget, RANGE_DELETE_ON_ITS_WAY, Task, Ts};

use crate::batch::{Arena, Batch};
use crate::cursor::Pace;
use crate::delta::Delta;
use crate::{LogReader, RateLimiter, ScanError, Waiter};

/// What all scans of a store share. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Scanner {
    /// How fast snapshots are read.
    pub limiter: RateLimiter,
    /// Accounts for what was read and is not yet handled; every batch holds a permit of it.
    pub memory: MemoryBudget,
    /// Bytes of a batch, at most; a larger record is a batch of its own.
    pub batch_bytes: usize,
}

/// Where the records came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// The snapshot was scanned.
    #[default]
    Snapshot,
    /// The raft log had all of them.
    Log,
    /// The raft log did not go on, or did not reach so far back: the snapshot was scanned after all.
    Both,
}

impl Source {
    /// A short name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Snapshot => "snapshot",
            Source::Log => "log",
            Source::Both => "log-then-snapshot",
        }
    }
}

/// What a scan did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Locks that were reported.
    pub locks: u64,
    /// Records that were emitted.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Bytes of all keys and values that were read.
    pub read_bytes: u64,
    /// Bytes that were read from disk for it, as the limiter counts them.
    pub disk_bytes: u64,
    /// Records above the start ts that carry no data (rollbacks, locks).
    pub skipped: u64,
    /// Keys with a version at or below the start ts.
    pub old_keys: u64,
    /// How often an iterator had to seek.
    pub seeks: u64,
    /// How often the scan had to wait for memory.
    pub memory_waits: u64,
    /// Where the records came from.
    pub source: Source,
    /// Raft entries that were replayed.
    pub log_entries: u64,
}

impl Scanner {
    /// Scans a snapshot for what `task` needs above `start_ts`: `Started`, `Locks`*, `LocksDone`, `Data`*, `Finished`.
    ///
    /// Locks are those that hold the resolved ts back. Data are the put and delete records committed above
    /// `start_ts`, and the value in the default column family of every such put, and of every put lock, whatever its
    /// own ts. Neither ever leaves the ranges of the task. If a range was removed past MVCC since `start_ts`, or a
    /// little before it where that is the task's own ([`KvSnapshot::last_range_delete`],
    /// [`RANGE_DELETE_ON_ITS_WAY`]), the data begin with a `Replayed` of range deletes of all that is scanned: which
    /// keys it were, nobody knows any more. `sink` returns false to end the scan.
    ///
    /// It blocks while there is no memory or the rate is exceeded; `waiter` ends that at once.
    ///
    /// # Errors
    /// [`ScanError`]; what was emitted before is harmless, as a later attempt emits it again.
    pub fn scan(
        &self,
        snapshot: &dyn KvSnapshot,
        task: &Task,
        start_ts: Ts,
        waiter: &dyn Waiter,
        sink: &mut dyn FnMut(ScanEvent) -> bool,
    ) -> Result<ScanReport, ScanError> {
        let start = StartPoint { ts: start_ts, log_from: None };
        self.catch_up(snapshot, task, start, &|_, _| Ok(None), waiter, sink)
    }

    /// As [`Self::scan`], but takes the data from the raft log, if `start` has an index and `log` all entries from it up
    /// to the snapshot: `Started`, `Locks`*, `LocksDone`, `Replayed`*, `Finished`. If not, the rest is as in a scan.
    ///
    /// What the entries did is emitted as it was done: puts and deletes of the column families default and write, and
    /// range deletes in them, within the ranges of the task. A log with an ingested file is not used.
    ///
    /// # Errors
    /// As [`Self::scan`]; never because of the log.
    pub fn catch_up(
        &self,
        snapshot: &dyn KvSnapshot,
        task: &Task,
        start: StartPoint,
        log: &LogReader<'_>,
        waiter: &dyn Waiter,
        sink: &mut dyn FnMut(ScanEvent) -> bool,
    ) -> Result<ScanReport, ScanError> {
        let mut delta = Delta {
            snapshot,
            start_ts: start.ts,
            settled: settled(task, start.ts),
            memory: &self.memory,
            batch_bytes: self.batch_bytes,
            pace: Pace::new(&self.limiter, waiter, snapshot),
            sink,
            arena: Arena::default(),
            report: ScanReport::default(),
        };
        let outcome = run(&mut delta, &ranges(task, &snapshot.region().range), start.log_from, log);
        delta.pace.finish();
        outcome?;
        let Pace { read_bytes, disk_bytes, seeks, .. } = delta.pace;
        Ok(ScanReport { read_bytes, disk_bytes, seeks, ..delta.report })
    }
}

fn run(
    delta: &mut Delta<'_>,
    ranges: &[KeyRange],
    log_from: Option<u64>,
    log: &LogReader<'_>,
) -> Result<(), ScanError> {
    let applied_index = delta.snapshot.applied_index();
    delta.send(ScanEvent::Started { start_ts: delta.start_ts, applied_index })?;
    let mut locks = Batch::new();
    for range in ranges {
        delta.locks(range, &mut locks)?;
    }
    delta.flush(&mut locks)?;
    delta.send(ScanEvent::LocksDone)?;
    let log_from = log_from.map(|from| if Bug::CatchUpSkipsEntry.is_planted() { from + 1 } else { from });
    delta.report.source = match log_from {
        None => Source::Snapshot,
        Some(from) if delta.replay(ranges, from, log)? => Source::Log,
        Some(_) => Source::Both,
    };
    if delta.report.source != Source::Log {
        delta.range_deletes(ranges)?;
        let mut data = Batch::new();
        for range in ranges {
            delta.lock_values(range, &mut data)?;
            delta.writes(range, &mut data)?;
        }
        delta.flush(&mut data)?;
    }
    delta.send(ScanEvent::Finished)
}

/// Up to which timestamp range deletes are in what is durable at the start of a scan. A start that somebody stated is below a
/// barrier, and so is not below the timestamp of a delete that was missed ([`KvSnapshot::last_range_delete`]). The
/// task's own start is no barrier: a base was read at or above it, maybe before a delete that was on its way was applied.
fn settled(task: &Task, start_ts: Ts) -> Ts {
    if start_ts > task.start_ts {
        return start_ts;
    }
    let on_its_way = Ts::compose(RANGE_DELETE_ON_ITS_WAY.as_millis() as u64, 0);
    Ts::new(start_ts.get().saturating_sub(on_its_way.get()))
}

/// What the task wants of a region, ascending, nothing twice.
fn ranges(task: &Task, region: &KeyRange) -> Vec<KeyRange> {
    let mut wanted: Vec<KeyRange> = task.ranges.iter().filter_map(|r| r.intersect(region)).collect();
    wanted.sort();
    let mut ranges: Vec<KeyRange> = Vec::with_capacity(wanted.len());
    for range in wanted {
        match ranges.last_mut() {
            Some(last) if last.end.is_empty() || range.start <= last.end => {
                if !last.covers(&range) {
                    last.end = range.end;
                }
            }
            _ => ranges.push(range),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_model::{Compression, Incarnation, TaskName};

    fn range(a: &str, b: &str) -> KeyRange {
        KeyRange::new(a.to_owned(), b.to_owned())
    }

    #[test]
    fn ranges_are_cut_to_the_region_and_joined() {
        let task = Task {
            name: TaskName::new("t").unwrap(),
            incarnation: Incarnation(1),
            storage: String::new(),
            start_ts: Ts::ZERO,
            ranges: vec![range("k", ""), range("a", "c"), range("b", "d"), range("m", "n"), range("e", "f")],
            compression: Compression::None,
            encryption: None,
        };
        assert_eq!(ranges(&task, &range("b", "z")), [range("b", "d"), range("e", "f"), range("k", "z")]);
        assert_eq!(ranges(&task, &range("d", "e")), []);
        assert_eq!(ranges(&task, &KeyRange::ALL), [range("a", "d"), range("e", "f"), range("k", "")]);
    }
}
