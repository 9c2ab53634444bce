//! How a scan goes: order, long runs of records, memory, rate, cancellation, corruption.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use logtide_model::mvcc::{LockKind, Write, WriteKind};
use logtide_model::{Cf, Class, Diagnose, KeyRange, MemoryBudget, Ts, encode_raw_key};

use super::store::{Clock, Emitted, Store, key_at, scan, scanner, task};
use crate::{RateLimiter, ReadCounter, ScanError, Scanner};

fn all() -> logtide_model::Task {
    task(vec![KeyRange::ALL])
}

/// `n` keys with one long value each.
fn long_values(n: usize, length: usize) -> Store {
    let mut store = Store::new(KeyRange::ALL);
    (0..n).for_each(|n| store.write(WriteKind::Put, &format!("k{n:06}"), 5, 10, &vec![b'x'; length]));
    store
}

#[test]
fn locks_come_before_data() {
    let mut store = long_values(3, 100);
    store.lock(LockKind::Put, "k000001", 20, b"short");
    store.lock(LockKind::Put, "z", 21, &[b'y'; 100]);
    store.lock(LockKind::Pessimistic, "zz", 22, b"");
    let (emitted, report) = scan(&scanner(1 << 20, 1 << 16), &store, &all(), 0).unwrap();
    assert_eq!(emitted.order, "sldef");
    assert_eq!(emitted.locks.iter().map(|(_, ts)| ts.get()).collect::<Vec<_>>(), [20, 21]);
    assert_eq!((report.locks, report.entries), (2, 7));
    assert_eq!(emitted.entries[0].key, key_at("z", 21), "the value of a lock is data");
    let (emitted, _) = scan(&scanner(1 << 20, 1), &store, &all(), 0).unwrap();
    assert_eq!(emitted.order, "slldeeeeeeef");
    let (emitted, _) = scan(&scanner(1 << 20, 1), &Store::new(KeyRange::ALL), &all(), 0).unwrap();
    assert_eq!(emitted.order, "sdf");
}

#[test]
fn many_prewrites_and_rollbacks_in_a_row() {
    let mut store = Store::new(KeyRange::ALL);
    for n in 0..5000 {
        store.lock(LockKind::Put, &format!("a{n:06}"), 50, b"v");
        store.lock(LockKind::Pessimistic, &format!("b{n:06}"), 50, b"");
        store.write(WriteKind::Rollback, "c", 100 + n, 100 + n, b"");
        store.write(WriteKind::Rollback, &format!("d{n:06}"), 100, 100, b"");
    }
    store.write(WriteKind::Put, "c", 20, 30, b"v");
    store.write(WriteKind::Put, "e", 20, 30, b"v");
    let (emitted, report) = scan(&scanner(1 << 20, 4096), &store, &all(), 10).unwrap();
    assert_eq!((report.locks, report.entries, report.skipped), (5000, 2, 10_000));
    assert!(emitted.largest_batch <= 4096);
}

#[test]
fn old_versions_are_skipped_by_seeking() {
    let mut store = Store::new(KeyRange::ALL);
    for key in ["a", "b"] {
        (0..10_000).for_each(|n| store.write(WriteKind::Put, key, 10 * n + 1, 10 * n + 5, &[b'v'; 65]));
    }
    store.moves.store(0, Ordering::Relaxed);
    let (emitted, report) = scan(&scanner(1 << 20, 4096), &store, &all(), 99_990).unwrap();
    assert_eq!((emitted.entries.len(), report.old_keys), (4, 2));
    let moves = store.moves.load(Ordering::Relaxed);
    assert!(moves < 60 && report.seeks <= 6, "{moves} moves, {report:?}");
    // All of a long chain is found if it is new.
    let (emitted, _) = scan(&scanner(1 << 20, 4096), &store, &all(), 0).unwrap();
    assert_eq!(emitted.entries.len(), 40_000);
}

#[test]
fn few_old_versions_are_stepped_over() {
    let mut store = Store::new(KeyRange::ALL);
    for n in 0..100 {
        (1..5).for_each(|ts| store.write(WriteKind::Put, &format!("k{n}"), ts * 10, ts * 10 + 5, b"v"));
    }
    let (emitted, report) = scan(&scanner(1 << 20, 4096), &store, &all(), 40).unwrap();
    assert_eq!((emitted.entries.len(), report.seeks), (100, 0));
}

