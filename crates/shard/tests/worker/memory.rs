//! I6: locks and queued lock changes stay within their budget, and nothing gets stuck for it.

use bytes::Bytes;
use logtide_model::message::ScanEvent;
use logtide_model::mvcc::{Lock, LockKind};
use logtide_model::{Cf, Op, Ts, encode_raw_key};

use crate::fixture::*;

const LIMIT: usize = 512 << 10;
/// Pieces of the account, and what one message may add before it is noticed.
const SLACK: usize = 128 << 10;

fn locks_of(index: u64) -> Vec<logtide_model::Op> {
    (0..64).map(|n| lock(&format!("key-{index:08}-{n:04}"), 500 + index)).collect()
}

fn pending() -> Fixture {
    let mut fixture = Fixture::with_memory(64 << 20, LIMIT);
    fixture.start_task(&task("t", &[("", "")]));
    fixture.lead(&region(1, 1, "", ""), 5);
    fixture
}

#[test]
fn a_scan_that_waits_long_does_not_fill_the_memory_and_still_succeeds() {
    let mut fixture = pending();
    for index in 1..=2000 {
        fixture.apply(1, index, index, locks_of(index));
        assert!(fixture.lock_memory.used() <= LIMIT + SLACK, "{} at {index}", fixture.lock_memory.used());
    }
    assert!(fixture.shard.stats().relieved > 10);
    assert_eq!(fixture.scans.len(), 1, "the attempt goes on: no livelock");
    let locks = [("key", 400)];
    fixture.scan(100, 1998, &locks, vec![]);
    let part = fixture.seal("t", 1, 10_000, &[confirmed(1, 5, 1, 2000)]);
    assert_eq!(facts(&part), [(raw_range("", ""), 400, 2000)]);
}

#[test]
fn a_snapshot_from_before_what_was_forgotten_gives_a_lower_bound() {
    let mut fixture = pending();
    for index in 1..=2000 {
        fixture.apply(1, index, index, locks_of(index));
    }
    fixture.scan(100, 3, &[("key", 400)], vec![]);
    assert_eq!((fixture.scans.len(), fixture.cancelled.len()), (0, 0), "the attempt goes on: no livelock");
    let part = fixture.seal("t", 1, 10_000, &[confirmed(1, 5, 1, 2000)]);
    assert_eq!(facts(&part), [(raw_range("", ""), 400, 2000)]);
    assert_eq!(fixture.scans.len(), 1, "what was forgotten is looked at once more");
}

#[test]
fn while_locks_are_loaded_a_long_queue_becomes_a_lower_bound() {
    let mut fixture = pending();
    let id = fixture.scans.pop().unwrap().id;
    fixture.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(100), applied_index: 10 });
    for index in 11..=1000 {
        fixture.apply(1, index, index, locks_of(index));
        assert!(fixture.lock_memory.used() <= LIMIT + SLACK);
    }
    fixture.scan_step(&id, ScanEvent::LocksDone);
    fixture.scan_step(&id, ScanEvent::Finished);
    assert_eq!((fixture.scans.len(), fixture.cancelled.len()), (0, 0));
    let part = fixture.seal("t", 1, 10_000, &[confirmed(1, 5, 1, 1000)]);
    assert_eq!(facts(&part), [(raw_range("", ""), 511, 1000)]);
}

#[test]
fn more_locks_than_fit_hold_the_checkpoint_at_a_lower_bound_and_are_read_again() {
    let mut fixture = pending();
    fixture.scan(100, 10, &[("a", 450)], vec![]);
    for index in 11..=200 {
        fixture.apply(1, index, index, locks_of(index));
        assert!(fixture.lock_memory.used() <= LIMIT + SLACK);
    }
    fixture.apply(1, 201, 201, vec![unlock("a")]);
    let part = fixture.seal("t", 1, 10_000, &[confirmed(1, 5, 1, 201)]);
    assert_eq!(facts(&part), [(raw_range("", ""), 450, 201)], "nobody knows that the oldest is gone");
    fixture.scan(450, 201, &[("b", 600)], vec![]);
    let part = fixture.seal("t", 2, 10_000, &[confirmed(1, 5, 1, 201)]);
    assert_eq!(facts(&part), [(raw_range("", ""), 600, 201)]);
}

