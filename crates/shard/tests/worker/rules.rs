//! Each rule on its own.

use logtide_format::EntryKind;
use logtide_model::message::{ScanEvent, ScanReason, ShardMessage};
use logtide_model::{Cf, HostError, Incarnation, Op, RegionChange, RegionEpoch, Ts};

use crate::fixture::*;

/// Task "t" over everything, region 1 over ["a", "z"), seen since index 10.
fn observing() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    fixture.scan(100, 10, &[], vec![]);
    fixture
}

#[test]
fn leading_asks_each_task_that_overlaps_for_a_scan_of_its_own() {
    let mut fixture = Fixture::new();
    for (name, ranges) in [("all", [("", "")]), ("low", [("a", "b")]), ("high", [("x", "")])] {
        fixture.start_task(&task(name, &ranges));
    }
    fixture.lead(&region(1, 1, "a", "m"), 5);
    let asked: Vec<_> = fixture.scans.iter().map(|scan| (scan.id.task.as_str(), scan.term, scan.failures)).collect();
    assert_eq!(asked, [("all", 5, 0), ("low", 5, 0)]);
    assert_ne!(fixture.scans[0].id.attempt, fixture.scans[1].id.attempt);
    // A task that comes later scans for itself and leaves the others alone.
    fixture.start_task(&task("late", &[("b", "c")]));
    assert_eq!(fixture.scans.last().unwrap().id.task.as_str(), "late");
    assert_eq!((fixture.scans.len(), fixture.cancelled.len()), (3, 0));
}

#[test]
fn news_of_older_terms_are_stale() {
    let mut fixture = observing();
    fixture.lead(&region(1, 1, "a", "z"), 4);
    fixture.send(ShardMessage::Unlead { region_id: 1, term: 4 });
    assert_eq!(facts(&fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 10)])).len(), 1);
    fixture.lead(&region(1, 1, "a", "z"), 5);
    assert!(fixture.scans.is_empty(), "looked at again in the same term");
    fixture.lead(&region(1, 1, "a", "z"), 6);
    assert_eq!(fixture.scans.len(), 1, "another term is caught up");
    fixture.send(ShardMessage::Unlead { region_id: 1, term: 7 });
    assert_eq!((fixture.scans.len(), fixture.cancelled.len()), (0, 1));
    assert_eq!(fixture.shard.stats().regions, 0);
}

#[test]
fn records_are_appended_in_every_state_and_only_of_the_tasks_ranges() {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("b", "d"), ("f", "g")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    let ops = vec![write("a", 20, 21), write("b", 20, 21), value("c", 20), write("d", 20, 21), write("f", 20, 21)];
    fixture.apply(1, 5, 5, ops);
    fixture.scan(100, 10, &[], vec![scan_entry(write("c", 15, 16))]);
    fixture.apply(1, 11, 11, vec![Op::Delete { cf: Cf::Write, key: versioned("b", 12) }, unlock("b"), Op::Admin]);
    let part = fixture.seal("t", 1, 1000, &[]);
    let mut expected = vec![
        (1, Cf::Default, EntryKind::Put, versioned("c", 20).to_vec(), b"c@20".to_vec()),
        (1, Cf::Write, EntryKind::Delete, versioned("b", 12).to_vec(), vec![]),
        (1, Cf::Write, EntryKind::Put, versioned("b", 21).to_vec(), write_record(20).to_vec()),
        (1, Cf::Write, EntryKind::Put, versioned("f", 21).to_vec(), write_record(20).to_vec()),
        (1, Cf::Write, EntryKind::Put, versioned("c", 16).to_vec(), write_record(15).to_vec()),
    ];
    let mut got = records(&part);
    expected.sort();
    got.sort();
    assert_eq!(got, expected);
    assert_eq!(records(&fixture.seal("t", 2, 1000, &[])), [], "sealed once");
}

#[test]
fn a_fact_for_each_range_that_task_and_region_share() {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("f", "g"), ("b", "d"), ("y", "")]));
    fixture.lead(&region(1, 4, "c", "z"), 5);
    fixture.scan(100, 10, &[("l", 700), ("f", 600)], vec![]);
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 4, 10)]);
    let ranges = [raw_range("c", "d"), raw_range("f", "g"), raw_range("y", "z")];
    assert_eq!(facts(&part), ranges.map(|range| (range, 600, 10)));
    assert!(part.facts.iter().all(|f| (f.region_id, f.version, f.term) == (1, 4, 5)));
    assert_eq!((part.shard, part.task.as_str(), part.generation, part.lost), (3, "t", 1, false));
    assert_eq!(part.regions[&1].resolved_ts, Ts::new(600));
    assert_eq!(part.regions[&1].note.range, raw_range("c", "z"));
    assert_eq!(part.regions[&1].note.epochs, [RegionEpoch { conf_ver: 1, version: 4 }]);
}

