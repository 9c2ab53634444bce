//! Catching up from a raft log: what is emitted, when the log is not enough, memory, rate, cancellation.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use logtide_model::message::{ScanEvent, StartPoint};
use logtide_model::mvcc::{LockKind, WriteKind};
use logtide_model::{
    Cf, HostError, KeyRange, LogBatch, LogEntries, Op, RANGE_DELETE_ON_ITS_WAY, Task, Ts, encode_raw_key,
};
use proptest::prelude::*;

use super::store::{Clock, Emitted, Store, key_at, scan, scanner, task};
use crate::{RateLimiter, ScanError, ScanReport, Scanner, Source};

/// The index of [`Store`]'s snapshots.
const APPLIED: u64 = 42;

type Entry = Result<LogBatch, HostError>;

fn put(cf: Cf, key: Vec<u8>, value: &[u8]) -> Op {
    Op::Put { cf, key: key.into(), value: Bytes::copy_from_slice(value) }
}

/// A prewrite and a commit of one key, as two entries that end at `index`.
fn written(key: &str, index: u64) -> Vec<Entry> {
    let (start_ts, commit_ts) = (index * 10, index * 10 + 5);
    let locked = || encode_raw_key(key.as_bytes());
    let prewrite = vec![put(Cf::Default, key_at(key, start_ts), b"long"), put(Cf::Lock, locked(), b"lock")];
    let commit = vec![put(Cf::Write, key_at(key, commit_ts), b"w"), Op::Delete { cf: Cf::Lock, key: locked().into() }];
    let batch = |index, ops| Ok(LogBatch { first_index: index, last_index: index, ops });
    vec![batch(index - 1, prewrite), batch(index, commit)]
}

/// Entries `from..=42`, two for each key, and what of them belongs to a backup.
fn log_from(from: u64) -> (Vec<Entry>, Vec<Op>) {
    let entries: Vec<Entry> = (from + 1..=APPLIED).step_by(2).flat_map(|n| written(&format!("k{n:04}"), n)).collect();
    let ops = entries.iter().flatten().flat_map(|entry| entry.ops.clone());
    let wanted = ops.filter(|op| matches!(op, Op::Put { cf: Cf::Default | Cf::Write, .. })).collect();
    (entries, wanted)
}

/// A store with something that only a scan would emit.
fn store() -> Store {
    let mut store = Store::new(KeyRange::ALL);
    store.write(WriteKind::Put, "only-in-the-snapshot", 5, 10, &[b'x'; 100]);
    store.lock(LockKind::Put, "locked", 20, &[b'y'; 100]);
    store
}

fn catch_up(scanner: &Scanner, task: &Task, log_from: u64, log: Vec<Entry>) -> (Emitted, ScanReport) {
    let (mut emitted, log) = (Emitted::default(), Cell::new(Some(log)));
    let start = StartPoint { ts: Ts::ZERO, log_from: Some(log_from) };
    let read = |from, through| {
        assert_eq!((from, through), (log_from, APPLIED));
        Ok(log.take().map(|log| Box::new(log.into_iter()) as Box<dyn LogEntries>))
    };
    let report = scanner.catch_up(&store(), task, start, &read, &Clock::new(), &mut |event| {
        emitted.take(event);
        true
    });
    (emitted, report.unwrap())
}

fn all() -> Task {
    task(vec![KeyRange::ALL])
}

#[test]
fn the_log_replaces_the_scan_and_the_locks_come_from_the_snapshot() {
    let (entries, ops) = log_from(31);
    let (emitted, report) = catch_up(&scanner(1 << 20, 1 << 16), &all(), 31, entries);
    assert_eq!(emitted.order, "sldrf");
    assert_eq!((emitted.replayed, emitted.entries.len()), (ops, 0));
    assert_eq!(emitted.locks[0].1, Ts::new(20));
    assert_eq!((report.source, report.log_entries, report.entries, report.locks), (Source::Log, 12, 12, 1));
    assert!(report.read_bytes > report.bytes, "locks are read too");
}

