//! No room in the spool: regions that need some are released, and nothing else happens to anybody.

use logtide_model::message::ScanEvent;
use logtide_model::{Cf, Op, Ts};

use crate::fixture::*;

const MEMORY: usize = 8 << 20;

/// Much for a small memory.
fn much(key: &str, ts: u64) -> Vec<Op> {
    let big = |n| Op::Put { cf: Cf::Default, key: versioned(key, ts + n), value: vec![b'v'; 16 << 10].into() };
    (0..100).map(big).collect()
}

/// Regions 1 and 2, seen since index 10; the disk is gone.
fn without_a_disk() -> Fixture {
    let mut fixture = Fixture::with_memory(MEMORY, 1 << 20);
    fixture.start_task(&task("t", &[("", "")]));
    for (id, start, end) in [(1, "a", "m"), (2, "m", "z")] {
        fixture.lead(&region(id, 1, start, end), 5);
        fixture.scan(100, 10, &[], vec![]);
    }
    fixture.break_disk();
    fixture
}

fn released(fixture: &Fixture) -> usize {
    fixture.shard.stats().released
}

/// Region 1 writes until it finds no room; the last index.
fn exhaust(fixture: &mut Fixture) -> u64 {
    for index in 11..100 {
        fixture.apply(1, index, index, much("k", 1000 * index));
        if released(fixture) > 0 {
            return index;
        }
    }
    panic!("there is room for ever");
}

#[test]
fn a_region_without_room_is_released_and_others_go_on() {
    let mut fixture = without_a_disk();
    let last = exhaust(&mut fixture);
    assert!(fixture.room.memory.used() > MEMORY / 2 && fixture.room.memory.peak() < 2 * MEMORY);
    assert_eq!((fixture.poisoned, released(&fixture), fixture.shard.stats().observing), (0, 1, 1));
    assert_eq!(fixture.scans.len(), 1, "its scan is asked for once");
    let request = fixture.scans[0].id.clone();
    // It goes on writing: nothing of that is kept, and nothing more is asked for.
    let appended = fixture.shard.stats().appended;
    for index in last + 1..last + 1000 {
        fixture.apply(1, index, index, vec![write("k", 20, 21)]);
    }
    assert_eq!((fixture.scans.len(), &fixture.scans[0].id, fixture.cancelled.len()), (1, &request, 0));
    assert_eq!(fixture.shard.stats().appended, appended);
    // The other region writes little and states a fact, for the whole generation is valid.
    fixture.apply(2, 11, 11, vec![unlock("x")]);
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, last), confirmed(2, 5, 1, 11)]);
    assert_eq!((part.lost, facts(&part)), (false, vec![(raw_range("m", "z"), 1000, 11)]));
    let kept = records(&part).len() as u64;
    assert!(kept >= 100 * (last - 11), "{kept} records: what was taken is kept");

    // The generation is flushed; there is room.
    drop(part);
    assert!(!fixture.room.is_tight() && fixture.room.disk.is_out());
    let (index, ts) = (last + 999, 3000 * last);
    fixture.scan(100, index, &[], much("k", ts).into_iter().map(scan_entry).collect());
    assert_eq!((released(&fixture), fixture.shard.stats().observing), (0, 2));
    fixture.apply(1, index + 1, index + 1, vec![write("k", 20, 21)]);
    let part = fixture.seal("t", 2, 2000, &[confirmed(1, 5, 1, index + 1), confirmed(2, 5, 1, 11)]);
    assert_eq!(facts(&part), [(raw_range("a", "m"), 2000, index + 1), (raw_range("m", "z"), 2000, 11)]);
    assert_eq!(records(&part).len(), 101);
}

#[test]
fn a_snapshot_from_before_what_found_no_room_is_of_no_use() {
    let mut fixture = without_a_disk();
    let last = exhaust(&mut fixture);
    let id = fixture.scans.pop().unwrap().id;
    fixture.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(100), applied_index: last - 1 });
    assert_eq!(fixture.scans.len(), 1, "another one is asked for");
    drop(fixture.seal("t", 1, 1000, &[]));
    fixture.scan(100, last, &[], vec![]);
    let part = fixture.seal("t", 2, 2000, &[confirmed(1, 5, 1, last)]);
    assert_eq!(facts(&part), [(raw_range("a", "m"), 2000, last)]);
}

#[test]
fn a_scan_that_finds_no_room_begins_anew_with_patience() {
    let mut fixture = without_a_disk();
    let last = exhaust(&mut fixture);
    let mut failures = Vec::new();
    for _ in 0..3 {
        let request = fixture.scans.pop().unwrap();
        failures.push(request.failures);
        fixture.scan_step(&request.id, ScanEvent::Started { start_ts: Ts::new(100), applied_index: last });
        fixture.scan_step(&request.id, ScanEvent::LocksDone);
        let permit = fixture.in_flight.force_acquire(1);
        let entries = much("k", 1).into_iter().map(scan_entry).collect();
        fixture.scan_step(&request.id, ScanEvent::Data { entries, permit });
        fixture.scan_step(&request.id, ScanEvent::Finished);
    }
    assert_eq!((failures, released(&fixture), fixture.poisoned), (vec![1, 2, 3], 1, 0));
    assert_eq!(facts(&fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, last)])), []);
}

#[test]
fn with_the_disk_back_there_is_room_again() {
    let mut fixture = without_a_disk();
    let last = exhaust(&mut fixture);
    assert!(fixture.room.is_tight());
    fixture.mend_disk();
    assert!(!fixture.room.is_tight(), "memory is as full as before, but it is not all there is");
    fixture.scan(100, last, &[], vec![]);
    for index in last + 1..last + 20 {
        fixture.apply(1, index, index, much("k", 1000 * index));
    }
    assert_eq!((released(&fixture), fixture.poisoned), (0, 0));
    let part = fixture.seal("t", 1, 2000, &[confirmed(1, 5, 1, last + 19)]);
    assert_eq!(facts(&part), [(raw_range("a", "m"), 2000, last + 19)]);
}

#[test]
fn a_disk_quota_that_is_used_up_does_the_same() {
    let mut fixture = Fixture::with_memory(MEMORY, 1 << 20);
    fixture.room.disk.set_quota(4 << 20);
    fixture.start_task(&task("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    fixture.scan(100, 10, &[], vec![]);
    let last = exhaust(&mut fixture);
    assert!(fixture.room.disk.is_full() && fixture.room.disk.used() <= 4 << 20);
    assert!(fixture.room.trouble().is_some());
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, last)]);
    assert_eq!((part.lost, facts(&part)), (false, vec![]));
    drop(part);
    assert_eq!((fixture.room.trouble(), fixture.room.is_tight()), (None, false));
    fixture.scan(100, last, &[], vec![]);
    let part = fixture.seal("t", 2, 2000, &[confirmed(1, 5, 1, last)]);
    assert_eq!(facts(&part), [(raw_range("a", "z"), 2000, last)]);
}
