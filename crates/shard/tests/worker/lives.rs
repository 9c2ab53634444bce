//! Lives of a region: it comes back, its leadership goes and comes, its leader has a long way to go, its scans fail for
//! long, news about it are old.

use logtide_model::message::{ScanEvent, ShardMessage};
use logtide_model::{HostError, RegionChange, Ts};

use crate::fixture::*;

/// Task "t" over everything, region 1 over ["a", "z") led in term 5, seen since index 10.
fn observing() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    fixture.scan(100, 10, &[], vec![]);
    fixture
}

fn unlead(fixture: &mut Fixture, term: u64) {
    fixture.send(ShardMessage::Unlead { region_id: 1, term });
}

#[test]
fn a_region_that_comes_back_knows_nothing_of_its_former_life() {
    let mut fixture = observing();
    fixture.apply(1, 11, 500, vec![lock("b", 300), write("c", 20, 21)]);
    fixture.send(ShardMessage::RegionChanged(RegionChange::Destroy { region: region(1, 1, "a", "z") }));
    fixture.apply(1, 501, 501, vec![write("d", 20, 22)]);
    assert_eq!((fixture.shard.stats().unobserved, fixture.shard.stats().lock_bytes), (1, 0));
    // The peer was made anew from a snapshot; even its indexes might be smaller.
    fixture.lead(&region(1, 1, "a", "z"), 6);
    fixture.apply(1, 41, 41, vec![write("e", 30, 31)]);
    assert_eq!(facts(&fixture.seal("t", 1, 1000, &[confirmed(1, 6, 1, 41)])), []);
    fixture.scan(200, 40, &[("x", 700)], vec![]);
    let part = fixture.seal("t", 2, 1000, &[confirmed(1, 6, 1, 41)]);
    assert_eq!(facts(&part), [(raw_range("a", "z"), 700, 41)], "the lock of the former life is gone");
}

#[test]
fn leadership_that_goes_and_comes_back_between_two_flushes_is_caught_up() {
    let mut fixture = observing();
    fixture.apply(1, 11, 11, vec![write("b", 20, 21)]);
    unlead(&mut fixture, 6);
    fixture.lead(&region(1, 1, "a", "z"), 7);
    let asked = fixture.scans[0].id.clone();
    // What the other leader wrote (12 to 14) was not told here. News of the terms in between come late.
    unlead(&mut fixture, 6);
    fixture.lead(&region(1, 1, "a", "z"), 5);
    fixture.apply(1, 15, 15, vec![write("c", 40, 41)]);
    for (generation, term) in [(1, 5), (2, 7)] {
        assert_eq!(facts(&fixture.seal("t", generation, 1000, &[confirmed(1, term, 1, 15)])), []);
    }
    assert_eq!((fixture.scans.len(), &fixture.scans[0].id), (1, &asked));
    fixture.scan(100, 14, &[], vec![scan_entry(write("b", 20, 21)), scan_entry(write("d", 30, 31))]);
    assert_eq!(facts(&fixture.seal("t", 3, 1000, &[confirmed(1, 6, 1, 15)])), [], "another one's term");
    let part = fixture.seal("t", 4, 1000, &[confirmed(1, 7, 1, 15)]);
    assert_eq!(facts(&part), [(raw_range("a", "z"), 1000, 15)]);
}

#[test]
fn what_was_seen_before_leadership_ended_is_sealed_and_states_nothing() {
    let mut fixture = observing();
    fixture.apply(1, 11, 11, vec![value("b", 20), lock("b", 20)]);
    fixture.apply(1, 12, 12, vec![write("b", 20, 21), unlock("b")]);
    unlead(&mut fixture, 6);
    // Even if a quorum still confirmed it.
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 12)]);
    let kept: Vec<_> = records(&part).into_iter().map(|(region, _, _, key, _)| (region, key)).collect();
    assert_eq!(kept, [(1, versioned("b", 20).to_vec()), (1, versioned("b", 21).to_vec())]);
    assert_eq!((facts(&part), part.regions.len(), part.lost), (vec![], 0, false));
    assert_eq!(facts(&fixture.seal("t", 2, 2000, &[confirmed(1, 5, 1, 12)])), []);
}