#[test]
fn deletes_and_range_deletes_are_told_and_other_keys_are_not() {
    let task = task(vec![KeyRange::from_raw(b"b", b"d")]);
    let range = |a, b| Op::DeleteRange { cf: Cf::Write, start: key_at(a, 9).into(), end: key_at(b, 9).into() };
    let delete = |key| Op::Delete { cf: Cf::Default, key: key_at(key, 9).into() };
    let ops = vec![
        delete("a"),
        delete("b"),
        range("a", "aa"),
        range("c", "x"),
        Op::Admin,
        put(Cf::Write, key_at("d", 9), b""),
    ];
    let whole = LogBatch { first_index: 40, last_index: APPLIED, ops };
    let (emitted, report) = catch_up(&scanner(1 << 20, 1 << 16), &task, 40, vec![Ok(whole)]);
    assert_eq!(emitted.replayed, [delete("b"), range("c", "x")]);
    assert_eq!((report.source, report.log_entries), (Source::Log, 3));
}

#[test]
fn what_was_removed_before_a_scan_may_be_any_key_of_it() {
    let task = task(vec![KeyRange::from_raw(b"b", b"d"), KeyRange::from_raw(b"x", b"y")]);
    let removed = |cf, range: &KeyRange| {
        let KeyRange { start, end } = range.clone();
        Op::DeleteRange { cf, start, end }
    };
    let all: Vec<Op> = task.ranges.iter().flat_map(|r| [removed(Cf::Write, r), removed(Cf::Default, r)]).collect();
    for (at, told) in [(None, vec![]), (Some(10), vec![]), (Some(11), all.clone())] {
        let mut store = store();
        store.range_delete = at.map(Ts::new);
        let (emitted, report) = scan(&scanner(1 << 20, 1 << 16), &store, &task, 10).unwrap();
        assert_eq!(emitted.replayed, told, "{at:?}");
        let order = if told.is_empty() { "sdf" } else { "sdrf" };
        assert_eq!((report.source, &emitted.order[..]), (Source::Snapshot, order), "{at:?}");
    }
    // A log that goes through tells which keys they were; one that breaks off does not tell of the last.
    let mut store = store();
    store.range_delete = Some(Ts::new(11));
    let start = StartPoint { ts: Ts::new(10), log_from: Some(APPLIED) };
    for (last, told) in [(APPLIED, vec![]), (APPLIED + 1, all)] {
        let entries: Vec<Entry> = vec![Ok(LogBatch { first_index: APPLIED, last_index: last, ops: vec![] })];
        let entries = Cell::new(Some(entries));
        let read = |_, _| Ok(entries.take().map(|log| Box::new(log.into_iter()) as Box<dyn LogEntries>));
        let mut emitted = Emitted::default();
        let caught_up = scanner(1 << 20, 1 << 16).catch_up(&store, &task, start, &read, &Clock::new(), &mut |event| {
            emitted.take(event);
            true
        });
        caught_up.unwrap();
        assert_eq!(emitted.replayed, told, "{last}");
    }
}

/// A task's own start ts is no barrier: a base may have been read at or above it before a range delete was applied
/// whose timestamp is below. A fact is one.
#[test]
fn a_range_delete_may_be_on_its_way_when_a_task_begins() {
    let way = Ts::compose(RANGE_DELETE_ON_ITS_WAY.as_millis() as u64, 0).get();
    let (none, early, begin) = (Ts::ZERO, Ts::new(way), Ts::compose(1_700_000_000_000, 5));
    let (before, after) = (|ts: Ts, by| Ts::new(ts.get() - by), |ts: Ts, by| Ts::new(ts.get() + by));
    for (task_start, start, at, is_told) in [
        (begin, begin, after(begin, 1), true),
        (begin, begin, begin, true),
        (begin, begin, before(begin, way - 1), true),
        (begin, begin, before(begin, way), false),
        (begin, after(begin, 1), after(begin, 1), false),
        (begin, after(begin, 1), after(begin, 2), true),
        (early, early, Ts::new(1), true),
        (none, none, Ts::new(1), true),
        (none, Ts::new(10), Ts::new(10), false),
    ] {
        let (mut store, task) = (store(), Task { start_ts: task_start, ..all() });
        store.range_delete = Some(at);
        let (emitted, _) = scan(&scanner(1 << 20, 1 << 16), &store, &task, start.get()).unwrap();
        assert_eq!(emitted.replayed.len(), if is_told { 2 } else { 0 }, "{task_start} {start} {at}");
    }
}