#[test]
fn versions_may_commit_in_another_order_than_they_began() {
    let mut store = Store::new(KeyRange::ALL);
    for (start_ts, commit_ts) in [(9, 10), (5, 20), (7, 30), (2, 40)] {
        store.write(WriteKind::Put, "k", start_ts, commit_ts, &[b'x'; 100]);
    }
    let (emitted, _) = scan(&scanner(1 << 20, 4096), &store, &all(), 0).unwrap();
    let expected = [key_at("k", 2), key_at("k", 40), key_at("k", 7), key_at("k", 30), key_at("k", 5), key_at("k", 20)];
    assert_eq!(emitted.entries[..6].iter().map(|e| e.key.to_vec()).collect::<Vec<_>>(), expected);
}

/// Scans with a consumer that lets go of the oldest batch whenever the scan waits.
fn slow_consumer(scanner: &Scanner, store: &Store) -> (Emitted, u64) {
    let clock = Clock::new();
    let mut emitted = Emitted::default();
    let report = scanner.scan(store, &all(), Ts::ZERO, &clock, &mut |event| {
        clock.held.borrow_mut().extend(emitted.take(event));
        true
    });
    (emitted, report.unwrap().memory_waits)
}

#[test]
fn memory_stays_within_its_budget() {
    let store = long_values(1000, 1000);
    let scanner = scanner(50_000, 16_000);
    let (emitted, waits) = slow_consumer(&scanner, &store);
    assert_eq!(emitted.entries.len(), 2000);
    assert!(waits > 20, "{waits}");
    assert!(scanner.memory.peak() <= 50_000, "{}", scanner.memory.peak());
    assert!(emitted.largest_batch <= 16_000);
    assert_eq!(scanner.memory.used(), 0);
}

#[test]
fn a_scan_that_waits_for_memory_holds_none() {
    let store = long_values(300, 1000);
    let scanner = scanner(30_000, 1 << 20);
    let waiter = Watching { clock: Clock::new(), scanner: &scanner };
    let mut emitted = Emitted::default();
    let report = scanner.scan(&store, &all(), Ts::ZERO, &waiter, &mut |event| {
        waiter.clock.held.borrow_mut().extend(emitted.take(event));
        true
    });
    assert!(report.unwrap().memory_waits > 3);
    assert_eq!(emitted.entries.len(), 600);
}

#[test]
fn scans_get_on_while_others_use_up_the_whole() {
    let store = long_values(300, 1000);
    let whole = MemoryBudget::new(50_000);
    let scanner = Scanner { memory: whole.within(20_000), ..scanner(0, 5_000) };
    let _others = whole.force_acquire(60_000);
    let (emitted, waits) = slow_consumer(&scanner, &store);
    assert_eq!(emitted.entries.len(), 600);
    assert!(waits > 50, "{waits}");
    assert!(scanner.memory.peak() <= 5_000, "one batch at a time, {}", scanner.memory.peak());
}

/// Sees to it that the scan has handed over all it had when it waits: two that wait for each other's memory would
/// wait forever otherwise.
struct Watching<'a> {
    clock: Clock,
    scanner: &'a Scanner,
}

impl crate::Waiter for Watching<'_> {
    fn now(&self) -> std::time::Instant {
        self.clock.now()
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn wait(&self, at_most: Duration) {
        let held: usize = self.clock.held.borrow().iter().map(|p| p.bytes()).sum();
        assert_eq!(held, self.scanner.memory.used());
        self.clock.wait(at_most);
    }
}

#[test]
fn a_huge_value_may_exceed_the_budget() {
    let mut store = long_values(10, 1000);
    store.write(WriteKind::Put, "k000005", 20, 30, &vec![b'x'; 1 << 20]);
    let scanner = scanner(10_000, 4000);
    let (emitted, _) = slow_consumer(&scanner, &store);
    assert_eq!(emitted.entries.len(), 22);
    assert!(emitted.largest_batch > 1 << 20 && scanner.memory.peak() < (1 << 20) + 15_000);
}

