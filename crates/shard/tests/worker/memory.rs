//! I6: locks and queued lock changes stay within their budget, and nothing gets stuck for it.

use logtide_model::Ts;
use logtide_model::message::ScanEvent;

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
fn a_snapshot_from_before_what_was_forgotten_does_not_count() {
    let mut fixture = pending();
    for index in 1..=2000 {
        fixture.apply(1, index, index, locks_of(index));
    }
    let id = fixture.scans[0].id.clone();
    fixture.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(100), applied_index: 3 });
    assert_eq!(fixture.scans.len(), 1);
    assert_eq!((fixture.scans[0].failures, fixture.cancelled.len()), (1, 1));
}

#[test]
fn while_locks_are_loaded_a_long_queue_begins_anew_with_backoff() {
    let mut fixture = pending();
    let id = fixture.scans[0].id.clone();
    fixture.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(100), applied_index: 10 });
    let mut index = 11;
    while fixture.cancelled.is_empty() {
        fixture.apply(1, index, index, locks_of(index));
        index += 1;
        assert!(index < 1000, "it never gives up its queue");
    }
    assert_eq!((fixture.scans.len(), fixture.scans[0].failures), (1, 1));
    assert!(fixture.lock_memory.used() <= LIMIT + SLACK);
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

#[test]
fn what_ends_gives_its_memory_back() {
    let mut fixture = pending();
    fixture.scan(100, 10, &[], vec![]);
    fixture.apply(1, 11, 11, locks_of(11));
    assert!(fixture.shard.stats().lock_bytes > 0 && fixture.lock_memory.used() > 0);
    fixture.send(logtide_model::message::ShardMessage::Unlead { region_id: 1, term: 5 });
    assert_eq!((fixture.shard.stats().lock_bytes, fixture.lock_memory.used()), (0, 0));
}