#[test]
fn nothing_is_to_be_replayed_at_or_behind_the_snapshot() {
    for from in [APPLIED + 1, APPLIED + 2] {
        let start = StartPoint { ts: Ts::ZERO, log_from: Some(from) };
        let mut emitted = Emitted::default();
        let unread = |_, _| panic!("the log is not asked");
        let outcome =
            scanner(1 << 20, 1 << 16).catch_up(&store(), &all(), start, &unread, &Clock::new(), &mut |event| {
                emitted.take(event);
                true
            });
        assert_eq!((outcome.unwrap().source, emitted.order.as_str()), (Source::Log, "sldf"));
    }
}

#[test]
fn a_log_that_does_not_tell_all_is_followed_by_a_scan() {
    let (entries, _) = log_from(31);
    let without = |at: usize| entries.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, e)| e.clone()).collect();
    let with = |at: usize, entry: Entry| {
        let mut entries = entries.clone();
        entries[at] = entry;
        entries
    };
    let broken = HostError::Unavailable("the log was purged meanwhile".into());
    let ingest = vec![Op::IngestSst { cf: Cf::Write, path: "/gone.sst".into(), min_ts: Ts::new(1) }];
    let cases: [(&str, Vec<Entry>); 6] = [
        ("it begins later", without(0)),
        ("an entry is missing", without(5)),
        ("it ends too early", without(11)),
        ("it breaks off", with(6, Err(broken))),
        ("a file was ingested", with(6, Ok(LogBatch { first_index: 37, last_index: 37, ops: ingest }))),
        ("it goes on", with(11, Ok(LogBatch { first_index: 42, last_index: 43, ops: vec![] }))),
    ];
    for (why, log) in cases {
        let (emitted, report) = catch_up(&scanner(1 << 20, 64), &all(), 31, log);
        assert_eq!(report.source, Source::Both, "{why}");
        assert_eq!(emitted.order.trim_start_matches("sld").trim_start_matches('r'), "eeef", "{why}: {}", emitted.order);
        assert_eq!(emitted.entries.len(), 3, "{why}");
    }
    for answer in [Ok(None), Err(HostError::RegionNotFound(9))] {
        let start = StartPoint { ts: Ts::ZERO, log_from: Some(31) };
        let mut emitted = Emitted::default();
        let log = |_, _| answer.clone().map(|none: Option<()>| none.map(|()| unreachable!()));
        let mut sink = |event| {
            emitted.take(event);
            true
        };
        let report = scanner(1 << 20, 1 << 16).catch_up(&store(), &all(), start, &log, &Clock::new(), &mut sink);
        assert_eq!((report.unwrap().source, emitted.order.as_str()), (Source::Both, "sldef"));
    }
}

#[test]
fn a_catch_up_reads_what_changed_and_a_scan_what_is_there() {
    let mut store = Store::new(KeyRange::ALL);
    (0..20_000).for_each(|n| store.write(WriteKind::Put, &format!("k{n:06}"), 5, 10, &[b'x'; 200]));
    // Since then, 40 of them were written again.
    let mut entries: Vec<Entry> = Vec::new();
    for index in (2..=APPLIED).step_by(2) {
        let key = format!("k{:06}", index * 300);
        store.write(WriteKind::Put, &key, index * 10, index * 10 + 5, &[b'y'; 200]);
        entries.extend(written(&key, index));
    }
    let run = |log_from: Option<u64>| {
        let clock = Clock::new();
        let limited = Scanner { limiter: RateLimiter::new(1 << 20), ..scanner(1 << 20, 1 << 16) };
        let start = StartPoint { ts: Ts::new(10), log_from };
        let log = |_, _| Ok(Some(Box::new(entries.clone().into_iter()) as Box<dyn LogEntries>));
        let report = limited.catch_up(&store, &all(), start, &log, &clock, &mut |_| true).unwrap();
        (report, clock.elapsed())
    };
    let ((scan, scan_took), (replay, replay_took)) = (run(None), run(Some(1)));
    assert_eq!((scan.source, scan.entries), (Source::Snapshot, 42));
    assert_eq!((replay.source, replay.entries), (Source::Log, 42));
    assert!(scan.read_bytes > 50 * replay.read_bytes, "{scan:?} {replay:?}");
    assert!(scan_took > Duration::from_millis(200) && replay_took.is_zero(), "{scan_took:?} {replay_took:?}");
}