#[test]
fn the_rate_is_kept() {
    let store = long_values(10_000, 1000);
    let limited = Scanner { limiter: RateLimiter::new(1 << 20), ..scanner(1 << 30, 1 << 16) };
    let clock = Clock::new();
    let report = limited.scan(&store, &all(), Ts::ZERO, &clock, &mut |_| true).unwrap();
    let expected = report.read_bytes as f64 / f64::from(1 << 20);
    let took = clock.elapsed().as_secs_f64();
    assert!(expected > 9.0 && (took - expected).abs() < 0.3, "{took} s instead of {expected} s");
    // Nothing is emitted here, but it is read all the same.
    let clock = Clock::new();
    limited.scan(&store, &all(), Ts::new(100), &clock, &mut |_| true).unwrap();
    assert!(clock.elapsed() > Duration::from_millis(100), "{:?}", clock.elapsed());
}

#[test]
fn the_rate_counts_what_is_really_read() {
    let took = |disk: Option<u64>, counter: Option<Arc<dyn ReadCounter>>, start_ts: u64| {
        let mut store = long_values(10_000, 1000);
        store.disk = disk;
        let limiter = RateLimiter::new(1 << 20);
        let limiter = counter.into_iter().fold(limiter, RateLimiter::counting);
        let (limited, clock) = (Scanner { limiter, ..scanner(1 << 30, 1 << 16) }, Clock::new());
        let report = limited.scan(&store, &all(), Ts::new(start_ts), &clock, &mut |_| true).unwrap();
        (clock.elapsed().as_secs_f64(), report.disk_bytes)
    };
    assert_eq!(took(Some(0), None, 0), (0.0, 0), "all of it was in a cache");
    let (seconds, bytes) = took(Some(4096), None, 0);
    assert!(
        bytes > 80_000_000 && (seconds - bytes as f64 / f64::from(1 << 20)).abs() < 1.0,
        "{seconds} s, {bytes} bytes"
    );
    // The limiter's own counter goes first, and one that does not know gives way.
    assert_eq!(took(Some(4096), Some(Arc::new(Fixed(Some(7)))), 0), (0.0, 0));
    assert_eq!(took(Some(4096), Some(Arc::new(Fixed(None))), 0).1, bytes);
    let (seconds, bytes) = took(None, Some(Arc::new(Fixed(None))), 0);
    assert!(bytes > 10_000_000 && seconds > 9.0, "{seconds} s, {bytes} bytes");
}

#[derive(Debug)]
struct Fixed(Option<u64>);

impl ReadCounter for Fixed {
    fn read_bytes(&self) -> Option<u64> {
        self.0
    }
}

#[test]
fn the_rate_can_be_changed_while_a_scan_waits() {
    let store = long_values(2000, 1000);
    // A minute for each quantum; but after three waits the limit is lifted.
    let limiter = RateLimiter::new(1000);
    let limited = Scanner { limiter: limiter.clone(), ..scanner(1 << 30, 1 << 16) };
    let clock = Clock::new();
    let lift = limiter.clone();
    let waiter = Lifting { clock: &clock, limiter: lift };
    let mut events = 0;
    let report = limited.scan(&store, &all(), Ts::ZERO, &waiter, &mut |_| {
        events += 1;
        true
    });
    assert_eq!(report.unwrap().entries, 4000);
    assert!(events > 3 && clock.elapsed() < Duration::from_secs(1), "{:?}", clock.elapsed());
}

/// Lifts the limit at the third wait.
struct Lifting<'a> {
    clock: &'a Clock,
    limiter: RateLimiter,
}

impl crate::Waiter for Lifting<'_> {
    fn now(&self) -> std::time::Instant {
        self.clock.now()
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn wait(&self, at_most: Duration) {
        self.clock.wait(at_most);
        if self.clock.waits.get() == 3 {
            self.limiter.set_rate(u64::MAX, self.now());
        }
    }
}