#[test]
fn locks_of_keys_that_the_task_does_not_want_do_not_hold_it() {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("b", "d")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    fixture.scan(100, 10, &[], vec![]);
    fixture.apply(1, 11, 11, vec![lock("x", 300), lock("c", 700)]);
    assert_eq!(facts(&fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 11)])), [(raw_range("b", "d"), 700, 11)]);
}

#[test]
fn each_condition_of_a_checkpoint_leaves_the_region_out() {
    let good = confirmed(1, 5, 1, 10);
    let cases = [
        ("not confirmed", None),
        ("another term", Some(logtide_model::Confirmed { term: 6, ..good })),
        ("another version", Some(logtide_model::Confirmed { version: 2, ..good })),
        ("an entry that has not come", Some(logtide_model::Confirmed { applied_index: 11, ..good })),
    ];
    for (why, confirmed) in cases {
        let mut fixture = observing();
        let part = fixture.seal("t", 1, 1000, confirmed.as_slice());
        assert!(part.facts.is_empty() && part.regions.is_empty(), "{why}");
        assert_eq!(facts(&fixture.seal("t", 2, 1000, &[good])).len(), 1, "{why}");
    }
}

#[test]
fn a_region_under_scan_states_its_start_without_an_index() {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    let confirmed = [confirmed(1, 5, 1, 10)];
    assert_eq!(facts(&fixture.seal("t", 1, 1000, &confirmed)), [], "no snapshot yet");
    let id = fixture.scans[0].id.clone();
    fixture.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(100), applied_index: 10 });
    fixture.scan_step(&id, ScanEvent::LocksDone);
    assert_eq!(facts(&fixture.seal("t", 2, 1000, &confirmed)), [(raw_range("a", "z"), 100, 0)]);
    let permit = fixture.in_flight.force_acquire(1);
    fixture.scan_step(&id, ScanEvent::Data { entries: vec![scan_entry(write("k", 150, 160))], permit });
    assert_eq!(facts(&fixture.seal("t", 3, 1000, &confirmed)), [(raw_range("a", "z"), 100, 0)]);
    fixture.scan_step(&id, ScanEvent::Finished);
    assert_eq!(facts(&fixture.seal("t", 4, 1000, &confirmed)), [(raw_range("a", "z"), 1000, 10)]);
}

#[test]
fn what_a_log_tells_is_appended_as_if_it_had_just_been_applied() {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("b", "y")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    let id = fixture.scans[0].id.clone();
    fixture.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(100), applied_index: 10 });
    fixture.scan_step(&id, ScanEvent::LocksDone);
    let gone = Op::DeleteRange { cf: Cf::Write, start: versioned("c", 9), end: versioned("d", 9) };
    let ops =
        vec![write("a", 150, 160), value("k", 150), Op::Delete { cf: Cf::Default, key: versioned("k", 150) }, gone];
    let permit = fixture.in_flight.force_acquire(1);
    fixture.scan_step(&id, ScanEvent::Replayed { index: 9, ops: ops.clone(), permit });
    assert_eq!(fixture.unsupported, ["delete-range"]);
    let other = logtide_model::message::ScanId { attempt: id.attempt + 1, ..id.clone() };
    let permit = fixture.in_flight.force_acquire(1);
    fixture.scan_step(&other, ScanEvent::Replayed { index: 9, ops, permit });
    assert_eq!(fixture.shard.stats().stale, 1);
    fixture.scan_step(&id, ScanEvent::Finished);
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 10)]);
    let mut kinds: Vec<_> = records(&part).into_iter().map(|(_, cf, kind, key, _)| (cf, kind, key)).collect();
    kinds.sort();
    let key = versioned("k", 150).to_vec();
    assert_eq!(kinds, [(Cf::Default, EntryKind::Delete, key.clone()), (Cf::Default, EntryKind::Put, key)]);
    assert_eq!(facts(&part), [(raw_range("b", "y"), 1000, 10)]);
    let marks: Vec<_> = part.marks.iter().map(|mark| (mark.after.get(), mark.before.get())).collect();
    assert_eq!(marks, [(100, 1000)], "after the ts that the log was replayed from");
}

#[test]
fn a_jump_of_the_index_asks_for_a_scan_and_states_nothing() {
    let mut fixture = observing();
    fixture.apply(1, 11, 11, vec![]);
    fixture.apply(1, 13, 13, vec![write("k", 20, 21)]);
    assert_eq!(fixture.scans.len(), 1);
    assert_eq!((fixture.scans[0].failures, fixture.shard.stats().gaps), (1, 1));
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 13)]);
    assert_eq!(facts(&part), []);
    assert_eq!(written(&part), [versioned("k", 21)], "what came is still appended");
}

