//! What must be true after a spool lost data: no later fact may stand on it.

use logtide_model::message::ScanEvent;
use logtide_model::{Cf, Op, Ts};

use crate::fixture::*;

/// A write, and values that are too many to stay in memory.
fn much(key: &str, start_ts: u64, commit_ts: u64) -> Vec<Op> {
    let big = |n| Op::Put { cf: Cf::Default, key: versioned(key, start_ts + n), value: vec![b'v'; 16 << 10].into() };
    [write(key, start_ts, commit_ts)].into_iter().chain((0..200).map(big)).collect()
}

fn observing() -> Fixture {
    let mut fixture = Fixture::with_memory(1, 1 << 20);
    fixture.start_task(&fixture.encrypted("t", &[("", "")]));
    for id in 1..=2 {
        let (start, end) = if id == 1 { ("a", "m") } else { ("m", "z") };
        fixture.lead(&region(id, 1, start, end), 5);
        fixture.scan(100, 10, &[], vec![]);
    }
    fixture
}

const CONFIRMED: [logtide_model::Confirmed; 2] = [
    logtide_model::Confirmed { region_id: 1, term: 5, version: 1, applied_index: 10 },
    logtide_model::Confirmed { region_id: 2, term: 5, version: 1, applied_index: 10 },
];

#[test]
fn after_a_failed_append_no_region_states_anything_until_it_was_scanned_anew() {
    let mut fixture = observing();
    fixture.break_spool();
    fixture.apply(1, 11, 11, much("k", 20, 21));
    assert_eq!((fixture.poisoned, fixture.scans.len()), (1, 0), "no scan before the spool is open again");
    fixture.apply(1, 12, 12, vec![write("k", 30, 31)]);
    fixture.apply(2, 11, 11, vec![write("x", 30, 31)]);
    assert_eq!(fixture.poisoned, 1, "told once");
    fixture.mend_spool();
    let part = fixture.seal("t", 1, 1000, &CONFIRMED);
    assert!(part.lost && part.facts.is_empty() && part.regions.is_empty() && part.spool.files.is_empty());
    assert_eq!(fixture.scans.len(), 2, "both regions, the other one lost data, too");
    // Appended from here on, also before the snapshot.
    fixture.apply(1, 13, 13, vec![write("k", 40, 41)]);
    let part = fixture.seal("t", 2, 1000, &CONFIRMED);
    assert!(!part.lost && part.facts.is_empty());
    assert_eq!(written(&part), [versioned("k", 41)]);
    let second = fixture.scans.iter().position(|scan| scan.id.region_id == 2).unwrap();
    fixture.scans.swap_remove(second);
    fixture.scan(100, 12, &[], vec![scan_entry(write("k", 20, 21)), scan_entry(write("k", 30, 31))]);
    let part = fixture.seal("t", 3, 2000, &CONFIRMED);
    assert_eq!(facts(&part), [(raw_range("a", "m"), 2000, 13)]);
    assert_eq!(written(&part).len(), 2);
}

#[test]
fn what_came_while_nothing_was_appended_counts_as_not_seen() {
    let mut fixture = observing();
    fixture.break_spool();
    fixture.apply(1, 11, 11, much("k", 20, 21));
    fixture.apply(1, 12, 12, vec![write("k", 30, 31)]);
    fixture.mend_spool();
    assert!(fixture.seal("t", 1, 1000, &CONFIRMED).lost);
    fixture.scans.retain(|scan| scan.id.region_id == 1);
    // A snapshot that is older than what was told: entry 12 is neither in it nor in a spool.
    fixture.scan(100, 11, &[], vec![scan_entry(write("k", 20, 21))]);
    fixture.apply(1, 13, 13, vec![]);
    assert_eq!(fixture.scans.len(), 1);
    assert_eq!(facts(&fixture.seal("t", 2, 1000, &CONFIRMED)), []);
}