#[test]
fn cancellation_ends_a_scan_wherever_it_is() {
    let store = long_values(1000, 1000);
    let cancelled = |scanner: &Scanner, clock: &Clock, events: usize| {
        let mut seen = 0;
        let mut held = Vec::new();
        let outcome = scanner.scan(&store, &all(), Ts::ZERO, clock, &mut |event| {
            held.push(event);
            seen += 1;
            seen < events
        });
        assert!(matches!(outcome, Err(ScanError::Cancelled)), "{outcome:?}");
        seen
    };
    // By the sink.
    assert_eq!(cancelled(&scanner(1 << 30, 1000), &Clock::new(), 7), 7);
    // Before it begins.
    let clock = Clock::new();
    clock.cancel();
    assert_eq!(cancelled(&scanner(1 << 30, 1000), &clock, usize::MAX), 0);
    // While it waits for memory that nobody gives back.
    let clock = Clock::new();
    clock.cancel_after_waits(5);
    cancelled(&scanner(10_000, 1000), &clock, usize::MAX);
    assert_eq!(clock.waits.get(), 5);
    // While it waits for the limiter.
    let clock = Clock::new();
    clock.cancel_after_waits(1);
    cancelled(&Scanner { limiter: RateLimiter::new(0), ..scanner(1 << 30, 1000) }, &clock, usize::MAX);
    assert_eq!(clock.waits.get(), 1);
}

#[test]
fn cancellation_is_seen_between_events_too() {
    // Nothing is emitted for 10,000 rollbacks; the cancelled scan ends all the same.
    let mut store = Store::new(KeyRange::ALL);
    (0..10_000).for_each(|n| store.write(WriteKind::Rollback, "k", 100 + n, 100 + n, b""));
    let clock = Clock::new();
    store.moves.store(0, Ordering::Relaxed);
    let outcome = scanner(1 << 20, 1000).scan(&store, &all(), Ts::ZERO, &clock, &mut |event| {
        if matches!(event, logtide_model::message::ScanEvent::LocksDone) {
            clock.cancel();
        }
        true
    });
    assert!(matches!(outcome, Err(ScanError::Cancelled)));
    assert!(store.moves.load(Ordering::Relaxed) < 5);
}

#[test]
fn a_missing_value_is_an_error_that_names_the_key() {
    let mut store = long_values(3, 100);
    store.remove(Cf::Default, &key_at("k000001", 5));
    let error = scan(&scanner(1 << 20, 1000), &store, &all(), 0).unwrap_err();
    let key: String = key_at("k000001", 10).iter().map(|b| format!("{b:02x}")).collect();
    assert!(error.to_string().contains(&key), "{error}");
    assert_eq!(error.class(), Class::Corrupt);
    assert!(scan(&scanner(1 << 20, 1000), &store, &all(), 10).is_ok(), "no need of it");

    let mut store = Store::new(KeyRange::ALL);
    store.lock(LockKind::Put, "k", 5, &[b'x'; 100]);
    store.remove(Cf::Default, &key_at("k", 5));
    let error = scan(&scanner(1 << 20, 1000), &store, &all(), 10).unwrap_err();
    assert!(matches!(error, ScanError::Corrupt { cf: Cf::Lock, .. }), "{error}");
}

#[test]
fn a_record_behind_its_fence_may_have_lost_its_value() {
    let mut store = long_values(1, 100);
    store.write(WriteKind::Delete, "k000000", 20, 30, b"");
    let mut write = Write::new(WriteKind::Put, Ts::new(5), None);
    (write.overlapped_rollback, write.gc_fence) = (true, Some(Ts::new(30)));
    store.insert(Cf::Write, key_at("k000000", 10), write.to_bytes());
    let entries = |store: &Store| scan(&scanner(1 << 20, 1000), store, &all(), 0).unwrap().0.entries.len();
    assert_eq!(entries(&store), 3);
    store.remove(Cf::Default, &key_at("k000000", 5));
    assert_eq!(entries(&store), 1);
    write.gc_fence = Some(Ts::ZERO);
    store.insert(Cf::Write, key_at("k000000", 10), write.to_bytes());
    assert!(scan(&scanner(1 << 20, 1000), &store, &all(), 0).is_err(), "it is the newest version");
}

#[test]
fn records_that_do_not_parse_are_errors() {
    for (cf, key) in [(Cf::Lock, encode_raw_key(b"k")), (Cf::Write, key_at("k", 5)), (Cf::Write, b"short".to_vec())] {
        let mut store = Store::new(KeyRange::ALL);
        store.insert(cf, key, b"?".to_vec());
        let error = scan(&scanner(1 << 20, 1000), &store, &all(), 0).unwrap_err();
        assert!(matches!(&error, ScanError::Corrupt { cf: at, .. } if *at == cf), "{error}");
    }
}