/// Long values, one an entry.
fn long_log() -> impl LogEntries {
    let big = |index| put(Cf::Default, key_at("k", index), &vec![b'v'; 10_000]);
    (1..=APPLIED).map(move |index| Ok(LogBatch { first_index: index, last_index: index, ops: vec![big(index)] }))
}

fn long(scanner: &Scanner, clock: &Clock, sink: &mut dyn FnMut(ScanEvent) -> bool) -> Result<ScanReport, ScanError> {
    let start = StartPoint { ts: Ts::ZERO, log_from: Some(1) };
    scanner.catch_up(&store(), &all(), start, &|_, _| Ok(Some(Box::new(long_log()))), clock, sink)
}

#[test]
fn memory_rate_and_cancellation_are_those_of_a_scan() {
    let tight = scanner(50_000, 25_000);
    let (clock, mut emitted) = (Clock::new(), Emitted::default());
    let report = long(&tight, &clock, &mut |event| {
        clock.held.borrow_mut().extend(emitted.take(event));
        true
    });
    assert!(report.unwrap().memory_waits > 5 && tight.memory.peak() <= 50_000, "{}", tight.memory.peak());
    assert_eq!((emitted.replayed.len(), emitted.largest_batch <= 25_000), (42, true));

    let limited = Scanner { limiter: RateLimiter::new(100_000), ..scanner(1 << 30, 1 << 16) };
    let clock = Clock::new();
    long(&limited, &clock, &mut |_| true).unwrap();
    assert!(clock.elapsed().abs_diff(Duration::from_secs(4)) < Duration::from_millis(500), "{:?}", clock.elapsed());

    // While it waits for memory that nobody gives back, and between two entries.
    let clock = Clock::new();
    clock.cancel_after_waits(3);
    let mut held = Vec::new();
    let outcome = long(&scanner(50_000, 25_000), &clock, &mut |event| {
        held.push(event);
        true
    });
    assert!(matches!(outcome, Err(ScanError::Cancelled)) && clock.waits.get() == 3);
    let clock = Clock::new();
    let outcome = long(&scanner(1 << 30, 25_000), &clock, &mut |event| {
        if matches!(event, ScanEvent::Replayed { .. }) {
            clock.cancel();
        }
        true
    });
    assert!(matches!(outcome, Err(ScanError::Cancelled)));
}

proptest! {
    #[test]
    fn what_is_replayed_is_what_was_applied_in_order(
        ops in prop::collection::vec((0..5u8, "[a-f]", 0..3000usize), 0..80), cuts in prop::collection::vec(1..5u64, 42),
        batch_bytes in 1..5000usize, from in 1..43u64,
    ) {
        let task = task(vec![KeyRange::from_raw(b"b", b"c"), KeyRange::from_raw(b"d", b"f")]);
        let op = |(kind, key, length): &(u8, String, usize)| match kind {
            0 => put(Cf::Write, key_at(key, 7), &vec![1; *length]),
            1 => put(Cf::Default, key_at(key, 7), &vec![2; *length]),
            2 => put(Cf::Lock, encode_raw_key(key.as_bytes()), &vec![3; *length]),
            3 => Op::Delete { cf: Cf::Default, key: key_at(key, 7).into() },
            _ => Op::Delete { cf: Cf::Lock, key: encode_raw_key(key.as_bytes()).into() },
        };
        let all: Vec<Op> = ops.iter().map(op).collect();
        let (mut log, mut rest, mut index) = (Vec::new(), &all[..], from);
        for cut in cuts {
            if index <= APPLIED {
                let last_index = (index + cut - 1).min(APPLIED);
                let (ops, after) = rest.split_at(if last_index == APPLIED { rest.len() } else { rest.len().min(7) });
                log.push(Ok(LogBatch { first_index: index, last_index, ops: ops.to_vec() }));
                (rest, index) = (after, last_index + 1);
            }
        }
        let (emitted, report) = catch_up(&scanner(1 << 20, batch_bytes), &task, from, log);
        let expected: Vec<Op> = all.into_iter().filter(|op| match op {
            Op::Put { cf, key, .. } | Op::Delete { cf, key } => *cf != Cf::Lock && task.contains(key),
            _ => false,
        }).collect();
        prop_assert_eq!((report.source, report.entries), (Source::Log, expected.len() as u64));
        prop_assert_eq!(emitted.replayed, expected);
    }
}