#[test]
fn a_follower_that_comes_to_lead_with_a_long_backlog_states_nothing_before_all_of_it_is_here() {
    const BACKLOG: u64 = 20_000;
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 9);
    let id = fixture.scans.pop().unwrap().id;
    let commit = |index: u64| 100 + 2 * index;
    let write_at = |index: u64| write(&format!("k{index:08}"), commit(index) - 1, commit(index));
    fixture.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(100), applied_index: BACKLOG });
    fixture.scan_step(&id, ScanEvent::LocksDone);
    let (mut told, mut found) = (BACKLOG, 0);
    for (generation, first) in (1..=BACKLOG).step_by(500).enumerate() {
        let ops = (first..first + 500).map(write_at).collect();
        let permit = fixture.in_flight.force_acquire(1);
        fixture.scan_step(&id, ScanEvent::Replayed { index: first + 499, ops, permit });
        told += 1;
        fixture.apply(1, told, told, vec![write_at(told)]);
        let part = fixture.seal("t", generation as u64 + 1, 1_000_000, &[confirmed(1, 9, 1, told)]);
        assert_eq!(facts(&part), [(raw_range("a", "z"), 100, 0)], "half of it says nothing about the rest");
        found += written(&part).len() as u64;
    }
    fixture.scan_step(&id, ScanEvent::Finished);
    let part = fixture.seal("t", 99, 1_000_000, &[confirmed(1, 9, 1, told)]);
    assert_eq!(facts(&part), [(raw_range("a", "z"), 1_000_000, told)]);
    assert_eq!(found, told);
}

#[test]
fn scans_are_tried_again_for_as_long_as_they_fail() {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    for failures in 0..1000 {
        let request = fixture.scans.pop().expect("an attempt after each failure");
        assert_eq!(request.failures, failures);
        let error = HostError::Unavailable("can not read index due to merge".to_owned());
        fixture.scan_step(&request.id, ScanEvent::Failed(error));
    }
    fixture.scan(100, 10, &[], vec![]);
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 10)]);
    assert_eq!(facts(&part), [(raw_range("a", "z"), 1000, 10)]);
}

#[test]
fn news_of_older_versions_change_nothing() {
    let (old, new) = (region(1, 1, "a", "z"), region(1, 2, "a", "m"));
    let split = |parent| RegionChange::Split { parent, children: vec![region(2, 2, "m", "z")], leader: true, term: 5 };
    let mut fixture = observing();
    fixture.send(ShardMessage::RegionChanged(split(new)));
    // A listing from before the split, told by an audit; and a change that is told twice, the older one last.
    fixture.lead(&old, 5);
    fixture.send(ShardMessage::RegionChanged(RegionChange::EpochChange { region: old.clone() }));
    fixture.send(ShardMessage::RegionChanged(RegionChange::Merge { target: old, source: region(3, 1, "z", "zz") }));
    assert_eq!((fixture.scans.len(), fixture.shard.stats().stale), (0, 3));
    fixture.apply(1, 11, 11, vec![lock("y", 300)]);
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 2, 11)]);
    assert_eq!(facts(&part), [(raw_range("a", "m"), 1000, 11)]);
}

#[test]
fn entries_and_snapshots_that_come_late_are_known_by_their_index() {
    let mut fixture = observing();
    fixture.apply(1, 11, 14, vec![lock("b", 300)]);
    fixture.apply(1, 15, 15, vec![unlock("b")]);
    fixture.apply(1, 11, 14, vec![lock("b", 300)]);
    assert_eq!((fixture.shard.stats().repeated, fixture.scans.len()), (1, 0));
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 15)]);
    assert_eq!(facts(&part), [(raw_range("a", "z"), 1000, 15)]);
    // Entries 16 and 17 are lost: a snapshot from before them is of no use, whenever it comes.
    fixture.apply(1, 18, 18, vec![]);
    let id = fixture.scans.pop().unwrap().id;
    fixture.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(100), applied_index: 16 });
    assert_eq!(fixture.scans.len(), 1, "it begins anew");
    fixture.scan(100, 18, &[], vec![]);
    let part = fixture.seal("t", 2, 2000, &[confirmed(1, 5, 1, 18)]);
    assert_eq!(facts(&part), [(raw_range("a", "z"), 2000, 18)]);
}