#[test]
fn a_dropped_last_batch_shows_at_the_marker() {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("", "")]));
    let gap = fixture.lead(&region(1, 1, "a", "z"), 5);
    fixture.scan(100, 10, &[], vec![]);
    gap.raise();
    // Even with a host that does not count the dropped entry.
    assert_eq!(facts(&fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 10)])), []);
    assert_eq!(fixture.scans.len(), 1);
}

#[test]
fn batches_that_come_again_are_not_appended_again() {
    let mut fixture = observing();
    fixture.apply(1, 11, 12, vec![write("k", 20, 21)]);
    fixture.apply(1, 11, 12, vec![write("k", 20, 21)]);
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 12)]);
    assert_eq!(written(&part), [versioned("k", 21)]);
    assert_eq!(facts(&part).len(), 1);
    assert_eq!(fixture.shard.stats().repeated, 1);
}

#[test]
fn a_split_keeps_the_parent_and_the_child_comes_by_its_own_lead() {
    let mut fixture = observing();
    fixture.apply(1, 11, 11, vec![lock("c", 700), lock("x", 600), write("y", 20, 21)]);
    let (parent, child) = (region(1, 2, "a", "m"), region(2, 2, "m", "z"));
    let change = RegionChange::Split { parent: parent.clone(), children: vec![child.clone()], leader: true, term: 5 };
    fixture.send(ShardMessage::RegionChanged(change));
    assert!(fixture.scans.is_empty());
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 2, 11)]);
    assert_eq!(facts(&part), [(raw_range("a", "m"), 700, 11)]);
    // The files of this generation have keys of the whole old range.
    assert_eq!(part.regions[&1].note.range, raw_range("a", "z"));
    let epochs = [RegionEpoch { conf_ver: 1, version: 1 }, RegionEpoch { conf_ver: 1, version: 2 }];
    assert_eq!(part.regions[&1].note.epochs, epochs);
    fixture.lead(&child, 6);
    assert_eq!(fixture.scans[0].region, child);
    let part = fixture.seal("t", 2, 1000, &[confirmed(1, 5, 2, 11), confirmed(2, 6, 2, 5)]);
    assert_eq!(part.regions[&1].note.range, raw_range("a", "m"));
    assert_eq!(part.facts.len(), 1, "the child is pending");
}

#[test]
fn membership_keeps_the_subscription_and_other_changes_of_the_range_do_not() {
    let mut moved = region(1, 1, "a", "z");
    moved.epoch.conf_ver = 7;
    let mut fixture = observing();
    fixture.send(ShardMessage::RegionChanged(RegionChange::EpochChange { region: moved }));
    assert_eq!(facts(&fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 10)])).len(), 1);
    let skipped = RegionChange::Split { parent: region(1, 4, "a", "m"), children: vec![], leader: true, term: 5 };
    let merged = RegionChange::Merge { target: region(1, 2, "a", "zz"), source: region(2, 1, "z", "zz") };
    let unknown = RegionChange::EpochChange { region: region(1, 2, "a", "m") };
    for change in [skipped, merged, unknown] {
        let mut fixture = observing();
        fixture.send(ShardMessage::RegionChanged(change.clone()));
        assert_eq!(fixture.scans.len(), 1, "{change:?}");
        assert_eq!(fixture.scans[0].region.epoch.version, fixture.scans[0].region.epoch.version.max(2));
        let old = [confirmed(1, 5, 1, 10), confirmed(1, 5, 2, 10)];
        assert!(old.iter().zip(1..).all(|(c, n)| fixture.seal("t", n, 1000, &[*c]).facts.is_empty()), "{change:?}");
    }
}

#[test]
fn a_merged_or_destroyed_region_is_gone() {
    let changes = [
        RegionChange::Destroy { region: region(1, 1, "a", "z") },
        RegionChange::Merge { target: region(9, 2, "a", ""), source: region(1, 1, "a", "z") },
    ];
    for change in changes {
        let mut fixture = Fixture::new();
        fixture.start_task(&task("t", &[("", "")]));
        fixture.lead(&region(1, 1, "a", "z"), 5);
        fixture.apply(1, 5, 5, vec![write("k", 20, 21)]);
        fixture.send(ShardMessage::RegionChanged(change));
        assert_eq!((fixture.scans.len(), fixture.cancelled.len()), (0, 1));
        let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 10)]);
        assert_eq!((written(&part), facts(&part)), (vec![versioned("k", 21)], vec![]));
        assert_eq!(fixture.shard.stats().lock_bytes, 0);
    }
}