#[test]
fn a_scan_that_was_under_way_does_not_count() {
    let mut fixture = Fixture::with_memory(1, 1 << 20);
    fixture.start_task(&fixture.encrypted("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    let id = fixture.scans[0].id.clone();
    fixture.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(100), applied_index: 10 });
    fixture.scan_step(&id, ScanEvent::LocksDone);
    fixture.break_spool();
    let permit = fixture.in_flight.force_acquire(1);
    let entries = much("k", 20, 21).into_iter().map(scan_entry).collect();
    fixture.scan_step(&id, ScanEvent::Data { entries, permit });
    assert_eq!((fixture.poisoned, &fixture.cancelled[..]), (1, std::slice::from_ref(&id)));
    fixture.mend_spool();
    fixture.scan_step(&id, ScanEvent::Finished);
    assert!(fixture.seal("t", 1, 1000, &CONFIRMED).lost);
    fixture.scan_step(&id, ScanEvent::Finished);
    assert_eq!(facts(&fixture.seal("t", 2, 1000, &CONFIRMED)), []);
    fixture.scan(100, 10, &[], vec![scan_entry(write("k", 20, 21))]);
    assert_eq!(facts(&fixture.seal("t", 3, 1000, &CONFIRMED)).len(), 1);
}

#[test]
fn a_failed_seal_takes_the_facts_with_it() {
    let mut fixture = Fixture::with_memory(8 << 20, 1 << 20);
    fixture.start_task(&fixture.encrypted("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "m"), 5);
    fixture.scan(100, 10, &[], vec![]);
    fixture.apply(1, 11, 11, vec![write("k", 20, 21)]);
    fixture.break_spool();
    let part = fixture.seal("t", 1, 1000, &CONFIRMED);
    assert!(part.lost && part.facts.is_empty() && part.regions.is_empty());
    assert_eq!((fixture.poisoned, fixture.scans.len()), (1, 1), "the next generation is open already");
    fixture.mend_spool();
    fixture.scan(100, 11, &[], vec![scan_entry(write("k", 20, 21))]);
    let part = fixture.seal("t", 2, 1000, &CONFIRMED);
    assert_eq!((facts(&part).len(), written(&part)), (1, vec![versioned("k", 21)]));
}

#[test]
fn another_task_and_what_was_sealed_before_keep_their_facts() {
    let mut fixture = observing();
    fixture.start_task(&task("u", &[("m", "z")]));
    fixture.scan(100, 10, &[], vec![]);
    fixture.apply(1, 11, 11, much("k", 20, 21));
    let before = fixture.seal("t", 1, 1000, &CONFIRMED);
    // Nothing of this is u's.
    fixture.break_spool();
    fixture.apply(1, 12, 12, much("k", 30, 31));
    assert_eq!(fixture.poisoned, 1);
    fixture.mend_spool();
    assert!(fixture.seal("t", 2, 1100, &CONFIRMED).lost);
    assert_eq!((before.facts.len(), written(&before)), (2, vec![versioned("k", 21)]));
    let other = fixture.seal("u", 1, 1100, &CONFIRMED);
    assert_eq!((other.lost, facts(&other)), (false, vec![(raw_range("m", "z"), 1100, 10)]));
}

#[test]
fn a_task_without_a_spool_is_tried_again_at_every_seal() {
    let mut fixture = Fixture::new();
    let task = fixture.encrypted("t", &[("", "")]);
    fixture.keys.remove(&task);
    fixture.start_task(&task);
    fixture.lead(&region(1, 1, "a", "m"), 5);
    fixture.apply(1, 5, 5, vec![write("k", 20, 21)]);
    assert_eq!((fixture.poisoned, fixture.scans.len()), (1, 0));
    assert!(fixture.seal("t", 1, 1000, &CONFIRMED).lost);
    assert_eq!((fixture.poisoned, fixture.scans.len()), (2, 0));
    fixture.encrypted("t", &[("", "")]);
    assert!(fixture.seal("t", 2, 1000, &CONFIRMED).lost, "that generation had no spool");
    fixture.scan(100, 10, &[], vec![scan_entry(write("k", 20, 21))]);
    let part = fixture.seal("t", 3, 1000, &CONFIRMED);
    assert_eq!((facts(&part).len(), written(&part).len(), part.lost), (1, 1, false));
}