/// A transaction of a million locks in one region, with a quota of 32 MiB, as a scanner sees it that is asked again.
#[test]
fn a_million_locks_of_one_transaction_fit() {
    const LOCKS: u64 = 1_000_000;
    const QUOTA: usize = 32 << 20;
    const QUIET: u64 = 40;
    let keys: Vec<Bytes> =
        (0..LOCKS).map(|n| encode_raw_key(format!("t/accounts/{n:016}").as_bytes()).into()).collect();
    let key = |n: u64| keys[n as usize].clone();
    let value = Bytes::from(Lock::new(LockKind::Put, key(0).to_vec(), Ts::new(500), 3000).to_bytes());
    let lock = |n| Op::Put { cf: Cf::Lock, key: key(n), value: value.clone() };
    let unlock = |n| Op::Delete { cf: Cf::Lock, key: key(n) };
    let mut fixture = Fixture::with_memory(64 << 20, QUOTA);
    fixture.start_task(&task("t", &[("", "")]));
    fixture.lead(&region(1, 1, "", ""), 5);
    fixture.scan(100, 10, &[], vec![]);
    let (mut index, mut generation, mut scans, mut peak) = (10, 0, 0, 0);
    // The prewrites, then flushes while it lives (small transactions come and go), then the commits.
    let mut live = 0..0u64;
    for step in 0..2 * LOCKS / 500 + QUIET {
        let quiet = (LOCKS / 500..LOCKS / 500 + QUIET).contains(&step);
        index += 1;
        if quiet {
            fixture.apply(1, index, index, vec![self::lock("zz", 600 + step)]);
            index += 1;
            fixture.apply(1, index, index, vec![self::unlock("zz")]);
        } else if live.end < LOCKS {
            fixture.apply(1, index, index, (live.end..live.end + 500).map(lock).collect());
            live.end += 500;
        } else {
            fixture.apply(1, index, index, (live.start..live.start + 500).map(unlock).collect());
            live.start += 500;
        }
        peak = peak.max(fixture.lock_memory.used());
        if quiet || step % 100 == 99 {
            generation += 1;
            let barrier = 10_000 + step;
            let part = fixture.seal("t", generation, barrier, &[confirmed(1, 5, 1, index)]);
            let exact = if live.is_empty() { barrier } else { 500 };
            assert!(facts(&part).iter().all(|(_, ts, _)| *ts <= exact && *ts >= 500), "{:?}", facts(&part));
        }
        if let Some(request) = fixture.scans.pop() {
            scans += 1;
            fixture.scan_step(&request.id, ScanEvent::Started { start_ts: Ts::new(500), applied_index: index });
            for first in live.clone().step_by(4096) {
                let locks = (first..live.end.min(first + 4096)).map(|n| (key(n), Ts::new(500))).collect();
                let permit = fixture.in_flight.force_acquire(1);
                fixture.scan_step(&request.id, ScanEvent::Locks { locks, permit });
                peak = peak.max(fixture.lock_memory.used());
            }
            fixture.scan_step(&request.id, ScanEvent::LocksDone);
            fixture.scan_step(&request.id, ScanEvent::Finished);
        }
    }
    assert!(peak <= QUOTA + SLACK, "{peak} bytes");
    assert!(scans <= 12, "{scans} scans for {generation} flushes");
    // It is gone: two flushes later everything is exact again.
    let last = [fixture.seal("t", generation + 1, 90_000, &[confirmed(1, 5, 1, index)])];
    if let Some(request) = fixture.scans.pop() {
        fixture.scan_step(&request.id, ScanEvent::Started { start_ts: Ts::new(500), applied_index: index });
        fixture.scan_step(&request.id, ScanEvent::LocksDone);
        fixture.scan_step(&request.id, ScanEvent::Finished);
    }
    let part = fixture.seal("t", generation + 2, 91_000, &[confirmed(1, 5, 1, index)]);
    assert_eq!(facts(&part), [(raw_range("", ""), 91_000, index)], "{:?}", last.map(|part| facts(&part)));
    println!("{LOCKS} locks, quota {QUOTA}: peak {peak} bytes, {scans} scans of locks in {generation} flushes");
}

#[test]
fn what_ends_gives_its_memory_back() {
    let mut fixture = pending();
    fixture.scan(100, 10, &[], vec![]);
    fixture.apply(1, 11, 11, locks_of(11));
    assert!(fixture.shard.stats().lock_bytes > 0 && fixture.lock_memory.used() > 0);
    fixture.send(logtide_model::message::ShardMessage::Unlead { region_id: 1, term: 5 });
    assert_eq!((fixture.shard.stats().lock_bytes, fixture.lock_memory.used()), (0, 0));
}