#[test]
fn a_region_that_grows_beyond_a_tasks_range_gives_it_no_more_than_it_wants() {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("a", "m")]));
    fixture.lead(&region(1, 1, "a", "m"), 5);
    let change = RegionChange::Merge { target: region(1, 2, "a", "z"), source: region(2, 1, "m", "z") };
    fixture.send(ShardMessage::RegionChanged(change));
    fixture.apply(1, 11, 11, vec![write("b", 20, 21), write("x", 20, 21), lock("y", 300)]);
    fixture.scan(100, 11, &[], vec![]);
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 2, 11)]);
    assert_eq!((written(&part), facts(&part)), (vec![versioned("b", 21)], vec![(raw_range("a", "m"), 1000, 11)]));
}

#[test]
fn a_split_that_leaves_a_task_nothing_ends_its_subscription() {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("p", "q")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    let change = RegionChange::Split { parent: region(1, 2, "a", "m"), children: vec![], leader: true, term: 5 };
    fixture.send(ShardMessage::RegionChanged(change));
    assert_eq!((fixture.scans.len(), fixture.cancelled.len(), fixture.shard.stats().pending), (0, 1, 0));
}

#[test]
fn tasks_have_generations_of_their_own() {
    let mut fixture = observing();
    fixture.start_task(&task("u", &[("a", "m")]));
    fixture.apply(1, 11, 11, vec![write("b", 20, 21), write("x", 20, 21)]);
    let confirmed = [confirmed(1, 5, 1, 11)];
    let t = fixture.seal("t", 1, 1000, &confirmed);
    assert_eq!((written(&t).len(), facts(&t).len()), (2, 1));
    let u = fixture.seal("u", 1, 900, &confirmed);
    assert_eq!((written(&u), facts(&u)), (vec![versioned("b", 21)], vec![]), "still to be scanned");
    fixture.scan(50, 11, &[], vec![]);
    assert_eq!(facts(&fixture.seal("u", 2, 950, &confirmed)), [(raw_range("a", "m"), 950, 11)]);
}

#[test]
fn steps_of_another_attempt_or_task_are_ignored() {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    let stale = fixture.scans[0].id.clone();
    fixture.scan_step(&stale, ScanEvent::Failed(HostError::NotLeader(1)));
    assert_eq!(fixture.scans.last().unwrap().failures, 1);
    fixture.scan_step(&stale, ScanEvent::Started { start_ts: Ts::new(1), applied_index: 1 });
    fixture.scan_step(&stale, ScanEvent::LocksDone);
    let permit = fixture.in_flight.force_acquire(1);
    fixture.scan_step(&stale, ScanEvent::Data { entries: vec![scan_entry(write("k", 20, 21))], permit });
    fixture.scan_step(&stale, ScanEvent::Finished);
    assert_eq!(fixture.shard.stats().stale, 4);
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 1)]);
    assert_eq!((written(&part), facts(&part)), (vec![], vec![]));
}

#[test]
fn a_task_that_stops_takes_its_spool_and_scans_with_it() {
    let mut fixture = Fixture::new();
    let first = task("t", &[("", "")]);
    fixture.start_task(&first);
    fixture.lead(&region(1, 1, "a", "z"), 5);
    fixture.apply(1, 5, 5, vec![write("k", 20, 21)]);
    fixture.start_task(&first);
    assert_eq!(fixture.scans.len(), 1, "the same life of the task: nothing new");
    let mut second = (*first).clone();
    second.incarnation = Incarnation(2);
    fixture.start_task(&second.into());
    assert_eq!((fixture.scans.len(), fixture.cancelled.len()), (1, 1));
    assert_eq!(written(&fixture.seal("t", 1, 1000, &[])), [] as [bytes::Bytes; 0]);
    fixture.send(ShardMessage::StopTask(first.name.clone()));
    assert_eq!((fixture.scans.len(), fixture.shard.stats().pending), (0, 0));
    let part = fixture.seal("t", 2, 1000, &[]);
    assert!(part.spool.files.is_empty() && !part.lost, "every marker is answered");
}

/// TiKV's metric of initial scans tells these apart.
#[test]
fn a_scan_tells_why_it_is_wanted() {
    let mut at = Fixture::new();
    at.start_task(&task("t", &[("", "")]));
    let first = region(1, 1, "a", "k");
    at.lead(&first, 5);
    assert_eq!(at.scans.pop().unwrap().reason, ScanReason::LeaderChanged);
    at.lead(&first, 6);
    let request = at.scans.pop().unwrap();
    assert_eq!(request.reason, ScanReason::LeaderChanged, "another term");
    at.scan_step(&request.id, ScanEvent::Failed(HostError::Unavailable("not now".to_owned())));
    assert_eq!(at.scans.pop().unwrap().reason, ScanReason::Retry);
    at.send(ShardMessage::RegionChanged(RegionChange::EpochChange { region: region(1, 2, "a", "z") }));
    assert_eq!(at.scans.pop().unwrap().reason, ScanReason::RegionChanged);
}
